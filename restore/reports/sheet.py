"""Contact sheets: pictures side by side with a title and a caption, in the light colours of the pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

__all__ = ["CELL_PX", "Cell", "picture_sheet"]

CELL_PX = 288
_MARGIN_PX, _TEXT_PX = 18, 60
_MOST_LINES = 2
PAPER, INK, SOFT = (247, 246, 243), (26, 28, 32), (102, 107, 117)  # as in style.css


@dataclass(frozen=True)
class Cell:
    """A picture of a sheet.

    Attributes:
        title: below it.
        caption: below the title; what does not fit is cut off between two of its parts, which " · " separates.
        pixels: (H, W) or (H, W, 3) of uint8.
    """

    title: str
    caption: str
    pixels: np.ndarray


def picture_sheet(cells: Sequence[Cell], columns: int) -> np.ndarray:
    """(H, W, 3) uint8: the cells in rows, each enlarged to a square of `CELL_PX` without smoothing."""
    rows = -(-len(cells) // columns)
    step_x, step_y = CELL_PX + _MARGIN_PX, CELL_PX + _TEXT_PX + _MARGIN_PX
    sheet = PillowImage.new("RGB", (_MARGIN_PX + columns * step_x, _MARGIN_PX + rows * step_y), PAPER)
    draw = ImageDraw.Draw(sheet)
    title_font, text_font = ImageFont.load_default(15), ImageFont.load_default(11)
    for index, cell in enumerate(cells):
        left = _MARGIN_PX + index % columns * step_x
        top = _MARGIN_PX + index // columns * step_y
        colour = cell.pixels if cell.pixels.ndim == 3 else np.repeat(cell.pixels[..., None], 3, axis=2)
        enlarged = cv2.resize(colour, (CELL_PX, CELL_PX), interpolation=cv2.INTER_NEAREST)
        sheet.paste(PillowImage.fromarray(enlarged), (left, top))
        draw.text((left, top + CELL_PX + 5), cell.title, INK, title_font)
        for line, text in enumerate(_wrapped(cell.caption, draw, text_font)):
            draw.text((left, top + CELL_PX + 26 + 14 * line), text, SOFT, text_font)
    return np.asarray(sheet)


def _wrapped(text: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    lines = [""]
    for part in text.split(" · "):
        longer = f"{lines[-1]} · {part}" if lines[-1] else part
        if draw.textlength(longer, font) <= CELL_PX or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(part)
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES - 1] += " ..."
    return lines[:_MOST_LINES]

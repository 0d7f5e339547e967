"""One photograph under every recipe, side by side, with what was drawn for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from restore.degradations.recipe.draw import sample_seed
from restore.degradations.recipe.pipeline import Pipeline
from restore.errors import ImageError, MissingError
from restore.images import to_pixels

__all__ = ["contact_sheet"]

_CELL_PX, _MARGIN_PX, _TEXT_PX = 288, 18, 60
_TELLING = {
    "sigma": "",
    "quality": "",
    "factor": "x",
    "of_gt": "to x",
    "cutoff": "",
    "radius_px": "r ",
    "density": "",
    "shot": "",
    "size": "",
    "scale": "x",
}
_PAPER, _INK, _GREY = (250, 250, 248), (28, 28, 30), (120, 120, 124)


def contact_sheet(
    gt_BCHW: torch.Tensor, pipelines: Sequence[Pipeline], *, seed: int = 0, columns: int = 4
) -> np.ndarray:
    """(H, W, 3) uint8: the middle of a photograph as it is and under each pipeline, enlarged to one size.

    Args:
        gt_BCHW: one RGB photograph in [0, 1].
        pipelines: what to show.
        seed: of the draws.
        columns: cells in a row.

    Raises:
        ImageError: the photograph is too small.
    """
    side = min(_CELL_PX, *gt_BCHW.shape[-2:]) // 12 * 12  # divisible by every usual scale
    if side < 48:
        height, width = gt_BCHW.shape[-2:]
        raise ImageError(f"a contact sheet needs a photograph of at least 48 px; this one has {height} x {width}.")
    top, left = ((length - side) // 2 for length in gt_BCHW.shape[-2:])
    patch_BCHW = gt_BCHW[..., top : top + side, left : left + side].contiguous()
    cells = [("original", f"{side} x {side} px", to_pixels(patch_BCHW))]
    for pipeline in pipelines:
        try:
            pairs = pipeline(patch_BCHW, [sample_seed(seed, pipeline.name)])
        except (ImageError, MissingError) as error:
            raise type(error)(f"contact sheet: {error}") from error
        caption = _caption(pairs["parameters"][0]["steps"])
        title = f"{pipeline.name}  x{pipeline.scale}" if pipeline.scale > 1 else pipeline.name
        cells.append((title, caption, to_pixels(pairs["lq"].clamp(0, 1))))
    return _arranged(cells, columns)


def _arranged(cells: Sequence[tuple[str, str, np.ndarray]], columns: int) -> np.ndarray:
    rows = -(-len(cells) // columns)
    step_x, step_y = _CELL_PX + _MARGIN_PX, _CELL_PX + _TEXT_PX + _MARGIN_PX
    sheet = PillowImage.new("RGB", (_MARGIN_PX + columns * step_x, _MARGIN_PX + rows * step_y), _PAPER)
    draw = ImageDraw.Draw(sheet)
    title_font, text_font = ImageFont.load_default(15), ImageFont.load_default(11)
    for index, (title, caption, pixels) in enumerate(cells):
        left = _MARGIN_PX + index % columns * step_x
        top = _MARGIN_PX + index // columns * step_y
        colour = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
        enlarged = cv2.resize(colour, (_CELL_PX, _CELL_PX), interpolation=cv2.INTER_NEAREST)
        sheet.paste(PillowImage.fromarray(enlarged), (left, top))
        draw.text((left, top + _CELL_PX + 5), title, _INK, title_font)
        for line, text in enumerate(_wrapped(caption, draw, text_font)[:2]):
            draw.text((left, top + _CELL_PX + 26 + 14 * line), text, _GREY, text_font)
    return np.asarray(sheet)


def _wrapped(text: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont) -> list[str]:
    lines = [""]
    for part in text.split(" · "):
        longer = f"{lines[-1]} · {part}" if lines[-1] else part
        if draw.textlength(longer, font) <= _CELL_PX or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(part)
    if len(lines) > 2:
        lines[1] += " ..."
    return lines


def _caption(steps: Sequence[Mapping[str, Any]]) -> str:
    """The operators in order, each with its most telling number."""
    return " · ".join(_phrase(step) for step in steps) or "nothing"


def _phrase(step: Mapping[str, Any]) -> str:
    words = [step["type"].replace("_blur", "").replace("_noise", " noise").replace("_", " ")]
    for key, short in _TELLING.items():
        if isinstance(step.get(key), (int, float)):
            words.append(f"{short}{step[key]:.2g}")
            break
    return " ".join(words)

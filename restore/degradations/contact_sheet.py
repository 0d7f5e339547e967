"""One photograph under every recipe, side by side, with what was drawn for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from restore.degradations.recipe.draw import sample_seed
from restore.degradations.recipe.pipeline import Pipeline
from restore.errors import ImageError, MissingError
from restore.images import to_pixels
from restore.reports.sheet import CELL_PX, Cell, picture_sheet

__all__ = ["contact_sheet"]

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
    side = min(CELL_PX, *gt_BCHW.shape[-2:]) // 12 * 12  # divisible by every usual scale
    if side < 48:
        height, width = gt_BCHW.shape[-2:]
        raise ImageError(f"a contact sheet needs a photograph of at least 48 px; this one has {height} x {width}.")
    top, left = ((length - side) // 2 for length in gt_BCHW.shape[-2:])
    patch_BCHW = gt_BCHW[..., top : top + side, left : left + side].contiguous()
    cells = [Cell("original", f"{side} x {side} px", to_pixels(patch_BCHW))]
    for pipeline in pipelines:
        try:
            pairs = pipeline(patch_BCHW, [sample_seed(seed, pipeline.name)])
        except (ImageError, MissingError) as error:
            raise type(error)(f"contact sheet: {error}") from error
        caption = _caption(pairs["parameters"][0]["steps"])
        title = f"{pipeline.name}  x{pipeline.scale}" if pipeline.scale > 1 else pipeline.name
        cells.append(Cell(title, caption, to_pixels(pairs["lq"].clamp(0, 1))))
    return picture_sheet(cells, columns)


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

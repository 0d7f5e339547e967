"""Pictures of where an image is bad: its grey version, the redder the worse.

Without a model, by the reference: patches whose gradients agree less with it. With a model, by what it says of patches
(`restore.quality`, TRIQ with `patches: true`, which `PatchOpinionLoss` teaches).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from restore.data.pairs import Pair
from restore.errors import ImageError, OptionsError, Problem
from restore.evaluation.scoring.measuring import read_pixels
from restore.files import inside
from restore.images import rgb_to_grey, to_pixels, to_tensor, write_image
from restore.losses.opinion import local_agreement
from restore.quality import QualityModel, load_quality

__all__ = ["Maps", "where_bad"]

PATCH_PX = 16
_RED = (0.85, 0.1, 0.1)
_STRENGTH = 0.8  # of the red where an image is worst: what is there can still be seen


class Maps:
    """Writes `FOLDER/NAME.png` for each image.

    Args:
        folder: where to.
        model: name or file of a quality model whose patches are judged; None: the reference says it.
        has_reference: whether there are references.
        device: where maps are computed.

    Raises:
        OptionsError: neither model nor references, or a model that says nothing of patches.
        MissingError: no such model.
        CheckpointError: its file cannot be read.
    """

    def __init__(self, folder: Path, model: str | None, *, has_reference: bool, device: str = "cpu"):
        self.folder, self.device = folder, device
        self.model = load_quality(model, device=device) if model else None
        message = None
        if self.model is None and not has_reference:
            message = "says where images are bad by their references (-g), or by a model: --map FILE."
        elif self.model is not None and not self.model.patches:
            message = f"'{model}' says nothing of parts of an image: a TRIQ with patches: true does (docs/recipes.md)."
        elif self.model is not None and self.model.needs_reference and not has_reference:
            message = f"'{model}' judges against references: give them with -g."
        if message:
            raise OptionsError([Problem("--map", message)])

    def write(self, pairs: Iterable[tuple[Pair, dict[str, str]]]) -> None:
        """Write the picture of each image; what keeps one from being made goes into its errors, under `map`."""
        for pair, errors in pairs:
            try:
                write_image(inside(self.folder, _name(pair)), self._picture(pair))
            except ImageError as error:
                errors["map"] = str(error)

    def _picture(self, pair: Pair) -> np.ndarray:
        x_BCHW = to_tensor(read_pixels(pair.lq)[0]).to(self.device)
        y_BCHW = to_tensor(read_pixels(pair.gt)[0]).to(self.device) if pair.gt else None
        x_BCHW = x_BCHW.float().expand(-1, 3, -1, -1)
        if y_BCHW is not None:
            y_BCHW = y_BCHW.float().expand(-1, 3, -1, -1)
            if y_BCHW.shape != x_BCHW.shape:
                raise ImageError(
                    f"the image is {tuple(x_BCHW.shape[2:])} px and its reference {tuple(y_BCHW.shape[2:])}."
                )
        bad_1HW = where_bad(x_BCHW, y_BCHW, self.model)
        red = torch.tensor(_RED, device=x_BCHW.device).view(3, 1, 1)
        return to_pixels(rgb_to_grey(x_BCHW).expand(-1, 3, -1, -1).lerp(red.expand_as(x_BCHW), _STRENGTH * bad_1HW))


@torch.no_grad()
def where_bad(
    x_BCHW: torch.Tensor, reference_BCHW: torch.Tensor | None = None, model: QualityModel | None = None
) -> torch.Tensor:
    """How bad each place of RGB images is, (B, 1, H, W), from 0 to 1; interpolated between the centres of patches.

    Args:
        x_BCHW: the images, in [0, 1].
        reference_BCHW: what they should be; needed without a model.
        model: says it of patches.

    Raises:
        ImageError: the images are too small for the model.
    """
    height, width = x_BCHW.shape[2:]
    if model is not None:
        worst, best = model.score_range
        good = (model.judge_patches(x_BCHW, reference_BCHW) - worst) / (best - worst)
    else:
        assert reference_BCHW is not None
        good = local_agreement(x_BCHW, reference_BCHW, (-(-height // PATCH_PX), -(-width // PATCH_PX)))
    return F.interpolate(1 - good[:, None], (height, width), mode="bilinear", align_corners=False).clamp(0, 1)


def _name(pair: Pair) -> str:
    return pair.name if pair.name.lower().endswith(".png") else f"{pair.name}.png"

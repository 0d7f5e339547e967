"""IQT and TRIQ as metrics: what a trained quality model says of an image.

By default the shipped small models judge. They were trained on distortions of known severity and not on people's
opinions (see their cards): their figures order severities, and are not comparable with published ones.
"""

from __future__ import annotations

from typing import Any

import torch

from restore.metrics.inputs import Bits, Border, Images, Preparation, White, as_pair, as_score
from restore.metrics.registration import metric
from restore.quality import QualityModel, load_quality

__all__ = ["iqt", "triq"]

_NOTE = "the shipped model is trained on synthetic labels, not on opinions"


@metric("iqt", higher_is_better=True, note=_NOTE)
def iqt(
    restored: Images,
    reference: Images,
    *,
    border_px: Border = 0,
    bits: Bits | None = None,
    data_range: White = 1.0,
    weights: str = "iqt_small",
) -> float | torch.Tensor:
    """The score of an image against its reference, about 0 (bad) to 1; grey images count as R = G = B.

    Args:
        restored: what is judged.
        reference: what it should be.
        border_px: pixels cut off at every side.
        bits: quantise the images to this many bits first.
        data_range: what white is in float images.
        weights: a shipped model with a reference, or a file that `restore.quality.loading.save_quality` wrote.

    Raises:
        ImageError: the images differ in size, are smaller than the model's crops, or hold NaN.
        MissingError: there is no such model.
    """
    pair = as_pair(restored, reference, Preparation(border_px, bits=bits, data_range=data_range))
    return _judged(weights, restored, *pair)


@metric("triq", higher_is_better=True, needs_reference=False, note=_NOTE)
def triq(
    restored: Images,
    reference: Any = None,
    *,
    border_px: Border = 0,
    bits: Bits | None = None,
    data_range: White = 1.0,
    weights: str = "triq_small",
    patch_px: int | None = None,
) -> float | torch.Tensor:
    """The score of an image by itself, from 1 (bad) to 5 (excellent); grey images count as R = G = B.

    The arguments are those of `iqt`; a reference is not looked at. `patch_px` chooses the patches of an encoder that
    takes any (flexivit): small ones for quality, large ones for speed.

    Raises:
        ImageError: it is not an image, or holds NaN.
        MissingError: there is no such model.
    """
    x_BCHW = Preparation(border_px, bits=bits, data_range=data_range)(restored, "image")
    return _judged(weights, restored, x_BCHW, patch_px=patch_px)


def _judged(weights: str, images: Images, *tensors: torch.Tensor, patch_px: int | None = None) -> float | torch.Tensor:
    model: QualityModel = load_quality(weights, device=tensors[0].device, patch_px=patch_px)
    return as_score(model.judge(*(x_BCHW.float().expand(-1, 3, -1, -1) for x_BCHW in tensors)), images)

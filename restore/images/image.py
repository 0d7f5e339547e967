"""What an image is in memory, and its way to a tensor and back.

Pixels are arrays of shape (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA; never BGR.
Their depth is uint8 [0, 255], uint16 [0, 65535] or float32 [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from restore.errors import ImageError
from restore.images.carried import Carried
from restore.terminal import one_line

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "DEPTHS",
    "Image",
    "convert_depth",
    "flatten",
    "range_of",
    "require_alpha",
    "require_unit",
    "to_pixels",
    "to_tensor",
    "wrong_values",
]

DEPTHS = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
"""The depths that pixels may have, and the value that stands for white in each."""

ROUNDING = 1e-5  # by which float values may pass 0 and 1


@dataclass
class Image:
    """Decoded pixels with what their file said about them.

    Attributes:
        pixels: (H, W), (H, W, 2), (H, W, 3) or (H, W, 4); uint8, uint16 or float32.
        icc: the ICC profile that the pixels are in; None if the file had none.
        exif: the EXIF block (a TIFF structure without the `Exif` prefix), its orientation already applied and reset.
        path: the file that it came from.
        carried: what else the file said: resolution, XMP, text, colour.
    """

    pixels: np.ndarray
    icc: bytes | None = None
    exif: bytes | None = None
    path: Path | None = None
    carried: Carried = field(default_factory=Carried)

    def __post_init__(self) -> None:
        self.pixels = checked(self.pixels)

    @property
    def channels(self) -> int:
        """1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""
        return 1 if self.pixels.ndim == 2 else self.pixels.shape[2]

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.channels in (2, 4)


def checked(pixels: np.ndarray) -> np.ndarray:
    """`pixels` with a single channel axis dropped.

    Raises:
        ImageError: the array is not an image; the message says which shapes and depths are.
    """
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (2, 3, 4))) or 0 in pixels.shape:
        raise ImageError(f"pixels have shape {pixels.shape}; must be (H, W) or (H, W, 1 to 4), H and W greater than 0")
    if pixels.dtype.name not in DEPTHS:
        raise ImageError(f"pixels are {pixels.dtype.name}; must be one of {', '.join(DEPTHS)}")
    return pixels


def convert_depth(pixels: np.ndarray, dtype: type | str | np.dtype) -> np.ndarray:
    """The same image in another depth: scaled so that white stays white, clamped and rounded (half to even)."""
    pixels = checked(pixels)
    white, target_white = DEPTHS[pixels.dtype.name], _white(dtype)
    if pixels.dtype == np.dtype(dtype):
        return pixels
    scaled = pixels * np.float32(target_white / white)
    return _quantised(scaled, dtype)


def flatten(image: Image, white: float = 1.0) -> Image:
    """The image without its alpha channel, laid on white.

    Args:
        image: of any depth.
        white: of float pixels, the value that stands for it; alpha is in [0, 1] whatever that is.

    Raises:
        ImageError: float alpha beyond [0, 1].
    """
    if not image.has_alpha:
        return image
    colours = image.pixels[..., 0] if image.channels == 2 else image.pixels[..., :3]
    alpha = image.pixels[..., -1]
    if image.pixels.dtype.kind == "f":
        require_alpha(alpha, f"'{image.path}'" if image.path else "the image")
    else:
        white = DEPTHS[image.pixels.dtype.name]
        alpha = alpha.astype(np.float32) / np.float32(white)
    alpha = alpha if image.channels == 2 else alpha[..., None]
    laid = colours * alpha + np.float32(white) * (1 - alpha)
    return replace(image, pixels=laid if image.pixels.dtype.kind == "f" else _quantised(laid, image.pixels.dtype))


def range_of(pixels: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest value."""
    return float(pixels.min()), float(pixels.max())


def wrong_values(pixels: np.ndarray, *, unit: bool = False) -> str:
    """What is wrong with the values of float pixels, as the end of a sentence; empty where nothing is.

    Args:
        pixels: of any depth; integers cannot be wrong.
        unit: whether the values have to be in [0, 1] too, but for rounding.
    """
    if pixels.dtype.kind != "f":
        return ""
    low, high = range_of(pixels)
    if not np.isfinite([low, high]).all():
        wrong = ~np.isfinite(pixels)
        row, column = np.argwhere(wrong)[0, :2]
        return (
            f"holds {np.count_nonzero(wrong)} values that are not finite (NaN or infinite), the first in row {row}, "
            f"column {column}"
        )
    if unit and (low < -ROUNDING or high > 1 + ROUNDING):
        return f"holds values from {low:g} to {high:g}, and float pixels must be in [0, 1]"
    return ""


def require_alpha(alpha: np.ndarray, name: str) -> None:
    """Refuse float alpha beyond [0, 1]; what is not finite is said of the image itself.

    Raises:
        ImageError: names the image and the range.
    """
    if np.isfinite(alpha).all() and (wrong := wrong_values(alpha, unit=True)):
        raise ImageError(
            f"the alpha channel of {name} {wrong}, whatever the range of the colours. Bring it to [0, 1], or save the "
            "image without it."
        )


def require_unit(pixels: np.ndarray, name: str | Path) -> None:
    """Refuse float pixels that are not finite, or beyond [0, 1], where nobody could say what is white.

    Raises:
        ImageError: names the image and the range.
    """
    if wrong := wrong_values(pixels, unit=True):
        name = one_line(str(name))
        advice = "Bring it to [0, 1] first: divide by the value that stands for white."
        raise ImageError(
            f"'{name}' {wrong}. {advice if 'not finite' not in wrong else 'Mend or leave out such pixels.'}"
        )


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Pixels as a float32 tensor (1, C, H, W) in [0, 1]."""
    import torch

    pixels = checked(pixels)
    white = DEPTHS[pixels.dtype.name]
    if pixels.dtype == np.uint16:  # of which torch knows little
        pixels = pixels.astype(np.float32)
    x_HWC = torch.from_numpy(np.array(pixels, order="C")).reshape(*pixels.shape[:2], -1)
    x_BCHW = x_HWC.permute(2, 0, 1).contiguous()[None].to(torch.float32)
    return x_BCHW.div_(white) if white != 1.0 else x_BCHW


def to_pixels(x_BCHW: Tensor, dtype: type | str | np.dtype = np.uint8) -> np.ndarray:
    """One image (1, C, H, W) in [0, 1] as pixels: clamped to the range of `dtype`, scaled, rounded half to even.

    float32 is clamped too. One channel comes back as (H, W).

    Raises:
        ImageError: the batch holds more than one image, or `dtype` is not a depth.
    """
    if x_BCHW.ndim != 4 or x_BCHW.shape[0] != 1:
        raise ImageError(f"a tensor of shape {tuple(x_BCHW.shape)} is not one image; expected (1, C, H, W)")
    x_HWC = x_BCHW.detach()[0].permute(1, 2, 0).float() * _white(dtype)
    return checked(_quantised(x_HWC.contiguous().cpu().numpy(), dtype))


def _quantised(scaled: np.ndarray, dtype: type | str | np.dtype) -> np.ndarray:
    if np.dtype(dtype) != np.float32:
        np.rint(scaled, out=scaled)
    return np.clip(scaled, 0, _white(dtype), out=scaled).astype(dtype, copy=False)


def _white(dtype: type | str | np.dtype) -> float:
    name = np.dtype(dtype).name
    if name not in DEPTHS:
        raise ImageError(f"{name} is not an image depth; must be one of {', '.join(DEPTHS)}")
    return DEPTHS[name]

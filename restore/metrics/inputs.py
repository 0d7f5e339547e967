"""What goes into a metric and what comes out: one path for arrays and tensors, so that every metric agrees on it.

Arrays are (H, W), (H, W, 1) or (H, W, 3); uint8 and uint16 know their range, floats are in [0, data_range]. Tensors are
(B, C, H, W) of the same dtypes. A score is a float for arrays, and one value for each image, (B,), for tensors.

Grey and RGB are never compared with each other: which of the many conversions was meant is the caller's to say.

Legend: B batch, C channels, H height, W width, Y one channel of luma.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import Field

from restore.errors import ImageError

if TYPE_CHECKING:
    import torch

    Images: TypeAlias = np.ndarray | torch.Tensor
    Score: TypeAlias = float | torch.Tensor
else:  # signatures are read before there is an image, and arrays are compared without torch
    Images = Score = Any

__all__ = [
    "Bits",
    "Border",
    "Images",
    "Preparation",
    "Score",
    "White",
    "as_batch",
    "as_levels",
    "as_pair",
    "as_score",
    "luma_of",
    "require_sides",
    "require_size",
]

Border = Annotated[int, Field(ge=0)]
Bits = Annotated[int, Field(ge=1, le=16)]
White = Annotated[float, Field(gt=0)]
Luma = bool | Literal["bt601", "edsr", "grey"]

_NAMES = ("restored", "reference")
_WHITE = {"uint8": 255.0, "uint16": 65535.0}
_EDSR_LUMA = (65.738 / 256, 129.057 / 256, 25.064 / 256)


@dataclass(frozen=True)
class Preparation:
    """What is done to both images before they are compared.

    Attributes:
        border_px: pixels cut off at every side.
        luma: compare luma only. True or "bt601" is the studio luma of MATLAB's rgb2ycbcr; "edsr" is the one without
            offset of the EDSR and IPT code; "grey" is full-range grey, as MATLAB's rgb2gray. A grey image stands for
            R = G = B, as in the published tables, which read every file as colour.
        y_rounding: "matlab" rounds luma to 8 bits, as rgb2ycbcr does with uint8; "none" keeps it exact.
        bits: quantise the images to this many bits first (8: what a saved PNG holds); None takes them as they are.
        data_range: what white is in float images.
    """

    border_px: Border = 0
    luma: Luma = False
    y_rounding: Literal["none", "matlab"] = "none"
    bits: Bits | None = None
    data_range: White = 1.0

    def __call__(self, images: Images, name: str) -> torch.Tensor:
        """The images as (B, C, H, W) in [0, 1], in float64 where the device has it."""
        x_BCHW = as_batch(images, self.data_range, name)
        x_BCHW = _crop(x_BCHW, self.border_px, name)
        if self.bits is not None:
            top = 2**self.bits - 1
            x_BCHW = (x_BCHW.clamp(0, 1) * top).round() / top
        if self.luma:
            x_BCHW = luma_of(x_BCHW, "bt601" if self.luma is True else self.luma)
            if self.y_rounding == "matlab":
                x_BCHW = (x_BCHW * 255).round() / 255
        return x_BCHW


def as_pair(restored: Images, reference: Images, prepare: Preparation) -> tuple[torch.Tensor, torch.Tensor]:
    """Both images ready to be compared: (B, C, H, W) in [0, 1].

    Raises:
        ImageError: they differ in size or channels, or one of them cannot be measured.
    """
    _require_alike(restored, reference)
    return prepare(restored, "restored"), prepare(reference, "reference")


def as_levels(restored: Images, reference: Images, prepare: Preparation) -> tuple[np.ndarray, np.ndarray] | None:
    """Both images as they are, (H, W, C) uint8 without their border, where 8-bit arrays are to be compared as such.

    Raises:
        ImageError: as `as_pair`.
    """
    if prepare.luma or prepare.bits not in (None, 8):
        return None
    pair = restored, reference
    if not all(isinstance(images, np.ndarray) and images.dtype == np.uint8 for images in pair):
        return None
    _require_alike(restored, reference)
    first, second = (_inside(images, prepare.border_px, name) for images, name in zip(pair, _NAMES, strict=True))
    return first, second


def _inside(pixels: Images, border_px: int, name: str) -> np.ndarray:
    assert isinstance(pixels, np.ndarray)
    pixels_HWC = pixels if pixels.ndim == 3 else pixels[..., None]
    height, width = pixels_HWC.shape[:2]
    _require_inside(height, width, border_px, name)
    return np.ascontiguousarray(pixels_HWC[border_px : height - border_px, border_px : width - border_px])


def _require_alike(restored: Images, reference: Images) -> None:
    sizes = [_size(images, name) for images, name in zip((restored, reference), _NAMES, strict=True)]
    (count, height, width, channels), (reference_count, *reference_size, reference_channels) = sizes
    if [height, width] != reference_size:
        raise ImageError(
            f"the images differ in size: restored {height}x{width}, reference {reference_size[0]}x{reference_size[1]} "
            "(height x width). Crop or resize one of them; nothing is resized here."
        )
    if channels != reference_channels:
        raise ImageError(
            f"grey against RGB: restored has {channels} channel(s), reference {reference_channels}. Both must be grey "
            "or both RGB; convert one of them first."
        )
    if count != reference_count:
        raise ImageError(f"the batches differ in length: restored {count}, reference {reference_count}.")


def as_batch(images: Images, data_range: float = 1.0, name: str = "image") -> torch.Tensor:
    """Images of any accepted kind as (B, C, H, W) in [0, 1], in float64 where the device has it."""
    import torch

    _size(images, name)
    white = _WHITE.get(str(images.dtype).removeprefix("torch."), data_range)
    if isinstance(images, np.ndarray):
        pixels = images if images.ndim == 3 else images[..., None]
        pixels = pixels.astype(np.float64) if pixels.dtype.kind == "f" or pixels.dtype.itemsize > 1 else pixels
        x_BCHW = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
    else:
        x_BCHW = images
    exact = torch.float32 if x_BCHW.device.type == "mps" else torch.float64
    exact_BCHW = x_BCHW.to(exact, memory_format=torch.contiguous_format)
    return exact_BCHW / white if exact_BCHW is x_BCHW else exact_BCHW.div_(white)


def as_score(values_B: torch.Tensor, images: Images) -> Score:
    """The score in the form that belongs to `images`: a float for an array, (B,) for a batch."""
    return values_B.item() if isinstance(images, np.ndarray) else values_B


def luma_of(x_BCHW: torch.Tensor, kind: Literal["bt601", "edsr", "grey"] = "bt601") -> torch.Tensor:
    """Luma (B, 1, H, W) of RGB or grey in [0, 1]; unrounded."""
    from restore.images import rgb_to_grey, rgb_to_y

    rgb_BCHW = x_BCHW.expand(-1, 3, -1, -1)
    if kind == "bt601":
        return rgb_to_y(rgb_BCHW)
    if kind == "grey":
        return rgb_to_grey(rgb_BCHW)
    return (rgb_BCHW * x_BCHW.new_tensor(_EDSR_LUMA).view(3, 1, 1)).sum(dim=1, keepdim=True)


def require_size(x_BCHW: torch.Tensor, least_px: int, metric: str) -> None:
    """Refuse images in which the metric's window does not fit.

    Raises:
        ImageError: height or width (after the border is cut off) is under `least_px`.
    """
    require_sides(x_BCHW.shape[-2], x_BCHW.shape[-1], least_px, metric)


def require_sides(height: int, width: int, least_px: int, metric: str) -> None:
    """`require_size` by height and width."""
    if min(height, width) < least_px:
        raise ImageError(f"{metric} needs at least {least_px}x{least_px} px after the border; given: {height}x{width}.")


def _size(images: Images, name: str) -> tuple[int, int, int, int]:
    """Number, height, width and channels; refuses everything that is not an image."""
    shape = tuple(images.shape)
    if isinstance(images, np.ndarray):
        if len(shape) not in (2, 3):
            raise ImageError(f"{name}: an array must be (H, W) or (H, W, C); given: {shape}.")
        count, (height, width), channels = 1, shape[:2], shape[2] if len(shape) == 3 else 1
    else:
        if len(shape) != 4:
            raise ImageError(f"{name}: a tensor must be (B, C, H, W); given: {shape}.")
        count, channels, height, width = shape
    if channels not in (1, 3):
        raise ImageError(f"{name}: 1 (grey) or 3 (RGB) channels are measured; given: {channels}. Drop alpha first.")
    kind = str(images.dtype).removeprefix("torch.")
    if kind not in _WHITE and "float" not in kind:
        raise ImageError(f"{name}: uint8, uint16 or float is measured; given: {kind}.")
    if not count * height * width:
        raise ImageError(f"{name}: the image is empty; given: {shape}.")
    return count, height, width, channels


def _crop(x_BCHW: torch.Tensor, border_px: int, name: str) -> torch.Tensor:
    height, width = x_BCHW.shape[-2:]
    _require_inside(height, width, border_px, name)
    return x_BCHW[..., border_px : height - border_px, border_px : width - border_px]


def _require_inside(height: int, width: int, border_px: int, name: str) -> None:
    if border_px < 0:
        raise ImageError(f"border_px must be 0 or more; given: {border_px}.")
    if min(height, width) <= 2 * border_px:
        raise ImageError(f"{name}: nothing is left of {height}x{width} px inside a border of {border_px} px.")

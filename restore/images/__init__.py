"""Images: files, pixels and tensors; colour; resizing as MATLAB does it; padding.

An image file becomes an `Image` (pixels, ICC profile, EXIF), its pixels a tensor (1, C, H, W) in [0, 1], and back:

    image = read_image("photo.jpg")
    x_BCHW = resize(to_tensor(image.pixels), scale=0.5)
    write_image("half.png", dataclasses.replace(image, pixels=to_pixels(x_BCHW)))

What computes with tensors is imported when it is first used: files and pixels need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from restore.images.decode import decode_image, is_animated, read_size, size_of
from restore.images.encode import encode_image
from restore.images.formats import WRITTEN_SUFFIXES, readable_suffixes
from restore.images.image import Image, convert_depth, flatten, require_unit, to_pixels, to_tensor
from restore.images.io import list_images, read_image, read_rows, write_image, written_by_rows
from restore.images.rows import PngRows, open_rows

if TYPE_CHECKING:
    from restore.images.colour import grey_to_rgb, rgb_to_grey, rgb_to_y, rgb_to_ycbcr, y_to_rgb, ycbcr_to_rgb
    from restore.images.padding import PADDINGS, Frame, crop, frame, pad
    from restore.images.resizing import KERNELS, resize, resize_pixels

_LAZY = {
    **dict.fromkeys(("grey_to_rgb", "rgb_to_grey", "rgb_to_y", "rgb_to_ycbcr", "y_to_rgb", "ycbcr_to_rgb"), "colour"),
    **dict.fromkeys(("PADDINGS", "Frame", "crop", "frame", "pad"), "padding"),
    **dict.fromkeys(("KERNELS", "resize", "resize_pixels"), "resizing"),
}

__all__ = [
    "KERNELS",
    "PADDINGS",
    "WRITTEN_SUFFIXES",
    "Frame",
    "Image",
    "PngRows",
    "convert_depth",
    "crop",
    "decode_image",
    "encode_image",
    "flatten",
    "frame",
    "grey_to_rgb",
    "is_animated",
    "list_images",
    "open_rows",
    "pad",
    "read_image",
    "read_rows",
    "read_size",
    "readable_suffixes",
    "require_unit",
    "resize",
    "resize_pixels",
    "rgb_to_grey",
    "rgb_to_y",
    "rgb_to_ycbcr",
    "size_of",
    "to_pixels",
    "to_tensor",
    "write_image",
    "written_by_rows",
    "y_to_rgb",
    "ycbcr_to_rgb",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"restore.images.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'restore.images' has no attribute '{name}'")

"""EXIF orientation: finding it, applying it to pixels, resetting it without touching any other byte."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

__all__ = ["PREFIX", "is_transposed", "orientation_of", "oriented", "reset_orientation"]

PREFIX = b"Exif\0\0"
"""What stands before the EXIF block in JPEG files."""

_ORIENTATION = 0x0112
_FORMATS = {1: "B", 3: "H", 4: "I"}

_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}


def orientation_of(exif: bytes | None) -> int:
    """The orientation tag, 1 to 8; 1 (upright) where it is absent or senseless."""
    field = _orientation_field(exif) if exif else None
    value = struct.unpack_from(field[1], exif, field[0])[0] if field else 1
    return value if value in _UPRIGHT else 1


def reset_orientation(exif: bytes | None) -> bytes | None:
    """The block with its orientation, if it has one, set to upright."""
    field = _orientation_field(exif) if exif else None
    if not field:
        return exif
    changed = bytearray(exif)
    struct.pack_into(field[1], changed, field[0], 1)
    return bytes(changed)


def oriented(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels, turned and mirrored the way they are meant to be seen."""
    return np.ascontiguousarray(_UPRIGHT[orientation](pixels)) if orientation in _UPRIGHT else pixels


def is_transposed(orientation: int) -> bool:
    """Whether height and width change places."""
    return orientation in (5, 6, 7, 8)


def _orientation_field(exif: bytes) -> tuple[int, str] | None:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return None
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (num_entries,) = struct.unpack_from(f"{order}H", exif, directory)
        for entry in range(directory + 2, directory + 2 + 12 * num_entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if tag == _ORIENTATION and kind in _FORMATS:
                field = entry + 8, order + _FORMATS[kind]
                struct.unpack_from(field[1], exif, field[0])
                return field
    except struct.error:  # a damaged block says nothing about orientation
        pass
    return None

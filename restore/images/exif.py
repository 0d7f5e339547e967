"""EXIF blocks: orientation, sizes and resolution are found and set without touching any other byte."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np

__all__ = [
    "PREFIX",
    "density_of",
    "is_readable",
    "is_transposed",
    "orientation_of",
    "oriented",
    "reset_orientation",
    "with_density",
    "with_size",
]

PREFIX = b"Exif\0\0"
"""What stands before the EXIF block in JPEG files."""

_ORIENTATION, _EXIF_IFD, _GPS_IFD, _MAKER_NOTE = 0x0112, 0x8769, 0x8825, 0x927C
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
_WIDTHS, _HEIGHTS = {0x0100, 0xA002}, {0x0101, 0xA003}
_FORMATS = {1: "B", 3: "H", 4: "I"}
_RATIONAL, _LONG = 5, 4
_HALF_A_DOT_PER_METRE = 0.0128  # in dots per inch
_PER_INCH = {1: None, 2: 1.0, 3: 2.54}  # units: none, inch, centimetre

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


def is_readable(exif: bytes) -> bool:
    """Whether a block can be taken apart and put together again."""
    from PIL.Image import Exif

    tags = Exif()
    try:
        tags.load(PREFIX + exif)
        for directory in (_EXIF_IFD, _GPS_IFD):
            tags.get_ifd(directory)
        return bool(tags.tobytes())
    except Exception:  # SyntaxError, struct.error, ValueError, TypeError ... of whatever is damaged
        return False


def with_size(exif: bytes | None, height: int, width: int) -> bytes | None:
    """The block with the sizes that it tells set to these, and without the thumbnail, which shows the old image."""
    if not exif or (order := _order_of(exif)) is None:
        return exif
    changed = bytearray(exif)
    for tag, kind, count, entry in _entries(exif):
        if tag in _WIDTHS | _HEIGHTS and kind in _FORMATS and count == 1:
            struct.pack_into(f"{order}HII", changed, entry + 2, _LONG, 1, width if tag in _WIDTHS else height)
    for place in _ends_of_first_directory(exif, order):
        struct.pack_into(f"{order}I", changed, place, 0)
    return bytes(changed)


def density_of(exif: bytes | None) -> tuple[float, float, bool] | None:
    """The resolution: across, down, and whether it is in dots per inch or only a ratio; None where there is none."""
    found: dict[int, float] = {}
    order = _order_of(exif) if exif else None
    for tag, kind, _, entry in _entries(exif) if exif and order else ():
        try:
            if tag in (_X_RESOLUTION, _Y_RESOLUTION) and kind == _RATIONAL:
                (place,) = struct.unpack_from(f"{order}I", exif, entry + 8)
                above, below = struct.unpack_from(f"{order}II", exif, place)
                found[tag] = above / below if below else 0.0
            elif tag == _RESOLUTION_UNIT and kind in _FORMATS:
                (found[tag],) = struct.unpack_from(order + _FORMATS[kind], exif, entry + 8)
        except struct.error:
            return None
    return density(found.get(_X_RESOLUTION), found.get(_Y_RESOLUTION), int(found.get(_RESOLUTION_UNIT, 2)))


def density(across: float | None, down: float | None, unit: int = 2) -> tuple[float, float, bool] | None:
    """A resolution in TIFF's units (1 none, 2 inch, 3 centimetre) in dots per inch; None where it says nothing."""
    if not across or not down or unit not in _PER_INCH or min(across, down) <= 0:
        return None
    factor = _PER_INCH[unit]
    if factor is None:
        return None if across == down else (across, down, False)
    return _inches(across * factor), _inches(down * factor), True


def _inches(dots: float) -> float:
    """Dots per inch without what rounding to whole dots per metre made of them."""
    return float(round(dots)) if abs(dots - round(dots)) < _HALF_A_DOT_PER_METRE else round(dots, 2)


def with_density(exif: bytes | None, density: tuple[float, float, bool] | None) -> bytes | None:
    """The block, or a new one, with a resolution, unless it has it already, or a maker's note, which is not moved."""
    if density is None or density_of(exif) == density or any(tag == _MAKER_NOTE for tag, *_ in _entries(exif or b"")):
        return exif
    from PIL.Image import Exif
    from PIL.TiffImagePlugin import IFDRational

    tags = Exif()
    if exif:
        tags.load(PREFIX + exif)
    for tag, value in ((_X_RESOLUTION, density[0]), (_Y_RESOLUTION, density[1])):
        exact = Fraction(value).limit_denominator(1000)
        tags[tag] = IFDRational(exact.numerator, exact.denominator)
    tags[_RESOLUTION_UNIT] = 2 if density[2] else 1
    return tags.tobytes().removeprefix(PREFIX)


def _order_of(exif: bytes) -> str | None:
    return {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])


def _entries(exif: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, count and place of the entries of the first directory and of the EXIF directory; damage ends them."""
    order = _order_of(exif)
    if order is None:
        return
    try:
        waiting = [struct.unpack_from(f"{order}I", exif, 4)[0]]
        for directory in waiting:
            (num_entries,) = struct.unpack_from(f"{order}H", exif, directory)
            for entry in range(directory + 2, directory + 2 + 12 * num_entries, 12):
                tag, kind, count, value = struct.unpack_from(f"{order}HHII", exif, entry)
                if tag == _EXIF_IFD and len(waiting) == 1:
                    waiting.append(value)
                yield tag, kind, count, entry
    except struct.error:  # a damaged block says no more
        return


def _ends_of_first_directory(exif: bytes, order: str) -> Iterator[int]:
    """Where the first directory names the next one, that of the thumbnail."""
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (num_entries,) = struct.unpack_from(f"{order}H", exif, directory)
    except struct.error:
        return
    place = directory + 2 + 12 * num_entries
    if place + 4 <= len(exif):
        yield place


def _orientation_field(exif: bytes) -> tuple[int, str] | None:
    order = _order_of(exif)
    for tag, kind, _, entry in _entries(exif):
        if tag == _ORIENTATION and kind in _FORMATS:
            return entry + 8, f"{order}{_FORMATS[kind]}"
    return None

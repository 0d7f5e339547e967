"""MATLAB files of version 5 to 7 ('-v7'), read without trusting anything in them.

Every size is compared with the bytes that are there before it is used, and what is packed is unpacked up to a bound, so
a file from anybody ends in its arrays or in one message. (scipy's reader, which is written for files of one's own, was
killed by changed ones.) What comes out is what `scipy.io.loadmat` gives for numbers, text and cells; other kinds of
variables (structures, sparse matrices, functions) are left out.

The format: MathWorks, "MAT-File Level 5 File Format".
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np

from restore.errors import DataError

__all__ = ["read_mat"]

LARGEST_BYTES = 4 << 30
DEEPEST = 6
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_MATRIX, _PACKED = 14, 15
_CELL, _TEXT, _FIRST_NUMBER, _LAST_NUMBER = 1, 4, 6, 15
_COMPLEX = 0x800


class _DamagedError(ValueError):
    """The file is not what the format says."""


def read_mat(data: bytes, what: str) -> dict[str, np.ndarray]:
    """The variables of a MATLAB file by name: numbers as they are stored, text as arrays of str, cells as objects.

    Raises:
        DataError: it is no such file, is damaged, or unpacks to more than `LARGEST_BYTES`.
    """
    if not data.startswith(b"MATLAB 5.0") or len(data) < 128:
        version = "7.3" if data.startswith((b"MATLAB 7.3", b"\x89HDF")) else "4" if _is_version_4(data) else None
        advice = f" It is of version {version}; save it with '-v7'." if version else ""
        raise DataError(f"{what} is not a readable MATLAB file.{advice}")
    variables = {}
    try:
        order = {b"IM": "<", b"MI": ">"}[data[126:128]]
        left = LARGEST_BYTES
        for kind, content in _elements(memoryview(data)[128:], order):
            if kind == _PACKED:
                content = memoryview(_unpacked(content, left))
                left -= len(content)
                kind, content = next(_elements(content, order), (0, content))
            if kind == _MATRIX:
                name, value = _matrix(content, order)
                if value is not None:
                    variables[name] = value
    except _TooLargeError:
        raise DataError(f"{what} unpacks to more than {LARGEST_BYTES >> 20:,} MiB.") from None
    except _DamagedError as error:
        raise DataError(f"{what} is damaged: {error}.") from None
    except (ValueError, LookupError, zlib.error, struct.error, OverflowError, MemoryError) as error:
        raise DataError(f"{what} is damaged: {error}.") from None
    return variables


def _is_version_4(data: bytes) -> bool:
    """Whether a file begins as those of MATLAB 4 do: type, sides and imaginary part of a matrix, length of its name."""
    for order in "<>" if len(data) >= 20 else "":
        kind, rows, columns, imaginary, letters = struct.unpack(f"{order}5i", data[:20])
        is_matrix = 0 <= kind < 5000 and min(rows, columns) >= 0 and imaginary in (0, 1) and 1 < letters < 65
        if is_matrix and data[19 + letters : 20 + letters] == b"\0":
            return True
    return False


class _TooLargeError(Exception):
    pass


def _unpacked(content: memoryview, most: int) -> bytes:
    unpack = zlib.decompressobj()
    found = unpack.decompress(content, most + 1)
    if len(found) > most:
        raise _TooLargeError
    return found


def _elements(content: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """The type and the bytes of each element in a row of them; small ones stand in their own tag."""
    place = 0
    while place + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        start, end = place + 8, place + 8 + size
        if kind >> 16:
            kind, size = kind & 0xFFFF, kind >> 16
            start, end, place = place + 4, place + 4 + size, place + 8
            if size > 4:
                raise _DamagedError("a small element is not small")
        else:
            place = end if kind == _PACKED else end + -size % 8
        if end > len(content):
            raise _DamagedError("it is cut off")
        yield kind, content[start:end]


def _matrix(content: memoryview, order: str, depth: int = 0) -> tuple[str, np.ndarray | None]:
    """The name and the values of an array; None for a kind that is left out."""
    elements = _elements(content, order)

    def take(wanted: dict[int, str], what: str) -> np.ndarray:
        kind, part = next(elements, (0, memoryview(b"")))
        if kind not in wanted:
            raise _DamagedError(f"the {what} of an array are missing")
        return np.frombuffer(part, f"{order}{wanted[kind]}")

    if not len(content):
        return "", np.empty((0, 0))
    flags = take({6: "u4"}, "flags")
    shape = tuple(int(length) for length in take({5: "i4"}, "sides"))
    name = bytes(take({1: "i1", 16: "i1"}, "letters of the name")).decode("utf-8")
    if not 2 <= len(shape) <= 32 or min(shape) < 0 or not len(flags):
        raise _DamagedError(f"'{ascii(name)[:60]}' has no possible shape")
    kind, num = int(flags[0]) & 0xFF, math.prod(shape)
    if kind == _CELL and depth < DEEPEST and num <= len(content) // 8:
        cells = np.empty(num, object)
        for place in range(num):
            inner, part = next(elements, (0, memoryview(b"")))
            if inner != _MATRIX:
                raise _DamagedError("a cell is missing")
            cells[place] = _matrix(part, order, depth + 1)[1]
        return name, cells.reshape(shape, order="F")
    if kind == _TEXT:
        return name, _text(next(elements, (0, memoryview(b""))), shape, order)
    if not _FIRST_NUMBER <= kind <= _LAST_NUMBER or int(flags[0]) & _COMPLEX:
        return name, None
    values = take(_NUMBERS, "values")
    if len(values) != num:
        raise _DamagedError(f"'{ascii(name)[:60]}' has {len(values)} values for a shape of {shape}")
    return name, values.astype(values.dtype.newbyteorder("=")).reshape(shape, order="F")


def _text(element: tuple[int, memoryview], shape: tuple[int, ...], order: str) -> np.ndarray:
    kind, content = element
    if kind not in _TEXTS:
        raise _DamagedError("a text is not one")
    how = _TEXTS[kind] + {"<": "-le", ">": "-be"}[order] * (_TEXTS[kind] in ("utf-16", "utf-32"))
    letters = list(bytes(content).decode(how))
    if len(letters) != math.prod(shape):
        raise _DamagedError("a text has another length than it says")
    rows = np.array(letters, dtype="U1").reshape(shape, order="F").reshape(-1, shape[-1]) if letters else []
    return np.array(["".join(row) for row in rows], dtype=str)

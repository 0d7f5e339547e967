"""What is wrong with a package: names, count, sizes, mode and depth of images, readme, lines of opinions."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np

from restore.errors import DataError, ImageError
from restore.images import decode_image
from restore.leaderboard.archive import Package
from restore.leaderboard.readme import Readme

__all__ = ["OPINIONS", "README", "image_problems", "name_problems", "read_opinions", "read_rgb", "readme_problems"]

README = "readme.txt"
OPINIONS = "output.txt"
MODES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
_PNG = struct.Struct(">8sI4sIIBB")
_LINE = re.compile(r"([^,\s][^,]*?)\s*,\s*(\S+)")
MOST_SCORE = 1e9  # in size, of an opinion: larger ones overflow in correlations
_SHOWN = 5


def name_problems(package: Package, expected: Collection[str], *, readme: bool) -> Iterator[str]:
    """Files that are missing or do not belong there, also the readme."""
    wanted = {*expected, *([README] if readme else [])}
    missing, extra = sorted(wanted - package.names), sorted(package.names - wanted)
    if missing:
        yield f"{len(missing)} of {len(wanted)} files are missing: {_listed(missing)}"
    if extra:
        yield f"{len(extra)} files do not belong there: {_listed(extra)}"


def image_problems(package: Package, sizes: Mapping[str, Collection[tuple[int, int]]]) -> Iterator[str]:
    """What is wrong with the images that are there; `sizes` holds the (height, width) that each may have."""
    for name in sorted(package.names & set(sizes)):
        try:
            read_rgb(package, name, sizes[name])
        except (DataError, ImageError) as error:
            yield str(error)


def read_rgb(package: Package, name: str, sizes: Collection[tuple[int, int]]) -> np.ndarray:
    """An 8-bit RGB PNG of one of these sizes, as pixels; its header is judged before it is decoded.

    Raises:
        DataError: it is something else.
        ImageError: it is damaged.
    """
    data = package.read(name)
    height, width, depth, kind = _header(name, data)
    if (depth, kind) != (8, 2):
        raise DataError(f"{name} is {depth} bit {MODES.get(kind, 'unknown')}; expected: 8 bit RGB")
    if (height, width) not in sizes:
        wanted = " or ".join(f"{wide}x{high}" for high, wide in sizes)
        raise DataError(f"{name} is {width}x{height} (width x height); expected: {wanted}")
    pixels = decode_image(data, name).pixels
    if pixels.shape != (height, width, 3) or pixels.dtype != np.uint8:
        raise DataError(f"{name} decodes to {pixels.shape}, {pixels.dtype}; expected: RGB without transparency")
    return pixels


def readme_problems(package: Package) -> Iterator[str]:
    """What is wrong with readme.txt, if it is there."""
    if README in package.names:
        try:
            Readme.parse(package.text(README))
        except DataError as error:
            yield str(error)


def read_opinions(text: str, what: str = OPINIONS) -> dict[str, float]:
    """The score of each image from lines `NAME,SCORE`.

    Raises:
        DataError: a line is something else, an image is there twice, or a score is not finite, or absurd.
    """
    scores: dict[str, float] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        value = _float(match[2]) if match else math.nan
        if not math.isfinite(value):
            raise DataError(
                f"{what}, line {number}: '{line.strip()[:80]}'; expected NAME,SCORE such as A0000_10_00.bmp,0.6"
            )
        if abs(value) > MOST_SCORE:
            raise DataError(f"{what}, line {number}: {value:g}; scores are at most {MOST_SCORE:g} in size")
        if match[1] in scores:
            raise DataError(f"{what}, line {number}: {match[1]} is there twice")
        scores[match[1]] = value
    if not scores:
        raise DataError(f"{what} is empty")
    return scores


def _header(name: str, data: bytes) -> tuple[int, int, int, int]:
    """Height, width, depth and colour type of a PNG."""
    if len(data) < _PNG.size:
        raise DataError(f"{name} is not a PNG image: it has {len(data)} bytes")
    signature, _, chunk, width, height, depth, kind = _PNG.unpack_from(data)
    if signature != b"\x89PNG\r\n\x1a\n" or chunk != b"IHDR":
        raise DataError(f"{name} is not a PNG image, whatever its name says")
    return height, width, depth, kind


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(name.encode("unicode_escape").decode()[:80] for name in names[:_SHOWN]) + more

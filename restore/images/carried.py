"""What an image file carries beside its pixels: resolution, XMP, text, colour; and saying what is left behind."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from restore.images import exif as exif_blocks

__all__ = ["Carried", "carried_by", "say_left_behind", "text_of_bytes", "xmp_of_size"]

logger = logging.getLogger(__name__)

_SIZES = {b"ImageWidth": 1, b"PixelXDimension": 1, b"ImageLength": 0, b"PixelYDimension": 0}


@dataclass(frozen=True)
class Carried:
    """What a file says beside its pixels, profile and EXIF block.

    Attributes:
        density: resolution across and down, and whether it is in dots per inch or only a ratio.
        xmp: the XMP packet.
        text: keywords and texts.
        colour: the PNG chunks that say which colours are meant (cICP, gAMA, cHRM, sRGB), by type.
        left: what else the file holds that is not carried over, in words.
    """

    density: tuple[float, float, bool] | None = None
    xmp: bytes | None = None
    text: tuple[tuple[str, str], ...] = ()
    colour: tuple[tuple[bytes, bytes], ...] = ()
    left: tuple[str, ...] = ()

    def turned(self, orientation: int) -> Carried:
        """The same of the image that was turned upright."""
        density = self.density
        if density and exif_blocks.is_transposed(orientation):
            density = density[1], density[0], density[2]
        return replace(self, density=density, xmp=_with(self.xmp, b"Orientation", 1) if self.xmp else None)


def carried_by(info: Mapping[str, Any], exif: bytes | None) -> Carried:
    """What Pillow found in a file, and its EXIF block."""
    density = exif_blocks.density_of(exif)
    if "jfif_density" in info:
        density = exif_blocks.density(*info["jfif_density"], unit=info.get("jfif_unit", 0) + 1) or density
    elif "jfif" not in info and "dpi" in info and not density:
        density = exif_blocks.density(*info["dpi"])
    xmp, comment = info.get("xmp"), info.get("comment")
    return Carried(
        density,
        (xmp.encode() if isinstance(xmp, str) else xmp) or None,
        (("Comment", text_of_bytes(comment)),) if comment else (),
        left=("IPTC and Photoshop data",) if info.get("photoshop") else (),
    )


def text_of_bytes(data: bytes | str) -> str:
    """Text in UTF-8, or else in Latin-1."""
    if isinstance(data, str):
        return data
    try:
        return data.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        return data.rstrip(b"\0").decode("latin-1")


def xmp_of_size(xmp: bytes | None, height: int, width: int) -> bytes | None:
    """The packet with the sizes that it tells set to these."""
    for name, across in _SIZES.items():
        xmp = _with(xmp, name, width if across else height) if xmp else None
    return xmp


def _with(xmp: bytes, name: bytes, value: int) -> bytes:
    """The packet with another value of a property of the schemes tiff and exif, as attribute or element."""
    pattern = rb"((?:tiff|exif):" + name + rb"\s*(?:=\s*[\"']|>))\s*\d+\s*(?=[\"'<])"
    return re.sub(pattern, lambda found: found[1] + str(value).encode(), xmp)


@functools.cache
def say_left_behind(what: str) -> None:
    """Say once in a process what results do not hold of their inputs."""
    logger.warning("not carried over: %s", what)

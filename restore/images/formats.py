"""Which file formats there are: what those that can be written hold, and which others can be read here.

AVIF, HEIC and JPEG XL are read where Pillow or a plugin of it can; everything else needs nothing.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from restore.errors import ImageError, nearest

__all__ = [
    "FORMATS",
    "WRITTEN_SUFFIXES",
    "Format",
    "check_fits",
    "format_for",
    "how_to_read",
    "is_image_name",
    "readable_suffixes",
    "unread_here",
]


@dataclass(frozen=True)
class Format:
    """What a file format can hold.

    Attributes:
        name: the format's name.
        suffixes: endings of file names, lower case.
        depths: sample types.
        alpha: whether it can hold an alpha channel.
        grey: whether it has a layout for grey, rather than storing it as equal RGB.
        lossless: whether every pixel value survives; "option" where the writer can choose.
        carries: what it holds beside the pixels: "profile", "EXIF", "resolution", "XMP", "text", "colour" (PNG's own
            words for it: gAMA, cHRM, sRGB, cICP).
        max_side_px: the largest height or width that its encoder takes.
        max_bytes: the most of pixels, in formats that do not compress 8-bit samples.
    """

    name: str
    suffixes: tuple[str, ...]
    depths: tuple[str, ...] = ("uint8",)
    alpha: bool = True
    grey: bool = True
    lossless: bool = True
    carries: tuple[str, ...] = ("profile", "EXIF", "resolution", "XMP")
    max_side_px: int = (1 << 31) - 1
    max_bytes: int | None = None


FORMATS = (
    Format(
        "PNG",
        (".png",),
        ("uint8", "uint16"),
        carries=("profile", "EXIF", "resolution", "XMP", "text", "colour"),
        max_side_px=1_000_000,
    ),
    Format(
        "JPEG",
        (".jpg", ".jpeg", ".jpe", ".jfif", ".jif"),
        alpha=False,
        lossless=False,
        carries=("profile", "EXIF", "resolution", "XMP", "text"),
        max_side_px=65_500,
    ),
    Format("TIFF", (".tif", ".tiff"), ("uint8", "uint16", "float32")),
    Format("WebP", (".webp",), grey=False, max_side_px=16_383),
    Format("BMP", (".bmp",), carries=("resolution",), max_bytes=(1 << 31) - 4096),
)
"""The formats that are written, and read too."""

WRITTEN_SUFFIXES = tuple(suffix for fmt in FORMATS for suffix in fmt.suffixes)
"""Endings of file names that can be written, lower case."""

ONLY_READ = (".gif", ".ppm", ".pgm", ".pbm", ".pnm")


@dataclass(frozen=True)
class _Plugin:
    name: str
    suffixes: tuple[str, ...]
    module: str
    install: str


_PLUGINS = (
    _Plugin("AVIF", (".avif",), "PIL._avif", "pip install 'pillow>=11.3'"),
    _Plugin("HEIC", (".heic", ".heif", ".hif"), "pillow_heif", "pip install 'restore-toolkit[heif]'"),
    _Plugin("JPEG XL", (".jxl",), "pillow_jxl", "pip install 'restore-toolkit[jxl]'"),
)
_NEVER_READ = (
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"),
    *(".dds", ".exr", ".hdr", ".ico", ".j2k", ".jp2", ".jpx", ".pam", ".pfm", ".psd", ".svg", ".tga", ".xcf"),
)


@functools.cache
def readable_suffixes() -> tuple[str, ...]:
    """Endings of file names that can be read with what is installed, lower case."""
    optional = (suffix for plugin in _PLUGINS if _is_installed(plugin.module) for suffix in plugin.suffixes)
    return (*WRITTEN_SUFFIXES, *ONLY_READ, *optional)


def how_to_read(name: str) -> str | None:
    """The command that installs what reads the format called `name`; None where nothing is missing."""
    for plugin in _PLUGINS:
        if plugin.name == name and not _is_installed(plugin.module):
            return plugin.install
    return None


def is_image_name(path: Path) -> bool:
    """Whether a file is an image by its ending, of a format that is read here or of another."""
    suffix = path.suffix.lower()
    return suffix in (*readable_suffixes(), *_NEVER_READ) or any(suffix in plugin.suffixes for plugin in _PLUGINS)


def unread_here(paths: Iterable[Path]) -> str:
    """A sentence on those of the files that are images of formats that are not read here; empty if there is none."""
    suffixes = {path.suffix.lower() for path in paths}
    by_plugin = {
        plugin: sorted(suffixes.intersection(plugin.suffixes))
        for plugin in _PLUGINS
        if not _is_installed(plugin.module) and suffixes.intersection(plugin.suffixes)
    }
    parts = [f"{', '.join(found)} ({plugin.install})" for plugin, found in by_plugin.items()]
    parts += sorted(suffixes.intersection(_NEVER_READ))
    return f"formats that are not read here: {', '.join(parts)}" if parts else ""


def format_for(suffix: str) -> Format:
    """The format that is written to files of this ending.

    Raises:
        ImageError: none is.
    """
    for fmt in FORMATS:
        if suffix.lower() in fmt.suffixes:
            return fmt
    given = f"files that end in '{suffix}' are not written" if suffix else "the file name has no ending"
    raise ImageError(f"{given}; known: {', '.join(WRITTEN_SUFFIXES)}.{nearest(suffix, WRITTEN_SUFFIXES)}")


def check_fits(suffix: str, shape: Sequence[int], depth: str, *, lossless: bool = False) -> None:
    """Refuse an image that the format of an ending cannot hold.

    Args:
        suffix: ending of the file name.
        shape: (H, W) or (H, W, C) of the pixels; 2 and 4 channels have alpha.
        depth: uint8, uint16 or float32.
        lossless: whether every value has to survive.

    Raises:
        ImageError: the limit, the formats without it, and what to do.
    """
    fmt, (height, width, *channels) = format_for(suffix), shape
    if depth not in fmt.depths:
        raise ImageError(
            f"{fmt.name} cannot hold {depth} samples, only {' and '.join(fmt.depths)}; {_others(depth)} can. Or "
            f"convert them: --depth {'16' if 'uint16' in fmt.depths else '8'} of restore run, convert_depth in Python"
        )
    if channels and channels[0] in (2, 4) and not fmt.alpha:
        raise ImageError(
            f"{fmt.name} cannot hold an alpha channel; {_others(depth, alpha=True)} can. Or lay the image on white: "
            "--alpha flatten of restore run, flatten in Python"
        )
    if max(height, width) > fmt.max_side_px:
        raise ImageError(
            f"{fmt.name} holds at most {fmt.max_side_px} px a side, and this is {width}x{height} (width x height); "
            f"{_others(depth, alpha=fmt.alpha, px=max(height, width))} can hold it"
        )
    num_bytes = height * (width + 3) * (1 if not channels else 4 if channels[0] == 2 else channels[0])
    if fmt.max_bytes and num_bytes > fmt.max_bytes:
        raise ImageError(
            f"{fmt.name} holds at most {fmt.max_bytes} bytes of pixels, and this has {num_bytes}; "
            f"{_others(depth, alpha=fmt.alpha, px=max(height, width), num_bytes=num_bytes)} can hold it"
        )
    if lossless and not fmt.lossless:
        raise ImageError(f"{fmt.name} is always lossy; {_others(depth, lossless=True)} can be lossless")


def _others(depth: str, *, alpha: bool = False, lossless: bool = False, px: int = 0, num_bytes: int = 0) -> str:
    able = [
        fmt.name
        for fmt in FORMATS
        if depth in fmt.depths
        and fmt.alpha >= alpha
        and fmt.lossless >= lossless
        and fmt.max_side_px >= px
        and num_bytes <= (fmt.max_bytes or num_bytes)
    ]
    return ", ".join(able)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # its package is not there
        return False

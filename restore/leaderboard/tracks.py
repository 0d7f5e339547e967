"""The tracks: what each one restores, what its files are called, and by which protocol it is judged.

The facts are those of the organisers' repositories (NTIRE 2022-2026 efficient SR, image SR x4 and denoising; PIPAL) and
of the SIDD and DND submission code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from restore.errors import OptionsError, nearest

__all__ = ["TRACKS", "Track", "find_track"]


def _div2k(first: int, suffix: str = "") -> frozenset[str]:
    return frozenset(f"{number:04}{suffix}.png" for number in range(first, first + 100))


@dataclass(frozen=True, eq=False)
class Track:
    """A kind of challenge.

    Attributes:
        name: what it is called on the command line.
        title: what it is called in tables.
        kind: what a submission holds: restored images, opinions (a score for each image), or MATLAB files.
        scale: output pixels per input pixel.
        protocol: of `restore.metrics.PROTOCOLS`, by which PSNR is measured.
        clock: what counts as the runtime of an image: the network alone, or reading and writing too.
        suffixes: what a submitted name may have after that of its reference (`0901x4.png` for `0901.png`).
        splits: the complete lists of names of the official sets, where they are known.
        crop_multiple: references are cut to a multiple of this when the organisers' own code reads them.
        readme: whether the zip holds a readme.txt.
        score: the figure by which runs are ranked.
        higher_is_better: its direction.
        templates: repositories of organisers that teams of this track enter with model files.
    """

    name: str
    title: str
    kind: Literal["images", "opinions", "sidd", "dnd"] = "images"
    scale: int = 1
    protocol: str = ""
    clock: Literal["network", "with_io"] = "network"
    suffixes: tuple[str, ...] = ("",)
    splits: dict[str, frozenset[str]] = field(default_factory=dict)
    crop_multiple: int = 1
    readme: bool = True
    score: str = "psnr"
    higher_is_better: bool = True
    templates: tuple[str, ...] = ()

    def split(self, name: str) -> frozenset[str]:
        """The names of an official set.

        Raises:
            OptionsError: this track has no list of that name.
        """
        if name not in self.splits:
            known = ", ".join(self.splits) or "none"
            raise OptionsError(f"the track {self.name} has no list '{name}'. Known: {known}.")
        return self.splits[name]

    def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Sizes (height, width) that a submission may have beside a reference of this size."""
        return list(dict.fromkeys(_cropped(height, width, multiple) for multiple in (self.scale, self.crop_multiple)))


def _cropped(height: int, width: int, multiple: int) -> tuple[int, int]:
    return height - height % multiple, width - width % multiple


def _table(*tracks: Track) -> dict[str, Track]:
    return {track.name: track for track in tracks}


_LSDIR_VALID = frozenset(f"{number:06}x4.png" for number in range(1, 101))

TRACKS = _table(
    Track(
        "sr_x4",
        "Image super-resolution x4",
        scale=4,
        protocol="ntire_sr25_board",
        clock="with_io",
        suffixes=("x4", ""),
        splits={"valid": _div2k(801, "x4"), "test": _div2k(901, "x4")},
        crop_multiple=4,
        templates=("sr_func", "esr"),
    ),
    Track(
        "esr",
        "Efficient super-resolution x4",
        scale=4,
        protocol="ntire_esr",
        suffixes=("x4", ""),
        splits={"valid": _LSDIR_VALID | _div2k(801, "x4"), "valid2022": _div2k(801, "x4"), "test2022": _div2k(901)},
        crop_multiple=4,
        score="score",
        higher_is_better=False,
        templates=("esr",),
    ),
    Track(
        "denoise50",
        "Denoising, sigma 50",
        protocol="ntire_dn50",
        suffixes=("", "noise50"),
        splits={"valid": _div2k(801), "test": _div2k(901)},
        crop_multiple=8,
        templates=("denoise",),
    ),
    Track("perceptual_iqa", "Perceptual image quality (PIPAL)", kind="opinions", clock="with_io", score="main"),
    Track("sidd", "SIDD benchmark, sRGB", kind="sidd", protocol="sidd", readme=False),
    Track("dnd", "Darmstadt noise dataset, sRGB", kind="dnd", protocol="sidd", readme=False),
)


def find_track(name: str) -> Track:
    """The track of that name.

    Raises:
        OptionsError: there is none.
    """
    if name not in TRACKS:
        raise OptionsError(f"unknown track '{name}'.{nearest(name, TRACKS)} Known: {', '.join(TRACKS)}.")
    return TRACKS[name]

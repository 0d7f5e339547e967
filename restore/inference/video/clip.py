"""What a clip is: a row of frames with their times, and what has to survive beside the pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np

from restore.errors import MissingError
from restore.inference.video.colour import Colour

__all__ = ["Clip", "Frame", "FrameSource", "import_av"]


@dataclass(frozen=True)
class Frame:
    """One frame: upright pixels, and when it is shown.

    Attributes:
        pixels: (H, W), (H, W, 3) or (H, W, 4); uint8 or uint16.
        pts: when it is shown, in the clip's time base.
        duration: for how long, in the clip's time base.
    """

    pixels: np.ndarray
    pts: int
    duration: int


@dataclass(frozen=True)
class Clip:
    """What is known of a clip before its frames.

    Attributes:
        height: of its upright frames.
        width: of its upright frames.
        rate: frames per second; a mean where they vary.
        time_base: unit of the frames' times, in seconds.
        pixel_format: libav's name of how pixels are stored.
        colour: how their numbers mean colours.
        aspect: width of a pixel over its height.
        num_frames: how many there are, as far as is known.
    """

    height: int
    width: int
    rate: Fraction
    time_base: Fraction
    pixel_format: str
    colour: Colour = field(default_factory=Colour)
    aspect: Fraction = Fraction(1)
    num_frames: int | None = None


class FrameSource(Protocol):
    """Where frames come from: a video file, or numbered images.

    Attributes:
        path: the file or folder.
        clip: what is known of the frames.
        problems: what went wrong on the way; complete once `frames` is used up.
    """

    path: Path
    clip: Clip
    problems: list[str]

    def frames(self, first: int = 0, *, alpha: bool = False) -> Iterator[Frame]:
        """The frames in order, from number `first` on; with their alpha channel, if there is one, where `alpha`."""

    def identity(self) -> dict[str, object]:
        """What tells that the source is the same as in an earlier run."""


def import_av() -> ModuleType:
    """PyAV, through which video is read and written.

    Raises:
        MissingError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingError("video needs PyAV, which is not installed: pip install 'restore-toolkit[video]'") from error
    return av

"""Images as the frames of a clip."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np

from restore.errors import ImageError
from restore.files import real_path
from restore.images import read_image
from restore.inference.pipeline import read_ahead
from restore.inference.video.clip import Clip, Frame
from restore.inference.video.colour import Colour

__all__ = ["ImageSequence"]


class ImageSequence:
    """A clip whose frames are image files.

    Args:
        paths: the images, in order.
        rate: frames per second.

    Raises:
        ImageError: the first of them cannot be read.
    """

    def __init__(self, paths: list[Path], rate: Fraction):
        self.path = paths[0].parent
        self.problems: list[str] = []
        self._paths = paths
        first = _pixels(paths[0], alpha=True)
        self._shape, self._dtype = first.shape[:2], first.dtype
        self.clip = Clip(
            height=first.shape[0],
            width=first.shape[1],
            rate=rate,
            time_base=1 / rate,
            pixel_format=_layout(first),
            colour=Colour(),
            num_frames=len(paths),
        )

    def frames(self, first: int = 0, *, alpha: bool = False) -> Iterator[Frame]:
        """The images in order, from number `first` on.

        Raises:
            ImageError: one cannot be read, or is not like the first.
        """
        with ThreadPoolExecutor(2) as pool:
            for number, (path, future) in enumerate(
                read_ahead(self._paths[first:], lambda path: _pixels(path, alpha), pool), first
            ):
                pixels = future.result()
                if pixels.shape[:2] != self._shape or pixels.dtype != self._dtype:
                    was, now = (
                        f"{shape[1]}x{shape[0]} {dtype}"
                        for shape, dtype in ((self._shape, self._dtype), (pixels.shape, pixels.dtype))
                    )
                    raise ImageError(f"'{path}' is {now}, and the first frame is {was}: frames have to be alike.")
                yield Frame(pixels, number, 1)

    def identity(self) -> dict[str, object]:
        """Paths, sizes and times of the images."""
        stats = [(str(real_path(path)), path.stat()) for path in self._paths]
        files = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
        return {"images": files, "rate": str(self.clip.rate)}


def _pixels(path: Path, alpha: bool) -> np.ndarray:
    """The pixels of an image as RGB, RGBA or grey of 8 or 16 bits."""
    pixels = read_image(path).pixels
    if pixels.dtype == np.float32:
        raise ImageError(f"'{path}' holds float pixels: frames of a video have 8 or 16 bits.")
    if pixels.ndim == 3 and pixels.shape[2] == 2:
        pixels = pixels[:, :, [0, 0, 0, 1]]
    return pixels[:, :, :3] if pixels.ndim == 3 and not alpha else pixels


def _layout(pixels: np.ndarray) -> str:
    """libav's name for how these pixels are stored."""
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    names = {1: ("gray", "gray16le"), 3: ("rgb24", "rgb48le"), 4: ("rgba", "rgba64le")}
    return names[channels][pixels.dtype == np.uint16]

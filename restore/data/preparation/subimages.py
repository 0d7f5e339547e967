"""Large images cut into overlapping pieces, so that a training patch costs the decoding of one piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from restore.data.augment import Crop
from restore.errors import OutputError, RestoreError
from restore.images import read_image, write_image
from restore.jobs import Job

__all__ = ["Cut", "cut_each", "cut_image", "pieces"]


@dataclass(frozen=True)
class Cut:
    """What became of an image.

    Attributes:
        job: the image, and the folder of its pieces.
        num_pieces: how many there are.
        error: why there are none.
    """

    job: Job
    num_pieces: int = 0
    error: str | None = None


def cut_each(paths: Sequence[Path], folder: Path, *, num_workers: int = 4, **settings: Any) -> Iterator[Cut]:
    """Cut images with the settings of `cut_image`; one that cannot be cut does not stop the others.

    Raises:
        OutputError: nothing more can be written.
    """

    def cut(job: Job) -> Cut:
        try:
            return Cut(job, cut_image(job.source, job.target, **settings))
        except OutputError:
            raise
        except RestoreError as error:
            return Cut(job, error=str(error))

    with ThreadPoolExecutor(num_workers) as pool:
        futures = [pool.submit(cut, Job(path, folder)) for path in paths]
        try:
            for future in futures:
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def pieces(height: int, width: int, *, size: int = 480, step: int = 240, threshold: int = 0) -> Iterator[Crop]:
    """The pieces of an image from left to right and top to bottom, as BasicSR's script cuts them.

    Args:
        height, width: size of the image; a side shorter than `size` stays whole.
        size: side of a piece.
        step: distance of two neighbours.
        threshold: a last piece, which reaches to the edge, is added where more than this would be left over.
    """
    for top in _starts(height, size, step, threshold):
        for left in _starts(width, size, step, threshold):
            yield Crop(top, left, min(size, height), min(size, width))


def cut_image(
    path: Path,
    folder: Path,
    *,
    size: int = 480,
    step: int = 240,
    threshold: int = 0,
    remove: str = "",
    name: str = "",
    crop_multiple: int = 1,
) -> int:
    """Write the pieces of an image as `STEM_s001.png` and so on; returns how many there are.

    Args:
        path: the image.
        folder: where the pieces go.
        size, step, threshold: see `pieces`.
        remove: ending of the stem to leave out, such as `x4`, so that pieces of inputs and references have one name.
        name: what to call the image in place of its stem.
        crop_multiple: the image is first cropped, at the bottom and right, to a multiple of this.
    """
    pixels: np.ndarray = read_image(path).pixels
    stem = name or path.stem.removesuffix(remove)
    height, width = (side // crop_multiple * crop_multiple for side in pixels.shape[:2])
    count = 0
    for count, piece in enumerate(pieces(height, width, size=size, step=step, threshold=threshold), start=1):
        write_image(folder / f"{stem}_s{count:03d}.png", np.ascontiguousarray(piece.of(pixels)))
    return count


def _starts(length: int, size: int, step: int, threshold: int) -> list[int]:
    if length <= size:
        return [0]
    starts = list(range(0, length - size + 1, step))
    if length - (starts[-1] + size) > threshold:
        starts.append(length - size)
    return starts

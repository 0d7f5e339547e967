"""Makes a dataset ready for training: inputs by MATLAB's bicubic reduction, sub-images, lmdb databases.

OUT/LR_bicubic/X4/babyx4.png                   inputs, named as in the benchmarks
OUT/HR_sub/0001_s001.png                       pieces of the references; the pieces of the inputs have the same names:
OUT/LR_bicubic/X4_sub/0001_s001.png
OUT/HR_sub.lmdb, OUT/LR_bicubic_X4_sub.lmdb    BasicSR's databases

Files appear whole or not at all, and what is there and newer than its origin is not made again: the same command goes
on after an interruption.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from restore.data.preparation.subimages import cut_image, pieces
from restore.data.storage.databases import read_keys, write_database
from restore.errors import ImageError, OptionsError, OutputError
from restore.files import atomic_write
from restore.images import read_image, read_size, resize_pixels, write_image

__all__ = ["Cutting", "cut_images", "make_inputs", "write_lmdb"]

Files = Mapping[str, Path]
Progress = Callable[[], None]


@dataclass(frozen=True)
class Cutting:
    """How references are cut into pieces, such that the pieces of their inputs show the same.

    Attributes:
        size: side of a piece of a reference in pixels.
        step: distance of two neighbours.
        scales: of the inputs; references are cropped to a multiple of all of them.

    Raises:
        OptionsError: a scale does not divide the size or the step.
    """

    size: int = 480
    step: int = 240
    scales: tuple[int, ...] = ()

    def __post_init__(self):
        for scale in (1, *self.scales):
            for name, value in (("--size", self.size), ("--step", self.step)):
                if value < 1 or value % scale:
                    raise OptionsError(f"{name} is {value}: it must be a positive multiple of the scale {scale}.")

    def settings(self, scale: int = 1) -> dict[str, int]:
        """Arguments of `cut_image` for references (scale 1) or inputs."""
        multiple = math.lcm(1, *self.scales)
        return {"size": self.size // scale, "step": self.step // scale, "crop_multiple": multiple // scale}


def make_inputs(
    references: Files, folder: Path, scale: int, *, num_workers: int = 4, on_progress: Progress = lambda: None
) -> dict[str, Path]:
    """Reduce every reference by `scale` into `folder/NAMExSCALE.png`; returns these paths under the same names.

    A reference is first cropped, at its bottom and right, to a multiple of `scale`.

    Raises:
        ImageError: a reference cannot be read, or is smaller than `scale`.
        OutputError: the folder cannot be written.
    """
    targets = {name: folder / f"{name}x{scale}.png" for name in references}

    def make(name: str) -> None:
        if not _is_newer(targets[name], references[name]):
            _reduce(references[name], targets[name], scale)
        on_progress()

    _each(make, references, num_workers)
    return targets


def cut_images(
    files: Files,
    folder: Path,
    *,
    size: int,
    step: int,
    crop_multiple: int = 1,
    num_workers: int = 4,
    on_progress: Progress = lambda: None,
) -> dict[str, Path]:
    """Cut every image into pieces `folder/NAME_s001.png` and so on; returns the pieces by name.

    Raises:
        ImageError: an image cannot be read.
        OutputError: the folder cannot be written, or holds pieces of another size, step or crop.
    """
    settings = {"size": size, "step": step, "crop_multiple": crop_multiple}
    _claim(folder, settings)

    def cut(name: str) -> list[str]:
        path = files[name]
        made = _piece_names(name, path, size, step, crop_multiple)
        if not all(_is_newer(folder / f"{piece}.png", path) for piece in made):
            cut_image(path, folder, name=name, **settings)
        on_progress()
        return made

    return {piece: folder / f"{piece}.png" for names in _each(cut, files, num_workers) for piece in names}


def write_lmdb(files: Files, path: Path, *, num_workers: int = 4, on_progress: Progress = lambda: None) -> bool:
    """Write a database of these images unless it is there; returns whether it was written.

    Raises:
        OutputError: the database is there with other images, or is older than one of these.
        ImageError: an image cannot be read.
        DataError: a name cannot be a key.
    """
    if path.exists():
        if set(read_keys(path)) != set(files):
            raise OutputError(f"{path} holds other images: remove it, or choose another --output.")
        written = (path / "data.mdb").stat().st_mtime_ns
        if any(file.stat().st_mtime_ns > written for file in files.values()):
            raise OutputError(f"{path} is older than its images: remove it, and run the same command again.")
        return False
    images = [(name, partial(lambda file: read_image(file).pixels, file)) for name, file in files.items()]
    write_database(images, path, num_workers=num_workers, on_progress=on_progress)
    return True


def _reduce(reference: Path, target: Path, scale: int) -> None:
    pixels = read_image(reference).pixels
    height, width = (side // scale for side in pixels.shape[:2])
    if not height or not width:
        raise ImageError(
            f"'{reference}' is {pixels.shape[1]}x{pixels.shape[0]}: too small to be reduced {scale} times."
        )
    write_image(target, resize_pixels(pixels[: height * scale, : width * scale], size=(height, width)))


def _piece_names(name: str, path: Path, size: int, step: int, crop_multiple: int) -> list[str]:
    height, width = (side // crop_multiple * crop_multiple for side in read_size(path))
    if not height or not width:
        raise ImageError(f"'{path}' is too small to be cropped to a multiple of {crop_multiple} pixels.")
    count = sum(1 for _ in pieces(height, width, size=size, step=step))
    return [f"{name}_s{number:03d}" for number in range(1, count + 1)]


def _claim(folder: Path, settings: dict[str, int]) -> None:
    """Note how a folder's pieces are cut; refuse one whose pieces are cut in another way."""
    note = folder / "subimages.json"
    if not note.is_file():
        with atomic_write(note) as file:
            file.write(json.dumps(settings).encode())
        return
    found = json.loads(note.read_text(encoding="utf-8"))
    if found != settings:
        raise OutputError(
            f"{folder} holds pieces cut with {found}, not {settings}: remove it, or choose another --output."
        )


def _is_newer(made: Path, origin: Path) -> bool:
    try:
        return made.stat().st_mtime_ns >= origin.stat().st_mtime_ns
    except FileNotFoundError:
        return False


def _each(work: Callable, names: Sequence[str] | Files, num_workers: int) -> list:
    """Results of `work` in order; the first failure stops what has not begun."""
    with ThreadPoolExecutor(num_workers) as pool:
        futures = [pool.submit(work, name) for name in names]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise

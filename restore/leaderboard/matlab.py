"""The MATLAB files of two benchmarks: reading what is to be denoised, writing what their servers take.

SIDD (sRGB): BenchmarkNoisyBlocksSrgb.mat holds (40, 32, 256, 256, 3) uint8; SubmitSrgb.mat holds `DenoisedBlocksSrgb`,
a 40 x 32 cell of blocks, `TimeMPSrgb`, seconds per megapixel (1024 x 1024), and `OptionalData`.

DND (sRGB): info.mat has the bounding boxes of twenty crops of each of the fifty images images_srgb/0001.mat ...
(`InoisySRGB`, HDF5); the submission is 0001.mat ... 0050.mat, each with `Idenoised`, a cell of twenty crops in [0, 1],
`israw` and `eval_version`.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from restore.data.storage.matfile import read_mat
from restore.errors import DataError, MissingError, RestoreError
from restore.files import atomic_write
from restore.images import read_image, write_image
from restore.inference import Restorer
from restore.leaderboard.archive import Package
from restore.leaderboard.checking import name_problems
from restore.leaderboard.tasks import Records, Task
from restore.terminal import one_line

__all__ = ["DND_CROPS", "SIDD_FILE", "DndTask", "SiddTask", "read_blocks", "read_crops"]

SIDD_FILE = "SubmitSrgb.mat"
DND_CROPS = "Idenoised"
DND_VERSION = "1.0"
MEGAPIXEL = 1024 * 1024
_BLOCKS = ("BenchmarkNoisyBlocksSrgb", "ValidationNoisyBlocksSrgb", "ValidationGtBlocksSrgb", "DenoisedBlocksSrgb")


class SiddTask(Task):
    """Denoises the blocks of the SIDD benchmark.

    Args:
        restorer: the model.
        source: BenchmarkNoisyBlocksSrgb.mat, or a file of the same layout.
        output: folder of the denoised blocks, as PNG.
        method: what the server shows as the name of the method.
    """

    def __init__(self, restorer: Restorer, source: Path, output: Path, method: str = ""):
        _require_same_size(restorer)
        self._restorer, self._output, self._method = restorer, output, method
        self._noisy = read_blocks(_content(source), str(source))
        if self._noisy.dtype != np.uint8:
            raise DataError(
                f"{source} holds {self._noisy.dtype}: the benchmark's blocks are uint8. Save them as uint8."
            )
        images, blocks = self._noisy.shape[:2]
        self._places = {f"{i:02}_{b:02}": (i, b) for i in range(images) for b in range(blocks)}
        self.names = list(self._places)

    def do(self, name: str) -> dict[str, Any]:
        """Denoise a block."""
        block = self._restorer(np.ascontiguousarray(self._noisy[self._places[name]]))
        write_image(self._path(name), block)
        return {}

    def is_kept(self, name: str) -> bool:
        """Whether the block is there."""
        return self._path(name).is_file()

    def files(self, records: Records) -> dict[str, Path | bytes]:
        """SubmitSrgb.mat."""
        cells = np.empty(self._noisy.shape[:2], dtype=object)
        for name, place in self._places.items():
            cells[place] = read_image(self._path(name)).pixels
        pixels = self._noisy.size / self._noisy.shape[-1]
        seconds = sum(record["network_s"] for record in records.values())
        content = {
            "DenoisedBlocksSrgb": cells,
            "TimeMPSrgb": seconds * MEGAPIXEL / pixels,
            "OptionalData": {"MethodName": self._method, "Authors": "", "PaperTitle": "", "Venue": ""},
        }
        return {SIDD_FILE: _mat(content)}

    def problems(self, package: Package) -> Iterator[str]:
        """The one file, and the shape, depth and number of its blocks."""
        yield from name_problems(package, [SIDD_FILE], readme=False)
        if SIDD_FILE in package.names:
            blocks = read_blocks(package.read(SIDD_FILE), SIDD_FILE)
            if blocks.shape != self._noisy.shape or blocks.dtype != np.uint8:
                yield f"{SIDD_FILE} holds {blocks.shape} of {blocks.dtype}; expected: {self._noisy.shape} of uint8"

    def _path(self, name: str) -> Path:
        return self._output / f"{name}.png"


class DndTask(Task):
    """Denoises the crops of the Darmstadt noise dataset.

    Args:
        restorer: the model.
        source: folder with info.mat and images_srgb/.
        output: folder of the denoised crops.
    """

    def __init__(self, restorer: Restorer, source: Path, output: Path):
        _require_same_size(restorer)
        self._restorer, self._source, self._output = restorer, source, output
        self._boxes = _dnd_boxes(source / "info.mat")
        self.names = [f"{i:04}_{k:02}" for i, boxes in self._boxes.items() for k in range(1, len(boxes) + 1)]
        self._image: tuple[int, np.ndarray] | None = None

    def do(self, name: str) -> dict[str, Any]:
        """Denoise a crop, in float."""
        restored = self._restorer(self._noisy(name))
        with atomic_write(self._path(name)) as file:
            np.save(file, restored)
        return {}

    def is_kept(self, name: str) -> bool:
        """Whether the crop is there."""
        return self._path(name).is_file()

    def files(self, records: Records) -> dict[str, Path | bytes]:
        """A file for each image, with its crops."""
        return {f"{i:04}.mat": self._bundle(i) for i in self._boxes}

    def problems(self, package: Package) -> Iterator[str]:
        """The files, and the number, sizes and values of their crops."""
        wanted = {f"{i:04}.mat": boxes for i, boxes in self._boxes.items()}
        yield from name_problems(package, wanted, readme=False)
        for name in sorted(package.names & set(wanted)):
            crops = read_crops(package.read(name), name)
            shapes = [(bottom - top, right - left, 3) for top, left, bottom, right in wanted[name]]
            if [crop.shape for crop in crops] != shapes:
                yield f"{name}: the crops are not of the sizes of the boxes"

    def _noisy(self, name: str) -> np.ndarray:
        number, crop = (int(part) for part in name.split("_"))
        if self._image is None or self._image[0] != number:
            path = self._source / "images_srgb" / f"{number:04}.mat"
            with _hdf5(path) as file:
                pixels = np.asarray(file["InoisySRGB"], dtype=np.float32).T
            if pixels.ndim != 3 or pixels.shape[2] != 3:
                raise DataError(f"{path} holds {pixels.shape}; expected (H, W, 3).")
            _require_pixels(pixels.clip(0, 1), str(path))
            self._image = number, pixels
        (top, left, bottom, right), pixels = self._boxes[number][crop - 1], self._image[1]
        if not (0 <= top < bottom <= pixels.shape[0] and 0 <= left < right <= pixels.shape[1]):
            raise DataError(
                f"{self._source / 'info.mat'}: crop {crop} of image {number} is rows {top + 1} to {bottom}, columns "
                f"{left + 1} to {right}, beyond the {pixels.shape[0]} x {pixels.shape[1]} px of the image."
            )
        return np.ascontiguousarray(pixels[top:bottom, left:right]).clip(0, 1)

    def _bundle(self, number: int) -> bytes:
        cells = np.empty(len(self._boxes[number]), dtype=object)
        for k in range(len(cells)):
            cells[k] = np.load(self._path(f"{number:04}_{k + 1:02}"))
        return _mat({DND_CROPS: cells, "israw": False, "eval_version": DND_VERSION})

    def _path(self, name: str) -> Path:
        return self._output / f"{name}.npy"


def read_blocks(data: bytes, what: str) -> np.ndarray:
    """The blocks of a SIDD file, (images, blocks, H, W, 3), from an array or a cell of blocks.

    They are uint8, or as somebody's program may write them, float in [0, 1].

    Raises:
        DataError: it is not such a file, or it holds other values.
    """
    content = read_mat(data, what)
    found = next((content[key] for key in _BLOCKS if key in content), None)
    if found is None:
        raise DataError(f"{what} holds none of {', '.join(_BLOCKS)}.")
    if found.dtype == object:
        blocks = [block for block in found.reshape(-1) if block is not None]
        if len({(block.shape, block.dtype) for block in blocks}) != 1 or len(blocks) != found.size:
            raise DataError(f"{what}: its blocks are not of one size and type.")
        found = np.stack(blocks).reshape(*found.shape, *blocks[0].shape)
    if found.ndim != 5 or found.shape[-1] != 3 or not found.size:
        raise DataError(f"{what} holds {found.shape}; expected (images, blocks, H, W, 3).")
    _require_pixels(found, what)
    return found


def read_crops(data: bytes, what: str) -> list[np.ndarray]:
    """The crops of one file of a DND submission, float64 in [0, 1].

    Raises:
        DataError: it is not such a file, or it holds other values.
    """
    content = read_mat(data, what)
    if DND_CROPS not in content or content[DND_CROPS].dtype != object:
        raise DataError(f"{what} holds no cell '{DND_CROPS}'.")
    crops = content[DND_CROPS].reshape(-1)
    for number, crop in enumerate(crops, 1):
        if crop is None or not crop.size or crop.dtype.kind not in "fiu":
            raise DataError(f"{what}: crop {number} is not an image.")
        _require_pixels(crop.astype(np.float64), f"{what}, crop {number}")
    return [crop.astype(np.float64) for crop in crops]


def _require_pixels(values: np.ndarray, what: str) -> None:
    """Refuse what no image has: values that are not finite, or outside the range of their type.

    Raises:
        DataError: says what is there.
    """
    if not values.size:
        raise DataError(f"{what} holds no pixels.")
    if values.dtype == np.uint8:
        return
    if values.dtype.kind != "f":
        raise DataError(f"{what} holds values of type {values.dtype}; expected uint8, or floats in [0, 1].")
    if not np.isfinite(values).all():
        raise DataError(f"{what} holds values that are not finite (NaN or infinity).")
    if values.min() < 0 or values.max() > 1:
        raise DataError(f"{what} holds values outside [0, 1]: from {values.min():.4g} to {values.max():.4g}.")


def _mat(content: dict[str, Any]) -> bytes:
    from scipy.io import savemat

    file = io.BytesIO()
    savemat(file, content, do_compression=True)
    return file.getvalue()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror or error}.") from error


@contextlib.contextmanager
def _hdf5(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError:
        raise MissingError("DND's files are HDF5: install h5py (pip install 'restore-toolkit[matlab]').") from None
    try:
        with h5py.File(path, "r") as file:
            yield file
    except RestoreError:
        raise
    except Exception as error:  # h5py and numpy raise a dozen kinds on damaged files
        raise DataError(f"cannot read '{path}' as a file of DND: {one_line(str(error))}") from error


def _dnd_boxes(path: Path) -> dict[int, list[tuple[int, int, int, int]]]:
    """Of each image: top, left, bottom, right of its crops, from 0, the ends outside."""
    with _hdf5(path) as file:
        info = file["info"]
        boxes = {}
        for number, reference in enumerate(info["boundingboxes"][0], 1):
            rows = np.asarray(file[reference]).T
            boxes[number] = [(int(r[0]) - 1, int(r[1]) - 1, int(r[2]), int(r[3])) for r in rows]
    return boxes


def _require_same_size(restorer: Restorer) -> None:
    if restorer.scale != 1:
        raise DataError(f"this track denoises, the model enlarges {restorer.scale} times.")

"""What each field of a sample is, and what cropping, flipping, resizing and batching do to each kind.

    fields = {"lq": "image", "labels": "label_map", "valid": "mask", "opinion": "number", "lq_path": "text"}

A dataset declares the fields of its training samples, an objective those that it needs. The kinds, in a sample and in
a batch on the device:

    image      (H, W, C) of uint8, uint16 or float32     (B, C, H, W) float32; whole numbers are scaled to [0, 1]
    label_map  (H, W) of whole numbers: classes          (B, H, W) int64, never scaled or interpolated
    mask       (H, W) of bool                            (B, 1, H, W) float32 of 0 and 1, never interpolated
    number     a number, or a row of N                   (B,) or (B, N): int64 where all are whole, else float32
    seed       a whole number below 2^63                 a list: a seed stays with the processor
    text       a string                                  a list
    boxes      (N, 5) float32: see below                 a list of (N, 5), on the device
    answer     tensors by name, or None                  tensors (B, ...), with the processor; or a list: who has one

A row of `boxes` is the number of a kind, and left, top, right and bottom in shares of the sides of the smallest map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from restore.data.augment import Crop, Symmetry
from restore.errors import DataError
from restore.images.resizing import resize_pixels

__all__ = ["Fields", "Kind", "batched", "cropped", "described", "grid_of", "maps_of", "on_device", "resized", "turned"]

Kind = Literal["image", "label_map", "mask", "number", "seed", "text", "boxes", "answer"]
Fields = Mapping[str, Kind]
Sample = Mapping[str, Any]


def described(fields: Fields) -> str:
    """The fields in words: `lq (image), lq_path (text)`."""
    return ", ".join(f"{name} ({kind})" for name, kind in fields.items()) or "nothing"


def maps_of(fields: Fields) -> list[str]:
    """The fields that have a height and a width."""
    return [name for name, kind in fields.items() if kind in ("image", "label_map", "mask")]


def grid_of(sample: Sample, fields: Fields) -> tuple[int, int]:
    """Height and width of the smallest map of a sample, in pixels: the grid that crops and sizes below refer to.

    Raises:
        DataError: the sample has no map.
    """
    sizes = [sample[name].shape[:2] for name in maps_of(fields)]
    if not sizes:
        raise DataError(f"a sample of {described(fields)} has no image, label map or mask to cut from.")
    return min(sizes)


def cropped(sample: Sample, fields: Fields, crop: Crop) -> dict[str, Any]:
    """The sample with the same part of every map.

    Args:
        sample: a sample.
        fields: what its fields are.
        crop: in pixels of the smallest map; of a map N times as large, N times the rectangle is taken.

    Raises:
        DataError: a map is not a whole multiple of the smallest one.
    """
    times = _multiples(sample, fields)
    height, width = grid_of(sample, fields)
    corner, part = np.float32([crop.left, crop.top] * 2), np.float32([crop.width, crop.height] * 2)

    def seen(rows: np.ndarray) -> np.ndarray:
        inside = ((rows[:, 1:] * np.float32([width, height] * 2) - corner) / part).clip(0, 1)
        left = (inside[:, 2:] > inside[:, :2]).all(axis=1)
        return np.concatenate([rows[:, :1], inside], axis=1)[left]

    return _changed(sample, fields, lambda name, value: crop.scaled(times[name]).of(value), seen)


def turned(sample: Sample, fields: Fields, symmetry: Symmetry) -> dict[str, Any]:
    """The sample with every map and box mirrored and transposed in the same way."""

    def seen(rows: np.ndarray) -> np.ndarray:
        kinds, (left, top, right, bottom) = rows[:, 0], rows[:, 1:].T
        left, right = (1 - right, 1 - left) if symmetry.mirror else (left, right)
        top, bottom = (1 - bottom, 1 - top) if symmetry.flip else (top, bottom)
        sides = (top, left, bottom, right) if symmetry.transpose else (left, top, right, bottom)
        return np.stack([kinds, *sides], axis=1)

    return _changed(sample, fields, lambda _, value: symmetry.of(value), seen)


def resized(sample: Sample, fields: Fields, size: tuple[int, int]) -> dict[str, Any]:
    """The sample with other map sizes: images by antialiased cubic interpolation, label maps and masks by the nearest.

    Args:
        sample: a sample.
        fields: what its fields are.
        size: height and width of the smallest map afterwards; a map N times as large stays so.

    Raises:
        DataError: a map is not a whole multiple of the smallest one.
    """
    times = _multiples(sample, fields)

    def resize(name: str, value: np.ndarray) -> np.ndarray:
        wanted = tuple(side * times[name] for side in size)
        if value.shape[:2] == wanted:
            return value
        if fields[name] == "image":
            return resize_pixels(value, size=wanted).reshape(*wanted, value.shape[2])
        return _nearest(value, wanted)

    return _changed(sample, fields, resize)


def batched(samples: Sequence[Sample], fields: Fields) -> dict[str, Any]:
    """One batch of samples, still in the depth that they are stored in.

    Raises:
        DataError: a field is missing, not declared, not of its kind, or of different sizes.
    """
    for sample in samples:
        if sample.keys() != fields.keys():
            given = ", ".join(sample)
            raise DataError(f"a sample has the fields {given}; its dataset declares {described(fields)}.")
    return {name: _BATCHED[kind](name, [sample[name] for sample in samples]) for name, kind in fields.items()}


def on_device(
    batch: Mapping[str, Any], fields: Fields, device: torch.device, *, channels_last: bool = False
) -> dict[str, Any]:
    """A batch on `device`, as the legend of this module has it; images contiguous or channels-last."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    moved = dict(batch)
    for name, kind in fields.items():
        if kind == "image":
            moved[name] = _image_on(batch[name], device, memory_format)
        elif kind in ("label_map", "number"):
            whole = not batch[name].is_floating_point()
            moved[name] = batch[name].to(device, non_blocking=True).to(torch.int64 if whole else torch.float32)
        elif kind == "mask":
            moved[name] = batch[name].to(device, non_blocking=True).to(torch.float32)
        elif kind == "boxes":
            moved[name] = [rows.to(device, non_blocking=True) for rows in batch[name]]
    return moved


def _changed(
    sample: Sample,
    fields: Fields,
    change: Callable[[str, np.ndarray], np.ndarray],
    of_boxes: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, Any]:
    boxes = [name for name, kind in fields.items() if kind == "boxes"] if of_boxes else []
    moved = {name: of_boxes(sample[name]) for name in boxes} if of_boxes else {}
    return {**sample, **{name: change(name, sample[name]) for name in maps_of(fields)}, **moved}


def _multiples(sample: Sample, fields: Fields) -> dict[str, int]:
    """How many times as large as the smallest map each map is; what a whole multiple leaves over does not count."""
    height, width = grid_of(sample, fields)
    found = {}
    for name in maps_of(fields):
        rows, columns = sample[name].shape[:2]
        if rows // height != columns // width:
            raise DataError(f"{name} is {columns}x{rows}, not a multiple of the smallest map of {width}x{height}.")
        found[name] = rows // height
    return found


def _nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The value whose pixel holds the centre of each new pixel."""
    rows, columns = (
        ((np.arange(new) + 0.5) * (old / new)).astype(np.intp) for new, old in zip(size, values.shape, strict=False)
    )
    return values[rows[:, None], columns]


def _images(name: str, values: list[Any]) -> Tensor:
    _require(name, values, "an image (H, W, C) of uint8, uint16 or float32", 3, ("uint8", "uint16", "float32"))
    if len({value.dtype for value in values}) > 1:
        values = [_as_float32(value) for value in values]
    return torch.from_numpy(np.stack(values)).permute(0, 3, 1, 2)


def _label_maps(name: str, values: list[Any]) -> Tensor:
    _require(name, values, "a label map (H, W) of whole numbers", 2, _WHOLE)
    stacked = np.stack(values)
    wide = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}.get(str(stacked.dtype))
    return torch.from_numpy(stacked if wide is None else stacked.astype(wide))


def _masks(name: str, values: list[Any]) -> Tensor:
    _require(name, values, "a mask (H, W) of true and false", 2, ("bool",))
    return torch.from_numpy(np.stack(values))[:, None]


def _numbers(name: str, values: list[Any]) -> Tensor:
    try:
        numbers = np.array([np.asarray(value) for value in values])
    except ValueError:
        raise DataError(f"field '{name}' has rows of different lengths in one batch.") from None
    if numbers.dtype.kind not in "biuf" or numbers.ndim > 2:
        wrong = next((each for each in values if np.asarray(each).dtype.kind not in "biuf"), values[0])
        raise DataError(f"field '{name}' is declared as a number, or a row of them; given: {wrong!r}.")
    return torch.from_numpy(numbers.astype(np.float32 if numbers.dtype.kind == "f" else np.int64))


def _boxes(name: str, values: list[Any]) -> list[Tensor]:
    for value in values:
        if not isinstance(value, np.ndarray) or value.ndim != 2 or value.shape[1] != 5 or value.dtype != np.float32:
            shown = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else repr(value)
            raise DataError(f"field '{name}' is declared as boxes (N, 5) of float32; given: {shown}.")
    return [torch.from_numpy(np.ascontiguousarray(value)) for value in values]


def _answers(name: str, values: list[Any]) -> Any:
    if any(value is None for value in values):
        return [value is not None for value in values]
    return {part: torch.stack([value[part] for value in values]) for part in values[0]}


def _listed(name: str, values: list[Any]) -> list[Any]:
    return values


_WHOLE = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
_BATCHED: dict[str, Callable[[str, list[Any]], Any]] = {
    "image": _images,
    "label_map": _label_maps,
    "mask": _masks,
    "number": _numbers,
    "seed": _listed,
    "text": _listed,
    "boxes": _boxes,
    "answer": _answers,
}


def _require(name: str, values: Sequence[Any], wanted: str, ndim: int, dtypes: Sequence[str]) -> None:
    for value in values:
        if not isinstance(value, np.ndarray) or value.ndim != ndim or str(value.dtype) not in dtypes:
            shown = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else repr(value)
            raise DataError(f"field '{name}' is declared as {wanted}; given: {shown}.")
    shapes = list(dict.fromkeys(value.shape for value in values))
    if len(shapes) > 1:
        raise DataError(
            f"field '{name}' has different sizes in one batch: {', '.join(map(str, shapes))}. Cut parts of one size "
            "(gt_size or crop_px), or set batch_size_per_gpu: 1."
        )


def _as_float32(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.float32:
        return pixels
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def _image_on(images: Tensor, device: torch.device, memory_format: torch.memory_format) -> Tensor:
    top = 1 if images.is_floating_point() else torch.iinfo(images.dtype).max
    images = images.to(device, non_blocking=True).contiguous(memory_format=memory_format).to(torch.float32)
    return images if top == 1 else images.div_(top)

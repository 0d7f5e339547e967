"""Photographs on which a recipe pastes defects, with a box around each: what detectors of defects learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from restore.data.datasets import Cache, Color, Roots, Storage  # noqa: F401 - of inherited fields
from restore.data.degraded import SharpImageDataset, load_recipe
from restore.data.fields import Fields
from restore.data.sampling import Draw
from restore.degradations import Label, pasted, sample_seed
from restore.detection import KINDS
from restore.errors import DataError
from restore.images import to_pixels, to_tensor
from restore.registry import DATASETS

__all__ = ["DefectDataset", "boxes_of"]


@DATASETS.add()
@dataclass(eq=False)
class DefectDataset(SharpImageDataset):
    """Photographs with pasted defects and their boxes; in training patches, in validation whole, always the same ones.

    Boxes of the smallest defects are too tight to be found to the pixel or to be looked at: they are widened.

    Args:
        recipe: name of a degradation recipe with defects, or path of a YAML file; it must keep the size.
        variables: values for its variables.
        kinds: which defects are labelled, in the order of the detector; None for all.
        min_box_px: least side of a box.
        seed: of whole images.
        max_images: take no more than this many photographs, evenly spread over the sorted files.
    """

    fields: ClassVar[Fields] = {"image": "image", "boxes": "boxes", "image_path": "text"}

    recipe: str = "defects"
    variables: dict[str, Any] | None = None
    kinds: Sequence[str] | None = None
    min_box_px: int = 16
    seed: int = 0
    max_images: int | None = None

    def __post_init__(self):
        super().__post_init__()
        self.kinds = list(self.kinds or KINDS)
        self.pipeline = load_recipe(self.recipe, self.scale, self.variables)
        count = len(self.gt)
        few = count if self.max_images is None else min(self.max_images, count)
        self.chosen = [number * count // few for number in range(few)]

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, item: int | Draw) -> dict[str, Any]:
        if isinstance(item, Draw):
            item = item._replace(index=self.chosen[item.index])
            path, (sharp, seed) = self.gt.name(item.index), self.sharp_patch(item)
        else:
            path = self.gt.name(self.chosen[item])
            sharp, seed = self.channels(self.gt.read(self.chosen[item])), sample_seed(self.seed, Path(path).stem, 0)
        size = (sharp.shape[0], sharp.shape[1])
        x_CHW = to_tensor(np.ascontiguousarray(sharp))[0]
        image_CHW, labels = pasted(x_CHW, self.pipeline.operators(seed, size))
        if image_CHW.shape != x_CHW.shape:
            raise DataError(f"dataset '{self.name}': the recipe {self.recipe} changes the size, so boxes do not fit.")
        pixels = to_pixels(image_CHW[None].clamp(0, 1), np.uint8)
        return {
            "image": pixels if pixels.ndim == 3 else pixels[..., None],
            "boxes": boxes_of(labels, size, self.kinds, self.min_box_px),
            "image_path": path,
        }


def boxes_of(labels: Sequence[Label], size: tuple[int, int], kinds: Sequence[str], min_px: int) -> np.ndarray:
    """The field `boxes` (N, 5) of labels in pixels: see `restore.data.fields`.

    Args:
        labels: of other kinds are left out.
        size: height and width of the image.
        kinds: their names, by number.
        min_px: least side of a box; it is widened about its middle, and moved into the image where it leaves it.
    """
    rows = []
    for kind, (left, top, right, bottom) in labels:
        if kind in kinds:
            x0, x1 = _widened(left, right, min_px, size[1])
            y0, y1 = _widened(top, bottom, min_px, size[0])
            rows.append([kinds.index(kind), x0 / size[1], y0 / size[0], x1 / size[1], y1 / size[0]])
    return np.array(rows, np.float32).reshape(-1, 5)


def _widened(low: float, high: float, least: int, side: int) -> tuple[float, float]:
    """An interval of at least this length, inside 0 to `side`."""
    missing = max(min(least, side) - (high - low), 0) / 2
    low, high = low - missing, high + missing
    shift = max(-low, 0) - max(high - side, 0)
    return low + shift, high + shift

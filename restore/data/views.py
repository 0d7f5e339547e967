"""Two or more views of one image: what contrastive learning, self-distillation and instance discrimination compare.

    datasets:
      train:
        name: views
        type: MultiViewDataset
        dataset: {type: SingleImageDataset, dataroot_lq: photographs}
        views:
          - {crop_px: 96, zoom: [0.5, 1], use_hflip: true}
          - {crop_px: 96, zoom: [0.5, 1], use_hflip: true, recipe: bsrgan}

gives batches of `lq_1`, `lq_2` and `lq_path`. All randomness of a view follows from the seed of the run, the sample's
position in it and the number of the view.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pydantic
from torch.utils.data import Dataset

from restore.data.augment import Crop, Symmetry, random_crop
from restore.data.datasets import Color
from restore.data.degraded import load_recipe
from restore.data.fields import Fields, cropped, described, grid_of, maps_of, resized, turned
from restore.data.inner import inner_dataset
from restore.data.sampling import Draw, generator
from restore.degradations import Pipeline, sample_seed
from restore.errors import DataError
from restore.images import to_pixels, to_tensor
from restore.registry import DATASETS, DatasetOption

__all__ = ["MultiViewDataset", "View"]

_DEGRADED = ("lq", "image")


class View(pydantic.BaseModel, extra="forbid"):
    """How one view is made of an image and of all other maps of its sample.

    Attributes:
        crop_px: side of the view in pixels (of the smallest map, where a reference is larger); None for the whole.
        zoom: smallest and largest factor by which the part is enlarged; below 1 the view shows more of the image.
        use_hflip: mirror at random.
        use_rot: flip and transpose at random.
        recipe: what degrades the view's `lq` or `image`: a name such as `bsrgan`, or the path of a YAML file.
        variables: values for the variables of the recipe.
    """

    crop_px: pydantic.PositiveInt | None = None
    zoom: tuple[pydantic.PositiveFloat, pydantic.PositiveFloat] = (1.0, 1.0)
    use_hflip: bool = False
    use_rot: bool = False
    recipe: str | None = None
    variables: dict[str, Any] | None = None
    _pipeline: Pipeline | None = None

    @pydantic.model_validator(mode="after")
    def _check(self) -> View:
        if self.zoom[0] > self.zoom[1]:
            raise ValueError("zoom holds the smallest and the largest factor")
        if self.crop_px is None and self.zoom != (1.0, 1.0):
            raise ValueError("zoom needs crop_px, the side of the view")
        self._pipeline = None if self.recipe is None else load_recipe(self.recipe, 1, self.variables)
        return self

    @property
    def degrades(self) -> bool:
        """Whether it has a recipe."""
        return self._pipeline is not None

    def part(self, sample: Mapping[str, Any], fields: Fields, random: np.random.Generator) -> dict[str, Any]:
        """A random part of a sample, turned at random.

        Raises:
            DataError: the image is smaller than the part.
        """
        height, width = grid_of(sample, fields)
        side = None if self.crop_px is None else round(self.crop_px / random.uniform(*self.zoom))
        if side is not None:
            if side > min(height, width):
                raise DataError(
                    f"an image of {width}x{height} is smaller than a view of {side}x{side} (crop_px {self.crop_px}, "
                    f"zoom {list(self.zoom)})."
                )
            crop: Crop = random_crop(random, height, width, side)
            sample = resized(cropped(sample, fields, crop), fields, (self.crop_px, self.crop_px))
        return turned(sample, fields, Symmetry.draw(random, mirror=self.use_hflip, rotate=self.use_rot))

    def degraded(self, pixels: np.ndarray, seed: int) -> np.ndarray:
        """The image (H, W, C) as the recipe leaves it, in uint8, or in float32 where the recipe does not round."""
        x_BCHW = self._pipeline(to_tensor(np.ascontiguousarray(pixels)), [seed])["lq"]
        if self._pipeline.round:
            return to_pixels(x_BCHW, np.uint8).reshape(pixels.shape)
        return x_BCHW[0].permute(1, 2, 0).numpy()


@DATASETS.add()
class MultiViewDataset(Dataset):
    """Several views of every sample of another dataset; fields of view K end in `_K`, counted from 1.

    Numbers and text stand once. A dataset whose training samples are patches is given the `gt_size` of the part that
    the views are cut from.

    Args:
        dataset: what the views are of: `{type: SingleImageDataset, dataroot_lq: photographs}`.
        views: how each view is made.
        same_place: whether all views show the same part, turned in the same way.
        name: name of the dataset, for messages.
        scale: of the dataset, where it does not give its own.
        color: channels of the dataset, where it does not give its own.

    Attributes:
        fields: those of the dataset, each map once for every view.

    Raises:
        OptionsError: with every mistake in the dataset's block.
        DataError: no views, or views of different sizes at the same place.
    """

    def __init__(
        self,
        dataset: DatasetOption,
        views: list[View],
        same_place: bool = False,
        *,
        name: str = "train",
        scale: int = 1,
        color: Color | None = None,
    ):
        if not views:
            raise DataError(f"dataset '{name}': it has no views.")
        if same_place and len({(view.crop_px, view.zoom, view.use_hflip, view.use_rot) for view in views}) > 1:
            raise DataError(f"dataset '{name}': views at the same place have one crop_px, zoom, use_hflip and use_rot.")
        self.name = name
        self.views = views
        self.same_place = same_place
        self.dataset = inner_dataset(dataset, "dataset", {"name": name}, {"scale": scale, "color": color})
        given, self._maps = self.dataset.fields, maps_of(self.dataset.fields)
        if any(view.degrades for view in views) and not set(_DEGRADED) & set(self._maps):
            raise DataError(f"dataset '{name}': a recipe degrades {' or '.join(_DEGRADED)}; given: {described(given)}.")
        self.fields: Fields = {
            **{f"{field}_{number}": given[field] for number in range(1, len(views) + 1) for field in self._maps},
            **{field: kind for field, kind in given.items() if field not in self._maps},
        }

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        whole = self.dataset[draw]
        sample = {field: value for field, value in whole.items() if field not in self._maps}
        for number, view in enumerate(self.views, start=1):
            random = generator(draw.seed, draw.position, 1 if self.same_place else number)
            try:
                part = view.part(whole, self.dataset.fields, random)
            except DataError as error:
                path = next((whole[field] for field in whole if field.endswith("_path")), f"sample {draw.index}")
                raise DataError(f"dataset '{self.name}': {path}: {error}") from None
            if view.degrades:
                field = next(field for field in _DEGRADED if field in self._maps)
                part[field] = view.degraded(part[field], sample_seed(draw.seed, draw.position, number))
            sample |= {f"{field}_{number}": part[field] for field in self._maps}
        return sample

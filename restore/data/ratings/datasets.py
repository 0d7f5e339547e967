"""Rated images for quality models: what their datasets have in common, and the published ones.

A sample holds `image` and, where there is one, `reference` (H, W, 3), `opinion` in [0, 1] with higher better,
`distribution` over five levels, and `image_path`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from restore.data.augment import Colours, Crop, Symmetry, random_crop
from restore.data.complaints import complain, is_gathering
from restore.data.fields import Fields
from restore.data.ratings.opinions import Opinion, read_opinions
from restore.data.ratings.splits import split_scenes
from restore.data.sampling import Draw, generator
from restore.data.storage.sources import channels_of
from restore.errors import DataError
from restore.images import read_image, read_size
from restore.images.resizing import resize_pixels
from restore.registry import DATASETS

__all__ = ["RATED", "QualityDataset", "QualityImages"]

RATED: Fields = {"image": "image", "opinion": "number", "distribution": "number", "image_path": "text"}
"""The fields of every rated image."""


@dataclass(eq=False, kw_only=True)
class QualityImages:
    """Which part of an image a sample shows.

    Args:
        name: name of the dataset, for results and messages.
        crop_px: side of the crops, at random places in training and in the centre otherwise; None takes whole images.
        use_hflip: whether training images are flipped left to right at random.
        use_rot: whether training images are flipped upside down and transposed at random.
        use_colours: whether channels of training images change places and images become negatives, at random.
    """

    name: str = "quality"
    crop_px: int | None = None
    use_hflip: bool = False
    use_rot: bool = False
    use_colours: bool = False

    def seen(self, item: int | Draw, images: Sequence[np.ndarray], path: str) -> list[np.ndarray]:
        """The same part of images of one size, (H, W, 3), changed in the same way.

        Raises:
            DataError: they are smaller than the crop.
        """
        height, width = images[0].shape[:2]
        side = self.crop_px
        if side is not None and min(height, width) < side:
            raise DataError(f"dataset '{self.name}': {path} is {width}x{height}, smaller than crop_px {side}.")
        crop, symmetry, colours = Crop(0, 0, height, width), Symmetry(), Colours()
        if side is not None:
            crop = Crop((height - side) // 2, (width - side) // 2, side, side)
        if isinstance(item, Draw):
            random = generator(item.seed, item.position)
            crop = crop if side is None else random_crop(random, height, width, side)
            symmetry = Symmetry.draw(random, mirror=self.use_hflip, rotate=self.use_rot)
            colours = Colours.draw(random) if self.use_colours else Colours()
        views = [symmetry.of(crop.of(channels_of(image, "rgb"))) for image in images]
        return views if colours == Colours() else [colours.of(view) for view in views]


@DATASETS.add()
@dataclass(eq=False, kw_only=True)
class QualityDataset(QualityImages):
    """Published quality datasets, one or several together.

    Args:
        format: tid2013, kadid10k, koniq10k, live, live_itw, csiq, pipal or spaq; or a list of these.
        dataroot: the folder of each.
        listing: a list of ratings for each (see `restore.data.ratings.opinions`); None reads the datasets' own files.
        part: "train" and "test" share no scene; "all" takes everything.
        test_share: share of the scenes that is for testing.
        split_seed: which of the possible splits; repeat the training over several and give the median.
        zooms: every image is seen at each of these sizes; TRIQ trains on 1 and 0.5.
        unlabelled: "error" refuses images without a rating; "ignore" leaves them out.
        rating_scale: the values for the worst and the best opinion, where ratings are not on the dataset's own scale.

    Attributes:
        fields: what every sample holds; a `reference` if all images have one.
        opinions: what is in this part.
        scenes: for each sample what it shows; the parts share none.
        groups: for each sample, a name that it shares with those of the same size; None where crops are taken.

    Raises:
        DataError: something is missing, damaged or not rated; `format` and `dataroot` differ in length.
    """

    format: str | list[str]
    dataroot: str | list[str]
    listing: str | list[str] | None = None
    part: Literal["all", "train", "test"] = "all"
    test_share: float = 0.2
    split_seed: int = 0
    zooms: Sequence[float] = (1.0,)
    unlabelled: Literal["error", "ignore"] = "error"
    rating_scale: list[float] | None = None

    def __post_init__(self):
        formats, roots = _several(self.format), _several(self.dataroot)
        listings = _several(self.listing) if self.listing is not None else [None] * len(formats)
        if not len(formats) == len(roots) == len(listings):
            raise DataError(
                f"dataset '{self.name}': {len(formats)} format(s), {len(roots)} dataroot(s) and {len(listings)} "
                "listing(s); one of each belongs to a dataset."
            )
        if self.rating_scale is not None and (len(self.rating_scale) != 2 or len(set(self.rating_scale)) != 2):
            raise DataError(
                f"dataset '{self.name}': rating_scale is {self.rating_scale}; it is the worst and the best rating, "
                "such as [0, 100]."
            )
        self.opinions: list[Opinion] = []
        for format, root, listing in zip(formats, roots, listings, strict=True):
            try:
                opinions = read_opinions(
                    format, root, listing=listing, unlabelled=self.unlabelled, rating_scale=self.rating_scale
                )
            except DataError as error:
                complain(str(error))
            else:
                self.opinions += self._part(opinions)
        self.fields: Fields = (
            {**RATED, "reference": "image"} if all(each.reference for each in self.opinions) else RATED
        )
        self.scenes = [self._entry(index)[0].scene for index in range(len(self))]
        self.groups = self._groups() if self.crop_px is None and not is_gathering() else None

    def __len__(self) -> int:
        return len(self.opinions) * len(self.zooms)

    def __getitem__(self, item: int | Draw) -> dict[str, Any]:
        index = item.index if isinstance(item, Draw) else item
        opinion, zoom = self._entry(index)
        files = [opinion.image] + ([opinion.reference] if opinion.reference else [])
        images = [_zoomed(channels_of(read_image(path, unit=True).pixels, "rgb"), zoom) for path in files]
        if len({image.shape for image in images}) > 1:
            shapes = " and ".join(f"{image.shape[1]}x{image.shape[0]}" for image in images)
            raise DataError(f"dataset '{self.name}': {opinion.image} and its reference differ in size: {shapes}.")
        views = self.seen(item, images, str(opinion.image))
        shown = dict(zip(("image", "reference"), views, strict=False))
        if isinstance(item, Draw) and "reference" not in self.fields:  # other images of a batch lack it
            shown.pop("reference", None)
        return {
            **shown,
            "opinion": opinion.opinion,
            "distribution": opinion.distribution,
            "image_path": str(opinion.image),
        }

    def _part(self, opinions: list[Opinion]) -> list[Opinion]:
        if self.part == "all":
            return opinions
        train, test = split_scenes([each.scene for each in opinions], self.test_share, self.split_seed)
        return [opinions[index] for index in (train if self.part == "train" else test)]

    def _entry(self, index: int) -> tuple[Opinion, float]:
        number, zoom = divmod(index, len(self.zooms))
        return self.opinions[number], self.zooms[zoom]

    def _groups(self) -> list[str]:
        entries = (self._entry(index) for index in range(len(self)))
        sizes = {each.image: read_size(each.image) for each in self.opinions}
        has = {each.image: each.reference is not None for each in self.opinions}
        return [f"{sizes[each.image]} x {zoom} {'with' if has[each.image] else 'without'}" for each, zoom in entries]


def _several(values: str | list[str]) -> list[str]:
    return [values] if isinstance(values, str) else list(values)


def _zoomed(pixels: np.ndarray, zoom: float) -> np.ndarray:
    if zoom == 1:
        return pixels
    return resize_pixels(pixels, size=tuple(max(round(side * zoom), 1) for side in pixels.shape[:2]))

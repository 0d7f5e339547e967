"""People's opinions of images as quality datasets publish them, brought to one scale.

    opinions = read_opinions("kadid10k", "datasets/kadid10k")                    # the dataset as it is downloaded
    opinions = read_opinions("kadid10k", "datasets", listing="KADID-10k.txt")    # a list: dis_img_path,...,score

An opinion is in [0, 1] whatever the dataset's own scale, and higher is better: of datasets that publish differences
(DMOS of LIVE and CSIQ) it is one minus the scaled difference. A few values lie a little outside, as published.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from restore.data.complaints import complain
from restore.data.ratings.published import READERS, read_list
from restore.data.ratings.tables import Rating
from restore.errors import DataError, OptionsError, nearest
from restore.files import expanded
from restore.images import list_images

__all__ = ["FORMATS", "LEVELS", "SPREAD", "Format", "Opinion", "distribution_about", "read_opinions"]

LEVELS = np.arange(1, 6)
SPREAD = 0.5  # standard deviation in levels where a dataset publishes none
SCALES = ((0, 1), (1, 5), (0, 5), (0, 9), (0, 10), (0, 100))  # on which ratings are given
BEYOND = 0.15  # of a scale: LIVE's published differences end at 111.8 of 100
NARROW, ENOUGH = 0.12, 10  # a part of a scale in which so many ratings never lie by chance


@dataclass(frozen=True)
class Format:
    """A dataset and its scale.

    Attributes:
        title: its name.
        worst: the published value that stands for opinion 0.
        best: the published value that stands for opinion 1.
        has_reference: whether it publishes the undistorted images.
    """

    title: str
    worst: float
    best: float
    has_reference: bool = True


FORMATS = {
    "csiq": Format("CSIQ", 1, 0),
    "kadid10k": Format("KADID-10k", 1, 5),
    "koniq10k": Format("KonIQ-10k", 1, 5, has_reference=False),
    "live": Format("LIVE", 100, 0),
    "live_itw": Format("LIVE in the wild", 0, 100, has_reference=False),
    "pipal": Format("PIPAL", 900, 1850),
    "spaq": Format("SPAQ", 0, 100, has_reference=False),
    "tid2013": Format("TID2013", 0, 9),
}


@dataclass(frozen=True)
class Opinion:
    """What people think of an image.

    Attributes:
        image: its file.
        reference: the undistorted image, if there is one.
        kind: the distortion, as the dataset calls it.
        opinion: in [0, 1], higher is better.
        distribution: the shares of five levels.
    """

    image: Path
    reference: Path | None
    kind: str
    opinion: float
    distribution: np.ndarray

    @property
    def scene(self) -> str:
        """What images of one scene have in common: their reference, or the image itself."""
        path = self.reference or self.image
        return f"{path.parent}/{path.stem}".lower()


def read_opinions(
    format: str,
    root: str | Path,
    *,
    listing: str | Path | None = None,
    unlabelled: str = "error",
    rating_scale: Sequence[float] | None = None,
) -> list[Opinion]:
    """Every rated image of a dataset.

    Args:
        format: one of `FORMATS`.
        root: the dataset's folder, or the folder above it where a list names that too.
        listing: a list with the columns `dis_img_path`, `dis_type`, `score` and perhaps `ref_img_path`; None reads the
            dataset's own files.
        unlabelled: "error" refuses images that lie beside rated ones and have no rating; "ignore" leaves them out.
        rating_scale: the values that stand for the worst and the best opinion, where they are not the dataset's own.

    Raises:
        OptionsError: no such format.
        DataError: a list is missing or damaged, a rated image is not there, an image is not rated, or the ratings lie
            on another scale.
    """
    if format not in FORMATS:
        known = ", ".join(FORMATS)
        raise OptionsError(f"unknown quality dataset format '{format}'.{nearest(format, FORMATS)} Known: {known}.")
    root = expanded(root)
    if not root.is_dir():
        raise DataError(f"{FORMATS[format].title}: the folder {root} does not exist.")
    ratings = list(READERS[format](root) if listing is None else read_list(expanded(listing)))
    if not ratings:
        raise DataError(f"{FORMATS[format].title}: there are no ratings in {listing or root}.")
    scale = FORMATS[format]
    if rating_scale is not None:
        scale = replace(scale, worst=rating_scale[0], best=rating_scale[1])
    _require_scale(scale, [rating.value for rating in ratings], listing or root, is_given=rating_scale is not None)
    files = _Files(root)
    opinions = [_opinion(rating, scale, files) for rating in ratings]
    usable = _without_missing(format, root, ratings, opinions)
    if unlabelled == "error":
        _refuse_unlabelled(format, opinions)
    return usable


def distribution_about(opinion: float, spread: float = SPREAD) -> np.ndarray:
    """The shares of five levels, a Gaussian about `1 + 4 * opinion`; they sum to one.

    Args:
        opinion: in [0, 1].
        spread: standard deviation in levels.
    """
    exponents = -0.5 * ((LEVELS - 1 - 4 * opinion) / max(spread, 0.05)) ** 2
    shares = np.exp(exponents - exponents.max())
    return shares / shares.sum()


def _require_scale(format: Format, values: Sequence[float], source: str | Path, *, is_given: bool) -> None:
    """Refuse ratings that lie beside the scale they should be on, or in a corner of it, as those of another do.

    Raises:
        DataError: asks whether they are on the scale on which they fit.
    """
    lowest, highest = sorted((format.worst, format.best))
    least, most, span = min(values), max(values), highest - lowest
    beside = least < lowest - BEYOND * span or most > highest + BEYOND * span
    beside |= 4 * sum(not lowest <= value <= highest for value in values) > len(values)
    in_a_corner = not is_given and len(values) >= ENOUGH and most < lowest + NARROW * span
    if not math.isfinite(least + most) or not (beside or in_a_corner):
        return
    fitting = next(((low, high) for low, high in SCALES if low <= least and most <= high), None)
    ends = [*(fitting or (math.floor(least), math.ceil(most)))]
    given = ends[::-1] if format.worst > format.best else ends
    question = f"Are these ratings from {ends[0]} to {ends[1]}?" if fitting else "Is this another list?"
    raise DataError(
        f"{format.title}: the ratings in {source} are from {least:g} to {most:g}, and should be from {format.worst:g} "
        f"(worst) to {format.best:g} (best). {question} If so, write rating_scale: [{given[0]}, {given[1]}] (worst, "
        "best) in the dataset; if not, name the right list."
    )


def _opinion(rating: Rating, format: Format, files: _Files) -> Opinion:
    if not math.isfinite(rating.value):
        raise DataError(f"{format.title}: the rating of {rating.image} is {rating.value}.")
    opinion = (rating.value - format.worst) / (format.best - format.worst)
    if rating.votes is not None:
        shares = np.asarray(rating.votes, float)
        if shares.sum() <= 0 or (shares < 0).any():
            raise DataError(f"{format.title}: the votes for {rating.image} are {rating.votes}.")
        shares = shares / shares.sum()
    else:
        spread = SPREAD if rating.deviation is None else 4 * rating.deviation / abs(format.best - format.worst)
        shares = distribution_about(opinion, spread)
    reference = files.find(rating.reference) if rating.reference else None
    return Opinion(files.find(rating.image), reference, rating.kind, opinion, shares)


class _Files:
    """Finds files whose names differ from the published ones in case only, as TID2013's do."""

    def __init__(self, root: Path):
        self.root = root
        self._folders: dict[Path, dict[str, Path]] = {}

    def find(self, relative: str) -> Path:
        """The file, or where it should be if it is not there."""
        parts = Path(relative.strip()).parts
        for tail in (parts, parts[1:]):  # a list may begin with the dataset's own folder, and so may `root` end
            found = self._descend(tail) if tail else None
            if found is not None:
                return found
        return self.root.joinpath(*parts)

    def _descend(self, parts: tuple[str, ...]) -> Path | None:
        place = self.root
        for part in parts:
            if place not in self._folders:
                inside = place.iterdir() if place.is_dir() else ()
                self._folders[place] = {each.name.lower(): each for each in inside}
            place = self._folders[place].get(part.lower())
            if place is None:
                return None
        return place


def _without_missing(format: str, root: Path, ratings: list[Rating], opinions: list[Opinion]) -> list[Opinion]:
    """The opinions of which every file is there: all of them, unless what is wrong is being gathered."""
    title = FORMATS[format].title
    wanted = {path for each in opinions for path in (each.image, each.reference) if path is not None}
    missing = {path for path in wanted if not path.is_file()}
    if missing:
        named = sorted(map(str, missing))
        complain(
            f"{title}: {len(missing)} of {len(wanted)} files that have ratings are not in {root}. "
            f"The first: {', '.join(named[:3])}.",
            [f"{title}: {path} has a rating and does not exist." for path in named],
        )
    lonely = [rating.image for rating in ratings if rating.reference is None]
    if FORMATS[format].has_reference and lonely:
        complain(
            f"{title}: no reference is named for {lonely[0]} (and {len(lonely) - 1} more).",
            [f"{title}: no reference is named for {image}." for image in lonely],
        )
    return [each for each in opinions if not missing & {each.image, each.reference}]


def _refuse_unlabelled(format: str, opinions: list[Opinion]) -> None:
    rated = {each.image for each in opinions} | {each.reference for each in opinions}
    folders = sorted({each.image.parent for each in opinions})
    without = [path for folder in folders for path in list_images(folder) if path not in rated]
    if without:
        title = FORMATS[format].title
        complain(
            f"{title}: {len(without)} images have no rating. The first: "
            f"{', '.join(map(str, without[:3]))}. unlabelled: ignore leaves them out.",
            [f"{title}: {path} has no rating; unlabelled: ignore leaves it out." for path in without],
            without,
        )

"""A quality model over a dataset: one score for each image, beside what people think of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from restore.data.fields import Kind, batched, on_device
from restore.errors import ImageError
from restore.quality import QualityModel

__all__ = ["Judgement", "judgements"]


@dataclass(frozen=True)
class Judgement:
    """What a model says of an image and what people say.

    Attributes:
        image: its file.
        score: of the model, brought to the scale of opinions.
        opinion: in [0, 1], higher is better.
    """

    image: str
    score: float
    opinion: float


class Judged(Protocol):
    """A dataset for a quality model: samples with `image`, `opinion`, `image_path` and perhaps `reference`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


def judgements(model: QualityModel, dataset: Judged, indices: Iterable[int] | None = None) -> Iterator[Judgement]:
    """Judge the images of a dataset one by one.

    Args:
        model: the quality model.
        dataset: gives `image`, `opinion`, `image_path` and, where there is one, `reference`.
        indices: which of its images; None for all.

    Raises:
        ImageError: an image cannot be judged, or its score is not finite; names it.
    """
    device = next(model.parameters()).device
    worst, best = model.score_range
    for index in range(len(dataset)) if indices is None else indices:
        sample = dataset[index]
        shown: dict[str, Kind] = {key: "image" for key in ("image", "reference") if key in sample}
        batch = on_device(batched([{key: sample[key] for key in shown}], shown), shown, device)
        try:
            score = model.judge(batch["image"], batch.get("reference")).item()
            if not math.isfinite(score):
                raise ImageError(f"the model's score is {score}.")
        except ImageError as error:
            raise ImageError(f"{sample['image_path']}: {error}") from None
        yield Judgement(sample["image_path"], (score - worst) / (best - worst), float(sample["opinion"]))

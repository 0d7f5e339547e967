"""Degradation on the device: a batch of sharp images becomes one of pairs.

    preparations = [Degrading.from_options(options), Sharpening(("pixel", "perceptual"))]

What happens to an image follows from its seed (see `restore.data.degraded`). What a batch is mixed with follows from
the pool of pairs, which is part of the training state.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch

from restore.data.degraded import load_recipe
from restore.data.fields import Fields
from restore.data.loading import Batch
from restore.degradations import PairPool, Pipeline, crop_pairs, pipeline_from_options, sample_seed
from restore.degradations.operators.blur import Usm
from restore.degradations.recipe.basicsr import DATASET_DEFAULTS, TOP_DEFAULTS
from restore.errors import OptionsError, Problem
from restore.training.preparation import Preparation

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["Degrading", "Sharpening"]

_QUEUE_SIZE = 180


class Degrading(Preparation):
    """Degrades a batch, cuts the same patch out of inputs and references, and mixes the batch with earlier ones.

    Args:
        pipeline: the degradation.
        gt_px: side of the patch of the reference.
        pool: pairs of earlier batches.
    """

    needs: Fields = {"gt": "image", "seed": "seed"}  # noqa: RUF012
    gives: Fields = {"lq": "image", "gt": "image"}  # noqa: RUF012
    keeps_others = False

    def __init__(self, pipeline: Pipeline, gt_px: int, pool: PairPool):
        self.pipeline = pipeline
        self.gt_px = gt_px
        self.pool = pool

    @classmethod
    def from_options(cls, options: Options, *, sharpen: Literal["input", "both", "neither"] = "input") -> Degrading:
        """As an option file describes it: by the keys of Real-ESRGAN, or by the `recipe` of its dataset.

        Args:
            options: of the whole file.
            sharpen: see `pipeline_from_options`; a recipe sharpens as it says itself.

        Raises:
            OptionsError: with every mistake in these keys.
        """
        dataset = options.datasets["train"]
        problems = []
        if dataset.type != "RealESRGANDataset":
            message = (
                f"{options.model_type} degrades sharp images itself: give it a RealESRGANDataset, or set "
                f"high_order_degradation: false to train on the pairs of this {dataset.type}."
            )
            problems.append(Problem("datasets.train.type", message))
        gt_px = options.gt_size or dataset.gt_size
        if gt_px is None or gt_px % dataset.scale:
            message = f"must be a multiple of the scale {dataset.scale}; given: {gt_px}."
            problems.append(Problem("gt_size", "missing: the side of a training patch." if gt_px is None else message))
        if dataset.gt_sizes:
            message = "patches that are degraded on the device keep one size, gt_size: remove the progressive sizes."
            problems.append(Problem("datasets.train.gt_sizes", message))
        batch = dataset.batch_size_per_gpu
        capacity = options.queue_size or max(_QUEUE_SIZE // batch, 1) * batch
        if capacity % batch:
            near = max(capacity // batch, 1) * batch
            message = f"must be a multiple of the batch size {batch}: take {near} or {near + batch}; given: {capacity}."
            problems.append(Problem("queue_size", message))
        if problems:
            raise OptionsError(problems)
        return cls(_pipeline(options, sharpen), gt_px, PairPool(capacity))

    def __call__(self, batch: Batch) -> Batch:
        """Pairs of images: `lq` and `gt`; which files they are of is no longer known."""
        seeds = batch["seed"]
        pairs = self.pipeline(batch["gt"], seeds)
        places = [sample_seed(seed, "crop") for seed in seeds]
        lq, gt = crop_pairs(pairs["lq"], pairs["gt"], self.gt_px, self.pipeline.scale, places)
        exchange = torch.Generator().manual_seed(sample_seed(seeds[0], "pool"))
        return self.pool.exchange({"lq": lq, "gt": gt}, exchange)

    def state_dict(self) -> dict[str, Any]:
        """The pairs in the pool."""
        return self.pool.state_dict()

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take over the pairs in the pool, if there are any."""
        if state:
            self.pool.load_state_dict(state, device)


class Sharpening(Preparation):
    """References sharpened by unsharp masking, beside the original ones.

    Args:
        kinds: for which comparisons: pixel, perceptual, gan. A batch gets `gt_KIND` for each.
    """

    needs: Fields = {"gt": "image"}  # noqa: RUF012

    def __init__(self, kinds: Collection[str]):
        self.kinds = tuple(kinds)
        self.gives = {f"gt_{kind}": "image" for kind in self.kinds}

    def __call__(self, batch: Batch) -> Batch:
        """The batch with the sharpened references."""
        return batch | dict.fromkeys(self.gives, Usm()(batch["gt"]))


def _pipeline(options: Options, sharpen: Literal["input", "both", "neither"]) -> Pipeline:
    dataset = options.datasets["train"]
    top = {key: value for key, value in options.degradation.items() if key in TOP_DEFAULTS}
    blur = {key: value for key, value in dataset.block.items() if key in DATASET_DEFAULTS and value is not None}
    recipe = dataset.block.get("recipe")
    if recipe is None:
        return pipeline_from_options(top, blur, scale=dataset.scale, sharpen=sharpen)
    if top or blur:
        named = ", ".join([*top, *(f"datasets.train.{key}" for key in blur)])
        raise OptionsError([Problem("datasets.train.recipe", f"'{recipe}' stands in place of {named}: remove these.")])
    return load_recipe(recipe, dataset.scale, dataset.block.get("variables"))

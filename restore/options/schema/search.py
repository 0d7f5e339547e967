"""`search`: which networks `restore search` chooses from, and how."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from restore.options.schema.section import Probability, Section

__all__ = ["SearchOptions"]


class SearchOptions(Section):
    """Which networks `restore search` chooses from, and how; a training or test of this file leaves it aside."""

    space: dict[str, list[Any]] = {}
    """What to choose from, by argument of network_g: embed_dim, depths, mixers, feed_forward, mlp_ratio."""
    means: Literal["evolution", "paths"] = "evolution"
    """A supernet and evolution, or all mixers side by side, of which those that count for least are pruned."""
    sampling: Literal["sandwich", "single"] = "sandwich"
    """Which networks learn in a step: the largest, the smallest and others, or others alone; all are drawn."""
    num_drawn: PositiveInt = 1
    """How many networks are drawn in a step."""
    image_px: PositiveInt = 64
    """Side of the image, of the input, for which milliseconds are measured."""
    num_measured: PositiveInt = 200
    """How many networks are measured, from which milliseconds of others are predicted."""
    rounds: PositiveInt = 5
    """How often each is measured, all in turn; their medians count."""
    crop_px: PositiveInt | None = 64
    """Side of the middle of each image of val, of the input, that networks are compared on; null: the whole image."""
    max_images: PositiveInt | None = None
    """How many images of val networks are compared on; null: all."""
    generations: NonNegativeInt = 10
    """Generations of the evolution."""
    population: PositiveInt = 40
    """Networks in each generation."""
    parents: PositiveInt = 10
    """The best so far, from which half of a generation is mutated and half crossed."""
    mutation: Probability = 0.3
    """Probability with which a mutation draws each choice anew."""
    path_weight: PositiveFloat = 1e-3
    """Weight of the sum of the paths' factors in the loss, for means: paths."""

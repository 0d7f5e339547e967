"""The best network of a space under a bound, by evolution: HAT, arXiv 2005.14187, and AutoFormer, arXiv 2107.00651."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from restore.errors import DataError
from restore.networks.elastic import Choice, Space

__all__ = ["Evolution", "evolve"]

_TRIES = 100  # for each network that is wanted


@dataclass(frozen=True)
class Evolution:
    """How long and how widely to look.

    Attributes:
        generations: after the first.
        population: networks of a generation.
        parents: the best so far, of which the next generation is made.
        mutation: probability with which a mutation draws each choice anew.
    """

    generations: int = 10
    population: int = 40
    parents: int = 10
    mutation: float = 0.3


def evolve(
    space: Space,
    score: Callable[[Choice], float],
    fits: Callable[[Choice], bool],
    how: Evolution,
    *,
    seed: int = 0,
    after: Callable[[int, list[tuple[Choice, float]]], None] | None = None,
) -> list[tuple[Choice, float]]:
    """Every network that was looked at with its score, the best first; all of them fit.

    Half of a generation are mutations of the best so far, half have each choice from one of two of them. No network is
    scored twice; the same seed and scores give the same result.

    Args:
        space: the networks.
        score: more is better.
        fits: whether a network is within the bound.
        how: see `Evolution`.
        seed: of what is drawn.
        after: called after each generation, with its number and all networks so far.

    Raises:
        DataError: not even the smallest network fits.
    """
    generator = random.Random(seed)
    if not fits(space.smallest()):
        raise DataError("no network of the space is within the bound, not even the smallest: allow more.")
    seen: dict[str, tuple[Choice, float]] = {}

    def add(draw: Callable[[], Choice], wanted: int) -> int:
        """Score up to so many new networks that fit; returns how many were not met."""
        tries = _TRIES * wanted
        while wanted and tries:
            tries -= 1
            choice = draw()
            key = space.key(choice)
            if key not in seen and fits(choice):
                seen[key] = choice, score(choice)
                wanted -= 1
        return wanted

    def ranked() -> list[tuple[Choice, float]]:
        return sorted(seen.values(), key=lambda each: -each[1])

    add(space.smallest, 1)
    add(lambda: space.drawn(generator), how.population - 1)
    for generation in range(how.generations + 1):
        if after is not None:
            after(generation, ranked())
        if generation < how.generations:
            best = [choice for choice, _ in ranked()[: how.parents]]
            half = how.population // 2
            missing = add(partial(_crossed, space, best, generator), half)
            add(partial(_mutated, space, best, how.mutation, generator), how.population - half + missing)
    return ranked()


def _crossed(space: Space, best: list[Choice], generator: random.Random) -> Choice:
    return space.crossed(generator.choice(best), generator.choice(best), generator)


def _mutated(space: Space, best: list[Choice], probability: float, generator: random.Random) -> Choice:
    return space.mutated(generator.choice(best), probability, generator)

"""The model for a task: `--task denoise --sigma 25` instead of a name."""

from __future__ import annotations

from collections.abc import Iterable

from restore.errors import OptionsError, nearest
from restore.zoo.card import Card, list_cards
from restore.zoo.download import Place, place_of

__all__ = ["choose_model"]

LEVELS = {"sigma": "--sigma", "quality": "--jpeg-quality"}


def choose_model(task: str, *, scale: int = 1, sigma: float | None = None, quality: int | None = None) -> Card:
    """The card that suits a task best, for colour images.

    Faithful models come before those for real-life photographs, and those that can be had by themselves before those
    whose weights have to be fetched by hand. Then counts how near the trained noise level or JPEG quality is (blind
    models suit every one), and last where the weights are: shipped, on this machine, or to be downloaded.

    Args:
        task: sr, denoise, jpeg, derain or deblur.
        scale: of super-resolution.
        sigma: noise level on the scale of 0 to 255; None for a model that needs none.
        quality: JPEG quality, 1 to 100; None for a model that needs none.

    Raises:
        OptionsError: no card has that task, or that scale, or every model needs a level; the message lists what there
            is.
    """
    cards = [card for card in list_cards() if not card.grey and card.task != "quality"]
    tasks = sorted({card.task for card in cards})
    if task not in tasks:
        raise OptionsError(
            f"no model for the task '{task}'.{nearest(task, tasks)} There are models for {', '.join(tasks)}."
        )
    fitting = [card for card in cards if card.task == task and card.scale == scale]
    if not fitting:
        scales = sorted({card.scale for card in cards if card.task == task})
        raise OptionsError(f"no model for the task '{task}' at scale {scale}: allowed is {_listing(scales)}.")
    wanted = {"sigma": sigma, "quality": quality}
    for level, given in wanted.items():
        if given is None:
            fitting = _blind(fitting, task, level)

    def order(card: Card) -> tuple:
        place = place_of(card)
        return card.real, place is Place.BY_HAND, _distance(card, wanted), place, card.url is None, card.name

    return min(fitting, key=order)


def _blind(cards: list[Card], task: str, level: str) -> list[Card]:
    """Those that need not be told the level."""
    levels = sorted({getattr(card, level) for card in cards} - {None})
    blind = [card for card in cards if getattr(card, level) is None]
    if levels and all(place_of(card) is Place.BY_HAND for card in blind):
        needs_none = ", ".join(card.name for card in blind)
        besides = f" {needs_none} needs none, but its weights must be fetched by hand: `-m` says how." if blind else ""
        raise OptionsError(
            f"the task '{task}' needs {LEVELS[level]}: there are models for {_listing(levels)}.{besides}"
        )
    return blind if levels else cards


def _distance(card: Card, wanted: dict[str, float | None]) -> float:
    pairs = ((getattr(card, level), given) for level, given in wanted.items())
    return sum(abs(trained - given) for trained, given in pairs if trained is not None and given is not None)


def _listing(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)

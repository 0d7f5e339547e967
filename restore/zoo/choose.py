"""The model for a task: `--task denoise --sigma 25` instead of a name."""

from __future__ import annotations

from restore.errors import OptionsError, nearest
from restore.zoo.card import Card, list_cards
from restore.zoo.download import local_weights

__all__ = ["choose_model"]


def choose_model(task: str, *, scale: int = 1, sigma: float | None = None, quality: int | None = None) -> Card:
    """The card that suits a task best, for colour images.

    Faithful models come before those for real-life photographs. Then counts how near the trained noise level or JPEG
    quality is (blind models suit every one), then whether the weights are on this machine.

    Args:
        task: sr, denoise, jpeg, derain or deblur.
        scale: of super-resolution.
        sigma: noise level on the scale of 0 to 255.
        quality: JPEG quality, 1 to 100.

    Raises:
        OptionsError: no card has that task, or that scale; the message lists what there is.
    """
    cards = [card for card in list_cards() if not card.grey]
    tasks = sorted({card.task for card in cards})
    if task not in tasks:
        raise OptionsError(
            f"no model for the task '{task}'.{nearest(task, tasks)} There are models for {', '.join(tasks)}."
        )
    fitting = [card for card in cards if card.task == task and card.scale == scale]
    if not fitting:
        scales = sorted({card.scale for card in cards if card.task == task})
        raise OptionsError(f"no model for the task '{task}' at scale {scale}: allowed is {_listing(scales)}.")
    for given, option, levels in (
        (sigma, "--sigma", [card.sigma for card in fitting]),
        (quality, "--jpeg-quality", [card.quality for card in fitting]),
    ):
        if given is None and any(level is not None for level in levels) and None not in levels:
            raise OptionsError(f"the task '{task}' needs {option}: there are models for {_listing(sorted(levels))}.")
    return min(
        fitting,
        key=lambda card: (
            card.real,
            _distance(card.sigma, sigma) + _distance(card.quality, quality),
            local_weights(card) is None,
            card.name,
        ),
    )


def _distance(trained: float | None, wanted: float | None) -> float:
    return 0.0 if trained is None or wanted is None else abs(trained - wanted)


def _listing(values) -> str:
    return ", ".join(f"{value:g}" for value in values)

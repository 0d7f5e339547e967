"""The model for a task: `--task denoise --sigma 25` instead of a name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from restore.errors import OptionsError, nearest
from restore.zoo.card import Card, Figure, list_cards
from restore.zoo.download import Place, place_of

__all__ = ["better_download", "choose_model"]

PHOTO = "photo"
CLOSE_DB = 0.1
"""Of models that are not further behind the best one, the smallest is taken: it is faster, and nobody sees the rest."""
LEVELS = {"sigma": "--sigma", "quality": "--jpeg-quality"}


def choose_model(
    task: str,
    *,
    scale: int = 1,
    sigma: float | None = None,
    quality: int | None = None,
    among: Sequence[Card] | None = None,
) -> Card:
    """The card that suits a task best, for colour images.

    Faithful models come before those for real-life photographs, and those that download by themselves before those
    whose weights have to be fetched by hand. Then counts how near the trained noise level or JPEG quality is (blind
    models suit every one), then whether the weights are on this machine; among those that are, the measured PSNR, or
    LPIPS of those for real-life photographs. Within a tenth of a decibel of the best, what was fetched comes before
    what is shipped, and then the smaller file.

    Args:
        task: sr, denoise, jpeg, derain or deblur; photo for enlarging photographs with noise, blur and JPEG.
        scale: of super-resolution.
        sigma: noise level on the scale of 0 to 255; None for a model that needs none.
        quality: JPEG quality, 1 to 100; None for a model that needs none.
        among: the cards to choose from; all by default.

    Raises:
        OptionsError: no card has that task, or that scale, or every model needs a level; the message lists what there
            is.
    """
    is_photo = task == PHOTO
    among = list_cards() if among is None else among
    restoring = [card for card in among if card.restores]
    cards = [card for card in restoring if not (card.grey or card.drawn) and card.real >= is_photo]
    tasks = sorted({card.task for card in cards} | {PHOTO})
    if task not in tasks:
        raise OptionsError(
            f"no model for the task '{task}'.{nearest(task, tasks)} There are models for {', '.join(tasks)}."
        )
    kind = "sr" if is_photo else task
    fitting = [card for card in cards if card.task == kind and card.scale == scale]
    if not fitting:
        scales = sorted({card.scale for card in cards if card.task == kind})
        if not scales:
            raise OptionsError(f"no model for the task '{task}' is offered here.")
        raise OptionsError(f"no model for the task '{task}' at scale {scale}: allowed is {_listing(scales)}.")
    wanted = {"sigma": sigma, "quality": quality}
    for level, given in wanted.items():
        if given is None:
            fitting = _blind(fitting, task, level)

    here = [card for card in fitting if _is_here(card)]
    common = _common_datasets(here)
    best = max((_psnr(card, common) for card in here), default=0.0)

    def order(card: Card) -> tuple[Any, ...]:
        place = place_of(card)
        nearest_first = card.real, place is Place.BY_HAND, _distance(card, wanted), not _is_here(card)
        fetched_first = place is Place.SHIPPED  # what somebody fetched was wanted
        if is_photo:
            return *nearest_first, fetched_first, _lpips(card), card.url is None, card.name
        psnr = _psnr(card, common) if _is_here(card) else 0.0
        quality = -best if psnr > best - CLOSE_DB else -psnr
        return *nearest_first, quality, fetched_first, place, card.url is None, card.size_bytes or 0, card.name

    return min(fitting, key=order)


def better_download(card: Card, *, sigma: float | None = None, quality: int | None = None) -> tuple[Card, str] | None:
    """The best model for the same as `card` that is only to be downloaded, and what it brings; None if nothing better.

    Models are for the same if task, scale, noise level, JPEG quality and colours are. A model that needs no level is
    also for the same as those that were trained for the level of the images.

    Args:
        card: of the model that would be used.
        sigma: noise level of the images, where it is known.
        quality: JPEG quality of the images, where it is known.
    """
    purposes = (_purpose(card), _purpose(card, {"sigma": sigma, "quality": quality}))
    others = [other for other in list_cards() if place_of(other) is Place.DOWNLOADABLE and _purpose(other) in purposes]
    if card.real:
        return _better_for_real_life(card, others)
    gains = []
    for other in others:
        common = _common_datasets([card, other])
        if common and (gain := _psnr(other, common) - _psnr(card, common)) > 0:
            gains.append((gain, other, common))
    if not gains:
        of_level = [other for other in others if _purpose(other) != _purpose(card)]
        measured = any(_common_datasets([card, other]) for other in of_level)
        return None if measured else _largest(card, of_level)
    gain, other, common = max(gains, key=lambda found: (found[0], found[1].name))
    return other, f"{_size(other)}{gain:.1f} dB more on {', '.join(sorted(common))}"


def _better_for_real_life(card: Card, others: list[Card]) -> tuple[Card, str] | None:
    """By LPIPS where it is known of both."""
    known = [other for other in others if _lpips(other) < _lpips(card) < float("inf")]
    if known:
        other = min(known, key=lambda each: (_lpips(each), each.name))
        return other, f"{_size(other)}LPIPS {_lpips(other):.2f} instead of {_lpips(card):.2f} (lower is better)"
    return _largest(card, others)


def _largest(card: Card, others: list[Card]) -> tuple[Card, str] | None:
    """Where nothing is known of both: the largest one, beside one that comes with the package."""
    if not card.path or not others:
        return None
    other = max(others, key=lambda each: (each.size_bytes or 0, each.name))
    return other, f"{_size(other)}{other.summary}"


def _lpips(card: Card) -> float:
    """On the first dataset of which it is known; those who are compared tell the same."""
    return next((figure.lpips for figure in card.figures if figure.lpips is not None), float("inf"))


def _size(card: Card) -> str:
    return f"{card.size_bytes / 1e6:.0f} MB, " if card.size_bytes else ""


def _purpose(card: Card, unsaid: dict[str, float | None] | None = None) -> tuple[Any, ...]:
    """What a model is for; `unsaid` are the levels for one that needs none."""
    own = {level: getattr(card, level) for level in LEVELS}
    levels = tuple(own[level] if own[level] is not None else (unsaid or {}).get(level) for level in LEVELS)
    return card.task, card.scale, *levels, card.grey, card.drawn, card.real


def _is_here(card: Card) -> bool:
    return place_of(card) in (Place.SHIPPED, Place.ON_DISK)


def _common_datasets(cards: Iterable[Card]) -> set[str]:
    """The datasets on which the PSNR of every one of these models is known, of those that tell any."""
    known = [{_measured(card, figure) for figure in card.figures if figure.psnr is not None} for card in cards]
    return set.intersection(*filter(None, known)) if any(known) else set()


def _psnr(card: Card, datasets: set[str]) -> float:
    """Mean PSNR over these datasets; lower than any if it is not known."""
    values = [each.psnr for each in card.figures if _measured(card, each) in datasets and each.psnr is not None]
    return sum(values) / len(values) if values else float("-inf")


def _measured(card: Card, figure: Figure) -> str:
    """The dataset of a figure with the level, which models of one level leave out: "McMaster, sigma 25"."""
    levels = [f"{level} {getattr(card, level):g}" for level in LEVELS if getattr(card, level) is not None]
    return ", ".join([figure.dataset.partition(",")[0], *levels]) if levels else figure.dataset


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

"""The models that a server offers: those whose weights are on this machine, or those that it was started with."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from restore.errors import OptionsError, nearest
from restore.networks import Network
from restore.zoo import find_card, list_cards, list_models, load_network
from restore.zoo.card import Card
from restore.zoo.choose import choose_model
from restore.zoo.download import Place, fetch_weights, place_of

__all__ = ["Offer", "choose_offer", "list_offers"]

OWN = "own"
"""The task of a weights file, of which nobody says what it is for."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Offer:
    """A model that may be asked for.

    Attributes:
        name: what requests call it.
        source: name or path that `load_model` takes.
        task: as on its card; photo for photographs from real life; own for a weights file.
        scale: output pixels per input pixel.
        summary: what it is for.
        licence: of the weights; empty where nobody says.
        told_sigma: whether it is told how strong the noise is.
        card: of a model of the zoo.
    """

    name: str
    source: str
    task: str
    scale: int
    summary: str
    licence: str = ""
    told_sigma: bool = False
    card: Card | None = None


def list_offers(names: Sequence[str] = ()) -> dict[str, Offer]:
    """The models by name, in order.

    Args:
        names: of models, whose weights are downloaded where they are not here, or of weights files; by default every
            model that restores colour images and whose weights are here.

    Raises:
        OptionsError: a name that is no model, one that judges images, or two files of one name.
        CheckpointError: a weights file that cannot be read.
        MissingError: weights that cannot be downloaded.
    """
    if not names:
        here = [card for card in list_cards() if place_of(card) in (Place.SHIPPED, Place.ON_DISK)]
        return {card.name: _of_card(card) for card in here if card.restores and not card.grey}
    offers: dict[str, Offer] = {}
    for name in names:
        offer = _of_name(name)
        if offer.name in offers:
            raise OptionsError(f"two models are called '{offer.name}': give one of the files another name.")
        offers[offer.name] = offer
    return offers


def choose_offer(
    offers: Mapping[str, Offer],
    model: str | None,
    *,
    task: str | None = None,
    scale: int | None = None,
    sigma: float | None = None,
    quality: int | None = None,
) -> Offer:
    """The model that a request means, by its name or by the task.

    Raises:
        OptionsError: none is offered, neither or both are named, or a task's number comes with a model.
    """
    if (model is None) == (task is None):
        raise OptionsError("give either `model`, the name of one, or `task`, for which one is chosen.")
    if task is not None:
        cards = [offer.card for offer in offers.values() if offer.card]
        scale = scale or (4 if task in ("sr", "photo") else 1)
        return offers[choose_model(task, scale=scale, sigma=sigma, quality=quality, among=cards).name]
    assert model is not None
    if model not in offers:
        raise OptionsError(f"no model '{model}' is offered here.{nearest(model, offers)} Offered: {', '.join(offers)}.")
    offer = offers[model]
    for name, value in {"scale": scale, "jpeg_quality": quality, "sigma": None if offer.told_sigma else sigma}.items():
        if value is not None:
            raise OptionsError(f"`{name}` chooses a model for `task`. '{model}' is a model already: leave one out.")
    if offer.told_sigma and sigma is None:
        raise OptionsError(f"'{model}' is told how strong the noise is: give `sigma`, 0 to 255.")
    return offer


def _of_name(name: str) -> Offer:
    if name in list_models():
        card = find_card(name)
        if card.task == "quality":
            raise OptionsError(f"'{name}' judges images and restores none.")
        fetch_weights(card)
        return _of_card(card)
    network = load_network(name)
    if not network.spec.out_channels:
        raise OptionsError(f"'{name}' judges images and restores none.")
    told = type(network).expect_noise is not Network.expect_noise
    summary = f"{type(network).__name__} from a weights file"
    return Offer(Path(name).stem, name, OWN, network.spec.scale, summary, told_sigma=told)


def _of_card(card: Card) -> Offer:
    return Offer(
        card.name,
        card.name,
        "photo" if card.real and card.task == "sr" else card.task,
        card.scale,
        card.summary,
        card.licence,
        card=card,
    )

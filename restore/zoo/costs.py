"""What models and components cost, counted without weights and without computing anything.

A network is counted for one image of 256 x 256, an encoder for one of 224 x 224, a mixer and a feed-forward network for
a map of 96 x 96 positions and 60 channels (or the next larger size that it takes): all with their default arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from restore.analysis.cost import SIDE_PX, Cost, cost_of, image_cost
from restore.errors import OptionsError, nearest
from restore.layers.build import build_feed_forward
from restore.networks.checkpoint import infer, network_classes, read_state_dict
from restore.registry import ENCODERS, FEED_FORWARDS, MIXERS, NETWORKS, Registry
from restore.zoo.download import local_weights
from restore.zoo.load import without_downloads

if TYPE_CHECKING:
    from restore.zoo.card import Card

__all__ = ["COUNTED_AT", "component_cost", "component_costs", "model_cost"]

ENCODER_PX, MIXER_PX, MIXER_DIM = 224, 96, 60


def model_cost(card: Card) -> Cost | None:
    """What a model that restores images costs; None where only its weights, which are not here, tell what it is."""
    block = card.network
    if block is None:
        path = local_weights(card)
        if path is None:
            return None
        block = infer(read_state_dict(path))
    if block["type"] not in NETWORKS:
        return None
    with torch.device("meta"):
        network = NETWORKS.build(without_downloads(block))
    return image_cost(network, channels=network.spec.in_channels)


def component_costs(kind: str) -> dict[str, Cost | None]:
    """What every registered component of a kind costs, by name; None for those that have no defaults to build with.

    Raises:
        OptionsError: components of this kind are not counted.
    """
    if kind not in _COUNTED:
        raise OptionsError(f"no costs of '{kind}'.{nearest(kind, _COUNTED)} Counted are: {', '.join(_COUNTED)}.")
    return {name: component_cost(kind, name) for name in _COUNTED[kind][0]}


def component_cost(kind: str, name: str) -> Cost | None:
    """What one component costs; None for one that has no defaults to build with, or of a kind that is not counted."""
    if kind not in _COUNTED:
        return None
    try:
        with torch.device("meta"):
            return _COUNTED[kind][1](name)
    except OptionsError:
        return None


def _network(name: str) -> Cost:
    network = NETWORKS.build({"type": name, **network_classes()[name].example})
    return image_cost(network, channels=network.spec.in_channels, height=SIDE_PX)


def _encoder(name: str) -> Cost:
    return image_cost(ENCODERS.build(name), height=ENCODER_PX)


def _mixer(name: str) -> Cost:
    mixer = MIXERS.build(name, dim=MIXER_DIM)
    height, width = (-(-MIXER_PX // multiple) * multiple for multiple in mixer.size_multiple)
    return cost_of(mixer, torch.rand(1, height, width, MIXER_DIM))


def _feed_forward(name: str) -> Cost | None:
    network = build_feed_forward(name, MIXER_DIM)
    return None if network is None else cost_of(network, torch.rand(1, MIXER_PX, MIXER_PX, MIXER_DIM))


_COUNTED: dict[str, tuple[Registry, Callable[[str], Cost | None]]] = {
    "network": (NETWORKS, _network),
    "encoder": (ENCODERS, _encoder),
    "mixer": (MIXERS, _mixer),
    "feed_forward": (FEED_FORWARDS, _feed_forward),
}
COUNTED_AT = {
    "network": f"{SIDE_PX} x {SIDE_PX}",
    "encoder": f"{ENCODER_PX} x {ENCODER_PX}",
    **dict.fromkeys(("mixer", "feed_forward"), f"{MIXER_PX} x {MIXER_PX} x {MIXER_DIM}"),
}
"""The size of what each kind is counted for."""

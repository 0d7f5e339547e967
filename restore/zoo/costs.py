"""What models and components cost, counted without weights and without computing anything.

A network is counted for one image of 256 x 256, an encoder for one of 224 x 224, a mixer for a map of 96 x 96 positions
and 60 channels (or the next larger size that it takes): all with their default arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from restore.analysis.cost import SIDE_PX, Cost, cost_of, image_cost
from restore.errors import OptionsError, nearest
from restore.networks.checkpoint import infer, network_classes, read_state_dict
from restore.registry import ENCODERS, MIXERS, NETWORKS, Registry
from restore.zoo.download import local_weights
from restore.zoo.load import without_downloads

if TYPE_CHECKING:
    from restore.zoo.card import Card

__all__ = ["component_costs", "model_cost"]

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
    registry, count = _COUNTED[kind]
    costs: dict[str, Cost | None] = {}
    for name in registry:
        try:
            with torch.device("meta"):
                costs[name] = count(name)
        except OptionsError:
            costs[name] = None
    return costs


def _network(name: str) -> Cost:
    network = NETWORKS.build({"type": name, **network_classes()[name].example})
    return image_cost(network, channels=network.spec.in_channels, height=SIDE_PX)


def _encoder(name: str) -> Cost:
    return image_cost(ENCODERS.build(name), height=ENCODER_PX)


def _mixer(name: str) -> Cost:
    mixer = MIXERS.build(name, dim=MIXER_DIM)
    height, width = (-(-MIXER_PX // multiple) * multiple for multiple in mixer.size_multiple)
    return cost_of(mixer, torch.rand(1, height, width, MIXER_DIM))


_COUNTED: dict[str, tuple[Registry, Callable[[str], Cost]]] = {
    "network": (NETWORKS, _network),
    "encoder": (ENCODERS, _encoder),
    "mixer": (MIXERS, _mixer),
}

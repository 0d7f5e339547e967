"""What models and components cost, counted without weights and without computing anything.

A network is counted for one image of 256 x 256, an encoder for one of 224 x 224, a mixer and a feed-forward network for
a map of 96 x 96 positions and 60 channels (or the next larger size that it takes): all with their default arguments.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

__all__ = [
    "COUNTED_AT",
    "COUNTED_ENCODERS",
    "component_cost",
    "component_costs",
    "count_encoder",
    "counted_encoder",
    "model_cost",
]

ENCODER_PX, MIXER_PX, MIXER_DIM = 224, 96, 60
COUNTED_ENCODERS = Path(__file__).parent / "encoder_costs.json"
"""What `count_encoder` found for every family: counting them takes a minute."""


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


def count_encoder(name: str) -> dict[str, Any] | None:
    """What an encoder costs, and the strides and channels of its maps; None for one that has no defaults."""
    try:
        with torch.device("meta"):
            encoder = ENCODERS.build(name)
            cost = image_cost(encoder, height=ENCODER_PX)
    except OptionsError:
        return None
    counted = {key: getattr(cost, key) for key in ("parameters", "macs", "activations", "num_convs", "gathered")}
    return {**counted, "strides": list(encoder.strides), "channels": list(encoder.channels)}


def counted_encoder(name: str) -> dict[str, Any] | None:
    """The same as `count_encoder` found it for the package; None where that was not done."""
    counted = _counted_encoders().get(name)
    return None if counted is None else dict(counted)


@functools.cache
def _counted_encoders() -> dict[str, dict[str, Any]]:
    if not COUNTED_ENCODERS.is_file():
        return {}
    counted: dict[str, dict[str, Any]] = json.loads(COUNTED_ENCODERS.read_text(encoding="utf-8"))
    return counted


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

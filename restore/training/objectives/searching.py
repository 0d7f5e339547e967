"""What `restore search` trains: a supernet by sampling from it, or mixers side by side whose factors fall to zero."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from restore.analysis.cost import cost_of
from restore.data.loading import Batch
from restore.errors import OptionsError, Problem
from restore.networks.elastic import Choice, Supernet
from restore.networks.elastic.pruning import paths_by_place
from restore.networks.metaformer import MetaFormerRestorer
from restore.registry import OBJECTIVES
from restore.training.distribution import unwrapped
from restore.training.objectives.restoration import Restoration

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["PathTraining", "SupernetTraining"]


@OBJECTIVES.add("SupernetModel")
class SupernetTraining(Restoration):
    """The losses of a few networks of a supernet on the same batch, each as for `SRModel`, and their mean.

    With the sandwich rule (Yu & Huang 2019, arXiv 1903.05134) these are the largest, the smallest and some that are
    drawn; else only the latter: single paths, as in AutoFormer (Chen et al. 2021, arXiv 2107.00651).
    """

    teaching = "none"
    leaves_parameters_out = True
    sampling: str = "sandwich"
    num_drawn: int = 1

    @classmethod
    def from_options(
        cls, networks: Mapping[str, nn.Module], options: Options, frozen: Mapping[str, nn.Module]
    ) -> SupernetTraining:
        """With `search.sampling` and `search.num_drawn`."""
        objective = super().from_options(networks, options, frozen)
        assert isinstance(objective, SupernetTraining)
        _require(networks["g"], Supernet, "Supernet")
        assert options.search is not None, "the section search was asked for when the file was read"
        objective.sampling, objective.num_drawn = options.search.sampling, options.search.num_drawn
        return objective

    @classmethod
    def problems(cls, options: Options) -> list[Problem]:
        """Also whether it is said how to draw."""
        return [*_no_search(options), *super().problems(options)]

    def losses(self, batch: Batch, turn: str = "g") -> dict[str, Tensor]:
        """The mean of every loss over the networks."""
        supernet: Any = unwrapped(self.networks["g"])
        before, found = supernet.chosen, []
        try:
            for choice in self.drawn(supernet):
                supernet.chosen = choice
                found.append(super().losses(batch, turn))
        finally:
            supernet.chosen = before
        return {name: torch.stack([each[name] for each in found]).mean() for name in found[0]}

    def drawn(self, supernet: Supernet) -> list[Choice]:
        """The networks that learn in this step, by torch's global generator."""
        space = supernet.space
        always = [space.largest(), space.smallest()] if self.sampling == "sandwich" else []
        return [*always, *(space.drawn() for _ in range(self.num_drawn))]


@OBJECTIVES.add("PathsModel")
class PathTraining(Restoration):
    """The losses of `SRModel`, and the sizes of the factors of all paths, each times what its mixer costs.

    HR-NAS, Ding et al. 2021, arXiv 2106.06560, section 3.4.
    """

    teaching = "none"
    weight: float = 1e-3
    costs: Sequence[Sequence[float]] = ()

    @classmethod
    def from_options(
        cls, networks: Mapping[str, nn.Module], options: Options, frozen: Mapping[str, nn.Module]
    ) -> PathTraining:
        """With `search.path_weight`."""
        objective = super().from_options(networks, options, frozen)
        assert isinstance(objective, PathTraining)
        network = networks["g"]
        _require(network, MetaFormerRestorer, "MetaFormerRestorer with `paths` mixers")
        assert isinstance(network, MetaFormerRestorer)
        assert options.search is not None, "the section search was asked for when the file was read"
        objective.weight = options.search.path_weight
        objective.costs = relative_costs(network)
        return objective

    @classmethod
    def problems(cls, options: Options) -> list[Problem]:
        """Also whether it is said how much the factors count."""
        return [*_no_search(options), *super().problems(options)]

    def losses(self, batch: Batch, turn: str = "g") -> dict[str, Tensor]:
        """Also `l_paths`."""
        network: Any = unwrapped(self.networks["g"])
        sizes = [
            cost * mixer.factors(number).abs().mean()
            for costs, mixers in zip(self.costs, paths_by_place(network), strict=True)
            for mixer in mixers
            for number, cost in enumerate(costs)
        ]
        return {**super().losses(batch, turn), "l_paths": self.weight * torch.stack(sizes).sum()}


def relative_costs(network: MetaFormerRestorer) -> list[list[float]]:
    """The multiply-adds of each path at each place, relative to the mean of the place; at least a tenth of it."""
    places = []
    for mixers in paths_by_place(network):
        if not mixers:
            raise OptionsError([Problem("network_g.mixers", "every place needs `paths`, of which some may be pruned.")])
        macs = []
        for path in mixers[0].paths:
            side = 2 * math.lcm(*mixers[0].size_multiple)
            nowhere = copy.deepcopy(path).to("meta")
            macs.append(
                cost_of(nowhere, torch.zeros(1, side, side, network.conv_first.out_channels, device="meta")).macs
            )
        mean = sum(macs) / len(macs) or 1.0
        places.append([max(each / mean, 0.1) for each in macs])
    return places


def _require(network: nn.Module, kind: type, name: str) -> None:
    if not isinstance(network, kind):
        message = f"{type(network).__name__}: this model_type trains a {name}; `restore search` writes it."
        raise OptionsError([Problem("network_g.type", message)])


def _no_search(options: Options) -> list[Problem]:
    if options.search is not None:
        return []
    message = f"missing: model_type {options.model_type} needs to know how networks are drawn; see `restore search`."
    return [Problem("search", message)]

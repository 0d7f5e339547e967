"""Paths that count for little are left out: HR-NAS, Ding et al. 2021, arXiv 2106.06560, section 3.4.

There the gains of batch norms are pushed to zero in proportion to what a unit costs, and units are pruned throughout
the search. Here it is the factors of `paths` mixers, and whole paths are pruned at its end: the same ones in every
stage, as mixers take turns within a stage.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from restore.layers.block import MetaFormerBlock
from restore.layers.mixers import Mixer
from restore.layers.mixers.parallel import Paths
from restore.networks.metaformer import MetaFormerRestorer

__all__ = ["importances", "paths_by_place", "pruned"]


def paths_by_place(network: MetaFormerRestorer) -> list[list[Paths]]:
    """The mixers with several paths at each place of a stage, those of all stages together."""
    places: list[list[Paths]] = []
    for stage in network.stages:
        for place, block in enumerate(stage.blocks):  # type: ignore[arg-type]
            assert isinstance(block, MetaFormerBlock)
            if place == len(places):
                places.append([])
            if isinstance(block.mixer, Paths):
                places[place].append(block.mixer)
    return places


@torch.no_grad()
def importances(network: MetaFormerRestorer) -> dict[tuple[int, int], float]:
    """The mean size of the factors of each path, over channels and stages, by place and number of the path."""
    found = {}
    for place, mixers in enumerate(paths_by_place(network)):
        for number in range(len(mixers[0].paths) if mixers else 0):
            found[place, number] = float(torch.stack([each.factors(number).abs().mean() for each in mixers]).mean())
    return found


@torch.no_grad()
def pruned(
    network: MetaFormerRestorer, block: Mapping[str, Any], kept: Sequence[Sequence[int]]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The option block and the weights of a network that has some of the paths only.

    Where one path is left that has an output projection, this takes its factors up, and the path stands for itself.

    Args:
        network: with `paths` mixers at every place of its stages.
        block: its option block.
        kept: the numbers of the paths that stay at each place, at least one.
    """
    network = copy.deepcopy(network)
    mixers = [dict(each) for each in block["mixers"]]
    for place, (numbers, found) in enumerate(zip(kept, paths_by_place(network), strict=True)):
        assert numbers, "a block needs a mixer"
        taken_up = [_keep(each, numbers) for each in found]
        alone = all(taken_up)
        left = [mixers[place]["mixers"][number] for number in numbers]
        mixers[place] = left[0] if alone else {"type": "paths", "mixers": left}
        for stage in network.stages if alone else ():
            blocks: Any = stage.blocks
            if place < len(blocks):
                blocks[place].mixer = blocks[place].mixer.paths[0]
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    return {**block, "mixers": mixers}, state


def _keep(mixer: Paths, numbers: Sequence[int]) -> bool:
    """Leave the other paths out; returns whether the one that is left needs no factors beside it."""
    mixer.paths = torch.nn.ModuleList(mixer.paths[number] for number in numbers)
    mixer.scales = torch.nn.ModuleList(mixer.scales[number] for number in numbers)
    only = mixer.paths[0]
    assert isinstance(only, Mixer)
    return len(numbers) == 1 and only.scale_output(mixer.factors(0))

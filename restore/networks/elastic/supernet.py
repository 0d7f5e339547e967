"""One network that holds the weights of a whole space of networks, each a slice of it.

HAT, Wang et al. 2020, arXiv 2005.14187; AutoFormer, Chen et al. 2021, arXiv 2107.00651. Official code:
github.com/mit-han-lab/hardware-aware-transformers (MIT) and github.com/microsoft/Cream (MIT), of which only facts are
taken. Here a network of the space is an ordinary MetaFormerRestorer whose parameters are views of the supernet's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from restore.errors import OptionsError, Problem
from restore.layers.branch import Branch
from restore.networks.base import Network
from restore.networks.elastic.slicing import cut, stored
from restore.networks.elastic.space import Choice, Space
from restore.networks.metaformer import MetaFormerRestorer
from restore.networks.spec import ImageSpec
from restore.registry import NETWORKS, NetworkOption

__all__ = ["Supernet"]


@NETWORKS.add()
class Supernet(Network):
    """Restores as one of the networks of a space does: the one in `chosen`, at first the largest.

    Args:
        network: block of a MetaFormerRestorer: what is not chosen.
        space: what to choose from; see `restore.networks.elastic.space`.

    Attributes:
        space: the networks that this one holds.
        chosen: the one that an image goes through.
        body: the largest blocks, each with a path for every mixer.
        further: for each feed-forward network but the first, one for every block of the body.
        depths: blocks of each stage of the body.

    Raises:
        OptionsError: mistakes in the block or in the space, or parts that cannot share weights.
    """

    telltale = "body.first_norm.weight"
    example: ClassVar[Mapping[str, Any]] = {
        "network": {"type": "MetaFormerRestorer"},
        "space": {"mixers": ["window", "separable_conv"], "feed_forward": ["mlp", "gated"]},
    }

    def __init__(self, network: NetworkOption, space: Mapping[str, Any]):
        super().__init__()
        block = {"type": network} if isinstance(network, str) else dict(network)
        self.space = Space(block, space)
        largest = self.space.block_of_largest()
        self.depths: list[int] = largest["depths"]
        self.body = _built(largest)
        others = [_built({**largest, "feed_forward": path.largest()}) for path in self.space.feed_forwards[1:]]
        self.further = nn.ModuleList(
            nn.ModuleList(block.ffn or nn.Identity() for block in self._blocks(other)) for other in others
        )
        self.chosen: Choice = self.space.largest()
        _require_shareable(self)

    @property
    def spec(self) -> ImageSpec:
        """What the body wants of its images, and so does every network of the space."""
        return self.body.spec

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """What the chosen network makes of images in [0, 1]."""
        restored: torch.Tensor = self.network_of(self.chosen).train(self.training)(x_BCHW)
        return restored

    def network_of(self, choice: Choice) -> MetaFormerRestorer:
        """A network of the space. Its parameters are slices of this one's, through which gradients flow back.

        Nothing is drawn from the global random generators.
        """
        with torch.random.fork_rng(devices=[]):
            network = _built(self.space.block(choice))
        device = next(self.parameters()).device
        if device.type != "cpu":
            network.to(device)
        mixers, feed_forward = self.space.paths(choice)
        shared = {name: tensor for name, _, tensor in stored(self)}
        branches = {path: module for path, module in network.named_modules() if isinstance(module, Branch)}
        for name, holder, tensor in list(stored(network)):
            layer, _, leaf = name.rpartition(".")
            path = _innermost(branches, layer)
            parent = branches[path] if path else network
            large = shared[self._place(name, mixers, feed_forward)]
            sliced = cut(large, tensor, parent, layer[len(path) + 1 :], leaf)
            (holder._parameters if leaf in holder._parameters else holder._buffers)[leaf] = sliced  # type: ignore[assignment]
        return network

    @torch.no_grad()
    def weights_of(self, choice: Choice) -> dict[str, torch.Tensor]:
        """The state dict of a network of the space, copied out."""
        return {name: tensor.detach().clone() for name, tensor in self.network_of(choice).state_dict().items()}

    def folded(self) -> nn.Module:
        """The chosen network by itself."""
        network, parameter = _built(self.space.block(self.chosen)), next(self.parameters())
        network.to(parameter.device, parameter.dtype).load_state_dict(self.weights_of(self.chosen))
        return network.eval()

    def _place(self, name: str, mixers: list[int], feed_forward: int) -> str:
        """Where a tensor of a network stands here."""
        parts = name.split(".")
        if parts[0] != "stages" or parts[2] != "blocks":
            return f"body.{name}"
        stage, index, part = int(parts[1]), int(parts[3]), parts[4]
        if part == "mixer":
            parts[5:5] = ["paths", str(mixers[index])]
        elif part == "ffn" and feed_forward:
            number = sum(self.depths[:stage]) + index
            return ".".join(["further", str(feed_forward - 1), str(number), *parts[5:]])
        return ".".join(["body", *parts])

    @staticmethod
    def _blocks(body: MetaFormerRestorer) -> list[Any]:
        return [block for stage in body.stages for block in stage.blocks]  # type: ignore[union-attr]


def _built(block: Mapping[str, Any]) -> MetaFormerRestorer:
    network = NETWORKS.build(block, path="network_g")
    assert isinstance(network, MetaFormerRestorer)
    return network


def _innermost(branches: Mapping[str, nn.Module], layer: str) -> str:
    """The path of the innermost mixer or feed-forward network that a layer is a part of; empty if there is none."""
    while layer and layer not in branches:
        layer = layer.rpartition(".")[0]
    return layer


def _require_shareable(supernet: nn.Module) -> None:
    """Refuse what networks of a space cannot have in common.

    Raises:
        OptionsError: statistics of batches, which each network would need of its own, or norms between paths.
    """
    for name, module in supernet.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            message = f"a batch norm ({name}) keeps statistics of one network: take another norm or component."
            raise OptionsError([Problem("search.space", message)])
        if isinstance(module, Branch) and module.inner_norm is not None:
            message = "sub-ln has a norm inside of each mixer, whose width its paths would have to share: take another."
            raise OptionsError([Problem("network_g.placement", message)])

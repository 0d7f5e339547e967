"""RepOpt-VGG: a plain network of 3x3 convolutions, whose optimizer makes up for the branches that others have.

Ding et al. 2022, arXiv 2205.15242. Official code: github.com/DingXiaoH/RepOptimizers (MIT), whose keys are kept. Here
what the optimizer makes up for is part of the convolutions (`restore.layers.rep_optimized`), so that any SGD or Adam
will do: with `learns_as: multiplied` they start from the scales that a search starts from, or take those that it found:

    searched = build_encoder({"type": "repopt_vgg_b1", "learns_as": "branches"})        # trained for a while
    encoder = build_encoder({"type": "repopt_vgg_b1", "learns_as": "multiplied"})
    encoder.take_scales(searched)

B batch, H x W image, C channels of a stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from operator import mul
from typing import Any, Literal, cast

import torch
from torch import nn

from restore.encoders.base import IMAGENET, Encoder, Features, Normalisation
from restore.layers.rep_optimized import ConvOfBranches, ScaledBranches, initial_scale
from restore.layers.reparameterised import NormedBranches
from restore.registry import ENCODERS

__all__ = ["RepOptVGG"]

LearnsAs = Literal["plain", "branches", "multiplied", "repvgg"]

_SIZES: dict[str, dict[str, Any]] = {
    "b1": {},
    "b2": {"width_factors": (2.5, 2.5, 2.5, 5.0)},
    "l1": {"depths": (8, 14, 24, 1)},
    "l2": {"depths": (8, 14, 24, 1), "width_factors": (2.5, 2.5, 2.5, 5.0)},
}


@ENCODERS.add("repopt_vgg", variants=_SIZES)
class RepOptVGG(Encoder):
    """Maps of strides 2, 4, 8, 16 and 32, where `reductions` do not say otherwise.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`.
        depths: blocks of the stages after the first, which has one.
        width_factors: of the channels 64, 128, 256 and 512 of these stages.
        learns_as: "plain" convolutions, as published weights are; "branches" whose scales are learned too, for a
            search; "multiplied", convolutions whose steps are multiplied as those of branches with constant scales;
            "repvgg", branches with a batch norm each, the published baseline (RepVGG, arXiv 2101.03697).
        optimizer: what trains it where steps are multiplied: "sgd", or "adam" for Adam and its relatives.
        squeeze_excitation: whether a gate of the channels' means stands behind each block (`use_post_se`).
        reductions: how many times smaller the map of each stage is than what came before.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        depths: Sequence[int] = (4, 6, 16, 1),
        width_factors: Sequence[float] = (2.0, 2.0, 2.0, 4.0),
        learns_as: LearnsAs = "plain",
        optimizer: Literal["sgd", "adam"] = "sgd",
        squeeze_excitation: bool = False,
        reductions: Sequence[int] = (2, 2, 2, 2, 2),
    ):
        if len(depths) != len(width_factors):
            raise ValueError(f"one depth and one factor for each stage: depths {depths}, width_factors {width_factors}")
        widths = [int((64 << stage) * factor) for stage, factor in enumerate(width_factors)]
        widths = [min(64, widths[0]), *widths]
        if len(reductions) != len(widths):
            raise ValueError(f"one reduction for each of the {len(widths)} stages, given {list(reductions)}")
        super().__init__(
            in_chans,
            channels=widths,
            strides=list(accumulate(reductions, mul)),
            out_indices=out_indices,
            normalisation=normalisation,
            weights_statistics=IMAGENET,
        )
        self.learns_as, self.optimizer = learns_as, optimizer
        before = in_chans
        for stage, (width, depth) in enumerate(zip(widths, [1, *depths], strict=True)):
            blocks = []
            for place in range(depth):
                stride = 1 if place else reductions[stage]
                blocks.append(_block(self._layers(before, width, stride, place), width, squeeze_excitation))
                before = width
            self.add_module(f"stage{stage}", nn.Sequential(*blocks) if stage else blocks[0])

    def _layers(self, before: int, width: int, stride: int, place: int) -> dict[str, nn.Module]:
        """What stands before the activation of a block."""
        if self.learns_as == "repvgg":
            return {"branches": NormedBranches(before, width, stride)}
        branches = ScaledBranches(before, width, stride, initial_scale(place))
        convolution: nn.Module = branches if self.learns_as == "branches" else branches.conv
        if self.learns_as == "multiplied":
            convolution = ConvOfBranches(branches, self.optimizer)
        return {"conv": convolution, "bn": nn.BatchNorm2d(width)}

    def maps(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """One map for each stage; all halvings round up, so that any size fits."""
        maps = []
        for stage in self._stages():
            x_BCHW = stage(x_BCHW)
            maps.append(x_BCHW)
        return maps

    def _stages(self) -> list[nn.Module]:
        return [self.get_submodule(f"stage{stage}") for stage in range(self.num_maps)]

    def blocks(self) -> Sequence[nn.Module]:
        """Convolution, norm and activation, in order."""
        first, *stages = self._stages()
        return [first, *(block for stage in stages for block in stage.children())]

    def prune_to_maps(self) -> None:
        """Remove the stages after the last chosen one."""
        super().prune_to_maps()
        before = self.num_maps
        for stage in range(self.keep_maps(), before):
            delattr(self, f"stage{stage}")

    def take_scales(self, searched: RepOptVGG) -> None:
        """Begin anew with the scales that a search has found, of this network and as what it learns.

        Raises:
            ValueError: this one does not learn as "multiplied", the other not as "branches", or they differ in size.
        """
        if (self.learns_as, searched.learns_as) != ("multiplied", "branches"):
            raise ValueError(
                "scales go from a network that learns as 'branches' to one that learns as 'multiplied', given "
                f"'{searched.learns_as}' and '{self.learns_as}'"
            )
        own, found = ([cast(nn.Sequential, block) for block in each.blocks()] for each in (self, searched))
        shapes = [[block.get_submodule("bn").num_features for block in each] for each in (own, found)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"the scales are of blocks of {shapes[1]} channels, the network has {shapes[0]}")
        for block, other in zip(own, found, strict=True):
            branches = cast(ScaledBranches, other.get_submodule("conv"))
            fresh = ScaledBranches(branches.conv.in_channels, branches.conv.out_channels, branches.stride)
            scales = {key: value for key, value in branches.state_dict().items() if key.startswith("scale_")}
            fresh.load_state_dict(scales, strict=False)
            block.add_module("conv", ConvOfBranches(fresh, self.optimizer).to(branches.conv.weight))

    def published_key(self, key: str) -> str:
        """The names of the official code, where the branches of a block are its own."""
        if self.learns_as == "repvgg":
            return key.replace(".branches.", ".")
        for name in ("conv.weight", "conv_1x1.", "scale_"):
            key = key.replace(f".conv.{name}", f".{name}") if self.learns_as == "branches" else key
        return key

    def head(self, num_classes: int) -> nn.Module:
        """One linear layer on the mean of the coarsest map."""
        return _Head(self._declared[-1][0], num_classes)


def _block(layers: Mapping[str, nn.Module], width: int, squeeze_excitation: bool) -> nn.Sequential:
    block = nn.Sequential()
    for name, layer in layers.items():
        block.add_module(name, layer)
    block.add_module("relu", nn.ReLU())
    if squeeze_excitation:
        block.add_module("post_se", _MeanGate(width))
    return block


class _MeanGate(nn.Module):
    """Each channel times a weight between 0 and 1 that follows from the means of all."""

    def __init__(self, dim: int):
        super().__init__()
        self.down, self.up = nn.Conv2d(dim, dim // 4, 1), nn.Conv2d(dim // 4, dim, 1)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        means_BC11 = x_BCHW.mean(dim=(2, 3), keepdim=True)
        return x_BCHW * torch.sigmoid(self.up(torch.relu(self.down(means_BC11))))


class _Head(nn.Module):
    def __init__(self, dim: int, num_classes: int):
        super().__init__()
        self.linear = nn.Linear(dim, num_classes)

    def forward(self, features: Features) -> torch.Tensor:
        return self.linear(features.maps[-1].mean(dim=(2, 3)))

"""The block with slots: a mixer of positions, a feed-forward network, and how each is joined to the stream.

The blocks of SwinIR, Uformer and EDT are this block with other key names (the tests show it); see MetaFormer,
Yu et al. 2022, arXiv 2111.11418.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from restore.layers.branch import Branch
from restore.layers.build import build_feed_forward, build_norm, build_placement
from restore.layers.ffn import FeedForward
from restore.layers.merging import MergedBlock, MergedMixer, Merging, takes_sets
from restore.layers.mixers.base import Mixer
from restore.layers.mixers.build import build_mixer
from restore.layers.norms import scale_output
from restore.layers.padding import crop, pad_to_multiple
from restore.layers.residual import DropPath, LayerScale
from restore.layers.tokens import Tokens, Values, values_of, with_values
from restore.registry import FeedForwardOption, MixerOption, NormOption, PlacementOption

__all__ = ["MetaFormerBlock", "common_multiple", "run_padded"]


class MetaFormerBlock(nn.Module):
    """Two residual branches, on a channels-last map or on a set of tokens.

    Args:
        dim: channels.
        mixer: the first branch: a mixer, or its name or block.
        feed_forward: the second branch: a feed-forward network, or its name or block; None leaves it out.
        norm: of both branches, by name or block: see `restore.layers.norms`.
        placement: where the norms stand, by name or block: see `restore.layers.placements`.
        layer_scale: first value of a learned factor for each channel of a branch; None leaves it out.
        drop_path: probability that a sample's branch is dropped, in training.
        index: place of the block among all of the network, from 0.
        num_blocks: how many there are.

    Attributes:
        num_branches: 2, or 1 without a feed-forward network.
    """

    scale1: nn.Module
    scale2: nn.Module

    def __init__(
        self,
        dim: int,
        mixer: Mixer | MixerOption,
        feed_forward: FeedForward | FeedForwardOption | None,
        *,
        norm: NormOption = "layer",
        placement: PlacementOption = "pre",
        layer_scale: float | None = None,
        drop_path: float = 0.0,
        index: int = 0,
        num_blocks: int = 1,
    ):
        super().__init__()
        mixer = mixer if isinstance(mixer, nn.Module) else build_mixer(mixer, dim)
        if not (feed_forward is None or isinstance(feed_forward, nn.Module)):
            feed_forward = build_feed_forward(feed_forward, dim, index=index, num_blocks=num_blocks)
        self.placement = build_placement(placement, index, num_blocks)
        self.num_branches = 1 if feed_forward is None else 2
        self.drop_path = DropPath(drop_path)
        self.norm1, self.mixer = build_norm(norm, dim), mixer
        self.scale1 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.norm2 = build_norm(norm, dim) if feed_forward is not None else None
        self.ffn = feed_forward
        self.scale2 = nn.Identity() if layer_scale is None or feed_forward is None else LayerScale(dim, layer_scale)
        if self.placement.inner_norms:
            for branch in self.branches():
                branch.inner_norm = build_norm(norm, branch.inner_dim)
        self.initialise()

    def branches(self) -> list[Branch]:
        """The mixer, and the feed-forward network if there is one."""
        return [self.mixer] if self.ffn is None else [self.mixer, self.ffn]

    def initialise(self) -> None:
        """Draw the weights anew where the placement says how; for networks that draw those of all layers themselves."""
        self.placement.initialise(self.branches())

    @property
    def halo_px(self) -> int | None:
        """How far information may travel along the map in one application; None when it may reach anywhere."""
        parts = [*self.branches(), *(norm for norm in (self.norm1, self.norm2) if norm is not None)]
        halos = [getattr(part, "halo_px", 0) for part in parts]
        if None in halos:
            return None
        return max(halos) if self.placement.parallel else sum(halos)

    def forward(self, x: Values) -> Values:
        """(B, H, W, C) to the same shape, or tokens to tokens; H and W are multiples of the mixer's `size_multiple`."""
        if self.placement.parallel:
            total = values_of(x)
            for number in range(self.num_branches):
                total = self.join(number, total, self.branch(number, x))
            return with_values(x, total)
        for number in range(self.num_branches):
            x = with_values(x, self.join(number, values_of(x), self.branch(number, x)))
        return x

    def branch(self, number: int, x: torch.Tensor | Tokens) -> torch.Tensor:
        """One branch without its residual, (B, H, W, C) or (B, N, C): for reversible and two-stream bodies.

        The norm of a placement that has it after the sum is not part of it; `join` does both.

        Args:
            number: 0 for the mixer, 1 for the feed-forward network.
            x: what comes into the branch.
        """
        norm, function, scale = self._parts(number)
        output = function(with_values(x, self.placement.before(values_of(x), norm)))
        return self.drop_path(scale(self.placement.after(output, norm)))

    def join(self, number: int, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """The stream `x` with the output of a branch."""
        return self.placement.join(x, output, self._parts(number)[0])

    def folded(self) -> nn.Module:
        """The same block, without those factors of channels that the layer before them can take up."""
        for names in (("norm1", "mixer", "scale1"), ("norm2", "ffn", "scale2"))[: self.num_branches]:
            norm, branch, scale = copy.deepcopy([self.get_submodule(name) for name in names])  # others may share them
            if not isinstance(scale, LayerScale):
                continue
            assert isinstance(branch, Branch)
            last = self.placement.norm_last and not isinstance(norm, nn.Identity)
            if scale_output(norm, scale.gamma) if last else branch.scale_output(scale.gamma):
                for name, module in zip(names, (norm, branch, nn.Identity()), strict=True):
                    setattr(self, name, module)
        return self

    def merged(self, merging: Merging, *, whole: bool) -> nn.Module | None:
        """The same block whose mixer, or the whole of which, sees merged tokens; None where a part needs the grid."""
        others = [part for part in (self.norm1, self.norm2, self.ffn) if part is not None]
        if not takes_sets(self.mixer) or (whole and any(getattr(part, "halo_px", 0) != 0 for part in others)):
            return None
        if whole:
            return MergedBlock(self, merging)
        self._modules["mixer"] = MergedMixer(self.mixer, merging)
        return self

    def _parts(self, number: int) -> tuple[nn.Module, nn.Module, nn.Module]:
        if number == 0:
            return self.norm1, self.mixer, self.scale1
        assert self.norm2 is not None
        assert self.ffn is not None
        return self.norm2, self.ffn, self.scale2


def common_multiple(blocks: Iterable[MetaFormerBlock]) -> tuple[int, int]:
    """What rows and columns of a map must be multiples of, for the mixers of all blocks."""
    multiples = [block.mixer.size_multiple for block in blocks]
    return math.lcm(*(rows for rows, _ in multiples)), math.lcm(*(columns for _, columns in multiples))


def run_padded(
    x_BCHW: torch.Tensor, run: Callable[[torch.Tensor], torch.Tensor], multiple: tuple[int, int]
) -> torch.Tensor:
    """What `run` makes of the channels-last map, reflected up to whole multiples and cropped; (B, C, H, W)."""
    if multiple == (1, 1):
        return run(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    padded_BCHW = pad_to_multiple(x_BCHW, multiple)
    refined_BCHW = run(padded_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return crop(refined_BCHW, x_BCHW.shape[2], x_BCHW.shape[3])

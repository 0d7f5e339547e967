"""A MetaFormer encoder of any mixers: stages of blocks whose slots take what the option file names.

    network_g:
      type: UNetRestorer
      encoder:
        type: metaformer
        dims: [48, 96, 192, 384]
        mixers: [separable_conv, separable_conv, attention, attention]   # for all stages, or for each

Yu et al. 2022, MetaFormer, arXiv 2111.11418: which mixer stands in the skeleton matters less than the skeleton.
Convolutions between stages are those of the later baselines (arXiv 2210.13452). With `pooling` it is after PoolFormer,
with convolutions before attention after CAFormer; published weights are for `poolformer_s12`, `caformer_s18` and so on.
Checked against closed forms.

B batch, H x W map, C channels of a stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from restore.encoders.base import Normalisation
from restore.encoders.heads import LinearHead
from restore.encoders.staged import StagedEncoder, conv_reductions, split_depths
from restore.layers.arguments import require_positive
from restore.layers.block import MetaFormerBlock, common_multiple, run_padded
from restore.layers.build import build_feed_forward, build_position
from restore.layers.mixers import build_mixer
from restore.registry import (
    ENCODERS,
    FeedForwardOption,
    MixerOption,
    NormOption,
    PlacementOption,
    PositionOption,
)

__all__ = ["MetaFormer"]


@ENCODERS.add("metaformer")
class MetaFormer(StagedEncoder):
    """Four maps of strides 4, 8, 16 and 32, as long as `dims` says so.

    Maps whose sides are no multiples of what a mixer needs are reflected, and cropped after the stage.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`.
        dims: channels of the stages.
        depths: blocks of the stages.
        mixers: the registered mixer of all stages, or one for each, by name or with its options.
        feed_forward: the second half of each block, by name or with its options; see `restore.layers.ffn`.
        mlp_ratio: hidden width of the feed-forward networks, in channels, unless their own options say it.
        norm: of each branch, by name or with its options; see `restore.layers.norms`.
        placement: where the norms stand, by name or with its options; see `restore.layers.placements`.
        position: what tells mixers where they are, before each stage; see `restore.layers.position`.
        layer_scale: first value of a learned factor for each channel of a branch; None leaves it out.
        drop_path: probability that the last block is dropped in training; less before it.

    Raises:
        OptionsError: a component that does not exist or options that it does not have.
        ValueError: lists of different lengths.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        dims: Sequence[int] = (48, 96, 192, 384),
        depths: Sequence[int] = (2, 2, 6, 2),
        mixers: MixerOption | Sequence[MixerOption] = "pooling",
        feed_forward: FeedForwardOption = "mlp",
        mlp_ratio: float = 4.0,
        norm: NormOption = "layer",
        placement: PlacementOption = "pre",
        position: PositionOption = "none",
        layer_scale: float | None = None,
        drop_path: float = 0.0,
    ):
        require_positive(dims=dims, depths=depths, mlp_ratio=mlp_ratio)
        chosen = [mixers] * len(dims) if isinstance(mixers, (str, Mapping)) else list(mixers)
        if not len(dims) == len(depths) == len(chosen):
            raise ValueError(
                f"dims has {len(dims)} entries, depths {len(depths)} and mixers {len(chosen)}: one for each stage"
            )
        super().__init__(in_chans, channels=dims, out_indices=out_indices, normalisation=normalisation)
        num_blocks = sum(depths)

        def block(stage: int, index: int, rate: float) -> MetaFormerBlock:
            dim = dims[stage]
            return MetaFormerBlock(
                dim,
                build_mixer(chosen[stage], dim, path=f"mixers.{stage}"),
                build_feed_forward(feed_forward, dim, mlp_ratio=mlp_ratio, index=index, num_blocks=num_blocks),
                norm=norm,
                placement=placement,
                layer_scale=layer_scale,
                drop_path=rate,
                index=index,
                num_blocks=num_blocks,
            )

        self.downsample_layers = nn.ModuleList(conv_reductions(in_chans, dims))
        self.positions = nn.ModuleList(build_position(position, dim) for dim in dims)
        self.stages = nn.ModuleList(
            _Stage(block(stage, sum(depths[:stage]) + number, rate) for number, rate in enumerate(rates))
            for stage, rates in enumerate(split_depths(depths, drop_path))
        )

    def enter(self, number: int, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Positions are added before each stage."""
        return self.positions[number](x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def prune_to_maps(self) -> None:
        """Remove the stages after the last chosen one, and their positions."""
        super().prune_to_maps()
        self.positions = self.positions[: self.num_maps]

    def head(self, num_classes: int) -> nn.Module:
        """One linear layer on the norm of the mean of the coarsest map."""
        dim = self._declared[-1][0]
        return LinearHead(dim, num_classes, norm=nn.LayerNorm(dim))


class _Stage(nn.Sequential):
    """Blocks on a channels-last map of any size."""

    def __init__(self, blocks: Iterable[MetaFormerBlock]):
        made = list(blocks)
        super().__init__(*made)
        self.size_multiple = common_multiple(made)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        return run_padded(x_BHWC.permute(0, 3, 1, 2), super().forward, self.size_multiple).permute(0, 2, 3, 1)

"""A U-shaped restoration network around any encoder.

    network_g:
      type: UNetRestorer
      encoder: {type: convnext_atto, pretrained: true}      # a registered encoder, or any name of timm
      upscale: 1

The encoder's maps are joined from the coarsest to the finest, then with a shallow map at full resolution, which the
encoders of classification lack: Ronneberger et al. 2015, arXiv 1505.04597. Encoders of one stride, such as ViT, are
better given as `{type: pyramid, encoder: NAME}`, which makes maps at strides 4, 8, 16 and 32 of theirs. The blocks of
the decoder are MetaFormer blocks, so their mixer is a choice too.

Shapes: B batch, H x W image, s upscale.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from restore.encoders import build_encoder
from restore.layers.arguments import require_positive
from restore.layers.block import MetaFormerBlock, common_multiple, run_padded
from restore.layers.build import build_feed_forward, build_position
from restore.layers.convolution import Reconstruction
from restore.layers.mixers import build_mixer
from restore.layers.padding import crop, pad_to_multiple
from restore.networks.base import Network
from restore.networks.spec import ImageSpec
from restore.registry import (
    NETWORKS,
    EncoderOption,
    FeedForwardOption,
    MixerOption,
    NormOption,
    PlacementOption,
    PositionOption,
)

__all__ = ["UNetRestorer"]


@NETWORKS.add()
class UNetRestorer(Network):
    """Restores (B, in_chans, H, W) in [0, 1] to (B, in_chans, H * upscale, W * upscale).

    Args:
        encoder: name of an encoder, or its name and options.
        in_chans: channels of the image.
        width: channels at full resolution; doubled at each coarser map, up to `max_width`.
        max_width: most channels of a map of the decoder.
        depth: blocks of the decoder at each resolution.
        mixer: what mixes positions in these blocks, by name or with its options. For one that takes multiples of a
            size, each map is reflected up to them before its blocks, and cut after them.
        feed_forward: the second half of each block, by name or with its options; see `restore.layers.ffn`.
        mlp_ratio: hidden width of the feed-forward network, in channels, unless its own options say it.
        norm: of each branch, by name or with its options; see `restore.layers.norms`.
        placement: where the norms stand, by name or with its options; see `restore.layers.placements`.
        position: what tells mixers where they are, before the blocks of each resolution, by name or with its options;
            see `restore.layers.position`.
        upscale: s; 1 for denoising, deblurring and JPEG.
        upsampler: "pixelshuffle", "pixelshuffledirect", "nearest+conv", or "" at upscale 1.

    Raises:
        OptionsError: a component that does not exist, or options that it does not have.
        ValueError: an upscale that the upsampler cannot make.
    """

    telltale = "lateral.0.weight"

    def __init__(
        self,
        encoder: EncoderOption = "convnext_atto",
        in_chans: int = 3,
        width: int = 32,
        max_width: int = 256,
        depth: int = 2,
        mixer: MixerOption = "gated_conv",
        feed_forward: FeedForwardOption = "mlp",
        mlp_ratio: float = 2.0,
        norm: NormOption = "layer",
        placement: PlacementOption = "pre",
        position: PositionOption = "none",
        upscale: int = 1,
        upsampler: Literal["", "pixelshuffle", "pixelshuffledirect", "nearest+conv"] = "",
    ):
        super().__init__()
        self.in_chans, self.upscale = in_chans, upscale
        require_positive(in_chans=in_chans, width=width, max_width=max_width, mlp_ratio=mlp_ratio, upscale=upscale)
        self.encoder = build_encoder(encoder, in_chans=in_chans, maps_only=True)
        if list(self.encoder.strides) != sorted(self.encoder.strides):
            raise ValueError(f"out_indices must go from fine to coarse, the strides are {self.encoder.strides}")
        widths = [min(width << level, max_width) for level in range(len(self.encoder.channels) + 1)]
        self.stem = nn.Conv2d(in_chans, width, 3, padding=1)
        self.lateral = nn.ModuleList(
            nn.Conv2d(channels, out, 1) for channels, out in zip(self.encoder.channels, widths[1:], strict=True)
        )

        num_blocks = depth * len(self.encoder.channels)

        def block(dim: int, index: int) -> MetaFormerBlock:
            return MetaFormerBlock(
                dim,
                build_mixer(mixer, dim),
                build_feed_forward(feed_forward, dim, mlp_ratio=mlp_ratio, index=index, num_blocks=num_blocks),
                norm=norm,
                placement=placement,
                index=index,
                num_blocks=num_blocks,
            )

        def indices(level: int) -> range:  # the coarsest level comes first
            first = depth * (len(self.encoder.channels) - 1 - level)
            return range(first, first + depth)

        self.decoder = nn.ModuleList(
            Join(coarse, fine, build_position(position, fine), [block(fine, index) for index in indices(level)])
            for level, (fine, coarse) in enumerate(itertools.pairwise(widths))
        )
        self.reconstruction = Reconstruction(width, in_chans, upscale, upsampler)

    @property
    def spec(self) -> ImageSpec:
        """What the network wants of its images."""
        return ImageSpec(
            scale=self.upscale,
            in_channels=self.in_chans,
            out_channels=self.in_chans,
            size_multiple=self.encoder.size_multiple,
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, in_chans, H, W) in [0, 1] to (B, in_chans, H * s, W * s)."""
        height, width = x_BCHW.shape[2:]
        padded = pad_to_multiple(x_BCHW, self.encoder.size_multiple)
        fine_to_coarse = [self.stem(padded - 0.5)]
        encoded = self.encoder(padded)
        fine_to_coarse += [conv(each) for conv, each in zip(self.lateral, encoded, strict=True)]
        x = fine_to_coarse.pop()
        for join in reversed(self.decoder):
            x = join(x, fine_to_coarse.pop())
        restored = self.reconstruction(x, padded - 0.5) + 0.5
        return crop(restored, height * self.upscale, width * self.upscale)


class Join(nn.Module):
    """Brings a coarse map to the size of a finer one, adds both, and refines the sum."""

    def __init__(self, coarse: int, fine: int, position: nn.Module, blocks: Sequence[MetaFormerBlock]):
        super().__init__()
        self.narrow = nn.Conv2d(coarse, fine, 1)
        self.position, self.blocks = position, nn.Sequential(*blocks)
        self.size_multiple = common_multiple(blocks)

    def forward(self, coarse_BCHW: torch.Tensor, fine_BCHW: torch.Tensor) -> torch.Tensor:
        height, width = fine_BCHW.shape[2:]
        larger = F.interpolate(self.narrow(coarse_BCHW), (height, width), mode="bilinear", align_corners=False)
        return run_padded(larger + fine_BCHW, lambda x_BHWC: self.blocks(self.position(x_BHWC)), self.size_multiple)

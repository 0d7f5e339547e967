"""A restoration network of any mixers: the skeleton of SwinIR, whose blocks take what the option file names.

    network_g:
      type: MetaFormerRestorer
      mixers: [window, shifted_window]          # names, or {type: stripe, num_heads: 6, window_size: [6, 24]}
      feed_forward: mlp                         # mlp, glu, depthwise, leff, gated, group, light, none
      norm: layer                               # layer, rms, group, batch, grn, none
      placement: pre                            # pre, post, res-post, parallel, deepnorm, sub-ln

Shallow convolution, stages of blocks with a convolution and a shortcut each, a long shortcut, reconstruction: Liang et
al. 2021, arXiv 2108.10257. With `[window, shifted_window]` it computes what SwinIR computes (the tests show it).

Shapes: B batch, H x W map, C embed_dim, s upscale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.block import MetaFormerBlock
from restore.layers.build import build_feed_forward, build_position
from restore.layers.convolution import Reconstruction, enlarged, residual_conv
from restore.layers.layer_norm import LayerNorm
from restore.layers.mixers import Mixer, build_mixer
from restore.layers.padding import crop, pad_to_multiple
from restore.layers.precision import float32_when_half
from restore.layers.reversible import ReversibleBlocks
from restore.layers.sharing import share_weights
from restore.networks.base import Network
from restore.networks.spec import ImageSpec
from restore.registry import NETWORKS, FeedForwardOption, MixerOption, NormOption, PlacementOption, PositionOption

__all__ = ["MetaFormerRestorer"]


@NETWORKS.add()
class MetaFormerRestorer(Network):
    """Restores (B, in_chans, H, W) in [0, 1] to (B, in_chans, H * upscale, W * upscale).

    Args:
        mixers: one registered mixer for each block, by name or with its options; they take turns within a stage.
        in_chans: channels of the image.
        embed_dim: C.
        depths: blocks of each stage.
        feed_forward: the second half of each block, by name or with its options; see `restore.layers.ffn`.
        mlp_ratio: hidden width of the feed-forward network, in C, unless its own options say it; two numbers are those
            of the first and the last block, between which it changes evenly.
        norm: of each branch, by name or with its options; see `restore.layers.norms`. (Files in which this says where
            the norm stands, "pre", "post" or "res-post", are read as saying it of `placement`.)
        placement: where the norms stand, by name or with its options; see `restore.layers.placements`.
        layer_scale: first value of a learned factor for each channel of a branch; None leaves it out.
        position: what tells mixers where they are, before each stage, by name or with its options; see
            `restore.layers.position`. (The bias of window attention is an option of that mixer.)
        drop_path_rate: stochastic depth of the last block, rising linearly from 0; active in training only.
        upscale: s; 1 for denoising, deblurring and JPEG.
        upsampler: "pixelshuffle", "pixelshuffledirect", "nearest+conv", or "" for a residual at the input's size.
        resi_connection: "1conv" or "3conv" at the end of each stage.
        reversible: the blocks of a stage work on two streams, from which what they computed follows again: memory for
            training does not grow with their number; see `restore.layers.reversible`.
        share_blocks: so many consecutive blocks of a stage share the weights of their mixers and feed-forward networks;
            see `restore.layers.sharing`.
        base: the enlarged image that is added to what the network makes of it, "bilinear" or "bicubic", which is then
            also what it starts as; "none": the network makes the whole image. For upscale 1 it is the image itself.

    Raises:
        OptionsError: a component that does not exist or options that it does not have.
        ValueError: an upscale that the upsampler cannot make, a base where nothing is enlarged, widths that do not
            divide, or more mixers than blocks.
    """

    telltale = "first_norm.weight"

    def __init__(
        self,
        mixers: MixerOption | Sequence[MixerOption] = ("window", "shifted_window"),
        in_chans: int = 3,
        embed_dim: int = 60,
        depths: Sequence[int] = (6, 6, 6, 6),
        feed_forward: FeedForwardOption = "mlp",
        mlp_ratio: float | tuple[float, float] = 2.0,
        norm: Literal["pre", "post", "res-post"] | NormOption = "layer",
        placement: PlacementOption = "pre",
        layer_scale: float | None = None,
        position: PositionOption = "none",
        drop_path_rate: float = 0.1,
        upscale: int = 1,
        upsampler: Literal["", "pixelshuffle", "pixelshuffledirect", "nearest+conv"] = "",
        resi_connection: Literal["1conv", "3conv"] = "1conv",
        reversible: bool = False,
        share_blocks: int = 1,
        base: Literal["none", "bilinear", "bicubic"] = "none",
    ):
        super().__init__()
        if base != "none" and upscale == 1:
            raise ValueError(f"base '{base}' is for upscale 2 and more: without one, the image itself is added to")
        self.in_chans, self.upscale, self.base = in_chans, upscale, base
        require_positive(in_chans=in_chans, embed_dim=embed_dim, depths=depths, mlp_ratio=mlp_ratio, upscale=upscale)
        choices = [mixers] if isinstance(mixers, (str, Mapping)) else mixers
        if norm in ("pre", "post", "res-post"):
            if placement != "pre":
                raise ValueError(
                    f"norm '{norm}' and placement '{placement}' both say where the norms stand: leave one out"
                )
            norm, placement = "layer", norm
        if not choices or not depths:
            raise ValueError("mixers and depths name at least one each (see `restore models mixer`)")
        if len(choices) > max(depths):
            raise ValueError(
                f"mixers take turns within a stage; {len(choices)} are given, but no stage has more than {max(depths)} "
                "blocks: some would never be used"
            )

        first_ratio, last_ratio = (mlp_ratio,) * 2 if isinstance(mlp_ratio, (int, float)) else mlp_ratio

        def block(index: int, number: int) -> MetaFormerBlock:
            return MetaFormerBlock(
                embed_dim,
                build_mixer(choices[index % len(choices)], embed_dim, path=f"mixers.{index % len(choices)}"),
                build_feed_forward(
                    feed_forward,
                    embed_dim,
                    mlp_ratio=first_ratio + (last_ratio - first_ratio) * number / max(sum(depths) - 1, 1),
                    index=number,
                    num_blocks=sum(depths),
                ),
                norm=norm,
                placement=placement,
                layer_scale=layer_scale,
                drop_path=drop_path_rate * number / max(sum(depths) - 1, 1),
                index=number,
                num_blocks=sum(depths),
            )

        def blocks(stage: int, depth: int) -> list[MetaFormerBlock]:
            made = [block(index, sum(depths[:stage]) + index) for index in range(depth)]
            share_weights(made, share_blocks, ("mixer", "ffn"))
            return made

        self.conv_first = nn.Conv2d(in_chans, embed_dim, 3, padding=1)
        self.first_norm = LayerNorm(embed_dim)
        self.stages = nn.ModuleList(
            Stage(
                build_position(position, embed_dim),
                blocks(stage, depth),
                residual_conv(embed_dim, resi_connection),
                reversible,
            )
            for stage, depth in enumerate(depths)
        )
        self.last_norm = LayerNorm(embed_dim)
        self.conv_after_body = residual_conv(embed_dim, resi_connection)
        self.reconstruction = Reconstruction(embed_dim, in_chans, upscale, upsampler)
        if base != "none":
            self.reconstruction.start_at_zero()
        self.size_multiple = math.lcm(*(side for mixer in self.mixers() for side in mixer.size_multiple))

    def mixers(self) -> list[Mixer]:
        """The mixer of every block, in order."""
        stages = [stage for stage in self.stages if isinstance(stage, Stage)]
        return [block.mixer for stage in stages for block in stage.blocks if isinstance(block, MetaFormerBlock)]

    @property
    def spec(self) -> ImageSpec:
        """What the network wants of its images."""
        return ImageSpec(
            scale=self.upscale,
            in_channels=self.in_chans,
            out_channels=self.in_chans,
            size_multiple=self.size_multiple,
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, in_chans, H, W) in [0, 1] to (B, in_chans, H * s, W * s)."""
        height, width = x_BCHW.shape[2:]
        padded = pad_to_multiple(x_BCHW, self.size_multiple).contiguous(memory_format=torch.channels_last)
        shallow = self.conv_first(padded - 0.5)
        x_BHWC = self.first_norm(shallow.permute(0, 2, 3, 1))
        for stage in self.stages:
            x_BHWC = stage(x_BHWC)
        deep = float32_when_half(self.conv_after_body, self.last_norm(x_BHWC).permute(0, 3, 1, 2)) + shallow
        restored = crop(self.reconstruction(deep, padded - 0.5), height * self.upscale, width * self.upscale)
        return restored + (0.5 if self.base == "none" else enlarged(x_BCHW, self.upscale, self.base))


class Stage(nn.Module):
    """Positions, blocks and a convolution, with a shortcut around them."""

    def __init__(
        self, position: nn.Module, blocks: Sequence[MetaFormerBlock], conv: nn.Module, reversible: bool = False
    ):
        super().__init__()
        self.position = position
        self.blocks = ReversibleBlocks(*blocks) if reversible else nn.Sequential(*blocks)
        self.conv = conv  # last: training states know parameters by their order

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        deep = self.blocks(self.position(x_BHWC)).permute(0, 3, 1, 2)
        return x_BHWC + float32_when_half(self.conv, deep).permute(0, 2, 3, 1)

"""IdentityFormer and RandFormer: MetaFormer blocks that do not mix positions at all, or by matrices that were drawn.

Yu et al. 2022, MetaFormer Baselines, arXiv 2210.13452. Official code: github.com/sail-sg/metaformer (Apache-2.0), whose
keys are kept; its other baselines are timm's. Here images may have any size: the matrices of RandFormer mix squares of
the map, of the side that they were drawn for.

B batch, H x W image, C channels of a stage.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from restore.encoders.base import IMAGENET, Normalisation
from restore.encoders.heads import LinearHead
from restore.encoders.staged import StagedEncoder, conv_reductions, split_depths
from restore.layers.block import MetaFormerBlock
from restore.layers.ffn import MLP
from restore.layers.mixers.convolution.local import IdentityMixer
from restore.layers.mixers.mlp.random import RandomMixing
from restore.layers.residual import LayerScale
from restore.registry import ENCODERS

__all__ = ["MetaFormerBaseline"]

_RENAMED = {
    "mixer.": "token_mixer.",
    "ffn.activation.": "mlp.act.",
    "ffn.": "mlp.",
    "shortcut_scales.0.gamma": "res_scale1.scale",
    "shortcut_scales.1.gamma": "res_scale2.scale",
}
_MEDIUM = (96, 192, 384, 768)
_SIZES = {
    "s12": {},
    "s24": {"depths": (4, 4, 12, 4)},
    "s36": {"depths": (6, 6, 18, 6)},
    "m36": {"depths": (6, 6, 18, 6), "dims": _MEDIUM},
    "m48": {"depths": (8, 8, 24, 8), "dims": _MEDIUM},
}


@ENCODERS.add("randformer", variants=_SIZES, grids=(None, None, 14, 7))
@ENCODERS.add("identityformer", variants=_SIZES)
class MetaFormerBaseline(StagedEncoder):
    """Four maps of strides 4, 8, 16 and 32.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`.
        dims: channels of the stages.
        depths: blocks of the stages.
        grids: sides of the squares that positions are mixed in by drawn matrices, for each stage; None for no mixing.
        mlp_ratio: hidden width of the feed-forward networks, in channels.
        drop_path: probability that the last block is dropped in training; less before it.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        dims: Sequence[int] = (64, 128, 320, 512),
        depths: Sequence[int] = (2, 2, 6, 2),
        grids: Sequence[int | None] = (None, None, None, None),
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
    ):
        super().__init__(
            in_chans,
            channels=dims,
            out_indices=out_indices,
            normalisation=normalisation,
            weights_statistics=IMAGENET,
        )
        self.downsample_layers = nn.ModuleList(conv_reductions(in_chans, dims))
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Block(dim, grid, mlp_ratio, rate, scaled=stage >= 2) for rate in rates))
            for stage, (dim, grid, rates) in enumerate(zip(dims, grids, split_depths(depths, drop_path), strict=True))
        )

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        if not key.startswith("stages."):
            return key
        kind, stage, block, rest = key.split(".", 3)
        own = next((name for name in _RENAMED if rest.startswith(name)), "")
        return f"{kind}.{stage}.{block}.{_RENAMED.get(own, '')}{rest.removeprefix(own)}"

    def head(self, num_classes: int) -> nn.Module:
        """One linear layer on the norm of the mean of the coarsest map."""
        dim = self._declared[-1][0]
        return LinearHead(dim, num_classes, norm=nn.LayerNorm(dim, eps=1e-6))


class _Block(MetaFormerBlock):
    """No biases, StarReLU, a norm over the whole map; where it is scaled, a learned factor on each shortcut."""

    def __init__(self, dim: int, grid: int | None, mlp_ratio: float, drop_path: float, scaled: bool):
        super().__init__(
            dim,
            IdentityMixer(dim) if grid is None else RandomMixing(dim, grid),
            MLP(dim, mlp_ratio, activation="star_relu", bias=False),
            norm={"type": "group", "eps": 1e-6, "bias": False},
            drop_path=drop_path,
        )
        self.shortcut_scales = nn.ModuleList(LayerScale(dim, 1.0) if scaled else nn.Identity() for _ in range(2))

    def join(self, number: int, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """The scaled stream with the output of a branch."""
        return super().join(number, self.shortcut_scales[number](x), output)

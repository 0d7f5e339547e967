"""HorNet: blocks of recursive gated convolutions, of growing order from stage to stage.

Rao et al. 2022, arXiv 2207.14284. Official code: github.com/raoyongming/HorNet (MIT), whose keys are kept. Linear maps
stand where it has 1x1 convolutions.

B batch, H x W image, C channels of a stage.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from restore.encoders.base import Normalisation
from restore.encoders.heads import LinearHead
from restore.encoders.staged import StagedEncoder, norm_reductions, normed_patches, split_depths
from restore.layers.block import MetaFormerBlock
from restore.layers.ffn import MLP
from restore.layers.mixers.convolution.recursive import RecursiveGatedConvolution
from restore.registry import ENCODERS

__all__ = ["HorNet"]

_RENAMED = {
    "mixer.": "gnconv.",
    "ffn.fc1.": "pwconv1.",
    "ffn.fc2.": "pwconv2.",
    "scale1.gamma": "gamma1",
    "scale2.gamma": "gamma2",
}
_FILTERS = (None, None, 14, 7)
_SIZES = {
    f"{size}{suffix}": {"base_dim": dim, "filter_sizes": filters}
    for size, dim in (("tiny", 64), ("small", 96), ("base", 128), ("large", 192))
    for suffix, filters in (("", None), ("_gf", _FILTERS))
}
_SIZES["large_gf384"] = {"base_dim": 192, "filter_sizes": (None, None, 24, 12)}


@ENCODERS.add("hornet", variants=_SIZES)
class HorNet(StagedEncoder):
    """Four maps of strides 4, 8, 16 and 32.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`.
        base_dim: channels of the first stage, doubled from stage to stage; a multiple of 2^(order - 1).
        depths: blocks of the stages.
        orders: of the gated convolutions of the stages.
        kernel_size: side of the depth-wise convolutions.
        scale: factor of what gates.
        layer_scale: first value of the learned factors of the branches; None: there are none.
        filter_sizes: rows of the global filters that take the place of the convolutions, for each stage or None.
        drop_path: probability that the last block is dropped in training; less before it.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        base_dim: int = 64,
        depths: Sequence[int] = (2, 3, 18, 2),
        orders: Sequence[int] = (2, 3, 4, 5),
        kernel_size: int = 7,
        scale: float = 1 / 3,
        layer_scale: float | None = 1e-6,
        filter_sizes: Sequence[int | None] | None = None,
        drop_path: float = 0.0,
    ):
        dims = [base_dim << stage for stage in range(len(depths))]
        super().__init__(in_chans, channels=dims, out_indices=out_indices, normalisation=normalisation)
        self.downsample_layers = nn.ModuleList([normed_patches(in_chans, dims[0], eps=1e-6), *norm_reductions(dims)])
        filters = filter_sizes or (None,) * len(depths)
        stages = zip(dims, split_depths(depths, drop_path), orders, filters, strict=True)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    MetaFormerBlock(
                        dim,
                        RecursiveGatedConvolution(dim, order, kernel_size, filter_size, scale),
                        MLP(dim),
                        norm={"type": "layer", "eps": 1e-6},
                        layer_scale=layer_scale,
                        drop_path=rate,
                    )
                    for rate in rates
                )
            )
            for dim, rates, order, filter_size in stages
        )

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        for own, published in _RENAMED.items():
            key = key.replace(f".{own}", f".{published}") if key.startswith("stages.") else key
        return key

    def head(self, num_classes: int) -> nn.Module:
        """One linear layer on the normed mean of the coarsest map."""
        dim = self._declared[-1][0]
        return LinearHead(dim, num_classes, norm=nn.LayerNorm(dim, eps=1e-6))

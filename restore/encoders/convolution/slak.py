"""SLaK: ConvNeXt with depth-wise kernels of up to 51 x 51, made of three that fold into one.

Liu et al. 2022, arXiv 2207.03620. Official code: github.com/VITA-Group/SLaK (MIT), whose keys are kept. The sparse
weights that it trains are a matter of training; what is published is dense with zeros.

B batch, H x W image, C channels of a stage.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from restore.encoders.base import Normalisation
from restore.encoders.heads import LinearHead
from restore.encoders.staged import StagedEncoder, norm_reductions, normed_patches, split_depths
from restore.layers.ffn import MLP
from restore.layers.mixers.convolution.large import LargeKernel
from restore.layers.residual import DropPath, LayerScale
from restore.registry import ENCODERS

__all__ = ["SLaK"]

_RENAMED = {
    "mixer.": "large_kernel.",
    "ffn.fc1.": "pwconv1.",
    "ffn.fc2.": "pwconv2.",
    "scale.gamma": "gamma",
}
_SIZES = {
    "tiny": {"depths": (3, 3, 9, 3), "dims": (96, 192, 384, 768)},
    "small": {"depths": (3, 3, 27, 3), "dims": (96, 192, 384, 768)},
    "base": {"depths": (3, 3, 27, 3), "dims": (128, 256, 512, 1024)},
}


@ENCODERS.add("slak", variants=_SIZES)
class SLaK(StagedEncoder):
    """Four maps of strides 4, 8, 16 and 32.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`.
        dims: channels of the stages, before `width_factor`.
        depths: blocks of the stages.
        kernel_sizes: long side of the kernels of the stages.
        small_size: short side.
        decomposed: see `LargeKernel`.
        batch_norm: whether there is one after each kernel.
        layer_scale: first value of the learned factors of the branches; None: there are none.
        width_factor: of the channels; published weights have 1.3, of which 40 % are zero.
        drop_path: probability that the last block is dropped in training; less before it.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        dims: Sequence[int] = (96, 192, 384, 768),
        depths: Sequence[int] = (3, 3, 9, 3),
        kernel_sizes: Sequence[int] = (51, 49, 47, 13),
        small_size: int = 5,
        decomposed: bool = True,
        batch_norm: bool = True,
        layer_scale: float | None = 1e-6,
        width_factor: float = 1.0,
        drop_path: float = 0.0,
    ):
        dims = [int(dim * width_factor) for dim in dims]
        super().__init__(in_chans, channels=dims, out_indices=out_indices, normalisation=normalisation)
        self.downsample_layers = nn.ModuleList([normed_patches(in_chans, dims[0], eps=1e-6), *norm_reductions(dims)])
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    _Block(
                        LargeKernel(dim, kernel_size, small_size, batch_norm, decomposed, bias=False), layer_scale, rate
                    )
                    for rate in rates
                )
            )
            for dim, kernel_size, rates in zip(dims, kernel_sizes, split_depths(depths, drop_path), strict=True)
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


class _Block(nn.Module):
    """ConvNeXt's block: kernel, norm and feed-forward network on one branch."""

    def __init__(self, mixer: LargeKernel, layer_scale: float | None, drop_path: float):
        super().__init__()
        self.mixer, dim = mixer, mixer.dim
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.ffn = MLP(dim)
        self.scale = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        return x_BHWC + self.drop_path(self.scale(self.ffn(self.norm(self.mixer(x_BHWC)))))

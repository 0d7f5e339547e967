"""CycleMLP: perceptrons over channels that are read at cycling places, so that the map may have any size.

Chen et al. 2021, arXiv 2107.10224. Official code: github.com/ShoufaChen/CycleMLP (MIT), whose keys are kept. Here
cycle layers are shifts and linear maps where it has deformable convolutions; the outputs are the same.

B batch, H x W image, C channels of a stage.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from restore.encoders.base import Normalisation
from restore.encoders.heads import LinearHead
from restore.encoders.staged import StagedEncoder, network_key, split_depths
from restore.layers.block import MetaFormerBlock
from restore.layers.ffn import MLP
from restore.layers.mixers.mlp.cycle import CycleMixer
from restore.layers.residual import FixedScale
from restore.registry import ENCODERS

__all__ = ["CycleMLP"]

_RENAMED = {"mixer.": "attn.", "ffn.": "mlp."}
_SIZES = {
    "b1": {"depths": (2, 2, 4, 2)},
    "b2": {"depths": (2, 3, 10, 3)},
    "b3": {"depths": (3, 4, 18, 3), "mlp_ratios": (8, 8, 4, 4)},
    "b4": {"depths": (3, 8, 27, 3), "mlp_ratios": (8, 8, 4, 4)},
    "b5": {"depths": (3, 4, 24, 3), "dims": (96, 192, 384, 768)},
}


@ENCODERS.add("cyclemlp", variants=_SIZES)
class CycleMLP(StagedEncoder):
    """Four maps of strides 4, 8, 16 and 32.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`.
        dims: channels of the stages.
        depths: blocks of the stages.
        mlp_ratios: hidden width of the feed-forward networks of the stages, in channels.
        qkv_bias: whether the linear maps beside the cycle layers have a bias.
        skip_factor: what each branch is divided by (`skip_lam`).
        drop_path: probability that the last block is dropped in training; less before it.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        dims: Sequence[int] = (64, 128, 320, 512),
        depths: Sequence[int] = (2, 2, 4, 2),
        mlp_ratios: Sequence[float] = (4, 4, 4, 4),
        qkv_bias: bool = False,
        skip_factor: float = 1.0,
        drop_path: float = 0.0,
    ):
        super().__init__(in_chans, channels=dims, out_indices=out_indices, normalisation=normalisation)
        widths = [in_chans, *dims]
        self.downsample_layers = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 3, 2, 1) if i else nn.Conv2d(widths[0], widths[1], 7, 4, 2)
            for i in range(len(dims))
        )
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    MetaFormerBlock(dim, CycleMixer(dim, bias=qkv_bias), MLP(dim, ratio), drop_path=rate)
                    for rate in rates
                )
            )
            for dim, ratio, rates in zip(dims, mlp_ratios, split_depths(depths, drop_path), strict=True)
        )

        if skip_factor != 1:
            for block in self.blocks():
                assert isinstance(block, MetaFormerBlock)
                block.scale1 = block.scale2 = FixedScale(1 / skip_factor)

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        return network_key(key, _RENAMED)

    def head(self, num_classes: int) -> nn.Module:
        """One linear layer on the mean of the normed map."""
        dim = self._declared[-1][0]
        return LinearHead(dim, num_classes, pooling="normed_map", norm=nn.LayerNorm(dim))

"""Refined attention: maps of more heads than there are, convolved like pictures, become the maps of the heads.

Refiner, Zhou et al. 2021, arXiv 2106.03714, section 4. Convolving a map along its keys is attending to values that were
correlated with the kernel before, (A * K) V = A (K corr V): the paper calls it distributed local attention. Official
code: github.com/zhoudaquan/Refiner_ViT (no licence), of which only facts are taken. Checked against the official code.
"""

from __future__ import annotations

import torch
from torch import nn

from restore.layers.arguments import require_odd
from restore.layers.mixers.attention.full import AttentionPosition, MapAttention
from restore.layers.mixers.attention.map_convolutions import convolved_maps
from restore.registry import MIXERS

__all__ = ["RefinedAttention", "add_refinement", "refined"]


@MIXERS.add("refined")
class RefinedAttention(MapAttention):
    """Attention whose maps are refined before the values are summed.

    Args:
        dim: channels.
        num_heads: attention heads.
        qkv_bias: whether queries, keys and values have a bias.
        expansion: maps that are convolved, in heads.
        kernel_size: side of the convolutions, odd.
        position: see `SelfAttention`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 6,
        qkv_bias: bool = True,
        expansion: float = 3.0,
        kernel_size: int = 3,
        position: AttentionPosition = "none",
    ):
        super().__init__(dim, num_heads, qkv_bias, position)
        self.rows_around = kernel_size // 2
        add_refinement(self, num_heads, expansion, kernel_size)

    def change_map(self, map_BhNN: torch.Tensor) -> torch.Tensor:
        """The refined maps."""
        return refined(self, map_BhNN)


def add_refinement(attention: nn.Module, num_heads: int, expansion: float = 3.0, kernel_size: int = 3) -> None:
    """Give a module the layers that `refined` applies, under their published names."""
    require_odd(kernel_size=kernel_size)
    hidden, around = round(num_heads * expansion), kernel_size // 2
    layers = {
        "conv_exp": nn.Conv2d(num_heads, hidden, 1, bias=False),
        "bn1": nn.BatchNorm2d(hidden),
        "relu1": nn.ReLU6(),
        "depth_sep_conv": nn.Conv2d(hidden, hidden, kernel_size, padding=around, groups=hidden, bias=False),
        "bn2": nn.BatchNorm2d(hidden),
        "relu2": nn.ReLU6(),
        "conv_pro": nn.Conv2d(hidden, num_heads, 1, bias=False),
        "bn3": nn.BatchNorm2d(num_heads),
    }
    attention.DLA = nn.Sequential()
    for name, layer in layers.items():
        attention.DLA.add_module(name, layer)
    attention.adapt_bn = nn.BatchNorm2d(num_heads)


def refined(attention: nn.Module, map_BhNN: torch.Tensor) -> torch.Tensor:
    """The maps and what the convolutions make of them, after a batch norm; rows need not sum to 1."""
    convolutions, norm = attention.get_submodule("DLA"), attention.get_submodule("adapt_bn")
    assert isinstance(convolutions, nn.Sequential)
    convolved_BhNN = convolved_maps(map_BhNN, convolutions)
    if convolved_BhNN is None:
        convolved_BhNN = convolutions(map_BhNN)
    else:
        convolved_BhNN = convolutions.get_submodule("bn3")(convolved_BhNN)
    refined_BhNN: torch.Tensor = norm(map_BhNN + convolved_BhNN)
    return refined_BhNN

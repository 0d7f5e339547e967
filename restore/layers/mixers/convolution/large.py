"""Very large depth-wise kernels made of several, K x 5, 5 x K and 5 x 5, each with a batch norm; they fold into one.

SLaK, Liu et al. 2022, arXiv 2207.03620, section 3. Official code: github.com/VITA-Group/SLaK (MIT). Checked against
the official code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_odd
from restore.layers.folding import fold_norm
from restore.layers.mixers.base import Mixer
from restore.registry import MIXERS

__all__ = ["LargeKernel"]


@MIXERS.add("large_kernel")
class LargeKernel(Mixer):
    """The sum of a tall, a wide and a small depth-wise convolution.

    Args:
        dim: channels of the map.
        kernel_size: K, the long side, odd.
        small_size: the short side, odd; there is no small convolution where it is K.
        batch_norm: after each of them.
        decomposed: whether there are a tall and a wide convolution, or one of K x K in their place (RepLKNet, Ding et
            al. 2022, arXiv 2203.06717).
        bias: of each of them; None: where there is no batch norm.
    """

    def __init__(
        self,
        dim: int,
        kernel_size: int = 31,
        small_size: int = 5,
        batch_norm: bool = True,
        decomposed: bool = True,
        bias: bool | None = None,
    ):
        require_odd(kernel_size=kernel_size, small_size=small_size)
        if small_size > kernel_size:
            raise ValueError(f"small_size {small_size} must not be larger than kernel_size {kernel_size}")
        super().__init__(dim, halo_px=kernel_size // 2)
        self.kernel_size = kernel_size
        sizes = {"LoRA1": (kernel_size, small_size), "LoRA2": (small_size, kernel_size)}
        sizes = sizes if decomposed else {"lkb_origin": (kernel_size, kernel_size)}
        if small_size < kernel_size:
            sizes["small_conv"] = (small_size, small_size)
        self._names = tuple(sizes)
        for name, size in sizes.items():
            self.add_module(name, _NormedConvolution(dim, size, batch_norm, not batch_norm if bias is None else bias))

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The sum of all."""
        x_BCHW = x_BHWC.permute(0, 3, 1, 2)
        first, *others = self._convolutions()
        mixed_BCHW = first(x_BCHW)
        for convolution in others:
            mixed_BCHW = mixed_BCHW + convolution(x_BCHW)
        return mixed_BCHW.permute(0, 2, 3, 1)

    def folded(self) -> FoldedLargeKernel:
        """One depth-wise convolution of K x K with the same output."""
        merged = FoldedLargeKernel(self.dim, self.kernel_size).to(self._convolutions()[0].conv.weight)
        merged.inner_norm = self.inner_norm
        weights, biases = [], [torch.zeros(self.dim, dtype=torch.float64, device=merged.conv.weight.device)]
        for branch in self._convolutions():
            conv = fold_norm(branch.conv, branch.bn) if isinstance(branch.bn, nn.BatchNorm2d) else branch.conv
            rows, columns = ((self.kernel_size - side) // 2 for side in conv.kernel_size)
            weights.append(F.pad(conv.weight.double(), (columns, columns, rows, rows)))
            biases += [] if conv.bias is None else [conv.bias.double()]
        assert merged.conv.bias is not None
        with torch.no_grad():
            merged.conv.weight.copy_(torch.stack(weights).sum(dim=0))
            merged.conv.bias.copy_(torch.stack(biases).sum(dim=0))
        return merged

    def _convolutions(self) -> list[_NormedConvolution]:
        found = [self.get_submodule(name) for name in self._names]
        return [each for each in found if isinstance(each, _NormedConvolution)]


class FoldedLargeKernel(Mixer):
    """What `LargeKernel` folds into."""

    def __init__(self, dim: int, kernel_size: int):
        super().__init__(dim, halo_px=kernel_size // 2)
        self.conv = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The convolution."""
        return self.conv(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class _NormedConvolution(nn.Module):
    def __init__(self, dim: int, size: tuple[int, int], batch_norm: bool, bias: bool):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, size, padding=(size[0] // 2, size[1] // 2), groups=dim, bias=bias)
        self.bn = nn.BatchNorm2d(dim) if batch_norm else nn.Identity()

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x_BCHW))

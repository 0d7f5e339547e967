"""RepMLP: a linear map of the positions of a window beside small convolutions, which fold into it.

RepMLPNet, Ding et al. 2021, arXiv 2112.11081, section 3. Official code: github.com/DingXiaoH/RepMLP (MIT). Checked
against the official code. Channel c belongs to set c mod S, and all channels of a set
share one matrix and one kernel of each size.

Shape legend: W windows of the whole batch, h x w their sides, N = h w, S sets of channels, D channels of a set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_odd, require_positive
from restore.layers.mixers.base import Mixer
from restore.layers.mixers.mlp.spatial import PositionLinear
from restore.layers.padding import crop, cut_tiles, pad_to_multiple, paste_tiles
from restore.registry import MIXERS

__all__ = ["RepMLP"]


@MIXERS.add("repmlp")
class RepMLP(Mixer):
    """Windows mixed by a matrix and convolutions, times a gate that looks at the mean of the whole map.

    Maps of any size are reflected at the bottom and the right up to whole windows.

    Args:
        dim: channels of the map.
        window_size: side of the windows, or rows and columns.
        num_sharesets: S; a divisor of `dim`.
        kernel_sizes: sides of the convolutions, odd; none after folding.
        reduction: the hidden layer of the gate has dim / reduction channels.
        batch_norm: after the matrix, as in training; without it the matrix has a bias.
        compat: put windows together as the official code does: where a map has several windows and a set several
            channels, it takes the windows of one channel for those of another. With one window both are the same.
    """

    def __init__(
        self,
        dim: int,
        window_size: int | tuple[int, int] = 8,
        num_sharesets: int = 1,
        kernel_sizes: Sequence[int] = (1, 3),
        reduction: int = 4,
        batch_norm: bool = True,
        compat: bool = False,
    ):
        rows, columns = (window_size,) * 2 if isinstance(window_size, int) else tuple(window_size)
        require_positive(window_size=(rows, columns), num_sharesets=num_sharesets, reduction=reduction)
        for kernel_size in kernel_sizes:
            require_odd(kernel_size=kernel_size)
        if dim % num_sharesets or dim < reduction:
            raise ValueError(f"dim {dim} must be a multiple of num_sharesets {num_sharesets}, and at least {reduction}")
        super().__init__(dim, halo_px=None)
        self.window, self.num_sets, self.kernel_sizes = (rows, columns), num_sharesets, tuple(kernel_sizes)
        self.reduction, self.compat = reduction, compat
        self.gp = nn.ModuleDict({"fc1": nn.Linear(dim, dim // reduction), "fc2": nn.Linear(dim // reduction, dim)})
        self.fc3 = PositionLinear(num_sharesets, rows * columns, rows * columns, bias=not batch_norm)
        self.fc3_bn = nn.BatchNorm2d(num_sharesets) if batch_norm else nn.Identity()
        for size in self.kernel_sizes:
            self.add_module(f"repconv{size}", _Convolution(num_sharesets, size))

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The gated windows."""
        gate_BC = self.gp["fc2"](F.relu(self.gp["fc1"](x_BHWC.mean(dim=(1, 2))))).sigmoid()
        padded_BCHW = pad_to_multiple(x_BHWC.permute(0, 3, 1, 2).contiguous(), self.window)
        B, C, H, W = padded_BCHW.shape
        windows_WCHW = cut_tiles(padded_BCHW, self.window)
        x_WSND = windows_WCHW.reshape(-1, C // self.num_sets, self.num_sets, self.fc3.num_in).permute(0, 2, 3, 1)
        sets_GSHW = windows_WCHW.reshape(-1, self.num_sets, *self.window)
        mixed_GSHW = self.fc3_bn(self.fc3(x_WSND).permute(0, 3, 1, 2).reshape(sets_GSHW.shape))
        for branch in self._convolutions():
            mixed_GSHW = mixed_GSHW + branch(sets_GSHW)
        across = (H // self.window[0], W // self.window[1])
        if self.compat:
            mixed_BCHW = paste_tiles(mixed_GSHW, *across).reshape(B, C, H, W)
        else:
            mixed_BCHW = paste_tiles(mixed_GSHW.reshape(windows_WCHW.shape), *across)
        mixed_BCHW = crop(mixed_BCHW, *x_BHWC.shape[1:3])
        return mixed_BCHW.permute(0, 2, 3, 1) * gate_BC[:, None, None]

    def folded(self) -> RepMLP:
        """The same mixer with one matrix: "locality injection", the convolutions of every unit image beside it."""
        if isinstance(self.fc3_bn, nn.Identity) and not self.kernel_sizes:
            return self
        merged = RepMLP(
            self.dim, self.window, self.num_sets, (), self.reduction, batch_norm=False, compat=self.compat
        ).to(self.fc3.weight)
        merged.gp, merged.inner_norm = self.gp, self.inner_norm
        rows, columns = self.window
        matrix_SNM = self.fc3.weight.unflatten(0, (self.num_sets, -1))
        bias_S1 = matrix_SNM.new_zeros(self.num_sets, 1)
        if isinstance(self.fc3_bn, nn.BatchNorm2d):
            scale_S1, bias_S1 = _affine(self.fc3_bn)
            matrix_SNM = matrix_SNM * scale_S1[..., None]
        units = torch.eye(rows * columns).to(matrix_SNM).view(-1, 1, rows, columns).expand(-1, self.num_sets, -1, -1)
        for branch in self._convolutions():
            scale_S1, shift_S1 = _affine(branch.bn)
            seen_MSHW = branch.conv(units) * scale_S1[..., None]
            matrix_SNM, bias_S1 = matrix_SNM + seen_MSHW.flatten(2).permute(1, 2, 0), bias_S1 + shift_S1
        bias_SN = bias_S1 if self.fc3.bias is None else bias_S1 + self.fc3.bias.view(self.num_sets, -1)
        merged.fc3.weight = nn.Parameter(matrix_SNM.flatten(0, 1))
        merged.fc3.bias = nn.Parameter(bias_SN.expand(-1, rows * columns).flatten())
        return merged

    def _convolutions(self) -> Iterator[_Convolution]:
        for size in self.kernel_sizes:
            branch = self.get_submodule(f"repconv{size}")
            assert isinstance(branch, _Convolution)
            yield branch


class _Convolution(nn.Module):
    def __init__(self, num_sets: int, size: int):
        super().__init__()
        self.conv = nn.Conv2d(num_sets, num_sets, size, padding=size // 2, groups=num_sets, bias=False)
        self.bn = nn.BatchNorm2d(num_sets)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x_BCHW))


def _affine(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """What the norm multiplies each channel by in evaluation mode, and what it adds then; (C, 1) each."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale_C = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale_C[:, None], (norm.bias - norm.running_mean * scale_C)[:, None]

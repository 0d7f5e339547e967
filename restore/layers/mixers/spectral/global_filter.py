"""Global filters: each channel's Fourier transform is multiplied by learned numbers, one for each frequency.

GFNet, Rao et al. 2021, arXiv 2107.00645, section 3.2; and the half-local form of HorNet (arXiv 2207.14284). It is a
circular convolution whose kernel is as large as the map: with the kernel irfft2(W), unnormalised, the tests show it.
Official code: github.com/raoyongming/GFNet (MIT). Checked against the official code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.exportable import complex_product, frequencies, from_frequencies, is_of_size
from restore.layers.mixers.base import Mixer
from restore.layers.precision import without_autocast
from restore.registry import MIXERS

__all__ = ["GlobalFilter", "LocalGlobalFilter", "filter_kernel", "filtered"]


@MIXERS.add("global_filter")
class GlobalFilter(Mixer):
    """A learned filter of the frequencies of each channel; on a map of another size it is resampled.

    Args:
        dim: channels of the map.
        filter_size: rows, or rows and columns, of the map that the filter is made for.
    """

    def __init__(self, dim: int, filter_size: int | tuple[int, int] = 14):
        rows, columns = (filter_size,) * 2 if isinstance(filter_size, int) else tuple(filter_size)
        require_positive(filter_size=(rows, columns))
        super().__init__(dim, halo_px=None)
        self.complex_weight = nn.Parameter(0.02 * torch.randn(rows, columns // 2 + 1, dim, 2))

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The filtered map."""
        weight_HFC2 = self.complex_weight.float()
        wanted = (x_BHWC.shape[1], x_BHWC.shape[2] // 2 + 1)
        # of an odd and an even number of columns with as many frequencies, the filter is taken as it is
        if not is_of_size(weight_HFC2.shape[:2], wanted):
            weight_HFC2 = _resampled(weight_HFC2.permute(2, 3, 0, 1), wanted, align=False).permute(2, 3, 0, 1)
        return filtered(x_BHWC.permute(0, 3, 1, 2), weight_HFC2.permute(2, 0, 1, 3)).permute(0, 2, 3, 1)


class LocalGlobalFilter(nn.Module):
    """One half of the channels by a 3x3 depth-wise convolution, the other by a global filter, interleaved.

    Norms over the channels stand before and after. Keys and resampling are those of HorNet.

    Args:
        dim: channels, even.
        filter_size: rows of the filter; it has filter_size // 2 + 1 columns of frequencies.
    """

    def __init__(self, dim: int, filter_size: int):
        super().__init__()
        if dim % 2:
            raise ValueError(f"a filter of half of the channels takes an even number of channels, given {dim}")
        half = dim // 2
        self.dw = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.complex_weight = nn.Parameter(0.02 * torch.randn(half, filter_size, filter_size // 2 + 1, 2))
        self.pre_norm, self.post_norm = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The same shape."""
        x_BCHW = self.pre_norm(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        near, far = x_BCHW.chunk(2, dim=1)
        weight_CHF2 = self.complex_weight.float()
        wanted = (x_BCHW.shape[2], x_BCHW.shape[3] // 2 + 1)
        if not is_of_size(weight_CHF2.shape[1:3], wanted):
            weight_CHF2 = _resampled(weight_CHF2.permute(0, 3, 1, 2), wanted, align=True).permute(0, 2, 3, 1)
        both = torch.stack([self.dw(near), filtered(far, weight_CHF2)], dim=2).flatten(1, 2)
        return self.post_norm(both.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def filtered(x_BCHW: torch.Tensor, weight_CHF2: torch.Tensor) -> torch.Tensor:
    """Each channel times its filter in the frequency domain, computed in float32 or better.

    Args:
        x_BCHW: the map.
        weight_CHF2: real and imaginary part for each row and each of W // 2 + 1 columns of frequencies.
    """
    exact = torch.float64 if x_BCHW.dtype == torch.float64 else torch.float32
    with without_autocast(x_BCHW):
        parts_BCHF2 = complex_product(frequencies(x_BCHW.to(exact)), weight_CHF2.to(exact))
        return from_frequencies(parts_BCHF2, x_BCHW.shape[2:]).to(x_BCHW.dtype)


def filter_kernel(weight_CHF2: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The kernel (C, H, W) whose circular convolution `filtered` computes."""
    return torch.fft.irfft2(torch.complex(*weight_CHF2.unbind(-1)), s=size)


def _resampled(weight_C2HF: torch.Tensor, size: tuple[int, int], align: bool) -> torch.Tensor:
    return F.interpolate(weight_C2HF, size, mode="bilinear", align_corners=align)

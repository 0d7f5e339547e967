"""Adaptive Fourier neural operators: a small perceptron, shared by all frequencies, between two Fourier transforms.

AFNO, Guibas et al. 2021, arXiv 2111.13587, section 4: y = x + F^-1 S(W2 relu(W1 F x + b1) + b2), with matrices that are
block-diagonal over channels, relu and the soft shrinkage S on real and imaginary parts apart. Written from the
equations of the paper; official code: github.com/NVlabs/AFNO-transformer (CC-BY-NC-SA-4.0). Checked against closed
forms. The published networks keep every frequency.

Shape legend: B batch, H x W map, F = W // 2 + 1 columns of frequencies, K blocks of D channels, E hidden channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.exportable import frequencies, from_frequencies
from restore.layers.mixers.base import Mixer
from restore.layers.precision import without_autocast
from restore.registry import MIXERS

__all__ = ["AdaptiveFourierOperator"]


@MIXERS.add("afno")
class AdaptiveFourierOperator(Mixer):
    """A two-layer complex perceptron of the channels of each frequency, added to the map.

    Args:
        dim: channels of the map.
        num_blocks: K; a divisor of `dim`.
        sparsity: numbers up to this size become 0, all others shrink by it; relative to an orthonormal transform.
        expansion: hidden channels, in channels.
        fraction: how many of the frequencies along rows are kept, lowest first, in half of the number of all positions,
            as the official code counts them; all others become 0.
    """

    def __init__(
        self, dim: int, num_blocks: int = 4, sparsity: float = 0.01, expansion: int = 1, fraction: float = 1.0
    ):
        require_positive(num_blocks=num_blocks, expansion=expansion)
        if dim % num_blocks or sparsity < 0:
            raise ValueError(
                f"dim {dim} must be a multiple of num_blocks {num_blocks}, and sparsity {sparsity} not below 0"
            )
        super().__init__(dim, halo_px=None)
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction is {fraction}: a share is between 0 and 1")
        self.num_blocks, self.sparsity, self.fraction = num_blocks, sparsity, fraction
        size = dim // num_blocks
        self.w1 = nn.Parameter(0.02 * torch.randn(2, num_blocks, size, size * expansion))
        self.b1 = nn.Parameter(0.02 * torch.randn(2, num_blocks, size * expansion))
        self.w2 = nn.Parameter(0.02 * torch.randn(2, num_blocks, size * expansion, size))
        self.b2 = nn.Parameter(0.02 * torch.randn(2, num_blocks, size))

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The map and what the perceptron makes of it, computed in float32 or better."""
        exact = torch.float64 if x_BHWC.dtype == torch.float64 else torch.float32
        with without_autocast(x_BHWC):
            parts_BCHF2 = frequencies(x_BHWC.to(exact).permute(0, 3, 1, 2))
            parts_2BHFKD = parts_BCHF2.permute(4, 0, 2, 3, 1).unflatten(4, (self.num_blocks, -1))
            hidden_2BHFKE = F.relu(_complex_linear(parts_2BHFKD, self.w1, self.b1))
            parts_2BHFKD = _complex_linear(hidden_2BHFKE, self.w2, self.b2)
            shrunk_BCHF2 = F.softshrink(parts_2BHFKD, self.sparsity).flatten(4, 5).permute(1, 4, 2, 3, 0)
            if self.fraction < 1:
                kept = int((x_BHWC.shape[1] * x_BHWC.shape[2] // 2 + 1) * self.fraction)
                columns_F1 = torch.arange(shrunk_BCHF2.shape[3], device=shrunk_BCHF2.device)[:, None]
                shrunk_BCHF2 = shrunk_BCHF2 * (columns_F1 < kept)
            output_BCHW = from_frequencies(shrunk_BCHF2, x_BHWC.shape[1:3])
            return x_BHWC + output_BCHW.permute(0, 2, 3, 1).to(x_BHWC.dtype)


def _complex_linear(x_2BHFKD: torch.Tensor, weight_2KDE: torch.Tensor, bias_2KE: torch.Tensor) -> torch.Tensor:
    """The product with a complex matrix for each block, of real and imaginary parts."""
    real, imaginary = x_2BHFKD
    weight_2KDE, bias_2KE = weight_2KDE.to(x_2BHFKD.dtype), bias_2KE.to(x_2BHFKD.dtype)

    def times(part: torch.Tensor, weight_KDE: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bhfkd,kde->bhfke", part, weight_KDE)

    product_real = times(real, weight_2KDE[0]) - times(imaginary, weight_2KDE[1]) + bias_2KE[0]
    product_imaginary = times(imaginary, weight_2KDE[0]) + times(real, weight_2KDE[1]) + bias_2KE[1]
    return torch.stack([product_real, product_imaginary])

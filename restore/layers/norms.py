"""Norms: channels-last maps (B, H, W, C) or tokens (B, N, C) in and out.

`halo_px` of a norm that computes over positions is None: it may reach anywhere. All others look at one position.
"""

from __future__ import annotations

import torch
from torch import nn

from restore.layers.folding import scale_weights
from restore.registry import NORMS

__all__ = ["BatchNorm", "GlobalResponseNorm", "GroupNorm", "RMSNorm", "none", "scale_output"]


@NORMS.add("rms")
class RMSNorm(nn.RMSNorm):
    """Root mean square 1 over the channels of each position (Zhang & Sennrich 2019, arXiv 1910.07467).

    Args:
        dim: channels.
        eps: added to the mean square.
    """

    def __init__(self, dim: int, eps: float = 1e-6):
        super().__init__(dim, eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, ..., C) to the same shape; in the precision of the weight, also under autocast."""
        return super().forward(x.to(self.weight.dtype))


@NORMS.add("group")
class GroupNorm(nn.GroupNorm):
    """Mean 0 and variance 1 over all positions and the channels of each group (Wu & He 2018, arXiv 1803.08494).

    Args:
        dim: channels.
        num_groups: groups of channels; 1 is the norm of PoolFormer (Yu et al. 2022, arXiv 2111.11418).
        eps: added to the variance.
        bias: whether something is added after the factor of each channel.
    """

    halo_px: int | None = None

    def __init__(self, dim: int, num_groups: int = 1, eps: float = 1e-5, bias: bool = True):
        super().__init__(num_groups, dim, eps)
        if not bias:
            self.register_parameter("bias", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, ..., C) to the same shape."""
        last = x.ndim - 1  # negative numbers of axes are lost in an export
        return super().forward(x.movedim(last, 1)).movedim(1, last)


@NORMS.add("batch")
class BatchNorm(nn.BatchNorm1d):
    """Mean 0 and variance 1 of each channel over batch and positions (Ioffe & Szegedy 2015, arXiv 1502.03167).

    In evaluation the running estimates are used, so images do not meet and positions stand alone.

    Args:
        dim: channels.
        eps: added to the variance.
        momentum: weight of a batch in the running estimates.
    """

    def __init__(self, dim: int, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__(dim, eps, momentum)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, ..., C) to the same shape."""
        return super().forward(x.reshape(-1, x.shape[-1])).view(x.shape)


@NORMS.add("grn")
class GlobalResponseNorm(nn.Module):
    """Channels weighted by their energy over the map, relative to that of the others, added to the input.

    x + gamma * x * g / mean(g) + beta with g the root of the sum of squares of a channel over all positions
    (ConvNeXt V2, Woo et al. 2023, arXiv 2301.00808, section 3.2). With gamma and beta 0, as at first, the identity.

    Args:
        dim: channels.
        eps: added to the mean.
    """

    halo_px: int | None = None

    def __init__(self, dim: int, eps: float = 1e-6):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, ..., C) to the same shape."""
        energy = torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim - 1)), keepdim=True)
        relative = energy / (energy.mean(dim=-1, keepdim=True) + self.eps)
        return x + torch.addcmul(self.bias, self.weight, x * relative)


@NORMS.add("none")
def none(dim: int) -> nn.Identity:
    """No norm."""
    return nn.Identity()


def scale_output(norm: nn.Module, factor_C: torch.Tensor) -> bool:
    """Multiply each channel of what a norm gives by a factor, in its weights.

    Returns:
        False, with nothing done, where its last step is not an affine map of each channel.
    """
    affine = isinstance(norm, (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.BatchNorm1d)) and norm.weight is not None
    if affine:
        scale_weights(norm, factor_C)
    return affine

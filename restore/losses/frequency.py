"""Losses between spectra and between edges."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restore.registry import LOSSES

__all__ = ["EdgeLoss", "FFTLoss"]


@LOSSES.add("FFTLoss", "FrequencyLoss")
class FFTLoss(nn.Module):
    """L1 distance of the two-dimensional Fourier transforms, real and imaginary parts (MIMO-UNet, arXiv:2108.05054).

    Args:
        loss_weight: factor of the loss.
        reduction: over the coefficients.
        norm: scaling of the transform; `backward` is unscaled, as in MIMO-UNet.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        reduction: Literal["mean", "sum"] = "mean",
        norm: Literal["backward", "ortho", "forward"] = "backward",
    ):
        super().__init__()
        self.loss_weight = loss_weight
        self.reduction = reduction
        self.norm = norm

    def forward(self, restored: Tensor, reference: Tensor) -> Tensor:
        """The loss; the transform is linear, so that of the difference is enough."""
        spectrum = torch.view_as_real(torch.fft.rfft2((restored - reference).float(), norm=self.norm))
        return self.loss_weight * getattr(spectrum.abs(), self.reduction)()


@LOSSES.add()
class EdgeLoss(nn.Module):
    """Charbonnier distance of the Laplacian pyramids' finest levels (MPRNet, arXiv:2102.02808).

    The Laplacian is x - G(up(down(G(x)))): a 5-tap binomial blur before dropping every second pixel and, with its gain
    restored, after filling the gaps with zeros.

    Args:
        loss_weight: factor of the loss.
        eps: keeps the root smooth: sqrt(d^2 + eps^2).
    """

    kernel: Tensor

    def __init__(self, loss_weight: float = 1.0, eps: float = 1e-3):
        super().__init__()
        self.loss_weight = loss_weight
        self.eps = eps
        taps = torch.tensor([0.05, 0.25, 0.4, 0.25, 0.05])
        self.register_buffer("kernel", torch.outer(taps, taps), persistent=False)

    def forward(self, restored: Tensor, reference: Tensor) -> Tensor:
        """The loss."""
        edges = self._laplacian(restored - reference)
        return self.loss_weight * torch.sqrt(edges.square() + self.eps**2).mean()

    def _laplacian(self, x: Tensor) -> Tensor:
        kept = torch.zeros_like(x)
        kept[..., ::2, ::2] = self._blur(x)[..., ::2, ::2] * 4
        return x - self._blur(kept)

    def _blur(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        kernel = self.kernel.to(x.dtype).expand(channels, 1, 5, 5)
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), kernel, groups=channels)

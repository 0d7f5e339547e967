"""A linear map with a batch norm after it, which folds into the plain linear map."""

from __future__ import annotations

import torch
from torch import nn

from restore.layers.folding import fold_norm
from restore.layers.norms import BatchNorm

__all__ = ["NormedLinear"]


class NormedLinear(nn.Linear):
    """A linear map of channels and a batch norm: the 1x1 convolution and norm of convolutional networks.

    Args:
        in_features: channels that come in.
        out_features: channels that go out.
        bias: of the linear map, before the norm.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        super().__init__(in_features, out_features, bias)
        self.bn = BatchNorm(out_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in_features) to (..., out_features)."""
        return self.bn(super().forward(x))

    def folded(self) -> nn.Linear:
        """The plain linear map."""
        plain = nn.Linear(self.in_features, self.out_features, self.bias is not None).to(self.weight)
        with torch.no_grad():
            plain.weight.copy_(self.weight)
            if self.bias is not None:
                plain.bias.copy_(self.bias)
        return fold_norm(plain, self.bn)

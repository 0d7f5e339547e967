"""Heads that make logits of what an encoder gives."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from restore.encoders.features import Features

__all__ = ["LinearHead"]

Pooling = Literal["map", "normed_map", "tokens", "patches"]


class LinearHead(nn.Module):
    """Pools features and applies one linear layer, whose keys are `head.weight` and `head.bias`.

    Args:
        dim: channels of what is pooled.
        num_classes: how many logits.
        pooling: "map" the mean of the coarsest map; "normed_map" that of the map after the norm; "tokens" the class
            token, or the mean of the patch tokens where there is none; "patches" the mean of the patch tokens.
        norm: of the pooled features, or of the map; under the key `norm`. None where the encoder has normed them.
        bias: of the linear layer.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        pooling: Pooling = "map",
        norm: nn.Module | None = None,
        bias: bool = True,
    ):
        super().__init__()
        self.pooling = pooling
        if norm is not None:
            self.norm = norm
        self.head = nn.Linear(dim, num_classes, bias=bias)

    def forward(self, features: Features) -> torch.Tensor:
        """(B, num_classes)."""
        pooled_BC = self.pool(features)
        norm_last = hasattr(self, "norm") and self.pooling != "normed_map"
        return self.head(self.norm(pooled_BC) if norm_last else pooled_BC)

    def pool(self, features: Features) -> torch.Tensor:
        """(B, C)."""
        if self.pooling == "map":
            return features.maps[-1].mean(dim=(2, 3))
        if self.pooling == "normed_map":
            return self.norm(features.maps[-1].permute(0, 2, 3, 1)).mean(dim=(1, 2))
        tokens = features.tokens
        assert tokens is not None, f"pooling '{self.pooling}' is of tokens, and this encoder gives none"
        use_class = self.pooling == "tokens" and tokens.num_prefix
        return tokens.x_BNC[:, 0] if use_class else tokens.patches_BNC.mean(dim=1)

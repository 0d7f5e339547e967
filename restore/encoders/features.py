"""What an encoder gives: maps, and tokens and logits where it has them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from restore.layers.tokens import Tokens

__all__ = ["Features"]


@dataclass(frozen=True)
class Features:
    """What an encoder sees in a batch of images.

    Attributes:
        maps: (B, C_i, H / stride_i, W / stride_i), finest first.
        tokens: class, distillation and patch tokens after the last norm, where the encoder has them.
        logits: (B, num_classes), of a `Classifier`.
    """

    maps: list[torch.Tensor]
    tokens: Tokens | None = None
    logits: torch.Tensor | None = None

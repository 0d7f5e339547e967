"""Visual Transformers: a ResNet whose last stage gathers its map into a few semantic tokens, and gives it back.

Wu et al. 2020, arXiv 2006.03677. There is no official code; what the layers are made of is that of the mixer
`semantic_tokens`. The first layer gathers by learned filters, each further one by filters made of the tokens before it,
and there are as many as the stage of the ResNet that they stand for has blocks. The cost grows with the number of
positions, not with its square. The ResNet is timm's, under `body`, and its weights may be loaded into it.
Checked against closed forms.

B batch, H x W map, C channels, L semantic tokens, D channels of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from restore.encoders.base import IMAGENET, Encoder, Features, Normalisation
from restore.encoders.heads import LinearHead
from restore.layers.branch import Branch
from restore.layers.mixers.attention.semantic_tokens import FilterTokenizer, RecurrentTokenizer, TokenTransformer
from restore.layers.tokens import Tokens
from restore.registry import ENCODERS

__all__ = ["VisualTransformer"]

_BODIES = Literal["resnet18", "resnet34", "resnet50", "resnet101"]
_SIZES: dict[str, dict[str, Any]] = {
    "18": {},
    "34": {"body": "resnet34", "num_layers": 3},
    "50": {"body": "resnet50", "num_layers": 3},
    "101": {"body": "resnet101", "num_layers": 3},
}


@ENCODERS.add("visual_transformer", variants=_SIZES)
class VisualTransformer(Encoder):
    """Three maps of strides 4, 8 and 16, and the semantic tokens.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`; "weights" as the ResNet was trained.
        body: the ResNet, without its last stage.
        num_layers: of semantic tokens.
        num_tokens: L.
        token_dim: D.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        body: _BODIES = "resnet18",
        num_layers: int = 2,
        num_tokens: int = 16,
        token_dim: int = 1024,
    ):
        import timm

        model: Any = timm.create_model(body, features_only=True, out_indices=(1, 2, 3), in_chans=in_chans)
        channels = model.feature_info.channels()
        super().__init__(
            in_chans,
            channels=channels,
            strides=model.feature_info.reduction(),
            out_indices=out_indices,
            normalisation=normalisation,
            weights_statistics=IMAGENET,
        )
        self.body: nn.Module = model
        self.token_dim = token_dim
        self.stack = nn.ModuleList(
            _Layer(channels[-1], token_dim, num_tokens if number == 0 else None) for number in range(num_layers)
        )

    def maps(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """One map for each stage; all halvings round up, so that any size fits."""
        return self.features(x_BCHW).maps

    def features(self, x_BCHW: torch.Tensor) -> Features:
        """One map for each stage, and the tokens of the last layer, which lie on no grid."""
        maps = self.body(x_BCHW)
        x_BHWC, semantic_BLD = maps[-1].permute(0, 2, 3, 1), None
        for layer in self.stack:
            x_BHWC, semantic_BLD = layer(x_BHWC, semantic_BLD)
        tokens = None if semantic_BLD is None else Tokens(semantic_BLD)
        return Features([*maps[:-1], x_BHWC.permute(0, 3, 1, 2)], tokens)

    def blocks(self) -> Sequence[nn.Module]:
        """The blocks of the ResNet and the layers of semantic tokens."""
        stages = [child for name, child in self.body.named_children() if name.startswith("layer")]
        return [*(block for stage in stages for block in stage.children()), *self.stack]

    def prune_to_maps(self) -> None:
        """Remove the layers of semantic tokens, where the map that they change is not chosen."""
        super().prune_to_maps()
        if max(self.out_indices) < self.num_maps - 1:
            self.stack = nn.ModuleList()

    def head(self, num_classes: int) -> nn.Module:
        """One linear layer on the mean of the semantic tokens."""
        return LinearHead(self.token_dim, num_classes, pooling="patches")


class _Layer(nn.Module):
    """Gathers tokens from a map, lets them look at each other, and lets the map look at them.

    Args:
        dim: C.
        token_dim: D.
        num_tokens: L of a layer with filters of its own; None: filters are made of the tokens of the layer before.
    """

    def __init__(self, dim: int, token_dim: int, num_tokens: int | None):
        super().__init__()
        self.tokenizer = (
            RecurrentTokenizer(dim, token_dim) if num_tokens is None else FilterTokenizer(dim, num_tokens, token_dim)
        )
        self.transformer, self.projector = TokenTransformer(token_dim), _Projector(dim, token_dim)

    def forward(self, x_BHWC: torch.Tensor, earlier_BLD: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        positions = Tokens.of_map(x_BHWC)
        if isinstance(self.tokenizer, FilterTokenizer):
            gathered_BLD = self.tokenizer(positions)
        else:
            gathered_BLD = self.tokenizer(positions, earlier_BLD)
        semantic_BLD = self.transformer(gathered_BLD)
        return x_BHWC + self.projector(x_BHWC, semantic_BLD), semantic_BLD


class _Projector(Branch):
    """What each position takes from the tokens: softmax_L((X W_Q) (T W_K)^T) T W_V."""

    def __init__(self, dim: int, token_dim: int):
        super().__init__(dim, inner_dim=token_dim)
        self.q, self.k = nn.Linear(dim, token_dim, bias=False), nn.Linear(token_dim, token_dim, bias=False)
        self.proj = nn.Linear(token_dim, dim)

    def forward(self, x_BHWC: torch.Tensor, semantic_BLD: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C)."""
        query = self.q(x_BHWC.flatten(1, 2))
        taken = F.scaled_dot_product_attention(query, self.k(semantic_BLD), semantic_BLD.to(query.dtype))
        return self.project(taken).view(x_BHWC.shape)

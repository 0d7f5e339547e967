"""Semantic tokens: a map is gathered into a few tokens, these attend to each other, and the map takes from them.

Visual Transformers, Wu et al. 2020, arXiv 2006.03677, section 3. There is no official code. Its products are divided by
the root of the width here, as in other attention. The cost grows with the number of positions, not with its square.
Checked against closed forms.

Shape legend: B batch, N positions, L semantic tokens, C channels of the map, D of the tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.mixers.base import TokenMixer
from restore.layers.tokens import Tokens
from restore.registry import MIXERS

__all__ = ["FilterTokenizer", "RecurrentTokenizer", "SemanticTokens", "TokenTransformer"]


class FilterTokenizer(nn.Module):
    """Each token is a mean of the positions, by weights from a learned filter: softmax_N(X W_A)^T (X W_V).

    Args:
        dim: C.
        num_tokens: L.
        token_dim: D.
    """

    def __init__(self, dim: int, num_tokens: int, token_dim: int):
        super().__init__()
        self.filters = nn.Linear(dim, num_tokens, bias=False)
        self.v = nn.Linear(dim, token_dim, bias=False)

    def forward(self, tokens: Tokens) -> torch.Tensor:
        """(B, L, D)."""
        return _means(self.filters(tokens.x_BNC), tokens) @ self.v(tokens.x_BNC)


class RecurrentTokenizer(nn.Module):
    """As `FilterTokenizer`, with filters made of earlier tokens T: softmax_N(X (T W_R)^T)^T (X W_V).

    Args:
        dim: C.
        token_dim: D.
    """

    def __init__(self, dim: int, token_dim: int):
        super().__init__()
        self.q = nn.Linear(token_dim, dim, bias=False)
        self.v = nn.Linear(dim, token_dim, bias=False)

    def forward(self, tokens: Tokens, earlier_BLD: torch.Tensor) -> torch.Tensor:
        """(B, L, D)."""
        scores_BNL = tokens.x_BNC @ self.q(earlier_BLD).transpose(1, 2) * tokens.x_BNC.shape[-1] ** -0.5
        return _means(scores_BNL, tokens) @ self.v(tokens.x_BNC)


class TokenTransformer(nn.Module):
    """T' = T + softmax_L((T K) (T Q)^T) T, then T' + relu(T' F_1) F_2.

    Args:
        token_dim: D.
    """

    def __init__(self, token_dim: int):
        super().__init__()
        self.q, self.k = (nn.Linear(token_dim, token_dim, bias=False) for _ in range(2))
        self.fc1, self.fc2 = nn.Linear(token_dim, token_dim), nn.Linear(token_dim, token_dim)

    def forward(self, tokens_BLD: torch.Tensor) -> torch.Tensor:
        """(B, L, D) to the same shape."""
        mixed = F.scaled_dot_product_attention(self.k(tokens_BLD), self.q(tokens_BLD), tokens_BLD)
        tokens_BLD = tokens_BLD + mixed
        return tokens_BLD + self.fc2(F.relu(self.fc1(tokens_BLD)))


@MIXERS.add("semantic_tokens")
class SemanticTokens(TokenMixer):
    """Tokens of the whole map, and what each position takes from them: softmax_L((X W_Q) (T W_K)^T) (T W_V).

    Args:
        dim: C.
        num_tokens: L.
        token_dim: D; `dim` when None.
        recurrent: gather twice, the second time by filters made of the first tokens.
    """

    def __init__(self, dim: int, num_tokens: int = 16, token_dim: int | None = None, recurrent: bool = False):
        width = dim if token_dim is None else token_dim
        require_positive(num_tokens=num_tokens, token_dim=width)
        super().__init__(dim, inner_dim=width)
        self.tokenizer = FilterTokenizer(dim, num_tokens, width)
        self.recurrent = RecurrentTokenizer(dim, width) if recurrent else None
        self.transformer = TokenTransformer(width)
        self.q, self.k = nn.Linear(dim, width, bias=False), nn.Linear(width, width, bias=False)
        self.proj = nn.Linear(width, dim)

    def mix_tokens(self, tokens: Tokens) -> torch.Tensor:
        """What each position takes, before W_V."""
        semantic_BLD = self.semantic(tokens)
        return F.scaled_dot_product_attention(self.q(tokens.x_BNC), self.k(semantic_BLD), semantic_BLD)

    def semantic(self, tokens: Tokens) -> torch.Tensor:
        """(B, L, D): the tokens of the map after they have attended to each other."""
        gathered_BLD = self.tokenizer(tokens)
        if self.recurrent is not None:
            gathered_BLD = self.recurrent(tokens, gathered_BLD)
        return self.transformer(gathered_BLD)


def _means(scores_BNL: torch.Tensor, tokens: Tokens) -> torch.Tensor:
    """(B, L, N): weights that sum to 1 over positions, each of which counts as often as it stands for an original."""
    if tokens.weight_BN is not None:
        scores_BNL = scores_BNL + tokens.weight_BN.log()[..., None].to(scores_BNL.dtype)
    return scores_BNL.softmax(dim=1).transpose(1, 2)

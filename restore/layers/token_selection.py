"""Leaving tokens out: after some blocks, those that matter least do not take part any more.

DynamicViT, Rao et al. 2021, arXiv 2106.02034, github.com/raoyongming/DynamicViT (MIT). Different here: the tokens with
the highest scores are kept in training as in evaluation, with the gradient of their probabilities passed straight
through, so that there is no noise, no loss of the ratio, and the same number of tokens always; and tokens that were
left out stay on the grid as they were then, so that maps have no holes.

Legend: B batch, N tokens, K of them kept, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.tokens import Tokens

__all__ = ["TokenSelector", "kept_count", "run_with_selection", "selection_places"]

_OUT = 1e-6  # what a token that is left out counts in training: a gradient gets through, and next to nothing else


class TokenSelector(nn.Module):
    """How much each patch token matters: from itself, and from the mean of all that are still there.

    Args:
        dim: C.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.enter = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())
        self.score = nn.Sequential(
            nn.Linear(dim, dim // 2), nn.GELU(), nn.Linear(dim // 2, dim // 4), nn.GELU(), nn.Linear(dim // 4, 2)
        )

    def forward(self, patches_BNC: torch.Tensor, there_BN: torch.Tensor | None = None) -> torch.Tensor:
        """(B, N): the logarithm of the probability that a token is kept; `there_BN` says which still are (1 or 0)."""
        own_BNC, shared_BNC = self.enter(patches_BNC).chunk(2, dim=-1)
        if there_BN is None:
            mean_B1C = shared_BNC.mean(dim=1, keepdim=True)
        else:
            there_BN1 = there_BN[..., None]
            mean_B1C = (shared_BNC * there_BN1).sum(dim=1, keepdim=True) / there_BN1.sum(dim=1, keepdim=True)
        both_BNC = torch.cat([own_BNC, mean_B1C.expand_as(shared_BNC)], dim=-1)
        return F.log_softmax(self.score(both_BNC).float(), dim=-1)[..., 0]


def selection_places(num_blocks: int) -> tuple[int, ...]:
    """Before which blocks tokens are left out: a quarter, half and three quarters of the way; not before the first."""
    return tuple(sorted({place for part in (1, 2, 3) if (place := num_blocks * part // 4) > 0}))


def kept_count(num_patches: int, keep: float, times: int) -> int:
    """How many patch tokens are there after so many selections; at least one."""
    return max(1, int(num_patches * keep**times + 1e-9))


def run_with_selection(
    tokens: Tokens,
    stack: Sequence[nn.Module],
    run: Callable[[nn.Module, Tokens], Tokens],
    selectors: Sequence[TokenSelector],
    keep: float,
) -> tuple[list[torch.Tensor], Tokens, list[torch.Tensor]]:
    """Run blocks one after the other, with fewer tokens from place to place.

    Args:
        tokens: what the first block is given, on a grid.
        stack: the blocks.
        run: what a block makes of tokens; those after the first selection have no grid.
        selectors: one for each of `selection_places`.
        keep: share of the tokens that each selection keeps.

    Returns:
        A map (B, C, rows, columns) for each block, the tokens after the last one, all of them on the grid, and for each
        selection which were kept, (B, rows, columns) of 0 and 1.
    """
    grid, first = tokens.grid, tokens.num_prefix
    assert grid is not None
    num_patches = grid[0] * grid[1]
    chosen = dict(zip(selection_places(len(stack)), selectors, strict=True))
    walk = _Masked if torch.is_grad_enabled() else _Gathered
    state: _Masked | _Gathered | None = None
    maps: list[torch.Tensor] = []
    kept: list[torch.Tensor] = []
    for number, block in enumerate(stack):
        if number in chosen:
            state = walk(tokens) if state is None else state
            state.select(chosen[number], kept_count(num_patches, keep, len(kept) + 1))
            kept.append(state.there_BN.detach()[:, first:].round().unflatten(1, grid))
        tokens = run(block, tokens) if state is None else state.run(block, run)
        maps.append(tokens.map_BCHW())
    return maps, tokens, kept


class _Masked:
    """All tokens run, and those that are left out count for next to nothing: with gradients."""

    def __init__(self, tokens: Tokens):
        self.tokens = tokens
        self.there_BN = tokens.x_BNC.new_ones(tokens.x_BNC.shape[:2], dtype=torch.float32)

    def select(self, selector: TokenSelector, count: int) -> None:
        first = self.tokens.num_prefix
        there_BN = self.there_BN[:, first:]
        score_BN = selector(self.tokens.patches_BNC, there_BN)
        best_BK = score_BN.detach().masked_fill(there_BN < 0.5, -torch.inf).topk(count, dim=1).indices
        hard_BN = torch.zeros_like(score_BN).scatter_(1, best_BK, 1.0)
        soft_BN = score_BN.exp()
        own_BN = (hard_BN + soft_BN - soft_BN.detach()) * there_BN
        self.there_BN = torch.cat([self.there_BN[:, :first], own_BN], dim=1)

    def run(self, block: nn.Module, run: Callable[[nn.Module, Tokens], Tokens]) -> Tokens:
        before_BNC, there_BN = self.tokens.x_BNC, self.there_BN
        weighted = Tokens(before_BNC, None, self.tokens.num_prefix, there_BN + _OUT)
        change_BNC = run(block, weighted).x_BNC - before_BNC
        self.tokens = self.tokens.with_values(before_BNC + change_BNC * there_BN[..., None].to(change_BNC.dtype))
        return self.tokens


class _Gathered:
    """Only those that are kept run: without gradients."""

    def __init__(self, tokens: Tokens):
        self.tokens = tokens
        B, N, _ = tokens.x_BNC.shape
        self._index_BK = torch.arange(N, device=tokens.x_BNC.device).expand(B, N)

    @property
    def there_BN(self) -> torch.Tensor:
        return torch.zeros(self.tokens.x_BNC.shape[:2], device=self._index_BK.device).scatter_(1, self._index_BK, 1.0)

    def select(self, selector: TokenSelector, count: int) -> None:
        first = self.tokens.num_prefix
        score_BK = selector(self._taken()[:, first:])
        best_BK = first + score_BK.topk(count, dim=1).indices.sort(dim=1).values
        self._index_BK = torch.cat([self._index_BK[:, :first], self._index_BK.gather(1, best_BK)], dim=1)

    def run(self, block: nn.Module, run: Callable[[nn.Module, Tokens], Tokens]) -> Tokens:
        made_BKC = run(block, Tokens(self._taken(), None, self.tokens.num_prefix)).x_BNC
        index_BKC = self._index_BK[..., None].expand_as(made_BKC)
        self.tokens = self.tokens.with_values(self.tokens.x_BNC.scatter(1, index_BKC, made_BKC))
        return self.tokens

    def _taken(self) -> torch.Tensor:
        return self.tokens.x_BNC.gather(1, self._index_BK[..., None].expand(-1, -1, self.tokens.x_BNC.shape[-1]))

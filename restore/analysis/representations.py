"""What deep networks do to their tokens: rank collapse, over-smoothing, attention that repeats itself or looks far.

Rank collapse: Dong et al. 2021, arXiv 2103.03404, github.com/twistedcubic/attention-rank-collapse (Apache-2.0);
attention collapse: DeepViT, Zhou et al. 2021, arXiv 2103.11886; over-smoothing: Gong et al. 2021, arXiv 2104.12753;
attention distance: ViT, Dosovitskiy et al. 2020, arXiv 2010.11929, figure 7.

Legend: N tokens, C channels, W windows (or images), h heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

__all__ = [
    "attention_distance",
    "attention_entropy",
    "head_similarity",
    "map_similarity",
    "mixed_norm",
    "rank_residual",
    "token_similarity",
]


def mixed_norm(x_NC: torch.Tensor) -> torch.Tensor:
    """The geometric mean of the largest sum of a column and the largest sum of a row, of absolute values."""
    absolute = x_NC.abs()
    return (absolute.sum(dim=0).max() * absolute.sum(dim=1).max()).sqrt()


def rank_residual(x_NC: torch.Tensor) -> float:
    """How far tokens are from being all the same: the norm of x - 1 mean(x)^T over that of x, 0 where they are.

    In networks of attention alone it falls doubly exponentially with depth, at a cubic rate per layer (Dong et al.,
    theorem 2.2); shortcuts stop it.
    """
    norm = mixed_norm(x_NC)
    return float(mixed_norm(x_NC - x_NC.mean(dim=0)) / norm) if norm else 0.0


def token_similarity(x_NC: torch.Tensor) -> float:
    """The mean cosine of two different tokens; 1 where all point the same way."""
    unit_NC = F.normalize(x_NC, dim=-1)
    count = len(unit_NC)
    return float((unit_NC.sum(dim=0).square().sum() - unit_NC.square().sum()) / max(count * (count - 1), 1))


def map_similarity(first_hNN: torch.Tensor, second_hNN: torch.Tensor) -> float:
    """The mean cosine of what the same head of two blocks does with the same query (DeepViT, equation 2)."""
    return float(F.cosine_similarity(first_hNN, second_hNN, dim=-1).mean())


def head_similarity(maps_WhNN: torch.Tensor) -> float:
    """The mean cosine of what two heads of a block do with the same query; 1 where there is one head."""
    unit = F.normalize(maps_WhNN, dim=-1)
    heads = unit.shape[1]
    if heads == 1:
        return 1.0
    pairs = unit.sum(dim=1).square().sum(dim=-1) - unit.square().sum(dim=(1, 3))
    return float(pairs.mean() / (heads * (heads - 1)))


def attention_distance(maps_WhNN: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(h,) how far each head looks on average, in positions of the grid of rows and columns that tokens lie on."""
    rows, columns = (torch.arange(side, dtype=maps_WhNN.dtype, device=maps_WhNN.device) for side in grid)
    places_N2 = torch.cartesian_prod(rows, columns)
    return (maps_WhNN * torch.cdist(places_N2, places_N2)).sum(dim=-1).mean(dim=(0, 2))


def attention_entropy(maps_WhNN: torch.Tensor) -> torch.Tensor:
    """(h,) entropy of the rows over that of equal weights: 0 where one token is looked at, 1 where all are alike."""
    entropy_WhN = torch.special.entr(maps_WhNN).sum(dim=-1)
    equal = torch.tensor(float(max(maps_WhNN.shape[-1], 2))).log()
    return (entropy_WhN / equal).mean(dim=(0, 2))

"""A small detector with queries: Deformable DETR, Zhu et al. 2020, arXiv 2010.04159, on any encoder.

Official code: github.com/fundamentalvision/Deformable-DETR (Apache-2.0); DETR is Carion et al. 2020, arXiv 2005.12872.
This is its two-stage form with iterative refinement: every position of every map proposes a box, the best become
queries, and each decoder layer moves their boxes. What differs: boxes are refined in units of their own size in place
of logits (see `restore.layers.query_decoder`), maps are joined from coarse to fine before they are looked at, and
proposals know all kinds. It has no weights of others.

Shape legend: B batch, N positions of all levels, Q queries, K kinds, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from restore.detection.base import KINDS, Detector
from restore.encoders import build_encoder
from restore.layers.arguments import require_positive
from restore.layers.query_decoder import LevelLayer, Levels, QueryLayer, box_features, moved
from restore.registry import DETECTORS, EncoderOption

__all__ = ["QueryDetector"]

_NUM_WAVES = 8
_QUERIES_PX = 128
_AT_FIRST = 0.02  # how sure every prediction is before training


@DETECTORS.add()
class QueryDetector(Detector):
    """Boxes of several kinds of things, out of maps of several strides.

    Args:
        encoder: an encoder of several maps, by name or block; `out_indices` chooses among them.
        kinds: names of what is to be found.
        width: C.
        num_heads: of every attention.
        num_points: that each head looks at on each level.
        num_queries: Q for an image of 128 x 128 px; a larger one has more, by its area. Each kind has an equal share:
            the positions that are surest of it.
        num_encoder_layers: in which positions look at the levels.
        num_layers: in which queries do.
        mlp_ratio: hidden width of the feed-forward networks over C.
        cell_strides: side of the box that a position proposes at first, in strides of its map.
    """

    telltale = "proposal_logits.weight"

    def __init__(
        self,
        encoder: EncoderOption = "conv_pyramid",
        kinds: Sequence[str] = KINDS,
        width: int = 64,
        num_heads: int = 4,
        num_points: int = 4,
        num_queries: int = 48,
        num_encoder_layers: int = 1,
        num_layers: int = 2,
        mlp_ratio: float = 2.0,
        cell_strides: float = 4.0,
    ):
        require_positive(width=width, num_queries=num_queries, num_layers=num_layers, cell_strides=cell_strides)
        super().__init__()
        if not kinds or len(set(kinds)) < len(kinds):
            raise ValueError(f"kinds are {list(kinds)}: give one name or more, all different")
        self.kinds, self.num_queries, self.cell_strides = tuple(kinds), num_queries, cell_strides
        self.encoder = build_encoder(encoder, in_chans=3, maps_only=True)
        num_levels, sizes = len(self.encoder.strides), (num_heads, num_points, mlp_ratio)
        self.laterals = nn.ModuleList(nn.Linear(channels, width) for channels in self.encoder.channels)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.encoder.channels)
        self.level_embedding = nn.Parameter(torch.zeros(num_levels, width))  # what tells a level from the others
        self.encoder_layers = nn.ModuleList(LevelLayer(width, num_levels, *sizes) for _ in range(num_encoder_layers))
        self.layers = nn.ModuleList(QueryLayer(width, num_levels, *sizes) for _ in range(num_layers))
        self.memory_norm = nn.LayerNorm(width)
        self.proposal_logits, self.proposal_steps = _Logits(width, len(kinds)), _Steps(width)
        self.content, self.places = nn.Linear(width, width), nn.Linear(8 * _NUM_WAVES, width)
        self.layer_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(num_layers))
        self.logits = nn.ModuleList(_Logits(width, len(kinds)) for _ in range(num_layers))
        self.steps = nn.ModuleList(_Steps(width) for _ in range(num_layers))

    def forward(self, x_BCHW: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Logits (B, Q, K) and boxes (B, Q, 4): first of every position, then of the queries after each layer."""
        height, width = x_BCHW.shape[-2:]
        sides = torch.tensor([width, height] * 2, device=x_BCHW.device, dtype=torch.float32)
        levels = self._levels(x_BCHW)
        memory_BNC = self.memory_norm(levels.tokens())
        logits_BNK = self.proposal_logits(memory_BNC)
        boxes_BN4 = moved(levels.cells(self.cell_strides), self.proposal_steps(memory_BNC))
        found = [(logits_BNK, boxes_BN4 / sides)]
        seen = levels.with_tokens(memory_BNC)
        num_queries = self.num_queries * max(height * width / _QUERIES_PX**2, 1) / len(self.kinds)
        num_queries = min(math.ceil(num_queries), logits_BNK.shape[1])
        chosen_BQ = logits_BNK.detach().topk(num_queries, dim=1).indices.flatten(1)
        query_BQC = self.content(_taken(memory_BNC, chosen_BQ))
        boxes_BQ4 = _taken(boxes_BN4, chosen_BQ)
        for layer, norm, logits, steps in zip(self.layers, self.layer_norms, self.logits, self.steps, strict=True):
            boxes_BQ4 = boxes_BQ4.detach()
            places_BQC = self.places(box_features(boxes_BQ4, _NUM_WAVES))
            query_BQC = layer(query_BQC, places_BQC, boxes_BQ4, seen)
            normed_BQC = norm(query_BQC)
            boxes_BQ4 = moved(boxes_BQ4, steps(normed_BQC))
            found.append((logits(normed_BQC), boxes_BQ4 / sides))
        return found

    def _levels(self, x_BCHW: torch.Tensor) -> Levels:
        """The maps of the encoder at one width, each with what the coarser ones say, after the encoder layers."""
        above: torch.Tensor | None = None
        joined: list[torch.Tensor] = []
        for each, lateral, norm in reversed(list(zip(self.encoder(x_BCHW), self.laterals, self.norms, strict=True))):
            own_BHWC = lateral(each.permute(0, 2, 3, 1))
            if above is not None:
                size = own_BHWC.shape[1:3]
                own_BHWC = own_BHWC + F.interpolate(above.permute(0, 3, 1, 2), size, mode="nearest").permute(0, 2, 3, 1)
            above = own_BHWC
            joined.insert(0, norm(own_BHWC))
        joined = [each + own for each, own in zip(joined, self.level_embedding, strict=True)]
        levels = Levels(joined, self.encoder.strides)
        for layer in self.encoder_layers:
            levels = layer(levels)
        return levels


class _Logits(nn.Linear):
    """A linear layer that is not sure of anything at first."""

    def __init__(self, width: int, num_kinds: int):
        super().__init__(width, num_kinds)
        nn.init.normal_(self.weight, std=0.01)
        nn.init.constant_(self.bias, -math.log(1 / _AT_FIRST - 1))


class _Steps(nn.Sequential):
    """What moves boxes; not at all at first."""

    def __init__(self, width: int):
        super().__init__(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 4))
        nn.init.zeros_(self[2].weight)
        nn.init.zeros_(self[2].bias)


def _taken(x_BNC: torch.Tensor, indices_BQ: torch.Tensor) -> torch.Tensor:
    """(B, Q, C): the rows of each image at its indices."""
    return x_BNC.gather(1, indices_BQ[..., None].expand(-1, -1, x_BNC.shape[-1]))

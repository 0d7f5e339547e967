"""TRIQ, a transformer for image quality without reference (You & Korhonen 2021, arXiv 2101.01097).

Agrees with github.com/junyongyou/triq (MIT, TensorFlow), whose weights `restore.quality.keras` imports. There,
positions are the first rows of one table, whatever the shape of the map, and pooling looks at the number of rows only,
so that an image and its transposed self are treated differently and large ones fail; `positions: truncate` reproduces
that. By default the table is interpolated to the map, and maps of more places than the table has are pooled until they
fit.

Legend: B batch, C channels, H x W image, h x w map, N = h w tokens, D width, L levels of quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from restore.errors import ImageError
from restore.layers.boxes import box_of, exchanged
from restore.layers.exportable import unflattened
from restore.quality.base import QualityModel
from restore.quality.features import FeaturesOption, build_features, map_side
from restore.quality.transformer import EncoderLayer, fit_positions
from restore.registry import QUALITY

__all__ = ["TRIQ", "TRIQHead"]

Positions = Literal["interpolate", "truncate"]
_ROWS_TO_POOL = 16  # the published rule


class TRIQHead(nn.Module):
    """From a map of features to logits of L levels: everything of TRIQ but its encoder.

    Args:
        channels: C, of the map.
        num_layers: of the transformer.
        width: D.
        num_heads: heads of the attention, of D / num_heads each.
        ffn_width: hidden width of the feed-forward networks and of the head.
        num_levels: L.
        grid: rows and columns of the map that the positions are learned for.
        positions: "interpolate" them for other maps, or "truncate" the table as published.
        dropout: probability.
        patches: have a linear layer that says the levels of every token of the map too.
        layer_scale: first value of a learned factor for each channel of a layer's halves; None leaves it out.
    """

    def __init__(
        self,
        channels: int = 2048,
        num_layers: int = 2,
        width: int = 32,
        num_heads: int = 8,
        ffn_width: int = 64,
        num_levels: int = 5,
        grid: tuple[int, int] = (12, 16),
        positions: Positions = "interpolate",
        dropout: float = 0.1,
        patches: bool = False,
        layer_scale: float | None = None,
    ):
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} cannot be divided among {num_heads} heads")
        self.grid, self.positions = (grid[0], grid[1]), positions
        self.projection = nn.Conv2d(channels, width, 1)
        self.quality_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.position_table = nn.Parameter(torch.randn(1, grid[0] * grid[1] + 1, width) * 0.02)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(
                width,
                num_heads,
                width // num_heads,
                ffn_width,
                activation=nn.ReLU(),
                eps=1e-6,
                dropout=dropout,
                layer_scale=layer_scale,
            )
            for _ in range(num_layers)
        )
        self.head = nn.Sequential(
            nn.Linear(width, ffn_width),
            nn.GELU(approximate="tanh"),
            nn.Dropout(dropout),
            nn.Linear(ffn_width, num_levels),
        )
        self.patch_head = nn.Linear(width, num_levels) if patches else None

    def forward(self, map_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits (B, L).

        Raises:
            ImageError: positions are truncated, and the map has more places than there are.
        """
        return self.head(self._transformed(self.pool(self.projection(map_BCHW)))[:, 0])

    def with_patches(
        self, map_BCHW: torch.Tensor, mix: Sequence[float] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, L) of the images and (B, L, h, w) of the tokens of their maps.

        Args:
            map_BCHW: features.
            mix: MixToken, a rectangle as four numbers in [0, 1) (`restore.layers.boxes`): there, the tokens of an image
                are those of the batch in reverse order while they pass through the transformer. The logits of tokens
                are put back into the image that they came from; those of an image are of the mixture.
        """
        assert self.patch_head is not None, "made with patches: true"
        pooled = self.pool(self.projection(map_BCHW))
        box = None if mix is None else box_of(mix, *pooled.shape[2:])
        tokens = self._transformed(pooled if box is None else exchanged(pooled, box))
        patches_BLHW = unflattened(self.patch_head(tokens[:, 1:]).transpose(1, 2), 2, pooled.shape[2:])
        return self.head(tokens[:, 0]), patches_BLHW if box is None else exchanged(patches_BLHW, box)

    def _transformed(self, pooled_BDHW: torch.Tensor) -> torch.Tensor:
        """(B, 1 + N, D): the quality token and the map's, after all layers."""
        tokens = pooled_BDHW.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.quality_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        tokens = self.dropout(tokens + self._positions_of(*pooled_BDHW.shape[2:]))
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens

    def pool(self, map_BDHW: torch.Tensor) -> torch.Tensor:
        """The map as it becomes tokens: pooled to half its size once or, where positions are interpolated, until it has
        no more places than the table."""
        if self.positions == "truncate":
            return F.max_pool2d(map_BDHW, 2) if map_BDHW.shape[2] >= _ROWS_TO_POOL else map_BDHW
        while map_BDHW.shape[2] * map_BDHW.shape[3] > self.position_table.shape[1] - 1:
            map_BDHW = F.max_pool2d(map_BDHW, 2, ceil_mode=True)
        return map_BDHW

    def _positions_of(self, rows: int, columns: int) -> torch.Tensor:
        if self.positions == "interpolate":
            return fit_positions(self.position_table, self.grid, (rows, columns))
        places = self.position_table.shape[1] - 1
        if rows * columns > places:
            raise ImageError(
                f"TRIQ with truncated positions has {places} of them; this image needs {rows} x {columns}. "
                "Reduce the image, or use positions: interpolate."
            )
        return self.position_table[:, : rows * columns + 1]


@QUALITY.add("TRIQ")
class TRIQ(QualityModel):
    """Judges an image by itself: the shares of five levels of quality, hence a score in [1, 5] and its spread.

    With the defaults, everything but the encoder has 91,301 parameters.

    Args:
        encoder: any encoder as a name or a block; its coarsest map is used. `resnet50_v1` is the published variant.
        num_layers: of the transformer.
        width: of its tokens.
        num_heads: of its attention.
        ffn_width: hidden width of its feed-forward networks and of the head.
        grid: rows and columns of the map that positions are learned for.
        positions: "interpolate", or "truncate" as published.
        dropout: probability.
        patches: say which parts of an image are bad too, as `PatchOpinionLoss` teaches it (LV-ViT's auxiliary head).
        layer_scale: first value of a learned factor for each channel of the halves of its layers; None: none.

    Raises:
        OptionsError: an encoder that does not exist, or options that it does not have.
        MissingError: the encoder's pretrained weights were asked for and could not be found or downloaded.
    """

    telltale = "transformer.quality_token"
    needs_reference = False
    target = "distribution"
    score_range = (1.0, 5.0)

    def __init__(
        self,
        encoder: FeaturesOption = "resnet50_v1",
        num_layers: int = 2,
        width: int = 32,
        num_heads: int = 8,
        ffn_width: int = 64,
        grid: tuple[int, int] = (12, 16),
        positions: Positions = "interpolate",
        dropout: float = 0.1,
        patches: bool = False,
        layer_scale: float | None = None,
    ):
        super().__init__()
        self.patches = patches
        self.encoder = build_features(encoder)
        self.transformer = TRIQHead(
            self.encoder.channels[-1],
            num_layers,
            width,
            num_heads,
            ffn_width,
            5,
            grid,
            positions,
            dropout,
            patches,
            layer_scale,
        )

    def forward(
        self,
        x_BCHW: torch.Tensor,
        reference_BCHW: torch.Tensor | None = None,
        *,
        patches: bool = False,
        mix: Sequence[float] | None = None,
    ) -> Any:
        """Logits of the five levels, (B, 5), of images of any one size; a reference is not looked at.

        Args:
            x_BCHW: the images.
            reference_BCHW: anything.
            patches: give those of patches too, (B, 5, h, w), behind those of the images.
            mix: with patches, see `TRIQHead.with_patches`.
        """
        features = self.encoder(x_BCHW)[-1]
        return self.transformer.with_patches(features, mix) if patches else self.transformer(features)

    def score(self, prediction: torch.Tensor) -> torch.Tensor:
        """The mean of the distribution, in [1, 5], of images or of patches (B, h, w)."""
        return self._moments(prediction)[0]

    def spread(self, prediction: torch.Tensor) -> torch.Tensor:
        """The standard deviation of the distribution, in [0, 2]."""
        return self._moments(prediction)[1]

    def tokens(self, height: int, width: int) -> int:
        """How many tokens an image of this size becomes."""
        rows, columns = (map_side(self.encoder, side) for side in (height, width))
        pooled = self.transformer.pool(torch.zeros(1, 1, rows, columns))
        return pooled.shape[2] * pooled.shape[3]

    def _moments(self, prediction: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shares = prediction.float().softmax(dim=1)
        levels = torch.arange(1, 6, device=shares.device, dtype=shares.dtype).view(-1, *[1] * (shares.ndim - 2))
        mean = (shares * levels).sum(dim=1)
        variance = (shares * (levels - mean[:, None]).square()).sum(dim=1)
        return mean, variance.sqrt()

    def _judged(self, x_BCHW: torch.Tensor, reference_BCHW: torch.Tensor | None) -> torch.Tensor:
        return self.score(self(x_BCHW))

"""IQT, the image quality transformer (Cheon et al. 2021, arXiv 2104.14730), winner of NTIRE 2021 perceptual IQA.

There is no official code. Keys and shapes agree with the unofficial weights (github.com/anse3832/IQT, no licence:
nothing of it is used here). That code masks the decoder causally and reads the score at its first token, so that its
score does not depend on the reference at all; `compat_causal` reproduces this for those weights, the default does not.

Encoder tokens are differences of features, reference minus restored, so swapping the two images changes the sign of
what the encoder sees; the decoder's tokens change as well, and the score follows no simple rule.

Legend: B batch, C channels, H x W image, h x w map, N = h w tokens, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from restore.errors import ImageError
from restore.quality.base import QualityModel
from restore.quality.features import INCEPTION, FeaturesOption, InceptionBlock35, build_features, map_side
from restore.quality.transformer import DecoderLayer, EncoderLayer, fit_positions
from restore.registry import QUALITY

__all__ = ["IQT", "IQTRegressor"]

_LARGEST_BATCH = 32  # crops that go through the model at once
_INITIAL = 0.3  # of positions: norms forget how large a difference is, unless it is added to something of its size


class IQTRegressor(nn.Module):
    """From two maps of features to a score: everything of IQT but its encoder.

    Args:
        channels: C, of the joined maps.
        grid: rows and columns of the map that the positions are learned for.
        num_layers: of the encoder, and as many of the decoder.
        width: D, also the width of each head.
        num_heads: heads of the attention.
        ffn_width: hidden width of the feed-forward networks.
        head_width: hidden width of the head.
        dropout: probability.
        compat_causal: mask the decoder causally, as the unofficial weights were trained.
    """

    def __init__(
        self,
        channels: int = 1920,
        grid: tuple[int, int] = (29, 29),
        num_layers: int = 2,
        width: int = 256,
        num_heads: int = 4,
        ffn_width: int = 1024,
        head_width: int = 512,
        dropout: float = 0.1,
        compat_causal: bool = False,
    ):
        super().__init__()
        sizes = (width, num_heads, width, ffn_width)
        self.conv_enc = nn.Conv2d(channels, width, 1)
        self.conv_dec = nn.Conv2d(channels, width, 1)
        self.transformer = nn.ModuleDict(
            {
                "encoder": _Tokens(EncoderLayer, num_layers, grid, dropout, *sizes),
                "decoder": _Tokens(DecoderLayer, num_layers, grid, dropout, *sizes),
            }
        )
        self.projection = nn.Sequential(
            nn.Linear(width, head_width, bias=False), nn.ReLU(), nn.Linear(head_width, 1, bias=False)
        )
        self.compat_causal = compat_causal

    def forward(self, difference_BCHW: torch.Tensor, reference_BCHW: torch.Tensor) -> torch.Tensor:
        """The score (B,).

        Args:
            difference_BCHW: features of the reference minus those of the restored image.
            reference_BCHW: features of the reference.
        """
        encoder, decoder = self.transformer["encoder"], self.transformer["decoder"]
        assert isinstance(encoder, _Tokens)
        assert isinstance(decoder, _Tokens)
        memory = encoder.embed(self.conv_enc(difference_BCHW))
        for layer in encoder.layers:
            memory = layer(memory)
        tokens = decoder.embed(self.conv_dec(reference_BCHW))
        for layer in decoder.layers:
            tokens = layer(tokens, memory, causal=self.compat_causal)
        return self.projection(tokens[:, 0])[:, 0]


class _Tokens(nn.Module):
    """The layers of one half of the transformer, with its quality token and its positions."""

    def __init__(
        self,
        layer: type[EncoderLayer | DecoderLayer],
        num_layers: int,
        grid: tuple[int, int],
        dropout: float,
        *sizes: int,
    ):
        super().__init__()
        width = sizes[0]
        self.grid = grid
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * _INITIAL)
        self.pos_embedding = nn.Parameter(torch.randn(1, grid[0] * grid[1] + 1, width) * _INITIAL)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            layer(*sizes, activation=nn.GELU(), eps=1e-12, dropout=dropout) for _ in range(num_layers)
        )

    def embed(self, map_BDHW: torch.Tensor) -> torch.Tensor:
        """(B, 1 + N, D): the quality token and the map's, with positions."""
        tokens = map_BDHW.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        rows, columns = map_BDHW.shape[2:]
        return self.dropout(tokens + fit_positions(self.pos_embedding, self.grid, (rows, columns)))


@QUALITY.add("IQT")
class IQT(QualityModel):
    """Judges an image against its reference; trained on opinions in [0, 1], higher is better.

    The defaults are the published setting for LIVE, CSIQ and TID (9,965,568 parameters without the encoder); "IQT-C" is
    the one of PIPAL and NTIRE (1,940,992).

    Args:
        encoder: `inception_block35` (the published one), or any encoder as a name or a block.
        num_layers: of the transformer's encoder and decoder, each.
        width: of the tokens, and of each head.
        num_heads: heads of the attention.
        ffn_width: hidden width of the feed-forward networks.
        head_width: hidden width of the head.
        input_px: side of the crops that are judged.
        num_crops: random crops whose scores are averaged; 0 judges the whole image, with interpolated positions.
        seed: of these crops: the same image has the same score every time.
        dropout: probability.
        freeze_encoder: keep the encoder as it is, its normalisation layers too.
        compat_causal: see the module's description; only for third-party weights.

    Raises:
        OptionsError: an encoder that does not exist, or options that it does not have.
        MissingError: the encoder's pretrained weights were asked for and could not be found or downloaded.
    """

    telltale = "regressor.conv_enc.weight"
    needs_reference = True
    target = "opinion"
    score_range = (0.0, 1.0)

    def __init__(
        self,
        encoder: FeaturesOption = INCEPTION,
        num_layers: int = 2,
        width: int = 256,
        num_heads: int = 4,
        ffn_width: int = 1024,
        head_width: int = 512,
        input_px: int = 256,
        num_crops: int = 20,
        seed: int = 0,
        dropout: float = 0.1,
        freeze_encoder: bool = True,
        compat_causal: bool = False,
    ):
        super().__init__()
        self.input_px, self.num_crops, self.seed, self.freeze_encoder = input_px, num_crops, seed, freeze_encoder
        self.encoder: InceptionBlock35 | nn.Module = build_features(encoder)
        self.encoder.requires_grad_(not freeze_encoder)
        side = map_side(self.encoder, input_px)
        self.regressor = IQTRegressor(
            sum(self.encoder.channels),
            (side, side),
            num_layers,
            width,
            num_heads,
            ffn_width,
            head_width,
            dropout,
            compat_causal,
        )
        self.train()

    def train(self, mode: bool = True) -> IQT:
        """Switch to training, except for a frozen encoder."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def forward(self, x_BCHW: torch.Tensor, reference_BCHW: torch.Tensor) -> torch.Tensor:
        """The score (B,) of images of any one size, judged whole."""
        features, reference = self._features(torch.cat([x_BCHW, reference_BCHW])).chunk(2)
        return self.regressor(reference - features, reference)

    def score(self, prediction: torch.Tensor) -> torch.Tensor:
        """The prediction is the score."""
        return prediction

    def _features(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """All maps of the encoder at the size of the coarsest, (B, C, h, w)."""
        maps = self.encoder(x_BCHW)
        size = min((tuple(each.shape[2:]) for each in maps), key=lambda sides: sides[0] * sides[1])
        return torch.cat([F.adaptive_avg_pool2d(each, size) for each in maps], dim=1)

    def _judged(self, x_BCHW: torch.Tensor, reference_BCHW: torch.Tensor | None) -> torch.Tensor:
        if not self.num_crops:
            return self(x_BCHW, reference_BCHW)
        height, width = x_BCHW.shape[2:]
        offsets = crop_offsets((height, width), self.input_px, self.num_crops, self.seed)
        assert reference_BCHW is not None  # `judge` has looked
        crops, references = (self._crops(images, offsets) for images in (x_BCHW, reference_BCHW))
        batches = zip(crops.split(_LARGEST_BATCH), references.split(_LARGEST_BATCH), strict=True)
        scores = torch.cat([self(crop, reference) for crop, reference in batches])
        return scores.view(self.num_crops, len(x_BCHW)).mean(dim=0)

    def _crops(self, x_BCHW: torch.Tensor, offsets: list[tuple[int, int]]) -> torch.Tensor:
        side = self.input_px
        return torch.cat([x_BCHW[..., top : top + side, left : left + side] for top, left in offsets])


QUALITY.add("IQT-C", num_layers=1, width=128, head_width=128, input_px=192)(IQT)


def crop_offsets(size: tuple[int, int], crop_px: int, num_crops: int, seed: int) -> list[tuple[int, int]]:
    """Top and left of random crops, every possible one equally likely; the same for the same seed.

    Raises:
        ImageError: the image is smaller than a crop.
    """
    height, width = size
    if min(height, width) < crop_px:
        raise ImageError(
            f"IQT judges crops of {crop_px}x{crop_px} px; the image is only {height}x{width} (height x width). "
            "num_crops: 0 judges it whole, with interpolated positions."
        )
    generator = torch.Generator().manual_seed(seed)
    tops = torch.randint(height - crop_px + 1, (num_crops,), generator=generator)
    lefts = torch.randint(width - crop_px + 1, (num_crops,), generator=generator)
    return list(zip(tops.tolist(), lefts.tolist(), strict=True))

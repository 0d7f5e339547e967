"""NGswin: attention in windows that know what stands in the windows around them, in a U-shape with one decoder.

Choi, Lee, Yang 2022, arXiv 2211.11436; official code: github.com/rami0205/NGramSwin (Apache-2.0), whose argument names,
keys and outputs these are.

What differs from the official code: sides that are no multiple of 32 px are reflected, as the published evaluation
pads images before (which repeats the last pixel); the official network itself adds zeros, which costs 0.6 dB on Set5.
Not in the output: tokens stay channels-last maps, and windows are a cached permutation (`restore.layers.window`); the
context is averaged before its output projection; masks and tables of indices are derived, as in the published files,
which have none; images of any size of at least 1 px are accepted, where the official code needs 33.

Shape legend: B batch, H x W map, C channels, N tokens of a window, h heads; rows x columns windows of a map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from restore.encoders.staged import PatchMerging
from restore.layers.arguments import require_positive
from restore.layers.ffn import MLP
from restore.layers.initialisation import initialise_linear
from restore.layers.layer_norm import LayerNorm
from restore.layers.mixers.attention.full import cosine_queries_and_keys
from restore.layers.padding import crop, pad_to_multiple
from restore.layers.position_bias import RelativePositionBias
from restore.layers.precision import without_autocast
from restore.layers.residual import DropPath
from restore.layers.window import WindowPlan, join_windows, split_windows, window_attention, window_plan
from restore.networks.base import Network, State
from restore.networks.residual import conv3x3
from restore.networks.residual_groups import stochastic_depth
from restore.networks.spec import ImageSpec
from restore.registry import NETWORKS

__all__ = ["NGswin"]

MEAN = (0.4485, 0.4375, 0.4045)
DEVIATIONS = {2: (0.2397, 0.2290, 0.2389), 3: (0.2373, 0.2265, 0.2367), 4: (0.2352, 0.2244, 0.2349)}
"""Of the low-resolution images of DF2K, by scale."""


@NETWORKS.add()
class NGswin(Network):
    """Restores (B, in_chans, H, W) in [0, 1] to (B, in_chans, H*s, W*s): 998,384 parameters at x2.

    Args:
        ngrams: side of the neighbourhood, in windows, of each stage of the encoder and of the decoder.
        in_chans: channels of the image.
        embed_dim: C of the encoder, a multiple of 16.
        depths: blocks of each of the three stages of the encoder.
        num_heads: attention heads of each.
        head_dim: channels of a head there; C / heads, rounded down, when None.
        dec_dim: C of the decoder; the same.
        dec_depths: blocks of the decoder.
        dec_num_heads: attention heads there.
        dec_head_dim: channels of a head there.
        target_mode: "light_x" and s.
        window_size: side of the windows.
        mlp_ratio: hidden width of the feed-forward networks, in C.
        qkv_bias: whether queries, keys and values have a bias.
        img_norm: give the body images of mean 0 and deviation 1.
        drop_path_rate: stochastic depth of the last block, rising linearly from 0; active in training only.

    Raises:
        ValueError: numbers that do not go together.
    """

    derived_keys: ClassVar[tuple[str, ...]] = ("attn_mask", "relative_position_index")
    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(
        self,
        ngrams: Sequence[int] = (2, 2, 2, 2),
        in_chans: int = 3,
        embed_dim: int = 64,
        depths: Sequence[int] = (6, 4, 4),
        num_heads: Sequence[int] = (6, 4, 4),
        head_dim: int | None = None,
        dec_dim: int = 64,
        dec_depths: int = 6,
        dec_num_heads: int = 6,
        dec_head_dim: int | None = None,
        target_mode: Literal["light_x2", "light_x3", "light_x4"] = "light_x2",
        window_size: int = 8,
        mlp_ratio: float = 2.0,
        qkv_bias: bool = True,
        img_norm: bool = True,
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        require_positive(in_chans=in_chans, embed_dim=embed_dim, ngrams=ngrams, depths=depths, num_heads=num_heads)
        require_positive(dec_depths=dec_depths, dec_num_heads=dec_num_heads, window_size=window_size)
        if not len(depths) == len(num_heads) == len(ngrams) - 1 == 3:
            raise ValueError(
                f"depths and num_heads have three numbers and ngrams a fourth, of the decoder; given {list(depths)}, "
                f"{list(num_heads)} and {list(ngrams)}"
            )
        if embed_dim % 16 or dec_dim != embed_dim:
            raise ValueError(f"embed_dim is {embed_dim} and dec_dim {dec_dim}: equal, and a multiple of 16")
        if img_norm and in_chans != 3:
            raise ValueError(f"in_chans is {in_chans}: img_norm is known for 3 only; set img_norm: false")
        self.scale, self.in_chans, self.img_norm = int(target_mode[-1]), in_chans, img_norm
        self.multiple = 4 * window_size
        rates = stochastic_depth(drop_path_rate, [*depths, dec_depths])
        self.shallow_extract = nn.Sequential()
        self.shallow_extract.add_module("conv1", conv3x3(in_chans, embed_dim))
        for index in range(3):
            stage = _Stage(
                embed_dim,
                rates[index],
                num_heads[index],
                head_dim,
                ngrams[index],
                window_size,
                mlp_ratio,
                qkv_bias,
                num_inputs=index + 1,
                is_merged=index < 2,
            )
            self.add_module(f"encoder_layer{index + 1}", stage)
        self.bottleneck = _Bottleneck(embed_dim)
        self.decoder_layer1 = _Stage(
            dec_dim, rates[3], dec_num_heads, dec_head_dim, ngrams[3], window_size, mlp_ratio, qkv_bias
        )
        self.norm = LayerNorm(dec_dim)
        self.to_target = nn.Sequential()
        self.to_target.add_module("before_shuffle", conv3x3(dec_dim, in_chans * self.scale**2))
        self.to_target.add_module("shuffler", nn.PixelShuffle(self.scale))
        self.to_target.add_module("to_origin", conv3x3(in_chans, in_chans))
        for name, values in (("mean", MEAN), ("deviation", DEVIATIONS[self.scale])):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)
        self.apply(initialise_linear)

    @property
    def spec(self) -> ImageSpec:
        """What the network wants of its images."""
        return ImageSpec(self.scale, self.in_chans, self.in_chans, size_multiple=self.multiple)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, in_chans, H, W) in [0, 1] to (B, in_chans, H*s, W*s)."""
        height, width = x_BCHW.shape[2:]
        x = pad_to_multiple(x_BCHW, self.multiple)
        if self.img_norm:
            x = (x - self.mean.to(x.dtype)) / self.deviation.to(x.dtype)
        shallow = self.shallow_extract(x)
        x_BHWC = shallow.permute(0, 2, 3, 1)
        maps: list[torch.Tensor] = []
        for index in range(1, 4):
            map_BHWC, smaller_BHWC = getattr(self, f"encoder_layer{index}")(x_BHWC)
            maps.append(map_BHWC)
            if index < 3:
                pooled = F.max_pool2d(x_BHWC.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
                x_BHWC = torch.cat([pooled, smaller_BHWC], dim=-1)
        decoded_BHWC, _ = self.decoder_layer1(self.bottleneck(shallow, maps) + maps[0])
        x = self.to_target(self.norm(decoded_BHWC).permute(0, 3, 1, 2) + shallow)
        if self.img_norm:
            x = x * self.deviation.to(x.dtype) + self.mean.to(x.dtype)
        return crop(x, height * self.scale, width * self.scale)

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any] | None:
        """The constructor's arguments, but for `img_norm`, which keys do not tell."""
        first, context = "{}.blocks.0.attn", "{}.blocks.0.ngram_window_partition.ngram_context"
        names = ["encoder_layer1", "encoder_layer2", "encoder_layer3", "decoder_layer1"]
        if any(f"{context.format(name)}.merge.weight" not in state for name in names):
            return None
        width, channels = state["shallow_extract.conv1.weight"].shape[:2]
        heads = [len(state[f"{first.format(name)}.logit_scale"]) for name in names]
        inner = [state[f"{first.format(name)}.proj.weight"].shape[1] for name in names]
        tables = [state[f"{context.format(name)}.ngram_attn.relative_position_bias_table"] for name in names]
        depths = [len({key.split(".")[2] for key in state if key.startswith(f"{name}.blocks.")}) for name in names]
        head_dims = [each // number for each, number in zip(inner, heads, strict=True)]
        usual = all(each == width // number for each, number in zip(head_dims, heads, strict=True))
        return {
            "ngrams": [(math.isqrt(len(table)) + 1) // 2 for table in tables],
            "in_chans": channels,
            "embed_dim": width,
            "depths": depths[:3],
            "num_heads": heads[:3],
            "head_dim": None if usual else head_dims[0],
            "dec_dim": width,
            "dec_depths": depths[3],
            "dec_num_heads": heads[3],
            "dec_head_dim": None if usual else head_dims[3],
            "target_mode": f"light_x{math.isqrt(len(state['to_target.before_shuffle.weight']) // channels)}",
            "window_size": state[f"{context.format(names[0])}.unigram_embed.weight"].shape[2],
            "mlp_ratio": len(state["encoder_layer1.blocks.0.ffn.fc1.weight"]) / width,
            "qkv_bias": f"{first.format(names[0])}.qkv.bias" in state,
        }


class _Stage(nn.Module):
    """Blocks of one size, each of which also sees what the one before was given.

    Returns:
        What the last block makes, and that with what it was given at half the size; the same twice if not `is_merged`.
    """

    def __init__(
        self,
        dim: int,
        rates: Sequence[float],
        num_heads: int,
        head_dim: int | None,
        ngram: int,
        window: int,
        mlp_ratio: float,
        qkv_bias: bool,
        num_inputs: int = 1,
        is_merged: bool = False,
    ):
        super().__init__()
        self.across_cascade_proj = nn.Linear(dim * num_inputs, dim) if num_inputs > 1 else nn.Identity()
        self.blocks = nn.ModuleList(
            _Block(dim, num_heads, head_dim, ngram, window, window // 2 * (index % 2), mlp_ratio, qkv_bias, rate)
            for index, rate in enumerate(rates)
        )
        self.downsample = PatchMerging(dim, by_rows=True, out_dim=dim) if is_merged else None

    def forward(self, x_BHWC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        given = self.across_cascade_proj(x_BHWC)
        made = self.blocks[0](given)
        for block in self.blocks[1:]:
            given = made + given
            made = block(given)
        if self.downsample is None:
            return made, made
        return made, self.downsample((made + given).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class _Block(nn.Module):
    """Attention in windows with their context, and a feed-forward network, each normed before it joins the stream."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        head_dim: int | None,
        ngram: int,
        window: int,
        shift: int,
        mlp_ratio: float,
        qkv_bias: bool,
        drop_path: float,
    ):
        super().__init__()
        self.window, self.shift = (window, window), (shift, shift)
        self.ngram_window_partition: Any = nn.Module()
        self.ngram_window_partition.ngram_context = _Context(dim, window, ngram, num_heads)
        self.attn = _CosineAttention(dim, num_heads, self.window, head_dim, qkv_bias)
        self.norm1, self.norm2 = LayerNorm(dim), LayerNorm(dim)
        self.ffn = MLP(dim, mlp_ratio)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        B, H, W, _ = x_BHWC.shape
        plan = window_plan(B, H, W, self.window, self.shift, x_BHWC.device)
        attended_WNC = self.attn(split_windows(self.ngram_window_partition.ngram_context(x_BHWC), plan), plan)
        mixed_BHWC = join_windows(self.attn.proj(attended_WNC), plan, x_BHWC.shape)
        x_BHWC = x_BHWC + self.drop_path(self.norm1(mixed_BHWC))
        return x_BHWC + self.drop_path(self.norm2(self.ffn(x_BHWC)))


class _CosineAttention(RelativePositionBias):
    """Multi-head attention by cosines over a learned temperature, with a table of biases; without its projection."""

    derived_keys: ClassVar[tuple[str, ...]] = ()

    def __init__(self, dim: int, num_heads: int, window: tuple[int, int], head_dim: int | None, qkv_bias: bool):
        super().__init__()
        inner = num_heads * (head_dim or dim // num_heads)
        self.num_heads = num_heads
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10)))
        self.add_bias_table(window, num_heads)
        self.qkv, self.proj = nn.Linear(dim, 3 * inner, bias=qkv_bias), nn.Linear(inner, dim)

    def forward(self, windows_WNC: torch.Tensor, plan: WindowPlan) -> torch.Tensor:
        qkv_WNC = self.qkv(windows_WNC)
        with without_autocast(windows_WNC):
            q, k, v = qkv_WNC.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
            q, k = cosine_queries_and_keys(q, k, self.logit_scale)
            qkv_WNC = torch.stack([q, k, v.to(q.dtype)]).permute(1, 3, 0, 2, 4).flatten(2)
            mixed_WNC = window_attention(qkv_WNC, self.num_heads, self.position_bias(), plan, scale=1.0)
        return mixed_WNC.to(windows_WNC.dtype)


class _Context(nn.Module):
    """Adds to each window what attention sees in it and its neighbours: after it, and before it (section 3.2).

    A window counts as one token of half the channels. At the edge of the map the neighbourhood goes on with the windows
    next to the edge, in their order.
    """

    def __init__(self, dim: int, window: int, ngram: int, num_heads: int):
        super().__init__()
        self.window, self.ngram = window, ngram
        self.unigram_embed = nn.Conv2d(dim, dim // 2, window, stride=window, groups=dim // 2)
        self.ngram_attn = _CosineAttention(dim // 2, num_heads, (ngram, ngram), None, True)
        self.merge = nn.Conv2d(dim, dim, 1)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        unigrams_BCHW = self.unigram_embed(x_BHWC.permute(0, 3, 1, 2))
        contexts = [self._attended(unigrams_BCHW, is_after) for is_after in (True, False)]
        merged = self.merge(torch.cat(contexts, dim=-1).permute(0, 3, 1, 2))
        return x_BHWC + F.interpolate(merged, scale_factor=self.window, mode="nearest").permute(0, 2, 3, 1)

    def _attended(self, unigrams_BCHW: torch.Tensor, is_after: bool) -> torch.Tensor:
        """(B, rows, columns, C): the mean of attention in the neighbourhood of each window."""
        B, C, rows, columns = unigrams_BCHW.shape
        down, across = (self._neighbours(size, is_after, unigrams_BCHW.device) for size in (rows, columns))
        wider = unigrams_BCHW.index_select(2, down).index_select(3, across)
        places = [(i, j) for i in range(self.ngram) for j in range(self.ngram)]
        around = torch.stack([wider[:, :, i : i + rows, j : j + columns] for i, j in places], dim=-1)
        sides = (self.ngram, self.ngram)
        tokens_WNC = around.permute(0, 2, 3, 4, 1).reshape(-1, len(places), C)
        plan = window_plan(tokens_WNC.shape[0], *sides, sides, (0, 0), tokens_WNC.device)
        mean_WC = self.ngram_attn(tokens_WNC, plan).mean(dim=1)
        context: torch.Tensor = self.ngram_attn.proj(mean_WC).view(B, rows, columns, C)
        return context

    def _neighbours(self, size: int, is_after: bool, device: torch.device) -> torch.Tensor:
        """Which windows stand along a side that is longer by the neighbourhood of its last or first window."""
        inside, more = torch.arange(size, device=device), torch.arange(self.ngram - 1, device=device)
        if is_after:
            return torch.cat([inside, (more + (size - self.ngram)).clamp(min=0)])
        return torch.cat([(more + 1).clamp(max=size - 1), inside])


class _Bottleneck(nn.Module):
    """The maps of all stages at the size of the first, put together (section 3.4)."""

    def __init__(self, dim: int):
        super().__init__()
        self.depthwise = nn.Conv2d(dim * 21 // 16, dim * 21 // 16, 3, padding=1, groups=dim * 21 // 16)
        self.pointwise, self.norm = nn.Linear(dim * 21 // 16, dim), LayerNorm(dim)

    def forward(self, shallow_BCHW: torch.Tensor, maps_BHWC: Sequence[torch.Tensor]) -> torch.Tensor:
        large = []
        for step, map_BHWC in enumerate(maps_BHWC):
            if step:
                shallow_BCHW = F.max_pool2d(shallow_BCHW, 2)
            large.append(F.pixel_shuffle(map_BHWC.permute(0, 3, 1, 2) + F.leaky_relu(shallow_BCHW), 2**step))
        mixed = F.gelu(self.depthwise(torch.cat(large, dim=1)))
        normed: torch.Tensor = self.norm(self.pointwise(mixed.permute(0, 2, 3, 1)))
        return normed

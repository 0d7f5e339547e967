"""SwinIR: image restoration with shifted-window attention.

Liang, Cao, Sun, Zhang, Van Gool, Timofte 2021 (arXiv 2108.10257); official code: github.com/JingyunLiang/SwinIR
(Apache-2.0). The constructor takes the published names and the state dict has the published keys, so published weights
load unchanged. Checked against the official code.

What differs from the official code, none of it in the output: tokens stay a channels-last map; windows are a cached
permutation and the masks of a shifted map are four small tensors (see `restore.layers.window`); `attn_mask` and
`relative_position_index` are derived, so they are written for other programs and ignored when read, whatever `img_size`
they were made for; any H x W of at least 1 px is accepted. In half precision the residual stream stays in float32 and
branch outputs are scaled by a power of two, because the published activations exceed 65504.

Shape legend: B batch, H x W map, C channels (embed_dim), s scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from restore.layers.arguments import require_positive
from restore.layers.compiled.branch import compiled_mlp_branch
from restore.layers.convolution import PixelShuffleUpsampler, residual_conv
from restore.layers.ffn import MLP
from restore.layers.initialisation import initialise_linear
from restore.layers.padding import crop, pad_to_multiple
from restore.layers.position_bias import RelativePositionBias
from restore.layers.precision import add_branch, float32_when_half
from restore.layers.residual import DropPath
from restore.layers.sharing import share_weights
from restore.layers.window import WindowPlan, add_window_attention, attend_in_windows, shift_mask, window_plan
from restore.networks.base import Network, State
from restore.networks.spec import ImageSpec
from restore.registry import NETWORKS

__all__ = ["SwinIR"]

RGB_MEAN = (0.4488, 0.4371, 0.4040)
NUM_FEAT = 64


@NETWORKS.add("SwinIR")
class SwinIR(Network):
    """Restores (B, in_chans, H, W) in [0, 1] to (B, in_chans, H*upscale, W*upscale).

    Args:
        img_size: training patch side; it only decides the size of the `attn_mask` entries in the state dict and, where
            it is not larger than the window, switches the shift off as the published constructor does.
        patch_size: 1, the only published value.
        in_chans: 1 (grey) or 3 (RGB).
        embed_dim: C.
        depths: blocks of each stage.
        num_heads: attention heads of each stage.
        window_size: side of the attention window.
        mlp_ratio: hidden width of the feed-forward network, in C.
        qkv_bias: whether queries, keys and values have a bias.
        qk_scale: scale of the scores; None for 1 / sqrt(C / heads).
        drop_rate: dropout of projections and feed-forward networks.
        attn_drop_rate: 0, the only published value.
        drop_path_rate: stochastic depth of the last block, rising linearly from 0; active in training only.
        ape: add a learned absolute position embedding (resized to other sizes than `img_size`).
        patch_norm: normalise the shallow features.
        use_checkpoint: recompute blocks in the backward pass, to save memory.
        upscale: s; 1 for denoising and JPEG.
        img_range: the network works on values in [0, img_range]; 255 for the published JPEG models.
        upsampler: reconstruction: "pixelshuffle" (classical), "pixelshuffledirect" (lightweight), "nearest+conv"
            (real-world) or "" (a residual at the input's size).
        resi_connection: "1conv" or "3conv" at the end of each stage.
        share_blocks: so many consecutive blocks of a stage share their attention and feed-forward weights; see
            `restore.layers.sharing`.
    """

    derived_keys = ("attn_mask",)
    example = {"upscale": 1}  # noqa: RUF012
    mean: torch.Tensor
    upsample: nn.Module

    def __init__(
        self,
        img_size: int = 64,
        patch_size: Literal[1] = 1,
        in_chans: int = 3,
        embed_dim: int = 96,
        depths: Sequence[int] = (6, 6, 6, 6),
        num_heads: Sequence[int] = (6, 6, 6, 6),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: Literal[0] | Literal[0.0] = 0,  # type: ignore[valid-type]  # pydantic takes it
        drop_path_rate: float = 0.1,
        ape: bool = False,
        patch_norm: bool = True,
        use_checkpoint: bool = False,
        upscale: int = 2,
        img_range: float = 1.0,
        upsampler: Literal["", "pixelshuffle", "pixelshuffledirect", "nearest+conv"] | None = "",
        resi_connection: Literal["1conv", "3conv"] = "1conv",
        share_blocks: int = 1,
    ):
        super().__init__()
        if not depths or len(depths) != len(num_heads):
            raise ValueError(f"depths and num_heads name one stage each: {len(depths)} and {len(num_heads)} given")
        require_positive(in_chans=in_chans, img_size=img_size, embed_dim=embed_dim, depths=depths, num_heads=num_heads)
        require_positive(window_size=window_size, mlp_ratio=mlp_ratio, upscale=upscale, img_range=img_range)
        if any(embed_dim % heads for heads in num_heads):
            raise ValueError(f"embed_dim {embed_dim} is not divisible by num_heads {tuple(num_heads)}")
        self.window_size, self.upscale, self.img_range = window_size, upscale, img_range
        self.upsampler = upsampler or ""
        self.use_checkpoint = use_checkpoint
        self.in_chans = in_chans
        self.conv_first = nn.Conv2d(in_chans, embed_dim, 3, 1, 1)
        self.patch_embed: Any = nn.Module()
        self.patch_embed.add_module("norm", nn.LayerNorm(embed_dim) if patch_norm else None)
        self.absolute_pos_embed = nn.Parameter(torch.zeros(1, img_size**2, embed_dim)) if ape else None
        self.pos_drop = nn.Dropout(drop_rate)
        rates = [drop_path_rate * block / max(1, sum(depths) - 1) for block in range(sum(depths))]
        self.layers = nn.ModuleList()
        for stage, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            first = sum(depths[:stage])
            blocks = [
                _Block(
                    embed_dim,
                    heads,
                    min(window_size, img_size),
                    0 if index % 2 == 0 or img_size <= window_size else window_size // 2,
                    mlp_ratio,
                    qkv_bias,
                    qk_scale,
                    drop_rate,
                    rates[first + index],
                    img_size,
                )
                for index in range(depth)
            ]
            share_weights(blocks, share_blocks, ("attn", "mlp"))
            self.layers.append(_Stage(blocks, embed_dim, resi_connection))
        self.norm = nn.LayerNorm(embed_dim)
        self.conv_after_body = residual_conv(embed_dim, resi_connection)
        self._add_reconstruction(embed_dim, in_chans)
        mean = RGB_MEAN if in_chans == 3 else (0.0,)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.apply(initialise_linear)
        if self.absolute_pos_embed is not None:
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)

    @property
    def spec(self) -> ImageSpec:
        """What the network wants of its images."""
        return ImageSpec(
            scale=self.upscale,
            in_channels=self.in_chans,
            out_channels=self.in_chans,
            size_multiple=self.window_size,
            precisions=("fp32", "bf16", "fp16"),
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, in_chans, H, W) in [0, 1] to (B, in_chans, H*s, W*s)."""
        height, width = x_BCHW.shape[2:]
        x = pad_to_multiple(x_BCHW, self.window_size)
        mean = self.mean.to(x.dtype)
        x = (x - mean) * self.img_range
        shallow = self.conv_first(x)
        deep = float32_when_half(self.conv_after_body, self._body(shallow)) + shallow
        if self.upsampler == "pixelshuffle":
            x = self.conv_last(self.upsample(self.conv_before_upsample(deep)))
        elif self.upsampler == "pixelshuffledirect":
            x = self.upsample(deep)
        elif self.upsampler == "nearest+conv":
            x = self._nearest_conv(self.conv_before_upsample(deep))
        else:
            x = x + self.conv_last(deep)
        return crop(x / self.img_range + mean, height * self.upscale, width * self.upscale)

    def _body(self, shallow_BCHW: torch.Tensor) -> torch.Tensor:
        x_BHWC = shallow_BCHW.permute(0, 2, 3, 1)
        if self.patch_embed.norm is not None:
            x_BHWC = self.patch_embed.norm(x_BHWC)
        if self.absolute_pos_embed is not None:
            x_BHWC = x_BHWC + self._positions(self.absolute_pos_embed, *x_BHWC.shape[1:3])
        x_BHWC = self.pos_drop(x_BHWC)
        for stage in self.layers:
            x_BHWC = stage(x_BHWC, self.use_checkpoint and self.training)
        return self.norm(x_BHWC).permute(0, 3, 1, 2)

    @staticmethod
    def _positions(table_1NC: torch.Tensor, height: int, width: int) -> torch.Tensor:
        side = round(table_1NC.shape[1] ** 0.5)
        grid = table_1NC.view(1, side, side, -1).permute(0, 3, 1, 2)
        if (height, width) != (side, side):
            grid = F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)
        return grid.permute(0, 2, 3, 1)

    def _add_reconstruction(self, embed_dim: int, channels: int) -> None:
        s = self.upscale
        if self.upsampler == "pixelshuffle":
            self.conv_before_upsample = _conv_act(embed_dim, NUM_FEAT)
            self.upsample = PixelShuffleUpsampler(s, NUM_FEAT)
            self.conv_last = nn.Conv2d(NUM_FEAT, channels, 3, 1, 1)
        elif self.upsampler == "pixelshuffledirect":
            self.upsample = nn.Sequential(nn.Conv2d(embed_dim, s**2 * channels, 3, 1, 1), nn.PixelShuffle(s))
        elif self.upsampler == "nearest+conv":
            if s not in (2, 4):
                raise ValueError(f"upscale must be 2 or 4 with upsampler 'nearest+conv', got {s}")
            self.conv_before_upsample = _conv_act(embed_dim, NUM_FEAT)
            self.conv_up1 = nn.Conv2d(NUM_FEAT, NUM_FEAT, 3, 1, 1)
            if s == 4:
                self.conv_up2 = nn.Conv2d(NUM_FEAT, NUM_FEAT, 3, 1, 1)
            self.conv_hr = nn.Conv2d(NUM_FEAT, NUM_FEAT, 3, 1, 1)
            self.conv_last = nn.Conv2d(NUM_FEAT, channels, 3, 1, 1)
        else:
            if s != 1:
                raise ValueError(f"upscale {s} needs an upsampler: pixelshuffle, pixelshuffledirect or nearest+conv")
            self.conv_last = nn.Conv2d(embed_dim, channels, 3, 1, 1)

    def _nearest_conv(self, x: torch.Tensor) -> torch.Tensor:
        for conv in (self.conv_up1, self.conv_up2) if self.upscale == 4 else (self.conv_up1,):
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2))

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any] | None:
        """The constructor's arguments from the shapes of published weights.

        `img_range` cannot be told from the weights: window 7 is taken for the published JPEG models, which use 255.
        """
        table = "layers.0.residual_group.blocks.0.attn.relative_position_bias_table"
        if table not in state or "conv_first.weight" not in state:
            return None
        dim, channels = state["conv_first.weight"].shape[:2]
        stages = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("layers."))
        blocks = [
            {int(key.split(".")[4]) for key in state if key.startswith(f"layers.{i}.resid")} for i in range(stages)
        ]
        heads = [
            state[f"layers.{i}.residual_group.blocks.0.attn.relative_position_bias_table"].shape[1]
            for i in range(stages)
        ]
        window = (round(state[table].shape[0] ** 0.5) + 1) // 2
        upsampler, upscale = _recognise_upsampler(state)
        mask = state.get("layers.0.residual_group.blocks.1.attn_mask")
        return {
            "img_size": window * round(mask.shape[0] ** 0.5) if mask is not None else 8 * window,
            "in_chans": channels,
            "embed_dim": dim,
            "depths": [len(indices) for indices in blocks],
            "num_heads": heads,
            "window_size": window,
            "mlp_ratio": state["layers.0.residual_group.blocks.0.mlp.fc1.weight"].shape[0] / dim,
            "qkv_bias": "layers.0.residual_group.blocks.0.attn.qkv.bias" in state,
            "patch_norm": "patch_embed.norm.weight" in state,
            "ape": "absolute_pos_embed" in state,
            "upscale": upscale,
            "img_range": 255.0 if window == 7 else 1.0,
            "upsampler": upsampler,
            "resi_connection": "3conv" if "conv_after_body.0.weight" in state else "1conv",
        }


class _Stage(nn.Module):
    """A residual group of blocks, then a convolution: the published RSTB."""

    def __init__(self, blocks: list[_Block], dim: int, resi_connection: str):
        super().__init__()
        self.residual_group: Any = nn.Module()
        self.residual_group.blocks = nn.ModuleList(blocks)
        self.conv = residual_conv(dim, resi_connection)

    def forward(self, x_BHWC: torch.Tensor, recompute: bool) -> torch.Tensor:
        y = x_BHWC
        for block in self.residual_group.blocks:
            plan = block.plan(y)
            y = checkpoint(block, y, plan, use_reentrant=False) if recompute else block(y, plan)
        y = float32_when_half(self.conv, y.permute(0, 3, 1, 2))
        return x_BHWC + y.permute(0, 2, 3, 1)


class _Block(nn.Module):
    """Pre-norm window attention and feed-forward network, each with a residual connection."""

    whole_branches = True

    def __init__(
        self,
        dim: int,
        heads: int,
        window: int,
        shift: int,
        mlp_ratio: float,
        qkv_bias: bool,
        qk_scale: float | None,
        drop: float,
        drop_path: float,
        img_size: int,
    ):
        super().__init__()
        self.window, self.shift, self.img_size = (window, window), (shift, shift), img_size
        self.norm1 = nn.LayerNorm(dim)
        self.attn = _Attention(dim, heads, self.window, qkv_bias, qk_scale, drop)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, mlp_ratio, drop)

    def plan(self, x_BHWC: torch.Tensor) -> WindowPlan:
        """The windows of this block on a map of this size."""
        B, H, W, _ = x_BHWC.shape
        return window_plan(B, H, W, self.window, self.shift, x_BHWC.device)

    def forward(self, x_BHWC: torch.Tensor, plan: WindowPlan) -> torch.Tensor:
        x_BHWC = self._attended(x_BHWC, plan)
        whole = compiled_mlp_branch(self, x_BHWC, self.norm2, self.mlp.fc1, self.mlp.fc2)
        return x_BHWC + self.drop_path(self.mlp(self.norm2(x_BHWC))) if whole is None else whole

    def _attended(self, x_BHWC: torch.Tensor, plan: WindowPlan) -> torch.Tensor:
        attn = self.attn
        bias_hNN = attn.position_bias()
        whole = add_window_attention(
            self, x_BHWC, self.norm1, attn.qkv, attn.proj, attn.num_heads, bias_hNN, plan, attn.scale
        )
        return x_BHWC + self.drop_path(attn(self.norm1(x_BHWC), plan)) if whole is None else whole

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        if self.shift[0]:  # the published buffer, for programs that load strictly
            side = self.img_size - self.img_size % self.window[0]
            destination[f"{prefix}attn_mask"] = shift_mask(side, side, self.window, self.shift)
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.pop(f"{prefix}attn_mask", None)
        super()._load_from_state_dict(state_dict, prefix, *args)


class _Attention(RelativePositionBias):
    """Attention inside windows with a learned bias for each relative position."""

    def __init__(
        self, dim: int, heads: int, window: tuple[int, int], qkv_bias: bool, qk_scale: float | None, drop: float
    ):
        super().__init__()
        self.num_heads, self.scale = heads, qk_scale
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(drop)
        self.add_bias_table(window, heads)

    def forward(self, x_BHWC: torch.Tensor, plan: WindowPlan) -> torch.Tensor:
        mixed = attend_in_windows(x_BHWC, self.qkv, self.num_heads, self.position_bias(), plan, self.scale)
        return self.proj_drop(add_branch(self.proj, mixed))


def _conv_act(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1), nn.LeakyReLU(0.01))


def _recognise_upsampler(state: State) -> tuple[str, int]:
    if "conv_up1.weight" in state:
        return "nearest+conv", 4 if "conv_up2.weight" in state else 2
    if "conv_before_upsample.0.weight" in state:
        if state["upsample.0.weight"].shape[0] == 9 * NUM_FEAT:
            return "pixelshuffle", 3
        return "pixelshuffle", 2 ** sum(key.startswith("upsample.") and key.endswith("weight") for key in state)
    if "upsample.0.weight" in state:
        return "pixelshuffledirect", round(
            (state["upsample.0.weight"].shape[0] / state["conv_first.weight"].shape[1]) ** 0.5
        )
    return "", 1

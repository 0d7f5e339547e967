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
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.compiled.branch import compiled_mlp_branch
from restore.layers.ffn import MLP
from restore.layers.layer_norm import LayerNorm
from restore.layers.position_bias import RelativePositionBias
from restore.layers.precision import add_branch
from restore.layers.residual import DropPath
from restore.layers.sharing import share_weights
from restore.layers.window import WindowPlan, add_window_attention, attend_in_windows, shift_mask, window_plan
from restore.networks.base import State
from restore.networks.residual_groups import (
    ResidualGroup,
    ResidualGroups,
    Upsampler,
    recognise_groups,
    stochastic_depth,
)
from restore.networks.spec import ImageSpec
from restore.registry import NETWORKS

__all__ = ["SwinIR"]


@NETWORKS.add("SwinIR")
class SwinIR(ResidualGroups):
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
        upsampler: Upsampler | None = "",
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
        self.window_size, self.use_checkpoint = window_size, use_checkpoint
        self.size_multiple = window_size
        self.begin(in_chans, embed_dim, img_size, patch_norm=patch_norm, ape=ape, drop_rate=drop_rate)
        for heads, rates in zip(num_heads, stochastic_depth(drop_path_rate, depths), strict=True):
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
                    rate,
                    img_size,
                )
                for index, rate in enumerate(rates)
            ]
            share_weights(blocks, share_blocks, ("attn", "mlp"))
            self.layers.append(ResidualGroup(blocks, embed_dim, resi_connection))
        self.finish(embed_dim, resi_connection, upscale, upsampler, img_range)

    @property
    def spec(self) -> ImageSpec:
        """What the network wants of its images."""
        return ImageSpec(
            scale=self.upscale,
            in_channels=self.in_chans,
            out_channels=self.in_chans,
            size_multiple=self.size_multiple,
            precisions=("fp32", "bf16", "fp16"),
        )

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any] | None:
        """The constructor's arguments from the shapes of published weights.

        `img_range` cannot be told from the weights: window 7 is taken for the published JPEG models, which use 255.
        """
        table = "layers.0.residual_group.blocks.0.attn.relative_position_bias_table"
        if table not in state or "conv_first.weight" not in state:
            return None
        window = (round(state[table].shape[0] ** 0.5) + 1) // 2
        mask = state.get("layers.0.residual_group.blocks.1.attn_mask")
        arguments = recognise_groups(state)
        tables = [table.replace("0", str(group), 1) for group in range(len(arguments["depths"]))]
        return arguments | {
            "img_size": window * round(mask.shape[0] ** 0.5) if mask is not None else 8 * window,
            "num_heads": [state[each].shape[1] for each in tables],
            "window_size": window,
            "qkv_bias": "layers.0.residual_group.blocks.0.attn.qkv.bias" in state,
            "img_range": 255.0 if window == 7 else 1.0,
        }


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
        self.norm1 = LayerNorm(dim)
        self.attn = _Attention(dim, heads, self.window, qkv_bias, qk_scale, drop)
        self.drop_path = DropPath(drop_path)
        self.norm2 = LayerNorm(dim)
        self.mlp = MLP(dim, mlp_ratio, drop)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        B, H, W, _ = x_BHWC.shape
        x_BHWC = self._attended(x_BHWC, window_plan(B, H, W, self.window, self.shift, x_BHWC.device))
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

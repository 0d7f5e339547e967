"""Adaptive mixing: each token mixes a bank of learned maps of relative positions into the weights with which others
see it.

AMixer, Rao et al., ECCV 2022, section 3.2. Official code: github.com/raoyongming/AMixer (MIT). Checked against the
official code.

Shape legend: W windows of the whole batch, N positions of a window, K maps of the bank, h heads, D channels of a head.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.mixers.base import Mixer
from restore.layers.position_bias import gather_bias, relative_position_index
from restore.layers.window import join_windows, split_windows, window_plan
from restore.registry import MIXERS

__all__ = ["AdaptiveMixing", "MixingMode"]

MixingMode = Literal[
    "linear-softmax", "softmax-softmax", "linear-sigmoid", "linear-normalize", "softmax", "sigmoid", "linear"
]
"""What is done to the numbers that mix the bank, and to the weights: one word is of the former alone."""


@MIXERS.add("adaptive_mixing")
class AdaptiveMixing(Mixer):
    """Weighted sums of the positions of each window, without products of two positions.

    Maps of any size are padded with zeros to whole windows. A side that is no longer than a window is one window of
    its own length, without a shift.

    Args:
        dim: channels of the map.
        num_heads: sets of channels with weights of their own.
        window_size: side of the windows.
        num_maps: K.
        shifted: move the windows by half their side, as Swin Transformer does; blocks with and without take turns.
        reduction: the layer that mixes the bank has dim / reduction hidden channels.
        compat: let positions that meet only round the border mix, as the official code does, which makes a mask and
            does not use it.
        mode: how the layer's numbers and the weights are normed, see `MixingMode`; windows can be shifted where the
            weights are a softmax.
        relative: whether the maps of the bank are of relative positions, or of pairs of positions.
        pre_proj: whether there is a linear map of the values.
        post_proj: whether there is one of the sums.
    """

    index: torch.Tensor

    def __init__(
        self,
        dim: int,
        num_heads: int = 6,
        window_size: int = 8,
        num_maps: int = 9,
        shifted: bool = False,
        reduction: int = 4,
        compat: bool = False,
        mode: MixingMode = "linear-softmax",
        relative: bool = True,
        pre_proj: bool = True,
        post_proj: bool = True,
    ):
        require_positive(num_heads=num_heads, window_size=window_size, num_maps=num_maps, reduction=reduction)
        super().__init__(dim, halo_px=None if compat and shifted else window_size - 1)
        if dim % num_heads or dim < reduction:
            raise ValueError(f"dim {dim} must be a multiple of num_heads {num_heads}, and at least {reduction}")
        if shifted and not mode.endswith("-softmax"):
            raise ValueError(f"mode is '{mode}': windows can be shifted where it ends in '-softmax'")
        self.num_heads, self.num_maps, self.compat = num_heads, num_maps, compat
        self.mode, self.relative = mode, relative
        self.window_size, self.shift = window_size, window_size // 2 * shifted
        of_map = ((2 * window_size - 1) ** 2,) if relative else (window_size**2, window_size**2)
        self.weight_bank = nn.Parameter(0.02 * torch.randn(num_maps, *of_map))
        self.adapter = nn.Sequential(
            nn.Linear(dim, dim // reduction), nn.GELU(), nn.Linear(dim // reduction, num_maps * num_heads)
        )
        self.pre_proj = nn.Linear(dim, dim) if pre_proj else None
        self.post_proj = nn.Linear(dim, dim) if post_proj else None
        self.register_buffer("index", relative_position_index((window_size, window_size)), persistent=False)

    def projection(self) -> nn.Linear | None:
        """The last linear map, where there is one."""
        return self.post_proj

    def mix(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The weighted sums."""
        _, H, W, _ = x_BHWC.shape
        rows, columns = (min(self.window_size, side) for side in (H, W))
        whole = self.window_size >= H or self.window_size >= W
        shift = 0 if whole else self.shift
        padded_BHWC = F.pad(x_BHWC, (0, 0, 0, -W % columns, 0, -H % rows))
        B, height, width, _ = padded_BHWC.shape
        plan = window_plan(B, height, width, (rows, columns), (shift, shift), x_BHWC.device)
        windows_WNC = split_windows(padded_BHWC, plan)
        scores_WhNM = self.scores(windows_WNC, rows, columns)
        if plan.masks is not None and not self.compat:
            counts = torch.tensor(plan.counts, device=x_BHWC.device)
            masks_W1NM = plan.masks if len(plan.counts) > 1 else plan.masks[0][:, None]
            if len(plan.counts) > 1:
                masks_W1NM = masks_W1NM.repeat_interleave(counts, dim=0, output_size=len(windows_WNC))
            scores_WhNM = scores_WhNM + masks_W1NM.to(scores_WhNM.dtype)
        values_WNC = windows_WNC if self.pre_proj is None else self.pre_proj(windows_WNC)
        values_WNhD = values_WNC.unflatten(-1, (self.num_heads, -1))
        mixed_WMC = torch.einsum("whnm,wnhd->wmhd", self._normed(scores_WhNM), values_WNhD).flatten(2)
        return join_windows(mixed_WMC, plan, padded_BHWC.shape)[:, :H, :W]

    def _normed(self, scores_WhNM: torch.Tensor) -> torch.Tensor:
        """The weights."""
        if self.mode.endswith("-softmax"):
            return scores_WhNM.softmax(dim=2)
        if self.mode == "linear-sigmoid":
            return scores_WhNM.sigmoid()
        return F.normalize(scores_WhNM, dim=2) if self.mode == "linear-normalize" else scores_WhNM

    def scores(self, windows_WNC: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """(W, h, N, N) what each token says of its weight (third) for every position (fourth), before softmax.

        Args:
            windows_WNC: tokens of windows of this many rows and columns, none more than `window_size`.
        """
        side = self.window_size
        if self.relative:
            index_NM = self.index.view(side, side, side, side)[:rows, :columns, :rows, :columns]
            bank_KNM = gather_bias(self.weight_bank.T, index_NM.reshape(rows * columns, -1))
        else:
            bank_KHWHW = self.weight_bank.view(-1, side, side, side, side)[:, :rows, :columns, :rows, :columns]
            bank_KNM = bank_KHWHW.reshape(-1, rows * columns, rows * columns)
        policy_WNKh = self.adapter(windows_WNC).unflatten(-1, (self.num_maps, self.num_heads))
        if self.mode in ("softmax", "softmax-softmax"):
            policy_WNKh = policy_WNKh.softmax(dim=2)
        elif self.mode == "sigmoid":
            policy_WNKh = policy_WNKh.sigmoid()
        return torch.einsum("wnkh,knm->whnm", policy_WNKh, bank_KNM)

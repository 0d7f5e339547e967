"""What the blocks of Uformer are made of: attention and the feed-forward network, under the published keys.

Shapes: B batch, H x W map, C channels, W windows of all images (in WNC), N positions of a window, or of a table.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.ffn import FeedForward, depthwise_hidden
from restore.layers.position_bias import RelativePositionBias
from restore.layers.precision import add_branch
from restore.layers.window import WindowPlan, window_attention

__all__ = ["LinearProjection", "LocalFeedForward", "TableAttention", "WindowAttention"]


class WindowAttention(RelativePositionBias):
    """Attention inside windows, under the published keys."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window: tuple[int, int],
        qkv_bias: bool,
        qk_scale: float | None,
        drop: float,
        token_projection: str,
    ):
        super().__init__()
        self.num_heads, self.scale = num_heads, qk_scale
        linear = token_projection == "linear"
        self.qkv = LinearProjection(dim, qkv_bias) if linear else ConvProjection(dim, window)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(drop)
        self.add_bias_table(window, num_heads)

    def forward(self, windows_WNC: torch.Tensor, plan: WindowPlan) -> torch.Tensor:
        """(W, N, C) to the same shape."""
        bias = self.position_bias()
        mixed = window_attention(self.qkv(windows_WNC), self.num_heads, bias, plan, self.scale)
        return self.proj_drop(add_branch(self.proj, mixed))


class LinearMaps(nn.Module):
    """The published maps to queries, and to keys and values."""

    def __init__(self, dim: int, bias: bool):
        super().__init__()
        self.to_q = nn.Linear(dim, dim, bias=bias)
        self.to_kv = nn.Linear(dim, 2 * dim, bias=bias)


class LinearProjection(LinearMaps):
    """Queries, keys and values of the same tokens, by one product with both weights one above the other."""

    def forward(self, windows_WNC: torch.Tensor) -> torch.Tensor:
        """(W, N, 3 C)."""
        return F.linear(windows_WNC, *self.weight_and_bias())

    def folded(self) -> nn.Linear:
        """One linear map."""
        weight, bias = self.weight_and_bias()
        out, dim = weight.shape
        joined = nn.Linear(dim, out, bias=bias is not None, device=weight.device, dtype=weight.dtype)
        joined.weight.copy_(weight)
        if joined.bias is not None and bias is not None:
            joined.bias.copy_(bias)
        return joined

    def weight_and_bias(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Of the linear map that this is."""
        weight = torch.cat([self.to_q.weight, self.to_kv.weight])
        return weight, None if self.to_q.bias is None else torch.cat([self.to_q.bias, self.to_kv.bias])


class ConvProjection(nn.Module):
    """Queries, keys and values by separable convolutions that do not look beyond the window."""

    def __init__(self, dim: int, window: tuple[int, int]):
        super().__init__()
        self.window = window
        for name in ("to_q", "to_k", "to_v"):
            depthwise, pointwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim), nn.Conv2d(dim, dim, 1)
            self.add_module(name, nn.ModuleDict({"depthwise": depthwise, "pointwise": pointwise}))

    def forward(self, windows_WNC: torch.Tensor) -> torch.Tensor:
        windows_WCHW = windows_WNC.unflatten(1, self.window).permute(0, 3, 1, 2)
        parts = [part for part in self.children() if isinstance(part, nn.ModuleDict)]
        maps = [part["pointwise"](F.relu(part["depthwise"](windows_WCHW))) for part in parts]
        return torch.cat(maps, dim=1).permute(0, 2, 3, 1).flatten(1, 2)


class TableAttention(nn.Module):
    """Attention of every position to a learned table of tokens."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool, qk_scale: float | None, drop: float):
        super().__init__()
        self.num_heads, self.scale = num_heads, qk_scale
        self.qkv = LinearMaps(dim, qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(drop)

    def forward(self, x_BHWC: torch.Tensor, table_NC: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) to the same shape."""
        B = x_BHWC.shape[0]
        k, v = self.qkv.to_kv(table_NC).expand(B, -1, -1).chunk(2, dim=-1)
        q, k, v = (
            each.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for each in (self.qkv.to_q(x_BHWC.flatten(1, 2)), k, v)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, scale=self.scale).transpose(1, 2)
        return self.proj_drop(self.proj(mixed.reshape(x_BHWC.shape)))


class LocalFeedForward(FeedForward):
    """The published LeFF, under its keys: a feed-forward network with a 3 x 3 depth-wise convolution."""

    def __init__(self, dim: int, mlp_ratio: float):
        super().__init__(dim, mlp_ratio, halo_px=1)
        hidden = self.inner_dim
        self.linear1 = nn.Sequential(nn.Linear(dim, hidden))
        self.dwconv = nn.Sequential(nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden))
        self.linear2 = nn.Sequential(nn.Linear(hidden, dim))

    def projection(self) -> nn.Linear:
        """The last linear map."""
        last = self.linear2[0]
        assert isinstance(last, nn.Linear)
        return last

    def expand(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The hidden map."""
        first, convolution = self.linear1[0], self.dwconv[0]
        assert isinstance(first, nn.Linear)
        assert isinstance(convolution, nn.Conv2d)
        return depthwise_hidden(x_BHWC, first, convolution)

"""A plain SwinIR, the yardstick of the benchmarks: the published forward pass step by step, in our own words.

The score matrix, the relative position bias and the shift mask are separate tensors that are added one after the other;
the bias is gathered in every block and the mask rebuilt in every shifted block of every forward, as happens in the
published code for any image whose size differs from `img_size`. It has the state-dict keys of `restore.networks.SwinIR`
(without the derived buffers), so the same weights run in both.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def split_windows(x_BHWC: torch.Tensor, window: int) -> torch.Tensor:
    b, h, w, c = x_BHWC.shape
    x = x_BHWC.view(b, h // window, window, w // window, window, c)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window * window, c)


def join_windows(windows_WNC: torch.Tensor, window: int, h: int, w: int) -> torch.Tensor:
    b = windows_WNC.shape[0] // (h // window * (w // window))
    x = windows_WNC.view(b, h // window, w // window, window, window, -1)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(b, h, w, -1)


def shift_mask(h: int, w: int, window: int, shift: int) -> torch.Tensor:
    regions = torch.zeros(1, h, w, 1)
    count = 0
    for rows in (slice(0, -window), slice(-window, -shift), slice(-shift, None)):
        for columns in (slice(0, -window), slice(-window, -shift), slice(-shift, None)):
            regions[:, rows, columns] = count
            count += 1
    labels = split_windows(regions, window).squeeze(-1)
    differs = labels[:, None, :] != labels[:, :, None]
    return torch.zeros(differs.shape).masked_fill(differs, -100.0)


class PlainAttention(nn.Module):
    def __init__(self, dim: int, heads: int, window: int):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        y, x = y.flatten(), x.flatten()
        rows = y[:, None] - y[None] + window - 1
        columns = x[:, None] - x[None] + window - 1
        self.index = rows * (2 * window - 1) + columns
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, windows_WNC: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        count, n, c = windows_WNC.shape
        q, k, v = self.qkv(windows_WNC).reshape(count, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        scores = (q * self.scale) @ k.transpose(-2, -1)
        bias = self.relative_position_bias_table[self.index.view(-1)].view(n, n, -1).permute(2, 0, 1).contiguous()
        scores = scores + bias.unsqueeze(0)
        if mask is not None:
            scores = scores.view(-1, mask.shape[0], self.heads, n, n) + mask.unsqueeze(1).unsqueeze(0)
            scores = scores.view(-1, self.heads, n, n)
        out = (scores.softmax(-1) @ v).transpose(1, 2).reshape(count, n, c)
        return self.proj(out)


class PlainBlock(nn.Module):
    def __init__(self, dim: int, heads: int, window: int, shift: int, ratio: float):
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(dim)
        self.attn = PlainAttention(dim, heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential()
        self.mlp.add_module("fc1", nn.Linear(dim, int(dim * ratio)))
        self.mlp.add_module("act", nn.GELU())
        self.mlp.add_module("fc2", nn.Linear(int(dim * ratio), dim))

    def forward(self, x_BNC: torch.Tensor, h: int, w: int) -> torch.Tensor:
        b, n, c = x_BNC.shape
        y = self.norm1(x_BNC).view(b, h, w, c)
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        mask = shift_mask(h, w, self.window, self.shift).to(y.device) if self.shift else None
        y = join_windows(self.attn(split_windows(y, self.window), mask), self.window, h, w)
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), (1, 2))
        x_BNC = x_BNC + y.view(b, n, c)
        return x_BNC + self.mlp(self.norm2(x_BNC))


class PlainStage(nn.Module):
    def __init__(self, dim: int, depth: int, heads: int, window: int, ratio: float):
        super().__init__()
        blocks = [PlainBlock(dim, heads, window, window // 2 if i % 2 else 0, ratio) for i in range(depth)]
        self.residual_group = nn.ModuleDict({"blocks": nn.ModuleList(blocks)})
        self.conv = nn.Conv2d(dim, dim, 3, 1, 1)

    def forward(self, x_BNC: torch.Tensor, h: int, w: int) -> torch.Tensor:
        y = x_BNC
        for block in self.residual_group["blocks"]:
            y = block(y, h, w)
        y = self.conv(y.transpose(1, 2).view(y.shape[0], -1, h, w))
        return x_BNC + y.flatten(2).transpose(1, 2)


class PlainSwinIR(nn.Module):
    """The `pixelshuffledirect` (lightweight) network."""

    def __init__(
        self, upscale=4, embed_dim=60, depths=(6, 6, 6, 6), num_heads=(6, 6, 6, 6), window_size=8, mlp_ratio=2.0
    ):
        super().__init__()
        self.window_size = window_size
        self.mean = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)
        self.conv_first = nn.Conv2d(3, embed_dim, 3, 1, 1)
        self.patch_embed = nn.ModuleDict({"norm": nn.LayerNorm(embed_dim)})
        stages = zip(depths, num_heads, strict=True)
        self.layers = nn.ModuleList(PlainStage(embed_dim, d, n, window_size, mlp_ratio) for d, n in stages)
        self.norm = nn.LayerNorm(embed_dim)
        self.conv_after_body = nn.Conv2d(embed_dim, embed_dim, 3, 1, 1)
        self.upsample = nn.Sequential(nn.Conv2d(embed_dim, upscale**2 * 3, 3, 1, 1), nn.PixelShuffle(upscale))
        self.upscale = upscale

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        h, w = x_BCHW.shape[2:]
        pad_h, pad_w = -h % self.window_size, -w % self.window_size
        x = F.pad(x_BCHW, (0, pad_w, 0, pad_h), "reflect")
        mean = self.mean.to(x)
        shallow = self.conv_first(x - mean)
        size = shallow.shape[2:]
        y = self.patch_embed["norm"](shallow.flatten(2).transpose(1, 2))
        for layer in self.layers:
            y = layer(y, *size)
        y = self.norm(y).transpose(1, 2).view(shallow.shape)
        out = self.upsample(self.conv_after_body(y) + shallow) + mean
        return out[:, :, : h * self.upscale, : w * self.upscale]

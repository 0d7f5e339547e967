"""A plain Uformer, the yardstick of the benchmarks: the published forward pass step by step, in our own words.

Tokens are (B, N, C) sequences that are turned into (B, C, H, W) maps and back for each convolution; scores, bias and
mask are separate tensors; the bias is gathered in every block and the mask rebuilt in every shifted block. It has the
state-dict keys of `restore.networks.uformer.Uformer` (linear projections, LeFF), so the same weights run in both.
"""

from __future__ import annotations

import torch
from plain_swinir import join_windows, shift_mask, split_windows
from torch import nn


class PlainAttention(nn.Module):
    def __init__(self, dim: int, heads: int, window: int):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        y, x = y.flatten(), x.flatten()
        index = (y[:, None] - y[None] + window - 1) * (2 * window - 1) + x[:, None] - x[None] + window - 1
        self.register_buffer("relative_position_index", index)
        self.qkv = nn.ModuleDict({"to_q": nn.Linear(dim, dim), "to_kv": nn.Linear(dim, 2 * dim)})
        self.proj = nn.Linear(dim, dim)

    def forward(self, windows_WNC: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        count, n, c = windows_WNC.shape
        q = self.qkv["to_q"](windows_WNC).reshape(count, n, 1, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)[0]
        kv = self.qkv["to_kv"](windows_WNC).reshape(count, n, 2, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        scores = (q * self.scale) @ kv[0].transpose(-2, -1)
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)].view(n, n, -1)
        scores = scores + bias.permute(2, 0, 1).contiguous().unsqueeze(0)
        if mask is not None:
            scores = scores.view(-1, mask.shape[0], self.heads, n, n) + mask.unsqueeze(1).unsqueeze(0)
            scores = scores.view(-1, self.heads, n, n)
        return self.proj((scores.softmax(-1) @ kv[1]).transpose(1, 2).reshape(count, n, c))


class PlainFeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.linear1 = nn.Sequential(nn.Linear(dim, hidden), nn.GELU())
        self.dwconv = nn.Sequential(nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden), nn.GELU())
        self.linear2 = nn.Sequential(nn.Linear(hidden, dim))

    def forward(self, x_BNC: torch.Tensor, h: int, w: int) -> torch.Tensor:
        x = self.linear1(x_BNC)
        x = x.view(x.shape[0], h, w, -1).permute(0, 3, 1, 2).contiguous()
        x = self.dwconv(x)
        return self.linear2(x.flatten(2).transpose(1, 2).contiguous())


class PlainBlock(nn.Module):
    def __init__(self, dim: int, heads: int, window: int, shift: int, modulator: bool):
        super().__init__()
        self.window, self.shift = window, shift
        self.modulator = nn.Embedding(window * window, dim) if modulator else None
        self.norm1 = nn.LayerNorm(dim)
        self.attn = PlainAttention(dim, heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = PlainFeedForward(dim, 4 * dim)

    def forward(self, x_BNC: torch.Tensor, h: int, w: int) -> torch.Tensor:
        b, n, c = x_BNC.shape
        mask = shift_mask(h, w, self.window, self.shift).to(x_BNC.device) if self.shift else None
        y = self.norm1(x_BNC).view(b, h, w, c)
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        windows = split_windows(y, self.window)
        if self.modulator is not None:
            windows = windows + self.modulator.weight
        y = join_windows(self.attn(windows, mask), self.window, h, w)
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), (1, 2))
        x_BNC = x_BNC + y.view(b, n, c)
        return x_BNC + self.mlp(self.norm2(x_BNC), h, w)


class PlainStage(nn.Module):
    def __init__(self, dim: int, depth: int, heads: int, window: int, modulator: bool):
        super().__init__()
        self.blocks = nn.ModuleList(
            PlainBlock(dim, heads, window, window // 2 if i % 2 else 0, modulator) for i in range(depth)
        )

    def forward(self, x_BNC: torch.Tensor, h: int, w: int) -> torch.Tensor:
        for block in self.blocks:
            x_BNC = block(x_BNC, h, w)
        return x_BNC


class PlainUformer(nn.Module):
    def __init__(
        self, embed_dim=32, depths=(2,) * 9, num_heads=(1, 2, 4, 8, 16, 16, 8, 4, 2), win_size=8, modulator=True
    ):
        super().__init__()
        widths = [embed_dim << level for level in (0, 1, 2, 3, 4, 4, 3, 2, 1)]
        stages = [
            PlainStage(width, depth, heads, win_size, modulator and index > 4)
            for index, (width, depth, heads) in enumerate(zip(widths, depths, num_heads, strict=True))
        ]
        self.input_proj = nn.ModuleDict({"proj": nn.Sequential(nn.Conv2d(3, embed_dim, 3, padding=1), nn.LeakyReLU())})
        for i in range(4):
            self.add_module(f"encoderlayer_{i}", stages[i])
            down = nn.Conv2d(widths[i], widths[i + 1], 4, stride=2, padding=1)
            self.add_module(f"dowsample_{i}", nn.ModuleDict({"conv": nn.Sequential(down)}))
        self.conv = stages[4]
        for i in range(4):
            up = nn.ConvTranspose2d(widths[4 + i], widths[3 - i], 2, stride=2)
            self.add_module(f"upsample_{i}", nn.ModuleDict({"deconv": nn.Sequential(up)}))
            self.add_module(f"decoderlayer_{i}", stages[5 + i])
        self.output_proj = nn.ModuleDict({"proj": nn.Sequential(nn.Conv2d(2 * embed_dim, 3, 3, padding=1))})

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        h, w = x_BCHW.shape[2:]
        y = tokens(self.input_proj["proj"](x_BCHW))
        skips = []
        for i in range(4):
            y = getattr(self, f"encoderlayer_{i}")(y, h, w)
            skips.append(y)
            y = tokens(getattr(self, f"dowsample_{i}")["conv"](image(y, h, w)))
            h, w = h // 2, w // 2
        y = self.conv(y, h, w)
        for i in range(4):
            y = tokens(getattr(self, f"upsample_{i}")["deconv"](image(y, h, w)))
            h, w = 2 * h, 2 * w
            y = getattr(self, f"decoderlayer_{i}")(torch.cat([y, skips.pop()], -1), h, w)
        return x_BCHW + self.output_proj["proj"](y.transpose(1, 2).view(y.shape[0], -1, h, w))


def tokens(x_BCHW: torch.Tensor) -> torch.Tensor:
    return x_BCHW.flatten(2).transpose(1, 2).contiguous()


def image(x_BNC: torch.Tensor, h: int, w: int) -> torch.Tensor:
    return x_BNC.transpose(1, 2).contiguous().view(x_BNC.shape[0], -1, h, w)

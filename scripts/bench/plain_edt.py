"""A plain EDT for super-resolution, the yardstick of the benchmarks: the paper's forward pass step by step.

Each half of the channels is rolled, cut into windows, attended with separate scores and mask, given its positional
convolution window by window, and put back. It has the state-dict keys of `restore.networks.edt.EDT` (without the
derived masks), so the same weights run in both.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def split_windows(x_BHWC: torch.Tensor, window: tuple[int, int]) -> torch.Tensor:
    b, h, w, c = x_BHWC.shape
    x = x_BHWC.view(b, h // window[0], window[0], w // window[1], window[1], c)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window[0] * window[1], c)


def join_windows(windows_WNC: torch.Tensor, window: tuple[int, int], h: int, w: int) -> torch.Tensor:
    b = windows_WNC.shape[0] // (h // window[0] * (w // window[1]))
    x = windows_WNC.view(b, h // window[0], w // window[1], window[0], window[1], -1)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(b, h, w, -1)


def shift_mask(h: int, w: int, window: tuple[int, int], shift: tuple[int, int]) -> torch.Tensor:
    regions = torch.zeros(1, h, w, 1)
    count = 0
    for rows in (slice(0, -window[0]), slice(-window[0], -shift[0]), slice(-shift[0], None)):
        for columns in (slice(0, -window[1]), slice(-window[1], -shift[1]), slice(-shift[1], None)):
            regions[:, rows, columns] = count
            count += 1
    labels = split_windows(regions, window).squeeze(-1)
    differs = labels[:, None, :] != labels[:, :, None]
    return torch.zeros(differs.shape).masked_fill(differs, -100.0)


class PlainHalf(nn.Module):
    def __init__(self, dim: int, heads: int, window: tuple[int, int], shifted: bool):
        super().__init__()
        self.heads, self.window, self.scale = heads, window, (dim // heads) ** -0.5
        self.shift = (window[0] // 2, window[1] // 2) if shifted else None
        self.lepe = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, q, k, v, mask: torch.Tensor | None) -> torch.Tensor:
        h, w, c = q.shape[1:]
        if self.shift:
            q, k, v = (torch.roll(x, (-self.shift[0], -self.shift[1]), (1, 2)) for x in (q, k, v))
        q, k, v = (split_windows(x, self.window) for x in (q, k, v))
        count, n, _ = q.shape
        image = v.transpose(1, 2).contiguous().view(count, c, *self.window)
        position = self.lepe(image).view(count, c, n).transpose(1, 2).contiguous()
        q, k, v = (x.reshape(count, n, self.heads, -1).permute(0, 2, 1, 3).contiguous() for x in (q, k, v))
        scores = (q * self.scale) @ k.transpose(-2, -1)
        if mask is not None:
            scores = scores.view(-1, mask.shape[0], self.heads, n, n) + mask.unsqueeze(1).unsqueeze(0)
            scores = scores.view(-1, self.heads, n, n)
        out = (scores.softmax(-1) @ v).transpose(1, 2).reshape(count, n, c) + position
        out = join_windows(out, self.window, h, w)
        return torch.roll(out, self.shift, (1, 2)) if self.shift else out


class PlainFeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, 5, padding=2, groups=hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x_BNC: torch.Tensor, h: int, w: int) -> torch.Tensor:
        x = F.gelu(self.fc1(x_BNC))
        x = x.transpose(1, 2).contiguous().view(x.shape[0], -1, h, w)
        x = F.gelu(self.dwconv(x))
        return self.fc2(x.flatten(2).transpose(1, 2).contiguous())


class PlainBlock(nn.Module):
    def __init__(self, dim: int, heads: int, window: tuple[int, int], shifted: bool, ratio: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attns = nn.ModuleList(PlainHalf(dim // 2, heads, each, shifted) for each in (window, window[::-1]))
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = PlainFeedForward(dim, int(dim * ratio))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_BNC: torch.Tensor, h: int, w: int, masks) -> torch.Tensor:
        b, n, c = x_BNC.shape
        q, k, v = self.qkv(self.norm1(x_BNC)).reshape(b, h, w, 3, c).permute(3, 0, 1, 2, 4)
        half = c // 2
        first = self.attns[0](q[..., :half], k[..., :half], v[..., :half], masks[0] if self.attns[0].shift else None)
        second = self.attns[1](q[..., half:], k[..., half:], v[..., half:], masks[1] if self.attns[1].shift else None)
        x_BNC = x_BNC + self.proj(torch.cat([first, second], -1).view(b, n, c))
        return x_BNC + self.mlp(self.norm2(x_BNC), h, w)


class PlainConvs(nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.conv_1 = nn.Conv2d(inputs, hidden, 3, padding=1)
        self.conv_2 = nn.Conv2d(hidden, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(self.conv_2(F.leaky_relu(self.conv_1(x), 0.2)), 0.2) + self.shortcut(x)


class PlainSkip(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.block = PlainConvs(2 * outputs, outputs, outputs)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.block(torch.cat([self.conv(x), skip], 1))


class PlainEDT(nn.Module):
    """One super-resolution task; the direct upsampler (EDT-T)."""

    def __init__(self, scale=2, num_feat=8, embed_dim=60, depths=(6,) * 4, num_heads=(6,) * 4, window_size=(6, 24)):
        super().__init__()
        self.scale, self.window = scale, tuple(window_size)
        f, c = num_feat, embed_dim
        self.mean = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)
        head = nn.ModuleList(
            [
                nn.Conv2d(3, f, 3, 1, 1),
                PlainConvs(f, f, 2 * f),
                PlainConvs(2 * f, 2 * f, 4 * f),
                nn.Conv2d(4 * f, c, 3, 1, 1),
            ]
        )
        self.add_module(f"head_sr_x{scale}", head)
        self.body = nn.Module()
        self.body.patch_embed = nn.ModuleDict({"norm": nn.LayerNorm(c)})
        self.body.layers = nn.ModuleList()
        for depth, heads in zip(depths, num_heads, strict=True):
            blocks = nn.ModuleList(PlainBlock(c, heads, self.window, bool(i % 2), 2.0) for i in range(depth))
            self.body.layers.append(nn.ModuleDict({"residual_group": nn.ModuleDict({"blocks": blocks})}))
        self.body.norm = nn.LayerNorm(c)
        self.body.conv_after_body = nn.Conv2d(c, c, 3, 1, 1)
        last = nn.Sequential(nn.Conv2d(2 * f, 3 * scale**2, 3, 1, 1), nn.PixelShuffle(scale))
        self.add_module(f"tail_sr_x{scale}", nn.ModuleList([PlainSkip(c, 4 * f), PlainSkip(4 * f, 2 * f), last]))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        h, w = x_BCHW.shape[2:]
        image = x_BCHW - self.mean.to(x_BCHW)
        head, tail = (getattr(self, f"{part}_sr_x{self.scale}") for part in ("head", "tail"))
        first = head[1](head[0](image))
        second = head[2](first)
        shallow = head[3](second)
        windows = (self.window, self.window[::-1])
        masks = [shift_mask(h, w, each, (each[0] // 2, each[1] // 2)).to(x_BCHW.device) for each in windows]
        y = self.body.patch_embed["norm"](shallow.flatten(2).transpose(1, 2))
        for layer in self.body.layers:
            z = y
            for block in layer["residual_group"]["blocks"]:
                z = block(z, h, w, masks)
            y = y + z
        y = self.body.norm(y).transpose(1, 2).reshape(shallow.shape)
        y = self.body.conv_after_body(y) + shallow
        y = tail[2](tail[1](tail[0](y, second), first))
        enlarged = F.interpolate(image, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return y + enlarged + self.mean.to(x_BCHW)

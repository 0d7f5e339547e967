"""A plain IPT, the yardstick of the benchmarks: the published forward pass of one task, step by step.

Tokens come first, (N, B, D); query, key and value are projected one after the other, the scores are written out, and
positions and task query are added anew in every layer that wants them. It has the state-dict keys of
`restore.networks.ipt.IPT`, so the same weights run in both. It takes 48 x 48 images only, as published.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

MEAN = (0.4488, 0.4371, 0.4040)


class PlainAttention(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.out_proj = nn.Linear(dim, dim, bias=False)

    def forward(self, query, key, value) -> torch.Tensor:
        n, b, dim = query.shape
        weights = self.in_proj_weight.chunk(3)
        q, k, v = (F.linear(x, weight) for x, weight in zip((query, key, value), weights, strict=True))
        q, k, v = (x.contiguous().view(n, b * self.heads, -1).transpose(0, 1) for x in (q * self.scale, k, v))
        out = torch.bmm(torch.bmm(q, k.transpose(1, 2)).softmax(-1), v)
        return self.out_proj(out.transpose(0, 1).contiguous().view(n, b, dim))


class PlainEncoderLayer(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.self_attn = PlainAttention(dim, heads)
        self.linear1, self.linear2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, tokens_NBD: torch.Tensor) -> torch.Tensor:
        y = self.norm1(tokens_NBD)
        tokens_NBD = tokens_NBD + self.self_attn(y, y, y)
        return tokens_NBD + self.linear2(F.relu(self.linear1(self.norm2(tokens_NBD))))


class PlainDecoderLayer(PlainEncoderLayer):
    def __init__(self, dim: int, heads: int):
        super().__init__(dim, heads)
        self.multihead_attn = PlainAttention(dim, heads)
        self.norm3 = nn.LayerNorm(dim)

    def forward(self, tokens_NBD: torch.Tensor, memory_NBD: torch.Tensor, task_NBD: torch.Tensor) -> torch.Tensor:
        y = self.norm1(tokens_NBD)
        tokens_NBD = tokens_NBD + self.self_attn(y + task_NBD, y + task_NBD, y)
        y = self.norm2(tokens_NBD)
        tokens_NBD = tokens_NBD + self.multihead_attn(y + task_NBD, memory_NBD, memory_NBD)
        return tokens_NBD + self.linear2(F.relu(self.linear1(self.norm3(tokens_NBD))))


class PlainLayers(nn.Module):
    def __init__(self, layers: list[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)


class PlainBody(nn.Module):
    def __init__(self, dim: int, heads: int, depth: int, num_tokens: int):
        super().__init__()
        self.linear_encoding = nn.Linear(dim, dim)
        self.mlp_head = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.Identity(), nn.ReLU(), nn.Linear(4 * dim, dim), nn.Identity()
        )
        self.query_embed = nn.Embedding(1, dim * num_tokens)
        self.encoder = PlainLayers([PlainEncoderLayer(dim, heads) for _ in range(depth)])
        self.decoder = PlainLayers([PlainDecoderLayer(dim, heads) for _ in range(depth)])
        self.position_encoding = nn.ModuleDict({"pe": nn.Embedding(num_tokens, dim)})

    def forward(self, map_BCHW: torch.Tensor) -> torch.Tensor:
        x = F.unfold(map_BCHW, 3, stride=3).transpose(1, 2).transpose(0, 1).contiguous()
        n, b, dim = x.shape
        x = self.linear_encoding(x) + x
        task = self.query_embed.weight.view(n, 1, dim).repeat(1, b, 1)
        x = x + self.position_encoding["pe"].weight.view(n, 1, dim)
        for layer in self.encoder.layers:
            x = layer(x)
        memory = x
        for layer in self.decoder.layers:
            x = layer(x, memory, task)
        x = self.mlp_head(x) + x
        return F.fold(x.transpose(0, 1).transpose(1, 2).contiguous(), map_BCHW.shape[-2:], 3, stride=3)


class PlainResidual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 5, padding=2), nn.ReLU(), nn.Conv2d(width, width, 5, padding=2)
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.body(x_BCHW) + x_BCHW


class PlainIPT(nn.Module):
    """IPT for one task at scale 2, for (B, 3, 48, 48) in [0, 255]."""

    def __init__(self, width: int = 64, heads: int = 12, depth: int = 12):
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        head = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), PlainResidual(width), PlainResidual(width))
        self.head = nn.ModuleList([head])
        self.body = PlainBody(9 * width, heads, depth, 256)
        upsampler = nn.Sequential(nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2))
        self.tail = nn.ModuleList([nn.Sequential(upsampler, nn.Conv2d(width, 3, 3, padding=1))])

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y = self.head[0](x_BCHW - self.mean)
        return self.tail[0](self.body(y) + y) + self.mean

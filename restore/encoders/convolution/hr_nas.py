"""HR-NAS: the body that its search starts from, which keeps maps of several resolutions side by side throughout.

Ding et al. 2021, arXiv 2106.06560. Official code: github.com/dingmyu/HR-NAS (MIT), whose keys are kept; it has no
weights. A cell is a sum of depth-wise convolutions of several sizes; with `num_tokens` it has the lightweight
transformer of the paper beside them. Neighbouring resolutions exchange what they have between the stages. What the
official cells hold for distillation alone (`bns`) is left out.

B batch, H x W map, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import nn

from restore.encoders.base import Encoder, Features, Normalisation
from restore.encoders.staged import per_stage
from restore.layers.activations import Activation, activation_layer
from restore.layers.mixers.attention.resized_tokens import ResizedTokens
from restore.registry import ENCODERS

__all__ = ["HRNAS"]

_TRANSFORMER = {
    "input_proj.bn.": "input_norm.",
    "reverse_proj.bn.": "reverse_norm.",
    "encoder.qkv.": "encoder.self_attn.in_proj_",
    "encoder.proj.": "encoder.self_attn.out_proj.",
    "decoder.qkv.": "decoder.multihead_attn.in_proj_",
    "decoder.proj.": "decoder.multihead_attn.out_proj.",
    ".fc1.": ".linear1.",
    ".fc2.": ".linear2.",
}


@ENCODERS.add("hr_nas")
class HRNAS(Encoder):
    """Maps of strides 4, 8, 16 and 32.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`.
        stem_width: channels of the two convolutions before the first stage, which make its one map; one number, or two.
        dims: channels of the maps from the second stage on, finest first; each stage has one more of them, in the end
            all.
        depths: cells in a row on each map.
        num_last: stages that have all maps.
        expansion: channels of each convolution of a cell, in those that come in; one number, or one for each.
        kernel_sizes: of the convolutions of a cell.
        activation: of all layers; "relu" of the searched network, "silu" of those that were trained anew.
        norm_eps: of all norms.
        num_tokens: of the transformer of each cell that keeps its shape; 0 for none.
        antialias: of these; the official code does without, see `ResizedTokens`.
        head_dims: channels that each map has in the classifier's head.
        head_width: channels before the logits.
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
        stem_width: int | Sequence[int] = 24,
        dims: Sequence[int] = (18, 36, 72, 144),
        depths: Sequence[int] = (2, 2, 3, 4),
        num_last: int = 2,
        expansion: float | Sequence[float] = 4.0,
        kernel_sizes: Sequence[int] = (3, 5, 7),
        activation: Activation = "relu",
        norm_eps: float = 1e-3,
        num_tokens: int = 0,
        antialias: bool = True,
        head_dims: Sequence[int] = (36, 72, 144, 320),
        head_width: int = 1600,
    ):
        if not len(dims) == len(depths) == len(head_dims):
            raise ValueError(f"one entry for each map: dims {dims}, depths {depths}, head_dims {head_dims}")
        strides = [4 << level for level in range(len(dims))]
        super().__init__(
            in_chans,
            channels=dims,
            strides=strides,
            out_indices=out_indices,
            size_multiple=strides[-1],
            normalisation=normalisation,
        )
        layers = _Layers(activation, norm_eps, antialias)
        cell = _Cells(per_stage(expansion, len(kernel_sizes)), kernel_sizes, num_tokens, layers)
        first, second = (stem_width, stem_width) if isinstance(stem_width, int) else stem_width
        self.downsamples = nn.Sequential(layers.normed(in_chans, first, 3, 2), layers.normed(first, second, 3, 2))
        widths = [[second], *(dims[:count] for count in range(2, len(dims))), *(dims,) * num_last]
        before: Sequence[int] = [second]
        self.features_list = nn.ModuleList()
        for number, after in enumerate(widths):
            blocks = depths[: len(after)] if number else [1]
            self.features_list.extend([_Exchange(before, after, cell), _Parallel(after, blocks, cell)])
            before = after
        self._cell, self._head_dims, self._head_width = cell, tuple(head_dims), head_width

    def maps(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """One map for each resolution."""
        maps = [self.downsamples(x_BCHW)]
        for module in self.features_list:
            maps = module(maps)
        return maps

    def blocks(self) -> Sequence[nn.Module]:
        """Every cell."""
        return [module for module in self.features_list.modules() if isinstance(module, _Cell)]

    def prune_to_maps(self) -> None:
        """Remove what no map up to the last chosen one depends on."""
        super().prune_to_maps()
        needed = self.keep_maps()
        for module in reversed(self.features_list):
            needed = cast("_Exchange | _Parallel", module).keep(needed)

    def fitted(self, state: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Official weights without what is for distillation."""
        return {key: value for key, value in state.items() if ".bns." not in key}

    def published_key(self, key: str) -> str:
        """The names of the official code."""
        key = key.replace("features_list.", "features.")
        for own, published in _TRANSFORMER.items() if ".transformer." in key else ():
            key = key.replace(own, published)
        return key

    def head(self, num_classes: int) -> nn.Module:
        """Widens every map, reduces the finer ones into the coarser ones, and pools the last."""
        dims = [channels for channels, _ in self._declared]
        return _Head(len(self.features_list), dims, self._head_dims, self._head_width, num_classes, self._cell)


class _Layers:
    """Makes layers of one kind."""

    def __init__(self, activation: Activation, norm_eps: float, antialias: bool):
        self.activation, self.norm_eps, self.antialias = activation, norm_eps, antialias

    def normed(self, before: int, after: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
        """Convolution, batch norm and activation."""
        conv = nn.Conv2d(before, after, size, stride, (size - 1) // 2, groups=groups, bias=False)
        return nn.Sequential(conv, self.norm(after), activation_layer(self.activation))

    def norm(self, dim: int) -> nn.BatchNorm2d:
        """Batch norm."""
        return nn.BatchNorm2d(dim, eps=self.norm_eps, momentum=0.01)


class _Cells:
    """Makes cells of one kind."""

    def __init__(self, expansions: Sequence[float], kernel_sizes: Sequence[int], num_tokens: int, layers: _Layers):
        self.kinds, self.num_tokens, self.layers = [*zip(kernel_sizes, expansions, strict=True)], num_tokens, layers

    def __call__(self, before: int, after: int, stride: int = 1) -> _Cell:
        branches = [(size, round(before * expansion)) for size, expansion in self.kinds]
        return _Cell(before, after, stride, branches, self.num_tokens, self.layers)


class _Cell(nn.Module):
    """A shortcut, and the norm of the sum of depth-wise convolutions of several sizes between linear maps."""

    def __init__(
        self,
        before: int,
        after: int,
        stride: int,
        branches: Sequence[tuple[int, int]],
        num_tokens: int,
        layers: _Layers,
    ):
        super().__init__()
        self.ops = nn.ModuleList(
            nn.Sequential(
                layers.normed(before, hidden, 1),
                layers.normed(hidden, hidden, size, stride, groups=hidden),
                nn.Conv2d(hidden, after, 1, bias=False),
            )
            for size, hidden in branches
        )
        self.pw_bn = layers.norm(after)
        self.transformer = None
        if before == after and stride == 1:
            self.residual: nn.Module = nn.Identity()
            if num_tokens:
                self.transformer = ResizedTokens(before, num_tokens, antialias=layers.antialias)
        else:
            groups = math.gcd(before, after)
            self.residual = nn.Conv2d(before, after, 1, stride, groups=groups, bias=False)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        found_BCHW = self.pw_bn(torch.stack([op(x_BCHW) for op in self.ops]).sum(dim=0))
        if self.transformer is not None:
            x_BCHW = x_BCHW + self.transformer(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.residual(x_BCHW) + found_BCHW


class _Parallel(nn.Module):
    """Cells in a row on each map."""

    def __init__(self, dims: Sequence[int], depths: Sequence[int], cell: _Cells):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(cell(dim, dim) for _ in range(depth))) for dim, depth in zip(dims, depths, strict=True)
        )

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [branch(each) for branch, each in zip(self.branches, maps, strict=True)]

    def keep(self, needed: int) -> int:
        """Remove all but the first maps; returns how many have to come in."""
        self.branches = self.branches[:needed]
        return needed


class _Exchange(nn.Module):
    """Each map from those of its own and of the neighbouring resolutions; then, where there are more, coarser ones."""

    def __init__(self, before: Sequence[int], after: Sequence[int], cell: _Cells):
        super().__init__()
        self.num_before, self.activation = len(before), activation_layer(cell.layers.activation)
        rows = [nn.ModuleList() for _ in after]
        for i, row in enumerate(rows):
            if i >= len(before):
                row.append(cell(after[i - 1], after[i], 2))
                continue
            for j, dim in enumerate(before):
                made = cell(dim, after[i], 2 if j < i else 1) if abs(i - j) <= 1 else nn.Identity()
                step = nn.Sequential(made, nn.Upsample(scale_factor=2)) if j > i else nn.Sequential(made)
                row.append(made if i == j else step)
        self.fuse_layers = nn.ModuleList(rows)

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        found: list[torch.Tensor] = []
        for i, row in enumerate(self.fuse_layers):
            steps = cast(nn.ModuleList, row)
            if i >= self.num_before:
                found.append(steps[0](found[i - 1]))
                continue
            near = range(max(i - 1, 0), min(i + 2, len(maps)))
            found.append(self.activation(torch.stack([steps[j](maps[j]) for j in near]).sum(dim=0)))
        return found

    def keep(self, needed: int) -> int:
        """Remove all but the first maps; returns how many have to come in."""
        self.fuse_layers = self.fuse_layers[:needed]
        return min(needed + 1, self.num_before)


class _Head(nn.Module):
    def __init__(
        self, place: int, dims: Sequence[int], head_dims: Sequence[int], width: int, num_classes: int, cell: _Cells
    ):
        super().__init__()
        self.features = nn.ModuleDict({str(place): _HeadBody(dims, head_dims, width, cell)})
        self.classifier = nn.Sequential(nn.Dropout(0.0), nn.Linear(width, num_classes))

    def forward(self, features: Features) -> torch.Tensor:
        (body,) = self.features.values()
        return self.classifier(body(features.maps))


class _HeadBody(nn.Module):
    """(B, width) of the maps, finest first."""

    def __init__(self, dims: Sequence[int], head_dims: Sequence[int], width: int, cell: _Cells):
        super().__init__()
        self.incre_modules = nn.ModuleList(cell(before, after) for before, after in zip(dims, head_dims, strict=True))
        self.downsamp_modules = nn.ModuleList(cell(finer, coarser, 2) for finer, coarser in pairwise(head_dims))
        self.final_layer = cell.layers.normed(head_dims[-1], width, 1)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        total_BCHW, *coarser = (widen(each) for widen, each in zip(self.incre_modules, maps, strict=True))
        for reduce, each in zip(self.downsamp_modules, coarser, strict=True):
            total_BCHW = reduce(total_BCHW) + each
        return self.final_layer(total_BCHW).mean(dim=(2, 3))

"""One run of a network on one image, with what its blocks give and where its attention looks.

Nothing is known of classes: blocks are the repeated ones (`restore.layers.repeated`), and attention is what goes
through softmax or torch's fused attention inside them. The run is in float64, in which windows are not computed by the
compiled library.

Legend: W windows (or images), h heads, N queries, M keys, C channels.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from restore.analysis import representations
from restore.layers.repeated import repeated_blocks
from restore.layers.tokens import Tokens

__all__ = ["Attention", "BlockRun", "named_blocks", "times_of", "watched"]

_SOFTMAX = (torch.softmax, torch.Tensor.softmax, F.softmax)
_MOST_ENTRIES = 2**28  # of one map of all heads


@dataclass
class Attention:
    """What the attention of a block did; of several calls the mean, by the number of windows.

    Attributes:
        mean_map: (h, N, M), the mean over windows.
        distance_px: of each head, in pixels of the image; empty where places are not known.
        entropy: of each head, 0 to 1.
        head_similarity: mean cosine of two heads.
    """

    mean_map: torch.Tensor
    distance_px: list[float]
    entropy: list[float]
    head_similarity: float


@dataclass
class BlockRun:
    """What one block gave.

    Attributes:
        name: path of the module.
        tokens: (N, C) that it gave, without class tokens; None where it gave no map and no tokens.
        stride: pixels of the image for each position, where tokens lie on a grid.
        attention: of the last map that its softmax made; None where there is none.
        calls: maps and numbers of windows, until the block is done.
    """

    name: str
    tokens: torch.Tensor | None = None
    stride: float | None = None
    attention: Attention | None = None
    calls: list[torch.Tensor] = field(default_factory=list)


def named_blocks(network: nn.Module) -> dict[str, nn.Module]:
    """The repeated blocks by their paths, in the order of the modules."""
    blocks = {id(block) for block in repeated_blocks(network)}
    return {name: module for name, module in network.named_modules() if id(module) in blocks and module is not network}


def watched(network: nn.Module, image_BCHW: torch.Tensor) -> list[BlockRun]:
    """What each block makes of an image of one (B = 1), in the order in which they run; a block may run repeatedly.

    Args:
        network: a copy of it is run in evaluation mode and float64.
        image_BCHW: in the range that the network takes, sides of different length.
    """
    twin = copy.deepcopy(network).double().eval()
    size = (int(image_BCHW.shape[2]), int(image_BCHW.shape[3]))
    runs: list[BlockRun] = []
    open_runs: list[BlockRun] = []

    def begun(name: str) -> None:
        open_runs.append(BlockRun(name))

    def done(output: Any) -> None:
        run = open_runs.pop()
        run.tokens, run.stride = _tokens(output, size)
        run.attention, run.calls = _summary(run.calls, run.stride, size), []
        runs.append(run)

    handles = []
    for name, block in named_blocks(twin).items():
        handles.append(block.register_forward_pre_hook(lambda _module, _inputs, name=name: begun(name)))
        handles.append(block.register_forward_hook(lambda _module, _inputs, output: done(output)))
    try:
        with torch.no_grad(), _Softmax(open_runs):
            twin(image_BCHW.double())
    finally:
        for handle in handles:
            handle.remove()
    return runs


def times_of(network: nn.Module, image_BCHW: torch.Tensor, rounds: int = 3) -> tuple[dict[str, float], float]:
    """Seconds of each block, by its path, and of the whole network; the fastest of some rounds each."""
    blocks = named_blocks(network)
    since: dict[str, float] = {}
    best: dict[str, float] = dict.fromkeys(blocks, math.inf)
    now: dict[str, float] = {}

    def ended(name: str) -> None:
        now[name] = now.get(name, 0.0) + time.perf_counter() - since[name]

    handles = []
    for name, block in blocks.items():
        start = lambda _module, _inputs, name=name: since.__setitem__(name, time.perf_counter())  # noqa: E731
        handles.append(block.register_forward_pre_hook(start))
        handles.append(block.register_forward_hook(lambda _module, _inputs, _output, name=name: ended(name)))
    whole = math.inf
    try:
        with torch.no_grad():
            for number in range(rounds + 1):
                now.clear()
                begun = time.perf_counter()
                network(image_BCHW)
                if number:
                    whole = min(whole, time.perf_counter() - begun)
                    best = {name: min(seconds, now.get(name, 0.0)) for name, seconds in best.items()}
    finally:
        for handle in handles:
            handle.remove()
    return best, whole


class _Softmax(TorchFunctionMode):
    """Keeps the maps that are made while a block runs."""

    def __init__(self, open_runs: Sequence[BlockRun]):
        super().__init__()
        self._open_runs = open_runs

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        options = options or {}
        result = function(*arguments, **options)
        if not self._open_runs:
            return result
        if function is F.scaled_dot_product_attention:
            self._keep(_fused_map(*arguments, **options))
        elif function in _SOFTMAX and isinstance(result, torch.Tensor):
            dim = options.get("dim", arguments[1] if len(arguments) > 1 else None)
            if dim in (-1, result.ndim - 1) and result.ndim >= 3 and min(result.shape[-2:]) > 1:
                self._keep(result)
        return result

    def _keep(self, maps: torch.Tensor) -> None:
        if maps[:1].numel() <= _MOST_ENTRIES:
            self._open_runs[-1].calls.append(maps.detach().flatten(0, -4) if maps.ndim > 4 else maps.detach())


def _fused_map(
    query: torch.Tensor,
    key: torch.Tensor,
    _value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_others: Any,
) -> torch.Tensor:
    with torch._C.DisableTorchFunction():
        scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            scores = scores.masked_fill(scores.new_ones(scores.shape[-2:]).triu(1).bool(), -math.inf)
        if attn_mask is not None:
            scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype is torch.bool else scores + attn_mask
        return scores.softmax(dim=-1)


def _summary(calls: Sequence[torch.Tensor], stride: float | None, size: tuple[int, int]) -> Attention | None:
    """Of maps of the shape of the last one."""
    shaped = [each if each.ndim == 4 else each[:, None] for each in calls]
    alike = [each for each in shaped if each.shape[1:] == shaped[-1].shape[1:]]
    if not alike:
        return None
    maps_WhNM = torch.cat(alike)
    grid = _grid(maps_WhNM.shape[-1], size)
    distances: list[float] = []
    if grid is not None and maps_WhNM.shape[-2] == maps_WhNM.shape[-1]:
        rows, columns, prefix = grid
        patches = maps_WhNM[..., prefix:, prefix:]
        patches = patches / patches.sum(dim=-1, keepdim=True).clamp_min(1e-12)
        px = size[0] / rows if rows * size[1] == columns * size[0] else stride or 1.0
        distances = [float(each) * px for each in representations.attention_distance(patches, (rows, columns))]
    return Attention(
        mean_map=maps_WhNM.mean(dim=0).float(),
        distance_px=distances,
        entropy=representations.attention_entropy(maps_WhNM).tolist(),
        head_similarity=representations.head_similarity(maps_WhNM),
    )


def _grid(count: int, size: tuple[int, int]) -> tuple[int, int, int] | None:
    """Rows, columns and tokens before them: of the whole image, or of a square window."""
    whole = math.gcd(*size)
    for prefix in (0, 1, 2):
        for parts in range(1, whole + 1):
            rows, columns = (side * parts // whole for side in size)
            if rows * columns == count - prefix:
                return rows, columns, prefix
    side = math.isqrt(count)
    return (side, side, 0) if side * side == count else None


def _tokens(output: Any, size: tuple[int, int]) -> tuple[torch.Tensor | None, float | None]:
    """(N, C) of the first image and the stride; a map's channels are last where its sides are not."""
    if isinstance(output, Tokens):
        stride = size[0] / output.grid[0] if output.grid else None
        return output.patches_BNC[0], stride
    if isinstance(output, (tuple, list)):
        return _tokens(output[0], size) if output else (None, None)
    if not isinstance(output, torch.Tensor):
        return None, None
    if output.ndim == 3:
        found = _grid(output.shape[1], size)
        prefix = found[2] if found else 0
        return output[0, prefix:], size[0] / found[0] if found else None
    if output.ndim == 4:
        last = abs(output.shape[1] * size[1] - output.shape[2] * size[0])
        first = abs(output.shape[2] * size[1] - output.shape[3] * size[0])
        map_HWC = output[0] if last < first else output[0].permute(1, 2, 0)
        return map_HWC.flatten(0, 1), size[0] / map_HWC.shape[0]
    return None, None

"""Blocks in two streams, each of which follows from what comes after it: what was computed need not be kept.

Reformer, Kitaev et al. 2020, arXiv 2001.04451, section 3, after RevNet (Gomez et al. 2017, arXiv 1707.04585). With the
branches f and g of a block and the streams x1 and x2:

    y1 = x1 + f(x2),  y2 = x2 + g(y1)           forward
    x2 = y2 - g(y1),  x1 = y1 - f(x2)           backward

In training the streams after the last block are all that is kept; those before are computed again, block by block,
while gradients are. Memory then does not grow with the number of blocks; time grows by about a third.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from restore.layers.block import MetaFormerBlock
from restore.layers.placements import Placement
from restore.layers.residual import DropPath

__all__ = ["ReversibleBlocks"]


class ReversibleBlocks(nn.Sequential):
    """Blocks on a map: both streams begin as the map, and their mean comes out. Keys are those of the blocks in a row.

    Args:
        blocks: with a mixer and a feed-forward network each, whose outputs are added to the stream as they are.

    Raises:
        ValueError: a block of one branch, or a placement that does more than to add.
    """

    def __init__(self, *blocks: MetaFormerBlock):
        for block in blocks:
            placement = block.placement
            if block.num_branches != 2 or placement.parallel or type(placement).join is not Placement.join:
                raise ValueError(
                    "reversible blocks have a mixer and a feed-forward network, and a placement that adds them to the "
                    "stream as they are: pre, res-post or sub-ln"
                )
        super().__init__(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            parameters = [parameter for block in self.blocks() for parameter in block.parameters()]
            first, second = _Reversible.apply(self.blocks(), x, x, *parameters)
        else:
            first, second = self.streams(x, x)
        return (first + second) / 2

    def blocks(self) -> list[MetaFormerBlock]:
        """The blocks, in order."""
        return [block for block in self if isinstance(block, MetaFormerBlock)]

    def streams(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Both streams after the last block."""
        for block in self.blocks():
            first = first + block.branch(0, second)
            second = second + block.branch(1, first)
        return first, second

    def inverse(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Both streams before the first block, from those after the last; without random branches."""
        for block in reversed(self.blocks()):
            second = second - block.branch(1, first)
            first = first - block.branch(0, second)
        return first, second


class _Reversible(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, blocks: list[MetaFormerBlock], first: Tensor, second: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.blocks, ctx.randomness, kind = blocks, [], first.device.type
        ctx.autocast = kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        for block in blocks:
            random = _is_random(block)
            before = _state(first) if random else None
            first = first + block.branch(0, second)
            ctx.randomness.append((before, _state(first) if random else None))
            second = second + block.branch(1, first)
        ctx.save_for_backward(first, second)
        return first, second

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        of_first, of_second = gradients
        first, second = ctx.saved_tensors
        of_parameters: list[Tensor | None] = []
        kind, enabled, dtype = ctx.autocast
        for block, states in zip(reversed(ctx.blocks), reversed(ctx.randomness), strict=True):
            learned = [parameter for parameter in block.parameters() if parameter.requires_grad]
            with torch.autocast(kind, dtype, enabled), _again(block, first, states[0] is not None):
                given, output = _branch(block, 1, first, states[1])
                second = second - output.detach()
                found = torch.autograd.grad(output, (given, *learned), of_second, allow_unused=True)
                of_first = of_first + found[0]
                given, output = _branch(block, 0, second, states[0])
                first = first - output.detach()
                also = torch.autograd.grad(output, (given, *learned), of_first, allow_unused=True)
                of_second = of_second + also[0]
            sums = iter([_sum(one, other) for one, other in zip(found[1:], also[1:], strict=True)])
            of_parameters[:0] = [next(sums) if each.requires_grad else None for each in block.parameters()]
        return None, of_first, of_second, *of_parameters


def _branch(block: MetaFormerBlock, number: int, stream: Tensor, state: Any) -> tuple[Tensor, Tensor]:
    """What a branch is given, and what it gives: with gradients, and with the random numbers that it drew."""
    if state is not None:
        _set_state(stream, state)
    with torch.enable_grad():
        given = stream.detach().requires_grad_()
        return given, block.branch(number, given)


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return other if one is None else one if other is None else one + other


def _is_random(block: nn.Module) -> bool:
    """Whether a pass through the block draws random numbers."""
    return block.training and any(
        (isinstance(each, DropPath) and each.rate) or (isinstance(each, nn.Dropout) and each.p)
        for each in block.modules()
    )


def _state(like: Tensor) -> tuple[Tensor, Tensor | None]:
    """Of the random numbers of the processor and of the tensor's device."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(like.device) if like.is_cuda else None


def _set_state(like: Tensor, state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], like.device)


@contextlib.contextmanager
def _again(block: nn.Module, like: Tensor, random: bool) -> Iterator[None]:
    """A pass that leaves no trace: running statistics and random numbers are afterwards as they were before."""
    norms = [each for each in block.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    momenta = [each.momentum for each in norms]
    counts = [None if each.num_batches_tracked is None else each.num_batches_tracked.clone() for each in norms]
    present = _state(like) if random else None
    try:
        for each in norms:
            each.momentum = 0.0
        yield
    finally:
        if present is not None:
            _set_state(like, present)
        for each, momentum, count in zip(norms, momenta, counts, strict=True):
            each.momentum = momentum
            if count is not None:
                assert each.num_batches_tracked is not None
                each.num_batches_tracked.copy_(count)

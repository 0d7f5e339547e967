"""Where the norms of a block stand, how its branches join the stream, and what depth has to do with it.

With f a branch (a mixer or a feed-forward network) and x the stream:

    pre       x + f(norm(x))                    Wang et al. 2019, arXiv 1906.01787; most vision transformers
    post      norm(x + f(x))                    Vaswani et al. 2017, arXiv 1706.03762
    res-post  x + norm(f(x))                    Swin v2, Liu et al. 2021, arXiv 2111.09883
    parallel  x + f1(norm1(x)) + f2(norm2(x))   Touvron et al. 2022, arXiv 2203.09795, section 3
    deepnorm  norm(alpha x + f(x))              Wang et al. 2022, arXiv 2203.00555
    sub-ln    pre, and a norm before the output projection of f: Wang et al. 2022, arXiv 2210.06423

The last two also say how weights are drawn, by the number of blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from restore.layers.branch import Branch
from restore.registry import PLACEMENTS

__all__ = ["DeepNorm", "Parallel", "Placement", "Post", "Pre", "ResPost", "SubLN"]


class Placement:
    """Base of placements.

    Args:
        index: place of the block among all of the network, from 0.
        num_blocks: how many there are.

    Attributes:
        parallel: whether every branch sees what comes into the block, not what the branch before made.
        inner_norms: whether branches have a norm before their output projection.
        norm_last: whether the norm is the last step of a branch, before its factors of channels.
        gain: the standard deviation of the weights on the way of the values, relative to Xavier's; None leaves weights
            as they are.
    """

    parallel = False
    inner_norms = False
    norm_last = False
    gain: float | None = None

    def __init__(self, index: int = 0, num_blocks: int = 1):
        if not 0 <= index < num_blocks:
            raise ValueError(f"block {index} of {num_blocks}: blocks are counted from 0")
        self.index, self.num_blocks = index, num_blocks

    def before(self, x: torch.Tensor, norm: nn.Module) -> torch.Tensor:
        """What the branch sees of the stream."""
        return x

    def after(self, output: torch.Tensor, norm: nn.Module) -> torch.Tensor:
        """What is done with the output of the branch before it is scaled and joined."""
        return output

    def join(self, x: torch.Tensor, output: torch.Tensor, norm: nn.Module) -> torch.Tensor:
        """The stream after the branch."""
        return x + output

    @torch.no_grad()
    def initialise(self, branches: Iterable[Branch]) -> None:
        """Draw the weights of the linear maps by depth, where the placement says how.

        Normal, of Xavier's deviation (Glorot & Bengio 2010): times `gain` on the way of the values, as it is for
        queries and keys. Biases, of which the papers do not speak, start at 0: only then is the first step of DeepNorm
        the same at any depth.
        """
        if self.gain is None:
            return
        for branch in branches:
            for weight, of_values in branch.linear_maps():
                nn.init.xavier_normal_(weight, self.gain if of_values else 1.0)
            for bias in branch.linear_biases():
                nn.init.zeros_(bias)


@PLACEMENTS.add("pre")
class Pre(Placement):
    """x + f(norm(x))."""

    def before(self, x: torch.Tensor, norm: nn.Module) -> torch.Tensor:
        """The norm of the stream."""
        return norm(x)


@PLACEMENTS.add("post")
class Post(Placement):
    """norm(x + f(x))."""

    def join(self, x: torch.Tensor, output: torch.Tensor, norm: nn.Module) -> torch.Tensor:
        """The norm of the sum."""
        return norm(x + output)


@PLACEMENTS.add("res-post")
class ResPost(Placement):
    """x + norm(f(x))."""

    norm_last = True

    def after(self, output: torch.Tensor, norm: nn.Module) -> torch.Tensor:
        """The norm of the branch."""
        return norm(output)


@PLACEMENTS.add("parallel")
class Parallel(Pre):
    """x + f1(norm1(x)) + f2(norm2(x))."""

    parallel = True


@PLACEMENTS.add("deepnorm")
class DeepNorm(Placement):
    """norm(alpha x + f(x)) with alpha = (2 N)^(1/4) and a gain of (8 N)^(-1/4), for N blocks (figure 2)."""

    def __init__(self, index: int = 0, num_blocks: int = 1):
        super().__init__(index, num_blocks)
        self.alpha, self.gain = (2 * num_blocks) ** 0.25, (8 * num_blocks) ** -0.25

    def join(self, x: torch.Tensor, output: torch.Tensor, norm: nn.Module) -> torch.Tensor:
        """The norm of the sum, in which the stream counts for more."""
        return norm(self.alpha * x + output)


@PLACEMENTS.add("sub-ln")
class SubLN(Pre):
    """Pre, with a norm before each output projection and a gain of sqrt(ln(2 N)), for N blocks."""

    inner_norms = True

    def __init__(self, index: int = 0, num_blocks: int = 1):
        super().__init__(index, num_blocks)
        self.gain = math.sqrt(math.log(2 * num_blocks))

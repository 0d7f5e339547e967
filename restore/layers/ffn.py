"""Feed-forward networks: the second slot of a block, channels-last maps in and out.

Each is built from the width and `mlp_ratio`, the hidden width in channels; the last linear map and a norm before it are
the base's. Those with `halo_px` 0 look at one position at a time, so they take tokens as well.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.activations import Activation, make_activation
from restore.layers.arguments import require_odd
from restore.layers.branch import Branch
from restore.layers.normed_linear import NormedLinear
from restore.layers.tokens import Tokens
from restore.registry import FEED_FORWARDS, NORMS, NormOption

__all__ = [
    "MLP",
    "BatchNormMLP",
    "DepthwiseFeedForward",
    "FeedForward",
    "GatedFeedForward",
    "GatedLinearUnit",
    "PositionFeedForward",
    "depthwise_hidden",
    "none",
]


class FeedForward(Branch, ABC):
    """Base of feed-forward networks. A subclass writes `expand`, and calls its last linear map `fc2`.

    Args:
        dim: channels of the map.
        mlp_ratio: hidden width, in channels.
        halo_px: how far it looks along the map; None when it may reach anywhere.
        inner_dim: channels before the last linear map, where these are not the hidden width.
    """

    fc2: nn.Linear

    def __init__(self, dim: int, mlp_ratio: float, halo_px: int | None = 0, inner_dim: int | None = None):
        super().__init__(dim, int(dim * mlp_ratio) if inner_dim is None else inner_dim, halo_px)

    def projection(self) -> nn.Linear:
        """The last linear map."""
        return self.fc2

    def forward(self, x: torch.Tensor | Tokens) -> torch.Tensor:
        """(B, H, W, C) to the same shape; for tokens (B, N, C).

        Tokens in front of the grid have no neighbours: each is a map of one position.
        """
        if not isinstance(x, Tokens):
            return self.project(self.expand(x))
        if self.halo_px == 0:
            return self(x.x_BNC)
        patches_BNC = self(x.map_BHWC()).flatten(1, 2)
        if not x.num_prefix:
            return patches_BNC
        prefix_BNC = x.prefix_BNC
        alone = self(prefix_BNC.reshape(-1, 1, 1, prefix_BNC.shape[-1]))
        return torch.cat([alone.view(prefix_BNC.shape), patches_BNC], dim=1)

    @abstractmethod
    def expand(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """(B, H, W, inner_dim), before the inner norm and the last linear map."""


@FEED_FORWARDS.add("mlp")
class MLP(FeedForward):
    """Two linear maps with an activation between them; each position by itself.

    Transformer, Vaswani et al. 2017, arXiv 1706.03762.

    Args:
        dim: channels of the map.
        mlp_ratio: hidden width, in channels.
        drop: dropout after the activation and at the end.
        activation: between the two.
        bias: of the linear maps.
    """

    side_by_side: ClassVar[Mapping[str, int] | None] = {}

    def __init__(
        self,
        dim: int,
        mlp_ratio: float = 4.0,
        drop: float = 0.0,
        activation: Activation = "gelu",
        bias: bool = True,
    ):
        super().__init__(dim, mlp_ratio)
        self.fc1 = nn.Linear(dim, self.inner_dim, bias=bias)
        self.fc2 = nn.Linear(self.inner_dim, dim, bias=bias)
        self.drop = nn.Dropout(drop)
        self.activation = make_activation(activation)

    def forward(self, x: torch.Tensor | Tokens) -> torch.Tensor:
        """(..., C) to the same shape."""
        return self.drop(super().forward(x))

    def expand(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The first linear map and the activation."""
        return self.drop(self.activation(self.fc1(x_BHWC)))


class _NormedHidden(nn.Module):
    """What feed-forward networks with a norm of the hidden width share; the first of their bases."""

    halo_px: int | None
    inner_dim: int

    def add_norm(self, norm: NormOption) -> None:
        """One that computes over positions reaches anywhere."""
        self.hidden_norm: nn.Module = NORMS.build(norm, path="hidden_norm", dim=self.inner_dim)
        if getattr(self.hidden_norm, "halo_px", 0) is None:
            self.halo_px = None


@FEED_FORWARDS.add("grn_mlp")
class NormedMLP(MLP, _NormedHidden):
    """An MLP with a norm after the activation: ConvNeXt V2, Woo et al. 2023, arXiv 2301.00808.

    Args:
        dim: channels of the map.
        mlp_ratio: hidden width, in channels.
        drop: dropout after the activation and at the end.
        activation: between the two linear maps.
        bias: of the linear maps.
        hidden_norm: the norm, by name or with its options; by default a global response norm.
    """

    def __init__(
        self,
        dim: int,
        mlp_ratio: float = 4.0,
        drop: float = 0.0,
        activation: Activation = "gelu",
        bias: bool = True,
        hidden_norm: NormOption = "grn",
    ):
        super().__init__(dim, mlp_ratio, drop, activation, bias)
        self.add_norm(hidden_norm)

    def expand(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The first linear map, the activation and the norm."""
        normed: torch.Tensor = self.hidden_norm(super().expand(x_BHWC))
        return normed


@FEED_FORWARDS.add("batch_norm_mlp")
class BatchNormMLP(MLP):
    """An MLP with a batch norm after each linear map: that of networks made of 1x1 convolutions, such as RepMLPNet.

    Ding et al. 2021, arXiv 2112.11081; and ViG, Han et al. 2022, arXiv 2206.00272.

    Args:
        dim: channels of the map.
        mlp_ratio: hidden width, in channels.
        bias: of the linear maps, before the norms.
        activation: between the two.
    """

    side_by_side = None

    def __init__(self, dim: int, mlp_ratio: float = 4.0, bias: bool = True, activation: Activation = "gelu"):
        super().__init__(dim, mlp_ratio, activation=activation)
        self.fc1 = NormedLinear(dim, self.inner_dim, bias)
        self.fc2 = NormedLinear(self.inner_dim, dim, bias)


@FEED_FORWARDS.add("glu")
class GatedLinearUnit(FeedForward):
    """The product of one linear map and the activation of another, then a linear map (Shazeer 2020, arXiv 2002.05202).

    Args:
        dim: channels of the map.
        mlp_ratio: hidden width, in channels.
        activation: of the gate: "gelu" for GEGLU, "silu" for SwiGLU, "sigmoid" for GLU.
    """

    side_by_side: ClassVar[Mapping[str, int]] = {"fc1": 2}

    def __init__(self, dim: int, mlp_ratio: float = 4.0, activation: Activation = "gelu"):
        super().__init__(dim, mlp_ratio)
        self.fc1 = nn.Linear(dim, 2 * self.inner_dim)
        self.fc2 = nn.Linear(self.inner_dim, dim)
        self.activation = make_activation(activation)

    def expand(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The gated values."""
        gate, value = self.fc1(x_BHWC).chunk(2, dim=-1)
        return self.activation(gate) * value


@FEED_FORWARDS.add("grn_glu")
class NormedGatedLinearUnit(GatedLinearUnit, _NormedHidden):
    """A gated linear unit with a norm of the gated values, as of ConvNeXt V2 (Woo et al. 2023, arXiv 2301.00808).

    Args:
        dim: channels of the map.
        mlp_ratio: hidden width, in channels.
        activation: of the gate.
        hidden_norm: the norm, by name or with its options; by default a global response norm.
    """

    def __init__(
        self, dim: int, mlp_ratio: float = 4.0, activation: Activation = "gelu", hidden_norm: NormOption = "grn"
    ):
        super().__init__(dim, mlp_ratio, activation)
        self.add_norm(hidden_norm)

    def expand(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The gated values, normed."""
        normed: torch.Tensor = self.hidden_norm(super().expand(x_BHWC))
        return normed


@FEED_FORWARDS.add("leff", kernel_size=3)
@FEED_FORWARDS.add("depthwise")
class DepthwiseFeedForward(FeedForward):
    """A feed-forward network that looks at its neighbours: that of EDT, and with a kernel of 3 the LeFF of Uformer.

        leff       Uformer, Wang et al. 2021, arXiv 2106.03106; first in CeiT, Yuan et al. 2021, arXiv 2103.11816
        depthwise  EDT, Li et al. 2021, arXiv 2112.10175

    Args:
        dim: channels of the map.
        mlp_ratio: hidden width, in channels.
        kernel_size: side of the convolution, odd.
    """

    side_by_side: ClassVar[Mapping[str, int]] = {}

    def __init__(self, dim: int, mlp_ratio: float = 4.0, kernel_size: int = 5):
        require_odd(kernel_size=kernel_size)
        super().__init__(dim, mlp_ratio, halo_px=kernel_size // 2)
        hidden = self.inner_dim
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, kernel_size, padding=kernel_size // 2, groups=hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def expand(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """See `depthwise_hidden`."""
        return depthwise_hidden(x_BHWC, self.fc1, self.dwconv)


@FEED_FORWARDS.add("position")
class PositionFeedForward(FeedForward):
    """A depth-wise convolution of the hidden map is added to it (Conv2Former, Hou et al. 2022, arXiv 2211.11943).

    Args:
        dim: channels of the map.
        mlp_ratio: hidden width, in channels.
        kernel_size: side of the convolution, odd.
    """

    side_by_side: ClassVar[Mapping[str, int]] = {}

    def __init__(self, dim: int, mlp_ratio: float = 4.0, kernel_size: int = 3):
        require_odd(kernel_size=kernel_size)
        super().__init__(dim, mlp_ratio, halo_px=kernel_size // 2)
        hidden = self.inner_dim
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv: nn.Module = nn.Conv2d(hidden, hidden, kernel_size, padding=kernel_size // 2, groups=hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def expand(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The hidden map and what the convolution sees in it."""
        hidden = F.gelu(self.fc1(x_BHWC))
        return hidden + F.gelu(self.dwconv(hidden.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)


@FEED_FORWARDS.add("gated")
class GatedFeedForward(FeedForward):
    """A depth-wise convolution of one half of the hidden channels, gated by the other.

    Restormer, Zamir et al. 2021, arXiv 2111.09881.

    Args:
        dim: channels of the map.
        mlp_ratio: hidden width of each half, in channels.
    """

    side_by_side: ClassVar[Mapping[str, int]] = {"fc1": 2, "dwconv": 2}

    def __init__(self, dim: int, mlp_ratio: float = 4.0):
        super().__init__(dim, mlp_ratio, halo_px=1)
        hidden = self.inner_dim
        self.fc1 = nn.Linear(dim, 2 * hidden)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def expand(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The gated half."""
        both = self.dwconv(self.fc1(x_BHWC).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        gate, value = both.chunk(2, dim=-1)
        return F.gelu(gate) * value


@FEED_FORWARDS.add("none")
def none(dim: int) -> None:
    """No feed-forward network: the block is its mixer."""


def depthwise_hidden(x_BHWC: torch.Tensor, expand: nn.Linear, depthwise: nn.Conv2d) -> torch.Tensor:
    """Linear map, GELU, depth-wise convolution, GELU: the hidden map of the feed-forward networks of Uformer and EDT.

    It stays channels-last throughout: the convolution gets a view, and no memory is moved for it.
    """
    hidden = F.gelu(expand(x_BHWC)).permute(0, 3, 1, 2)
    return F.gelu(depthwise(hidden)).permute(0, 2, 3, 1)

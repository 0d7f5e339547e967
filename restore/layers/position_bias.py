"""The learned bias of attention in windows: one number for each relative position and head, from a table.

Swin Transformer (Liu et al. 2021, arXiv 2103.14030), section 3.2. Shape legend: N tokens of a window, h heads, R =
(2 rows - 1) * (2 columns - 1) relative positions.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

__all__ = [
    "RelativePositionBias",
    "gather_bias",
    "mean_of_cells",
    "relative_position_index",
    "relative_positions",
    "resized_bias_table",
]


class RelativePositionBias(nn.Module):
    """Base of attention modules that own a table of biases, under the key that their published weights have.

        class Attention(RelativePositionBias):
            def __init__(self, dim, num_heads, window):
                super().__init__()
                ...
                self.add_bias_table(window, num_heads)
            def forward(self, windows_WNC): ... self.position_bias() ...

    The index is derived: it is written with the state dict, for programs that load strictly, and ignored when it is
    read. A module with several tables has a child of this kind for each.

    Attributes:
        table_name: the key of the table, (R, h).
        derived_keys: the key of the index; empty where it is not written.
        resizes_table: a table of windows of another size is resized when it is read, instead of refused.
    """

    table_name: ClassVar[str] = "relative_position_bias_table"
    derived_keys: ClassVar[tuple[str, ...]] = ("relative_position_index",)
    resizes_table: ClassVar[bool] = False
    relative_position_index: torch.Tensor
    folded_bias: torch.Tensor | None

    def add_bias_table(self, window: tuple[int, int], num_heads: int) -> None:
        """Make a table for windows of this many rows and columns, drawn with a standard deviation of 0.02."""
        self._bias_window, self._bias_cache = window, _Cache()
        self.register_buffer("folded_bias", None, persistent=False)
        table_Rh = nn.Parameter(torch.empty((2 * window[0] - 1) * (2 * window[1] - 1), num_heads))
        nn.init.trunc_normal_(table_Rh, std=0.02)
        self.register_parameter(self.table_name, table_Rh)
        self.register_buffer("relative_position_index", relative_position_index(window), persistent=False)

    def position_bias(self) -> torch.Tensor:
        """(h, N, N): what is added to the scores of each head.

        Without gradients, on the processor, it is kept for as long as the table is unchanged.
        """
        if self.folded_bias is not None:
            return self.folded_bias
        return self._bias_cache(getattr(self, self.table_name), self.relative_position_index)

    def folded(self) -> nn.Module:
        """The same module, with the bias gathered from the table once and for all, or until another table is loaded."""
        if self.table_name in self._parameters:
            self.folded_bias = gather_bias(getattr(self, self.table_name).detach(), self.relative_position_index)
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self.derived_keys:
            destination[f"{prefix}{name}"] = self.relative_position_index

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in self.derived_keys:
            state_dict.pop(f"{prefix}{name}", None)
        key = f"{prefix}{self.table_name}"
        if self.resizes_table and key in state_dict:
            state_dict[key] = resized_bias_table(state_dict[key], self._bias_window)
        super()._load_from_state_dict(state_dict, prefix, *args)
        if self.table_name in self._parameters and self.folded_bias is not None:
            self.folded()


def relative_position_index(window: tuple[int, int], cell: tuple[int, int] = (1, 1)) -> torch.Tensor:
    """(N, N) row of the table for each pair of tokens, in the published order.

    With a larger cell (N, N / cell): each token with each cell of tokens, for a table that `mean_of_cells` made.
    """
    y, x = _places(window, (1, 1))
    key_y, key_x = _places(window, cell)
    rows, columns = window[0] - cell[0], window[1] - cell[1]
    return (y[:, None] - key_y + rows) * (window[1] + columns) + (x[:, None] - key_x + columns)


def _places(window: tuple[int, int], step: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns of every token of a window, or of each `step`-th."""
    y, x = torch.meshgrid(torch.arange(0, window[0], step[0]), torch.arange(0, window[1], step[1]), indexing="ij")
    return y.flatten(), x.flatten()


def relative_positions(window: tuple[int, int]) -> torch.Tensor:
    """(R, 2) rows and columns between two tokens, in the order of a table."""
    return torch.stack(_places((2 * window[0] - 1, 2 * window[1] - 1), (1, 1)), dim=1) - torch.tensor(window) + 1


def mean_of_cells(table_Rh: torch.Tensor, window: tuple[int, int], cell: tuple[int, int]) -> torch.Tensor:
    """The table for tokens and cells of tokens: of every place of a cell, the mean over its tokens."""
    if cell == (1, 1):
        return table_Rh
    picture_1hRR = table_Rh.T.view(1, -1, 2 * window[0] - 1, 2 * window[1] - 1)
    return F.avg_pool2d(picture_1hRR, cell, stride=1).flatten(2)[0].T


def gather_bias(table_Rh: torch.Tensor, index_NN: torch.Tensor) -> torch.Tensor:
    """(h, N, N) bias of each head."""
    return table_Rh[index_NN.flatten()].view(*index_NN.shape, -1).permute(2, 0, 1).contiguous()


def resized_bias_table(table_Rh: torch.Tensor, window: tuple[int, int]) -> torch.Tensor:
    """The table of square windows for windows of another size, by bicubic interpolation, as Swin Transformer does.

    Raises:
        ValueError: the table is not one of square windows, so its rows and columns cannot be told.
    """
    rows, columns = 2 * window[0] - 1, 2 * window[1] - 1
    if len(table_Rh) == rows * columns:
        return table_Rh
    side = math.isqrt(len(table_Rh))
    if side**2 != len(table_Rh) or side % 2 == 0:
        raise ValueError(f"a table of {len(table_Rh)} relative positions is not one of square windows")
    picture_hRR = table_Rh.T.view(1, -1, side, side)
    resized_hRR = F.interpolate(picture_hRR.float(), (rows, columns), mode="bicubic", align_corners=False)
    return resized_hRR.flatten(2)[0].T.to(table_Rh.dtype).contiguous()


class _Cache:
    """The gathered bias, kept between forward passes for as long as the table is unchanged.

    Only passes without gradients on the processor use it: in training the table changes with every step, and a GPU
    gathers faster than it could be asked. The values decide, as what is written through `.data` or into a table that
    is split among processes leaves no other trace.
    """

    def __init__(self) -> None:
        self._kept: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(self, table_Rh: torch.Tensor, index_NN: torch.Tensor) -> torch.Tensor:
        """(h, N, N); see `gather_bias`."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or table_Rh.is_inference() or not table_Rh.is_cpu:
            return gather_bias(table_Rh, index_NN)
        kept = self._kept
        if kept is None or kept[0].dtype != table_Rh.dtype or not torch.equal(kept[0], table_Rh):
            self._kept = kept = table_Rh.clone(), gather_bias(table_Rh, index_NN)
        return kept[1]

    def __deepcopy__(self, memo: Any) -> _Cache:
        return _Cache()

    def __reduce__(self) -> tuple[type[_Cache], tuple[()]]:
        return _Cache, ()

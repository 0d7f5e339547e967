"""How much of an image's steps stand on a grid: what codecs of square blocks, such as JPEG, leave behind.

After "Blind measurement of blocking artifacts in images" (Wang, Bovik and Evans 2000), which looks for the period in
spectra of the whole image; here it is looked for around every block, and the place of the grid is not known.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

__all__ = ["grid_steps"]

_FLOOR = 0.02  # steps of less are noise, of values in [-1, 1]
_NEAR = 3  # blocks across and down that are looked at together


def grid_steps(x_BCHW: torch.Tensor, side: int = 8) -> torch.Tensor:
    """(B, 2, H, W) in [0, 1): across and down, how much more often the image steps at one phase of a grid.

    A step is an absolute difference d of neighbouring pixels' means over the channels that is larger than the
    differences before and after it together, counted as (d - before - after) / (d + before + after + 0.02). Counts are
    averaged over 3 x 3 blocks for each of the `side` phases, and the mean of all phases is taken from the largest. In
    smooth areas that were saved as JPEG of a low quality that is 0.1 to 0.3, elsewhere seldom above 0.1.

    Args:
        x_BCHW: in [-1, 1].
        side: of the blocks in pixels, at least 2.

    Raises:
        ValueError: `side` is less than 2.
    """
    if side < 2:
        raise ValueError(f"side is {side}: blocks have at least 2 pixels a side")
    mean_B1HW = x_BCHW.mean(dim=1, keepdim=True)
    across = _across(mean_B1HW, side)
    return torch.cat([across, _across(mean_B1HW.transpose(2, 3), side).transpose(2, 3)], dim=1)


def _across(x_B1HW: torch.Tensor, side: int) -> torch.Tensor:
    height, width = x_B1HW.shape[-2:]
    step = F.pad((x_B1HW[..., 1:] - x_B1HW[..., :-1]).abs(), (1, 0))
    padded = F.pad(step, (1, 1))
    near = padded[..., :-2] + padded[..., 2:]
    counts = F.relu(step - near) / (step + near + _FLOOR)
    counts = F.avg_pool2d(F.pad(counts, (0, -width % side, 0, -height % side)), (side, 1))
    rows, columns = counts.shape[-2:]
    phases = counts.reshape(-1, rows, columns // side, side).permute(0, 3, 1, 2)
    phases = F.avg_pool2d(phases, _NEAR, 1, _NEAR // 2, count_include_pad=False)
    above = phases.amax(dim=1, keepdim=True) - phases.mean(dim=1, keepdim=True)
    return F.interpolate(above, scale_factor=side, mode="nearest")[..., :height, :width]

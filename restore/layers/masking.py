"""Networks that see a part of an image only: the dense form of sparse convolution (ConvNeXt V2, arXiv 2301.00808).

Inside `masked`, every step that looks at a neighbourhood (convolutions and mixers) or at the whole map (GRN) is given
zeros where the image is hidden, and what it gives is zero there. For a convolution of stride 1 this is submanifold
sparse convolution, and no hidden value reaches anything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.layers.mixers.base import Mixer
from restore.layers.norms import GlobalResponseNorm

__all__ = ["drawn_mask", "masked"]


def drawn_mask(num: int, rows: int, columns: int, share: float) -> Tensor:
    """Which patches of images are hidden: (num, 1, rows, columns) of 0 and 1, as many in each image.

    `int(rows * columns * (1 - share))` stay, as in the official code, but at least one. torch's global numbers, on the
    processor, are drawn.
    """
    places = rows * columns
    kept = max(1, int(places * (1 - share)))
    order = torch.rand(num, places).argsort(dim=1)
    mask = torch.ones(num, places).scatter_(1, order[:, :kept], 0.0)
    return mask.view(num, 1, rows, columns)


@contextlib.contextmanager
def masked(network: nn.Module, mask_B1HW: Tensor) -> Iterator[None]:
    """Inside, `network` does not see what `mask_B1HW` hides (1), which is spread over maps of any size.

    Args:
        network: its convolutions over more than one pixel, mixers and global response norms are watched.
        mask_B1HW: one value for each patch of the images.
    """
    visible_B1HW = 1 - mask_B1HW
    spread: dict[tuple[int, int], Tensor] = {}

    def seen(x: Tensor, channels_last: bool) -> Tensor:
        size = (x.shape[1], x.shape[2]) if channels_last else (x.shape[-2], x.shape[-1])
        if size not in spread:
            spread[size] = F.interpolate(visible_B1HW, size, mode="nearest").to(x.device)
        found = spread[size].to(x.dtype)
        return x * (found.permute(0, 2, 3, 1) if channels_last else found)

    def watch(module: nn.Module) -> list[Any]:
        last = not isinstance(module, nn.Conv2d) and not _channels_first(module)

        def before(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (seen(inputs[0], last), *inputs[1:]) if _is_map(inputs[0], visible_B1HW) else inputs

        def after(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            return seen(output, last) if _is_map(output, visible_B1HW) else output

        return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]

    handles = [handle for module in network.modules() if _looks_around(module) for handle in watch(module)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _looks_around(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return max(module.kernel_size) > 1 or max(module.stride) > 1
    return isinstance(module, (Mixer, GlobalResponseNorm)) or _is_timms(module)


def _is_timms(module: nn.Module) -> bool:
    """timm's global response norm, whose class cannot be named without importing timm."""
    return type(module).__name__ == "GlobalResponseNorm"


def _channels_first(module: nn.Module) -> bool:
    return getattr(module, "channel_dim", -1) == 1


def _is_map(value: Any, mask: Tensor) -> bool:
    """Maps of whole images; windows and tiles, of which there are more than images, are left as they are."""
    return isinstance(value, Tensor) and value.ndim == 4 and len(value) == len(mask)

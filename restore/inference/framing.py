"""An image in the frame that a network wants: padding as a list of the rows and columns to read, never as a copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from restore.errors import OptionsError

__all__ = ["Frame", "frame"]


@dataclass(frozen=True)
class Frame:
    """A padded image.

    Attributes:
        index: for each row and each column of the frame, the row or column of the image that lies there; -1 for zeros.
        offset: row and column of the frame at which the image begins.
        image_size: height and width of the image.
    """

    index: tuple[np.ndarray, np.ndarray]
    offset: tuple[int, int]
    image_size: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame."""
        return len(self.index[0]), len(self.index[1])

    def cropped(self, blocks: Iterable[torch.Tensor], scale: int) -> Iterator[tuple[torch.Tensor, int]]:
        """From blocks of rows that fill the enlarged frame, those of the image, each with its first row in the image."""
        (top, left), (height, width) = ([scale * value for value in pair] for pair in (self.offset, self.image_size))
        row = -top
        for block in blocks:
            start, stop = max(-row, 0), min(height - row, block.shape[-2])
            if start < stop:
                yield block[..., start:stop, left : left + width], row + start
            row += block.shape[-2]


def frame(height: int, width: int, padding: str, multiple: int = 1, minimum: int = 1) -> Frame:
    """TEMPORARY."""
    sizes = (height, width)
    if padding == "reflect":
        full = [max(-(-size // multiple), -(-minimum // multiple)) * multiple for size in sizes]
        return Frame(tuple(_mirrored(s, f, False) for s, f in zip(sizes, full)), (0, 0), sizes)
    if padding == "swinir_script":
        full = [(size // multiple + 1) * multiple for size in sizes]
        return Frame(tuple(_mirrored(s, f, True) for s, f in zip(sizes, full)), (0, 0), sizes)
    if padding == "square128":
        side = -(-max(sizes) // 128) * 128
        off = tuple((side - s) // 2 for s in sizes)
        ix = []
        for s, o in zip(sizes, off):
            i = np.arange(side) - o
            i[(i < 0) | (i >= s)] = -1
            ix.append(i)
        return Frame(tuple(ix), off, sizes)
    raise OptionsError(f"unknown padding {padding}")


def _mirrored(size: int, full: int, repeat_edge: bool) -> np.ndarray:
    period = 2 * size if repeat_edge else max(2 * (size - 1), 1)
    i = np.arange(full) % period
    return np.where(i < size, i, period - i - repeat_edge)

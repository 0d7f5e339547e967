"""Any kind of image through a network of one or three channels, and back to the same kind.

A network sees *planes*: images of exactly its channels. What the planes of an image are depends on both:

    image \\ network      3 channels                         1 channel
    grey                 the grey value thrice; the luma     itself
                         of what comes back
    RGB                  itself                              red, green and blue, each on its own
    alpha                as grey, a plane of its own         a plane of its own

Alpha goes through the network, so that its edges are as sharp as those of the colours; where the image is opaque or
transparent with all its surroundings, alpha stays exactly so. A uniform alpha channel, and any alpha channel in a
network of scale 1 (which would denoise or deblur a mask), is kept as it is. Colours under fully transparent pixels are
unseen and arbitrary: the nearest visible colours take their place before the network, so nothing bleeds into the
visible edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from restore.errors import ImageError
from restore.images import to_tensor
from restore.images.colour import LUMA
from restore.images.image import DEPTHS, checked
from restore.inference.values import Values

__all__ = ["Layout", "PixelSource", "TensorSource", "has_alpha"]

SURROUNDINGS_PX = 5  # the support of a cubic kernel: beyond it nothing can ring into an alpha edge


def has_alpha(channels: int) -> bool:
    """Whether an image of this many channels carries alpha as its last one."""
    return channels in (2, 4)


class Layout:
    """Which channels of an image make up each plane that the network sees.

    Args:
        image_channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha; or exactly what the network takes.
        network_channels: 1, 3, or what a special network takes.
        restore_alpha: send alpha through the network too.

    Raises:
        ImageError: the image does not fit the network.
    """

    def __init__(self, image_channels: int, network_channels: int, restore_alpha: bool = False):
        colours = image_channels - has_alpha(image_channels)
        if image_channels == network_channels:
            self.planes = [list(range(image_channels))]
        elif network_channels == 1 and colours in (1, 3):
            self.planes = [[channel] for channel in range(colours)]
        elif network_channels == 3 and colours in (1, 3):
            self.planes = [[0, 1, 2] if colours == 3 else [0, 0, 0]]
        else:
            raise ImageError(
                f"an image of {image_channels} channels does not fit this network, which takes {network_channels}."
            )
        if restore_alpha:
            self.planes.append([image_channels - 1] * network_channels)

    def split(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Images (N, C, H, W) to planes (N * planes, network channels, H, W)."""
        return x_NCHW[:, self.planes].flatten(0, 1)

    def join(self, planes_BCHW: torch.Tensor) -> torch.Tensor:
        """Restored planes back to images (N, C, H, W)."""
        planes = planes_BCHW.unflatten(0, (-1, len(self.planes))).unbind(1)
        return torch.cat([self._channels(x, used) for x, used in zip(planes, self.planes, strict=True)], dim=1)

    @staticmethod
    def _channels(plane_NCHW: torch.Tensor, used: Sequence[int]) -> torch.Tensor:
        if len(set(used)) == len(used) or plane_NCHW.shape[1] != len(used):
            return plane_NCHW
        weights = plane_NCHW.new_tensor(LUMA).view(1, -1, 1, 1)
        return (plane_NCHW * weights).sum(1, keepdim=True)


class _Source:
    """What arrays and tensors have in common: size, alpha and layout of a batch of images."""

    def __init__(self, images: int, size: tuple[int, int], channels: int, network_channels: int, alpha: _Alpha | None):
        self.height, self.width = size
        self._alpha = alpha
        self._layout = Layout(channels, network_channels, alpha is not None and alpha.through_network)
        self.batch = images * len(self._layout.planes)

    def _joined(self, planes_BCHW: torch.Tensor, row: int, column: int) -> torch.Tensor:
        x_NCHW = self._layout.join(planes_BCHW)
        return x_NCHW if self._alpha is None else self._alpha.finish(x_NCHW, row, column)


class PixelSource(_Source):
    """Arrays of one shape, handed out as planes row by row, and put together again from restored rows.

    Args:
        images: (H, W) or (H, W, C) arrays of one shape and dtype: uint8, uint16, or float32.
        network_channels: channels of the network.
        scale: of the network.
        values: what floats mean, and the depth of the result.
        names: what to call the images in messages.

    Raises:
        ImageError: not an image, or not one that the network could take, or with values that are not taken.
    """

    def __init__(
        self,
        images: Sequence[np.ndarray],
        network_channels: int,
        scale: int,
        values: Values | None = None,
        names: Sequence[str] | None = None,
    ):
        self.channels = images[0].shape[2:]  # () or (C,), as the result will have it
        self._given, self._values = images[0].dtype, values or Values()
        self._images = [checked(image) for image in images]
        self.dtype = self._values.depth_of(self._given)
        self.is_deep = {self._given, self.dtype} != {np.dtype(np.uint8)}
        height, width, *rest = self._images[0].shape
        channels = rest[0] if rest else 1
        self._has_alpha = has_alpha(channels) and channels != network_channels
        self._images = [
            self._values.taken(image, self._has_alpha, name)
            for image, name in zip(self._images, names or ["the image"] * len(images), strict=True)
        ]
        alpha = None
        if self._has_alpha:
            alpha = _Alpha(np.stack([image[..., -1] for image in self._images]), scale)
            self._images = [_cover_transparent(image, image[..., -1]) for image in self._images]
        super().__init__(len(images), (height, width), channels, network_channels, alpha)

    def planes(self, rows: np.ndarray, columns: np.ndarray) -> torch.Tensor:
        """(batch, network channels, rows, columns) float32 in [0, 1]; index -1 stands for a row or column of zeros."""
        return self._layout.split(torch.cat([to_tensor(_gather(image, rows, columns)) for image in self._images]))

    def put(self, parts: Iterable[tuple[torch.Tensor, int, int]], outs: Sequence[np.ndarray], top: int = 0) -> None:
        """Put parts of the restored planes into arrays of the images' own kind, one for each image.

        Args:
            parts: planes, with the row and the column of the result that they begin at.
            outs: where to, (H, W) or (H, W, C).
            top: the row of the result that the arrays begin at.
        """
        for planes_BCHW, row, column in parts:
            for out, pixels in zip(outs, self.pixels(planes_BCHW, row, column), strict=True):
                out[row - top : row - top + len(pixels), column : column + pixels.shape[1]] = pixels

    def pixels(self, planes_BCHW: torch.Tensor, row: int = 0, column: int = 0) -> list[np.ndarray]:
        """A part of the restored planes that begins at this row and column, as arrays of the images' own kind."""
        return self.given(self.images(planes_BCHW, row, column))

    def images(self, planes_BCHW: torch.Tensor, row: int = 0, column: int = 0) -> torch.Tensor:
        """The same as images (N, C, rows, columns), neither clamped nor rounded."""
        return self._joined(planes_BCHW, row, column)

    def given(self, x_NCHW: torch.Tensor) -> list[np.ndarray]:
        """Images of the network's values as arrays of the images' own kind, clamped and rounded."""
        blocks = [self._values.given(x_CHW, self._given, self._has_alpha) for x_CHW in x_NCHW]
        return [block.reshape(*block.shape[:2], *self.channels) for block in blocks]


class TensorSource(_Source):
    """A (B, C, H, W) floating point tensor, treated in the same way.

    Raises:
        ImageError: not such a tensor, or not one that the network could take.
    """

    def __init__(self, x_BCHW: torch.Tensor, network_channels: int, scale: int):
        if x_BCHW.ndim != 4 or not x_BCHW.is_floating_point() or 0 in x_BCHW.shape:
            given = f"a tensor of shape {tuple(x_BCHW.shape)} and {x_BCHW.dtype}"
            raise ImageError(f"{given}: expected (B, C, H, W), floating point, in [0, 1].")
        self._x_BCHW = x_BCHW.detach()
        self.is_deep = x_BCHW.dtype not in (torch.bfloat16, torch.float16)
        if not torch.isfinite(self._x_BCHW).all():
            raise ImageError("the tensor holds values that are not finite (NaN or infinite).")
        channels, height, width = x_BCHW.shape[1:]
        alpha = None
        if _alpha_apart(channels, network_channels):
            images = self._x_BCHW.permute(0, 2, 3, 1).float().cpu().numpy()
            alpha = _Alpha(images[..., -1], scale)
            covered = np.stack([_cover_transparent(image, image[..., -1]) for image in images])
            self._x_BCHW = torch.from_numpy(covered).permute(0, 3, 1, 2).to(x_BCHW)
        super().__init__(len(x_BCHW), (height, width), channels, network_channels, alpha)

    def planes(self, rows: np.ndarray, columns: np.ndarray) -> torch.Tensor:
        """(batch, network channels, rows, columns) float32; index -1 stands for a row or column of zeros."""
        x_BCHW = self._x_BCHW
        for dim, index in ((-2, rows), (-1, columns)):
            wanted = torch.from_numpy(index).to(x_BCHW.device)
            x_BCHW = x_BCHW.index_select(dim, wanted.clamp(min=0))
            if (index < 0).any():
                x_BCHW = x_BCHW * (wanted >= 0).view((-1, 1) if dim == -2 else (1, -1))
        return self._layout.split(x_BCHW.float())

    def values(self, planes_BCHW: torch.Tensor, row: int, column: int) -> torch.Tensor:
        """A part of the restored planes that begins at this row and column, of the tensor's device and dtype."""
        return self._joined(planes_BCHW, row, column).to(self._x_BCHW)


class _Alpha:
    """The alpha channels of a batch: whether the network sees them, and how they end up in the output."""

    def __init__(self, values_NHW: np.ndarray, scale: int):
        self.values = values_NHW
        self.scale = scale
        self.through_network = scale > 1 and bool((values_NHW != values_NHW.flat[0]).any())
        self._full = DEPTHS[values_NHW.dtype.name]
        if self.through_network:
            from scipy import ndimage

            around = (1, SURROUNDINGS_PX, SURROUNDINGS_PX)
            self._opaque = ndimage.minimum_filter(values_NHW, around, mode="nearest") >= self._full
            self._clear = ndimage.maximum_filter(values_NHW, around, mode="nearest") <= 0

    def finish(self, x_NCHW: torch.Tensor, row: int, column: int) -> torch.Tensor:
        """Append the kept alpha channel, or make the restored one exact where the image is plainly opaque or clear."""
        height, width = x_NCHW.shape[-2:]
        rows, columns = (np.arange(first, first + n) // self.scale for first, n in ((row, height), (column, width)))

        def enlarged(values_NHW: np.ndarray) -> np.ndarray:
            return values_NHW[:, rows[:, None], columns]

        if not self.through_network:
            kept = torch.from_numpy(enlarged(self.values).astype(np.float32) / np.float32(self._full))
            return torch.cat([x_NCHW, kept[:, None].to(x_NCHW)], dim=1)
        alpha = x_NCHW[:, -1].clamp(0, 1)
        for mask, value in ((self._opaque, 1), (self._clear, 0)):
            alpha = alpha.masked_fill(torch.from_numpy(enlarged(mask)).to(alpha.device), value)
        return torch.cat([x_NCHW[:, :-1], alpha[:, None]], dim=1)


def _alpha_apart(channels: int, network_channels: int) -> bool:
    return has_alpha(channels) and channels != network_channels


def _gather(pixels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    taken = pixels[np.maximum(rows, 0)][:, np.maximum(columns, 0)]
    taken[rows < 0] = 0
    taken[:, columns < 0] = 0
    return taken


def _cover_transparent(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The image with the colour of each fully transparent pixel replaced by that of the nearest visible one."""
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return pixels
    from scipy import ndimage

    nearest = ndimage.distance_transform_edt(hidden, return_distances=False, return_indices=True)
    covered = pixels[tuple(nearest)]
    covered[..., -1] = alpha
    return covered

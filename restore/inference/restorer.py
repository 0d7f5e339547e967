"""The `Restorer`: the only way pixels go through a network.

It holds the network, what the network says about images (`ImageSpec`) and how to run it, and takes whatever comes: one
image or a stream, of any size, depth and number of channels, as an array, a tensor or an `Image`; the same kind of
thing comes back, `scale` times as large.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, TypeVar, overload

import numpy as np
import torch
from PIL.Image import Image as PillowImage
from torch import nn

from restore.allocator import keep_freed_memory
from restore.errors import ImageError, OptionsError, nearest
from restore.images import Image, resize
from restore.images.padding import PADDINGS, Frame, frame
from restore.inference.bands import Part, RecoveringForward, crop_parts, joined, pieces_of, restore_parts
from restore.inference.blocks import compile_blocks
from restore.inference.channels import Layout, PixelSource, TensorSource, has_alpha
from restore.inference.ensemble import self_ensemble_x8
from restore.inference.fitting import Fitting, num_together
from restore.inference.kinds import grouped, name_of, taken, through_stream
from restore.inference.memory import empty_pixels
from restore.inference.packing import PackedConvolution, PackedLinear, PackedWeights
from restore.inference.precision import PRECISIONS, arithmetic, resolve_device, resolve_precision
from restore.inference.rows import in_pieces, resized_bands, rows_of
from restore.inference.sizing import sizing_of
from restore.inference.tiling import Plan, tiling_policy, whole_number, whole_number_or_auto
from restore.inference.values import Values
from restore.layers.folding import fold as folded
from restore.layers.layout import lay_out
from restore.layers.merging import merge as merged
from restore.layers.modes import evaluating
from restore.networks import ImageSpec
from restore.networks.spec import spec_of

__all__ = ["Restorer"]

Item = TypeVar("Item")
Restorable = TypeVar("Restorable", np.ndarray, torch.Tensor, Image)
Progress = Callable[[float], None]
Auto = Literal["auto"]


class Restorer:
    """A network that restores images.

    Args:
        network: takes (B, C, H, W) in [0, 1] and returns its scale times; moved to `device` (a folded copy is, where
            `fold` is asked for), run in evaluation mode.
        spec: what the network wants of images; by default its own `spec`.
        device: auto, cpu, or what torch has beside the processor: cuda, cuda:N, mps, xpu, npu.
        precision: auto, fp32, bf16 or fp16; auto is bf16 where that is fast, but for images and results of more than 8
            bits, whose steps it would lose; see `restore.inference.precision`.
        channels_last: keep the channels of feature maps innermost; None: where a network of this package is mostly
            convolutions and runs on the processor, which they speed up there.
        fold: run a copy of the network without the structure that only training needs; see `restore.layers.folding`.
        compile: compile the network's repeated blocks with `torch.compile`, which pays for itself on many images; not
            where a processor is faster without, which is said.
        tile: largest side of a tile in input pixels; None for whole images; "auto" by the free memory.
        tile_overlap: how far neighbouring tiles overlap, in input pixels. With 32 the shipped models differ from whole
            images by 0.13 of 255 at most, with 16 by 0.54 (`scripts/bench/seams.py`).
        tile_batch: tiles that go through the network together; "auto" by memory and the kind of device.
        tiling: name of a policy in `restore.inference.tiling`; by default the network's own.
        padding: name of a policy in `restore.images.padding`; by default the tiling policy's or the network's own.
        self_ensemble: mean over the eight flips and rotations of every tile: eight times the work for a little PSNR.
        input_range: of float arrays and images, the values that stand for black and white: they are scaled to [0, 1],
            the result back; what lies beyond is clipped, with a warning. By default 0 and 1, and values beyond are
            refused. Tensors are in [0, 1] and neither scaled nor clipped.
        depth: of the results of arrays and images: uint8, uint16 or float32; by default that of the input.
        fill: give pixels of float arrays and images that are not finite the values of the nearest others.
        merge: run a copy of the network whose attention sees merged tokens, `tome:0.3` or `cluster:28x28`; see
            `restore.layers.merging`.
        outscale: output pixels per input pixel along each side, by resizing the network's result as MATLAB does
            (`restore.images.resizing`); by default the network's own scale.
        size: the size of results instead, `(width, height)` or `"1920x1080"`, resized in the same way; `"1920x"` and
            `"x1080"` keep the proportions.

    On the processor, the process keeps memory that it frees from here on, which made images of 500 px 1.3 times
    faster; see `restore.allocator` for the way out.

    Raises:
        OptionsError: an argument has a value that is not allowed, or that device or precision is not available; or
            tokens are to be merged where there is no attention for it.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        spec: ImageSpec | None = None,
        device: str | torch.device = "auto",
        precision: str = "auto",
        channels_last: bool | None = None,
        fold: bool = False,
        compile: bool = False,
        tile: int | str | None = "auto",
        tile_overlap: int = 32,
        tile_batch: int | str = "auto",
        tiling: str | None = None,
        padding: str | None = None,
        self_ensemble: bool = False,
        input_range: tuple[float, float] | None = None,
        depth: str | None = None,
        fill: bool = False,
        merge: str | None = None,
        outscale: float | None = None,
        size: str | tuple[int, int] | None = None,
    ):
        self.spec: ImageSpec = spec or spec_of(network)
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device, self.spec.precisions)
        self._deep_dtype = torch.float32 if precision == "auto" else self.dtype
        self.values = Values(input_range, depth, fill)
        self.sizing = sizing_of(outscale, size)
        self.policy = tiling_policy(tiling or self.spec.tiling)
        self.padding = padding or self.policy.padding or self.spec.padding
        if self.padding not in PADDINGS:
            raise OptionsError(
                f"unknown padding '{self.padding}'.{nearest(self.padding, PADDINGS)} Known: {', '.join(PADDINGS)}."
            )
        self.tile: int | Auto | None = None if tile is None else whole_number_or_auto("tile", tile)
        self.tile_overlap = whole_number("tile_overlap", tile_overlap, "", smallest=0)
        self.policy.check(self.tile, self.tile_overlap, self.spec.size_multiple)
        if self.policy.tile_px or not self.policy.tiled:
            self.tile = self.policy.tile_px
        self.tile_batch = whole_number_or_auto("tile_batch", tile_batch)
        self.self_ensemble = self_ensemble
        network = folded(network) if fold else network
        network = merged(network, merge) if merge else network
        self.network: nn.Module = network.to(self.device)
        if channels_last is None and not _is_of_this_package(network):
            channels_last = False  # others' may look at maps in the usual layout only
        lay_out(self.network, self.device, channels_last)
        self.is_folded, self.merge = fold, merge
        self._packed: dict[torch.dtype, PackedWeights] = {}
        if self.device.type == "cpu":
            keep_freed_memory()
            if not compile:
                self._packed[torch.float32] = PackedConvolution(self.network)
            if PackedLinear.is_available() and not compile:
                self._packed[torch.bfloat16] = PackedLinear(self.network)
        self._fitting = Fitting(self.network, self.spec, self.device, self._through_network)
        self._forwards = {
            dtype: RecoveringForward(
                partial(self._through_network, dtype), self.scale, self.spec.size_multiple, self.tile_overlap
            )
            for dtype in (self.dtype, self._deep_dtype)
        }
        if compile:
            if self.tile == "auto":
                self._fitting.pixel_bytes(self.dtype)
            compile_blocks(self.network, learning=False)

    @property
    def scale(self) -> int:
        """Output pixels per input pixel, along each side."""
        return self.spec.scale

    def __repr__(self) -> str:
        return f"Restorer({self.describe()})"

    @overload
    def __call__(
        self, image: Restorable, *, out: np.ndarray | None = None, on_progress: Progress | None = None
    ) -> Restorable: ...
    @overload
    def __call__(
        self, image: str | os.PathLike[str], *, out: None = None, on_progress: Progress | None = None
    ) -> Image: ...
    @overload
    def __call__(self, image: PillowImage, *, out: None = None, on_progress: Progress | None = None) -> PillowImage: ...
    @overload
    def __call__(self, image: Sequence[Any], *, out: None = None, on_progress: Progress | None = None) -> list[Any]: ...

    def __call__(self, image: Any, *, out: np.ndarray | None = None, on_progress: Progress | None = None) -> Any:
        """Restore one image, a batch of images as a tensor, or a list of images.

        Args:
            image: (H, W) or (H, W, C) array of uint8, uint16 or float32 (in [0, 1], or `input_range`), with C of 1 to 4
                (grey, grey and alpha, RGB, RGBA); or an `Image`, whose profile and EXIF block are kept; or a
                (B, C, H, W) tensor of floating point; or a Pillow image; or the path of a file. Or a list of these.
            out: array to write the result of an array into (a memory-mapped file, say).
            on_progress: called with the share that is done.

        Returns:
            The same kind of thing, `scale` times as large, or as large as `outscale` or `size` say: of a path an
            `Image`, which `restore.images.write_image` writes; of a list a list. Arrays are clamped and rounded,
            tensors are neither.

        Raises:
            ImageError: this is not an image, or not one for this network; or it or its result holds values that are not
                finite, or beyond the range.
            DeviceError: the device is out of memory even for a small tile.
        """
        if isinstance(image, (list, tuple)):
            return through_stream(image, self.stream)
        image, given_back = taken(image)
        return given_back(self._one(image, out, on_progress))

    def _one(self, image: Any, out: np.ndarray | None, on_progress: Progress | None) -> Any:
        if isinstance(image, Image):
            (pixels,) = self._arrays([image.pixels], [out] if out is not None else None, on_progress, [name_of(image)])
            return dataclasses.replace(image, pixels=pixels)
        if isinstance(image, torch.Tensor):
            source = TensorSource(image, self.spec.in_channels, self.scale)
            parts = ((source.values(*part), *part[1:]) for part in self._parts(source, on_progress))
            size, target = self._sizes(source)
            x_BCHW = joined(parts, *size)
            return x_BCHW if size == target else resize(x_BCHW, size=target)
        return self._arrays([image], [out] if out is not None else None, on_progress)[0]

    def rows(self, image: np.ndarray | Image, on_progress: Progress | None = None) -> Iterator[np.ndarray]:
        """Restore one array or `Image` and hand out the result's pixels from top to bottom, as they are finished.

        For results that are too large to be held: no more than a row of tiles is in memory, in the depth of the result;
        in float32 where they are resized.
        """
        pixels, names = (image.pixels, [name_of(image)]) if isinstance(image, Image) else (image, None)
        source = PixelSource([pixels], self.spec.in_channels, self.scale, self.values, names)
        parts, (size, target) = self._parts(source, on_progress), self._sizes(source)
        if size == target:
            yield from rows_of(source, parts, size[1])
            return
        for _, (band,) in resized_bands(source, parts, size, target):
            yield from in_pieces(band)

    def stream(self, images: Iterable[Restorable]) -> Iterator[Restorable]:
        """Restore images one after another, in order; small neighbours of one size go through the network together."""
        for batch in self.batches(images):
            yield from self.batch(batch)

    def batches(
        self, items: Iterable[Item], image_of: Callable[[Item], object] = lambda item: item
    ) -> Iterator[list[Item]]:
        """Group consecutive items whose images (`image_of(item)`) may go through the network together."""
        return grouped(items, image_of, self.group_size)

    def batch(self, images: list[Restorable]) -> list[Restorable]:
        """Restore images of one kind, depth and size together."""
        if len(images) == 1:
            return [self(images[0])]
        alike: list[Any] = images
        if isinstance(images[0], torch.Tensor):
            return list(self(torch.cat(alike)).split([len(image) for image in alike]))
        if isinstance(images[0], Image):
            restored = self._arrays([image.pixels for image in alike], names=[name_of(image) for image in alike])
            return [dataclasses.replace(image, pixels=new) for image, new in zip(alike, restored, strict=True)]
        return self._arrays(alike)

    def group_size(self, height: int, width: int) -> int:
        """How many images of this size `batches` puts together."""
        return num_together(self.device, height * width)

    def tile_for(self, shape: tuple[int, ...], images: int = 1, depth: str = "uint8") -> int | None:
        """The largest side of a tile for arrays of this shape, by the free memory now where `tile` is auto.

        Args:
            shape: (H, W) or (H, W, C).
            images: how many go through the network together.
            depth: of the arrays.

        Returns:
            The side in input pixels; None for whole images.
        """
        if self.tile != "auto":
            return self.tile
        channels = shape[2] if len(shape) > 2 else 1
        alpha = has_alpha(channels) and channels != self.spec.in_channels and self.scale > 1
        planes = images * len(Layout(channels, self.spec.in_channels, alpha).planes)
        is_deep = {depth, str(self.values.depth_of(np.dtype(depth)))} != {"uint8"}
        dtype = self._deep_dtype if is_deep else self.dtype
        return self._fitting.tile_px(*self._framed(*shape[:2]).size, planes, dtype)

    def with_tile(self, tile: int | None) -> Restorer:
        """The same restorer, sharing its network, with this side of tiles instead of its own."""
        other = copy.copy(self)
        other.tile = tile
        return other

    def measuring(self) -> Restorer:
        """The same restorer, sharing its network, for figures: float32 where precision is auto, and noise as it is.

        An image with added noise has values below black and above white, with which published figures are made.
        """
        other = copy.copy(self)
        other.dtype = self._deep_dtype
        other.values = dataclasses.replace(self.values, beyond=True)
        return other

    def result_of(self, shape: tuple[int, ...], depth: str) -> tuple[tuple[int, ...], str]:
        """Shape and depth of what an array of this shape and depth would become."""
        height, width, *channels = shape
        return (*self.size_of(height, width), *channels), self.values.depth_of(np.dtype(depth)).name

    def describe(self) -> str:
        """One line for a log: network, device, arithmetic, tiles."""
        precision = next(name for name, dtype in PRECISIONS.items() if dtype is self.dtype)
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device)
        policy = f"{self.policy.name}, overlap {self.tile_overlap}"
        tiles = "whole images" if self.tile is None else f"tiles {self.tile} ({policy})"
        name = f"{'folded ' if self.is_folded else ''}{type(self.network).__name__}"
        ensemble = ", self-ensemble x8" if self.self_ensemble else ""
        tiles += f", tokens merged by {self.merge}" if self.merge else ""
        unusual = self.sizing.describe() + self.values.describe()
        precision += " (fp32 of more than 8 bits)" if self.dtype is not self._deep_dtype else ""
        return f"{name} x{self.scale} on {device}, {precision}, {tiles}{ensemble}{unusual}"

    def _arrays(
        self,
        images: list[np.ndarray],
        outs: list[np.ndarray] | None = None,
        on_progress: Progress | None = None,
        names: list[str] | None = None,
    ) -> list[np.ndarray]:
        source = PixelSource(images, self.spec.in_channels, self.scale, self.values, names)
        shape = (*self.size_of(source.height, source.width), *source.channels)
        if outs is None:
            outs = [empty_pixels(shape, source.dtype) for _ in images]
        if any(out.shape != shape or out.dtype != source.dtype for out in outs):
            given = f"{outs[0].shape}, {outs[0].dtype}"
            raise OptionsError(f"out is {given}: the result is {shape}, {source.dtype}.")
        size, target = self._sizes(source)
        if size != target:
            for first, bands in resized_bands(source, self._parts(source, on_progress), size, target):
                for out, band in zip(outs, bands, strict=True):
                    out[first : first + len(band)] = band
            return outs
        for part in self._parts(source, on_progress):
            source.put(pieces_of(part), outs)
        return outs

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of the result of an image of this size."""
        return self.sizing.size_of(height, width, self.scale)

    def _sizes(self, source: PixelSource | TensorSource) -> tuple[tuple[int, int], tuple[int, int]]:
        """(H, W) that the network gives, and that of the result."""
        height, width = source.height, source.width
        return (height * self.scale, width * self.scale), self.size_of(height, width)

    def _parts(self, source: PixelSource | TensorSource, on_progress: Progress | None = None) -> Iterator[Part]:
        """Restored planes without their padding, in parts that lie beside and below each other: see `restore_parts`."""
        framed = self._framed(source.height, source.width)
        dtype = self._deep_dtype if source.is_deep else self.dtype
        plan, tile_batch = self._plan(framed, source.batch, dtype)
        parts = restore_parts(
            source,
            self._forwards[dtype],
            plan,
            framed.index,
            scale=self.scale,
            device=self.device,
            tile_batch=tile_batch,
            on_progress=on_progress,
        )
        with evaluating(self.network):
            for part in crop_parts(parts, framed, self.scale):
                if not all(torch.isfinite(planes).all() for planes, _, _ in pieces_of(part)):
                    way_out = "" if dtype is torch.float32 else " Precision fp32 may help."
                    raise ImageError(f"the network's result is not finite (it holds NaN or infinity).{way_out}")
                yield part

    def _framed(self, height: int, width: int) -> Frame:
        minimum = max(self.spec.min_size, self.policy.min_px)
        return frame(height, width, self.padding, self.spec.size_multiple, minimum)

    def _plan(self, framed: Frame, planes: int, dtype: torch.dtype) -> tuple[Plan, int]:
        """The tiles of an image, and how many of them to run at once."""
        height, width = framed.size
        if self.tile == "auto":
            tile = self._fitting.tile_px(height, width, planes, dtype)
        else:
            tile = self.tile or max(height, width)
        plan = self.policy.plan(height, width, tile, self.tile_overlap, self.spec.size_multiple, self.scale)
        if self.tile_batch != "auto":
            return plan, self.tile_batch
        return plan, num_together(self.device, planes * plan.tall.tile_px * plan.wide.tile_px)

    def _through_network(self, dtype: torch.dtype, x_BCHW: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), arithmetic(self.device, dtype), self._packing(dtype):
            white = self.spec.value_range
            run = partial(self_ensemble_x8, self.network) if self.self_ensemble else self.network
            if white == 1:
                return run(x_BCHW).float()
            return run(x_BCHW * white).float() / white

    def _packing(self, dtype: torch.dtype) -> contextlib.AbstractContextManager[object]:
        packed = self._packed.get(dtype)
        return contextlib.nullcontext() if packed is None or packed.is_idle else packed


def _is_of_this_package(network: nn.Module) -> bool:
    return type(network).__module__.partition(".")[0] == __name__.partition(".")[0]

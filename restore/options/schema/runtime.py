"""`runtime`: how images go through the network. The arguments of `restore.inference.Restorer`, and HAT's `tile`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveInt

from restore.options.schema.section import Section

__all__ = ["RuntimeOptions", "TileOptions"]


class RuntimeOptions(Section):
    """The arguments of `Restorer`."""

    device: str = "auto"
    """Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1, mps."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """Number format; figures of papers are fp32. auto takes bf16 for files of 8 bits, where it is fast; else fp32."""
    channels_last: bool | None = None
    """Whether feature maps keep their channels innermost; null: in convolutional networks on the processor."""
    fold: bool = False
    """Whether to join branches that only training needs; where a network has none, nothing changes."""
    compile: bool = False
    """Whether to compile the network; pays for many images of one size."""
    tile: Literal["auto"] | PositiveInt | None = "auto"
    """Side of a tile in input pixels; auto fits the free memory, null never cuts an image into tiles."""
    tile_overlap: NonNegativeInt = 32
    """Input pixels that two neighbouring tiles share and cross-fade over."""
    tile_batch: Literal["auto"] | PositiveInt = "auto"
    """Tiles that go through the network at once."""
    tiling: str | None = None
    """Tiling policy, such as a published one of the network; null: the network's own."""
    padding: str | None = None
    """Padding policy that brings an image to a size the network accepts; null: the network's own."""
    self_ensemble: bool = False
    """Whether to average the results of the eight flips and turns: better by a little, eight times slower."""
    input_range: tuple[float, float] | None = None
    """Of float files, the values for black and white: scaled to [0, 1], the result back. null: 0 and 1, none beyond."""
    depth: Literal["uint8", "uint16", "float32"] | None = None
    """Sample type of restored files; null: that of the input."""
    fill: bool = False
    """Whether pixels of float files that are not finite get the values of the nearest others; else they are refused."""
    merge: str | None = None
    """Merge tokens in attention of whole images: tome:0.3, cluster:28x28; with :blocks in whole blocks. null: none."""

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for `Restorer`."""
        return {name: getattr(self, name) for name in type(self).model_fields}


class TileOptions(Section):
    """HAT's spelling of tiled inference; understood as runtime.tile and runtime.tile_overlap."""

    tile_size: PositiveInt
    """Side of the part of a tile that is kept, in input pixels."""
    tile_pad: NonNegativeInt = 32
    """Input pixels of surroundings on each side of it."""

    def runtime(self) -> dict[str, int]:
        """The same tiles as `runtime` names them: with their surroundings, which neighbours share."""
        return {"tile": self.tile_size + 2 * self.tile_pad, "tile_overlap": 2 * self.tile_pad}

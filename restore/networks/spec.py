"""What a network wants of the images it is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

__all__ = ["ImageSpec", "spec_of"]


@dataclass(frozen=True)
class ImageSpec:
    """The contract between a network and whatever brings pixels to it.

    Attributes:
        scale: output pixels per input pixel, along each side.
        in_channels: 1 (grey) or 3 (RGB), or more for special networks.
        out_channels: of the output.
        value_range: white, for what the network takes and gives; black is 0. Only IPT's published weights want 255.
        size_multiple: sizes that need no padding inside the network are multiples of this.
        min_size: smallest side that the network itself accepts; smaller images are padded before.
        padding: name of the padding policy of the published evaluation (see `restore.images.padding`).
        tiling: name of the tiling policy of the published evaluation; "blend" is ours.
        precisions: the arithmetic that the network survives: "fp32", "bf16", "fp16".
        pixel_bytes: memory that an input pixel takes at the peak, where the network is run by another engine; None
            where it can be measured.
    """

    scale: int = 1
    in_channels: int = 3
    out_channels: int = 3
    value_range: float = 1.0
    size_multiple: int = 1
    min_size: int = 1
    padding: str = "reflect"
    tiling: str = "blend"
    precisions: tuple[str, ...] = ("fp32", "bf16")
    pixel_bytes: float | None = None


@runtime_checkable
class _Specified(Protocol):
    """A module that says what images it takes and gives; a `Network` always does."""

    spec: ImageSpec


def spec_of(network: nn.Module) -> ImageSpec:
    """What a network says of its images.

    Raises:
        TypeError: it says nothing.
    """
    if not (isinstance(network, _Specified) and isinstance(network.spec, ImageSpec)):
        raise TypeError(
            f"{type(network).__name__} has no `spec`, the ImageSpec that says what images it takes and gives"
        )
    return network.spec

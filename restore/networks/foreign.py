"""Networks of other families, through spandrel (MIT): some forty architectures that it knows by their keys.

They restore like any other network here; they cannot be configured or trained. spandrel is optional: `pip install
spandrel`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from restore.errors import CheckpointError, MissingError
from restore.layers.finite import require_finite
from restore.layers.padding import pad_to_multiple
from restore.networks.base import Network
from restore.networks.spec import ImageSpec

__all__ = ["ForeignNetwork", "load_foreign"]

PADS_AGAIN = ("CRAFT",)
"""Families whose code adds a mirrored window to every image, also to one that fits already."""


class ForeignNetwork(Network):
    """A network that spandrel has built, with the manners of ours: (B, C, H, W) in [0, 1], any H x W.

    Args:
        descriptor: spandrel's `ImageModelDescriptor`.
    """

    def __init__(self, descriptor: Any):
        super().__init__()
        self.network = descriptor.model
        self.family = descriptor.architecture.name
        self._descriptor = descriptor
        if self.family in PADS_AGAIN:
            _AsGiven(self.network, self.network.conv_first)
        self._multiple = max(1, descriptor.size_requirements.multiple_of)
        self._minimum = max(1, descriptor.size_requirements.minimum)

    @property
    def spec(self) -> ImageSpec:
        """What the network wants of its images."""
        descriptor = self._descriptor
        halves = (("bf16", descriptor.supports_bfloat16), ("fp16", descriptor.supports_half))
        return ImageSpec(
            scale=descriptor.scale,
            in_channels=descriptor.input_channels,
            out_channels=descriptor.output_channels,
            size_multiple=self._multiple,
            min_size=self._minimum,
            precisions=("fp32", *(name for name, survives in halves if survives)),
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) in [0, 1] to (B, C, H*s, W*s), also in [0, 1]."""
        height, width = x_BCHW.shape[2:]
        scale, multiple = self._descriptor.scale, self._multiple
        if min(height, width) < self._minimum:
            multiple *= -(-self._minimum // multiple)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of code that is not ours
            output = self._descriptor(pad_to_multiple(x_BCHW, multiple))
        return output[:, :, : height * scale, : width * scale]


class _AsGiven:
    """Gives a network's first layer images of the size that the network was given, whatever it padded them to.

    CRAFT's code pads as its inference script does. Behind our own padding that costs time and quality: an image of
    64 x 64 px would be restored as one of 80 x 80, and Set5 x4 would have 32.39 dB instead of 32.40.
    """

    def __init__(self, network: nn.Module, first: nn.Module):
        self._size: torch.Size | None = None
        network.register_forward_pre_hook(self._remember)
        first.register_forward_pre_hook(self._cut)

    def _remember(self, network: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        self._size = inputs[0].shape[2:]

    def _cut(self, first: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        assert self._size is not None
        height, width = self._size
        return (inputs[0][:, :, :height, :width],)


def load_foreign(state: Mapping[str, torch.Tensor], *, source: str = "weights") -> ForeignNetwork | None:
    """The network with these weights, or None if spandrel does not know them either.

    Raises:
        MissingError: spandrel is not installed.
        CheckpointError: the weights are for something that does not turn one image into one (in-painting, faces), or
            not finite.
    """
    require_finite(state, source)
    try:
        import spandrel
    except ImportError:
        raise MissingError("spandrel, which knows some forty other families, is not installed") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of code that is not ours
        try:
            descriptor = spandrel.ModelLoader("cpu").load_from_state_dict(dict(state))
        except (spandrel.UnsupportedModelError, KeyError, RuntimeError, ValueError, AssertionError):
            return None
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        raise CheckpointError(f"{source}: {descriptor.architecture.name} does not make an image from one image alone.")
    return ForeignNetwork(descriptor.eval())

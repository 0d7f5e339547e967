"""ImageNet backbones for perceptual metrics, with torchvision's weights (`restore.networks.published` finds them)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from restore.errors import CheckpointError, ImageError
from restore.layers.finite import require_finite
from restore.networks.checkpoint import read_state_dict
from restore.networks.published import find_weights

__all__ = ["BACKBONES", "Backbone", "Features", "load_backbone", "stored"]


@dataclass(frozen=True)
class Backbone:
    """A classification network whose feature maps are compared.

    Attributes:
        model: its name in torchvision.
        file: torchvision's weights file; the last part of the stem is the start of its SHA-256.
        taps: indices into `model.features` behind which a map is taken.
        least_px: the shorter side that is needed for the last map to hold a pixel.
    """

    model: str
    file: str
    taps: tuple[int, ...]
    least_px: int

    @property
    def file_names(self) -> tuple[str, str]:
        """Names under which the weights are recognised; the second holds the features alone."""
        return self.file, f"{self.model}_features.pth"


BACKBONES = {
    "alex": Backbone("alexnet", "alexnet-owt-7be5be79.pth", (1, 4, 7, 9, 11), 31),
    "squeeze": Backbone("squeezenet1_1", "squeezenet1_1-b8a52dc0.pth", (1, 4, 7, 9, 10, 11, 12), 17),
    "vgg": Backbone("vgg16", "vgg16-397923af.pth", (3, 8, 15, 22, 29), 16),
}


class Features(nn.Module):
    """The frozen feature maps of a backbone behind its taps, for normalised RGB."""

    def __init__(self, backbone: Backbone, state: Mapping[str, torch.Tensor], source: str = "these weights"):
        super().__init__()
        import torchvision

        with torch.device("meta"):  # nothing is initialised only to be overwritten
            layers = getattr(torchvision.models, backbone.model)(weights=None).features
        wanted = {key.removeprefix("features."): value for key, value in state.items() if "classifier" not in key}
        try:
            layers.load_state_dict(wanted, assign=True)
            require_finite(wanted, source)
        except RuntimeError as error:
            raise CheckpointError(f"{source}: not the weights of torchvision's {backbone.model}. {error}") from None
        self.least_px = backbone.least_px
        self.layers = layers[: backbone.taps[-1] + 1].eval().requires_grad_(False)
        for layer in self.layers.modules():
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # a tap may be the input of the next activation
        self.taps = backbone.taps

    def forward(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """The map behind each tap.

        Raises:
            ImageError: the images are too small for the last one.
        """
        if min(x_BCHW.shape[-2:]) < self.least_px:
            height, width = x_BCHW.shape[-2:]
            raise ImageError(
                f"this network needs at least {self.least_px}x{self.least_px} px; given: {height}x{width}."
            )
        maps = []
        for index, layer in enumerate(self.layers):
            x_BCHW = layer(x_BCHW)
            if index in self.taps:
                maps.append(x_BCHW)
        return maps


@functools.lru_cache(maxsize=8)
def load_backbone(name: str, weights: str | None, device: torch.device) -> Features:
    """The features of a backbone of `BACKBONES` on a device; kept for the next call.

    Raises:
        MissingError: its weights are neither here nor to be had.
        CheckpointError: the file belongs to another network.
    """
    path = find_weights(BACKBONES[name].file_names, weights)
    return Features(BACKBONES[name], read_state_dict(path), str(path)).to(device)


@functools.cache
def stored(name: str) -> dict[str, np.ndarray]:
    """The numbers of a published metric that come with this package (parameters/NOTICE.md says whose they are)."""
    with np.load(Path(__file__).parent / "parameters" / f"{name}.npz") as archive:
        return {key: archive[key] for key in archive.files}

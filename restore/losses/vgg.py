"""Features of VGG networks by the names of their layers, taken before the activation, as BasicSR names them.

Weights are torchvision's ImageNet ones, under torchvision's own key names (`restore.networks.published` finds them).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from restore.errors import MissingError, OptionsError
from restore.networks.checkpoint import load_weights, read_state_dict
from restore.networks.published import find_weights

__all__ = ["LAYERS", "VggFeatures"]

_CONVOLUTIONS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
_CONFIGURATIONS = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}  # torchvision's names for them
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _layers(counts: Iterable[int]) -> list[str]:
    names = []
    for block, count in enumerate(counts, start=1):
        for number in range(1, count + 1):
            names += [f"conv{block}_{number}", f"relu{block}_{number}"]
        names.append(f"pool{block}")
    return names


LAYERS = {vgg: _layers(counts) for vgg, counts in _CONVOLUTIONS.items()}


class VggFeatures(nn.Module):
    """Feature maps of some layers, frozen.

    Args:
        layers: names such as `conv5_4` (before its ReLU) or `relu3_1`.
        vgg_type: vgg11, vgg13, vgg16 or vgg19.
        use_input_norm: subtract ImageNet's mean and divide by its deviation.
        range_norm: the input is in [-1, 1] instead of [0, 1].
        weights: file of the weights; by default torchvision's, from torch's cache or downloaded.

    Raises:
        OptionsError: no such network or layer.
        MissingError: the weights are not here and cannot be downloaded.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        layers: Iterable[str],
        vgg_type: str = "vgg19",
        *,
        use_input_norm: bool = True,
        range_norm: bool = False,
        weights: str | Path | None = None,
    ):
        super().__init__()
        self.wanted = list(layers)
        if vgg_type not in LAYERS:
            raise OptionsError(f"vgg_type '{vgg_type}': known are {', '.join(LAYERS)}.")
        unknown = [layer for layer in self.wanted if layer not in LAYERS[vgg_type]]
        if unknown:
            raise OptionsError(f"{vgg_type} has no layer {', '.join(unknown)}; it has {', '.join(LAYERS[vgg_type])}.")
        deepest = max(LAYERS[vgg_type].index(layer) for layer in self.wanted)
        self.names = LAYERS[vgg_type][: deepest + 1]
        self.features = _pretrained(vgg_type, weights)[: deepest + 1]
        for layer in self.features:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # the map before it is wanted too
        self.requires_grad_(False).eval()
        self.use_input_norm = use_input_norm
        self.range_norm = range_norm
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def pad_by_repeating(self) -> None:
        """Let the first convolution repeat the border, where it would see zeros."""
        first = self.features[0]
        assert isinstance(first, nn.Conv2d)
        first.padding_mode = "replicate"

    def train(self, mode: bool = True) -> VggFeatures:
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, x_BCHW: Tensor) -> dict[str, Tensor]:
        """The wanted maps by layer."""
        if self.range_norm:
            x_BCHW = (x_BCHW + 1) / 2
        if self.use_input_norm:
            x_BCHW = (x_BCHW - self.mean) / self.std
        maps = {}
        for name, layer in zip(self.names, self.features, strict=True):
            x_BCHW = layer(x_BCHW)
            if name in self.wanted:
                maps[name] = x_BCHW
        return maps


def _pretrained(vgg_type: str, weights: str | Path | None) -> nn.Sequential:
    """The convolutional part with its weights; the classifier, nine tenths of the network, is never built."""
    from torchvision.models import get_model_weights
    from torchvision.models.vgg import cfgs, make_layers

    features = make_layers(cfgs[_CONFIGURATIONS[vgg_type]])
    if weights is None:
        name = get_model_weights(vgg_type)["IMAGENET1K_V1"].url.rpartition("/")[2]
        try:
            weights = find_weights((name, f"{vgg_type}_features.pth"))
        except MissingError as error:
            raise MissingError(f"{error} Or give the file as `weights:`.") from error
    state, source = read_state_dict(weights), str(weights)
    state = {name.removeprefix("features."): value for name, value in state.items() if "classifier" not in name}
    load_weights(features, state, source=source)
    return features

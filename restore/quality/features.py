"""The maps that quality models look at: Inception-ResNet-v2 as IQT taps it, or any encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import nn

from restore.encoders import Encoder, build_encoder
from restore.encoders.suggestions import meant
from restore.errors import ImageError, MissingError
from restore.nested import Nested
from restore.registry import ENCODERS, OptionBlock, Registry

__all__ = ["INCEPTION", "FeaturesOption", "InceptionBlock35", "build_features", "map_side"]

INCEPTION = "inception_block35"
FEATURES = Registry("encoder")
FEATURES.add_fallback(ENCODERS)
FEATURES.suggest_with(meant)
FeaturesOption = Annotated[OptionBlock, Nested(FEATURES, "in_chans")]


@FEATURES.add(INCEPTION)
class InceptionBlock35(nn.Module):
    """Inception-ResNet-v2 up to its tenth Block35: the maps after mixed_5b and Blocks 2, 4, 6, 8 and 10.

    Its convolutions are not padded, so a map is smaller than an eighth of the image: 29 x 29 for 256 x 256. That is
    what the published tables of positions count, and why this is not an encoder of the encoder contract.

    Args:
        pretrained: load timm's ImageNet weights, which may have to be downloaded.

    Raises:
        MissingError: the weights were asked for and could not be found or downloaded.
    """

    channels = (320,) * 6
    min_px = 75

    def __init__(self, pretrained: bool = True):
        from restore.encoders.timm.weights import create_model

        super().__init__()
        model: Any
        try:
            model = create_model("inception_resnet_v2", pretrained=pretrained)
        except MissingError as error:
            raise MissingError(
                f"Inception-ResNet-v2: {error} Or load a file with all weights of the quality model, theirs among them."
            ) from None
        stem = "conv2d_1a conv2d_2a conv2d_2b maxpool_3a conv2d_3b conv2d_4a maxpool_5a mixed_5b"
        self.stem = nn.Sequential(*(getattr(model, name) for name in stem.split()))
        self.blocks: nn.Sequential = model.repeat

    def forward(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Six maps of (B, 320, side(H), side(W)) of images in [0, 1], which it moves to [-1, 1] as its weights want."""
        if min(x_BCHW.shape[2:]) < self.min_px:
            raise ImageError(
                f"Inception-ResNet-v2 needs at least {self.min_px}x{self.min_px} px; given: {tuple(x_BCHW.shape[2:])}."
            )
        maps = [self.stem(2 * x_BCHW - 1)]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return maps[::2]

    @staticmethod
    def side(image_px: int) -> int:
        """Side of a map, from the side of the image."""
        halved = (image_px - 3) // 2 + 1 - 2
        quartered = (halved - 3) // 2 + 1 - 2
        return (quartered - 3) // 2 + 1


def build_features(block: str | Mapping[str, Any], *, path: str = "encoder") -> InceptionBlock35 | Encoder:
    """The encoder that `block` names: `inception_block35`, a registered one or one of timm's.

    Raises:
        OptionsError: no such encoder, or options that it does not have.
        MissingError: pretrained weights were asked for and could not be found or downloaded.
    """
    if (block if isinstance(block, str) else block.get("type")) == INCEPTION:
        return FEATURES.build(block, path=path)
    return build_encoder(block, path=path, in_chans=3, maps_only=True)


def map_side(encoder: InceptionBlock35 | Encoder, image_px: int) -> int:
    """Side of the coarsest map that an encoder gives of a square image."""
    if isinstance(encoder, InceptionBlock35):
        return encoder.side(image_px)
    return -(-image_px // max(encoder.strides))

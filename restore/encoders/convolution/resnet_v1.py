"""ResNet-50 as first published and as Keras has it (He et al. 2015, arXiv 1512.03385).

timm's moves the stride of a stage from the first 1x1 convolution to the 3x3 one, which changes what weights mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from restore.encoders.base import HALF, Encoder, Normalisation
from restore.layers.folding import fold_norm
from restore.registry import ENCODERS

__all__ = ["ResNet50V1"]


@ENCODERS.add("resnet50_v1")
class ResNet50V1(Encoder):
    """Five maps of 64 to 2048 channels at strides 2 to 32.

    Args:
        in_chans: channels of the image.
        out_indices: which maps to return; None for all.
        normalisation: see `Encoder`; the weights of TRIQ were trained with values in [-1, 1].
    """

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        normalisation: Normalisation = "symmetric",
    ):
        import timm

        model: Any = timm.create_model("resnet50", features_only=True, in_chans=in_chans, pretrained=False)
        super().__init__(
            in_chans,
            channels=model.feature_info.channels(),
            strides=model.feature_info.reduction(),
            out_indices=out_indices,
            normalisation=normalisation,
            weights_statistics=HALF,
        )
        for stage in (model["layer2"], model["layer3"], model["layer4"]):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 1.001e-5
        self.model: nn.Module = model

    def maps(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Every map; all halvings round up, so that any size fits."""
        return self.model(x_BCHW)

    def folded(self) -> Encoder:
        """The same encoder with its batch norms in the convolutions before them."""
        for block in (self.model, *self.blocks()):
            for number in (1, 2, 3):
                if f"bn{number}" in block._modules:
                    convolution, norm = block.get_submodule(f"conv{number}"), block.get_submodule(f"bn{number}")
                    assert isinstance(convolution, nn.Conv2d)
                    assert isinstance(norm, nn.BatchNorm2d)
                    block.add_module(f"conv{number}", fold_norm(convolution, norm))
                    block.add_module(f"bn{number}", nn.Identity())
        return self

    def blocks(self) -> Sequence[nn.Module]:
        """The sixteen bottlenecks."""
        return [block for number in range(1, 5) for block in self.model.get_submodule(f"layer{number}").children()]

"""Masked pre-training: an encoder learns by telling what it was not shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from restore.data.loading import Batch
from restore.encoders import Encoder
from restore.errors import OptionsError, Problem
from restore.layers.block import MetaFormerBlock
from restore.layers.build import build_feed_forward
from restore.layers.masking import drawn_mask, masked
from restore.layers.mixers import build_mixer
from restore.losses.masked import MaskedPatchLoss
from restore.registry import LOSSES, OBJECTIVES
from restore.training.distribution import unwrapped
from restore.training.lessons import watched
from restore.training.objectives.base import Objective

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["MaskedPretraining", "MaskedQualityPretraining"]

_KEY = "masked_opt"
_GREY = 0.5


@OBJECTIVES.add()
class MaskedPretraining(Objective):
    """Trains the encoder of `network_g` on images alone, without references, by `masked_opt: {type: MaskedPatchLoss}`.

    FCMAE (Woo et al. 2023, ConvNeXt V2, arXiv 2301.00808) in its dense form (`restore.layers.masking`): of each image a
    part is hidden, the encoder sees the rest, and a light decoder (a head, which is not shipped) tells the hidden
    pixels from the coarsest map. Attention sees tokens without content there, as in SimMIM (Xie et al. 2021, arXiv
    2111.09886). All of `network_g` is saved; what is not its encoder stays as it was.

    Args:
        networks: `{"g": network with an encoder}`, such as UNetRestorer, TRIQ or IQT.
        block: of the loss.
        frozen: nothing.
    """

    leaves_parameters_out = True  # all but the encoder
    compares: ClassVar[Mapping[str, str]] = {_KEY: "masked"}
    field: ClassVar[str] = "lq"

    def __init__(self, networks: Mapping[str, nn.Module], block: Mapping[str, Any]):
        criterion: MaskedPatchLoss = LOSSES.build(block, path=f"train.{_KEY}")
        network = networks["g"]
        encoder = getattr(network, "encoder", None)
        if not isinstance(encoder, Encoder):
            message = (
                f"{type(network).__name__} has no encoder: take UNetRestorer, TRIQ or IQT with any (encoder: NAME)."
            )
            raise OptionsError([Problem("network_g.type", message)])
        if not any(parameter.requires_grad for parameter in encoder.parameters()):
            raise OptionsError([Problem("network_g.freeze_encoder", "the encoder is all that learns here: false.")])
        stride = encoder.strides[-1]
        patch_px = criterion.patch_px or stride
        if patch_px % stride:
            message = f"a multiple of the encoder's coarsest stride, {stride}; given: {patch_px}."
            raise OptionsError([Problem(f"train.{_KEY}.patch_px", message)])
        decoder = MaskedDecoder(encoder.channels[-1], criterion.decoder_width, encoder.in_chans * stride**2)
        super().__init__(networks, heads={"decoder": decoder})
        self.criterion, self.patch_px = criterion, patch_px
        self.needs = {self.field: "image"}

    @classmethod
    def from_options(
        cls, networks: Mapping[str, nn.Module], options: Options, frozen: Mapping[str, nn.Module]
    ) -> MaskedPretraining:
        """The loss that stands in `train.masked_opt`."""
        return cls(networks, options.train.losses()[_KEY])

    @classmethod
    def problems(cls, options: Options) -> list[Problem]:
        """Also whether the loss is there, and others that nothing would read."""
        losses = options.train.losses()
        problems = super().problems(options)
        if _KEY not in losses:
            problems.append(Problem(f"train.{_KEY}", "missing: how much is hidden: {type: MaskedPatchLoss}."))
        others = [Problem(f"train.{key}", "nothing is compared here but what was hidden.") for key in losses]
        return problems + [each for each in others if each.path != f"train.{_KEY}"]

    def losses(self, batch: Batch, turn: str = "g") -> dict[str, Tensor]:
        """The loss of the hidden patches.

        Raises:
            OptionsError: the images are no multiple of the patches.
        """
        image = batch[self.field]
        rows, columns = (side // self.patch_px for side in image.shape[2:])
        if (rows * self.patch_px, columns * self.patch_px) != tuple(image.shape[2:]) or rows * columns < 2:
            message = (
                f"images of {image.shape[2]}x{image.shape[3]} px are no two or more patches of {self.patch_px} px: cut "
                "multiples of them (gt_size or crop_px)."
            )
            raise OptionsError([Problem("datasets.train", message)])
        mask = drawn_mask(len(image), rows, columns, self.criterion.share).to(image.device)
        hidden = nn.functional.interpolate(mask, image.shape[2:], mode="nearest") > 0
        with masked(unwrapped(self.networks["g"]).encoder, mask):
            coarsest = self._encoded(torch.where(hidden, _GREY, image))
        predicted = self.heads["decoder"](coarsest, mask)
        return {"l_masked": self.criterion(predicted.float(), image, mask)}

    def _encoded(self, image: Tensor) -> Tensor:
        """The coarsest map. Processes that share gradients have to go through the whole network."""
        network = self.networks["g"]
        if unwrapped(network) is network:
            return network.encoder(image)[-1]
        with watched(network, ["encoder"]) as layers:
            network(image)
        return layers["encoder"][-1]


@OBJECTIVES.add()
class MaskedQualityPretraining(MaskedPretraining):
    """`MaskedPretraining` for the encoder of a quality model; the images of its dataset, their ratings aside."""

    judges = True
    field = "image"


class MaskedDecoder(nn.Module):
    """From the coarsest map to pixels: 1x1 convolution, a learned token where the image was hidden, a block, 1x1.

    Args:
        channels: of the map.
        width: of the block, which is that of ConvNeXt V2.
        num_values: pixels of a place times their channels.
    """

    def __init__(self, channels: int, width: int, num_values: int):
        super().__init__()
        self.project = nn.Conv2d(channels, width, 1)
        self.token = nn.Parameter(torch.randn(1, width, 1, 1) * 0.02)
        mixer = build_mixer({"type": "separable_conv", "kernel_size": 7}, width)
        self.block = MetaFormerBlock(width, mixer, build_feed_forward("grn_mlp", width))
        self.predict = nn.Conv2d(width, num_values, 1)

    def forward(self, map_BCHW: Tensor, mask_B1HW: Tensor) -> Tensor:
        """(B, num_values, h, w)."""
        hidden = nn.functional.interpolate(mask_B1HW, map_BCHW.shape[-2:], mode="nearest")
        seen_BDHW = torch.where(hidden > 0, self.token.to(map_BCHW.dtype), self.project(map_BCHW))
        return self.predict(self.block(seen_BDHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))

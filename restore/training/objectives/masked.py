"""Masked pre-training: an encoder learns by telling what it was not shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from restore.data.fields import Fields
from restore.data.loading import Batch
from restore.errors import OptionsError, Problem
from restore.layers.block import MetaFormerBlock
from restore.layers.build import build_feed_forward
from restore.layers.masking import drawn_mask, masked
from restore.layers.mixers import build_mixer
from restore.losses.masked import MaskedPatchLoss
from restore.registry import LOSSES, OBJECTIVES
from restore.training.distribution import unwrapped
from restore.training.objectives.pretraining import EncoderPretraining

__all__ = ["MaskedPretraining", "MaskedQualityPretraining"]

_GREY = 0.5


@OBJECTIVES.add()
class MaskedPretraining(EncoderPretraining):
    """Trains the encoder of `network_g` on images alone, without references, by `masked_opt: {type: MaskedPatchLoss}`.

    FCMAE (Woo et al. 2023, ConvNeXt V2, arXiv 2301.00808) in its dense form (`restore.layers.masking`): of each image a
    part is hidden, the encoder sees the rest, and a light decoder (a head, which is not shipped) tells the hidden
    pixels from the coarsest map. Attention sees tokens without content there, as in SimMIM (Xie et al. 2021, arXiv
    2111.09886).

    Args:
        networks: `{"g": network with an encoder}`, such as UNetRestorer or TRIQ.
        block: of the loss.
    """

    key, loss = "masked_opt", "MaskedPatchLoss"
    compares: ClassVar[Mapping[str, str]] = {"masked_opt": "masked"}

    def __init__(self, networks: Mapping[str, nn.Module], block: Mapping[str, Any]):
        criterion: MaskedPatchLoss = LOSSES.build(block, path=f"train.{self.key}")
        encoder = self.encoder_of(networks["g"])
        stride = encoder.strides[-1]
        patch_px = criterion.patch_px or stride
        if patch_px % stride:
            message = f"a multiple of the encoder's coarsest stride, {stride}; given: {patch_px}."
            raise OptionsError([Problem(f"train.{self.key}.patch_px", message)])
        decoder = MaskedDecoder(encoder.channels[-1], criterion.decoder_width, encoder.in_chans * stride**2)
        super().__init__(networks, block, {"decoder": decoder})
        self.criterion, self.patch_px = criterion, patch_px

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
            coarsest = self.coarsest(torch.where(hidden, _GREY, image))
        predicted = self.heads["decoder"](coarsest, mask)
        return {"l_masked": self.criterion(predicted.float(), image, mask)}


@OBJECTIVES.add()
class MaskedQualityPretraining(MaskedPretraining):
    """`MaskedPretraining` for the encoder of a quality model; the images of its dataset, their ratings aside."""

    gives = "opinions"
    field = "image"
    needs: Fields = {"image": "image"}  # noqa: RUF012


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

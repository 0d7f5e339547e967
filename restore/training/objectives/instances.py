"""Instance discrimination: an encoder learns from few images, each of which is a class of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from restore.data.fields import Fields
from restore.data.loading import Batch
from restore.data.numbered import NumberedDataset
from restore.layers.boxes import box_of, exchanged
from restore.losses.instances import InstanceLoss
from restore.registry import LOSSES, OBJECTIVES
from restore.training.objectives.pretraining import EncoderPretraining

__all__ = ["InstanceDiscrimination", "QualityInstanceDiscrimination"]


@OBJECTIVES.add()
class InstanceDiscrimination(EncoderPretraining):
    """Trains the encoder of `network_g` to tell images apart, by `instance_opt: {type: InstanceLoss}`.

    IDMM (Cao, Yu & Wu 2022, arXiv 2201.10728): parametric instance discrimination with crops of several sizes, CutMix
    and smoothed labels, before the training proper on the same few images. A linear classifier of the mean of the
    coarsest map, with a row for each image of the training data, is a head and not shipped.

    Args:
        networks: `{"g": network with an encoder}`, such as UNetRestorer or TRIQ.
        block: of the loss.
    """

    key, loss = "instance_opt", "InstanceLoss"
    compares: ClassVar[Mapping[str, str]] = {"instance_opt": "instances"}

    def __init__(self, networks: Mapping[str, nn.Module], block: Mapping[str, Any]):
        self.encoder_of(networks["g"])
        super().__init__(networks, block)
        self.criterion: InstanceLoss = LOSSES.build(block, path=f"train.{self.key}")
        self.num_instances = 0

    def meet(self, dataset: Any) -> None:
        """Make the classifier, with a row for each image."""
        self.num_instances = len(dataset)
        channels = self.encoder_of(self.networks["g"]).channels[-1]
        self.heads["classifier"] = nn.Linear(channels, self.num_instances)

    def reading(self, dataset: Any) -> Any:
        """The training data, each sample with its number."""
        return NumberedDataset(dataset)

    def losses(self, batch: Batch, turn: str = "g") -> dict[str, Tensor]:
        """The losses of whole images, which may be mixed, and of their crops."""
        image, instance = batch[self.field], batch["instance"]
        size, box = (image.shape[2], image.shape[3]), None
        if self.criterion.cutmix and torch.rand(()).item() < self.criterion.cutmix:
            box = box_of(torch.rand(4).tolist(), *size)
        whole = image if box is None else exchanged(image, box)
        found = {"l_instance": self._loss(whole, self.criterion.labels(instance, self.num_instances, box, size))}
        if self.criterion.local_crops:
            plain = self.criterion.labels(instance, self.num_instances)
            parts = [self._loss(self._crop(image), plain) for _ in range(self.criterion.local_crops)]
            found["l_local"] = torch.stack(parts).mean()
        return found

    def _crop(self, image_BCHW: Tensor) -> Tensor:
        """The same random part of every image of a batch."""
        share = self.criterion.local_share
        sides = [max(1, round(side * share)) for side in image_BCHW.shape[2:]]
        draws = torch.rand(2).tolist()
        top, left = (
            int(draw * (whole - side + 1)) for draw, whole, side in zip(draws, image_BCHW.shape[2:], sides, strict=True)
        )
        return image_BCHW[:, :, top : top + sides[0], left : left + sides[1]]

    def _loss(self, image_BCHW: Tensor, labels_BN: Tensor) -> Tensor:
        features_BC = self.coarsest(image_BCHW).mean(dim=(2, 3))
        return self.criterion(self.heads["classifier"](features_BC).float(), labels_BN)


@OBJECTIVES.add()
class QualityInstanceDiscrimination(InstanceDiscrimination):
    """`InstanceDiscrimination` for the encoder of a quality model; the images of its dataset, their ratings aside."""

    gives = "opinions"
    field = "image"
    needs: Fields = {"image": "image"}  # noqa: RUF012

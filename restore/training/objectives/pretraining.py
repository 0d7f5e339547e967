"""What pre-trainings of encoders have in common: they look at images alone, and at the encoder of `network_g`."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from restore.data.fields import Fields
from restore.encoders import Encoder
from restore.errors import OptionsError, Problem
from restore.training.distribution import unwrapped
from restore.training.lessons import watched
from restore.training.objectives.base import Objective

if TYPE_CHECKING:
    from typing_extensions import Self

    from restore.options import Options

__all__ = ["EncoderPretraining"]


class EncoderPretraining(Objective, ABC):
    """Trains the encoder of `network_g` by one loss, whose block stands under `train.KEY`.

    All of `network_g` is saved; what is not its encoder stays as it was.

    Args:
        networks: `{"g": network with an encoder}`, such as UNetRestorer or TRIQ.
        block: of the loss.
        heads: what learns with the encoder and is not shipped.

    Attributes:
        key: where the loss stands.
        loss: what is written there, for messages.
        field: the images of a batch.
    """

    leaves_parameters_out = True  # all but the encoder
    key: ClassVar[str]
    loss: ClassVar[str]
    field: ClassVar[str] = "lq"
    needs: Fields = {"lq": "image"}  # noqa: RUF012

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        block: Mapping[str, Any],
        heads: Mapping[str, nn.Module] | None = None,
    ):
        super().__init__(networks, heads=heads)

    @classmethod
    def from_options(cls, networks: Mapping[str, nn.Module], options: Options, frozen: Mapping[str, nn.Module]) -> Self:
        """The loss that stands under `key`."""
        return cls(networks, options.train.losses()[cls.key])

    @classmethod
    def problems(cls, options: Options) -> list[Problem]:
        """Also whether the loss is there, and others that nothing would read."""
        losses = options.train.losses()
        problems = super().problems(options)
        if cls.key not in losses:
            problems.append(Problem(f"train.{cls.key}", f"missing: {{type: {cls.loss}}}."))
        message = f"{options.model_type} learns from {cls.key} alone: leave it out."
        return problems + [Problem(f"train.{key}", message) for key in losses if key != cls.key]

    @staticmethod
    def encoder_of(network: nn.Module) -> Encoder:
        """The encoder of a network.

        Raises:
            OptionsError: it has none, or one that does not learn.
        """
        encoder = getattr(network, "encoder", None)
        if not isinstance(encoder, Encoder):
            kind = type(network).__name__
            message = f"{kind} has no encoder that can learn: take UNetRestorer or TRIQ with any (encoder: NAME)."
            raise OptionsError([Problem("network_g.type", message)])
        if not any(parameter.requires_grad for parameter in encoder.parameters()):
            raise OptionsError([Problem("network_g.freeze_encoder", "the encoder is all that learns here: false.")])
        return encoder

    def coarsest(self, image_BCHW: Tensor) -> Tensor:
        """The coarsest map. Processes that share gradients have to go through the whole network."""
        network = self.networks["g"]
        if unwrapped(network) is network:
            return self.encoder_of(network)(image_BCHW)[-1]
        with watched(network, ["encoder"]) as layers:
            network(image_BCHW)
        return layers["encoder"][-1]

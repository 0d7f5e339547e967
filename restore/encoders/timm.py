"""Every encoder of timm, through one adapter.

timm's models differ in what they accept (any size, multiples of something, one size), in how their maps lie (channels
first or last) and in whether these have exactly the size that their stride says. The adapter tries each model on two
small images when it is built. A model that refuses both takes one size only, and is then used tile by tile; maps that
come out a little smaller, as those of convolutions without padding do, are resampled.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import AfterValidator
from torch import nn

from restore.encoders.base import Encoder, Normalisation
from restore.errors import MissingError, OptionsError, nearest
from restore.registry import ENCODERS

__all__ = ["TimmEncoder", "TimmNames", "timm_encoder"]

FLEXIBLE = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
"""What makes a model of timm accept several sizes, by family; tried in this order."""
MULTIPLES = (1, 2, 4, 8)
"""Multiples of the coarsest stride that are tried as the smallest image."""


def _is_known(name: str) -> bool:
    """Whether timm has a model of this name, and weights of the tag behind it, if it has one."""
    import timm

    try:
        return timm.is_model(name) and ("." not in name or timm.get_pretrained_cfg(name) is not None)
    except RuntimeError:  # the model is there, but not the tag
        return False


def _known(name: str) -> str:
    """The name itself; an OptionsError with the nearest name if timm has no such model."""
    import timm

    if not _is_known(name):
        raise OptionsError(f"timm {timm.__version__} has no model '{name}'.{nearest(name, timm.list_models())}")
    return name


@ENCODERS.add("timm")
class TimmEncoder(Encoder):
    """A model of timm as an encoder.

    Args:
        name: as `timm.list_models()` gives it.
        in_chans: channels of the image.
        out_indices: which maps to return; None for all that the model has.
        pretrained: load timm's weights (they may have to be downloaded).
        normalisation: see `Encoder`; "weights" is what timm's configuration of the model says.
        img_size: build a model for images of this side and use it tile by tile. None: any size where the model takes
            it, otherwise tiles of the side it is made for.

    Raises:
        ValueError: the model gives no maps, or other indices than it has.
        MissingError: its weights were asked for and could not be found or downloaded.
    """

    derived_keys = ("attn_mask", "relative_position_index")

    def __init__(
        self,
        name: Annotated[str, AfterValidator(_known)],
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        pretrained: bool = False,
        img_size: int | None = None,
        normalisation: Normalisation = "symmetric",
    ):
        options = {"in_chans": in_chans, "pretrained": pretrained}
        model, multiple = _flexible_model(name, options) if img_size is None else (None, None)
        tile_px = None
        if model is None:
            model, tile_px = _fixed_model(name, options, img_size)
        super().__init__(
            in_chans,
            channels=model.feature_info.channels(),
            strides=model.feature_info.reduction(),
            out_indices=out_indices,
            size_multiple=tile_px or multiple,
            tile_px=tile_px,
            normalisation=normalisation,
            weights_statistics=(model.pretrained_cfg["mean"], model.pretrained_cfg["std"]),
        )
        self.model = model

    def maps(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Every map of the model, channels first and of the size that its stride says."""
        sides = [[side // stride for side in x_BCHW.shape[2:]] for stride in self.model.feature_info.reduction()]
        maps = [_channels_first(each, self.model) for each in self.model(x_BCHW)]
        return [
            each if list(each.shape[2:]) == size else F.interpolate(each, size, mode="bilinear", align_corners=False)
            for each, size in zip(maps, sides, strict=True)
        ]

    def folded(self) -> Encoder:
        """The same encoder with the branches joined that timm knows to join."""
        from timm.utils import reparameterize_model

        usual = torch.get_default_dtype()
        torch.set_default_dtype(next(self.model.parameters()).dtype)  # of the layers that timm makes
        try:
            self.model = reparameterize_model(self.model)
        finally:
            torch.set_default_dtype(usual)
        return self


@ENCODERS.add_family("timm")
@functools.cache
def timm_encoder(name: str) -> Callable[..., TimmEncoder]:
    """The encoder that timm calls `name`, also with a tag that names its weights (`resnet50.a1_in1k`).

    Raises:
        OptionsError: it has no such model.
    """
    return functools.partial(TimmEncoder, _known(name))


class TimmNames:
    """Names of timm's models without a prefix, for those that no encoder of ours has."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _is_known(name)

    def get(self, name: Any, path: str = "type") -> Callable[..., TimmEncoder]:
        """The encoder of a name that is in here."""
        return timm_encoder(str(name))

    def groups(self) -> Iterator[tuple[list[str], Callable[..., TimmEncoder]]]:
        """All of timm's names: their encoders take the same arguments."""
        import timm

        names = timm.list_models()
        yield names, timm_encoder(names[0])

    def listing(self) -> str:
        """The version, whose models are too many to list."""
        import timm

        return f"every model of timm {timm.__version__}"


ENCODERS.add_fallback(TimmNames())


def _flexible_model(name: str, options: dict) -> tuple[nn.Module, int] | tuple[None, None]:
    """The model and the multiple of its sizes, if it takes images of several sizes."""
    for extra in FLEXIBLE:
        try:
            model = _create(name, {**options, **extra})
        except TypeError:  # the model has no such argument
            continue
        coarsest = max(model.feature_info.reduction())
        for multiple in (factor * coarsest for factor in MULTIPLES):
            if all(
                _takes(model, options["in_chans"], *size) for size in ((multiple, 3 * multiple), (2 * multiple,) * 2)
            ):
                return model, multiple
    return None, None


def _fixed_model(name: str, options: dict, img_size: int | None) -> tuple[nn.Module, int]:
    """The model for images of one size, and the side of these: a multiple of the coarsest stride."""
    try:
        model = _create(name, options if img_size is None else {**options, "img_size": img_size})
        side = img_size or model.default_cfg["input_size"][-1]
        beyond = -side % max(model.feature_info.reduction())
        if beyond and img_size is None:
            return _fixed_model(name, options, side + beyond)
    except TypeError:
        raise ValueError(f"the timm model '{name}' cannot be built for another img_size: leave it out") from None
    if beyond or not _takes(model, options["in_chans"], side, side):
        strides = ", ".join(map(str, model.feature_info.reduction()))
        raise ValueError(f"'{name}' gives no maps of {side} x {side} pixels; img_size is a multiple of {strides}")
    return model, side


def _create(name: str, options: dict) -> nn.Module:
    import timm

    try:
        return timm.create_model(name, features_only=True, **options)
    except (OSError, RuntimeError) as error:
        if not options["pretrained"]:
            raise ValueError(f"the timm model '{name}' cannot be used as an encoder: {error}") from None
        raise MissingError(
            f"the pretrained weights of '{name}' are not on this machine and could not be downloaded ({error}); "
            "connect, or write pretrained: false"
        ) from None


@torch.no_grad()
def _takes(model: nn.Module, in_chans: int, height: int, width: int) -> bool:
    """Whether the model gives a map for each of its strides of such an image."""
    device = next(model.parameters()).device
    training = model.training
    try:
        maps = model.eval()(torch.zeros(1, in_chans, height, width, device=device))
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError):
        return False
    finally:
        model.train(training)
    channels = model.feature_info.channels()
    shapes = [tuple(_channels_first(each, model).shape[1:]) for each in maps]
    return all(
        shape[0] == wanted and 0 < shape[1] <= height and 0 < shape[2] <= width
        for shape, wanted in zip(shapes, channels, strict=True)
    )


def _channels_first(map_4d: torch.Tensor, model: nn.Module) -> torch.Tensor:
    layout = getattr(model, "output_fmt", None)
    return map_4d.permute(0, 3, 1, 2) if getattr(layout, "value", layout) == "NHWC" else map_4d

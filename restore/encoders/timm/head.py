"""The classifier's head of a model of timm, taken off the model whose maps are an encoder's."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass

import torch
from torch import nn

from restore.encoders.base import Features
from restore.encoders.timm.weights import TimmModel

__all__ = ["Remainder", "TimmHead", "remainder"]


@dataclass(frozen=True)
class Remainder:
    """What of a model its maps do not need.

    Attributes:
        model: the model without all else; its `forward_head` works.
        tail: names of the modules between the coarsest map and the head, in order; none where the encoder gives tokens,
            which these have passed.
        channels_last: whether the tail takes (B, H, W, C).
        of_tokens: whether the encoder gives tokens for the head to look at.
        as_map: whether the head takes a map where the encoder gives tokens.
    """

    model: TimmModel
    tail: tuple[str, ...]
    channels_last: bool
    of_tokens: bool
    as_map: bool


def remainder(whole: TimmModel, net: TimmModel) -> Remainder | None:
    """Take the head off `whole`, from which timm made `net`; None where its build is not known."""
    from timm.models._features import FeatureGetterNet

    is_getter = isinstance(net, FeatureGetterNet)
    layout = getattr(getattr(net, "output_fmt", None), "value", "NCHW")
    if not all(hasattr(whole, name) for name in ("forward_head", "reset_classifier", "num_features")):
        return None
    used, as_map = _used_by_head(whole, tokens_first=is_getter, channels_last=layout == "NHWC")
    if used is None:
        return None
    tail: list[str] = []
    if not is_getter:
        inside = {id(module) for module in net.modules()}
        for name, child in whole.named_children():
            if any(id(module) in inside for module in child.modules()):
                tail = []
            elif name not in used:
                tail.append(name)
    rest = copy.copy(whole)
    rest._parameters, rest._buffers = {}, {}
    rest._modules = {name: child for name, child in whole._modules.items() if child is None or name in {*used, *tail}}
    if is_getter:
        for name, child in list(whole._modules.items()):
            if child is not None and (name in used or "head" in name):
                setattr(whole, name, nn.Identity())
    return Remainder(rest, tuple(tail), layout == "NHWC", is_getter, as_map)


class TimmHead(nn.Module):
    """Logits from features, as timm's model makes them; parameters have timm's names.

    Args:
        rest: of the model.
        num_classes: other than the model's, a new last layer.
    """

    def __init__(self, rest: Remainder, num_classes: int):
        super().__init__()
        model = copy.deepcopy(rest.model)
        if model.num_classes != num_classes:
            _reset(model, num_classes)
        self._modules = model._modules  # one dictionary, so that what is loaded or moved here is what the model runs
        self._model, self._rest = [model], rest

    def forward(self, features: Features) -> torch.Tensor:
        """(B, num_classes)."""
        (model,) = self._model
        model.training = self.training
        if self._rest.of_tokens:
            assert features.tokens is not None, "this head looks at tokens, and there are none"
            x = features.tokens.map_BCHW() if self._rest.as_map else features.tokens.x_BNC
            return model.forward_head(x)
        x = features.maps[-1].permute(0, 2, 3, 1) if self._rest.channels_last else features.maps[-1]
        for name in self._rest.tail:
            x = self.get_submodule(name)(x)
        return model.forward_head(x)


def _reset(model: TimmModel, num_classes: int) -> None:
    """Give the head another number of classes."""
    before = model.num_classes
    try:
        model.reset_classifier(num_classes)
    except AttributeError:  # some look for other parts of the model; then new last layers are all that there is to it
        for module in [*model.modules()]:
            for name, child in module._modules.items():
                if isinstance(child, nn.Linear) and child.out_features == before:
                    module._modules[name] = nn.Linear(child.in_features, num_classes, bias=child.bias is not None)


@torch.no_grad()
def _used_by_head(whole: TimmModel, *, tokens_first: bool, channels_last: bool) -> tuple[list[str] | None, bool]:
    """The modules that `forward_head` runs, found by running it, and whether it takes a map."""
    channels, training = whole.num_features, whole.training
    device = next(whole.parameters()).device
    map_shape = (1, 2, 2, channels) if channels_last else (1, channels, 2, 2)
    for shape in ((1, 5, channels), map_shape) if tokens_first else (map_shape,):
        used: list[str] = []
        handles = [
            module.register_forward_pre_hook(functools.partial(_note, used, name))
            for name, child in whole.named_children()
            for module in child.modules()
        ]
        try:
            logits = whole.eval().forward_head(torch.zeros(shape, device=device))
            if isinstance(logits, torch.Tensor) and logits.ndim == 2:
                return list(dict.fromkeys(used)), len(shape) == 4
        except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            continue
        finally:
            whole.train(training)
            for handle in handles:
                handle.remove()
    return None, False


def _note(names: list[str], name: str, *_: object) -> None:
    names.append(name)

"""What a model of timm takes and gives, found out on the meta device, in a fraction of a second: it has no numbers.

timm's models differ in what they accept (any size, multiples of something, one size), in how their maps lie (channels
first or last) and in whether these have exactly the size that their stride says. A model that refuses two sizes is made
for one; it is then fitted to others (`restore.encoders.timm.fitting`), or used tile by tile where that cannot be.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from restore.encoders.timm.fitting import Template
from restore.encoders.timm.weights import TimmModel, create_model
from restore.errors import nearest

__all__ = ["Probe", "build", "channels_first", "probe"]

FLEXIBLE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
"""What makes a model of timm accept several sizes, by family; tried in this order."""
MULTIPLES = (1, 2, 4, 8)
"""Multiples of the coarsest stride that are tried as the smallest image."""
_REFUSALS = (AssertionError, IndexError, RuntimeError, TypeError, ValueError)
_SUPPLIED = (
    *("features_only", "feature_cfg", "feature_cls", "img_size", "in_chans", "num_classes", "out_indices"),
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
)


@dataclass(frozen=True)
class Native:
    """A model made for the images of its published weights, and the size of the one that is made for ours."""

    options: dict[str, Any]
    template: Template
    size: tuple[int, int]


@dataclass(frozen=True)
class Probe:
    """What was found out about a model.

    Attributes:
        options: arguments of timm that make it take as many sizes as it can.
        kind: the class with which timm takes maps out of the model.
        channels: of every map there is.
        strides: of these.
        default_indices: the maps that timm gives when it is not asked for others; None for all.
        size_multiple: what the sides of an image have to be multiples of.
        tile_px: side of the largest image that it takes; None for any.
        template: of a model made for one size, what fits it to others; None if it needs no fitting, or cannot be.
        native: of a model whose published weights are for images of a side that its strides do not divide, these.
    """

    options: dict[str, Any]
    kind: type[nn.Module]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    default_indices: tuple[int, ...] | None
    size_multiple: int
    tile_px: int | None = None
    template: Template | None = field(default=None, compare=False)
    native: Native | None = field(default=None, compare=False)


def probe(name: str, in_chans: int, img_size: int | None, model_args: Mapping[str, Any]) -> Probe:
    """What the model takes and gives; the answer is remembered.

    Raises:
        ValueError: the model cannot be an encoder, or not with these arguments.
    """
    try:
        key = json.dumps([name, in_chans, img_size, model_args], sort_keys=True)
    except TypeError:  # arguments from Python code, such as classes
        return _probed(name, in_chans, img_size, model_args)
    if key not in _REMEMBERED:
        _REMEMBERED[key] = _probed(name, in_chans, img_size, model_args)
    return _REMEMBERED[key]


_REMEMBERED: dict[str, Probe] = {}


def _probed(name: str, in_chans: int, img_size: int | None, model_args: Mapping[str, Any]) -> Probe:
    arguments = {key: _as_tuple(value) for key, value in model_args.items()}
    forbidden = [key for key in arguments if key in _SUPPLIED]
    if forbidden:
        raise ValueError(f"model_args holds {', '.join(forbidden)}, which is an argument of the encoder or set by it")
    if in_chans != 3:  # all else is as for three channels
        found = probe(name, 3, img_size, model_args)
        options = {**found.options, "in_chans": in_chans}
        side = found.template.side if found.template else found.size_multiple
        if not any(_takes(build(name, options, device=device), side, side, in_chans) for device in ("meta", None)):
            raise ValueError(f"'{name}' takes no images of {in_chans} channels")
        native = found.native and replace(found.native, options={**found.native.options, "in_chans": in_chans})
        return replace(found, options=options, native=native)
    if img_size is not None:
        return _of_one_size(name, {**arguments, "img_size": img_size}, img_size)
    net, flexible = _flexible(name, arguments, "meta")
    several = flexible or _fitted(name, arguments, net)
    side = net.default_cfg["input_size"][-1]
    if not several and not _takes(net, side, side):  # the meta device may have no numbers for it to decide by
        _, several = _flexible(name, arguments, None)
    return several or _of_one_size(name, arguments, side)


def _flexible(name: str, arguments: dict[str, Any], device: str | None) -> tuple[TimmModel, Probe | None]:
    """The model, and what it takes if it takes images of several sizes."""
    for extra in FLEXIBLE:
        try:
            net = build(name, {**arguments, **extra}, device=device)
        except TypeError as error:
            _require_known(name, arguments, error)
            if not extra:
                raise ValueError(f"'{name}' refuses its model_args: {error}") from None
            continue
        multiple = _multiple(max(_declared(net)[1]), functools.partial(_takes_two, net))
        if multiple is not None:
            return net, _found(net, {**arguments, **extra}, multiple)
    return net, None


class _WithoutNumbers(TorchFunctionMode):
    """On the meta device, what fills tensors in place does nothing: torch takes most of a model's building for it."""

    _FILLING: ClassVar[set[Any]] = {
        getattr(torch.Tensor, f"{name}_")
        for name in ("add", "clamp", "div", "erfinv", "fill", "mul", "normal", "sub", "uniform", "zero")
    } | {nn.init.constant_, nn.init.kaiming_normal_, nn.init.kaiming_uniform_, nn.init.normal_, nn.init.uniform_}

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in self._FILLING:
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        return function(*args, **kwargs)


class _ShapesAlone(TorchFunctionMode):
    """On the meta device, shapes of what torch computes there in Python, by dozens of operators each."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if args and isinstance(args[0], torch.Tensor) and args[0].is_meta:
            x = args[0]
            if function is F.layer_norm and len(args) > 1 and x.shape[-len(args[1]) :] == tuple(args[1]):
                return x.new_empty(x.shape)
            if function is F.relu and not (len(args) > 1 or kwargs.get("inplace")):
                return torch.empty_like(x)
            if function is F.scaled_dot_product_attention and len(args) == 3 and kwargs.get("attn_mask") is None:
                keys, values = args[1:]
                if x.shape[:-2] == keys.shape[:-2] == values.shape[:-2] and keys.shape[-2] == values.shape[-2]:
                    return x.new_empty((*x.shape[:-1], values.shape[-1]))
        return function(*args, **kwargs)


def build(name: str, options: Mapping[str, Any], *, device: str | None = None, wrapper: Any = None) -> TimmModel:
    """The model as timm makes it for taking maps out of it.

    Raises:
        ValueError: it gives no maps.
        MissingError: see `create_model`.
        TypeError: an argument that it does not have.
    """
    import timm.models  # noqa: F401  # outside the device, where torch 2.6 cannot import its compiler

    wrapped = {} if wrapper is None else {"feature_cls": wrapper}
    try:
        with torch.device(device) if device else torch.no_grad(), _WithoutNumbers():
            try:
                return create_model(name, features_only=True, **options, **wrapped)
            except AssertionError as error:
                if "out of range" not in str(error):  # three maps are the least that timm looks for
                    raise
                return create_model(name, features_only=True, out_indices=1, **options, **wrapped)
    except RuntimeError as error:
        raise ValueError(f"the timm model '{name}' cannot be used as an encoder: {error}") from None


def channels_first(map_4d: torch.Tensor, net: TimmModel) -> torch.Tensor:
    """A map of the model as (B, C, H, W)."""
    layout = getattr(net, "output_fmt", None)
    return map_4d.permute(0, 3, 1, 2) if getattr(layout, "value", layout) == "NHWC" else map_4d


def _found(net: TimmModel, options: dict[str, Any], size_multiple: int, **found: Any) -> Probe:
    channels, strides, indices = _declared(net)
    return Probe(options, type(net), channels, strides, indices, size_multiple, **found)


def _declared(net: TimmModel) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...] | None]:
    """Channels and strides of every map that there is, and the indices of those that timm gives."""
    from timm.models._features import FeatureGetterNet

    if not isinstance(net, FeatureGetterNet):
        return tuple(net.feature_info.channels()), tuple(net.feature_info.reduction()), None
    told = net.model.feature_info
    every: Any = getattr(told, "info", told)
    channels, strides = (tuple(each[key] for each in every) for key in ("num_chs", "reduction"))
    usual = tuple(net.feature_info.out_indices)
    return channels, strides, usual if len(usual) > 1 else None


def _multiple(coarsest: int, takes: Callable[[int], bool]) -> int | None:
    """The smallest multiple of the coarsest stride that will do for the sides of an image."""
    return next((factor * coarsest for factor in MULTIPLES if takes(factor * coarsest)), None)


def _fitted(name: str, arguments: dict[str, Any], net: TimmModel) -> Probe | None:
    """For a model of one size that timm can build for others, of which all parameters that differ are understood."""
    side, coarsest = net.default_cfg["input_size"][-1], max(_declared(net)[1])
    template, native, options = Template(net, side, functools.partial(_sized, name, arguments)), None, arguments
    beyond = -side % coarsest
    if beyond:  # as models of one size that cannot be fitted, which then see whole cells only
        side += beyond
        options = {**arguments, "img_size": side}
        try:
            template.fit((side, side))
            native = Native(arguments, template, (side, side))
            template = Template(build(name, options, device="meta").eval(), side, template.make)
        except _REFUSALS:
            return None

    def takes(multiple: int) -> bool:
        size = multiple, 3 * multiple
        try:
            return _takes(template.sized(size), *size) and template.fit(size) is not None
        except _REFUSALS:
            return False

    multiple = _multiple(coarsest, takes)
    if multiple is None:
        return None
    tile_px = side // multiple * multiple if template.fit((multiple, 3 * multiple)).mixes_tokens else None
    return _found(net, options, multiple, tile_px=tile_px, template=template, native=native)


def _sized(name: str, arguments: Mapping[str, Any], size: tuple[int, int]) -> TimmModel:
    return build(name, {**arguments, "img_size": size}, device="meta").eval()


def _of_one_size(name: str, options: dict[str, Any], side: int) -> Probe:
    """For a model that takes squares of this side only, or of the next multiple of its coarsest stride."""
    given = "img_size" in options
    try:
        net = build(name, options, device="meta")
        strides = _declared(net)[1]
        beyond = -side % max(strides)
        if beyond and not given:
            return _of_one_size(name, {**options, "img_size": side + beyond}, side + beyond)
    except TypeError as error:
        _require_known(name, {key: value for key, value in options.items() if key != "img_size"}, error)
        raise ValueError(f"the timm model '{name}' cannot be built for another img_size: leave it out") from None
    if not beyond and not _takes(net, side, side):
        net = build(name, options)  # as the meta device may have no numbers for it to decide by
    if beyond or not _takes(net, side, side):
        listed = ", ".join(map(str, dict.fromkeys(strides)))
        raise ValueError(f"'{name}' gives no maps of {side} x {side} pixels; img_size is a multiple of {listed}")
    return _found(net, options, side, tile_px=side)


@torch.no_grad()
def _takes(net: TimmModel, height: int, width: int, in_chans: int = 3) -> bool:
    """Whether the model gives a map for each of its strides of such an image."""
    device = next(net.parameters()).device
    try:
        with _ShapesAlone():
            maps = net.eval()(torch.zeros(1, in_chans, height, width, device=device))
    except _REFUSALS:
        return False
    channels = net.feature_info.channels()
    shapes = [tuple(channels_first(each, net).shape[1:]) for each in maps]
    return all(
        shape[0] == wanted and 0 < shape[1] <= height and 0 < shape[2] <= width
        for shape, wanted in zip(shapes, channels, strict=True)
    )


def _takes_two(net: TimmModel, multiple: int) -> bool:
    """Whether the model takes a long image and a square one whose sides are multiples of this."""
    return _takes(net, multiple, 3 * multiple) and _takes(net, 2 * multiple, 2 * multiple)


def _require_known(name: str, arguments: Mapping[str, Any], error: TypeError) -> None:
    """Where the model does not take one of the arguments, say why."""
    fixed = re.search(r"multiple values for keyword argument '(\w+)'", str(error))
    if fixed is not None and fixed[1] in arguments:
        raise ValueError(f"'{name}' sets '{fixed[1]}' itself, so that model_args cannot: choose another variant")
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unknown is not None and unknown[1] in arguments:
        model = getattr(build(name, {}, device="meta"), "model", None)
        known = [*inspect.signature(type(model).__init__).parameters][1:] if model is not None else []
        raise ValueError(
            f"'{name}' has no argument '{unknown[1]}' that model_args could set.{nearest(unknown[1], known)}"
        )


def _as_tuple(value: Any) -> Any:
    """Lists, as option files have them, as timm wants them."""
    return tuple(map(_as_tuple, value)) if isinstance(value, Sequence) and not isinstance(value, str) else value

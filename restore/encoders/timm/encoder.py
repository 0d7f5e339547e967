"""Every model of timm as an encoder, through one adapter.

    encoder: vit_small_patch16_224
    encoder: {type: swin_tiny_patch4_window7_224, pretrained: true, normalisation: weights}
    encoder: {type: vit_base_patch16_224, out_indices: [2, 5, 8, 11], model_args: {patch_size: 8, drop_path_rate: 0.1}}

What a model takes and gives is found out without building it (`restore.encoders.timm.probe`); it is built once.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import AfterValidator
from torch import nn

from restore.encoders.base import Encoder, Features, Normalisation
from restore.encoders.timm.fitting import Fitting
from restore.encoders.timm.head import Remainder, TimmHead, remainder
from restore.encoders.timm.probe import Probe, build, channels_first, probe
from restore.encoders.timm.weights import TimmModel, known
from restore.layers.exportable import FixedSizeError, ceil_divide, is_exporting, is_of_size
from restore.layers.merging import Merging
from restore.layers.repeated import repeated_blocks
from restore.layers.tokens import Tokens
from restore.registry import ENCODERS

__all__ = ["TimmEncoder"]

log = logging.getLogger(__name__)


@ENCODERS.add("timm")
class TimmEncoder(Encoder):
    """A model of timm as an encoder.

    Models of one stride (ViT and its relatives) have a map for each block and by default give the last three, as timm
    does; others have a map for each stage. Maps that come out a little smaller than their stride says, as those of
    convolutions without padding do, are resampled.

    Args:
        name: as `timm.list_models()` gives it.
        in_chans: channels of the image.
        out_indices: which maps to return; None for those that timm gives.
        pretrained: load timm's weights (they may have to be downloaded).
        img_size: build a model for images of this side and use it tile by tile. None: any size where the model takes
            it or can be fitted to it; otherwise tiles, of the side that it is made for at most.
        normalisation: see `Encoder`; "weights" is what timm's configuration of the model says.
        model_args: arguments of the model itself, such as `patch_size`, `window_size`, `norm_layer`, `drop_path_rate`.

    Raises:
        ValueError: the model gives no maps, or other indices than it has, or has no such argument.
        MissingError: its weights were asked for and could not be found or downloaded.
    """

    derived_keys = ("attn_mask", "relative_position_index")

    def __init__(
        self,
        name: Annotated[str, AfterValidator(known)],
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        pretrained: bool = False,
        img_size: int | None = None,
        normalisation: Normalisation = "symmetric",
        model_args: Mapping[str, Any] | None = None,
    ):
        found = probe(name, in_chans, img_size, model_args or {})
        model, rest, names = _built(name, found, pretrained)
        super().__init__(
            in_chans,
            channels=found.channels,
            strides=found.strides,
            out_indices=out_indices,
            size_multiple=found.size_multiple,
            tile_px=found.tile_px,
            normalisation=normalisation,
            weights_statistics=(model.pretrained_cfg["mean"], model.pretrained_cfg["std"]),
            default_indices=found.default_indices,
        )
        self.model: TimmModel = model
        self._merged: list[MergedCall] = []
        self._name, self._timm_names = name, names
        self._rest = [rest]  # in a list, so that a classifier.s parameters are not the encoder's
        self._fitting = Fitting(found.template) if found.template else None

    def maps(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Every map of the model, channels first and of the size that its stride says."""
        self._fit(x_BCHW)
        maps = self.model(x_BCHW)
        self._release()
        return self._resized(maps, x_BCHW)

    def features(self, x_BCHW: torch.Tensor) -> Features:
        """The maps, and the tokens after the last norm where the model is one of blocks that work on tokens."""
        if not _gives_tokens(self.model):
            return Features(self.maps(x_BCHW))
        self._fit(x_BCHW)
        last, maps = self.model.model.forward_intermediates(x_BCHW, indices=list(self.model.out_indices))
        self._release()
        maps = self._resized(maps, x_BCHW)
        return Features(maps, _tokens(last, maps[-1].shape[2:]))

    def blocks(self) -> Sequence[nn.Module]:
        """The outermost repeated blocks, or what stands in lists called `blocks`."""
        blocks = repeated_blocks(self.model)
        if blocks != [self.model]:
            return blocks
        named = (module for name, module in self.model.named_modules() if re.search(r"(^|[._])blocks\.\d+$", name))
        return [*named] or blocks

    def merged(self, merging: Merging, *, whole: bool) -> nn.Module | None:
        """The same encoder whose attention, or whole blocks, see merged tokens; None where timm's have no such bias."""
        num_prefix = getattr(getattr(self.model, "model", None), "num_prefix_tokens", 0)
        parts = [(block, "attn") for block in self.blocks() if _takes_bias(getattr(block, "attn", None))]
        if not _gives_tokens(self.model) or len(parts) != len(self.blocks()):
            return None
        if whole:
            blocks = {id(block) for block, _ in parts if _takes_bias(block)}
            named = {name: each for name, each in self.model.named_modules() if id(each) in blocks}
            parts = [(self.model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in named]
        self._merged = [MergedCall(getattr(parent, name), merging, num_prefix, whole) for parent, name in parts]
        for (parent, name), call in zip(parts, self._merged, strict=True):
            setattr(parent, name, call)
        return self

    def head(self, num_classes: int) -> nn.Module:
        """The model's own head, with its weights where they are for as many classes.

        A model whose parts after the maps are not known has one linear layer on the mean of the coarsest map instead.
        """
        (rest,) = self._rest
        if rest is not None:
            head = TimmHead(rest, num_classes)
            with contextlib.suppress(AssertionError, RuntimeError, TypeError):
                head.eval()(self._encoded_once())
                return head.train()
        log.info("the head of %s is not timm's: one linear layer on the mean of the coarsest map", self._name)
        return super().head(num_classes)

    def published_key(self, key: str) -> str:
        """The name in timm's model."""
        path, _, leaf = key.removeprefix("model.").rpartition(".")
        path = self._timm_names.get(path, path)
        return f"{path}.{leaf}" if path else leaf

    def prune_to_maps(self) -> None:
        """Remove what no map depends on: the last norm, and the blocks after the last chosen map."""
        super().prune_to_maps()
        self._rest = []
        if _gives_tokens(self.model):
            self.num_maps = max(self.out_indices) + 1
            self._declared = self._declared[: self.num_maps]
            indices = list(range(self.num_maps))
            with contextlib.suppress(AttributeError):  # some look for their head, which is here no longer
                self.model.model.prune_intermediate_layers(indices, prune_norm=True, prune_head=True)
            self.model.model.prune_intermediate_layers(indices, prune_norm=True, prune_head=False)
            self.model.out_indices = indices

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

    def __deepcopy__(self, memo: dict[int, Any]) -> TimmEncoder:
        """A copy, which is fitted to no image yet."""
        if self._fitting is not None:
            self._fitting.undo(self.model)
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    @torch.no_grad()
    def _encoded_once(self) -> Features:
        """The features of a small image, in evaluation."""
        training, weight = self.training, next(self.parameters())
        try:
            return self.eval().encode_all(weight.new_zeros(1, self.in_chans, self.size_multiple, self.size_multiple))
        finally:
            self.train(training)

    def _fit(self, x_BCHW: torch.Tensor) -> None:
        for call in self._merged:
            call.grid = (int(x_BCHW.shape[2]) // self._declared[0][1], int(x_BCHW.shape[3]) // self._declared[0][1])
        if self._fitting is not None:
            if is_exporting():
                raise FixedSizeError(
                    "this network cannot be exported: its encoder is made for images of one size and is made anew for "
                    "each other, so that no one file holds for all. Encoders that take any size, such as convnext or "
                    "vit, can be."
                )
            self._fitting.apply(self.model, (int(x_BCHW.shape[2]), int(x_BCHW.shape[3])))

    def _release(self) -> None:
        if self._fitting is not None and not torch.is_grad_enabled():
            self._fitting.release()

    def _resized(self, maps: Sequence[torch.Tensor], x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        height, width = x_BCHW.shape[2:]
        resized = []
        for each, (_, stride) in zip(maps, self._declared, strict=True):
            map_BCHW, size = channels_first(each, self.model), [ceil_divide(side, stride) for side in (height, width)]
            fits = is_of_size(map_BCHW.shape[2:], size)
            resized.append(map_BCHW if fits else F.interpolate(map_BCHW, size, mode="bilinear", align_corners=False))
        return resized


class MergedCall(nn.Module):
    """A block of timm, or its attention, on merged tokens: timm adds what it calls a mask to the scores.

    Attributes:
        grid: rows and columns of the patch tokens of the images that are being encoded.
    """

    def __init__(self, inner: nn.Module, merging: Merging, num_prefix: int, is_block: bool):
        super().__init__()
        self.inner, self.merging, self.num_prefix, self.is_block = inner, merging, num_prefix, is_block
        self.grid: tuple[int, int] | None = None

    def forward(self, x_BNC: torch.Tensor, attn_mask: None = None, is_causal: bool = False) -> torch.Tensor:
        """(B, N, C)."""
        assert attn_mask is None
        assert not is_causal
        tokens = Tokens(x_BNC, self.grid, self.num_prefix)
        plan = self.merging.plan(tokens)
        if plan is None:
            return self.inner(x_BNC)
        merged_BMC = plan.merge(x_BNC)
        made_BMC = self.inner(merged_BMC, attn_mask=plan.weight_BM.log()[:, None, None].to(x_BNC.dtype))
        return x_BNC + plan.spread(made_BMC - merged_BMC) if self.is_block else plan.spread(made_BMC)


def _takes_bias(module: nn.Module | None) -> bool:
    """Whether a block or attention takes tokens and something that is added to the scores, and no more."""
    if module is None:
        return False
    wanted = [*inspect.signature(module.forward).parameters.values()]
    return [each.name for each in wanted[:2]] == ["x", "attn_mask"] and "rope" not in [each.name for each in wanted]


def _built(name: str, found: Probe, pretrained: bool) -> tuple[TimmModel, Remainder | None, dict[str, str]]:
    """The model with every map, what of it comes after the maps, and timm's names of its modules."""
    from timm.models._features import FeatureGetterNet, FeatureListNet

    native = found.native if pretrained else None
    options = {**(native.options if native else found.options), "pretrained": pretrained}
    if found.kind not in (FeatureGetterNet, FeatureListNet):
        return build(name, options), None, {}
    whole: list[nn.Module] = []
    kind: Any = found.kind

    class Kept(kind):  # timm wraps its model in this class, and shows the model by doing so
        def __init__(self, model: nn.Module, **settings: Any):
            whole.append(model)
            if found.kind is FeatureGetterNet:
                known = inspect.signature(FeatureGetterNet).parameters  # up to timm 1.0.30 not all that timm gives it
                settings = {name: value for name, value in settings.items() if name in known}
                settings |= {"out_indices": list(range(len(found.channels))), "prune": False}
            super().__init__(model, **settings)

    net = build(name, options, wrapper=Kept)
    net.__class__ = found.kind
    net._model_args = {**getattr(net, "_model_args", {}), "feature_cls": found.kind}  # Kept cannot be pickled
    if native is not None:
        Fitting(native.template).keep(net, native.size)
    timm_names = {id(module): path for path, module in whole[0].named_modules()}
    names = {path: timm_names[id(module)] for path, module in net.named_modules() if id(module) in timm_names}
    return net, remainder(whole[0], net), names


def _gives_tokens(net: TimmModel) -> bool:
    from timm.models._features import FeatureGetterNet

    return isinstance(net, FeatureGetterNet)


def _tokens(last: Any, grid: Sequence[int]) -> Tokens | None:
    """What a model gives after its last norm, as tokens: (B, prefix + N, C), or a map in either layout."""
    rows, columns = grid
    if not isinstance(last, torch.Tensor):  # several scales
        return None
    if last.ndim == 3:
        num_prefix = last.shape[1] - rows * columns
        return Tokens(last, (rows, columns), num_prefix) if num_prefix >= 0 else Tokens(last)
    if last.ndim == 4 and tuple(last.shape[2:]) == (rows, columns):
        return Tokens(last.flatten(2).transpose(1, 2), (rows, columns))
    if last.ndim == 4 and tuple(last.shape[1:3]) == (rows, columns):
        return Tokens(last.flatten(1, 2), (rows, columns))
    return None

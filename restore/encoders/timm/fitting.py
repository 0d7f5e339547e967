"""Models that are made for images of one size, fitted to another: tables of positions are resampled, numbers replaced.

Such a model differs from the same model made for another size in three things: parameters that are tables over
positions or over distances between them, buffers that index these, and a few numbers (`num_patches`, `resolution`).
timm makes the model for the other size on the meta device, in no time; what differs there is put into the real one,
whose blocks stay the same objects and whose state dict stays as it is. Tables are resampled in each forward pass, so
that gradients reach them.

- Absolute positions are resampled as pictures (bicubic), as timm does for ViT; distances from end to end of the table.
- Matrices between tokens (Mixer, ResMLP, gMLP) are not tables. On fewer tokens than they were made for, they act as if
  the tokens were enlarged to the full grid, mixed there, and averaged; there is no such rule for more tokens.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from restore.encoders.timm.weights import TimmModel
from restore.layers.exportable import resized_with_filter

__all__ = ["Fit", "Fitting", "Template", "UnfitError"]

Size = tuple[int, int]
Resample = Callable[[torch.Tensor], torch.Tensor]

_ABSOLUTE = re.compile(r"(^|\.)(patch_pos|pos_embed\d*)$")
_RELATIVE = re.compile(r"\.relative_position_bias_table$")
_DISTANCES = re.compile(r"\.attention_biases$")
_AXIS = re.compile(r"\.(height|width)_rel$")
_TOKENS_IN = re.compile(r"\.mlp_tokens\.fc1\.weight$")
_TOKENS_OUT = re.compile(r"\.(mlp_tokens\.fc2\.(weight|bias)|linear_tokens\.bias|gate\.proj\.bias)$")
_TOKENS_BOTH = re.compile(r"\.(linear_tokens|gate\.proj)\.weight$")
_MATRICES = (_TOKENS_IN, _TOKENS_OUT, _TOKENS_BOTH)

_CACHE = "attention_bias_cache"  # of timm: what was looked up in a table, not a matter of the size
_PLAIN = (bool, int, float, str, tuple, list, dict, type(None))
_MOST_KEPT = 4  # sizes whose indices are kept


class UnfitError(ValueError):
    """The model differs from the one for the other size in something that is not understood."""


@dataclass(frozen=True)
class Fit:
    """What fits a model to a size.

    Attributes:
        attributes: by (module, attribute).
        buffers: by (module, buffer).
        tables: by (module, parameter), what makes the parameter one of a model made for the size.
        mixes_tokens: whether matrices between tokens are among these.
    """

    attributes: dict[tuple[str, str], object]
    buffers: dict[tuple[str, str], torch.Tensor]
    tables: dict[tuple[str, str], Resample]
    mixes_tokens: bool


class Template:
    """A model made for one size, and how to make it for others; everything on the meta device but the indices.

    Args:
        model: made for squares of `side` pixels.
        side: see there.
        make: makes it for another size.
    """

    def __init__(self, model: nn.Module, side: int, make: Callable[[Size], nn.Module]):
        self._model, self.side, self.make = model, side, make
        self._sized: tuple[Size, nn.Module] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Template:
        return self

    def sized(self, size: Size) -> nn.Module:
        """The model for this size, on the meta device."""
        if self._sized is None or self._sized[0] != size:
            self._sized = size, self.make(size)
        return self._sized[1]

    def fit(self, size: Size) -> Fit:
        """What makes a model for the square fit this size.

        Raises:
            UnfitError: something differs that is not understood.
        """
        attributes: dict[tuple[str, str], object] = {}
        buffers: dict[tuple[str, str], torch.Tensor] = {}
        tables: dict[tuple[str, str], Resample] = {}
        known: list[torch.Tensor] = []
        for (path, ours), (_, theirs) in _pairs(self._model, self.sized(size)):
            attributes |= {(path, name): value for name, value in _changed(ours, theirs)}
            for name, parameter in ours._parameters.items():
                other = theirs._parameters[name]
                if parameter is not None and other is not None and parameter.shape != other.shape:
                    tables[path, name] = _resample(f".{path}.{name}", parameter.shape, other.shape, self.side, size)
            for name, index in _indices(ours, theirs, path):
                buffers[path, name] = next((each for each in known if _equal(each, index)), index)
                known.append(buffers[path, name])
        mixes = any(kind.search(f".{path}.{name}") for path, name in tables for kind in _MATRICES)
        return Fit(attributes, buffers, tables, mixes)


class Fitting:
    """Fits one real model to the size of each image.

    What is fitted hides the model's own: it is written to the instance dictionaries of its modules, where attributes
    are looked up before parameters and buffers. Where there is a backward pass, it stays there until the next image, as
    this may compute blocks anew.
    """

    def __init__(self, template: Template):
        self._template, self._side = template, template.side
        self._fits: dict[Size, Fit] = {}
        self._size: Size = (template.side, template.side)
        self._tables: list[tuple[nn.Module, str, Resample]] = []
        self._own: list[tuple[nn.Module, str, object]] = []  # attributes as they were
        self._hidden: list[tuple[nn.Module, str]] = []  # buffers and parameters

    def apply(self, model: nn.Module, size: Size) -> None:
        """Make `model` take images of this size."""
        if size != self._size:
            self.undo(model)
            if size != (self._side, self._side):
                self._enter(model, size)
        for module, name, resample in self._tables:
            module.__dict__[name] = resample(_parameter(module, name))
        if self._size != (self._side, self._side):
            _forget(model)

    def release(self) -> None:
        """Let the model's own tables be seen again; the next image has its own."""
        for module, name, _ in self._tables:
            module.__dict__.pop(name, None)

    def keep(self, model: nn.Module, size: Size) -> None:
        """Make `model` one for this size for good, as if it had been made for it."""
        self.apply(model, size)
        fit = self._fits[size]
        for module, name, resample in self._tables:
            del module.__dict__[name]
            module._parameters[name] = nn.Parameter(resample(_parameter(module, name)).detach())
        for path, name in fit.buffers:
            module = model.get_submodule(path)
            module._buffers[name] = module.__dict__.pop(name)

    def undo(self, model: nn.Module) -> None:
        """Leave the model as it was made."""
        for module, name, value in self._own:
            module.__dict__[name] = value
        for module, name in self._hidden:
            module.__dict__.pop(name, None)
        _forget(model)
        self._size = (self._side, self._side)
        self._tables, self._own, self._hidden = [], [], []

    def _enter(self, model: nn.Module, size: Size) -> None:
        if size not in self._fits:
            while len(self._fits) >= _MOST_KEPT:
                del self._fits[next(iter(self._fits))]
            self._fits[size] = self._template.fit(size)
        fit, self._size = self._fits[size], size
        modules = dict(model.named_modules())  # some of the template's may have been removed
        for (path, name), value in fit.attributes.items():
            if path in modules:
                self._own.append((modules[path], name, vars(modules[path])[name]))
                modules[path].__dict__[name] = value
        moved: dict[int, torch.Tensor] = {}
        for (path, name), index in fit.buffers.items():
            if path in modules:
                device = modules[path]._buffers[name].device
                modules[path].__dict__[name] = moved.setdefault(id(index), index.to(device))
                self._hidden.append((modules[path], name))
        for (path, name), resample in fit.tables.items():
            if path in modules:
                self._tables.append((modules[path], name, resample))
                self._hidden.append((modules[path], name))


def _parameter(module: nn.Module, name: str) -> nn.Parameter:
    """The parameter, also while its resampled table hides it."""
    parameter = module._parameters[name]
    assert parameter is not None, "only what was resampled is asked for"
    return parameter


def _forget(model: nn.Module) -> None:
    """What timm remembers of tables that are others now."""
    for module in model.modules():
        if getattr(module, _CACHE, None):
            setattr(module, _CACHE, {})


def _pairs(ours: nn.Module, theirs: nn.Module) -> Iterator[tuple[tuple[str, nn.Module], tuple[str, nn.Module]]]:
    """The modules of both, one by one."""
    pairs = list(zip(ours.named_modules(), theirs.named_modules(), strict=False))
    if len(pairs) != len([*ours.modules()]) or len(pairs) != len([*theirs.modules()]):
        raise UnfitError("made for another size, the model has other modules")
    for (name, module), (other_name, other) in pairs:
        if name != other_name or type(module) is not type(other):
            raise UnfitError(f"made for another size, the model has {other_name} in place of {name}")
    return iter(pairs)


def _changed(ours: nn.Module, theirs: nn.Module) -> Iterator[tuple[str, object]]:
    """The plain attributes that differ, with their values in the other model."""
    for name, value in vars(theirs).items():
        if name.startswith("_") or name in ("training", _CACHE) or not isinstance(value, _PLAIN):
            continue
        if vars(ours).get(name) != value:
            yield name, value


def _indices(ours: TimmModel, theirs: TimmModel, path: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Buffers that are computed from the size, computed."""
    computed = [name for name in theirs._buffers if name in theirs._non_persistent_buffers_set]
    others = [name for name in theirs._buffers if name not in computed and theirs._buffers[name] is not None]
    differing = [name for name in others if theirs._buffers[name].shape != ours._buffers[name].shape]
    if differing:
        raise UnfitError(f"{path}.{differing[0]} differs, and how it is computed is not known")
    computed = [name for name in computed if theirs._buffers[name] is not None]
    if not computed:
        return
    if not hasattr(theirs, "init_non_persistent_buffers"):
        raise UnfitError(f"how {path}.{computed[0]} is computed is not known")
    for name in computed:
        if theirs._buffers[name].is_meta:
            theirs._buffers[name] = torch.empty_like(theirs._buffers[name], device="cpu")
    theirs.init_non_persistent_buffers()
    yield from ((name, theirs._buffers[name]) for name in computed)


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)


def _resample(name: str, old: torch.Size, new: torch.Size, side: int, size: Size) -> Resample:
    """For a parameter of a model made for squares of `side`, what makes it one of a model made for `size`.

    Raises:
        UnfitError: it is not a table that is known.
    """
    grids = functools.partial(_grids, side=side, size=size)
    if _ABSOLUTE.search(name) and len(old) == 4:
        if old[3] == new[3]:
            return functools.partial(_channels_last, size=(new[1], new[2]))
        return functools.partial(_picture, size=(new[2], new[3]))
    if _ABSOLUTE.search(name) and len(old) == 3:
        before, after, prefix = grids(old[1], new[1], prefixes=(0, 1, 2))
        return functools.partial(_absolute, before=before, after=after, prefix=prefix)
    if _RELATIVE.search(name) and len(old) == 3:
        return functools.partial(_heads, size=(new[1], new[2]))
    if _RELATIVE.search(name):
        before, after, others = grids(old[0], new[0], count=_num_distances, prefixes=(0, 3))
        before, after = ((2 * rows - 1, 2 * columns - 1) for rows, columns in (before, after))
        return functools.partial(_relative, before=before, after=after, others=others)
    if _DISTANCES.search(name):
        before, after, _ = grids(old[1], new[1])
        return functools.partial(_distances, before=before, after=after)
    if _AXIS.search(name):
        return functools.partial(_axis, length=new[0])
    if any(kind.search(name) for kind in _MATRICES):
        axis = 1 if _TOKENS_IN.search(name) else 0
        before, after, _ = grids(old[axis], new[axis])
        if after[0] > before[0] or after[1] > before[1]:
            raise UnfitError(f"{name[1:]} mixes {before[0]} x {before[1]} tokens, and cannot mix more")
        inputs = bool(_TOKENS_IN.search(name) or _TOKENS_BOTH.search(name))
        return functools.partial(_mixing, before=before, after=after, inputs=inputs, outputs=axis == 0)
    raise UnfitError(f"{name[1:]} differs, and how it depends on the size is not known")


def _num_tokens(rows: int, columns: int) -> int:
    return rows * columns


def _num_distances(rows: int, columns: int) -> int:
    return (2 * rows - 1) * (2 * columns - 1)


@functools.lru_cache(maxsize=1024)
def _grids(
    old: int,
    new: int,
    side: int,
    size: Size,
    count: Callable[[int, int], int] = _num_tokens,
    prefixes: tuple[int, ...] = (0,),
) -> tuple[Size, Size, int]:
    """Rows and columns of the grid that has so many entries, for the square and for the size, and entries beside it."""
    powers = (1 << exponent for exponent in range(10))
    for stride in dict.fromkeys((*powers, *range(1, side + 1))):
        places = math.ceil(side / stride)
        rows, columns = (math.ceil(each / stride) for each in size)
        for prefix in prefixes:
            if count(places, places) + prefix == old and count(rows, columns) + prefix == new:
                return (places, places), (rows, columns), prefix
    raise UnfitError(f"{old} entries for {side} px and {new} for {size} do not form a grid")


def _absolute(table: torch.Tensor, before: Size, after: Size, prefix: int) -> torch.Tensor:
    """Positions (1, prefix + N, C)."""
    places_1CHW = table[:, prefix:].transpose(1, 2).unflatten(2, before)
    return torch.cat([table[:, :prefix], _picture(places_1CHW, after).flatten(2).transpose(1, 2)], dim=1)


def _relative(table: torch.Tensor, before: Size, after: Size, others: int) -> torch.Tensor:
    """Distances from -(n - 1) to n - 1 on both axes, (L + others, heads)."""
    number = len(table) - others
    distances = table[:number].T.unflatten(1, before)[None]
    stretched = _stretched(distances, after, centred=True)[0].flatten(1).T
    return torch.cat([stretched, table[number:]]) if others else stretched


def _heads(table: torch.Tensor, size: Size) -> torch.Tensor:
    """Distances on both axes, (heads, 2 rows - 1, 2 columns - 1)."""
    return _stretched(table[None], size, centred=True)[0]


def _distances(table: torch.Tensor, before: Size, after: Size) -> torch.Tensor:
    """Distances without their signs, (heads, N)."""
    return _stretched(table.unflatten(1, before)[None], after)[0].flatten(1)


def _axis(table: torch.Tensor, length: int) -> torch.Tensor:
    """Distances on one axis, (2 n - 1, C)."""
    return _stretched(table.T[None, :, None], (1, length), centred=True)[0, :, 0].T


def _channels_last(table_1HWC: torch.Tensor, size: Size) -> torch.Tensor:
    return _picture(table_1HWC.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)


def _mixing(table: torch.Tensor, before: Size, after: Size, inputs: bool, outputs: bool) -> torch.Tensor:
    """A matrix (outputs, inputs), or a bias, of which some axes are those of tokens."""
    if inputs:
        table = table @ _enlarging(after, before, table)
    return _averaging(before, after, table) @ table if outputs else table


def _picture(table_1CHW: torch.Tensor, size: Size) -> torch.Tensor:
    return resized_with_filter(table_1CHW, size, "bicubic")


def _stretched(table_1CHW: torch.Tensor, size: Size, *, centred: bool = False) -> torch.Tensor:
    """From end to end; a side of one entry has distance 0, which is in the middle where the table is `centred`."""
    for axis, wanted in enumerate(size):
        if wanted == 1 and centred:
            table_1CHW = table_1CHW.narrow(2 + axis, table_1CHW.shape[2 + axis] // 2, 1)
    return F.interpolate(table_1CHW.float(), size, mode="bicubic", align_corners=True).to(table_1CHW.dtype)


def _enlarging(small: Size, large: Size, like: torch.Tensor) -> torch.Tensor:
    """The matrix (large, small) that interpolates a grid."""
    basis = torch.eye(small[0] * small[1], device=like.device).unflatten(1, small)[:, None]
    return F.interpolate(basis, large, mode="bilinear", align_corners=False).flatten(1).T.to(like.dtype)


def _averaging(large: Size, small: Size, like: torch.Tensor) -> torch.Tensor:
    """The matrix (small, large) that averages a grid."""
    basis = torch.eye(large[0] * large[1], device=like.device).unflatten(1, large)[:, None]
    return F.adaptive_avg_pool2d(basis, small).flatten(1).T.to(like.dtype)

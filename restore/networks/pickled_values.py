"""What a pickle names, as far as it is made here: plain values, and tensors of the bytes that are stored.

`torch.save` names a few dozen functions and classes. What stands in the place of each is in one table at the end, and
does no more than to arrange what is in the file. Everything else becomes a `StandIn`, which does nothing.
"""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Callable, Hashable, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

__all__ = ["DamagedError", "NamedValues", "StandIn", "plain_key"]

MOST_SHARED = 4  # tensors may share what is stored, but not be many times more
MOST_SIDES = 64  # of a tensor, as in PyTorch
_ODD_TENSORS = {
    "torch._utils._rebuild_qtensor": "quantised",
    "torch._utils._rebuild_sparse_tensor": "sparse",
    "torch._utils._rebuild_sparse_csr_tensor": "sparse",
    "torch._utils._rebuild_nested_tensor": "nested",
    "torch._utils._rebuild_meta_tensor_no_storage": "without values (of the meta device)",
    "torch._utils._rebuild_wrapper_subclass": "of a class of their own",
    "torch._utils._rebuild_device_tensor_from_numpy": "of another device",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "of another device",
}


class DamagedError(ValueError):
    """A file is not what `torch.save` writes; the message says in what."""


@dataclass(eq=False)
class StandIn:
    """Something that a file names, or an instance or result of it, which was not made.

    Attributes:
        name: with its module, `argparse.Namespace`.
        arguments: what it would have been called with.
        state: what would have been set on it.
    """

    name: str
    arguments: Any = field(default=(), repr=False)
    state: Any = field(default=None, repr=False)

    @property
    def tensor_kind(self) -> str | None:
        """What kind of tensor it would have been; None for anything else."""
        return _ODD_TENSORS.get(self.name)


@dataclass(frozen=True)
class _Storage:
    """Stored bytes, of which a view begins at `start` (in bytes), as values of a type."""

    bytes: torch.UntypedStorage
    dtype: torch.dtype
    start: int = 0


class NamedValues:
    """Makes what a pickle names and calls.

    Args:
        held: bytes that the file holds, unpacked; tensors may be a few times that, since they may share them.
        stored: gives the bytes of a storage from its key, type and number of values; None if they are not here yet.
    """

    def __init__(self, held: int, stored: Callable[[str, torch.dtype, int], bytes | None]):
        self._held, self._stored, self._claimed = held, stored, 0
        self._may_copy = held + (1 << 20)  # values that calls copy; each takes a byte at least where it is written once
        self._storages: dict[str, torch.UntypedStorage] = {}
        self._named: dict[str, None] = {}

    def foreign(self) -> list[str]:
        """What the file names that has no meaning here, tensors aside."""
        known = (*_MADE, *_ODD_TENSORS)
        return [
            name
            for name in self._named
            if name not in known and not re.match(r"torch\.(per_|\w*Storage|storage)", name)
        ]

    def named(self, module: str, name: str) -> StandIn | torch.dtype:
        """What stands for a function or class: a type of values as it is."""
        full = f"{_MODULES.get(module, module)}.{name}"
        dtype = _dtype(full)
        if dtype is None:
            self._named[full] = None
        return StandIn(full) if dtype is None else dtype

    def made(self, function: Any, arguments: Any) -> Any:
        """What a call gives."""
        if not isinstance(function, StandIn) or not isinstance(arguments, tuple):
            raise DamagedError("it calls what cannot be called")
        if function.name == "torch._tensor._rebuild_from_type_v2" and len(arguments) == 4:
            return self.made(arguments[0], arguments[2])
        if function.name == "copyreg._reconstructor" and arguments and isinstance(arguments[0], StandIn):
            return StandIn(arguments[0].name)
        make = _MADE.get(function.name)
        if make:
            self._may_copy -= sum(len(each) for each in arguments if isinstance(each, Sized))
            if self._may_copy < 0:
                raise DamagedError("it copies the same values again and again")
        return make(self, *arguments) if make else StandIn(function.name, arguments)

    def persistent(self, what: Any) -> _Storage | StandIn:
        """Stored bytes, which a pickle refers to by their key."""
        match what:
            case ("storage", StandIn(name=kind), str(key), str(location), int(num), *view):
                return self._storage(kind, key, location, num, view[0] if view else None)
            case _:
                raise DamagedError("it refers to something else than weights")

    def _storage(self, kind: str, key: str, location: str, num: int, view: Any) -> _Storage | StandIn:
        dtype = _storage_type(kind)
        if dtype is None or location == "meta":
            return StandIn("torch._utils._rebuild_qtensor" if dtype is None else _META)
        if key not in self._storages:
            content = self._stored(key, dtype, num)
            if content is None:
                return StandIn(kind)
            if len(content) != num * dtype.itemsize:
                raise DamagedError(f"{len(content):,} bytes are stored where {num:,} values should be")
            flat = torch.empty(len(content), dtype=torch.uint8)  # aligned as PyTorch likes it
            flat.numpy()[:] = np.frombuffer(content, np.uint8)
            self._storages[key] = flat.untyped_storage()
        start = 0
        if view is not None:
            _, start, num = view
            if type(start) is not int:
                raise DamagedError("a part of what is stored begins nowhere")
        return _Storage(self._storages[key], dtype, start * dtype.itemsize)

    def tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *more: Any) -> Any:
        """A tensor that lies on stored bytes, and not beside them."""
        if isinstance(storage, StandIn):
            return StandIn(storage.name if storage.tensor_kind else _META)
        if more and isinstance(more[-1], dict) and more[-1]:  # conjugate, say
            return StandIn("torch._utils._rebuild_wrapper_subclass")
        dtype = next((each for each in more if isinstance(each, torch.dtype)), storage.dtype)
        if not isinstance(size, (tuple, list)) or not isinstance(stride, (tuple, list)) or len(size) > MOST_SIDES:
            raise DamagedError("a tensor has no possible shape")
        whole = (storage.start, offset, *size, *stride)
        if not all(type(each) is int and 0 <= each < 1 << 62 for each in whole) or len(size) != len(stride):
            raise DamagedError("a tensor has no possible shape")
        first = storage.start // dtype.itemsize + offset
        last = first + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        num = math.prod(size)
        if num and (last + 1) * dtype.itemsize > storage.bytes.nbytes():
            raise DamagedError("a tensor needs more bytes than are stored")
        self._claimed += num * dtype.itemsize
        if self._claimed > MOST_SHARED * self._held + (1 << 20):
            raise DamagedError("its tensors stand for far more values than it holds")
        return torch.empty(0, dtype=dtype).set_(storage.bytes, first if num else 0, size, stride)


def plain_key(key: Any) -> Hashable:
    """The key itself where it is plain; anything else could take for ever to compare."""
    return key if isinstance(key, (str, bytes, int, float, type(None))) else StandIn("a key")


def _dtype(name: str) -> torch.dtype | None:
    found = vars(torch).get(name.removeprefix("torch.")) if name.startswith("torch.") else None
    return found if isinstance(found, torch.dtype) else None


def _storage_type(name: str) -> torch.dtype | None:
    """The type of the values in a storage class; None for quantised ones, and for what is none."""
    is_storage = re.fullmatch(r"torch(\.storage|\.cuda)?\.\w+Storage", name)
    return _STORAGES.get(name.rpartition(".")[2].removesuffix("Storage")) if is_storage else None


def _number(_: NamedValues, kind: Any, content: Any = b"") -> Any:
    """A number of numpy as one of Python."""
    code, order = (kind.arguments[0], kind.state[1] if kind.state else "<") if isinstance(kind, StandIn) else ("", "<")
    if not isinstance(content, bytes) or not re.fullmatch(r"[biuf][1248]", str(code)):
        return StandIn("numpy.generic")
    values = np.frombuffer(content, f"{'>' if order == '>' else '<'}{code}")
    return values[0].item() if len(values) == 1 else StandIn("numpy.generic")


def _encoded(_: NamedValues, text: str, how: str = "utf-8") -> bytes:
    return text.encode("latin1" if how in ("latin1", "latin-1") else "utf-8")


def _mapping(kind: type) -> Callable[..., Any]:
    def make(_: NamedValues, *arguments: Any) -> Any:
        found = next((each for each in arguments if isinstance(each, (Mapping, list))), {})
        return kind(found if isinstance(found, Mapping) else dict(map(tuple, found)))

    return make


_STORAGES = {
    **{name: getattr(torch, name.lower()) for name in ("Float", "Double", "Half", "BFloat16", "Short", "Int", "Long")},
    **{"Byte": torch.uint8, "Untyped": torch.uint8, "Char": torch.int8, "Bool": torch.bool},
    **{"ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128},
}
_META = "torch._utils._rebuild_meta_tensor_no_storage"
_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg", "numpy.core.multiarray": "numpy._core.multiarray"}
_MADE: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": NamedValues.tensor,
    "torch._utils._rebuild_tensor_v2": NamedValues.tensor,
    "torch._utils._rebuild_tensor_v3": NamedValues.tensor,
    "torch._utils._rebuild_parameter": lambda _, data, *more: data,
    "torch._utils._rebuild_parameter_with_state": lambda _, data, *more: data,
    "torch._tensor._rebuild_from_type_v2": lambda _, *more: StandIn("torch._utils._rebuild_wrapper_subclass"),
    "torch.Size": lambda _, sizes=(): tuple(sizes),
    "torch.device": lambda _, *names: ":".join(str(name) for name in names if isinstance(name, (str, int))),
    "collections.OrderedDict": _mapping(collections.OrderedDict),
    "collections.defaultdict": _mapping(dict),
    "collections.Counter": _mapping(collections.Counter),
    "builtins.dict": _mapping(dict),
    "builtins.set": lambda _, items=(): {plain_key(item) for item in items},
    "builtins.frozenset": lambda _, items=(): {plain_key(item) for item in items},
    "builtins.bytearray": lambda _, content=b"", *more: bytearray(content if isinstance(content, bytes) else b""),
    "builtins.complex": lambda _, real=0.0, imaginary=0.0: complex(real, imaginary),
    "_codecs.encode": _encoded,
    "numpy._core.multiarray.scalar": _number,
    "numpy.dtype": lambda _, *arguments: StandIn("numpy.dtype", arguments),
}
"""What a file may name and gets: none of these does more than to arrange what is in the file."""

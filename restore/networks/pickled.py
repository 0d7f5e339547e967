"""Takes the values out of a pickle without running anything of it.

A pickle is a program: it names functions and classes, and calls them. Nothing that a file names is imported or called
here. Its instructions are taken one by one, as the standard library's `pickletools` decodes them, and build plain
values; tensors are made of the bytes that are stored, once their sizes have been compared with these. Whatever else a
file names becomes a `StandIn`, which does nothing: so weights can be read beside settings, paths and numbers of numpy.
"""

from __future__ import annotations

import collections
import itertools
import math
import pickletools
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import torch

__all__ = ["DamagedError", "PickleReader", "StandIn"]

MOST_SHARED = 4  # tensors may share what is stored, but not be many times more
MOST_INSTRUCTIONS = 5_000_000  # each may make an object; a training state of ten thousand tensors takes 300,000
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


class PickleReader:
    """Takes the instructions of a pickle.

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

    def read(self, file: BinaryIO) -> Any:
        """The value of the pickle that begins here; the file is then behind it."""
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        constants = set(_CONSTANTS.split())
        for operation, argument, _ in itertools.islice(pickletools.genops(file), MOST_INSTRUCTIONS):
            name = operation.name
            if name == "STOP":
                return self._stack.pop()
            if name in constants:
                self._stack.append(argument)
            elif name in _PUSHED:
                self._stack.append(_PUSHED[name]())
            elif name in _OPERATIONS:
                _OPERATIONS[name](self, argument)
            else:
                raise DamagedError(f"it holds the instruction {name}")
        raise DamagedError(f"it has no end, or more than {MOST_INSTRUCTIONS:,} instructions")

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marked.pop()
        return items

    def _mark(self, _: Any) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _pop(self, _: Any) -> None:
        self._stack.pop() if self._stack else self._since_mark()

    def _pop_mark(self, _: Any) -> None:
        self._since_mark()

    def _duplicate(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _remember(self, number: int | None) -> None:
        self._memo[len(self._memo) if number is None else number] = self._stack[-1]

    def _recall(self, number: int) -> None:
        self._stack.append(self._memo[number])

    def _marked_tuple(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append(tuple(items))

    def _marked_list(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append(items)

    def _marked_set(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append({_key(item) for item in items})

    def _marked_dict(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append(dict(_pairs(items)))

    def _last(self, number: int) -> tuple[Any, ...]:
        if len(self._stack) < number:
            raise DamagedError("its instructions do not fit each other")
        items = self._stack[-number:]
        del self._stack[-number:]
        return tuple(items)

    def _append(self, _: Any) -> None:
        self._add([self._stack.pop()])

    def _extend(self, _: Any) -> None:
        self._add(self._since_mark())

    def _add(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, set):
            target.update(map(_key, items))
        elif not isinstance(target, StandIn):
            raise DamagedError("its instructions do not fit each other")

    def _set_many(self, _: Any) -> None:
        self._set(self._since_mark())

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, dict):
            target.update(_pairs(items))
        elif not isinstance(target, StandIn):
            raise DamagedError("its instructions do not fit each other")

    def _name(self, argument: str) -> None:
        self._push_named(*argument.split(" ", 1))

    def _name_from_stack(self, _: Any) -> None:
        module, name = self._last(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise DamagedError("it names something by what is no text")
        self._push_named(module, name)

    def _push_named(self, module: str, name: str) -> None:
        full = f"{_MODULES.get(module, module)}.{name}"
        dtype = _dtype(full)
        if dtype is None:
            self._named[full] = None
        self._stack.append(StandIn(full) if dtype is None else dtype)

    def _call(self, _: Any) -> None:
        function, arguments = self._last(2)
        self._stack.append(self._made(function, arguments))

    def _call_with_names(self, _: Any) -> None:
        function, arguments, _names = self._last(3)
        self._stack.append(self._made(function, arguments))

    def _instance(self, argument: str) -> None:
        arguments = tuple(self._since_mark())
        self._push_named(*argument.split(" ", 1))
        self._stack.append(self._made(self._stack.pop(), arguments))

    def _object(self, _: Any) -> None:
        function, *arguments = self._since_mark()
        self._stack.append(self._made(function, tuple(arguments)))

    def _made(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, StandIn) or not isinstance(arguments, tuple):
            raise DamagedError("it calls what cannot be called")
        if function.name == "torch._tensor._rebuild_from_type_v2" and len(arguments) == 4:
            return self._made(arguments[0], arguments[2])
        if function.name == "copyreg._reconstructor" and arguments and isinstance(arguments[0], StandIn):
            return StandIn(arguments[0].name)
        make = _MADE.get(function.name)
        if make:
            self._may_copy -= sum(len(each) for each in arguments if isinstance(each, Sized))
            if self._may_copy < 0:
                raise DamagedError("it copies the same values again and again")
        return make(self, *arguments) if make else StandIn(function.name, arguments)

    def _build(self, _: Any) -> None:
        target, state = self._stack[-2], self._stack.pop()
        if isinstance(target, StandIn):
            target.state = state

    def _persistent(self, _: Any) -> None:
        match self._stack.pop():
            case ("storage", StandIn(name=kind), str(key), str(location), int(num), *view):
                self._stack.append(self._storage(kind, key, location, num, view[0] if view else None))
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


def _key(key: Any) -> Hashable:
    """The key itself where it is plain; anything else could take for ever to compare."""
    return key if isinstance(key, (str, bytes, int, float, type(None))) else StandIn("a key")


def _pairs(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    for place in range(0, len(items), 2):
        yield _key(items[place]), items[place + 1]


def _dtype(name: str) -> torch.dtype | None:
    found = vars(torch).get(name.removeprefix("torch.")) if name.startswith("torch.") else None
    return found if isinstance(found, torch.dtype) else None


def _storage_type(name: str) -> torch.dtype | None:
    """The type of the values in a storage class; None for quantised ones, and for what is none."""
    is_storage = re.fullmatch(r"torch(\.storage|\.cuda)?\.\w+Storage", name)
    return _STORAGES.get(name.rpartition(".")[2].removesuffix("Storage")) if is_storage else None


def _number(_: PickleReader, kind: Any, content: Any = b"") -> Any:
    """A number of numpy as one of Python."""
    code, order = (kind.arguments[0], kind.state[1] if kind.state else "<") if isinstance(kind, StandIn) else ("", "<")
    if not isinstance(content, bytes) or not re.fullmatch(r"[biuf][1248]", str(code)):
        return StandIn("numpy.generic")
    values = np.frombuffer(content, f"{'>' if order == '>' else '<'}{code}")
    return values[0].item() if len(values) == 1 else StandIn("numpy.generic")


def _encoded(_: PickleReader, text: str, how: str = "utf-8") -> bytes:
    return text.encode("latin1" if how in ("latin1", "latin-1") else "utf-8")


def _mapping(kind: type) -> Callable[..., Any]:
    def make(_: PickleReader, *arguments: Any) -> Any:
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
    "torch._utils._rebuild_tensor": PickleReader.tensor,
    "torch._utils._rebuild_tensor_v2": PickleReader.tensor,
    "torch._utils._rebuild_tensor_v3": PickleReader.tensor,
    "torch._utils._rebuild_parameter": lambda _, data, *more: data,
    "torch._utils._rebuild_parameter_with_state": lambda _, data, *more: data,
    "torch._tensor._rebuild_from_type_v2": lambda _, *more: StandIn("torch._utils._rebuild_wrapper_subclass"),
    "torch.Size": lambda _, sizes=(): tuple(sizes),
    "torch.device": lambda _, *names: ":".join(str(name) for name in names if isinstance(name, (str, int))),
    "collections.OrderedDict": _mapping(collections.OrderedDict),
    "collections.defaultdict": _mapping(dict),
    "collections.Counter": _mapping(collections.Counter),
    "builtins.dict": _mapping(dict),
    "builtins.set": lambda _, items=(): {_key(item) for item in items},
    "builtins.frozenset": lambda _, items=(): {_key(item) for item in items},
    "builtins.bytearray": lambda _, content=b"", *more: bytearray(content if isinstance(content, bytes) else b""),
    "builtins.complex": lambda _, real=0.0, imaginary=0.0: complex(real, imaginary),
    "_codecs.encode": _encoded,
    "numpy._core.multiarray.scalar": _number,
    "numpy.dtype": lambda _, *arguments: StandIn("numpy.dtype", arguments),
}
"""What a file may name and gets: none of these does more than to arrange what is in the file."""

_CONSTANTS = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 "
    "BYTEARRAY8 UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 FLOAT BINFLOAT"
)
_PUSHED: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_OPERATIONS: dict[str, Callable[[PickleReader, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda reader, argument: None),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), PickleReader._remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), PickleReader._recall),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), PickleReader._call),
    "TUPLE1": lambda reader, _: reader._stack.append(reader._last(1)),
    "TUPLE2": lambda reader, _: reader._stack.append(reader._last(2)),
    "TUPLE3": lambda reader, _: reader._stack.append(reader._last(3)),
    "MARK": PickleReader._mark,
    "POP": PickleReader._pop,
    "POP_MARK": PickleReader._pop_mark,
    "DUP": PickleReader._duplicate,
    "TUPLE": PickleReader._marked_tuple,
    "LIST": PickleReader._marked_list,
    "DICT": PickleReader._marked_dict,
    "FROZENSET": PickleReader._marked_set,
    "APPEND": PickleReader._append,
    "APPENDS": PickleReader._extend,
    "ADDITEMS": PickleReader._extend,
    "SETITEM": lambda reader, _: reader._set(list(reader._last(2))),
    "SETITEMS": PickleReader._set_many,
    "GLOBAL": PickleReader._name,
    "STACK_GLOBAL": PickleReader._name_from_stack,
    "NEWOBJ_EX": PickleReader._call_with_names,
    "INST": PickleReader._instance,
    "OBJ": PickleReader._object,
    "BUILD": PickleReader._build,
    "BINPERSID": PickleReader._persistent,
}

"""Takes the values out of a pickle without running anything of it.

A pickle is a program: it names functions and classes, and calls them. Nothing that a file names is imported or called
here. Its instructions are taken one by one, as the standard library's `pickletools` decodes them, and build plain
values. What is made of the names, and of the bytes that are stored, is in `restore.networks.pickled_values`.
"""

from __future__ import annotations

import itertools
import pickletools
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import torch

from restore.networks.pickled_values import DamagedError, NamedValues, StandIn, plain_key

__all__ = ["PickleReader"]

MOST_INSTRUCTIONS = 5_000_000  # each may make an object; a training state of ten thousand tensors takes 300,000


class PickleReader:
    """Takes the instructions of a pickle.

    Args:
        held: bytes that the file holds, unpacked; tensors may be a few times that, since they may share them.
        stored: gives the bytes of a storage from its key, type and number of values; None if they are not here yet.
    """

    def __init__(self, held: int, stored: Callable[[str, torch.dtype, int], bytes | None]):
        self._values = NamedValues(held, stored)

    def foreign(self) -> list[str]:
        """What the file names that has no meaning here, tensors aside."""
        return self._values.foreign()

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
        self._stack.append({plain_key(item) for item in items})

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
            target.update(map(plain_key, items))
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
        self._stack.append(self._values.named(module, name))

    def _call(self, _: Any) -> None:
        function, arguments = self._last(2)
        self._stack.append(self._values.made(function, arguments))

    def _call_with_names(self, _: Any) -> None:
        function, arguments, _names = self._last(3)
        self._stack.append(self._values.made(function, arguments))

    def _instance(self, argument: str) -> None:
        arguments = tuple(self._since_mark())
        self._push_named(*argument.split(" ", 1))
        self._stack.append(self._values.made(self._stack.pop(), arguments))

    def _object(self, _: Any) -> None:
        function, *arguments = self._since_mark()
        self._stack.append(self._values.made(function, tuple(arguments)))

    def _build(self, _: Any) -> None:
        target, state = self._stack[-2], self._stack.pop()
        if isinstance(target, StandIn):
            target.state = state

    def _persistent(self, _: Any) -> None:
        self._stack.append(self._values.persistent(self._stack.pop()))


def _pairs(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    for place in range(0, len(items), 2):
        yield plain_key(items[place]), items[place + 1]


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

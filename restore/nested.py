"""Arguments that are components themselves: how an annotation says so, and where such components stand in a value.

    Mixers = Annotated[str | Mapping[str, Any], Nested(MIXERS, "dim")]

    class Network(nn.Module):
        def __init__(self, mixers: Mixers | Sequence[Mixers] = ("window",), teacher: Teacher | None = None): ...

An annotation may hold them at any depth of lists, mappings, optional values and unions. The value is passed on as it is
written, a name or a block; `Registry.build` of the nested registry takes both.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from restore.errors import Problem

if TYPE_CHECKING:
    from restore.registry import Registry

__all__ = ["Nested", "marker_of", "name_or_block", "nested_components"]

_UNIONS = (typing.Union, types.UnionType)


class Nested:
    """In an `Annotated` argument: the argument is itself a component, given by its name or as a block.

    Args:
        registry: where its name is looked up.
        supplied: arguments of the nested component that its owner passes, so that option files cannot.
    """

    keyword_only = False

    def __init__(self, registry: Registry, *supplied: str):
        self.registry, self.supplied = registry, supplied

    def __repr__(self) -> str:
        return f"Nested({self.registry.kind})"

    def __deepcopy__(self, memo: Any) -> Nested:
        return self  # pydantic copies the JSON schemas in which it stands; a registry is one of its kind

    def check(self, value: Any, path: str) -> list[Problem]:
        """Every mistake in a component that stands at a dotted path, and in those that it holds."""
        return self.registry.check(value, path, *self.supplied)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """A name or a block; what is in it is checked by `check`."""
        from pydantic_core import PydanticCustomError, core_schema

        def is_one(value: Any) -> Any:
            if isinstance(value, (str, Mapping)):
                return value
            raise PydanticCustomError("nested", "expected {expected}", {"expected": name_or_block(self.registry.kind)})

        return core_schema.no_info_plain_validator_function(is_one, metadata={"nested": self})


def name_or_block(kind: str) -> str:
    """What a component of some kind is given as, for messages."""
    article = "an" if kind[0] in "aeiou" else "a"
    return f"the name of {article} {kind} or a block {{type: NAME, argument: value}}"


def nested_components(annotation: Any, value: Any, path: str = "") -> Iterator[tuple[str, Any, Nested]]:
    """The components in the value of an argument that is annotated so: (dotted path, name or block, what it is).

    What does not fit the annotation is left out: it is a mistake of the value itself.
    """
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    marker = marker_of(annotation)
    if marker is not None:
        if isinstance(value, (str, Mapping)):
            yield path, value, marker
    elif origin is typing.Annotated:
        yield from nested_components(inner[0], value, path)
    elif origin in _UNIONS:
        yield from _in_union(inner, value, path)
    elif isinstance(value, Mapping) and _is(origin, Mapping):
        for key, item in value.items():
            yield from nested_components(inner[-1], item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)) and _is(origin, Sequence):
        alike = origin is not tuple or inner[-1] is Ellipsis
        for index, item in enumerate(value if alike else value[: len(inner)]):
            yield from nested_components(inner[0 if alike else index], item, f"{path}.{index}")


def marker_of(annotation: Any) -> Nested | None:
    """The `Nested` that an annotation itself carries; None for all others, such as a list of components."""
    metadata = getattr(annotation, "__metadata__", ())
    return next((each for each in metadata if isinstance(each, Nested)), None)


def _in_union(members: Sequence[Any], value: Any, path: str) -> Iterator[tuple[str, Any, Nested]]:
    """What the first fitting member finds; a block without `type` is rather a mapping of components, if that fits."""
    literals = [each for member in members if typing.get_origin(member) is typing.Literal for each in member.__args__]
    if isinstance(value, str) and value in literals:
        return
    if isinstance(value, Mapping) and "type" not in value:
        members = sorted(members, key=lambda member: marker_of(member) is not None)
    found = (list(nested_components(member, value, path)) for member in members)
    yield from next(filter(None, found), [])


def _is(origin: Any, kind: type) -> bool:
    return isinstance(origin, type) and issubclass(origin, kind)

"""Every resolved option with its default and the place that set it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from restore.options import components
from restore.options.schema import Options, Section
from restore.options.schema.section import plain
from restore.options.tree import Origin, Tree

__all__ = ["Row", "explain"]

NO_DEFAULT = inspect.Parameter.empty


@dataclass(frozen=True)
class Row:
    """One option.

    Attributes:
        path: dotted path.
        value: what it resolves to.
        default: what it would be otherwise; `NO_DEFAULT` where it must be given.
        origin: where it was set; None for a default, and for what follows from another option.
    """

    path: str
    value: Any
    default: Any
    origin: Origin | None

    @property
    def differs(self) -> bool:
        """Whether the value is another than the default."""
        return self.default is NO_DEFAULT or self.value != self.default


def explain(options: Options, tree: Tree) -> list[Row]:
    """A row for each option; those that are null by default and not given are left out."""
    rows = [Row(path, value, default, _origin(tree, path)) for path, value, default in _section(options, "")]
    return [row for row in rows if row.origin is not None or row.differs or row.value is not None]


def _origin(tree: Tree, path: str) -> Origin | None:
    """Where the value at `path` itself was set, not merely a block around it."""
    place = tree.place(path)
    return tree.origins.get(place)


Entry = tuple[str, Any, Any]


def _section(section: Section, prefix: str) -> Iterator[Entry]:
    for name, field in type(section).model_fields.items():
        default = NO_DEFAULT if field.is_required() else field.get_default(call_default_factory=True)
        yield from _entries(f"{prefix}{name}", getattr(section, name), default)
    for name, value in (section.model_extra or {}).items():
        yield f"{prefix}{name}", value, NO_DEFAULT


def _entries(path: str, value: Any, default: Any) -> Iterator[Entry]:
    slot = components.slot_of(path)
    if isinstance(value, Section):
        yield from _section(value, f"{path}.")
    elif isinstance(value, Mapping) and slot is not None:
        yield from _component(path, value, slot)
    elif isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _entries(f"{path}.{key}", item, NO_DEFAULT)
    else:
        yield path, plain(value), plain(default)


def _component(path: str, block: Mapping[str, Any], slot: components.Slot) -> Iterator[Entry]:
    """The arguments of a component: those given, then its own defaults where it is known."""
    parameters: Mapping[str, inspect.Parameter] = {}
    if components.knows(slot.registry, block["type"]):
        parameters = inspect.signature(slot.registry.get(block["type"])).parameters
    for key, value in block.items():
        default = parameters[key].default if key in parameters else NO_DEFAULT
        yield f"{path}.{key}", plain(value), plain(default)
    for key, parameter in parameters.items():
        configurable = parameter.kind is parameter.KEYWORD_ONLY or not slot.keyword_only
        if key not in block and key not in slot.supplied and configurable and parameter.default is not NO_DEFAULT:
            yield f"{path}.{key}", plain(parameter.default), plain(parameter.default)

"""Every resolved option with its default and the place that set it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from restore.nested import Nested, nested_components
from restore.options import components
from restore.options.schema import Options, Section
from restore.options.schema.datasets import DatasetOptions
from restore.options.schema.section import plain
from restore.options.tree import Origin, Tree
from restore.registry import DATASETS, Registry
from restore.signature import annotations_of

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
    """A row for each option; those that are null by default and not given are left out.

    Components inside components are shown with their arguments, those that are given by name alone as well.
    """
    rows = [Row(path, value, default, _origin(tree, path)) for path, value, default in _section(options, "")]
    return [row for row in rows if row.origin is not None or row.differs or row.value is not None]


def _origin(tree: Tree, path: str) -> Origin | None:
    """Where the value at `path` itself was set, not merely a block around it."""
    place = tree.place(path)
    if place[-1] == "type" and place not in tree.origins and isinstance(tree.value(place[:-1]), str):
        place = place[:-1]  # a component that is given by its name alone
    return tree.origins.get(place)


Entry = tuple[str, Any, Any]


def _section(section: Section, prefix: str) -> Iterator[Entry]:
    for name, field in type(section).model_fields.items():
        default = NO_DEFAULT if field.is_required() else field.get_default(call_default_factory=True)
        objective = getattr(section, "model_type", None)
        yield from _entries(f"{prefix}{name}", getattr(section, name), default, objective)
    annotations = _annotations(DATASETS, section.type) if isinstance(section, DatasetOptions) else {}
    for name, value in (section.model_extra or {}).items():
        yield from _argument(f"{prefix}{name}", value, NO_DEFAULT, annotations.get(name))


def _entries(path: str, value: Any, default: Any, objective: Any = None) -> Iterator[Entry]:
    slot = components.slot_of(path, objective)
    if isinstance(value, Section):
        yield from _section(value, f"{path}.")
    elif isinstance(value, Mapping) and slot is not None:
        yield from _component(path, value, NO_DEFAULT, slot)
    elif isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _entries(f"{path}.{key}", item, NO_DEFAULT)
    else:
        yield path, plain(value), plain(default)


def _component(path: str, given: Any, by_default: Any, kind: components.Slot | Nested) -> Iterator[Entry]:
    """The arguments of a component: those given, then its own defaults where it is known.

    Args:
        path: dotted path of the component.
        given: its name or block.
        by_default: the name or block that would stand here otherwise; `NO_DEFAULT` if it must be given.
        kind: what stands here.
    """
    block, otherwise = _as_block(given), _as_block(by_default)
    parameters: Mapping[str, inspect.Parameter] = {}
    annotations = _annotations(kind.registry, block["type"])
    if components.knows(kind.registry, block["type"]):
        parameters = inspect.signature(kind.registry.get(block["type"])).parameters
    defaults = {key: parameter.default for key, parameter in parameters.items()}
    if otherwise.get("type") == block["type"]:
        defaults |= otherwise
    defaults["type"] = otherwise.get("type", NO_DEFAULT)
    for key, value in block.items():
        yield from _argument(f"{path}.{key}", value, defaults.get(key, NO_DEFAULT), annotations.get(key))
    for key, parameter in parameters.items():
        configurable = parameter.kind is parameter.KEYWORD_ONLY or not kind.keyword_only
        if key not in block and key not in kind.supplied and configurable and parameter.default is not NO_DEFAULT:
            yield f"{path}.{key}", plain(parameter.default), plain(defaults[key])


def _argument(path: str, value: Any, default: Any, annotation: Any) -> Iterator[Entry]:
    """A given argument: what it is, or the arguments of the components that it holds."""
    inside = {place: nested for place, _, nested in nested_components(annotation, value, path)}
    yield from _items(path, value, default, inside) if inside else [(path, plain(value), plain(default))]


def _items(path: str, value: Any, default: Any, inside: Mapping[str, Nested]) -> Iterator[Entry]:
    """The items of lists and mappings down to the components `inside` them, beside those of the default."""
    items, defaults = _by_key(value), _by_key(default)
    if path in inside:
        yield from _component(path, value, default, inside[path])
    elif items:
        alike = items.keys() == defaults.keys()
        for key, item in items.items():
            yield from _items(f"{path}.{key}", item, defaults[key] if alike else NO_DEFAULT, inside)
    else:
        yield path, plain(value), plain(default)


def _by_key(values: Any) -> Mapping[Any, Any]:
    if isinstance(values, (list, tuple)):
        return dict(enumerate(values))
    return values if isinstance(values, Mapping) else {}


def _as_block(component: Any) -> Mapping[str, Any]:
    """A name as a block; nothing for what is neither."""
    if isinstance(component, str):
        return {"type": component}
    return component if isinstance(component, Mapping) else {}


def _annotations(registry: Registry, name: str) -> Mapping[str, Any]:
    return annotations_of(registry.get(name)) if components.knows(registry, name) else {}

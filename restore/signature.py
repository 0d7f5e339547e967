"""Validation of plain values against a signature or a pydantic model, with messages that say what to do."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import itertools
import re
import reprlib
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from restore.errors import OptionsError, Problem, RestoreError, nearest

__all__ = ["annotations_of", "checked_arguments", "model_in", "refusals_named", "signature_model", "validate"]


@functools.cache
def signature_model(component: Callable[..., Any], supplied: tuple[str, ...], keyword_only: bool) -> Any:
    """A pydantic model whose fields are the configurable arguments of `component`."""
    import pydantic

    hints = annotations_of(component)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(component).parameters.items():
        positional = parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        if name in supplied or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if positional and keyword_only:
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints.get(name, Any), default)
    config = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())
    return pydantic.create_model(_target(component).__name__, __config__=config, **fields)


def _target(component: Callable[..., Any]) -> Any:
    return component.func if isinstance(component, functools.partial) else component


@functools.cache
def annotations_of(component: Callable[..., Any]) -> dict[str, Any]:
    """The annotation of each argument of a component, with what `Annotated` adds to it.

    A third-party signature whose annotations cannot be resolved has none.
    """
    target = _target(component)
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:
        if (getattr(function, "__module__", None) or "").startswith("restore."):
            raise
        return {}


def checked_arguments(
    component: Callable[..., Any],
    block: Mapping[str, Any],
    path: str = "",
    supplied: tuple[str, ...] = (),
    keyword_only: bool = False,
) -> tuple[list[Problem], dict[str, Any]]:
    """The mistakes in a `{type: NAME, argument: value}` block, and its arguments.

    These are as the signature of `component` wants them, or, if there are mistakes, as they were given.
    """
    owner = block["type"]
    taken = {key for key in supplied if key in block and key in inspect.signature(component).parameters}
    message = f"not an option of {owner} here: it is set by what uses it. Remove it."
    problems = [Problem(f"{path}.{key}" if path else key, message) for key in block if key in taken]
    given = {key: value for key, value in block.items() if key != "type" and key not in taken}
    mistakes, validated = validate(signature_model(component, supplied, keyword_only), given, path, owner=owner)
    problems += mistakes
    return problems, given if problems else {key: getattr(validated, key) for key in given}


@contextlib.contextmanager
def refusals_named(name: str, path: str) -> Iterator[None]:
    """Where each argument is right, but not with the others: a component's ValueError, named with its place.

    So is what a component refuses that it builds itself, whose path begins at the block of the outer one.
    """
    try:
        yield
    except OptionsError as error:
        raise OptionsError([_within(path, problem) for problem in error.problems]) from error.__cause__
    except RestoreError:
        raise
    except ValueError as error:
        raise OptionsError([Problem(path, f"{name}: {error}.")]) from error


def _within(path: str, problem: Problem) -> Problem:
    """A mistake that a component found while it was built, whose path begins at its own block."""
    if problem.file is not None or not path:
        return problem
    return dataclasses.replace(problem, path=f"{path}.{problem.path}" if problem.path else path)


def validate(model: Any, values: Mapping[str, Any], path: str = "", owner: str = "") -> tuple[list[Problem], Any]:
    """Validate `values` with a pydantic model; returns the mistakes and the validated object (None if any).

    The model may hold further models. A value that fits no member of a union is one mistake, not one for each member;
    where one member fits but for something inside, only that is a mistake.
    """
    import pydantic

    try:
        return [], model.model_validate(dict(values))
    except pydantic.ValidationError as error:
        mistakes: dict[tuple[str | int, ...], list[Mapping[str, Any]]] = {}
        for item in error.errors():
            mistakes.setdefault(_place(item, values), []).append(item)
        deeper = {place[:depth] for place in mistakes for depth in range(len(place))}
        mistakes = {
            place: items
            for place, items in mistakes.items()
            if place not in deeper or not all(map(_is_of_another_kind, items))
        }
        prefix = (path,) if path else ()
        problems = [
            Problem(".".join(map(str, (*prefix, *place))), _message(items, place, model, owner))
            for place, items in itertools.islice(mistakes.items(), _MOST_MISTAKES)
        ]
        if len(mistakes) > _MOST_MISTAKES:
            problems.append(Problem(path, f"and {len(mistakes) - _MOST_MISTAKES:,} more mistakes."))
        return problems, None


def _is_of_another_kind(item: Mapping[str, Any]) -> bool:
    """Whether a value is not what is wanted at all; if it has mistakes inside as well, another member of a union is."""
    return item["loc"][-1] != "[key]" and bool(_expected(item))


def _place(item: Mapping[str, Any], values: Any) -> tuple[str | int, ...]:
    """Where in `values` a mistake stands: pydantic's location without the names of union members."""
    place: list[str | int] = []
    for part in item["loc"]:
        if _holds(values, part):
            values = values[part]
            place.append(part)
    if item["type"] == "missing":
        place.append(item["loc"][-1])
    return tuple(place)


def _holds(values: Any, part: str | int) -> bool:
    if isinstance(values, Mapping):
        return part in values
    return isinstance(values, Sequence) and not isinstance(values, str) and part in range(len(values))


def model_in(annotation: Any) -> Any:
    """The pydantic model that an annotation holds, directly or as a member of a union; None if it holds none."""
    if hasattr(annotation, "model_fields"):
        return annotation
    if typing.get_origin(annotation) in _WRAPPERS:
        return next(filter(None, map(model_in, typing.get_args(annotation))), None)
    return None


_WRAPPERS = (typing.Union, types.UnionType, typing.Annotated)


def _descend(annotation: Any, part: str | int) -> Any:
    """The annotation of the field, mapping value or list item `part` of something annotated so; None if unknown."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in _WRAPPERS:
        return next((found for member in inner if (found := _descend(member, part)) is not None), None)
    if hasattr(annotation, "model_fields"):
        field = annotation.model_fields.get(part)
        return field.annotation if field else None
    return inner[-1] if origin in (dict, list) else None


def _paths(model: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The name and dotted path of every field of the sections below `model`."""
    for key, field in model.model_fields.items():
        section = model_in(field.annotation)
        if section is not None:
            yield from ((name, f"{prefix}{key}.{name}") for name in section.model_fields)
            yield from _paths(section, f"{prefix}{key}.")


def _message(items: Sequence[Mapping[str, Any]], place: Sequence[str | int], model: Any, owner: str) -> str:
    of = f" of {owner}" if owner else ""
    kind, given = items[0]["type"], items[0]["input"]
    if kind == "extra_forbidden":
        section = model_in(functools.reduce(_descend, place[:-1], model)) or model
        return f"unknown option{of}.{_suggestion(str(place[-1]), section, model)}"
    if kind == "missing" and isinstance(place[-1], int):
        return f"missing: this list needs at least {place[-1] + 1} values."
    if kind == "missing":
        section = model_in(functools.reduce(_descend, place[:-1], model)) or model
        meaning = section.model_fields[place[-1]].description if place[-1] in section.model_fields else None
        return f"missing. {meaning}" if meaning else f"missing: this option{of} has no default."
    expected = " or ".join(dict.fromkeys(filter(None, map(_expected, items))))
    if not expected:
        message = items[0]["msg"].removeprefix("Value error, ")
        return message if message.endswith((".", "?")) else f"{message}; given: {_short(given)}."
    choices = [choice for item in items for choice in re.findall("'([^']*)'", item.get("ctx", {}).get("expected", ""))]
    hint = nearest(given, choices) if isinstance(given, str) else ""
    if kind == "string_type" and isinstance(given, (int, float)):
        hint = f" Put it in quotes to make it text: '{given}'."
    return f"expected {expected}; given: {_short(given)}.{hint}"


def _suggestion(name: str, section: Any, model: Any) -> str:
    allowed = list(section.model_fields)
    hint = nearest(name, allowed)
    if not hint:
        elsewhere = dict(reversed([*_paths(model)]))  # of several sections with such a field, the first
        similar = nearest(name, elsewhere)
        hint = f" It belongs elsewhere: {elsewhere[name]}." if name in elsewhere else _in_full(similar, elsewhere)
    shown = allowed[:_MOST_SHOWN] if hint else allowed
    rest = f" and {len(allowed) - len(shown)} more" if len(shown) < len(allowed) else ""
    return f"{hint} Allowed: {', '.join(shown) or 'none'}{rest}."


def _in_full(suggestion: str, paths: Mapping[str, str]) -> str:
    return re.sub("'(.*)'", lambda match: f"'{paths[match[1]]}'", suggestion)


_MOST_MISTAKES = 50  # of a file or a block
_MOST_SHOWN = 20  # of the allowed names, where one that was probably meant stands before them


_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list such as [1, 2]",
    "tuple": "a list such as [1, 2]",
    "dict": "a block of `key: value` lines",
    "mapping": "a block of `key: value` lines",
    "model": "a block of `key: value` lines",
    "none": "nothing (~)",
}


def _expected(item: Mapping[str, Any]) -> str:
    """What the schema wants here, in words; empty for a mistake that only pydantic's own message describes."""
    kind, context = item["type"], item.get("ctx", {})
    if kind in ("literal_error", "enum", "nested"):
        return str(context["expected"])
    if kind in _COMPARISONS:
        limit = next(iter(context.values()))
        return f"a number {_COMPARISONS[kind]} {limit:g}"
    if kind == "is_instance_of" and context["class"] in ("Sequence", "Iterable"):
        return _EXPECTED["list"]
    if kind.endswith(("_type", "_parsing", "_from_float", "_required")):
        return _EXPECTED.get(kind.split("_")[0], "")
    return ""


_COMPARISONS = {
    "greater_than": "above",
    "greater_than_equal": "of at least",
    "less_than": "below",
    "less_than_equal": "of at most",
}


def _short(value: Any) -> str:
    shortened = reprlib.Repr()
    shortened.maxstring = shortened.maxother = 80
    return shortened.repr(value)

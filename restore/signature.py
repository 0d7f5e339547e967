"""Validation of plain values against a signature or a pydantic model, with messages that say what to do."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from restore.errors import Problem, nearest

__all__ = ["signature_model", "validate"]


@functools.cache
def signature_model(component: Callable[..., Any], supplied: tuple[str, ...], keyword_only: bool) -> Any:
    """A pydantic model whose fields are the configurable arguments of `component`."""
    import pydantic

    target = component.func if isinstance(component, functools.partial) else component
    hints = _hints(target.__init__ if inspect.isclass(target) else target)
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
    return pydantic.create_model(target.__name__, __config__=config, **fields)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # a third-party signature whose annotations cannot be resolved is taken as it is
        return {}


def validate(model: Any, values: Mapping[str, Any], path: str = "", owner: str = "") -> tuple[list[Problem], Any]:
    """Validate `values` with a pydantic model; returns the mistakes and the validated object (None if any)."""
    import pydantic

    try:
        return [], model.model_validate(dict(values))
    except pydantic.ValidationError as error:
        problems = []
        for item in error.errors():
            place = ".".join([path, *(str(part) for part in item["loc"])] if path else [str(p) for p in item["loc"]])
            problems.append(Problem(place, _message(item, model, owner)))
        return problems, None


def _message(item: Mapping[str, Any], model: Any, owner: str) -> str:
    of = f" of {owner}" if owner else ""
    if item["type"] == "extra_forbidden":
        name, allowed = str(item["loc"][-1]), list(model.model_fields)
        return f"unknown option{of}.{nearest(name, allowed)} Allowed: {', '.join(allowed) or 'none'}."
    if item["type"] == "missing":
        return f"missing: this option{of} has no default."
    return f"{item['msg']}; given: {item['input']!r}."

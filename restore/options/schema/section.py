"""What the sections of an option file have in common: strict models, keys by pattern, and a few types."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from restore.files import name_problem, path_problem
from restore.signature import model_in

__all__ = ["Block", "Blocks", "Name", "Path", "Probability", "Range", "Roots", "Section", "fitted", "plain"]


class Section(pydantic.BaseModel):
    """A block of an option file: every key is known, typed and described. A block that is null is an empty one.

    Attributes:
        patterns: further keys, by regular expression: their type and description (`network_r` beside `network_g`).
    """

    model_config = pydantic.ConfigDict(extra="forbid", protected_namespaces=(), use_attribute_docstrings=True)
    patterns: ClassVar[dict[str, tuple[Any, str]]] = {}

    @pydantic.model_validator(mode="before")
    @classmethod
    def _null_is_empty(cls, values: Any) -> Any:
        return {} if values is None else values

    def resolved(self) -> dict[str, Any]:
        """Plain values that validate to the same section; what is null by default and by choice is left out."""
        values = {name: getattr(self, name) for name in type(self).model_fields} | (self.model_extra or {})
        return {
            key: plain(value) for key, value in values.items() if value is not None or not self._null_by_default(key)
        }

    def _null_by_default(self, name: str) -> bool:
        field = type(self).model_fields.get(name)
        return field is not None and field.default is None


def plain(value: Any) -> Any:
    """Sections, mappings and sequences as what YAML knows."""
    if isinstance(value, Section):
        return value.resolved()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def fitted(model: type[Section], values: Mapping[str, Any]) -> type[Section]:
    """`model` with a field for every key of `values` that matches one of its patterns, in sections below as well."""
    further: dict[str, Any] = {}
    for key, value in values.items():
        field = model.model_fields.get(key)
        section = model_in(field.annotation) if field else None
        if field is None:
            for pattern, (annotation, description) in model.patterns.items():
                if re.fullmatch(pattern, key):
                    further[key] = (annotation, Field(None, description=description))
        elif section is not None and isinstance(value, Mapping):
            wider = fitted(section, value)
            if wider is not section:
                further[key] = (wider, copy.copy(field))
    return pydantic.create_model(model.__name__, __base__=model, **further) if further else model


def _is_component(block: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(block.get("type"), str):
        raise PydanticCustomError("component", "this block needs `type:`, the name of a component")
    return block


def _without_null(blocks: Any) -> Any:
    return {key: block for key, block in blocks.items() if block is not None} if isinstance(blocks, dict) else blocks


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise PydanticCustomError("range", "the lower limit comes first")
    return limits


def _none_is_null(value: Any) -> Any:
    return None if isinstance(value, str) and value.lower() == "none" else value


Block = Annotated[dict[str, Any], AfterValidator(_is_component)]
"""The block of a component, `{type: NAME, argument: value}`, for `Registry.build`: the only kind of raw dict."""

Blocks = BeforeValidator(_without_null)
"""For a mapping of blocks: those that are null are dropped."""


def _is_path(text: str) -> str:
    return _refused("path", path_problem(text), text)


def _is_name(text: str) -> str:
    return _refused("name", name_problem(text), text)


def _refused(kind: str, problem: str, text: str) -> str:
    if problem:
        shown = text if len(text) <= 60 and text.isprintable() else f"{ascii(text)[1:50]}..."
        raise PydanticCustomError(kind, "'{shown}' cannot name files: {problem}.", {"shown": shown, "problem": problem})
    return text


Path = Annotated[str, AfterValidator(_is_path)]
"""A file or folder; relative ones are relative to the working directory. `~/` was expanded when the file was read."""

Name = Annotated[str, AfterValidator(_is_name)]
"""What becomes the name of a file or folder, or a part of one: it leads nowhere else."""

Roots = Annotated[Path | list[Path] | None, BeforeValidator(_none_is_null)]
"""One folder or lmdb, or several that are read as one; the text `none` (Restormer's spelling) is null."""

Probability = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[tuple[float, float], AfterValidator(_ascending)]

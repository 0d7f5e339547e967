"""The JSON schema of option files, for editors: completion, descriptions and errors while typing.

# yaml-language-server: $schema=restore.schema.json      (the first line of an option file)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from restore.nested import Nested
from restore.options import components
from restore.options.schema import Options, Section
from restore.options.schema.datasets import PHASES, DatasetOptions
from restore.options.schema.path import PathOptions
from restore.options.schema.train import TrainOptions
from restore.options.schema.val import ValOptions
from restore.registry import DATASETS, OBJECTIVES, Registry
from restore.signature import signature_model

__all__ = ["json_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NULL = {"type": "null"}
_NESTED = "nested component"
"""The key under which the generator leaves what stands in a place."""
_MANY = 100
"""A group of so many names is called what its class is called."""
_EXTENDS = {
    "description": "Option files, relative to this one, that this one adds to; the later over the earlier.",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}


def json_schema() -> dict[str, Any]:
    """The schema of an option file, with the arguments of every registered component, also of those inside others."""
    schema = Options.model_json_schema(schema_generator=_Generator)
    definitions = schema["$defs"]
    blocks = _Blocks(definitions)
    for section, prefix in ((Options, ""), (TrainOptions, "train."), (ValOptions, "val."), (PathOptions, "path.")):
        _complete(section, prefix, schema if section is Options else definitions[section.__name__], blocks)
    _complete_datasets(schema, definitions[DatasetOptions.__name__])
    schema["properties"]["extends"] = _EXTENDS
    schema["properties"]["model_type"] |= _choice(OBJECTIVES)
    return {"$schema": _DIALECT, "title": "Option file", **schema}


class _Generator(GenerateJsonSchema):
    """Leaves out what JSON cannot say (a class as argument, a default that is a tensor) instead of failing."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default", "skipped-discriminator"}  # noqa: RUF012

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}

    def function_plain_schema(self, schema: Any) -> JsonSchemaValue:
        """Leaves a `Nested` where a component stands, for `_Blocks`."""
        nested = schema.get("metadata", {}).get("nested")
        return super().function_plain_schema(schema) if nested is None else {_NESTED: nested}


class _Blocks:
    """The blocks of each kind of component, defined when they are first referred to.

    Args:
        definitions: where to define them.
    """

    def __init__(self, definitions: dict[str, Any]):
        self.definitions = definitions
        self._titles: dict[Any, str] = {}

    def reference(self, kind: components.Slot | Nested) -> dict[str, str]:
        """A reference to the block of any component that may stand in such a place."""
        base = kind.registry.kind.replace(" ", "_")
        return self._defined((kind.registry, kind.supplied, kind.keyword_only), base, lambda: self._any_of(kind))

    def name(self, registry: Registry) -> dict[str, str]:
        """A reference to the names that a registry knows."""
        return self._defined(registry, f"{registry.kind.replace(' ', '_')}_name", lambda: _choice(registry))

    def _defined(self, key: Any, base: str, define: Callable[[], dict[str, Any]]) -> dict[str, str]:
        if key not in self._titles:
            alike = sum(title.partition("-")[0] == base for title in self._titles.values())
            title = self._titles[key] = f"{base}-{alike + 1}" if alike else base
            self.definitions[title] = define()  # its title is known already, to those that hold themselves
        return {"$ref": f"#/$defs/{self._titles[key]}"}

    def _any_of(self, kind: components.Slot | Nested) -> dict[str, Any]:
        """A block of one of the components; of any, where the registry is not part of this installation."""
        registry = kind.registry
        if not components.names(registry):
            return {"type": "object", "properties": {"type": {"type": "string"}}, "required": ["type"]}
        known = []
        for names, component in registry.groups():
            block = self._block(names, signature_model(component, kind.supplied, kind.keyword_only))
            for argument in {key for name in names[:_MANY] for key in _presets(registry.get(name))}:
                block["properties"].get(argument, {}).pop("default", None)  # each of these names has its own
                block["required"] = [key for key in block["required"] if key != argument]
            known.append(block)
        families = [
            {"type": "object", "properties": {"type": {"pattern": f"^{prefix}:"}}, "required": ["type"]}
            for prefix in registry.prefixes()
        ]
        return {"oneOf": known + families}

    def _block(self, names: Sequence[str], model: Any) -> dict[str, Any]:
        schema = self.completed(model.model_json_schema(schema_generator=_Generator))
        self.definitions |= schema.get("$defs", {})
        return {
            "title": names[0] if len(names) < _MANY else model.__name__,
            "type": "object",
            "properties": {"type": {"enum": list(names)}, **schema.get("properties", {})},
            "required": ["type", *schema.get("required", [])],
            "additionalProperties": False,
        }

    def completed(self, schema: Any) -> Any:
        """`schema` with a name or a block of a component where the generator left a `Nested`."""
        if isinstance(schema, list):
            return [self.completed(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        rest = {key: self.completed(value) for key, value in schema.items() if key != _NESTED}
        if _NESTED not in schema:
            return rest
        nested = schema[_NESTED]
        return rest | {"anyOf": [self.name(nested.registry), self.reference(nested)]}


def _presets(component: Callable[..., Any]) -> Iterable[str]:
    """The arguments that a registered name sets by default."""
    return component.keywords if isinstance(component, functools.partial) else ()


def _choice(registry: Registry) -> dict[str, Any]:
    """One of the names or aliases that a registry knows; any text where nothing is registered."""
    if not components.names(registry):
        return {"type": "string"}
    known = {"enum": [name for names, _ in registry.groups() for name in names]}
    families = [{"type": "string", "pattern": f"^{prefix}:"} for prefix in registry.prefixes()]
    return {"anyOf": [known, *families]} if families else known


def _complete(section: type[Section], prefix: str, definition: dict[str, Any], blocks: _Blocks) -> None:
    """Refer to the components, and add the keys that a section takes by pattern."""

    def described(path: str, description: str) -> dict[str, Any]:
        """What may stand at a dotted path: a block of any of its slots, or nothing."""
        slots = components.slots_of(path)
        allowed = {"anyOf": [*map(blocks.reference, slots), _NULL]} if slots else {}
        return {"description": description, **allowed}

    for name, field in definition["properties"].items():
        if components.slot_of(f"{prefix}{name}"):
            definition["properties"][name] = described(f"{prefix}{name}", field.get("description", ""))
        elif prefix and components.slot_of(f"{prefix}{name}.x"):
            field["additionalProperties"] = described(f"{prefix}{name}.x", "")
    definition["patternProperties"] = {
        f"^{pattern}$": described(prefix + pattern.replace(r"\w+", "x"), description)
        for pattern, (_, description) in section.patterns.items()
    }
    definition.pop("required", None)  # the rest may stand in a file that this one extends, or in one that extends it


def _complete_datasets(schema: dict[str, Any], dataset: dict[str, Any]) -> None:
    """Datasets are keyed by phase; what their `type` reads stands beside the keys that all have."""
    dataset["properties"]["type"] |= _choice(DATASETS)
    dataset.pop("required")
    reference = {"anyOf": [{"$ref": f"#/$defs/{DatasetOptions.__name__}"}, _NULL]}
    schema["properties"]["datasets"] = {
        "description": schema["properties"]["datasets"]["description"],
        "type": "object",
        "patternProperties": {f"^({'|'.join(PHASES)})[0-9]*(_.*)?$": reference},
        "additionalProperties": False,
    }

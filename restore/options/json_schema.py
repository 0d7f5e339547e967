"""The JSON schema of option files, for editors: completion, descriptions and errors while typing.

# yaml-language-server: $schema=restore.schema.json      (the first line of an option file)
"""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from restore.options import components
from restore.options.schema import Options, Section
from restore.options.schema.datasets import PHASES, DatasetOptions
from restore.options.schema.path import PathOptions
from restore.options.schema.train import TrainOptions
from restore.options.schema.val import ValOptions
from restore.registry import OBJECTIVES, Registry
from restore.signature import signature_model

__all__ = ["json_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NULL = {"type": "null"}
_EXTENDS = {
    "description": "Option files, relative to this one, that this one adds to; the later over the earlier.",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}


def json_schema() -> dict[str, Any]:
    """The schema of an option file, with the arguments of every registered component."""
    schema = Options.model_json_schema(schema_generator=_Generator)
    definitions = schema["$defs"]
    for slot in components.SLOTS:
        definitions[_title(slot)] = _slot(slot, definitions)
    for section, prefix in ((Options, ""), (TrainOptions, "train."), (ValOptions, "val."), (PathOptions, "path.")):
        _complete(section, prefix, schema if section is Options else definitions[section.__name__])
    _complete_datasets(schema, definitions[DatasetOptions.__name__])
    schema["properties"]["extends"] = _EXTENDS
    schema["properties"]["model_type"] |= _choice(OBJECTIVES)
    schema.pop("required")  # a file that extends another need not give everything itself
    return {"$schema": _DIALECT, "title": "Option file", **schema}


class _Generator(GenerateJsonSchema):
    """Leaves out what JSON cannot say (a class as argument, a default that is a tensor) instead of failing."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default", "skipped-discriminator"}  # noqa: RUF012

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}


def _title(slot: components.Slot) -> str:
    return slot.registry.kind.replace(" ", "_")


def _slot(slot: components.Slot, definitions: dict[str, Any]) -> dict[str, Any]:
    """A block of one of the registered components; of any, where the registry is not part of this installation."""
    names = components.names(slot.registry)
    if not names or slot.registry.kind == "dataset":
        return {"type": "object", "properties": {"type": _choice(slot.registry)}, "required": ["type"]}
    return {"oneOf": [_component(name, slot, definitions) for name in names]}


def _component(name: str, slot: components.Slot, definitions: dict[str, Any]) -> dict[str, Any]:
    model = signature_model(slot.registry.get(name), slot.supplied, slot.keyword_only)
    schema = model.model_json_schema(schema_generator=_Generator)
    definitions |= schema.pop("$defs", {})
    kind = {"enum": [name, *slot.registry.aliases(name)]}
    return {
        "title": name,
        "type": "object",
        "properties": {"type": kind, **schema.get("properties", {})},
        "required": ["type", *schema.get("required", [])],
        "additionalProperties": False,
    }


def _choice(registry: Registry) -> dict[str, Any]:
    """One of the registered names or their aliases; any text where nothing is registered."""
    names = components.names(registry)
    return (
        {"enum": [each for name in names for each in (name, *registry.aliases(name))]} if names else {"type": "string"}
    )


def _complete(section: type[Section], prefix: str, definition: dict[str, Any]) -> None:
    """Refer to the components, and add the keys that a section takes by pattern."""
    for name, field in definition["properties"].items():
        slot = components.slot_of(f"{prefix}{name}")
        if slot:
            definition["properties"][name] = _reference(slot, field.get("description", ""))
        elif prefix and components.slot_of(f"{prefix}{name}.x"):
            field["additionalProperties"] = _reference(components.slot_of(f"{prefix}{name}.x"), "")
    patterns = {}
    for pattern, (_, description) in section.patterns.items():
        slot = components.slot_of(prefix + pattern.replace(r"\w+", "x"))
        patterns[f"^{pattern}$"] = _reference(slot, description) if slot else {"description": description}
    definition["patternProperties"] = patterns


def _reference(slot: components.Slot, description: str) -> dict[str, Any]:
    return {"description": description, "anyOf": [{"$ref": f"#/$defs/{_title(slot)}"}, _NULL]}


def _complete_datasets(schema: dict[str, Any], dataset: dict[str, Any]) -> None:
    """Datasets are keyed by phase; what their `type` reads stands beside the keys that all have."""
    slot = components.slot_of("datasets.train")
    dataset["properties"]["type"] |= _choice(slot.registry)
    dataset.pop("required")
    reference = {"anyOf": [{"$ref": f"#/$defs/{DatasetOptions.__name__}"}, _NULL]}
    schema["properties"]["datasets"] = {
        "description": schema["properties"]["datasets"]["description"],
        "type": "object",
        "patternProperties": {f"^({'|'.join(PHASES)})[0-9]*(_.*)?$": reference},
        "additionalProperties": False,
    }

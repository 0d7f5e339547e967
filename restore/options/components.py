"""Where components stand in an option file, and the check of each against its registry.

Components inside components (the mixers of a network) are the registry's: see `restore.nested`.
"""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from restore.errors import OptionsError, Problem, nearest
from restore.options.absent import Family, family_of
from restore.options.schema import Options
from restore.options.schema.datasets import DatasetOptions
from restore.registry import (
    DATASETS,
    DETECTORS,
    DISCRIMINATORS,
    LOSSES,
    METRICS,
    NETWORKS,
    OBJECTIVES,
    OPTIMIZERS,
    QUALITY,
    SCHEDULERS,
    Registry,
)

__all__ = ["SLOTS", "Slot", "absent", "blocks", "check", "knows", "names", "objective_problems", "training_problems"]


@dataclass(frozen=True)
class Slot:
    """A kind of place for component blocks.

    Attributes:
        pattern: dotted paths of the blocks.
        registry: where their types are looked up.
        supplied: arguments that whoever builds the component passes itself.
        keyword_only: whether only keyword-only arguments are configurable, as `Registry.bind` has it.
    """

    pattern: str
    registry: Registry
    supplied: tuple[str, ...] = ()
    keyword_only: bool = False

    def check(self, path: str, block: Mapping[str, Any]) -> list[Problem]:
        """Every mistake in a block that stands here."""
        return self.registry.check(block, path, *self.supplied, keyword_only=self.keyword_only)


_MOST_PROBLEMS = 20  # before the rest of the blocks is left for another time
_DEEPEST = 2  # dots in the path of the deepest slot
_DATASET = Slot("datasets.*", DATASETS, ("name", "scale"))
_NETWORK = Slot("network_*", NETWORKS)
_NETWORKS = {"images": _NETWORK, "opinions": Slot("network_*", QUALITY), "boxes": Slot("network_*", DETECTORS)}
SLOTS = (
    _DATASET,
    Slot("network_d", DISCRIMINATORS),
    _NETWORK,
    Slot("val.metrics.*", METRICS, keyword_only=True),
    Slot("train.optim_*", OPTIMIZERS, ("params",)),
    Slot("train.scheduler", SCHEDULERS),
    Slot("train.*_opt", LOSSES),
)


def slot_of(path: str, objective: Any = None) -> Slot | None:
    """The slot that the block at a dotted path fills, in a file of this model type."""
    depth = path.count(".")
    found = next(
        (slot for slot in SLOTS if slot.pattern.count(".") == depth and fnmatch.fnmatch(path, slot.pattern)), None
    )
    return _NETWORKS[_gives(objective)] if found is _NETWORK else found


def slots_of(path: str) -> list[Slot]:
    """The slots that the block at a dotted path may fill, whatever the model type is."""
    slot = slot_of(path)
    return [*_NETWORKS.values()] if slot is _NETWORK else [slot] if slot else []


def blocks(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any], Slot]]:
    """Every component block of plain option values with its dotted path and slot."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            slot = slot_of(f"{prefix}{key}", values.get("model_type"))
            if slot is not None:
                yield f"{prefix}{key}", value, slot
            elif prefix.count(".") < _DEEPEST:
                yield from blocks(value, f"{prefix}{key}.")


def _gives(objective: Any) -> str:
    """What the networks of a model type make of images: see `Objective.gives`."""
    if not (isinstance(objective, str) and knows(OBJECTIVES, objective)):
        return "images"
    return getattr(OBJECTIVES.get(objective), "gives", "images")


def names(registry: Registry) -> list[str]:
    """What a registry knows; nothing where its package is not part of this installation."""
    try:
        return registry.names()
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("restore."):
            raise
        return []


def knows(registry: Registry, name: str) -> bool | None:
    """Whether a registry knows a name; None where its package is not part of this installation."""
    try:
        return name in registry
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("restore."):
            raise
        return None


def absent(values: Mapping[str, Any]) -> dict[str, str]:
    """Components that plain option values name and that are known, but not here: names by dotted path."""
    named: dict[str, tuple[Any, Registry]] = {
        f"{path}.type": (block.get("type"), slot.registry) for path, block, slot in blocks(values)
    }
    named["model_type"] = (values.get("model_type"), OBJECTIVES)
    return {path: name for path, (name, registry) in named.items() if _is_absent(name, registry)}


def _is_absent(name: Any, registry: Registry) -> bool:
    return isinstance(name, str) and family_of(name) is not None and not knows(registry, name)


def check(values: Mapping[str, Any], absent: Mapping[str, str], *, arguments: bool = True) -> list[Problem]:
    """Every mistake in the components that plain option values name.

    Components that are known but not here end in one problem for each family of them, not one for each place.

    Args:
        values: what the option file says.
        absent: the result of `absent(values)`.
        arguments: also check the blocks against the components themselves.
    """
    problems = _absences(absent)
    if not arguments:
        return problems
    for path, block, slot in blocks(values):
        if len(problems) > _MOST_PROBLEMS:
            break
        if (
            f"{path}.type" not in absent
            and isinstance(name := block.get("type"), str)
            and knows(slot.registry, name) is not None
        ):
            problems += _dataset_problems(path, block) if slot is _DATASET else slot.check(path, block)
    objective = values.get("model_type")
    if isinstance(objective, str) and "model_type" not in absent and knows(OBJECTIVES, objective) is not None:
        problems += _name_problems(OBJECTIVES, objective, "model_type")
    return problems


def objective_problems(options: Options) -> list[Problem]:
    """The mistakes in options without others that only their kind of learning can tell."""
    if options.train is None or not knows(OBJECTIVES, options.model_type):
        return []
    objective: Any = OBJECTIVES.get(options.model_type)
    found: list[Problem] = objective.problems(options)
    return found


def training_problems(options: Options) -> list[Problem]:
    """The mistakes in options without others that would only be met while the patches of a training are cut."""
    return [problem for dataset in options.phases("train") for problem in _patch_problems(dataset, options)]


def _patch_problems(dataset: DatasetOptions, options: Options) -> Iterator[Problem]:
    if not knows(DATASETS, dataset.type):
        return
    arguments, at = inspect.signature(DATASETS.get(dataset.type)).parameters, f"datasets.{dataset.key}"
    sizes = [("gt_size", dataset.gt_size), ("gt_sizes", max(dataset.gt_sizes or [0])), ("", options.gt_size)]
    given = [(f"{at}.{key}" if key else "gt_size", size) for key, size in sizes if size]
    padded = (dataset.model_extra or {}).get("crop_pad_size")
    if "crop_pad_size" in arguments:
        padded = padded or arguments["crop_pad_size"].default
    if "gt_size" in arguments and not given and not padded:
        yield Problem(f"{at}.gt_size", "missing: the side of the patches of a training in pixels, such as 192.")
    for path, size in given:
        if padded and size > padded:
            message = (
                f"{size} is more than the crop_pad_size of {dataset.type}, {padded} px: smaller images are mirrored up "
                f"to that, and patches are cut from it. Write crop_pad_size: {size} in {at} too, or a smaller size."
            )
            yield Problem(path, message)


def _family(name: str) -> Family:
    """The family of a component that is known to be absent."""
    family = family_of(name)
    assert family is not None, name
    return family


def _absences(absent: Mapping[str, str]) -> list[Problem]:
    """One problem for each family, at its most telling place: the network, then the model type, then the rest."""
    families: dict[str, list[str]] = {}
    for path in sorted(absent, key=lambda path: (not path.startswith("network_"), path != "model_type")):
        families.setdefault(_family(absent[path]).reason, []).append(path)
    problems = []
    for first, *others in families.values():
        family = _family(absent[first])
        also = f" The same goes for {', '.join(f'{path}: {absent[path]}' for path in others)}." if others else ""
        message = f"{absent[first]} is not part of this package: {family.reason}. {family.instead}{also}"
        problems.append(Problem(first, message))
    return problems


def _name_problems(registry: Registry, name: str, path: str) -> list[Problem]:
    try:
        registry.get(name, path)
    except OptionsError as error:
        return error.problems
    return []


def _dataset_problems(path: str, block: Mapping[str, Any]) -> list[Problem]:
    """Mistakes in a dataset block, whose keys belong either to the schema or to the dataset's own arguments."""
    unknown_type = _name_problems(DATASETS, block["type"], f"{path}.type")
    if unknown_type:
        return unknown_type
    arguments = inspect.signature(DATASETS.get(block["type"])).parameters
    allowed = list(dict.fromkeys([*arguments, *DatasetOptions.model_fields]))
    unknown = [key for key in block if key not in allowed]
    problems = [
        Problem(
            f"{path}.{key}", f"unknown option of {block['type']}.{nearest(key, allowed)} Allowed: {', '.join(allowed)}."
        )
        for key in unknown
    ]
    known = {key: value for key, value in block.items() if key not in unknown}
    return problems + _DATASET.check(path, DatasetOptions.component(known))

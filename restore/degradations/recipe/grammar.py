"""The grammar of pipeline files, and the tree that a file becomes.

    steps:
      - {type: gaussian_blur, size: {integer: [7, 21], step: 2}, sigma: [0.2, 3]}     # an operator
      - {type: jpeg, quality: [30, 95], probability: 0.9}      # any step may be left out now and then
      - type: one_of                                           # exactly one of its steps
        probabilities: [0.2, 0.7, 0.1]
        steps: [...]
      - type: shuffle                                          # all of them, in random order
        shuffled: 0.5                                          # ... with this probability, else as written (default 1)
        keep_order: [2, 3]                                     # steps that stay in this order among themselves
        steps: [...]
      - type: repeat                                           # all of them, several times, drawn anew each time
        times: [1, 3]
        steps: [...]
      - type: sequence                                         # all of them, in order
        variables: {sigma: [0.2, 1.5]}                         # for expressions ("=sigma") inside
        steps: [...]

`restore.degradations.recipe.draw` lists the distributions, `restore.degradations.recipe.expression` the expressions. A
tree is drawn from with one stream of random numbers and gives the flat list of operators for one sample.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from restore.degradations.operators.base import Operator
from restore.degradations.recipe.draw import Constant, Distribution, Draw, parse_distribution, probability_problem
from restore.degradations.recipe.expression import resolve
from restore.errors import OptionsError, Problem, nearest
from restore.registry import DEGRADATIONS

__all__ = ["Node", "parse_steps"]

Size = tuple[int, int]


class Node(Protocol):
    """A step of a pipeline."""

    def draw(self, draw: Draw, gt_px: Size) -> list[Operator]:
        """The operators of one sample whose original has this (height, width)."""

    def steps(self) -> Iterator[Step]:
        """Every operator step below."""


@dataclass(frozen=True)
class Step:
    """One operator with a distribution for each of its parameters."""

    operator: type[Operator]
    parameters: Mapping[str, Distribution]

    def draw(self, draw: Draw, gt_px: Size) -> list[Operator]:
        """The operator, with a seed of its own and the original's size if it asks for them."""
        values = {name: distribution.draw(draw) for name, distribution in self.parameters.items()}
        if "seed" in _field_types(self.operator):
            values.setdefault("seed", draw.seed())
        if "gt_px" in _field_types(self.operator):
            values["gt_px"] = gt_px
        return [self.operator(**values)]

    def steps(self) -> Iterator[Step]:
        """Itself."""
        yield self

    def kernel_px(self) -> int:
        """Side of the largest filter kernel that can be drawn; 1 for what is no filter."""
        return max(getattr(self.operator(**block), "size", 1) for block in _extreme_blocks(self.parameters))


@dataclass(frozen=True)
class Sequence:
    """All steps, in order."""

    nodes: tuple[Node, ...]

    def draw(self, draw: Draw, gt_px: Size) -> list[Operator]:
        """What the steps draw, one after the other."""
        return [drawn for node in self.nodes for drawn in node.draw(draw, gt_px)]

    def steps(self) -> Iterator[Step]:
        """Every operator step below."""
        for node in self.nodes:
            yield from node.steps()


@dataclass(frozen=True)
class Maybe(Sequence):
    """Left out, but for a probability."""

    probability: float = 1.0

    def draw(self, draw: Draw, gt_px: Size) -> list[Operator]:
        """Everything or nothing."""
        return super().draw(draw, gt_px) if draw.uniform() < self.probability else []


@dataclass(frozen=True)
class OneOf(Sequence):
    """Exactly one of the steps."""

    probabilities: tuple[float, ...] = ()

    def draw(self, draw: Draw, gt_px: Size) -> list[Operator]:
        """What the chosen step draws."""
        return self.nodes[draw.index(self.probabilities)].draw(draw, gt_px)


@dataclass(frozen=True)
class Shuffle(Sequence):
    """All steps in random order, but for those in `keep_order`, which stay in that order."""

    shuffled: float = 1.0
    keep_order: tuple[int, ...] = ()

    def draw(self, draw: Draw, gt_px: Size) -> list[Operator]:
        """What the steps draw, in their new order."""
        order = list(range(len(self.nodes)))
        if draw.uniform() < self.shuffled:
            order = draw.order(len(self.nodes))
            places = sorted(order.index(kept) for kept in self.keep_order)
            for place, kept in zip(places, self.keep_order, strict=True):
                order[place] = kept
        return [drawn for index in order for drawn in self.nodes[index].draw(draw, gt_px)]


@dataclass(frozen=True)
class Repeat(Sequence):
    """All steps in order, several times."""

    times: Distribution | None = None

    def draw(self, draw: Draw, gt_px: Size) -> list[Operator]:
        """What the steps draw each time."""
        times = self.times.draw(draw) if self.times else 1
        return [drawn for _ in range(times) for drawn in super(Repeat, self).draw(draw, gt_px)]


def parse_steps(steps: Any, variables: Mapping[str, Any], path: str, problems: list[Problem]) -> Sequence:
    """The tree of a list of steps; every mistake is added to `problems`, with its dotted path."""
    if not isinstance(steps, list):
        problems.append(Problem(path, f"must be a list of steps; given: {steps!r}."))
        return Sequence(())
    return Sequence(tuple(_parse_step(step, variables, f"{path}.{i}", problems) for i, step in enumerate(steps)))


def _parse_step(block: Any, variables: Mapping[str, Any], path: str, problems: list[Problem]) -> Node:
    DEGRADATIONS.names()  # a registry loads its package when it is first asked
    names = [*_STRUCTURES, *DEGRADATIONS]
    if not isinstance(block, Mapping) or not isinstance(block.get("type"), str):
        problems.append(
            Problem(path, f"a step is a mapping with a `type`; given: {block!r}. Types: {', '.join(names)}.")
        )
        return Sequence(())
    name = block["type"]
    block = {key: value for key, value in block.items() if key != "type"}
    probability = resolve(block.pop("probability", 1), variables, f"{path}.probability", problems)
    if name in _STRUCTURES:
        node: Node = _parse_structure(name, block, variables, path, problems)
    elif name in DEGRADATIONS:
        num_before = len(problems)
        values = resolve(block, variables, path, problems)
        node = _parse_operator(name, values, path, problems) if len(problems) == num_before else Sequence(())
    else:
        message = f"unknown degradation '{name}'.{nearest(name, names)} Known: {', '.join(names)}."
        problems.append(Problem(f"{path}.type", message))
        return Sequence(())
    if not _is_probability(probability):
        problems.append(Problem(f"{path}.probability", f"must be a number in [0, 1]; given: {probability!r}."))
    if probability == 0:
        return Sequence(())
    return node if probability == 1 else Maybe((node,), probability)


def _parse_structure(
    name: str, block: dict[str, Any], variables: Mapping[str, Any], path: str, problems: list[Problem]
) -> Node:
    options, build = _STRUCTURES[name]
    allowed = ("steps", "probability", *options)
    for key in set(block) - set(allowed):
        message = f"unknown option of {name}.{nearest(str(key), allowed)} Allowed: {', '.join(allowed)}."
        problems.append(Problem(f"{path}.{key}", message))
    given = {key: resolve(block[key], variables, f"{path}.{key}", problems) for key in options if key in block}
    inner = {**variables, **given["variables"]} if isinstance(given.get("variables"), Mapping) else variables
    nodes = parse_steps(block.get("steps"), inner, f"{path}.steps", problems).nodes
    return build(nodes, given, path, problems)


def _build_one_of(nodes: tuple[Node, ...], given: Mapping[str, Any], path: str, problems: list[Problem]) -> Node:
    probabilities = given.get("probabilities", [1 / max(len(nodes), 1)] * len(nodes))
    message = probability_problem(probabilities, len(nodes)) if nodes else "there is nothing to choose from."
    if message:
        problems.append(Problem(f"{path}.probabilities" if nodes else path, message))
        return Sequence(nodes)
    return OneOf(nodes, tuple(probabilities))


def _build_shuffle(nodes: tuple[Node, ...], given: Mapping[str, Any], path: str, problems: list[Problem]) -> Node:
    shuffled, kept = given.get("shuffled", 1.0), given.get("keep_order", [])
    if not _is_probability(shuffled):
        problems.append(Problem(f"{path}.shuffled", f"must be a number in [0, 1]; given: {shuffled!r}."))
    indices = range(len(nodes))
    if not isinstance(kept, list) or any(kept.count(index) > 1 or index not in indices for index in kept):
        message = f"must be different indices of steps, 0 to {len(nodes) - 1}; given: {kept!r}."
        problems.append(Problem(f"{path}.keep_order", message))
        kept = []
    return Shuffle(nodes, shuffled, tuple(kept))


def _build_repeat(nodes: tuple[Node, ...], given: Mapping[str, Any], path: str, problems: list[Problem]) -> Node:
    num_before = len(problems)
    times = parse_distribution(given.get("times"), f"{path}.times", problems, whole=True)
    if len(problems) > num_before:
        return Repeat(nodes, Constant(1))
    if not all(type(count) is int and 0 <= count <= 100 for count in times.extremes()):
        problems.append(
            Problem(f"{path}.times", f"must be whole numbers from 0 to 100; given: {given.get('times')!r}.")
        )
        times = Constant(1)
    return Repeat(nodes, times)


def _build_sequence(nodes: tuple[Node, ...], given: Mapping[str, Any], path: str, problems: list[Problem]) -> Node:
    if not isinstance(given.get("variables", {}), Mapping):
        problems.append(Problem(f"{path}.variables", f"must be a mapping; given: {given['variables']!r}."))
    return Sequence(nodes)


_STRUCTURES: dict[str, tuple[tuple[str, ...], Callable[..., Node]]] = {
    "sequence": (("variables",), _build_sequence),
    "one_of": (("probabilities",), _build_one_of),
    "shuffle": (("shuffled", "keep_order"), _build_shuffle),
    "repeat": (("times",), _build_repeat),
}


def _parse_operator(name: str, block: Mapping[str, Any], path: str, problems: list[Problem]) -> Node:
    operator = DEGRADATIONS.get(name)
    types = _field_types(operator)
    found: list[Problem] = []
    parameters = {
        key: parse_distribution(value, f"{path}.{key}", found, whole=types.get(key) is int)
        for key, value in block.items()
    }
    if not found:
        found = _check_extremes(name, parameters, path)
    problems.extend(found)
    return Sequence(()) if found else Step(operator, parameters)


def _check_extremes(name: str, parameters: Mapping[str, Distribution], path: str) -> list[Problem]:
    """Mistakes of the operator's block for every extreme value of every parameter, each reported once."""
    first, *others = _extreme_blocks(parameters)
    found = {}
    for block in (first, *others):
        for problem in DEGRADATIONS.check({"type": name, **block}, path):
            found.setdefault(problem.path, problem)
    if found:
        return list(found.values())
    try:
        DEGRADATIONS.build({"type": name, **first}, path=path)
    except OptionsError as error:
        return error.problems
    except ValueError as error:
        return [Problem(path, str(error))]
    return []


def _extreme_blocks(parameters: Mapping[str, Distribution]) -> list[dict[str, Any]]:
    """The first extremes of all parameters, and with each other extreme in the place of its first."""
    first = {key: distribution.extremes()[0] for key, distribution in parameters.items()}
    return [first] + [
        {**first, key: value} for key, distribution in parameters.items() for value in distribution.extremes()[1:]
    ]


@functools.cache
def _field_types(operator: type[Operator]) -> dict[str, Any]:
    """The fields of an operator; optional ones count as what they are when given."""
    hints = typing.get_type_hints(operator)
    plain = {}
    for item in dataclasses.fields(operator):
        options = [option for option in typing.get_args(hints[item.name]) if option is not type(None)]
        plain[item.name] = options[0] if len(options) == 1 else hints[item.name]
    return plain


def _is_probability(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1

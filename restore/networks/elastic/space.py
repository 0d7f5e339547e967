"""What a search may choose from: arguments of a MetaFormerRestorer with several values each.

    embed_dim: [24, 32, 48]
    depths: [1, 2, 3]                                       # blocks, chosen for each stage
    mixers:                                                 # chosen for each place of a stage
      - {type: window, num_heads: [2, 4], window_size: [4, 8]}
      - {type: separable_conv, kernel_size: [3, 7]}
    feed_forward: [mlp, gated]
    mlp_ratio: [1, 2, 3]                                    # chosen for the first and for the last block

What is not named stays as it is in the network's own block. A choice is a tuple of numbers, one for each axis; the
block that it stands for is an ordinary block of an option file. A mixer that has a shifted form takes turns with it.
"""

from __future__ import annotations

import inspect
import itertools
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from restore.errors import OptionsError, Problem, nearest
from restore.layers.build import build_feed_forward
from restore.layers.ffn import FeedForward
from restore.layers.mixers import Mixer, build_mixer
from restore.networks.metaformer import MetaFormerRestorer
from restore.registry import FEED_FORWARDS, MIXERS, Registry

__all__ = ["AXES", "Choice", "Path", "Space"]

Choice = tuple[int, ...]
AXES = ("embed_dim", "depths", "mixers", "feed_forward", "mlp_ratio")
_SHIFTED = "shifted_"
_DEFAULTS = {name: each.default for name, each in inspect.signature(MetaFormerRestorer).parameters.items()}


@dataclass(frozen=True)
class Path:
    """One component among which to choose: what is fixed of it, and the numbers that it may have.

    Attributes:
        fixed: its block without these numbers.
        numbers: the values of each argument that has several.
    """

    fixed: Mapping[str, Any]
    numbers: Mapping[str, Sequence[float]]

    def blocks(self) -> list[dict[str, Any]]:
        """Every form of it."""
        products = itertools.product(*self.numbers.values())
        return [{**self.fixed, **dict(zip(self.numbers, values, strict=True))} for values in products]

    def largest(self) -> dict[str, Any]:
        """The form of which all others are slices."""
        return {**self.fixed, **{name: max(values) for name, values in self.numbers.items()}}


class Space:
    """All networks among which a search chooses.

    Args:
        network: block of a MetaFormerRestorer, which says whatever is not chosen.
        space: values by argument; see the module.

    Attributes:
        network: the block, with the defaults of what it leaves out among the axes.
        axes: the values of each axis, by name: `embed_dim`, `depths.0`, `mixers.0`, ... For `mixers` and `feed_forward`
            they are pairs: the number of a path, and the block of one of its forms.
        mixers: the paths of the mixers.
        feed_forwards: the paths of the feed-forward networks.

    Raises:
        OptionsError: with every mistake in either.
    """

    def __init__(self, network: Mapping[str, Any], space: Mapping[str, Any]):
        self.network: dict[str, Any] = {"type": network.get("type")} | dict(network)
        self.network |= {name: _DEFAULTS[name] for name in AXES if name not in network}
        problems = _problems(network, space)
        if problems:
            raise OptionsError(problems)
        given = {name: space.get(name, None) for name in AXES}
        self._takes_turns = given["mixers"] is not None
        self.mixers = _paths(MIXERS, given["mixers"] or _listed(self.network["mixers"]))
        self.feed_forwards = _paths(FEED_FORWARDS, given["feed_forward"] or [self.network["feed_forward"]])
        depths = [sorted(set(given["depths"]))] * len(self.network["depths"]) if given["depths"] else None
        depths = depths or [[depth] for depth in self.network["depths"]]
        ratios = sorted(set(map(float, given["mlp_ratio"]))) if given["mlp_ratio"] else None
        places = max(map(max, depths))
        self.axes: dict[str, list[Any]] = {
            "embed_dim": sorted(set(given["embed_dim"] or [self.network["embed_dim"]])),
            **{f"depths.{stage}": values for stage, values in enumerate(depths)},
            **{f"mixers.{place}": self._mixers_of(place) for place in range(places)},
            "feed_forward": _forms(self.feed_forwards),
            "mlp_ratio.0": ratios or [_pair(self.network["mlp_ratio"])[0]],
            "mlp_ratio.1": ratios or [_pair(self.network["mlp_ratio"])[1]],
        }
        self._require_buildable()
        self._sizes = {name: [self._size(name, value) for value in values] for name, values in self.axes.items()}

    def __len__(self) -> int:
        """How many choices there are; some of them stand for the same network."""
        total = 1
        for values in self.axes.values():
            total *= len(values)
        return total

    def block(self, choice: Choice) -> dict[str, Any]:
        """The option block of the network that a choice stands for."""
        values = self.values(choice)
        depths = self._several(values, "depths")
        mixers = self.mixers_of(choice)
        first, last = self._several(values, "mlp_ratio")
        chosen = {
            "embed_dim": values["embed_dim"],
            "depths": depths,
            "mixers": [_short(each) for each in mixers[: max(depths)]],
            "feed_forward": _short(values["feed_forward"][1]),
            "mlp_ratio": first if first == last else [first, last],
        }
        return {**self.network, **chosen}

    def paths(self, choice: Choice) -> tuple[list[int], int]:
        """The numbers of the paths that a choice takes: of the mixer at each place, and of the feed-forward network."""
        values = self.values(choice)
        return [number for number, _ in self._several(values, "mixers")], values["feed_forward"][0]

    def mixers_of(self, choice: Choice) -> list[dict[str, Any]]:
        """The mixer at each place of a stage, as blocks."""
        return [block for _, block in self._several(self.values(choice), "mixers")]

    def values(self, choice: Choice) -> dict[str, Any]:
        """What a choice takes on each axis."""
        return {name: values[number] for number, (name, values) in zip(choice, self.axes.items(), strict=True)}

    def key(self, choice: Choice) -> str:
        """The same text for choices that stand for the same network."""
        return json.dumps({name: self.block(choice)[name] for name in AXES}, sort_keys=True)

    def largest(self) -> Choice:
        """The most on every axis; of components, the one of most parameters."""
        return tuple(sizes.index(max(sizes)) for sizes in self._sizes.values())

    def smallest(self) -> Choice:
        """The least on every axis; of components, the one of fewest parameters."""
        return tuple(sizes.index(min(sizes)) for sizes in self._sizes.values())

    def drawn(self, generator: random.Random | None = None) -> Choice:
        """A choice in which every value of an axis is as likely; without a generator by torch's global one."""
        if generator is not None:
            return tuple(generator.randrange(len(values)) for values in self.axes.values())
        return tuple(int(torch.randint(len(values), ())) for values in self.axes.values())

    def mutated(self, choice: Choice, probability: float, generator: random.Random) -> Choice:
        """A choice in which every axis is drawn anew with this probability."""
        pairs = zip(choice, self.drawn(generator), strict=True)
        return tuple(new if generator.random() < probability else old for old, new in pairs)

    def crossed(self, one: Choice, other: Choice, generator: random.Random) -> Choice:
        """A choice that has each axis from one of two others."""
        return tuple(generator.choice(pair) for pair in zip(one, other, strict=True))

    def block_of_largest(self) -> dict[str, Any]:
        """The block of the network whose blocks have every path, each in its largest form, as `paths` mixers.

        Its feed-forward network is the first of the paths.
        """
        depths = [max(values) for name, values in self.axes.items() if name.startswith("depths.")]
        mixers = [
            {"type": "paths", "mixers": [self._at(path.largest(), place) for path in self.mixers]}
            for place in range(max(depths))
        ]
        return {
            **self.network,
            "embed_dim": max(self.axes["embed_dim"]),
            "depths": depths,
            "mixers": mixers,
            "feed_forward": self.feed_forwards[0].largest(),
            "mlp_ratio": max(self.axes["mlp_ratio.0"] + self.axes["mlp_ratio.1"]),
        }

    def block_of_paths(self) -> dict[str, Any]:
        """The network's own block with every form of the mixers beside each other, as `paths`, at each place."""
        depths = list(self.network["depths"])
        mixers = [
            {"type": "paths", "mixers": [_short(self._at(block, place)) for _, block in _forms(self.mixers)]}
            for place in range(max(depths))
        ]
        return {**self.network, "mixers": mixers}

    def choice_of(self, block: Mapping[str, Any]) -> Choice | None:
        """The choice that stands for a network; None if it is not one of the space."""
        given = {name: _DEFAULTS[name] for name in AXES} | dict(block)
        depths, mixers, ratios = given["depths"], _listed(given["mixers"]), _pair(given["mlp_ratio"])
        wanted: dict[str, Any] = {"embed_dim": given["embed_dim"], "feed_forward": given["feed_forward"]}
        wanted |= {f"depths.{stage}": depth for stage, depth in enumerate(depths)}
        wanted |= {f"mlp_ratio.{end}": ratio for end, ratio in enumerate(ratios)}
        choice = []
        for name, values in self.axes.items():
            plain = [_short(value[1]) if isinstance(value, tuple) else value for value in values]
            place = int(name.rpartition(".")[2]) if name.startswith("mixers.") else None
            if place is not None and place >= max(depths):
                choice.append(0)  # where there is no block
                continue
            one = wanted.get(name) if place is None else mixers[place % len(mixers)]
            one = _short(one) if isinstance(one, Mapping) else one
            if one not in plain:
                return None
            choice.append(plain.index(one))
        return tuple(choice)

    def _mixers_of(self, place: int) -> list[tuple[int, dict[str, Any]]]:
        """The forms of all paths, or the one of the network's own mixers that has its turn at a place."""
        if self._takes_turns:
            return [(number, self._at(block, place)) for number, block in _forms(self.mixers)]
        number = place % len(self.mixers)
        return [(number, self.mixers[number].largest())]

    def _at(self, block: Mapping[str, Any], place: int) -> dict[str, Any]:
        """A mixer that is chosen at a place: at every other one the shifted form, where there is such."""
        shifted = f"{_SHIFTED}{block['type']}"
        turned = self._takes_turns and place % 2 and shifted in MIXERS
        return {**block, "type": shifted} if turned else dict(block)

    @staticmethod
    def _several(values: Mapping[str, Any], name: str) -> list[Any]:
        return [value for axis, value in values.items() if axis.startswith(f"{name}.")]

    def _size(self, name: str, value: Any) -> float:
        if not isinstance(value, tuple):
            return float(value)
        dim = max(self.axes["embed_dim"])
        with torch.device("meta"):
            if name.startswith("mixers"):
                component: Any = build_mixer(value[1], dim)
            else:
                component = build_feed_forward(value[1], dim, mlp_ratio=2.0)
        return float(sum(each.numel() for each in component.parameters())) if component is not None else 0.0

    def _require_buildable(self) -> None:
        """Refuse components that one of the widths cannot have, or of which no narrower one can be cut."""
        problems: list[Problem] = []
        for name, paths in (("mixers", self.mixers), ("feed_forward", self.feed_forwards)):
            for number, path in enumerate(paths):
                problems += self._unfit(f"search.space.{name}.{number}", name, path)
        if problems:
            raise OptionsError(problems)

    def _unfit(self, where: str, name: str, path: Path) -> list[Problem]:
        widths = self.axes["embed_dim"]
        changes = len(widths) > 1 or bool(path.numbers) or len(self.axes["mlp_ratio.0"]) > 1
        for dim, block in itertools.product(widths, path.blocks()):
            try:
                with torch.device("meta"):
                    component: Mixer | FeedForward | None = (
                        build_mixer(block, dim) if name == "mixers" else build_feed_forward(block, dim, mlp_ratio=1.0)
                    )
            except OptionsError as error:
                return [Problem(where, f"with embed_dim {dim}: {problem.message}") for problem in error.problems]
            if component is not None and changes and component.side_by_side is None:
                known = ", ".join(_sliceable(MIXERS if name == "mixers" else FEED_FORWARDS))
                message = (
                    f"{block['type']} cannot be cut to other sizes, so it cannot share weights. These can: {known}."
                )
                return [Problem(where, message)]
        return []


def _problems(network: Mapping[str, Any], space: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the names and kinds of values."""
    problems = []
    if network.get("type") != "MetaFormerRestorer":
        message = f"{network.get('type')} has no slots to choose for: a search is for MetaFormerRestorer."
        problems.append(Problem("network_g.type", message))
    if network.get("share_blocks", 1) != 1 or network.get("reversible"):
        message = "a search shares weights in its own way: leave share_blocks and reversible out of network_g."
        problems.append(Problem("network_g.share_blocks", message))
    if not space:
        problems.append(Problem("search.space", f"missing: what to choose from, lists for some of {', '.join(AXES)}."))
    for name, values in space.items():
        where = f"search.space.{name}"
        if name not in AXES:
            problems.append(Problem(where, f"nothing to choose.{nearest(name, AXES)} Known: {', '.join(AXES)}."))
        elif not isinstance(values, (list, tuple)) or not values:
            problems.append(Problem(where, f"expected a list of what to choose from; given: {values!r}."))
        elif name in ("embed_dim", "depths", "mlp_ratio"):
            kinds: Any = (int, float) if name == "mlp_ratio" else int
            wrong = [each for each in values if isinstance(each, bool) or not isinstance(each, kinds) or each <= 0]
            if wrong:
                of = "numbers" if name == "mlp_ratio" else "whole numbers"
                problems.append(Problem(where, f"expected {of} above 0; given: {wrong[0]!r}."))
        else:
            registry = MIXERS if name == "mixers" else FEED_FORWARDS
            for number, value in enumerate(values):
                problems += _path_problems(registry, value, f"{where}.{number}")
    return problems


def _path_problems(registry: Registry, value: Any, where: str) -> list[Problem]:
    if isinstance(value, Mapping):
        value = {**value, **{name: max(each) for name, each in _numbers(registry, value).items()}}
    return registry.check(value, where, "dim")


def _numbers(registry: Registry, block: Mapping[str, Any]) -> dict[str, list[float]]:
    """Those arguments of a component whose value is a list of numbers where it takes one."""
    lists = {
        name: sorted(set(value))
        for name, value in block.items()
        if isinstance(value, (list, tuple)) and value and all(type(each) in (int, float) for each in value)
    }
    kind = block.get("type")
    return {name: each for name, each in lists.items() if registry.check({"type": kind, name: each}, "", "dim")}


def _paths(registry: Registry, values: Sequence[Any]) -> list[Path]:
    paths = []
    for value in values:
        block = {"type": value} if isinstance(value, str) else dict(value)
        numbers = _numbers(registry, block)
        paths.append(Path({name: each for name, each in block.items() if name not in numbers}, numbers))
    return paths


def _forms(paths: Sequence[Path]) -> list[tuple[int, dict[str, Any]]]:
    return [(number, block) for number, path in enumerate(paths) for block in path.blocks()]


def _short(block: Mapping[str, Any]) -> str | dict[str, Any]:
    """The name alone where there is nothing else."""
    return block["type"] if len(block) == 1 else dict(block)


def _listed(mixers: Any) -> list[Any]:
    return [mixers] if isinstance(mixers, (str, Mapping)) else list(mixers)


def _pair(ratio: Any) -> list[float]:
    return [float(ratio)] * 2 if isinstance(ratio, (int, float)) else list(map(float, ratio))


def _sliceable(registry: Registry) -> list[str]:
    """The components that say how they are sliced."""
    return [name for name in registry if getattr(_class_of(registry.get(name)), "side_by_side", None) is not None]


def _class_of(component: Any) -> Any:
    return getattr(component, "func", component)

"""Drawing numbers: seeds, the stream of random numbers of one sample, and the distributions a pipeline file may name.

All draws come from one `torch.Generator` per sample, on the CPU, so they are the same on every machine and do not
depend on the batch that the sample stands in.

    3                                   a constant
    [0.2, 3]                            a range: uniform, or every whole number alike where the parameter is whole
    {uniform: [0.2, 3]}                 the same, said in full
    {log_uniform: [100, 10000]}         between these values, and the logarithm is uniform
    {square_uniform: [0.01, 3]}         the square is uniform (a sigma whose variance is uniform)
    {inverse_uniform: [0.125, 1]}       the reciprocal is uniform (a factor for down-sampling)
    {integer: [7, 21], step: 2}         7, 9, ... 21
    {normal: [0.8, 0.1], within: [0.5, 1.1]}     truncated to `within`; four sigma where it is not given
    {choice: [area, bilinear], probabilities: [0.4, 0.6]}     alike where no probabilities are given; may nest
    {chance: 0.4}                       true with this probability
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Protocol

import torch

from restore.errors import Problem, nearest

__all__ = ["DISTRIBUTIONS", "Distribution", "Draw", "parse_distribution", "probability_problem", "sample_seed"]

_BLOCK = 64


def sample_seed(seed: int, *keys: int | str) -> int:
    """The seed of one sample: a 63-bit hash of the run's seed and whatever names the sample (index, epoch, path, copy).

    It depends on nothing else, so a sample is the same in any order, batch, process or resumed run.
    """
    digest = hashlib.blake2b(repr((int(seed), *keys)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Draw:
    """The random numbers of one sample, one after the other.

    Args:
        generator: a CPU generator; it is drawn from in blocks of 64.
    """

    def __init__(self, generator: torch.Generator):
        self._generator = generator
        self._block: list[float] = []

    @classmethod
    def from_seed(cls, seed: int) -> Draw:
        """The stream that belongs to a sample's seed."""
        return cls(torch.Generator().manual_seed(seed))

    def uniform(self) -> float:
        """From [0, 1)."""
        if not self._block:
            self._block = torch.rand(_BLOCK, dtype=torch.float64, generator=self._generator).tolist()[::-1]
        return self._block.pop()

    def seed(self) -> int:
        """A seed for something that needs a whole field of random numbers."""
        return int(self.uniform() * 2**53)

    def index(self, probabilities: Sequence[float]) -> int:
        """An index, each with its probability."""
        threshold = self.uniform() * math.fsum(probabilities)
        for index, probability in enumerate(probabilities):
            threshold -= probability
            if threshold < 0:
                return index
        return max(index for index, probability in enumerate(probabilities) if probability > 0)

    def order(self, count: int) -> list[int]:
        """A permutation of range(count) (Fisher and Yates)."""
        order = list(range(count))
        for last in range(count - 1, 0, -1):
            other = int(self.uniform() * (last + 1))
            order[last], order[other] = order[other], order[last]
        return order


class Distribution(Protocol):
    """What a parameter of a pipeline is drawn from."""

    def draw(self, draw: Draw) -> Any:
        """One value."""

    def extremes(self) -> list[Any]:
        """The values that must be legal for every draw to be legal: the ends of a range, all choices."""


@dataclass(frozen=True)
class Constant:
    """Always the same value; takes no random number."""

    value: Any

    def draw(self, draw: Draw) -> Any:
        """The value."""
        return self.value

    def extremes(self) -> list[Any]:
        """The value."""
        return [self.value]


@dataclass(frozen=True)
class Uniform:
    """Uniform on [low, high)."""

    low: float
    high: float

    def draw(self, draw: Draw) -> float:
        """One value."""
        return self.low + (self.high - self.low) * draw.uniform()

    def extremes(self) -> list[float]:
        """Both ends."""
        return [self.low, self.high]


@dataclass(frozen=True)
class Transformed(Uniform):
    """Between two values, with `forward` of it uniform."""

    forward: Callable[[float], float]
    backward: Callable[[float], float]

    def draw(self, draw: Draw) -> float:
        """One value."""
        start, end = self.forward(self.low), self.forward(self.high)
        return min(max(self.backward(start + (end - start) * draw.uniform()), self.low), self.high)


@dataclass(frozen=True)
class Integer:
    """Whole numbers low, low + step, ... up to high, all alike."""

    low: int
    high: int
    step: int = 1

    def draw(self, draw: Draw) -> int:
        """One value."""
        return self.low + self.step * int(draw.uniform() * ((self.high - self.low) // self.step + 1))

    def extremes(self) -> list[int]:
        """Every value of a short range, both ends of a long one."""
        values = range(self.low, self.high + 1, self.step)
        return list(values) if len(values) <= 32 else [values[0], values[1], values[-1]]


@dataclass(frozen=True)
class Normal:
    """Normal distribution, truncated to [low, high]."""

    mean: float
    std: float
    low: float
    high: float

    def draw(self, draw: Draw) -> float:
        """One value."""
        normal = NormalDist(self.mean, self.std)
        start, end = normal.cdf(self.low), normal.cdf(self.high)
        level = min(max(start + (end - start) * draw.uniform(), 1e-16), 1 - 1e-16)
        return min(max(normal.inv_cdf(level), self.low), self.high)

    def extremes(self) -> list[float]:
        """Both ends."""
        return [self.low, self.high]


@dataclass(frozen=True)
class Choice:
    """One of several values, each itself a distribution."""

    options: tuple[Distribution, ...]
    probabilities: tuple[float, ...]

    def draw(self, draw: Draw) -> Any:
        """One value."""
        return self.options[draw.index(self.probabilities)].draw(draw)

    def extremes(self) -> list[Any]:
        """The extremes of every option."""
        return [value for option in self.options for value in option.extremes()]


_TRANSFORMS = {
    "log_uniform": (math.log, math.exp),
    "square_uniform": (lambda value: value * value, math.sqrt),
    "inverse_uniform": (lambda value: 1 / value, lambda value: 1 / value),
}
DISTRIBUTIONS = ("uniform", *_TRANSFORMS, "integer", "normal", "choice", "chance")
_EXTRAS = {"integer": {"step"}, "normal": {"within"}, "choice": {"probabilities"}}


def parse_distribution(value: Any, path: str, problems: list[Problem], *, whole: bool = False) -> Distribution:
    """The distribution that a value of a pipeline file stands for; mistakes are added to `problems`.

    Args:
        value: a constant, a range or a mapping as above, with expressions already worked out.
        path: where it stands, for messages.
        problems: collects the mistakes; after one, what is returned is a stand-in.
        whole: the parameter is a whole number, so that a range means whole numbers.
    """
    if isinstance(value, Mapping):
        return _parse_mapping(value, path, problems, whole)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _parse_kind("integer" if whole else "uniform", value, {}, path, problems, whole)
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(Problem(path, f"must be finite; given: {value}."))
    return Constant(value)


def probability_problem(probabilities: Any, count: int) -> str | None:
    """What is wrong with a list of probabilities for `count` things, or None."""
    if not isinstance(probabilities, Sequence) or not all(_is_number(item) for item in probabilities):
        return f"must be a list of numbers; given: {probabilities!r}."
    if len(probabilities) != count:
        return f"{len(probabilities)} probabilities for {count} choices; give one for each."
    if min(probabilities) < 0:
        return f"a probability is negative; given: {list(probabilities)}."
    if abs(math.fsum(probabilities) - 1) > 1e-6:
        return f"probabilities must sum to 1; these sum to {math.fsum(probabilities):g}: {list(probabilities)}."
    return None


def _parse_mapping(value: Mapping[str, Any], path: str, problems: list[Problem], whole: bool) -> Distribution:
    kinds = [key for key in value if key in DISTRIBUTIONS]
    if len(kinds) != 1:
        given = ", ".join(map(str, value)) or "nothing"
        hint = nearest(str(next(iter(value), "")), DISTRIBUTIONS)
        problems.append(
            Problem(path, f"name one distribution; given: {given}.{hint} Known: {', '.join(DISTRIBUTIONS)}.")
        )
        return Constant(None)
    extras = {key: item for key, item in value.items() if key != kinds[0]}
    allowed = _EXTRAS.get(kinds[0], set())
    for key in set(extras) - allowed:
        message = f"unknown option of {kinds[0]}.{nearest(str(key), allowed)} Allowed: {', '.join(allowed) or 'none'}."
        problems.append(Problem(f"{path}.{key}", message))
    return _parse_kind(kinds[0], value[kinds[0]], extras, f"{path}.{kinds[0]}", problems, whole)


def _parse_kind(
    kind: str, value: Any, extras: Mapping[str, Any], path: str, problems: list[Problem], whole: bool
) -> Distribution:
    if kind == "choice":
        return _parse_choice(value, extras.get("probabilities"), path, problems, whole)
    if kind == "chance":
        if not _is_number(value) or not 0 <= value <= 1:
            problems.append(Problem(path, f"must be a probability in [0, 1]; given: {value!r}."))
            return Constant(None)
        return Choice((Constant(True), Constant(False)), (value, 1 - value))
    ends = _parse_ends(value, path, problems, "[mean, std]" if kind == "normal" else "[low, high]")
    if ends is None:
        return Constant(None)
    if kind == "normal":
        return _parse_normal(ends, extras.get("within"), path, problems)
    return _parse_range(kind, ends, extras.get("step", 1), path, problems)


def _parse_choice(value: Any, probabilities: Any, path: str, problems: list[Problem], whole: bool) -> Distribution:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        problems.append(Problem(path, f"must be a list of at least one value; given: {value!r}."))
        return Constant(None)
    if probabilities is None:
        probabilities = [1 / len(value)] * len(value)
    elif message := probability_problem(probabilities, len(value)):
        problems.append(Problem(f"{path}.probabilities", message))
        return Constant(None)
    options = [parse_distribution(item, f"{path}.{index}", problems, whole=whole) for index, item in enumerate(value)]
    return Choice(tuple(options), tuple(probabilities))


def _parse_normal(ends: Sequence[float], within: Any, path: str, problems: list[Problem]) -> Distribution:
    mean, std = ends
    limits = [mean - 4 * std, mean + 4 * std]
    if within is not None:
        limits = _parse_ends(within, f"{path}.within", problems, "[low, high]") or limits
    low, high = limits
    if std <= 0 or low >= high or NormalDist(mean, std).cdf(low) == NormalDist(mean, std).cdf(high):
        message = f"empty: std {std:g} must be positive, and `within` a range around {mean:g}; given: {within}."
        problems.append(Problem(path, message))
        return Constant(None)
    return Normal(mean, std, low, high)


def _parse_range(kind: str, ends: Sequence[float], step: Any, path: str, problems: list[Problem]) -> Distribution:
    low, high = ends
    message = None
    if low > high:
        message = f"empty range: the low end {low:g} is above the high end {high:g}. Swap them."
    elif kind == "integer" and not all(isinstance(number, int) and number == int(number) for number in (*ends, step)):
        message = f"whole numbers are needed here; given: {list(ends)}" + (f", step {step}." if step != 1 else ".")
    elif kind == "integer" and step < 1:
        message = f"the step must be at least 1; given: {step}."
    elif kind in _TRANSFORMS and low <= 0:
        message = f"{kind} needs positive ends; given: {list(ends)}."
    if message:
        problems.append(Problem(path, message))
        return Constant(None)
    if kind == "integer":
        return Integer(int(low), int(high), int(step))
    return Transformed(low, high, *_TRANSFORMS[kind]) if kind in _TRANSFORMS else Uniform(low, high)


def _parse_ends(value: Any, path: str, problems: list[Problem], shape: str) -> Sequence[float] | None:
    if not isinstance(value, Sequence) or len(value) != 2 or not all(_is_number(item) for item in value):
        problems.append(Problem(path, f"must be two numbers {shape}; given: {value!r}."))
        return None
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

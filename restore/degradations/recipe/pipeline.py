"""A pipeline: draws the parameters of each sample, cheaply and on the CPU, and applies them to a batch on any device.

    pipeline = load_pipeline("realesrgan", scale=4)
    pairs = pipeline(gt_BCHW, seeds=[sample_seed(0, epoch, index) for index in indices])
    pairs["lq"], pairs["gt"], pairs["parameters"]
    pipeline.replay(gt_BCHW, pairs["parameters"])          # the same pixels, without drawing

The same seed gives the same parameters everywhere, and the same pixels in every run, batch size and process on a CPU.
Fields of noise come from the generator of the device that holds the images, so a GPU gives other noise (of the same
parameters), again the same in every run.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml

from restore.bounded_yaml import load_bounded
from restore.degradations.operators.base import Operator
from restore.degradations.operators.compression import Quantise
from restore.degradations.recipe import grammar
from restore.degradations.recipe.draw import Draw
from restore.degradations.recipe.execution import run, stack, value_range
from restore.degradations.recipe.expression import resolve
from restore.errors import ImageError, OptionsError, Problem, nearest
from restore.registry import DEGRADATIONS

__all__ = ["Pipeline", "list_pipelines", "load_pipeline", "parse_pipeline"]

_FOLDER = Path(__file__).parents[1] / "pipelines"
_KEYS = ("description", "source", "extends", "variables", "target", "steps", "round")
_RANGE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Pipeline:
    """A degradation recipe.

    Attributes:
        name: how it was asked for.
        description: one sentence.
        source: where it comes from.
        variables: the values that the recipe was built with; `scale` is always among them.
        target: steps that make the target from the photograph (and what the degradation starts from); often none.
        steps: steps that make the low-quality image from the target.
        round: whether the low-quality image is clipped and rounded to 8 bits at the end.
    """

    name: str
    description: str
    source: str
    variables: Mapping[str, Any]
    target: grammar.Node
    steps: grammar.Node
    round: bool = True

    @property
    def scale(self) -> int:
        """How many times larger the target is than the low-quality image."""
        return self.variables["scale"]

    @functools.cached_property
    def min_px(self) -> int:
        """The smallest side of an image that every drawn kernel fits into."""
        return max([self.scale, *(step.kernel_px() for step in (*self.target.steps(), *self.steps.steps()))])

    def draw(self, seed: int, gt_px: tuple[int, int]) -> dict[str, Any]:
        """The parameters of one sample, ready for JSON.

        Args:
            seed: the sample's own (see `sample_seed`).
            gt_px: height and width of the original.
        """
        return self._draw(seed, gt_px).to_dict(self.name)

    def __call__(self, gt_BCHW: torch.Tensor, seeds: Sequence[int]) -> dict[str, Any]:
        """Degrade a batch.

        Args:
            gt_BCHW: originals, float in [0, 1], sides divisible by the scale.
            seeds: one for each.

        Returns:
            `lq` (B, C, H / scale, W / scale), `gt` (B, C, H, W), and `parameters`, a list of JSON-ready mappings.

        Raises:
            ImageError: the originals have the wrong shape, type, size or range, or hold values that are not finite.
            OptionsError: the recipe does not end at 1 / scale of the original's size.
        """
        self._check(gt_BCHW)
        if len(seeds) != len(gt_BCHW):
            raise ImageError(f"{self.name}: {len(gt_BCHW)} images need as many seeds; given: {len(seeds)}.")
        gt_px = tuple(gt_BCHW.shape[-2:])
        return self._apply(gt_BCHW, [self._draw(int(seed), gt_px) for seed in seeds])

    def replay(self, gt_BCHW: torch.Tensor, parameters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Degrade a batch by parameters that were drawn before; returns what calling the pipeline does.

        Raises:
            OptionsError: the parameters are not those of operators, or belong to an image of another size.
        """
        self._check(gt_BCHW)
        for index, drawn in enumerate(parameters):
            if list(drawn.get("gt_px", ())) != list(gt_BCHW.shape[-2:]):
                message = f"drawn for an original of {drawn.get('gt_px')} px; this one has {list(gt_BCHW.shape[-2:])}."
                raise OptionsError([Problem(f"parameters.{index}.gt_px", message)])
        drawn = [_Drawn.from_dict(block, f"parameters.{index}") for index, block in enumerate(parameters)]
        return self._apply(gt_BCHW, drawn)

    def operators(self, seed: int, gt_px: tuple[int, int]) -> list[Operator]:
        """What makes the low-quality image of one sample from its target, in order, as calling the pipeline does it."""
        return [*self._draw(seed, gt_px).steps, *([Quantise()] if self.round else [])]

    def _draw(self, seed: int, gt_px: tuple[int, int]) -> _Drawn:
        draw = Draw.from_seed(seed)
        return _Drawn(seed, gt_px, self.target.draw(draw, gt_px), self.steps.draw(draw, gt_px))

    def _apply(self, gt_BCHW: torch.Tensor, samples: Sequence[_Drawn]) -> dict[str, Any]:
        rounding = [Quantise()] if self.round else []
        steps = [[*sample.steps, *rounding] for sample in samples]
        if any(sample.target for sample in samples):
            targets, images = run(gt_BCHW, [sample.target for sample in samples], steps)
            gt_BCHW = stack(targets)
        else:
            [images] = run(gt_BCHW, steps)
        expected = tuple(side // self.scale for side in gt_BCHW.shape[-2:])
        for image in images:
            if tuple(image.shape[-2:]) != expected:
                raise OptionsError(
                    f"pipeline {self.name}: it ends at {image.shape[-2]} x {image.shape[-1]} px where scale "
                    f"{self.scale} asks for {expected[0]} x {expected[1]}. Make "
                    '{type: resize, of_gt: "=1 / scale"} one of its last steps, or correct its variable `scale`.'
                )
        return {"lq": stack(images), "gt": gt_BCHW, "parameters": [sample.to_dict(self.name) for sample in samples]}

    def _check(self, gt_BCHW: torch.Tensor) -> None:
        if gt_BCHW.ndim != 4 or not gt_BCHW.is_floating_point() or gt_BCHW.shape[1] not in (1, 3) or not len(gt_BCHW):
            raise ImageError(
                f"{self.name}: needs float images (B, 1 or 3, H, W); given: {gt_BCHW.dtype} {tuple(gt_BCHW.shape)}."
            )
        height, width = gt_BCHW.shape[-2:]
        if min(height, width) < self.min_px:
            raise ImageError(
                f"{self.name}: its largest kernel has {self.min_px} px, which does not fit into an image of "
                f"{height} x {width} px. Use larger images or patches."
            )
        if height % self.scale or width % self.scale:
            raise ImageError(f"{self.name}: {height} x {width} px is not divisible by the scale {self.scale}; crop it.")
        low, high = value_range(gt_BCHW)
        if not (abs(low) < float("inf") and abs(high) < float("inf")):
            bad = [index for index, gt_CHW in enumerate(gt_BCHW) if not gt_CHW.isfinite().all()]
            raise ImageError(f"{self.name}: pixels of image(s) {bad} of the batch are not finite (NaN or infinity).")
        if low < -_RANGE_TOLERANCE or high > 1 + _RANGE_TOLERANCE:
            raise ImageError(f"{self.name}: pixels must be in [0, 1]; these are in [{low:g}, {high:g}].")


@dataclass(frozen=True)
class _Drawn:
    """What was drawn for one sample."""

    seed: int
    gt_px: tuple[int, int]
    target: list[Operator]
    steps: list[Operator]

    def to_dict(self, pipeline: str) -> dict[str, Any]:
        return {
            "pipeline": pipeline,
            "seed": self.seed,
            "gt_px": list(self.gt_px),
            "target": [operator.to_dict() for operator in self.target],
            "steps": [operator.to_dict() for operator in self.steps],
        }

    @classmethod
    def from_dict(cls, block: Mapping[str, Any], path: str) -> _Drawn:
        def build(key: str) -> list[Operator]:
            return [DEGRADATIONS.build(step, path=f"{path}.{key}.{index}") for index, step in enumerate(block[key])]

        return cls(block["seed"], tuple(block["gt_px"]), build("target"), build("steps"))


def list_pipelines() -> list[str]:
    """Names of the pipelines that come with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.yml"))


def load_pipeline(name: str | Path, **variables: Any) -> Pipeline:
    """A pipeline by name, or from a YAML file.

    Args:
        name: one of `list_pipelines()`, or a path that ends in .yml or .yaml.
        **variables: values for the variables of the file; `scale` for most, `sigma` for gaussian_noise, and so on.

    Raises:
        OptionsError: no such pipeline, or with every mistake in the file.
    """
    return parse_pipeline(_read(name), str(name), **variables)


def parse_pipeline(spec: Mapping[str, Any], name: str = "pipeline", **variables: Any) -> Pipeline:
    """A pipeline from the contents of a pipeline file; see `load_pipeline`."""
    problems: list[Problem] = []
    spec = _extended(spec, [name])
    for key in set(spec) - set(_KEYS):
        message = f"unknown key.{nearest(str(key), _KEYS)} Allowed: {', '.join(_KEYS)}."
        problems.append(Problem(str(key), message))
    values = _variables(spec.get("variables") or {}, variables, problems)
    target = grammar.parse_steps(spec.get("target") or [], values, "target", problems)
    steps = grammar.parse_steps(spec.get("steps"), values, "steps", problems)
    if not isinstance(spec.get("round", True), bool):
        problems.append(Problem("round", f"must be true or false; given: {spec['round']!r}."))
    if problems:
        raise OptionsError([Problem(problem.path, problem.message, file=name) for problem in problems])
    text = {key: " ".join(str(spec.get(key, "")).split()) for key in ("description", "source")}
    return Pipeline(
        Path(name).stem, **text, variables=values, target=target, steps=steps, round=spec.get("round", True)
    )


def _read(name: str | Path) -> Any:
    path = Path(name)
    if not _is_file_name(path):
        path = _FOLDER / f"{name}.yml"
        if not path.exists():
            known = list_pipelines()
            message = (
                f"unknown pipeline '{name}'.{nearest(str(name), known)} Known: {', '.join(known)}; or give a .yml."
            )
            raise OptionsError([Problem("", message)])
    try:
        return load_bounded(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise OptionsError([Problem("", f"cannot be read: {reason}.", file=str(path))]) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        message = f"not YAML: {getattr(error, 'problem', error)}."
        raise OptionsError([Problem("", message, line=mark.line + 1 if mark else None, file=str(path))]) from None


def _is_file_name(path: Path) -> bool:
    return path.suffix in (".yml", ".yaml")


def _extended(spec: Any, names: list[str]) -> Mapping[str, Any]:
    """What a file says together with what it extends: a pipeline by name, or a file relative to its own folder.

    Args:
        spec: contents of the file.
        names: of this file, after those of the files that extend it.
    """

    def refuse(path: str, message: str) -> NoReturn:
        raise OptionsError([Problem(path, message, file=names[-1])])

    if not isinstance(spec, Mapping):
        refuse("", f"a pipeline file holds a mapping; given: {spec!r}.")
    if not isinstance(spec.get("variables") or {}, Mapping):
        refuse("variables", f"must be a mapping; given: {spec['variables']!r}.")
    if "extends" not in spec:
        return spec
    name = spec["extends"]
    if not isinstance(name, str):
        refuse("extends", f"must be a pipeline's name or a .yml file; given: {name!r}.")
    if _is_file_name(Path(name)):
        name = str(Path(names[-1]).parent / name)
    if name in names:
        refuse("extends", f"goes in a circle: {' -> '.join([*names, name])}.")
    base = _extended(_read(name), [*names, name])
    variables = {**(base.get("variables") or {}), **(spec.get("variables") or {})}
    return {**base, **spec, "variables": variables}


def _variables(defaults: Mapping[str, Any], given: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any]:
    values: dict[str, Any] = {"scale": 1}
    for key in set(given) - set(defaults):
        message = (
            f"this pipeline has no such variable.{nearest(key, defaults)} It has: {', '.join(defaults) or 'none'}."
        )
        problems.append(Problem(f"variables.{key}", message))
    for key, value in {**defaults, **given}.items():
        values[key] = resolve(value, values, f"variables.{key}", problems)
    if type(values["scale"]) is not int or values["scale"] < 1:
        problems.append(Problem("variables.scale", f"must be a whole number from 1; given: {values['scale']!r}."))
        values["scale"] = 1
    return values

"""Real-ESRGAN's option keys as a pipeline, so that existing option files drive the same operators as the YAML recipes.

BasicSR keeps the resizing, noise and JPEG of both rounds at the top of the option file and the blur kernels in
`datasets.train`; the second round's keys end in 2. What a file leaves out has the shipped value. Beyond BasicSR's there
are keys of what it has as constants: probabilities of the first blur and of JPEG, interpolations, sizes of kernels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from restore.degradations.operators.resize import INTERPOLATIONS
from restore.degradations.recipe.pipeline import Pipeline, parse_pipeline
from restore.errors import OptionsError, Problem, nearest

__all__ = ["DATASET_DEFAULTS", "TOP_DEFAULTS", "pipeline_from_options"]

_KERNELS = ["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]
_TYPES = {"generalized": "generalized_gaussian_blur", "plateau": "plateau_blur"}
_ROUND = {
    "blur_kernel_size": 21,
    "kernel_list": _KERNELS,
    "kernel_prob": [0.45, 0.25, 0.12, 0.03, 0.12, 0.03],
    "blur_sigma": [0.2, 3],
    "betag_range": [0.5, 4],
    "betap_range": [1, 2],
    "sinc_prob": 0.1,
    "kernel_range": None,
}
DATASET_DEFAULTS = {
    **_ROUND,
    **{f"{key}2": value for key, value in _ROUND.items()},
    "blur_sigma2": [0.2, 1.5],
    "final_sinc_prob": 0.8,
    "final_kernel_range": None,
}
"""Keys of `datasets.train` and their shipped values; without a range, kernels have 7 to `blur_kernel_size` px."""

_INTERPOLATIONS = ["area", "bilinear", "bicubic"]

TOP_DEFAULTS = {
    "resize_prob": [0.2, 0.7, 0.1],
    "resize_range": [0.15, 1.5],
    "gaussian_noise_prob": 0.5,
    "noise_range": [1, 30],
    "poisson_scale_range": [0.05, 3],
    "gray_noise_prob": 0.4,
    "jpeg_range": [30, 95],
    "second_blur_prob": 0.8,
    "resize_prob2": [0.3, 0.4, 0.3],
    "resize_range2": [0.3, 1.2],
    "gaussian_noise_prob2": 0.5,
    "noise_range2": [1, 25],
    "poisson_scale_range2": [0.05, 2.5],
    "gray_noise_prob2": 0.4,
    "jpeg_range2": [30, 95],
    "blur_prob": 1,
    "jpeg_prob": 1,
    "jpeg_prob2": 1,
    **{f"resize_mode_list{stage}": _INTERPOLATIONS for stage in ("", "2", "3")},
    **{f"resize_mode_prob{stage}": None for stage in ("", "2", "3")},
}
"""Keys at the top of the option file and their shipped values."""

_USM = [{"type": "usm"}]


def pipeline_from_options(
    top: Mapping[str, Any],
    dataset: Mapping[str, Any],
    *,
    scale: int,
    sharpen: Literal["input", "both", "neither"] = "input",
) -> Pipeline:
    """The pipeline that a Real-ESRGAN option file describes.

    Args:
        top: the keys of `TOP_DEFAULTS` that the file has.
        dataset: the keys of `DATASET_DEFAULTS` that its `datasets.train` has.
        scale: of super-resolution.
        sharpen: what is made from the sharpened photograph: the low-quality image (RealESRGAN), the target as well
            (RealESRNet with `gt_usm`), or neither (without it).

    Raises:
        OptionsError: with every mistake, under the path where the option file has it.
    """
    problems = _unknown(top, TOP_DEFAULTS, "") + _unknown(dataset, DATASET_DEFAULTS, "datasets.train.")
    if problems:
        raise OptionsError(problems)
    values = {**TOP_DEFAULTS, **DATASET_DEFAULTS, **top, **dataset}
    problems = [*_range_problems(values), *_interpolation_problems(values)]
    problems += [*_kernel_problems(values, ""), *_kernel_problems(values, "2"), *_size_problems(values)]
    if problems:
        raise OptionsError(problems)
    spec = {
        "description": "Real-ESRGAN's two rounds, with the values of an option file.",
        "source": "Wang et al. 2021, Real-ESRGAN (arXiv 2107.10833)",
        "variables": {"scale": scale},
        "target": _USM if sharpen == "both" else [],  # from which the steps start
        "steps": [
            *(_USM if sharpen == "input" else []),
            *_first_round(values),
            *_second_round(values, scale),
            _ending(values, scale),
        ],
    }
    return parse_pipeline(spec, "options")


def _first_round(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    low, high = values["resize_range"]
    resize = _resize(values, "", [[1, high], [low, 1], 1], "factor")
    return [_at_times(_blur(values, ""), values["blur_prob"]), resize, _noise(values, ""), _jpeg(values, "")]


def _second_round(values: Mapping[str, Any], scale: int) -> list[dict[str, Any]]:
    low, high = values["resize_range2"]
    factors = [[1 / scale, high / scale], [low / scale, 1 / scale], 1 / scale]
    blur = {"type": "sequence", "probability": values["second_blur_prob"], "steps": [_blur(values, "2")]}
    return [blur, _resize(values, "2", factors, "of_gt"), _noise(values, "2")]


def _ending(values: Mapping[str, Any], scale: int) -> dict[str, Any]:
    """Back to size with a sinc filter, before or after the last JPEG."""
    resize = {"type": "resize", "of_gt": 1 / scale, "interpolation": _interpolation(values, "3")}
    sinc = {
        "type": "sinc_blur",
        "size": _sizes(*_ends(values, "final_kernel_range")),
        "cutoff": [math.pi / 3, math.pi],
        "probability": values["final_sinc_prob"],
    }
    jpeg = _jpeg(values, "2")
    orders = [[resize, sinc, jpeg], [jpeg, resize, sinc]]
    steps = [{"type": "sequence", "steps": order} for order in orders]
    return {"type": "one_of", "probabilities": [0.5, 0.5], "steps": steps}


def _blur(values: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    low, high = _ends(values, f"kernel_range{suffix}")
    small, large = range(low, min(11, high) + 1, 2), range(max(low, 13), high + 1, 2)
    sinc = [
        {"type": "sinc_blur", "size": _sizes(sizes[0], sizes[-1]), "cutoff": [math.pi / part, math.pi]}
        for sizes, part in ((small, 3), (large, 5))
        if sizes
    ]
    share = len(small) / (len(small) + len(large))
    sinc_part = [share, 1 - share] if small and large else [1]
    bells = [_bell(kind, values, suffix) for kind in values[f"kernel_list{suffix}"]]
    return {
        "type": "one_of",
        "probabilities": [values[f"sinc_prob{suffix}"], 1 - values[f"sinc_prob{suffix}"]],
        "steps": [
            {"type": "one_of", "probabilities": sinc_part, "steps": sinc},
            {
                "type": "one_of",
                "probabilities": _shares(values[f"kernel_prob{suffix}"]),
                "steps": bells,
            },
        ],
    }


def _bell(kind: str, values: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    family, _, shape = kind.rpartition("_")
    sigma = values[f"blur_sigma{suffix}"]
    sizes = _sizes(*_ends(values, f"kernel_range{suffix}"))
    block = {"type": _TYPES.get(family, "gaussian_blur"), "size": sizes, "sigma": sigma}
    if shape == "aniso":
        block |= {"sigma_y": sigma, "angle": [-math.pi, math.pi]}
    if family:
        low, high = values[f"beta{family[0]}_range{suffix}"]
        block["beta"] = {"choice": [[low, 1], [1, high]]}
    return block


def _resize(values: Mapping[str, Any], suffix: str, factors: Sequence[Any], key: str) -> dict[str, Any]:
    interpolation, probabilities = _interpolation(values, suffix), values[f"resize_prob{suffix}"]
    steps = [{"type": "resize", key: factor, "interpolation": interpolation} for factor in factors]
    return {"type": "one_of", "probabilities": _shares(probabilities), "steps": steps}


def _interpolation(values: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    """Alike where no probabilities are given."""
    parts = values[f"resize_mode_prob{suffix}"]
    return {"choice": list(values[f"resize_mode_list{suffix}"])} | ({"probabilities": _shares(parts)} if parts else {})


def _jpeg(values: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    return _at_times({"type": "jpeg", "quality": _whole(values[f"jpeg_range{suffix}"])}, values[f"jpeg_prob{suffix}"])


def _at_times(step: dict[str, Any], probability: float) -> dict[str, Any]:
    return step if probability == 1 else step | {"probability": probability}


def _shares(parts: Sequence[float]) -> list[float]:
    return [part / math.fsum(parts) for part in parts]


def _ends(values: Mapping[str, Any], key: str) -> list[int]:
    """The smallest and the largest kernel."""
    suffix = "2" if key.endswith("2") else ""
    return list(values[key] or (7, values[f"blur_kernel_size{suffix}"]))


def _noise(values: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    grey, gaussian = {"chance": values[f"gray_noise_prob{suffix}"]}, values[f"gaussian_noise_prob{suffix}"]
    return {
        "type": "one_of",
        "probabilities": [gaussian, 1 - gaussian],
        "steps": [
            {"type": "gaussian_noise", "sigma": values[f"noise_range{suffix}"], "grey": grey},
            {"type": "poisson_noise", "scale": values[f"poisson_scale_range{suffix}"], "grey": grey},
        ],
    }


def _sizes(low: int, high: int) -> dict[str, Any]:
    return {"integer": [low, high], "step": 2}


def _whole(ends: Sequence[float]) -> list[int]:
    return [math.ceil(ends[0]), math.floor(ends[1])]


def _unknown(given: Mapping[str, Any], allowed: Mapping[str, Any], prefix: str) -> list[Problem]:
    return [
        Problem(
            f"{prefix}{key}", f"no option of the degradation.{nearest(key, allowed)} Allowed: {', '.join(allowed)}."
        )
        for key in given
        if key not in allowed
    ]


def _range_problems(values: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for key, value in values.items():
        place = f"datasets.train.{key}" if key in DATASET_DEFAULTS else key
        if value is None or "mode" in key or "kernel_range" in key:
            continue
        if isinstance(TOP_DEFAULTS.get(key, DATASET_DEFAULTS.get(key)), list) and not isinstance(value, (list, tuple)):
            problems.append(Problem(place, f"must be a list; given: {value!r}."))
        elif (key.rstrip("2").endswith("_range") or key.startswith("blur_sigma")) and not _is_range(value):
            problems.append(Problem(place, f"must be two numbers, the lower first; given: {value!r}."))
        elif key.startswith("resize_prob") and (len(value) != 3 or abs(math.fsum(value) - 1) > 1e-6):
            message = f"must be three probabilities (up, down, keep) that sum to 1; given: {value!r}."
            problems.append(Problem(place, message))
        elif key.rstrip("2").endswith("_prob") and not isinstance(value, (list, tuple)) and not 0 <= value <= 1:
            problems.append(Problem(place, f"must be a probability in [0, 1]; given: {value!r}."))
    for key in ("resize_range", "resize_range2"):
        if _is_range(values[key]) and not values[key][0] <= 1 <= values[key][1]:
            problems.append(Problem(key, f"must reach from below 1 (down) to above 1 (up); given: {values[key]!r}."))
    return problems


def _is_range(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and value[0] <= value[1]


def _kernel_problems(values: Mapping[str, Any], suffix: str) -> list[Problem]:
    kinds, parts, size = (values[f"{key}{suffix}"] for key in ("kernel_list", "kernel_prob", "blur_kernel_size"))
    problems = []
    for index, kind in enumerate(kinds):
        if kind not in _KERNELS:
            message = f"unknown kernel '{kind}'.{nearest(kind, _KERNELS)} Known: {', '.join(_KERNELS)}."
            problems.append(Problem(f"datasets.train.kernel_list{suffix}.{index}", message))
    if len(parts) != len(kinds) or min(parts) < 0 or abs(math.fsum(parts) - 1) > 1e-3:
        message = f"must be {len(kinds)} probabilities that sum to 1, one for each kernel; given: {list(parts)}."
        problems.append(Problem(f"datasets.train.kernel_prob{suffix}", message))
    if size % 2 == 0 or size < 7:
        message = f"must be odd and at least 7, the smallest kernel that is drawn; given: {size}."
        problems.append(Problem(f"datasets.train.blur_kernel_size{suffix}", message))
    return problems


def _size_problems(values: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for key in ("kernel_range", "kernel_range2", "final_kernel_range"):
        given = values[key]
        odd = given is None or (len(given) == 2 and all(size % 2 and size > 0 for size in given) and _is_range(given))
        if not odd:
            message = f"must be two odd sides of a kernel, the smaller first; given: {given!r}."
            problems.append(Problem(f"datasets.train.{key}", message))
    return problems


def _interpolation_problems(values: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for stage in ("", "2", "3"):
        names, parts = values[f"resize_mode_list{stage}"], values[f"resize_mode_prob{stage}"]
        for index, name in enumerate(names):
            if name not in INTERPOLATIONS:
                message = f"unknown interpolation '{name}'.{nearest(name, INTERPOLATIONS)}"
                message = f"{message} Known: {', '.join(INTERPOLATIONS)}."
                problems.append(Problem(f"resize_mode_list{stage}.{index}", message))
        if not names or (parts is not None and (len(parts) != len(names) or not math.fsum(parts) or min(parts) < 0)):
            message = f"must be {len(names)} weights, one for each of resize_mode_list{stage}; given: {parts!r}."
            problems.append(Problem(f"resize_mode_prob{stage}", message))
    return problems

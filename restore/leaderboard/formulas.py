"""The formulas that turn measurements into the score of a challenge.

Efficient SR (NTIRE 2024-2026): each of runtime, FLOPs and parameters counts as exp(2 X / X_baseline), so the baseline
itself scores e^2; the weighted sum is the score, and lower is better. Perceptual SR (2025, 2026): six measures on the
means of the dataset. Image quality (PIPAL, 2021 and 2022): |SRCC| + |PLCC| of the raw predictions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from restore.errors import DataError, OptionsError

__all__ = ["ESR_YEARS", "PERCEPTUAL", "EsrYear", "eligible", "esr_parts", "esr_year", "score_esr", "score_perceptual"]


@dataclass(frozen=True)
class EsrYear:
    """The rules of one year of the efficient SR challenge.

    Attributes:
        baseline: name of the network that scores e^2.
        runtime_ms: its runtime per image, the mean of the validation and the test set.
        flops_g: its multiply-adds at 256x256, in 10^9.
        params_m: its parameters, in 10^6.
        weights: of runtime, FLOPs and parameters.
        psnr: the mean PSNR in dB that an entry must reach, by set.
        device: what the baseline's runtime was measured on.
    """

    baseline: str
    runtime_ms: float
    flops_g: float
    params_m: float
    weights: tuple[float, float, float]
    device: str
    psnr: tuple[tuple[str, float], ...] = (("valid", 26.90), ("test", 26.99))


ESR_YEARS = {
    2024: EsrYear("RLFN", 13.54, 19.67, 0.317, (0.70, 0.15, 0.15), "RTX 3090"),
    2025: EsrYear("EFDN", 16.69, 16.70, 0.276, (0.70, 0.15, 0.15), "RTX A6000"),
    2026: EsrYear("SPAN", 7.74, 9.83, 0.151, (0.80, 0.10, 0.10), "RTX A6000"),
}

PERCEPTUAL = ("lpips", "dists", "clipiqa", "maniqa", "musiq", "niqe")


def esr_year(year: int) -> EsrYear:
    """The rules of a year.

    Raises:
        OptionsError: no formula was published for it.
    """
    if year not in ESR_YEARS:
        raise OptionsError(
            f"no formula of the efficient SR challenge {year} was published. Known: {', '.join(map(str, ESR_YEARS))}."
        )
    return ESR_YEARS[year]


def esr_parts(runtime_ms: float, flops_g: float, params_m: float, year: int) -> dict[str, float]:
    """The three parts of the efficient SR score: exp(2 X / X_baseline)."""
    rules = esr_year(year)
    given = {
        "runtime": (runtime_ms, rules.runtime_ms),
        "flops": (flops_g, rules.flops_g),
        "params": (params_m, rules.params_m),
    }
    for name, (value, _) in given.items():
        if not (math.isfinite(value) and value > 0):
            raise DataError(f"{name} of the entry: {value} is given; a positive number is needed.")
    return {name: _exp(2 * value / baseline) for name, (value, baseline) in given.items()}


def _exp(exponent: float) -> float:
    return math.exp(exponent) if exponent < 700 else math.inf  # a processor takes hundreds of times the baseline's time


def score_esr(runtime_ms: float, flops_g: float, params_m: float, *, year: int) -> float:
    """The score of the efficient SR challenge; lower is better, and the baseline of the year has e^2 = 7.389.

    Args:
        runtime_ms: milliseconds per image, the mean of the validation and the test set.
        flops_g: multiply-adds for one 256x256 image, in 10^9.
        params_m: parameters, in 10^6.
        year: whose baseline and weights.

    Raises:
        OptionsError: no formula was published for that year.
        DataError: a value is not positive.
    """
    parts = esr_parts(runtime_ms, flops_g, params_m, year)
    return sum(weight * part for weight, part in zip(esr_year(year).weights, parts.values(), strict=True))


def eligible(psnr: Mapping[str, float], year: int) -> bool:
    """Whether mean PSNR by set (`valid`, `test`) reaches what the year asks for, on the sets that are given."""
    return all(psnr[name] >= least for name, least in esr_year(year).psnr if name in psnr)


def score_perceptual(means: Mapping[str, float]) -> float:
    """The score of the perceptual SR track from means over the dataset; 2 for a copy that the rest judge worst.

    (1 - LPIPS) + (1 - DISTS) + CLIPIQA + MANIQA + MUSIQ / 100 + max(0, (10 - NIQE) / 10); at most 6.

    Raises:
        DataError: one of the six is missing.
    """
    missing = [name for name in PERCEPTUAL if name not in means]
    if missing:
        raise DataError(f"the perceptual score needs {', '.join(PERCEPTUAL)}; missing: {', '.join(missing)}.")
    return (
        (1 - means["lpips"])
        + (1 - means["dists"])
        + means["clipiqa"]
        + means["maniqa"]
        + means["musiq"] / 100
        + max(0.0, (10 - means["niqe"]) / 10)
    )

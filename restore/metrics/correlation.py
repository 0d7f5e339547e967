"""How well scores agree with opinions: SRCC, PLCC (raw or after the logistic of VQEG), KRCC, RMSE, with intervals.

    correlations(scores, opinions, fit="logistic5")       # {"srcc": ..., "plcc": ..., "krcc": ..., "rmse": ...}
    bootstrap_interval(srcc, scores, opinions)            # (low, high)

The logistic functions are those of the VQEG reports and Sheikh et al. 2006: four parameters (monotone) or five (with a
linear part). PLCC and RMSE of a metric whose scale is its own mean little without one; say which was used.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from restore.errors import DataError

__all__ = ["bootstrap_interval", "correlations", "fit_logistic", "krcc", "plcc", "rmse", "srcc"]

Fit = Literal["none", "logistic4", "logistic5"]
Correlation = Callable[..., float]


def srcc(scores: ArrayLike, opinions: ArrayLike) -> float:
    """Spearman's rank correlation.

    Raises:
        DataError: lengths differ, fewer than 3 values, NaN or infinity, or one side is constant (as for all here).
    """
    from scipy import stats

    return float(stats.spearmanr(*_checked(scores, opinions)).statistic)


def krcc(scores: ArrayLike, opinions: ArrayLike) -> float:
    """Kendall's rank correlation (tau-b)."""
    from scipy import stats

    return float(stats.kendalltau(*_checked(scores, opinions)).statistic)


def plcc(scores: ArrayLike, opinions: ArrayLike, *, fit: Fit = "none") -> float:
    """Pearson's linear correlation, of the scores themselves or after a fitted logistic function."""
    scores, opinions = _checked(scores, opinions)
    return float(np.corrcoef(_fitted(scores, opinions, fit), opinions)[0, 1])


def rmse(scores: ArrayLike, opinions: ArrayLike, *, fit: Fit = "none") -> float:
    """Root mean squared error, of the scores themselves or after a fitted logistic function."""
    scores, opinions = _checked(scores, opinions)
    return float(np.sqrt(np.mean((_fitted(scores, opinions, fit) - opinions) ** 2)))


def correlations(scores: ArrayLike, opinions: ArrayLike, *, fit: Fit = "none") -> dict[str, float]:
    """All four by name, PLCC and RMSE after the same fit."""
    return {
        "srcc": srcc(scores, opinions),
        "plcc": plcc(scores, opinions, fit=fit),
        "krcc": krcc(scores, opinions),
        "rmse": rmse(scores, opinions, fit=fit),
    }


def fit_logistic(
    scores: ArrayLike, opinions: ArrayLike, *, fit: Literal["logistic4", "logistic5"] = "logistic4"
) -> Callable[[ArrayLike], np.ndarray]:
    """The logistic function that maps scores to opinions with the least squared error.

    Raises:
        DataError: as `srcc`; or the fit does not converge, or has more parameters than there are values.
    """
    from scipy.optimize import OptimizeWarning, curve_fit

    scores, opinions = _checked(scores, opinions)
    centre, width = scores.mean(), scores.std()
    direction = np.sign(np.corrcoef(scores, opinions)[0, 1]) or 1.0
    # on standardised scores, so that the start is right for every scale
    curves: dict[str, tuple[Callable[..., np.ndarray], tuple[float, ...]]] = {
        "logistic4": (_logistic4, (opinions.max(), opinions.min(), 0.0, direction / 4)),
        "logistic5": (_logistic5, (np.ptp(opinions) * direction, 1.0, 0.0, 0.0, opinions.mean())),
    }
    curve, start = curves[fit]
    if len(scores) < len(start):
        raise DataError(f"{fit} has {len(start)} parameters and needs as many values; given: {len(scores)}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)  # says only that the covariance is unknown; it is not used
            parameters, _ = curve_fit(curve, (scores - centre) / width, opinions, p0=start, maxfev=20_000)
    except RuntimeError as error:
        raise DataError(f"{fit} cannot be fitted to these scores: {error}") from error
    return lambda values: curve((np.asarray(values, dtype=float) - centre) / width, *parameters)


def bootstrap_interval(
    correlation: Correlation,
    scores: ArrayLike,
    opinions: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    **arguments: Fit,
) -> tuple[float, float]:
    """Percentile interval of a correlation over images drawn with replacement.

    Draws that hold one value only are drawn again. `arguments` go to `correlation` (`fit="logistic5"`).

    Raises:
        DataError: as `correlation`.
    """
    scores, opinions = _checked(scores, opinions)
    generator = np.random.default_rng(seed)
    values: list[float] = []
    while len(values) < resamples:
        drawn = generator.integers(len(scores), size=len(scores))
        if np.ptp(scores[drawn]) and np.ptp(opinions[drawn]):
            values.append(correlation(scores[drawn], opinions[drawn], **arguments))
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _fitted(scores: np.ndarray, opinions: np.ndarray, fit: Fit) -> np.ndarray:
    return scores if fit == "none" else fit_logistic(scores, opinions, fit=fit)(scores)


def _logistic4(x: np.ndarray, high: float, low: float, middle: float, width: float) -> np.ndarray:
    from scipy.special import expit

    return low + (high - low) * expit((x - middle) / width)


def _logistic5(x: np.ndarray, height: float, slope: float, middle: float, linear: float, offset: float) -> np.ndarray:
    from scipy.special import expit

    return height * (expit(slope * (x - middle)) - 0.5) + linear * x + offset


def _checked(scores: ArrayLike, opinions: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    pair = [np.asarray(values, dtype=float).reshape(-1) for values in (scores, opinions)]
    names = ("scores", "opinions")
    if len(pair[0]) != len(pair[1]):
        raise DataError(f"{len(pair[0])} scores against {len(pair[1])} opinions: one for each image is needed.")
    if len(pair[0]) < 3:
        raise DataError(f"a correlation needs 3 values or more; given: {len(pair[0])}.")
    for name, values in zip(names, pair, strict=True):
        if not np.isfinite(values).all():
            where = int(np.flatnonzero(~np.isfinite(values))[0])
            raise DataError(f"the {name} hold NaN or infinity, the first at position {where} ({values[where]}).")
        if not np.ptp(values):
            raise DataError(f"the {name} are constant ({values[0]:g}): their correlation is undefined.")
    return pair[0], pair[1]

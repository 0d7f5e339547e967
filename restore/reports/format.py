"""How figures are written, on the terminal and in the report alike."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = [
    "arrow",
    "breakable",
    "counted_images",
    "figure",
    "heading",
    "memory",
    "milliseconds",
    "signed",
    "titled",
    "verdict",
]

_LONGEST_ACRONYM = 8


class Metric(Protocol):
    """What is known about a metric: its unit ("dB" or nothing), and whether "higher" or "lower" is better."""

    unit: str
    better: str


def counted_images(count: int) -> str:
    """`1 image`, `1,200 images`."""
    return f"{count:,} image{'' if count == 1 else 's'}"


def breakable(name: Any) -> Markup:
    """The name of a component for a page, whose lines may end after `_`, `/` and `.`: not in the middle of a word."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[_/.])(?=[^_/.])", str(name)))


def heading(label: str) -> str:
    """`psnr` as PSNR and `psnr_y` as PSNR_Y; a longer label as it is."""
    return label.upper() if label.islower() and len(label) <= _LONGEST_ACRONYM else label


def arrow(metric: Metric) -> str:
    """↑ where higher is better, otherwise ↓."""
    return "↑" if metric.better == "higher" else "↓"


def titled(label: str, metric: Metric) -> str:
    """What stands above the values of a metric: `PSNR dB ↑`."""
    return " ".join(filter(None, (heading(label), metric.unit, arrow(metric))))


def figure(value: float, metric: Metric) -> str:
    """Two decimals for decibels, four for everything else."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "n/a" if math.isnan(value) else "−∞"
    return f"{value:.{_decimals(metric)}f}"


def signed(value: float, metric: Metric) -> str:
    """A difference with its sign."""
    if not math.isfinite(value):
        return "n/a" if math.isnan(value) else "+∞" if value > 0 else "−∞"
    rounded = round(value, _decimals(metric))
    return f"{'+' if rounded > 0 else '−' if rounded < 0 else '±'}{abs(rounded):.{_decimals(metric)}f}"


def verdict(difference: float, metric: Metric) -> str:
    """Whether a difference to the baseline is "good", "bad" or, to the decimals shown, "even"."""
    rounded = round(difference, _decimals(metric)) if math.isfinite(difference) else difference
    if not rounded or math.isnan(rounded):
        return "even"
    return "good" if (rounded > 0) == (metric.better == "higher") else "bad"


def milliseconds(value: float) -> str:
    """Milliseconds with three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def memory(mebibytes: float) -> str:
    """Mebibytes or, from a thousand on, gibibytes."""
    return f"{mebibytes / 1024:.2f} GiB" if mebibytes >= 1000 else f"{mebibytes:.0f} MiB"


def _decimals(metric: Metric) -> int:
    return 2 if metric.unit == "dB" else 4

"""The page of a search: what was found under each bound, and how well milliseconds are predicted."""

from __future__ import annotations

from typing import Any

from restore.evaluation.searches.results import Search
from restore.reports import charts
from restore.reports.pages import fill_page

__all__ = ["render"]

_SHOWN = 200


def render(search: Search, title: str, predicted: list[float] | None = None) -> str:
    """The page as text.

    Args:
        search: the record.
        title: heading of the page.
        predicted: milliseconds of the networks that were measured, as they are predicted; None where nothing was.
    """
    bounds = [{"name": name, "rows": _rows(found), "chart": _chart(found)} for name, found in search.found.items()]
    dots = [
        charts.Dot(wanted, each, f"measured {wanted:.2f} ms, predicted {each:.2f} ms", kind="many")
        for wanted, each in zip(search.milliseconds(), predicted or [], strict=False)
    ]
    facts = [f"{key.replace('_', ' ')}: {value}" for key, value in search.settings.items() if value is not None]
    return fill_page(
        "restore.evaluation.searches",
        "search.html",
        title=title,
        facts=facts,
        bounds=bounds,
        num_scored=len(search.scores),
        correlation=search.correlation,
        predictions=charts.scatter(dots, "measured [ms]", "predicted [ms]", height=420) if dots else "",
        environment=search.environment,
    )


def _rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The network that was found and the option file's own, with what is known of each."""
    return [{"name": name, **found[name]} for name in ("found", "own") if name in found]


def _chart(found: dict[str, Any]) -> str:
    """What the best networks reach against what they cost."""
    dots = [
        charts.Dot(
            each["cost"], each["score"], f"{each['score']:.3f} at {each['cost']:.4g} {found['unit']}", kind="many"
        )
        for each in found.get("best", [])[:_SHOWN]
    ]
    own = [charts.Dot(each["cost"], each["score"], each["name"], name=each["name"]) for each in found.get("marks", [])]
    return (
        charts.scatter([*dots, *own], found.get("unit", ""), found.get("measure", "score"), height=420) if dots else ""
    )

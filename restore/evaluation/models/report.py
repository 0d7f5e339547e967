"""report.html: the results as one page that needs no network and no other file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from restore.evaluation.models.results import DatasetResult, ImageResult, Results
from restore.evaluation.records import MetricRecord
from restore.reports.format import counted_images, figure, heading, memory, milliseconds, signed, verdict
from restore.reports.pages import fill_page
from restore.reports.pictures import Figure

__all__ = ["render"]

_KINDS = ("baseline", "restored", "reference")


def render(results: Results, figures: Mapping[tuple[str, str], Figure], options: str = "") -> str:
    """The page as text.

    Args:
        results: what was found.
        figures: the pictures to embed, by (dataset, image).
        options: the resolved option file, shown under "Details".
    """
    shown = {label: metric for label, metric in results.metrics.items() if metric.missing is None}
    items = _items(results, figures)
    return fill_page(
        "restore.evaluation.models",
        "report.html",
        title=results.name,
        results=results,
        options=options,
        baseline=results.baseline,
        names={"baseline": results.baseline.capitalize(), "restored": "Restored", "reference": "Reference"},
        shown=shown,
        has_baseline=any(image.baseline for dataset in results.datasets for image in dataset.images),
        many_datasets=len(results.datasets) > 1,
        facts=_facts(results),
        tiles=_tiles(results, shown),
        figures=items,
        pairs=_pairs(items),
        num_hidden=results.num_images - len(items),
        rows=_rows(results, figures, shown),
        explanation=_explanation(results, shown),
    )


def _items(results: Results, figures: Mapping[tuple[str, str], Figure]) -> list[dict[str, Any]]:
    return [
        {"dataset": dataset.name, **vars(image), **vars(figures[dataset.name, image.name])}
        for dataset in results.datasets
        for image in dataset.images
        if (dataset.name, image.name) in figures
    ]


def _pairs(items: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The comparisons on offer, the most interesting one first."""
    kinds = {picture.kind for item in items for picture in item["pictures"]}
    wanted = (("baseline", "restored"), ("restored", "reference"), ("baseline", "reference"))
    return [{"left": left, "right": right} for left, right in wanted if {left, right} <= kinds]


def _facts(results: Results) -> list[str]:
    environment = results.environment
    wanted = [environment.get(key) for key in ("network", "device", "precision", "date")]
    scale = f"×{results.scale}" if results.scale > 1 else "same size"
    facts = [wanted[0], scale, counted_images(results.num_images), *wanted[1:]]
    return [str(fact) for fact in facts if fact]


def _tiles(results: Results, shown: Mapping[str, MetricRecord]) -> list[dict[str, str]]:
    """The headline: every metric of one dataset, or the first metric of each of several."""
    if len(results.datasets) != 1:
        return [tile for dataset in results.datasets for tile in _gain_tiles(dataset, shown, results.baseline)[:1]]
    dataset = results.datasets[0]
    tiles = _gain_tiles(dataset, shown, results.baseline)[:3]
    if dataset.milliseconds is not None:
        text = f"per image, median of {len(dataset.images)}; {memory(dataset.peak_memory_mib)} at the peak"
        tiles.append({"title": "Time", "value": milliseconds(dataset.milliseconds), "unit": "ms", "text": text})
    return tiles


def _gain_tiles(dataset: DatasetResult, shown: Mapping[str, MetricRecord], baseline: str) -> list[dict[str, str]]:
    tiles = []
    for label, means in dataset.summary(shown).items():
        metric, difference = shown[label], means["difference"]
        if difference is None:
            continue
        before, after = figure(means["baseline"], metric), figure(means["restored"], metric)
        tiles.append(
            {
                "title": f"{dataset.name} · {heading(label)}",
                "value": signed(difference, metric),
                "unit": metric.unit,
                "verdict": verdict(difference, metric),
                "text": f"over {baseline}: {before} → {after}",
            }
        )
    return tiles


def _rows(
    results: Results, figures: Mapping[tuple[str, str], Figure], shown: Mapping[str, MetricRecord]
) -> list[dict[str, Any]]:
    anchors = {key: f"image-{number}" for number, key in enumerate(_order(results, figures), start=1)}
    largest = {label: _largest_gain(results, label) for label in shown}
    return [
        {
            "dataset": dataset.name,
            "image": image,
            "anchor": anchors.get((dataset.name, image.name)),
            "shares": {label: f"{_share(image, label, largest[label]):.3f}" for label in shown},
        }
        for dataset in results.datasets
        for image in dataset.images
    ]


def _order(results: Results, figures: Mapping[tuple[str, str], Figure]) -> list[tuple[str, str]]:
    keys = [(dataset.name, image.name) for dataset in results.datasets for image in dataset.images]
    return [key for key in keys if key in figures]


def _gain(image: ImageResult, label: str) -> float:
    if label not in image.restored or label not in image.baseline:
        return 0.0
    return abs(image.restored[label] - image.baseline[label])


def _largest_gain(results: Results, label: str) -> float:
    return max((_gain(image, label) for dataset in results.datasets for image in dataset.images), default=0.0)


def _share(image: ImageResult, label: str, largest: float) -> float:
    """Length of the bar behind a gain, 0 to 1."""
    return _gain(image, label) / largest if 0 < largest < float("inf") else 0.0


def _explanation(results: Results, shown: Mapping[str, MetricRecord]) -> str:
    baseline = (
        "The baseline is bicubic upsampling of the same input, as MATLAB does it, rounded to the depth of the file."
        if results.baseline == "bicubic"
        else "The baseline is the input itself, since the network does not change the size."
    )
    directions = " ".join(f"{heading(label)}: {metric.better} is better." for label, metric in shown.items())
    return (
        f"{baseline} {directions} Times are those of the restoration alone, without reading and writing, after a "
        "warm-up; of a dataset the median is given. A gain is the restored value minus the baseline's."
    )

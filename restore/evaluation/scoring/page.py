"""report.html of a scoring: the spread of every metric, the worst and the best images, and every value."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from restore.errors import ImageError
from restore.evaluation.scoring.distribution import distribution
from restore.evaluation.scoring.measuring import read_pixels
from restore.evaluation.scoring.results import ImageScore, Scores, errors_in_words
from restore.reports.format import counted_images
from restore.reports.pages import fill_page
from restore.reports.pictures import Gallery

__all__ = ["render"]

NUM_SHOWN = 3
LOSSLESS_BYTES = 6 << 20
TOTAL_BYTES = 16 << 20
SHOWN_PX = 1024


def render(scores: Scores) -> str:
    """The page as text; it needs no network and no other file."""
    shown = scores.shown
    anchors = {image.name: f"row-{number}" for number, image in enumerate(scores.images, start=1)}
    return fill_page(
        "restore.evaluation.scoring",
        "scores.html",
        title=scores.name,
        results=scores,
        shown=shown,
        summaries={label: scores.summary(label) for label in shown},
        distributions={label: distribution(scores.images, label, metric, anchors) for label, metric in shown.items()},
        galleries=_galleries(scores),
        names={"restored": "Restored", "reference": "Reference"},
        anchors=anchors,
        facts=_facts(scores),
        errors_in_words=errors_in_words,
        identical=len(scores.identical),
    )


def _galleries(scores: Scores) -> list[tuple[str, list[dict[str, Any]]]]:
    """The worst and the best images by the first metric; all of them when they are few."""
    label = next(iter(scores.shown), None)
    ranked = scores.ranked(label) if label else []
    if len(ranked) <= 2 * NUM_SHOWN:
        chosen = {"Images, the worst first": ranked}
    else:
        chosen = {"Worst": ranked[:NUM_SHOWN], "Best": ranked[: -NUM_SHOWN - 1 : -1]}
    gallery = Gallery(LOSSLESS_BYTES, TOTAL_BYTES, SHOWN_PX)
    return [(title, items) for title, images in chosen.items() if (items := _items(images, gallery))]


def _items(images: Sequence[ImageScore], gallery: Gallery) -> list[dict[str, Any]]:
    items = []
    for image in images:
        try:
            gallery.add("", image.name, _pictures(image))
        except ImageError:  # it changed since it was measured
            continue
        if ("", image.name) in gallery.figures:
            items.append({"image": image, "name": image.name, **vars(gallery.figures["", image.name])})
    return items


def _pictures(image: ImageScore) -> dict[str, np.ndarray]:
    paths = {"restored": image.restored, "reference": image.reference}
    return {kind: read_pixels(Path(path))[0] for kind, path in paths.items() if path}


def _facts(scores: Scores) -> list[str]:
    against = "with references" if any(image.reference for image in scores.images) else "without references"
    protocol = f"protocol {scores.protocol}" if scores.protocol else "no protocol"
    scale = f"×{scores.scale}" if scores.protocol and scores.scale > 1 else ""
    date = str(scores.environment.get("date", ""))
    return list(filter(None, [counted_images(len(scores.images)), against, protocol, scale, date]))

"""A scoring from beginning to end: what is known already is taken from the journal, the rest is measured."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from restore.data.pairs import Pair
from restore.errors import OptionsError
from restore.evaluation.environment import machine
from restore.evaluation.measures import Measures
from restore.evaluation.processes import num_processes
from restore.evaluation.scoring.journal import Journal, key_of
from restore.evaluation.scoring.measuring import Measured, Task, measure_all
from restore.evaluation.scoring.page import render
from restore.evaluation.scoring.pairs import Matching
from restore.evaluation.scoring.results import ImageScore, Scores
from restore.evaluation.scoring.settings import Settings
from restore.files import atomic_write, encoded, expanded
from restore.locks import reserved
from restore.metrics import bind_metrics
from restore.terminal import open_console

if TYPE_CHECKING:
    from restore.evaluation.scoring.maps import Maps

__all__ = ["score"]

logger = logging.getLogger(__name__)


def score(
    matching: Matching,
    settings: Settings,
    output: str | Path,
    *,
    name: str = "scores",
    device: str = "cpu",
    num_workers: int | None = None,
    fresh: bool = False,
    progress: bool = False,
    maps: Maps | None = None,
) -> Scores:
    """Measure every pair and write scores.json, scores.csv, report.html and scores.jsonl into `output`.

    A file that cannot be read or measured is recorded and the others go on. When it is interrupted, what is finished
    is written, and the next run goes on from there.

    Metrics that an earlier run into the same folder measured of these images stay beside those of this one.

    Args:
        matching: the images.
        settings: the metrics.
        output: folder of the results.
        name: what the page is called.
        device: where the metrics are computed.
        num_workers: number of processes; None: by the cores and the images on a processor, one on other devices.
        fresh: measure again what is asked for, whatever is known.
        progress: show a progress bar on a terminal.
        maps: writes pictures of where the images are bad.

    Raises:
        OutputError: something cannot be written, or another process writes there.
    """
    output = expanded(output)
    scores = Scores(
        name=name,
        metrics=dict(settings.records),
        prepared=dict(settings.prepared),
        images=[_blank(pair) for pair in matching.pairs],
        unmatched={str(path): reason for path, reason in matching.unmatched.items()},
        protocol=settings.protocol,
        scale=settings.scale,
        environment=machine(),
    )
    forget = [key_of(block) for block in settings.blocks.values()] if fresh else []
    with reserved(output), Journal(output / "scores.jsonl", matching.pairs, forget=forget) as journal:
        _keep_others(matching.pairs, settings, journal, scores)
        tasks = list(_tasks(matching.pairs, settings, journal, scores))
        processes = num_processes(num_workers if num_workers or device == "cpu" else 1, len(tasks))
        reused = len(matching.pairs) - len(tasks)
        if reused:
            logger.info("%d of %d images are unchanged since the last run.", reused, len(matching.pairs))
        finished: set[int] = set(range(len(matching.pairs))) - {task.index for task in tasks}
        try:
            results = measure_all(tasks, settings.blocks, device=device, num_workers=processes)
            for measured in _tracked(results, len(tasks), progress):
                _record(measured, matching.pairs[measured.index], settings, scores, journal)
                finished.add(measured.index)
            if maps is not None:
                maps.write((pair, image.errors) for pair, image in zip(matching.pairs, scores.images, strict=True))
            scores.complete = True
        finally:
            scores.images = [image for index, image in enumerate(scores.images) if index in finished or image.values]
            _write(output, scores)
            if not scores.complete:
                logger.info("%d of %d images are measured, in '%s'", len(finished), len(matching.pairs), output)
    return scores


def _blank(pair: Pair) -> ImageScore:
    return ImageScore(pair.name, str(pair.lq), str(pair.gt) if pair.gt else None)


def _keep_others(pairs: Sequence[Pair], settings: Settings, journal: Journal, scores: Scores) -> None:
    """Put what earlier runs measured of these images by other metrics into `scores`, behind those of this run.

    A metric is kept if half of the images have it: the mean of a few that were scored once would mislead.
    """
    known = [journal.known(pair) for pair in pairs]
    counts = Counter(key for values in known for key in values)
    asked = {key_of(block) for block in settings.blocks.values()}
    kept = [key for key, count in counts.items() if key not in asked and 2 * count >= len(pairs)]
    for key in kept:
        block = json.loads(key)
        options = ", ".join(f"{name}={value}" for name, value in block.items() if name != "type")
        label = block["type"] if block["type"] not in scores.metrics else f"{block['type']} ({options or 'plain'})"
        try:
            record = Measures(bind_metrics({label: block}, "scores.jsonl")).records[label]
        except OptionsError:  # it was pyiqa's, which has gone
            continue
        scores.metrics[label], scores.prepared[label] = record, f"an earlier run: {options or 'the whole image'}"
        for image, pair, values in zip(scores.images, pairs, known, strict=True):
            if key in values:
                image.values[label] = values[key]
                reference = journal.reference(pair)
                image.reference = image.reference or (str(reference) if reference else None)


def _tasks(pairs: list[Pair], settings: Settings, journal: Journal, scores: Scores) -> Iterator[Task]:
    """What is left to do; what is known is put into `scores`."""
    for index, pair in enumerate(pairs):
        image, entry = scores.images[index], journal.get(pair)
        if entry:
            keys = {label: key_of(block) for label, block in settings.blocks.items()}
            image.values |= {label: entry.values[key] for label, key in keys.items() if key in entry.values}
            image.size, image.note = tuple(entry.size), entry.note
        left = tuple(label for label in settings.blocks if label not in image.values)
        image.reused = not left
        if left:
            yield Task(index, pair, left)


def _record(measured: Measured, pair: Pair, settings: Settings, scores: Scores, journal: Journal) -> None:
    image = scores.images[measured.index]
    image.size, image.note, image.errors = measured.size, measured.note, measured.errors
    image.values = {
        label: {**image.values, **measured.values}[label]
        for label in scores.metrics
        if label in image.values or label in measured.values
    }
    for label, reason in measured.missing.items():
        scores.metrics[label].missing = reason
    if measured.values and measured.size:
        values = {key_of(settings.blocks[label]): value for label, value in measured.values.items()}
        journal.add(pair, measured.size, values, measured.note)


def _write(output: Path, scores: Scores) -> None:
    for name, text in (
        ("scores.json", scores.as_json()),
        ("scores.csv", scores.as_csv()),
        ("report.html", render(scores)),
    ):
        with atomic_write(output / name) as file:
            file.write(encoded(text))


def _tracked(results: Iterable[Measured], total: int, progress: bool) -> Iterable[Measured]:
    """The results, with a progress bar if one is wanted and somebody is watching.

    The bar has no thread of its own: it is there before the processes are.
    """
    if not progress or not total or not sys.stderr.isatty():
        return results
    from rich.progress import track

    return track(results, "scoring", total=total, auto_refresh=False, console=open_console(stderr=True), transient=True)

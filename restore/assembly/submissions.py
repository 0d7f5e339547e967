"""From what is submitted, and where to, to a zip that the organisers accept."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from restore.assembly.metrics import metrics_of
from restore.assembly.restorers import restorer_of
from restore.errors import OptionsError
from restore.files import expanded
from restore.inference import Restorer
from restore.jobs import without_results
from restore.leaderboard.board import Entry, add_entry
from restore.leaderboard.matlab import DndTask, SiddTask
from restore.leaderboard.organisers import merge_results, results_entry
from restore.leaderboard.scoring import Scorer, Scores, score
from restore.leaderboard.submission import Author, Submission, identity_of, submit
from restore.leaderboard.tasks import ImageTask, OpinionTask, Task
from restore.leaderboard.template import Team, Template, write_template
from restore.leaderboard.tracks import Track
from restore.leaderboard.work import WorkFolder
from restore.locks import reserved
from restore.metrics import BoundMetric, bind_metrics
from restore.networks.checkpoint import digest_of
from restore.options import Options
from restore.zoo import load_model
from restore.zoo.load import network_block

__all__ = ["Order", "make_submission"]

RESULTS_JSON = ("esr", "denoise50")  # the tracks whose organisers keep a results.json
Progress = Callable[[int], AbstractContextManager[Callable[[str, int], None]]]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """What is submitted, and where to. Either `model` or `options` is given.

    Attributes:
        track: the challenge.
        model: a model's name or weights file; for a track of opinions a metric.
        options: those of a test: network, weights, and inputs if `source` is not given.
        source: folder of the inputs; the .mat file for SIDD.
        output: folder of the submission.
        reference: folder of the references, if the submission is to be scored.
        split: official set that the inputs must be complete for.
        name: that of the method; by default that of the model.
        extra_data: whether it was trained on data beyond those of the challenge.
        description: goes into the readme.
        template: kind of the organisers' repository whose files are to be written, too.
        team: number of the team.
        weights_url: address of weights that are too large for the repository.
        board: local leaderboard that the scored run is added to.
        runtime: keyword arguments of `Restorer` in place of those in `options`.
    """

    track: Track
    model: str | None
    options: Options | None
    source: Path | None
    output: Path
    reference: Path | None = None
    split: str | None = None
    name: str | None = None
    extra_data: bool = False
    description: str = ""
    template: Template | None = None
    team: int = 0
    weights_url: str = ""
    board: Path | None = None
    runtime: Mapping[str, Any] = field(default_factory=dict)

    def inputs(self) -> Path:
        """The inputs: `source`, or dataroot_lq of the one test dataset of the options.

        Raises:
            OptionsError: there are none, or they do not exist.
        """
        path, meaning = self.source, "-i is the folder of the inputs, or the .mat file of sidd."
        if path is None:
            given = {each.key: each.dataroot_lq for each in self.options.phases("test", "val")} if self.options else {}
            roots = {key: root for key, root in given.items() if root is not None}
            if len(roots) != 1 or not isinstance(next(iter(roots.values())), (str, Path)):
                raise OptionsError(
                    "give the folder of the inputs with -i, or one test dataset with dataroot_lq in the file."
                )
            ((key, root),) = roots.items()
            path, meaning = expanded(str(root)), f"check datasets.{key}.dataroot_lq, or give them with -i."
        if not path.exists():
            raise OptionsError(f"'{path}' does not exist: {meaning}")
        return path

    def author(self, name: str) -> Author:
        """Who submits, under the given name or the one that was chosen."""
        return Author(self.name or _identifier(name), self.extra_data, self.description)

    def named_model(self) -> str:
        """`model`, where there are no options.

        Raises:
            OptionsError: it is not given either.
        """
        if self.model is None:
            raise OptionsError("give a model or options: one of the two.")
        return self.model


def make_submission(order: Order, progress: Progress) -> tuple[Submission, Scores | None]:
    """Make a submission, or go on where an interrupted one stopped.

    Args:
        order: what is submitted, and where to.
        progress: given how many files there are, a context whose function is told each one's name and number.

    Returns:
        The checked zip, and its scores if references were given.

    Raises:
        RestoreError: the options, the inputs or the weights do not fit, or something cannot be written.
    """
    if order.track.kind == "opinions":
        return _opinions(order, progress), None
    return _restored(order, progress)


def _restored(order: Order, progress: Progress) -> tuple[Submission, Scores | None]:
    source, track = order.inputs(), order.track
    restorer = _restorer(order)
    author = order.author(order.options.name if order.options else Path(order.named_model()).stem)
    settings = {"runtime": restorer.describe(), "split": order.split}
    identity = identity_of(track, digest_of(restorer.network), settings, _files(source, order.output))
    task = _task(order, source, restorer, author)  # refuses wrong inputs before anything is written
    needs_team = order.template or (order.reference and track.name in RESULTS_JSON)
    team = Team(order.team, author.model, order.weights_url) if needs_team else None
    with reserved(order.output):
        work = WorkFolder(order.output, identity)
        if order.template and team:
            paths = write_template(order.template, work.path / "team", team, restorer.network, _block(order))
            log.info("the team's files: %s", ", ".join(str(path.relative_to(work.path)) for path in paths))
        log.info("%s: %d to do, %s", track.title, len(task.names), restorer.describe())
        with progress(len(task.names)) as on_progress:
            submission = submit(
                task,
                work,
                track,
                author,
                device=restorer.device,
                network=restorer.network,
                remarks=["Self-ensemble over 8 flips and rotations"] if restorer.self_ensemble else [],
                on_progress=on_progress,
            )
        if not order.reference:
            return submission, None
        scores = score(Scorer(track), submission.zip, order.reference)
        if team and track.name in RESULTS_JSON:
            _write_results(submission, scores, work, team, "test" if order.split == "test" else "valid")
        if order.board:
            _add_to_board(order, submission, scores, author.model, source)
        return submission, scores


def _opinions(order: Order, progress: Progress) -> Submission:
    source = order.inputs()
    metric, block = _metric(order)
    task = OpinionTask(metric, source, order.reference)
    identity = identity_of(order.track, json.dumps(block, sort_keys=True), {}, _files(source, order.output))
    author = order.author(block["type"])
    with reserved(order.output), progress(len(task.names)) as on_progress:
        work = WorkFolder(order.output, identity)
        return submit(task, work, order.track, author, device=torch.device("cpu"), on_progress=on_progress)


def _task(order: Order, source: Path, restorer: Restorer, author: Author) -> Task:
    results = order.output / "images"
    if order.track.kind == "sidd":
        return SiddTask(restorer, source, results, author.model)
    if order.track.kind == "dnd":
        return DndTask(restorer, source, results)
    return ImageTask(order.track, restorer, source, results, order.split)


def _files(source: Path, output: Path) -> list[Path]:
    """The files that make a run what it is: those of `source`, but for what the run itself writes there."""
    if not source.is_dir():
        return [source]
    return [path for path in without_results(source.rglob("*"), source, output) if path.is_file()]


def _restorer(order: Order) -> Restorer:
    """The model, folded: it is timed and counted as it would run at its users; float32 unless asked."""
    chosen = {**order.runtime, "fold": True}
    if order.options is None:
        return load_model(order.named_model(), **chosen).measuring()
    runtime = order.options.runtime.model_copy(update=chosen)
    return restorer_of(order.options.model_copy(update={"runtime": runtime})).measuring()


def _block(order: Order) -> Mapping[str, Any]:
    """The option block that builds the network of the model, as it was trained."""
    if order.options is None:
        return network_block(order.named_model())
    source, key, _ = order.options.path.pretrained()
    if order.options.network_g:
        return order.options.network_g
    assert source is not None, "options without network_g name weights: they were checked when they were read"
    return network_block(source, key=key, task=order.options.path.pretrain_task_g)


def _metric(order: Order) -> tuple[BoundMetric, Mapping[str, Any]]:
    """The metric whose scores are submitted, and its option block."""
    options = order.options
    blocks = options.val.metrics if options else {order.named_model(): {"type": order.named_model()}}
    if len(blocks) != 1:
        raise OptionsError(f"val.metrics must name the one metric whose scores are submitted; it names {len(blocks)}.")
    bound = metrics_of(options) if options else bind_metrics(blocks, "--model")
    ((metric, block),) = zip(bound.values(), blocks.values(), strict=True)
    return metric, block


def _write_results(submission: Submission, scores: Scores, work: WorkFolder, team: Team, split: str) -> None:
    """What the organisers' own script would write to results.json."""
    assert submission.complexity is not None, "networks have a cost"
    entry = results_entry(
        [work.records[image]["network_s"] * 1e3 for image in scores.images],
        [values["psnr"] for values in scores.images.values()],
        submission.runtime.peak_mib,
        submission.complexity,
        split=split,
    )
    merge_results(work.path / "results.json", team.label, entry)


def _add_to_board(order: Order, submission: Submission, scores: Scores, name: str, source: Path) -> None:
    assert order.board is not None, "asked for by the caller"
    assert submission.complexity is not None, "networks have a cost"
    cost = {
        **dataclasses.asdict(submission.complexity),
        "runtime_ms": submission.runtime.mean_s * 1e3,
        "memory_mib": submission.runtime.peak_mib,
    }
    values = {key: scores.values[key] for key in ("psnr", "ssim")}
    if order.split == "test":
        values["psnr_test"] = values.pop("psnr")
    add_entry(order.board, Entry(name, order.track.name, values, cost, order.split or source.name))


def _identifier(text: str) -> str:
    """A name that can name a Python module."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "model"
    return name if name[0].isalpha() else f"m{name}"

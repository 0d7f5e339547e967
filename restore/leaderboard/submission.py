"""From a task to a zip that the organisers accept: do every item, time it, pack, and check one's own zip.

The zip takes its name, submission.zip, only after it was opened again and everything in it was found right. A run that
was interrupted goes on where it stopped; as long as an item is missing there is no zip.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from restore import __version__
from restore.errors import OutputError, RestoreError
from restore.evaluation.gauges import Gauge
from restore.files import encoded, sha256_of
from restore.leaderboard.archive import open_package, refuse, write_zip
from restore.leaderboard.checking import README
from restore.leaderboard.organisers import Complexity
from restore.leaderboard.readme import Readme
from restore.leaderboard.tasks import Records, Task
from restore.leaderboard.timing import ForwardClock
from restore.leaderboard.tracks import Track
from restore.leaderboard.work import WorkFolder

__all__ = ["ZIP", "Author", "Runtime", "Submission", "identity_of", "run_task", "runtime_of", "submit"]

ZIP = "submission.zip"
logger = logging.getLogger(__name__)
Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Author:
    """What only the author of a submission can say.

    Attributes:
        model: name of the method.
        extra_data: whether it was trained on data beyond those of the challenge.
        description: method, dependencies, links, extra data.
    """

    model: str
    extra_data: bool = False
    description: str = ""


@dataclass(frozen=True)
class Runtime:
    """Seconds per image, and memory.

    Attributes:
        mean_s: mean over all images, as the track defines it.
        without_first_s: the same without the first image of each start, which pays for warming up; None if no other is.
        network_s: mean of the network alone.
        io_s: mean with reading and writing.
        peak_mib: the most memory, in MiB.
        num_images: how many were measured.
    """

    mean_s: float
    without_first_s: float | None
    network_s: float
    io_s: float
    peak_mib: float
    num_images: int


@dataclass(frozen=True)
class Submission:
    """A submission that passed its own check.

    Attributes:
        zip: the file to upload.
        sha256: its digest.
        names: the files in it.
        runtime: what was measured.
        complexity: what was counted, if there is a network to count.
    """

    zip: Path
    sha256: str
    names: list[str]
    runtime: Runtime
    complexity: Complexity | None


def submit(
    task: Task,
    work: WorkFolder,
    track: Track,
    author: Author,
    *,
    device: torch.device,
    network: nn.Module | None = None,
    remarks: Iterable[str] = (),
    on_progress: Progress | None = None,
) -> Submission:
    """Do what is left of a task, pack it and check the zip.

    Args:
        task: what there is to do.
        work: the folder, which knows what is done.
        track: the kind of challenge.
        author: what the readme says beside the figures.
        device: what it runs on.
        network: whose calls are timed, and whose cost is counted.
        remarks: further facts for the readme, such as the self-ensemble.
        on_progress: called with the name of an item and the number of those that are done.

    Raises:
        RestoreError: items failed (the others are kept), or the zip does not hold what it should.
    """
    target = work.path / ZIP
    target.unlink(missing_ok=True)  # whatever it was, it does not belong to what is being made
    run_task(task, work, device, network, on_progress)
    records = {name: work.records[name] for name in task.names}
    runtime = runtime_of(records, track)
    complexity = (
        Complexity.of(network, channels=network.spec.in_channels) if network else None
    )  # after memory was measured
    files = task.files(records)
    if track.readme:
        text = _description(author, runtime, track, device, complexity, remarks)
        readme = Readme(runtime.mean_s, device.type == "cpu", author.extra_data, text)
        files[README] = str(readme).encode()
        work.write(README, str(readme))
    unchecked = work.path / f".unchecked.{ZIP}"
    try:
        write_zip(unchecked, files)
        with open_package(unchecked) as package:
            refuse("the submission is not ready", task.problems(package))
        unchecked.replace(target)
    finally:
        unchecked.unlink(missing_ok=True)
    submission = Submission(target, sha256_of(target), sorted(files), runtime, complexity)
    work.write("submission.json", json.dumps(_record(submission, track, author), indent=2) + "\n")
    return submission


def run_task(
    task: Task,
    work: WorkFolder,
    device: torch.device,
    network: nn.Module | None = None,
    on_progress: Progress | None = None,
) -> None:
    """Do every item that is not done, one at a time, and note its times.

    Raises:
        RestoreError: some failed; all others are done.
    """
    missing = [name for name in task.names if name not in work.records or not task.is_kept(name)]
    gauge, clock = Gauge(device), ForwardClock(network or nn.Identity(), device)
    failures: list[str] = []
    is_first = True
    for number, name in enumerate(missing, len(task.names) - len(missing)):
        if on_progress:
            on_progress(name, number)
        try:
            with clock.running():
                facts = gauge(task.do, name)
        except OutputError:
            raise
        except RestoreError as error:
            failures.append(str(error))
            continue
        io_s = gauge.milliseconds / 1e3
        times = {"network_s": clock.seconds() if network else io_s, "io_s": io_s, "peak_mib": gauge.peak_mib}
        work.add(name, {**times, "first": is_first, **facts})
        is_first = False
    refuse(f"{len(failures)} of {len(task.names)} items failed, so there is no submission", failures)


def runtime_of(records: Records, track: Track) -> Runtime:
    """The runtime of a run from the records of its items."""
    key = "io_s" if track.clock == "with_io" else "network_s"
    warm = [record[key] for record in records.values() if not record["first"]]

    def mean(key: str) -> float:
        return sum(record[key] for record in records.values()) / len(records)

    return Runtime(
        mean_s=mean(key),
        without_first_s=sum(warm) / len(warm) if warm else None,
        network_s=mean("network_s"),
        io_s=mean("io_s"),
        peak_mib=max(record["peak_mib"] for record in records.values()),
        num_images=len(records),
    )


def identity_of(track: Track, model: str, settings: dict[str, Any], inputs: Iterable[Path]) -> dict[str, Any]:
    """What makes a run what it is, for `WorkFolder`: the same command on the same inputs with the same model."""
    listing = hashlib.sha256()
    for path in sorted(inputs):
        facts = path.stat()
        listing.update(encoded(f"{path.name}\0{facts.st_size}\0{facts.st_mtime_ns}\n"))
    return {"track": track.name, "model": model, "settings": settings, "inputs": listing.hexdigest()}


def _description(
    author: Author,
    runtime: Runtime,
    track: Track,
    device: torch.device,
    complexity: Complexity | None,
    remarks: Iterable[str],
) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    counted = "reading and writing included" if track.clock == "with_io" else "the network alone"
    warm = f"{runtime.without_first_s:.4g} s without the first image" if runtime.without_first_s is not None else ""
    parts = [
        author.model,
        author.description,
        *remarks,
        f"Runtime on {name}, {counted}, batch 1" + (f" ({warm})" if warm else ""),
    ]
    if complexity:
        parts.append(
            f"{complexity.params_m:.3f} M parameters, {complexity.flops_g:.2f} G multiply-adds and "
            f"{complexity.activations_m:.2f} M activations at 256x256, {complexity.num_conv} convolutions"
        )
    parts.append(f"Made with restore {__version__}, PyTorch {torch.__version__}")
    return ". ".join(part.strip().rstrip(".") for part in parts if part.strip()) + "."


def _record(submission: Submission, track: Track, author: Author) -> dict[str, Any]:
    return {
        "track": track.name,
        "model": author.model,
        "zip": submission.zip.name,
        "sha256": submission.sha256,
        "num_files": len(submission.names),
        "runtime": asdict(submission.runtime),
        "complexity": asdict(submission.complexity) if submission.complexity else None,
    }

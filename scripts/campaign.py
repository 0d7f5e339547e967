"""Feeds damaged and hostile inputs to everything that reads files, and counts what goes wrong.

    python scripts/campaign.py                          # 5,000 inputs, two processes, about ten minutes
    python scripts/campaign.py --only weights:1234 --keep folder     # one input again, with its traceback

Images, weights, option files, submissions in zips and MATLAB files are made from a seed, so that each can be made
again, and read as the commands read them. Counted are exceptions that are none of this package's (its own are answers),
inputs that take longer than a limit or end the process, inputs that take far too much memory, and writes outside the
folder that was given. Exit code 1 if there are any.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hostile_inputs import GOOD, make

LIMIT_S = 20
MOST_MIB = 1024


def read_an_image(path: Path, folder: Path) -> None:
    """As every command does: the size, then the pixels; what was read is written."""
    from restore.images import read_image, read_size, write_image

    read_size(path)
    write_image(folder / "result.png", read_image(path).pixels)


def read_weights(path: Path, folder: Path) -> None:
    """As `restore run -m`."""
    from restore.zoo import load_network

    load_network(path)


def read_options(path: Path, folder: Path) -> None:
    """As `restore test`, up to the names of its results."""
    from restore.evaluation.models.folder import ResultsFolder
    from restore.files import atomic_write
    from restore.options import load

    options = load(path)
    results = ResultsFolder(folder / "results", options.name)
    for dataset in options.phases("val", "test"):
        with atomic_write(results.image(dataset.name, "image", options.val.suffix)) as file:
            file.write(b"x")


def read_submission(path: Path, folder: Path) -> None:
    """As `restore leaderboard score sr_x4`."""
    from restore.images import write_image
    from restore.leaderboard.scoring import Scorer, score
    from restore.leaderboard.tracks import TRACKS

    references = folder / "references"
    if not references.is_dir():
        for name in ("0001.png", "0002.png"):
            write_image(references / name, np.full((32, 40, 3), 128, np.uint8))
    score(Scorer(TRACKS["sr_x4"]), path, references)


def read_matfile(path: Path, folder: Path) -> None:
    """As the scorers of SIDD and DND."""
    from restore.errors import DataError
    from restore.leaderboard.matlab import read_blocks, read_crops

    data = path.read_bytes()
    with contextlib.suppress(DataError):
        read_blocks(data, path.name)
    read_crops(data, path.name)


READERS: dict[str, Callable[[Path, Path], None]] = {
    "image": read_an_image,
    "weights": read_weights,
    "options": read_options,
    "zip": read_submission,
    "mat": read_matfile,
}


class _TooLongError(BaseException):
    """An input is over the limit of time."""


class Watch:
    """Notes what is written outside of a folder, for as long as this process lives."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.outside: list[str] = []
        sys.addaudithook(self._look)

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None or event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.symlink", "os.link"):
            return
        is_read = event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        for path in [] if is_read else arguments[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]:
            if isinstance(path, (str, bytes, os.PathLike)):
                place = str(Path(os.fsdecode(path)).resolve())
                if not place.startswith((self.folder, "/dev/", "/proc/")):
                    self.outside.append(place)


WATCH = Watch()


def judge(kind: str, seed: int, box: Path, *, limit_s: int = LIMIT_S) -> tuple[str, str]:
    """Read one input; gives how that ended ("answered", "foreign", "hang", "memory", "outside") and in what words."""
    from restore.errors import RestoreError

    name, content = make(kind, seed)
    (box / name).write_bytes(content)

    def over(*_: Any) -> None:
        raise _TooLongError

    before, WATCH.outside = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    previous = signal.signal(signal.SIGPROF, over)  # of time on the processor, whatever else runs beside
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    WATCH.folder = str(box.resolve())
    ended, words = "answered", ""
    try:
        READERS[kind](box / name, box)
    except RestoreError as error:
        words = str(error)
    except _TooLongError:
        ended, words = "hang", f"over {limit_s} s"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        ended, words = "foreign", f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
        WATCH.folder = None
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if WATCH.outside:
        ended, words = "outside", ", ".join(sorted(set(WATCH.outside)))
    elif ended == "answered" and grown > MOST_MIB:
        ended, words = "memory", f"{grown:.0f} MiB"
    (box / name).unlink(missing_ok=True)
    return ended, " ".join(words.split())[:300]


def warm_up(kinds: set[str], box: Path) -> None:
    """Read a good input of each kind, so that everything is imported."""
    from restore.errors import RestoreError

    for kind in sorted(kinds):
        name, content = next(iter(GOOD[kind]().items()))
        path = box / f"good.{Path(name).name}"
        path.write_bytes(content)
        with contextlib.suppress(RestoreError):
            READERS[kind](path, box)


def _work(tasks: list[tuple[str, int]], out: Any) -> None:
    """Read these inputs, one after the other, and say what is begun and what is done."""
    import logging
    import warnings

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        warm_up({kind for kind, _ in tasks}, Path(folder))
        for task in tasks:
            out.send(("begun", task, ""))
            out.send((*judge(*task, Path(folder)), task))
    out.send(None)


def campaign(tasks: list[tuple[str, int]], workers: int = 2) -> Iterator[tuple[tuple[str, int], str, str]]:
    """Read all inputs in processes that may die; gives each with how it ended and in what words."""
    shares = {number: tasks[number::workers] for number in range(workers)}
    running: dict[Any, tuple[int, Any, float, Any]] = {}
    context = multiprocessing.get_context("spawn")

    def start(number: int) -> None:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(shares[number], there), daemon=True)
        process.start()
        there.close()
        running[here] = (number, process, time.monotonic() + 600, None)

    for number in shares:
        start(number)
    while running:
        for here in multiprocessing.connection.wait(list(running), timeout=1):
            number, process, _, task = running[here]
            try:
                message = here.recv()
            except EOFError:
                process.join()
                del running[here]
                if task is None and shares[number]:
                    raise RuntimeError("a process of the campaign itself ended early: see above") from None
                if task is not None:
                    yield task, "killed", f"exit code {process.exitcode}"
                    start(number)
                continue
            if message is None:
                process.join()
                del running[here]
            elif message[0] == "begun":
                running[here] = (number, process, time.monotonic() + 6 * LIMIT_S, message[1])
            else:
                shares[number] = shares[number][1:]
                running[here] = (number, process, time.monotonic() + 120, None)
                yield message[2], message[0], message[1]
        for here, (number, process, until, task) in list(running.items()):
            if time.monotonic() > until and task is not None:
                process.kill()
                process.join()
                del running[here]
                shares[number] = shares[number][1:]
                yield task, "hang", "over the limit, and not to be interrupted"
                start(number)


def main(argv: list[str] | None = None) -> int:
    """Run the campaign, or one input of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0, help="of the first input")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kinds", default=",".join(READERS), help="names with commas between")
    parser.add_argument("--only", metavar="KIND:SEED", help="one input, with its traceback")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where to put the input of --only")
    arguments = parser.parse_args(argv)
    if arguments.only:
        kind, _, seed = arguments.only.partition(":")
        with tempfile.TemporaryDirectory() as folder:
            name, content = make(kind, int(seed))
            path = (arguments.keep or Path(folder)) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            READERS[kind](path, Path(folder))
        return 0
    kinds, begun = arguments.kinds.split(","), time.monotonic()
    tasks = [(kinds[i % len(kinds)], arguments.seed + i // len(kinds)) for i in range(arguments.inputs)]
    counts: Counter[str] = Counter()
    for (kind, seed), ended, words in campaign(tasks, arguments.workers):
        counts[ended] += 1
        if ended != "answered":
            print(f"{ended}: --only {kind}:{seed}  {words}", flush=True)
    print(
        f"{sum(counts.values()):,} inputs in {time.monotonic() - begun:.0f} s: {counts['foreign']} foreign exceptions, "
        f"{counts['hang']} hangs, {counts['killed']} processes killed, {counts['memory']} over {MOST_MIB} MiB, "
        f"{counts['outside']} that wrote outside"
    )
    return 0 if counts["answered"] == len(tasks) else 1


if __name__ == "__main__":
    sys.exit(main())

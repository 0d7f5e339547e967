"""A queue of trainings that use a processor's idle time, one after the other, for days.

    python scripts/farm.py add options/train_fast_x4.yml --set train.precision=bf16  # put it in the queue
    python scripts/farm.py start --threads 1 --nice 10                               # in the background, until done
    python scripts/farm.py show                                                      # the queue, and how far it is
    python scripts/farm.py stop                                                      # saves; `start` goes on from there
    python scripts/farm.py remove NAME                                               # its files stay

The queue, the logs and the trainings' own folders (`experiments/NAME`) lie in a folder outside the checkout, given by
`--folder` or the environment variable RESTORE_FARM. Trainings run there, so relative paths in their option files count
from it. A training that is stopped goes on bit by bit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TRAIN = Path(__file__).resolve().parent.parent / "restore" / "train.py"
INTERRUPTED = 130  # the exit code of a training that was asked to stop, and has saved
WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
STEP = re.compile(r"^iter ([\d,]+/[\d,]+ .*)$", re.MULTILINE)


class Farm:
    """The queue in its folder. Every change is written at once; a lock keeps commands and worker apart."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.file, self.worker = folder / "queue.json", folder / "worker.pid"

    @contextlib.contextmanager
    def changing(self) -> Iterator[list[dict[str, Any]]]:
        """The jobs, to be changed by nobody else meanwhile."""
        import fcntl

        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "queue.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            jobs = self.jobs()
            yield jobs
            part = self.file.with_suffix(".part")
            part.write_text(json.dumps(jobs, indent=1), encoding="utf-8")
            part.replace(self.file)

    def jobs(self) -> list[dict[str, Any]]:
        """The jobs in the order in which they run."""
        return json.loads(self.file.read_text(encoding="utf-8")) if self.file.exists() else []

    def mark(self, name: str, **values: Any) -> None:
        """Change values of one job."""
        with self.changing() as jobs:
            for job in jobs:
                if job["name"] == name:
                    job.update(values)

    def running(self) -> int | None:
        """Process id of the worker, or None."""
        if not self.worker.exists():
            return None
        pid = int(self.worker.read_text())
        return pid if _is_alive(pid) else None

    def log(self, name: str) -> Path:
        """Where a training's output goes."""
        return self.folder / f"{name}.log"


def add(farm: Farm, arguments: argparse.Namespace) -> None:
    """Put a training at the end of the queue."""
    options = arguments.options.resolve()
    if not options.is_file():
        sys.exit(f"no option file {options}")
    name = arguments.name or options.stem.removeprefix("train_")
    with farm.changing() as jobs:
        if any(job["name"] == name for job in jobs):
            sys.exit(f"'{name}' is in the queue already: give another --name, or remove it first")
        jobs.append({"name": name, "options": str(options), "set": arguments.set, "state": WAITING, "seconds": 0.0})


def remove(farm: Farm, arguments: argparse.Namespace) -> None:
    """Take a training out of the queue; what it has written stays."""
    with farm.changing() as jobs:
        found = [job for job in jobs if job["name"] == arguments.name]
        if not found:
            sys.exit(f"no '{arguments.name}' in the queue: {', '.join(job['name'] for job in jobs) or 'it is empty'}")
        if found[0]["state"] == RUNNING and farm.running():
            sys.exit(f"'{arguments.name}' is running: stop the farm first")
        jobs.remove(found[0])


def start(farm: Farm, arguments: argparse.Namespace) -> None:
    """Start the worker in a session of its own, which goes on when the terminal is closed."""
    if pid := farm.running():
        sys.exit(f"the farm is running already, as process {pid}")
    with farm.changing() as jobs:
        for job in jobs:  # a failed one is tried again; one marked as running was killed with its worker
            job["state"] = DONE if job["state"] == DONE else WAITING
    command = [sys.executable, __file__, "--folder", str(farm.folder), "work"]
    command += ["--threads", str(arguments.threads), "--nice", str(arguments.nice)]
    with (farm.folder / "worker.log").open("a") as log:
        worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    farm.worker.write_text(str(worker.pid))
    print(f"started as process {worker.pid}; logs in {farm.folder}")


def work(farm: Farm, arguments: argparse.Namespace) -> None:
    """Run what waits, one training after the other; on SIGTERM pass it on and end when the training has saved."""
    child: subprocess.Popen | None = None
    stopping = False

    def stop(*_: Any) -> None:
        nonlocal stopping
        stopping = True
        if child is not None:
            child.terminate()

    signal.signal(signal.SIGTERM, stop)
    os.nice(arguments.nice)
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    while not stopping:
        job = next((job for job in farm.jobs() if job["state"] == WAITING), None)
        if job is None:
            break
        command = [sys.executable, str(TRAIN), "-opt", job["options"], "--auto_resume"]
        command += ["--set", f"name={job['name']}", *job["set"]]
        farm.mark(job["name"], state=RUNNING)
        began = time.monotonic()
        with farm.log(job["name"]).open("a") as log:
            child = subprocess.Popen(command, cwd=farm.folder, env=environment, stdout=log, stderr=log)
            if stopping:  # asked while it was started
                child.terminate()
            code = child.wait()
        child = None
        state = WAITING if code in (INTERRUPTED, -signal.SIGTERM) else DONE if code == 0 else FAILED
        farm.mark(job["name"], state=state, seconds=job["seconds"] + time.monotonic() - began)
        stopping = stopping or state == WAITING
    farm.worker.unlink(missing_ok=True)


def stop(farm: Farm, arguments: argparse.Namespace) -> None:
    """Ask the worker to end, and wait until the training has saved its state."""
    pid = farm.running()
    if pid is None:
        sys.exit("the farm is not running")
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + arguments.wait
    while _is_alive(pid):
        if time.monotonic() > end:
            sys.exit(f"process {pid} has not ended after {arguments.wait:g} s; it will when its iteration is finished")
        time.sleep(0.1)


def show(farm: Farm, arguments: argparse.Namespace) -> None:
    """One line for each training: state, hours, and the last line of its log that reports an iteration."""
    pid = farm.running()
    print(f"{farm.folder}: {f'running as process {pid}' if pid else 'not running'}")
    for job in farm.jobs():
        log = farm.log(job["name"])
        reports = STEP.findall(log.read_text(encoding="utf-8", errors="replace")) if log.exists() else []
        state = WAITING if job["state"] == RUNNING and not pid else job["state"]
        print(f"{job['name']:24} {state:8} {job['seconds'] / 3600:6.2f} h  {reports[-1] if reports else ''}".rstrip())


def _is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked after does not."""
    with contextlib.suppress(ChildProcessError):  # not of this process
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def main(arguments: list[str] | None = None) -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where queue, logs and trainings are; by default $RESTORE_FARM")
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("add", help=add.__doc__)
    adding.add_argument("options", type=Path)
    adding.add_argument("--name", help="of the training; by default the option file's")
    adding.add_argument("--set", nargs="+", default=[], metavar="A.B=V", help="changes of single options")
    removing = commands.add_parser("remove", help=remove.__doc__)
    removing.add_argument("name")
    for name, each in (("start", start), ("work", work)):
        command = commands.add_parser(name, help=each.__doc__)
        command.add_argument("--threads", type=int, default=1)
        command.add_argument("--nice", type=int, default=10)
    commands.add_parser("stop", help=stop.__doc__).add_argument("--wait", type=float, default=120, help="seconds")
    commands.add_parser("show", help=show.__doc__)
    parsed = parser.parse_args(arguments)
    folder = parsed.folder or os.environ.get("RESTORE_FARM")
    if folder is None:
        parser.error("say where the queue is: --folder, or the environment variable RESTORE_FARM")
    {each.__name__: each for each in (add, remove, start, work, stop, show)}[parsed.command](
        Farm(Path(folder).expanduser().resolve()), parsed
    )


if __name__ == "__main__":
    main()

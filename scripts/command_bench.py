"""Runs commands on files of a folder as users do, each in a process of its own, and notes how they end."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["Bench", "Outcome", "says"]

LIMIT_S = 600


@dataclass(frozen=True)
class Outcome:
    """What a command did: exit code (negative: killed by a signal; None: over the limit), words, time and memory.

    The time is the processor's, which other programs do not change.
    """

    code: int | None
    said: str
    seconds: float
    peak_mib: float

    @property
    def is_clean(self) -> bool:
        """Whether it ended by itself, and not with a traceback."""
        return self.code is not None and 0 <= self.code <= 2 and "Traceback" not in self.said

    def refuses(self, words: str = "", *, code: tuple[int, ...] = (2,)) -> bool:
        """Whether it ended in one error that says `words` (a regular expression)."""
        errors = [line for line in self.said.splitlines() if line.startswith("error:")]
        return self.is_clean and self.code in code and len(errors) == 1 and says(self.said, words)

    def __str__(self) -> str:
        last = next((line for line in reversed(self.said.splitlines()) if line.strip()), "")
        ended = "over the limit of time" if self.code is None else f"exit {self.code}"
        return f"{ended}, {self.seconds:.1f} s, {self.peak_mib:.0f} MiB: {last[:110]}"


class Bench:
    """A folder of cases, and a fresh folder to work in."""

    def __init__(self, cases: Path, work: Path):
        self.cases, self.work = cases, work

    def restore(self, *arguments: object, cwd: Path | None = None, code: str = "") -> Outcome:
        """Run the `restore` command, behind some `code` of Python."""
        program = f"import sys; {code}\nfrom restore.cli import main; sys.exit(main(sys.argv[1:]))"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        report = self.work / "peak"
        program = f"import atexit, resource; atexit.register(lambda: open({str(report)!r}, 'w').write(str(" + (
            f"resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)))\n{program}"
        )
        report.unlink(missing_ok=True)
        try:
            done = subprocess.run(
                [sys.executable, "-c", program, *map(str, arguments)],
                cwd=cwd or self.work,
                capture_output=True,
                timeout=LIMIT_S,
                text=True,
                errors="replace",
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            ended, said = done.returncode, done.stdout + done.stderr
        except subprocess.TimeoutExpired:
            ended, said = None, ""
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        peak = int(report.read_text()) if report.is_file() else after.ru_maxrss
        return Outcome(ended, said, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, peak / 1024)

    def run(self, model: object, image: Path | None = None, *more: object, output: str = "out") -> Outcome:
        """Restore an image of the cases by `restore run`."""
        return self.restore("run", "-m", model, "-i", image or self.images("a.png"), "-o", output, *more)

    def images(self, name: str) -> Path:
        """An image of the cases."""
        return self.cases / "images" / name

    def folder(self, *names: str) -> Path:
        """A folder with these files of the cases, and a good image beside them."""
        folder = Path(tempfile.mkdtemp(dir=self.work))
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)).save(folder / "zgood.png")
        for name in names:
            shutil.copy(self.cases / name, folder)
        return folder

    @property
    def identity(self) -> Path:
        """A network that returns its input exactly."""
        return self.cases / "weights/identity_x1.pth"


def says(text: str, words: str) -> bool:
    """Whether a text holds what a regular expression says, in letters of either size."""
    return re.search(words, text, re.IGNORECASE) is not None

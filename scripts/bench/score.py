"""`restore score` against a loop of scikit-image and a plain NIQE over the same files: time and numbers.

    python scripts/bench/score.py [--pairs 100] [--side 512] [--workers 1 2] [--json OUT]

The plain loop reads each pair with OpenCV and calls `peak_signal_noise_ratio`, `structural_similarity` and the plain
NIQE of `metrics.py`. It runs in two halves, before and after ours, so that a busy machine slows both. Ours is the whole
command in a process of its own, with its start, its report and its other files. Processor time stands beside the time
of the clock, since on a busy machine that alone means something; divide it by the processes for a quiet one.

    python scripts/bench/score.py --basicsr FOLDER [--pairs 100] [--metrics psnr,ssim]

compares instead with a loop over BasicSR's own `calculate_psnr`, `calculate_ssim` and `calculate_niqe`, of a checkout
of github.com/XPixelGroup/BasicSR, which is imported before its time begins; ours is the whole command with its imports,
and once in a process that has imported everything. They take turns, one thread each.

In areas clipped to black or white, what NIQE measures is rounding error, whose sign the plain one counts
as structure and ours does not: there the two may differ in the third decimal.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import real_basicsr
import skimage.data
import torch
from metrics import plain_niqe
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from timing import against, apart, machine, report

METRICS = ("psnr", "ssim", "niqe")


def make_pairs(folder: Path, count: int, side: int) -> list[tuple[Path, Path]]:
    """Crops of photographs, turned and mirrored, as references; with noise and blur as restored images."""
    photographs = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.rocket(), skimage.data.chelsea()]
    random = np.random.default_rng(0)
    pairs = []
    for index in range(count):
        photograph = photographs[index % len(photographs)]
        zoom = max(1.0, side / min(photograph.shape[:2])) * random.uniform(1.0, 1.3)
        photograph = cv2.resize(photograph, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
        top, left = (int(random.integers(0, extent - side + 1)) for extent in photograph.shape[:2])
        reference = np.rot90(photograph[top : top + side, left : left + side], index // 4 % 4).copy()
        noise = random.normal(scale=random.uniform(2, 20), size=reference.shape)
        blurred = cv2.GaussianBlur(reference, (0, 0), random.uniform(0.4, 1.5))
        restored = np.clip(blurred + noise, 0, 255).round().astype(np.uint8)
        paths = folder / "restored" / f"{index:03}_x4.png", folder / "reference" / f"{index:03}.png"
        for path, pixels in zip(paths, (restored, reference), strict=True):
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), pixels[..., ::-1])
        pairs.append(paths)
    return pairs


Seconds = np.ndarray  # of the clock, of the processor


def now() -> Seconds:
    return np.array([time.perf_counter(), sum(os.times()[:4])])


def plain(pairs: list[tuple[Path, Path]]) -> tuple[np.ndarray, Seconds]:
    """Values (pairs, metrics) and seconds."""
    start = now()
    rows = []
    for paths in pairs:
        restored, reference = (cv2.imread(str(path))[..., ::-1] for path in paths)
        similarity = structural_similarity(
            restored, reference, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        rows.append((peak_signal_noise_ratio(reference, restored), similarity, plain_niqe(restored)))
    return np.array(rows), now() - start


def command_arguments(metrics: tuple[str, ...], workers: int) -> list[str]:
    """What `restore score` is told."""
    files = ["-r", "restored", "-g", "reference", "-o", f"out{workers}"]
    return [*files, "--metrics", ",".join(metrics), "--workers", str(workers), "--fresh"]


def command(folder: Path, workers: int, metrics: tuple[str, ...] = METRICS) -> tuple[np.ndarray, Seconds]:
    """The same of `restore score`."""
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    start = now()
    subprocess.run(
        [sys.executable, "-m", "restore", "score", *command_arguments(metrics, workers)],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
    )
    seconds = now() - start
    with (folder / f"out{workers}/scores.csv").open() as file:
        return np.array([[float(row[name]) for name in metrics] for row in csv.DictReader(file)]), seconds


def against_basicsr(arguments: argparse.Namespace, folder: Path, pairs: list[tuple[Path, Path]]) -> list[dict]:
    """Rows of BasicSR's functions and of the command."""
    files = [(str(restored), str(reference)) for restored, reference in pairs]
    rows: list[dict] = []
    for metrics in (tuple(names.split(",")) for names in arguments.metrics):
        title = f"{', '.join(metrics)}: "
        candidates = {
            f"{title}BasicSR": functools.partial(
                real_basicsr.scores, str(Path(arguments.basicsr).resolve()), files, metrics
            ),
            f"{title}restore score": functools.partial(scored, folder, metrics, alone=True),
            f"{title}restore score, imported": functools.partial(scored, folder, metrics, alone=False),
        }
        rows += against(apart(candidates, arguments.runs), f"{title}BasicSR")
    return rows


def scored(folder: Path, metrics: tuple[str, ...], *, alone: bool) -> Callable[[], object]:
    """`restore score --workers 1` over all pairs, in a process of its own or in this one."""
    if alone:
        return lambda: command(folder, 1, metrics)

    def work() -> None:
        from restore.cli import main as restore

        os.chdir(folder)
        with contextlib.redirect_stdout(io.StringIO()):
            code = restore(["score", "-q", *command_arguments(metrics, 1)])
        assert code == 0, code

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--basicsr", metavar="FOLDER", help="a checkout of BasicSR to compare with")
    parser.add_argument("--runs", type=int, default=3, help="rounds against BasicSR")
    parser.add_argument("--metrics", nargs="+", default=["psnr,ssim", "niqe"], help="groups of them, against BasicSR")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = make_pairs(folder, arguments.pairs, arguments.side)
        if arguments.basicsr:
            torch.set_num_threads(1)
            rows = against_basicsr(arguments, folder, pairs)
            report(f"{len(pairs)} pairs of {arguments.side}x{arguments.side}", rows, machine(), arguments.json)
            return
        half = len(pairs) // 2
        first, seconds = plain(pairs[:half])
        ours = {workers: command(folder, workers) for workers in arguments.workers}
        second, more = plain(pairs[half:])
    expected, plain_s = np.concatenate([first, second]), seconds + more
    rows = [{"": "plain loop", "seconds": plain_s[0], "processor s": plain_s[1]}]
    for workers, (values, seconds) in ours.items():
        faster, processor_faster = map(float, plain_s / seconds)
        difference = np.abs(values - expected).max(axis=0)
        rows.append(
            {
                "": f"--workers {workers}",
                "seconds": seconds[0],
                "processor s": seconds[1],
                "faster": faster,
                "processor": processor_faster,
                **{f"{metric} apart": float(d) for metric, d in zip(METRICS, difference, strict=True)},
            }
        )
    title = f"{len(pairs)} pairs of {arguments.side}x{arguments.side}, PSNR + SSIM + NIQE"
    report(title, rows, machine(), arguments.json)


if __name__ == "__main__":
    main()

"""Kills a small training at random moments, resumes it, and compares it bit by bit with one that ran through.

    python scripts/stress_resume.py --kills 10                        one process
    python scripts/stress_resume.py --kills 10 --processes 2          two, with gloo
    python scripts/stress_resume.py --kills 10 --blind                degraded on the device, with a pool of pairs

A run is killed with SIGKILL at random moments of random iterations, loader processes and all, and goes on with
--auto_resume, until all kills are spent; then it finishes. Compared are every tensor of the weights, their average and
the optimizer, the random generators, and the file names of every batch. Children are forked, so that torch is imported
once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

OPTIONS = """
name: {name}
model_type: SRModel
scale: 2
num_gpu: 0
manual_seed: 7
datasets:
  train:
    name: noise
    type: PairedImageDataset
    dataroot_gt: {root}/gt
    dataroot_lq: {root}/lq
    gt_size: 16
    use_hflip: true
    use_rot: true
    batch_size_per_gpu: {batch}
    num_worker_per_gpu: {workers}
  val:
    name: noise
    type: PairedImageDataset
    dataroot_gt: {root}/gt
    dataroot_lq: {root}/lq
network_g: {{type: SwinIR, upscale: 2, img_size: 8, window_size: 4, embed_dim: 8, depths: [2], num_heads: [2],
             mlp_ratio: 1, drop_path_rate: 0.3, drop_rate: 0.1, upsampler: pixelshuffledirect}}
path: {{experiments_root: {root}/experiments}}
train:
  total_iter: {iterations}
  ema_decay: 0.9
  clip_norm: 1.0
  accumulate: 2
  optim_g: {{type: Adam, lr: 1e-3, betas: [0.9, 0.99]}}
  scheduler: {{type: CosineAnnealingRestartLR, periods: [{iterations}], eta_min: 1e-7}}
  warmup_iter: 5
  pixel_opt: {{type: CharbonnierLoss}}
val:
  val_freq: 10
  metrics: {{psnr: {{type: calculate_psnr, crop_border: 2}}}}
logger: {{print_freq: 4, save_checkpoint_freq: 3, keep_checkpoints: 3, save_best: psnr}}
"""

PAIRS = """    type: PairedImageDataset
    dataroot_gt: {root}/gt
    dataroot_lq: {root}/lq
    gt_size: 16
"""
SHARP = """    type: RealESRGANDataset
    dataroot_gt: {root}/gt
    gt_size: 16
    crop_pad_size: 24
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--blind", action="store_true")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_images(root)
        whole = Run(root, "whole", arguments)
        whole.go_on()
        killed = Run(root, "killed", arguments)
        points = sorted(draw.uniform(0, arguments.iterations) for _ in range(arguments.kills))
        for number, point in enumerate(points):
            killed.go_on(kill_in=point, delay=draw.uniform(0, 0.1))
            print(f"kill {number + 1}: in iteration {killed.reached()}, newest state {killed.newest()}", flush=True)
        killed.go_on()
        differences = [*compare(whole.result(), killed.result()), *compare_batches(whole, killed)]
    for difference in differences:
        print("different:", difference)
    print(f"{arguments.kills} kills, {arguments.processes} processes: {'DIFFERENT' if differences else 'identical'}")
    return 1 if differences else 0


class Run:
    """A training that is started, killed and resumed in forked processes."""

    def __init__(self, root: Path, name: str, arguments: argparse.Namespace):
        self.root, self.name, self.arguments = root, name, arguments
        self.options = root / f"{name}.yml"
        template = OPTIONS
        if arguments.blind:
            template = template.replace("SRModel", "RealESRNetModel\nqueue_size: 12").replace(PAIRS, SHARP)
        self.options.write_text(
            template.format(
                name=name,
                root=root,
                batch=4 // arguments.processes,
                workers=arguments.workers,
                iterations=arguments.iterations,
            )
        )

    def go_on(self, kill_in: float | None = None, delay: float = 0) -> None:
        """Start or resume, to the end or until `delay` seconds into the iteration `kill_in`."""
        port = free_port()
        children = [self._fork(rank, port) for rank in range(self.arguments.processes)]
        if kill_in is not None:
            while (
                self.reached() < kill_in
                and os.waitid(os.P_PID, children[0], os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
            ):
                time.sleep(0.002)
            time.sleep(delay)
            for child in children:
                with contextlib.suppress(ProcessLookupError):  # it has just finished
                    os.killpg(child, signal.SIGKILL)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        if kill_in is None and any(codes):
            raise SystemExit(f"{self.name} ended with {codes}: {(self.root / 'stderr').read_text()[-2000:]}")

    def reached(self) -> int:
        """The iteration that the first process began last."""
        path = self.root / f"{self.name}_0.batches"
        lines = path.read_text().splitlines() if path.exists() else []
        return int(lines[-1].partition(".")[0]) if lines and lines[-1].endswith("]") else 0

    def newest(self) -> int:
        """The iteration of the newest state on disk."""
        states = (self.root / "experiments" / self.name / "training_states").glob("*.state")
        return max((int(path.stem) for path in states), default=0)

    def result(self) -> dict:
        """Everything in the last checkpoint."""
        import torch

        folder, last = self.root / "experiments" / self.name, self.arguments.iterations
        names = [f"models/net_g_{last}.pth", "models/net_g_best.pth", f"training_states/{last}.state"]
        return {name: torch.load(folder / name, weights_only=True) for name in names}

    def batches(self) -> dict[str, list[str]]:
        """The files of each batch, by rank and iteration; a repeated iteration must repeat its files."""
        found: dict[str, list[str]] = {}
        for path in self.root.glob(f"{self.name}_*.batches"):
            for line in path.read_text().splitlines():
                if line.endswith("]"):  # the last line of a killed run may be cut
                    key, _, files = line.partition(" ")
                    key = f"{path.stem.rpartition('_')[2]}:{key}"
                    if found.setdefault(key, json.loads(files)) != json.loads(files):
                        raise SystemExit(f"{self.name}: {key} was drawn as {found[key]} and as {files}")
        return found

    def _fork(self, rank: int, port: int) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads: they belong to torch, idle
            child = os.fork()
        if child:
            with contextlib.suppress(OSError):  # the child is doing the same
                os.setpgid(child, child)
            return child
        os.setpgid(0, 0)
        if self.arguments.processes > 1:
            os.environ.update(RANK=str(rank), WORLD_SIZE=str(self.arguments.processes), LOCAL_RANK=str(rank))
            os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port))
        errors = os.open(self.root / "stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(errors, 2)
        code = 1
        try:
            self._note_batches(rank)
            from restore.cli import main as restore

            code = restore(["train", "-opt", str(self.options), "--auto_resume"])
        finally:
            os._exit(code)

    def _note_batches(self, rank: int) -> None:
        """Write down the files of every batch that reaches the objective."""
        from restore.training.trainer import Trainer

        path, prepare = self.root / f"{self.name}_{rank}.batches", Trainer._micro_batches

        def noted(trainer, stream):
            for number, batch in enumerate(prepare(trainer, stream)):
                with path.open("a") as file:
                    names = [Path(name).name for name in batch["gt_path"]]
                    file.write(f"{trainer.iteration}.{number} {json.dumps(names)}\n")
                yield batch

        Trainer._micro_batches = noted


def compare(one: object, other: object, where: str = "") -> list[str]:
    """The places where two nested structures differ, tensors bit by bit."""
    import torch

    if type(one) is not type(other):
        return [f"{where}: {type(one).__name__} and {type(other).__name__}"]
    if isinstance(one, torch.Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [where]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f"{where}: keys {sorted(map(str, one.keys() ^ other.keys()))}"]
        return [place for key in one for place in compare(one[key], other[key], f"{where}/{key}")]
    if isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return [f"{where}: lengths {len(one)} and {len(other)}"]
        pairs = zip(one, other, strict=True)
        return [place for number, pair in enumerate(pairs) for place in compare(*pair, f"{where}/{number}")]
    return [] if one == other else [f"{where}: {one!r} and {other!r}"]


def compare_batches(whole: Run, killed: Run) -> list[str]:
    """The batches whose files differ."""
    one, other = whole.batches(), killed.batches()
    return [
        f"batch {key}: {one.get(key)} and {other.get(key)}" for key in {*one, *other} if one.get(key) != other.get(key)
    ]


def make_images(root: Path) -> None:
    """Seven pairs of random images."""
    from restore.images import write_image

    noise = np.random.default_rng(0)
    for number in range(7):
        write_image(root / "gt" / f"{number}.png", noise.integers(0, 256, (40, 36, 3), dtype=np.uint8))
        write_image(root / "lq" / f"{number}.png", noise.integers(0, 256, (20, 18, 3), dtype=np.uint8))


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import torch

    from restore.registry import DATASETS, DISCRIMINATORS, LOSSES, METRICS, NETWORKS, OBJECTIVES

    for registry in (DATASETS, DISCRIMINATORS, LOSSES, METRICS, NETWORKS, OBJECTIVES):
        registry.names()  # imported once, before the forks
    torch.set_num_threads(1)
    sys.exit(main())

"""What a teacher costs: training steps without one, with one that is asked in every step, and with its answers kept.

    python scripts/bench/teachers.py --teacher rrdb_psnr_x4.safetensors --images datasets/train/photos [--threads 1]

The student is SwinIR-light x4 (or, with `--student`, any option block), batches of inputs of `--px` pixels cut from the
images, read by the process that trains, so that finding and unpacking answers counts. Every candidate takes the same
batches, and candidates take turns. The last column is the largest difference of the losses to those of the teacher that
is asked in every step. The figures are printed, and written as JSON to results/bench/teachers.json.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from pathlib import Path

import torch
import yaml
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from timing import interleaved, machine, report, summary

from restore import build_model
from restore.data.loading import DeviceLoader, training_loader
from restore.data.sampling import PatchStage, StreamSampler
from restore.data.storage.answers import AnswerCache
from restore.layers.layout import lay_out
from restore.networks.checkpoint import digest_of
from restore.registry import DATASETS, SCHEDULERS
from restore.training.objectives import Restoration
from restore.training.optimizers import build_optimizer
from restore.training.schedules import RateControl
from restore.training.trainer import Plan, Trainer
from restore.zoo import load_network

LIGHT = {"type": "SwinIR", "upscale": 4, "embed_dim": 60, "depths": [6] * 4, "num_heads": [6] * 4, "window_size": 8}
LIGHT |= {"mlp_ratio": 2, "upsampler": "pixelshuffledirect", "drop_path_rate": 0.0}  # nothing random in a step
PIXEL = {"pixel_opt": {"type": "L1Loss"}}
KINDS = {"hard": {"type": "HardDistillationLoss"}, "soft": {"type": "SoftDistillationLoss"}}
ONLINE = "asked in every step"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, help="name or file of a network that enlarges 4 times")
    parser.add_argument("--images", required=True, help="folder of photographs")
    parser.add_argument("--student", type=yaml.safe_load, default=LIGHT, help="option block of the student")
    parser.add_argument("--kind", choices=KINDS, default="soft")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--px", type=int, default=48)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", default="results/bench/teachers.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(arguments, Path(folder))
    report("Teachers", rows, machine(), arguments.json)


def measure(arguments: argparse.Namespace, folder: Path) -> list[dict]:
    """A row for each candidate."""
    block = {"type": "DownsampledImageDataset", "dataroot_gt": arguments.images, "gt_size": 4 * arguments.px}
    dataset = DATASETS.build({**block, "cache": "packed", "cache_root": str(folder / "packs")}, scale=4)
    torch.manual_seed(0)
    student, teacher = build_model(arguments.student), load_network(arguments.teacher)
    for network in (student, teacher):
        lay_out(network, torch.device("cpu"))
    candidates = {
        name: Candidate(copy.deepcopy(student), None if name == "no teacher" else teacher, arguments, dataset, kept)
        for name, kept in (
            ("no teacher", None),
            (ONLINE, None),
            ("asked once, and kept", folder / "new"),
            ("kept before", folder / "kept"),
        )
    }
    candidates["kept before"].fill()
    measured = summary(interleaved({name: each.step for name, each in candidates.items()}, arguments.runs), ONLINE)
    reference = candidates[ONLINE].losses
    return [
        {
            "what": name,
            "s": facts["median_s"],
            "times as fast": 1 / facts["ratio"],
            "KiB per answer": candidates[name].size() / 1024 if candidates[name].cache else "",
            "losses differ by": max(abs(a - b) for a, b in zip(candidates[name].losses, reference, strict=True))
            if name != "no teacher"
            else "",
        }
        for name, facts in measured.items()
    ]


class Candidate:
    """A trainer and its batches."""

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None,
        arguments: argparse.Namespace,
        dataset: object,
        kept: Path | None,
    ):
        distilling = {} if teacher is None else {"distill_opt": KINDS[arguments.kind]}
        frozen = {} if teacher is None else {"teacher": teacher}
        objective = Restoration({"g": student}, {**PIXEL, **distilling}, frozen=frozen)
        self.cache = None
        if kept is not None:
            self.cache = objective.lessons.cache = AnswerCache(kept, digest_of(teacher)[:16])
        optimizer = build_optimizer({"type": "Adam", "lr": 2e-4}, student)
        rates = {"g": RateControl(optimizer, SCHEDULERS.build({"type": "Constant"}))}
        self.trainer = Trainer(objective, {"g": optimizer}, rates, Plan(10**9))
        self.losses: list[float] = []
        sampler = StreamSampler(len(dataset), [PatchStage(arguments.batch)], total_iter=arguments.runs + 1, seed=1)
        self.loader = DeviceLoader(training_loader(objective.reading(dataset), sampler), torch.device("cpu"))
        self.batches = iter(self.loader)

    def step(self) -> None:
        self.trainer.step([next(self.batches)])
        self.losses.append(sum(self.trainer.fetch_losses().values()))

    def fill(self) -> None:
        """Ask the teacher what it will be asked, and keep its answers."""
        for batch in self.loader:
            self.trainer.objective.lessons._answers([batch["lq"]], batch)

    def size(self) -> float:
        """Bytes on disk for each answer."""
        return self.cache.own.stat().st_size / len(self.cache)


if __name__ == "__main__":
    main()

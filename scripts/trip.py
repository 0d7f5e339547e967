"""Counts the modules that a debugger steps through between the options of a training and its first step.

    python scripts/trip.py --names                          # the code beside this script
    PYTHONPATH=OTHER_CHECKOUT python scripts/trip.py        # other code, by the same rule

One small training runs twice: SwinIR on five pairs of images, with a moving average and a validation. The first run
imports everything and is not counted. In the second, a module counts if one of its functions is entered, at any depth,
before `Trainer.step` is. Printed are

    imports of training/run.py     the modules that it names
    training/run.py:train          those entered from the call of this function to the first step
    options                        those entered from the call that is given the options to the first step

Where the options go to `training/run.py:train` itself, the last two are the same.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import sys
import tempfile
from pathlib import Path
from types import CodeType, FrameType

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = """
name: trip
scale: 2
num_gpu: 0
manual_seed: 3
datasets:
  train: {name: noise, type: PairedImageDataset, dataroot_gt: gt, dataroot_lq: lq, gt_size: 16, use_hflip: true,
          batch_size_per_gpu: 2, num_worker_per_gpu: 0}
  val: {name: noise, type: PairedImageDataset, dataroot_gt: gt, dataroot_lq: lq}
network_g: {type: SwinIR, upscale: 2, img_size: 8, window_size: 4, embed_dim: 8, depths: [1], num_heads: [2],
            mlp_ratio: 1, upsampler: pixelshuffledirect}
train:
  total_iter: 1
  ema_decay: 0.9
  optim_g: {type: Adam, lr: 2e-3}
  scheduler: {type: MultiStepLR, milestones: [4]}
  pixel_opt: {type: L1Loss}
val: {val_freq: 1, metrics: {psnr: {type: calculate_psnr, crop_border: 2}}}
"""


class Trip:
    """Notes which modules of a package are entered, from the call of one function to the call of another.

    Args:
        package: folder of the package.
        start: code of the function that begins the trip.
        end: code of the function that ends it.
    """

    def __init__(self, package: Path, start: CodeType, end: CodeType):
        self.package, self.start, self.end = f"{package}{os.sep}", start, end
        self.modules: set[str] = set()
        self.under_way = self.ended = False

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if self.ended or event != "call" or not code.co_filename.startswith(self.package):
            return
        self.under_way = self.under_way or code is self.start
        self.ended = code is self.end
        if self.under_way and not self.ended:
            self.modules.add(code.co_filename.removeprefix(self.package))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--names", action="store_true", help="also name the modules")
    arguments = parser.parse_args()
    try:
        import restore
    except ModuleNotFoundError:
        sys.path.insert(0, str(ROOT))
        import restore
    run = importlib.import_module("restore.training.run")
    package = Path(restore.__file__).parent
    assembled = (package / "assembly").is_dir()
    given_options = importlib.import_module("restore.assembly.trainings" if assembled else "restore.training.run").train
    step = importlib.import_module("restore.training.trainer").Trainer.step
    found = {"imports of training/run.py": imports(package / "training" / "run.py")}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        options = prepared()
        given_options(options)
        for name, start in {"training/run.py:train": run.train, "options": given_options}.items():
            trip = Trip(package, start.__code__, step.__code__)
            sys.setprofile(trip)
            try:
                given_options(options)
            finally:
                sys.setprofile(None)
            if not trip.ended or not trip.modules:
                sys.exit(f"{start} and {step} were not called in this order")
            found[name] = trip.modules
        os.chdir(ROOT)
    print(f"modules of {package}")
    for name, modules in found.items():
        print(f"{name:<28}{len(modules):>4}")
        if arguments.names:
            print("".join(f"    {module}\n" for module in sorted(modules)), end="")


def prepared():
    """The options of the training, its images in the working directory."""
    import numpy as np

    from restore.images import write_image
    from restore.options import load

    noise = np.random.default_rng(0)
    for number in range(5):
        small = noise.integers(0, 256, (12, 10, 3), dtype=np.uint8)
        write_image(Path("lq") / f"{number}.png", small)
        write_image(Path("gt") / f"{number}.png", small.repeat(2, 0).repeat(2, 1))
    Path("train.yml").write_text(OPTIONS)
    return load("train.yml", is_train=True)


def imports(file: Path) -> set[str]:
    """The modules of the package that a file imports, those for annotations aside."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    imported = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node not in for_types)
    return {node.module for node in imported if (node.module or "").partition(".")[0] == "restore"}


if __name__ == "__main__":
    main()

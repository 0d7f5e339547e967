"""Training steps against a plain loop, the fixed cost of the loop, and the loader against decoding whole images.

    python scripts/bench/training.py [--device cpu] [--threads 2] [--only steps|loader] [--no-compile]

Steps: SwinIR-light and EDSR (16 blocks of 64), batch 8, inputs of 48 x 48. The plain loop is what one writes by hand:
float32, Adam as it comes, an average tensor by tensor, `.item()` in each iteration; `plain network` is SwinIR as it was
published, which the other SwinIR rows are compared with. bf16 is measured where the device multiplies it natively: the
line below the table says so. `bare` is forward, backward and optimizer step alone, with the trainer's own optimizer:
what the trainer takes beyond it is its fixed cost. The column `by` says what a row does that those before it do not.
Loader: crops of 192 from 2-megapixel PNG files with one worker.
Candidates take turns. The figures are printed, and written as JSON to results/bench/training.json.

    python scripts/bench/training.py --basicsr FOLDER [--threads 1] [--only steps|loader]

compares with BasicSR's own code, a checkout of github.com/XPixelGroup/BasicSR, each side in a process of its own and in
turns, by the clock and by processor time: a step of its SwinIRModel, and batches of its PairedImageDataset over PNG
sub-images of 480 px, cut as its script cuts them, with one worker.
"""

from __future__ import annotations

import argparse
import copy
import functools
import itertools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import tifffile
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

import real_basicsr
from plain_swinir import PlainSwinIR
from timing import Maker, against, apart, interleaved, machine, report, summary

from restore.allocator import keep_freed_memory
from restore.data.loading import DeviceLoader, training_loader
from restore.data.preparation.subimages import cut_image
from restore.data.sampling import PatchStage, StreamSampler
from restore.data.storage.databases import write_database
from restore.images import list_images, read_image, write_image
from restore.inference.blocks import compile_blocks
from restore.inference.precision import has_fast_bf16, resolve_precision
from restore.layers.layout import lay_out
from restore.registry import DATASETS, NETWORKS, SCHEDULERS
from restore.training.objectives import Restoration
from restore.training.optimizers import build_optimizer
from restore.training.schedules import RateControl
from restore.training.trainer import Plan, Trainer

LIGHT = {"type": "SwinIR", "upscale": 4, "embed_dim": 60, "depths": [6] * 4, "num_heads": [6] * 4, "window_size": 8}
LIGHT |= {"mlp_ratio": 2, "upsampler": "pixelshuffledirect", "drop_path_rate": 0.0}  # as the plain network
EDSR = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 64, "num_block": 16, "upscale": 4}
ADAM = {"type": "Adam", "lr": 2e-4, "betas": [0.9, 0.99]}
BY = {
    "plain loop": "the network: windows as one gather, attention with a gradient of its own",
    "bare": "fused Adam; convolutions on channels-last maps",
    "trainer fp32": "one fused average; no waiting for the loss",
    "trainer bf16": "products in bf16",
    "trainer fp32 compiled": "compiled block by block",
    "trainer bf16 compiled": "compiled, and products in bf16",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--only", choices=("steps", "loader"))
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--basicsr", metavar="FOLDER", help="a checkout of BasicSR to compare with")
    parser.add_argument("--json", default="results/bench/training.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    rows = []
    if arguments.basicsr:
        rows += against_basicsr(arguments)
    elif arguments.only != "loader":
        for block in (LIGHT, EDSR):
            if block["type"] in NETWORKS:
                rows += steps(block, arguments)
    if arguments.only != "steps" and not arguments.basicsr:
        rows += loaders(arguments)
    facts = machine(arguments.device) | {"native bf16": has_fast_bf16(torch.device(arguments.device))}
    report("Training", rows, facts, arguments.json)


def against_basicsr(arguments: argparse.Namespace) -> list[dict]:
    """Steps and batches of ours and BasicSR's."""
    rows = []
    if arguments.only != "loader":
        candidates: dict[str, Maker] = {
            "step: BasicSR": functools.partial(real_basicsr.step, arguments.basicsr, arguments.batch)
        }
        for dtype in (torch.float32, torch.bfloat16):
            name = f"step: ours, {str(dtype).removeprefix('torch.')}"
            candidates[name] = functools.partial(our_step, arguments.batch, dtype)
        rows += against(apart(candidates, arguments.runs), "step: BasicSR")
    if arguments.only != "steps":
        with tempfile.TemporaryDirectory() as folder:
            gt, lq = cut_as_basicsr(Path(folder))
            block = {"name": "train", "type": "PairedImageDataset", "dataroot_gt": str(gt), "dataroot_lq": str(lq)}
            block |= {"gt_size": 192, "scale": 4, "use_hflip": True, "use_rot": True}
            block |= {"num_worker_per_gpu": 1, "batch_size_per_gpu": arguments.batch}
            packed = {"cache": "packed", "cache_root": str(Path(folder) / "packs")}
            batches = 25
            candidates = {
                "loader: BasicSR": functools.partial(real_basicsr.loader, arguments.basicsr, block, batches),
                "loader: ours": functools.partial(our_loader, block, batches),
                "loader: ours, packed": functools.partial(our_loader, block | packed, batches),
            }
            rows += against(apart(candidates, arguments.runs), "loader: BasicSR")
    return rows


def our_step(batch: int, dtype: torch.dtype) -> Callable[[], object]:
    """The step that `real_basicsr.step` takes, as `restore/train.py` takes it."""
    keep_freed_memory()
    torch.manual_seed(0)
    gt_BCHW = torch.rand(batch, 3, 192, 192)
    data = {"lq": nn.functional.avg_pool2d(gt_BCHW, 4), "gt": gt_BCHW}
    return trained(NETWORKS.build(dict(real_basicsr.LIGHT)), data, dtype)


def our_loader(block: dict, batches: int) -> Callable[[], object]:
    """`batches` batches of the same options, as `restore/train.py` makes them."""
    known = {name: value for name, value in block.items() if not name.endswith("_per_gpu") and name != "scale"}
    dataset = DATASETS.build(known, scale=block["scale"])
    sampler = StreamSampler(len(dataset), [PatchStage(block["batch_size_per_gpu"])], total_iter=10**6)
    loader = training_loader(dataset, sampler, num_workers=block["num_worker_per_gpu"], prefetch_factor=2)
    stream = iter(DeviceLoader(loader, torch.device("cpu")))
    return lambda: [next(stream) for _ in range(batches)]


def cut_as_basicsr(folder: Path) -> tuple[Path, Path]:
    """Pairs of sub-images, 480 px and 120 px, compressed as `scripts/data_preparation/extract_subimages.py` does."""
    photographs = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.rocket(), skimage.data.chelsea()]
    for name in ("gt", "lq"):
        (folder / name).mkdir()
    for number, photograph in enumerate(photographs * 6):
        random = np.random.default_rng(number)
        large = cv2.resize(photograph, None, fx=2.5, fy=2.5, interpolation=cv2.INTER_CUBIC)
        top, left = (int(random.integers(side - 480)) for side in large.shape[:2])
        grain = random.normal(scale=2, size=(480, 480, 3))
        gt = np.clip(large[top : top + 480, left : left + 480] + grain, 0, 255).round().astype(np.uint8)
        for path, pixels in (("gt", gt), ("lq", cv2.resize(gt, (120, 120), interpolation=cv2.INTER_AREA))):
            cv2.imwrite(f"{folder}/{path}/{number:03}.png", pixels[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 3])
    return folder / "gt", folder / "lq"


def steps(block: dict, arguments: argparse.Namespace) -> list[dict]:
    """Seconds of one training step, by who takes it."""
    device = torch.device(arguments.device)
    gt = torch.rand(arguments.batch, 3, 192, 192, device=device)
    batch = {"lq": nn.functional.avg_pool2d(gt, 4), "gt": gt}
    network = NETWORKS.build(block).to(device)
    fast = resolve_precision("auto", device, network.spec.precisions)
    candidates = {
        "plain loop": plain_loop(copy.deepcopy(network), batch),
        "bare": bare_loop(copy.deepcopy(network), batch),
    }
    reference = "plain loop"
    if block["type"] == "SwinIR":
        reference = "plain loop, plain network"
        candidates = {reference: plain_loop(PlainSwinIR().to(device), batch), **candidates}
    for compiled in (False, True) if arguments.compile else (False,):
        for dtype in dict.fromkeys([torch.float32, fast]):
            name = f"trainer {'bf16' if dtype is torch.bfloat16 else 'fp32'}" + compiled * " compiled"
            candidates[name] = trained(copy.deepcopy(network), batch, dtype, compiled=compiled)
    measured = summary(interleaved(candidates, arguments.runs, warmup=2), reference)
    bare = measured["bare"]["median_s"]
    return [
        {
            "what": f"{block['type']}: {name}",
            "s": facts["median_s"],
            "times as fast": 1 / facts["ratio"],
            "fixed cost": f"{facts['median_s'] / bare - 1:.1%}" if name == "trainer fp32" else "",
            "by": BY[name] if name != reference else "",
        }
        for name, facts in measured.items()
    ]


def plain_loop(network: nn.Module, batch: dict) -> Callable[[], None]:
    average = copy.deepcopy(network).eval()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.9, 0.99))

    def step() -> None:
        optimizer.zero_grad()
        loss = nn.functional.l1_loss(network(batch["lq"]), batch["gt"])
        loss.backward()
        optimizer.step()
        ours, theirs = dict(average.named_parameters()), dict(network.named_parameters())
        for name in ours:
            ours[name].data.mul_(0.999).add_(theirs[name].data, alpha=0.001)
        loss.item()

    return step


def bare_loop(network: nn.Module, batch: dict) -> Callable[[], None]:
    lay_out(network, batch["lq"].device)
    optimizer = build_optimizer(ADAM, network)

    def step() -> None:
        nn.functional.l1_loss(network(batch["lq"]), batch["gt"]).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def trained(network: nn.Module, batch: dict, dtype: torch.dtype, compiled: bool = False) -> Callable[[], None]:
    lay_out(network, batch["lq"].device)
    optimizer = build_optimizer(ADAM, network)
    objective = Restoration({"g": network}, {"pixel_opt": {"type": "L1Loss"}})
    objective.keep_average(0.999)
    if compiled:
        compile_blocks(network)
    constant = SCHEDULERS.build({"type": "Constant"})
    rates = {"g": RateControl(optimizer, constant)}
    trainer = Trainer(objective, {"g": optimizer}, rates, Plan(10**9, dtype=dtype))
    return lambda: trainer.step([batch])


def loaders(arguments: argparse.Namespace, batches: int = 12) -> list[dict]:
    """Seconds for some batches of crops, by where they come from."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        noise = np.random.default_rng(0)
        for number in range(6):
            small = torch.from_numpy(noise.random((1, 3, 150, 220), dtype=np.float32))
            smooth = nn.functional.interpolate(small, size=(1200, 1760), mode="bicubic")[0].permute(1, 2, 0)
            grain = noise.normal(0, 2, smooth.shape)
            write_image(root / "whole" / f"{number}.png", (smooth.numpy() * 255 + grain).clip(0, 255).astype(np.uint8))
            cut_image(root / "whole" / f"{number}.png", root / "pieces")
            (root / "tiff").mkdir(exist_ok=True)
            tifffile.imwrite(root / f"tiff/{number}.tif", read_image(root / f"whole/{number}.png").pixels)
        pieces = list_images(root / "pieces")
        write_database(
            [(path.stem, lambda path=path: read_image(path).pixels) for path in pieces], root / "pieces.lmdb"
        )
        sources = {
            "whole PNG files": {"dataroot_gt": str(root / "whole")},
            "sub-images": {"dataroot_gt": str(root / "pieces")},
            "sub-images in lmdb": {"dataroot_gt": str(root / "pieces.lmdb"), "io_backend": {"type": "lmdb"}},
            "uncompressed TIFF files": {"dataroot_gt": str(root / "tiff")},
            "packed": {"dataroot_gt": str(root / "whole"), "cache": "packed", "cache_root": str(root / "packs")},
        }
        streams = {name: stream(source, arguments.batch) for name, source in sources.items()}
        candidates = {
            name: lambda batches_of=batches_of: list(itertools.islice(batches_of, batches))
            for name, batches_of in streams.items()
        }
        measured = summary(interleaved(candidates, arguments.runs), reference="whole PNG files")
        samples = batches * arguments.batch
        return [
            {
                "what": f"loader: {name}",
                "s": facts["median_s"],
                "samples/s": samples / facts["median_s"],
                "times as fast": 1 / facts["ratio"],
            }
            for name, facts in measured.items()
        ]


def stream(source: dict, batch: int) -> object:
    """An endless row of batches from one worker."""
    dataset = DATASETS.build({"type": "DownsampledImageDataset", "gt_size": 192, "use_hflip": True, **source}, scale=4)
    sampler = StreamSampler(len(dataset), [PatchStage(batch)], total_iter=10**6)
    return iter(training_loader(dataset, sampler, num_workers=1, prefetch_factor=1))


if __name__ == "__main__":
    main()

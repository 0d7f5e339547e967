"""What the compiled library takes of the time of torch's operators: processor time, in turns.

    python scripts/bench/compiled.py [--only SwinIR] [--threads 1] [--rounds 9] [--json results/bench/compiled.json]

Each row is one network, size and precision; the figures are seconds of processor time, medians of rounds, and the
median of the rounds' ratios. `training` is the attention or the layer norm of a step alone, forward and backward, and a
whole step of SwinIR-light.

`--compile` compares `torch.compile` of the blocks with the blocks as they are instead: with the library, and without.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from swinir import LIGHT
from timing import machine, report

from restore.allocator import keep_freed_memory
from restore.inference.blocks import compile_blocks
from restore.layers.compiled.library import description, is_usable, switched_off
from restore.layers.layer_norm import LayerNorm
from restore.layers.window import window_attention, window_plan
from restore.networks.edt import EDT
from restore.networks.swinir import SwinIR
from restore.networks.uformer import Uformer

MEDIUM = {"upscale": 4, "embed_dim": 180, "depths": [6] * 6, "num_heads": [6] * 6, "window_size": 8, "mlp_ratio": 2}
TINY = {"scales": [2], "num_feat": 8, "embed_dim": 60, "depths": [6] * 4, "num_heads": [6] * 4}
CASES: dict[str, tuple[Callable[[], torch.nn.Module], tuple[int, ...]]] = {
    "SwinIR-light x4": (lambda: SwinIR(**LIGHT), (64, 128, 256)),
    "SwinIR-M x4": (lambda: SwinIR(**MEDIUM, upsampler="pixelshuffle"), (64,)),
    "Uformer-T": (lambda: Uformer(embed_dim=16, modulator=True), (128,)),
    "EDT-T x2": (lambda: EDT(**TINY, upsampler="pixelshuffledirect"), (96,)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="part of a name")
    parser.add_argument("--sizes", type=int, nargs="*", help="instead of those of the table")
    parser.add_argument("--compile", action="store_true", help="torch.compile against the blocks as they are")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", default="results/bench/compiled.json")
    arguments = parser.parse_args()
    if not is_usable():
        sys.exit(f"compiled attention: {description()}")
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as trainings do
    if arguments.compile:
        rows = [row for library in (True, False) for row in by_torch(arguments, library=library)]
        report("torch.compile against the blocks as they are", rows, machine(), arguments.json)
        return
    rows = []
    for name, (build, sizes) in CASES.items():
        if arguments.only not in name:
            continue
        network = build().eval()
        for side in arguments.sizes or sizes:
            image = torch.rand(1, 3, side, side)
            for dtype in (torch.float32, torch.bfloat16):
                with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                    rows.append(compared(f"{name}, {side} px", dtype, partial(network, image), arguments.rounds))
    if arguments.only in "training":
        for dtype in (torch.float32, torch.bfloat16):
            rows.append(compared("training", dtype, training(dtype, 8, 8, 60), arguments.rounds))
            rows.append(compared("training, windows of 16", dtype, training(dtype, 1, 16, 180), arguments.rounds))
            rows.append(compared("training, layer norm", dtype, norm_training(dtype), arguments.rounds))
            rows.append(compared("training, a whole step", dtype, step(dtype), arguments.rounds))
    report(f"compiled ({description()}) against torch's operators", rows, machine(), arguments.json)


def by_torch(arguments: argparse.Namespace, *, library: bool) -> list[dict[str, object]]:
    """A row for each network and precision; `first_s`: the first call, without the compiler's own processes."""
    rows: list[dict[str, object]] = []
    for name, (build, sizes) in CASES.items():
        if arguments.only not in name:
            continue
        side = (arguments.sizes or sizes)[0]
        plain, image = build().eval(), torch.rand(1, 3, side, side)
        for dtype in (torch.float32, torch.bfloat16):
            graphs, precision = copy.deepcopy(plain), str(dtype).removeprefix("torch.")
            compile_blocks(graphs)
            low = torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)
            with torch.no_grad(), low, nullcontext() if library else switched_off():
                first = seconds(partial(graphs, image))
                seconds(partial(plain, image))
                times = [
                    (seconds(partial(graphs, image)), seconds(partial(plain, image))) for _ in range(arguments.rounds)
                ]
            ratio = statistics.median(one / other for one, other in times)
            row = {"network": name, "library": library, "precision": precision, "first_s": first}
            medians = (statistics.median(column) for column in zip(*times, strict=True))
            rows.append(row | dict(zip(("compile_s", "plain_s"), medians, strict=True)) | {"ratio": ratio})
    return rows


def training(dtype: torch.dtype, patches: int, window: int, channels: int) -> Callable[[], object]:
    """Attention of six heads on patches of 64 px, with its gradients."""
    plan = window_plan(patches, 64, 64, (window, window), (window // 2, window // 2), torch.device("cpu"))
    num_tokens = window**2
    qkv = torch.randn(sum(plan.counts), num_tokens, 3 * channels, dtype=dtype, requires_grad=True)
    bias = torch.randn(6, num_tokens, num_tokens, requires_grad=True)
    return lambda: torch.autograd.grad(window_attention(qkv, 6, bias, plan).sum(), (qkv, bias))


def norm_training(dtype: torch.dtype) -> Callable[[], object]:
    """The layer norm of eight patches of 32 px and 60 channels, with its gradients."""
    norm, x = LayerNorm(60), torch.randn(8, 32, 32, 60, dtype=dtype, requires_grad=True)
    return lambda: torch.autograd.grad(norm(x).sum(), [x, *norm.parameters()])


def step(dtype: torch.dtype) -> Callable[[], object]:
    """Eight patches of 32 px through SwinIR-light and back, without the optimizer."""
    network, x_BCHW = SwinIR(**LIGHT).train(), torch.rand(8, 3, 32, 32)

    def run() -> object:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = network(x_BCHW).float().abs().mean()
        return torch.autograd.grad(loss, list(network.parameters()))

    return run


def compared(name: str, dtype: torch.dtype, run: Callable[[], object], rounds: int) -> dict[str, object]:
    times = []
    for _ in range(rounds + 1):
        ours = seconds(run)
        with switched_off():
            times.append((ours, seconds(run)))
    times = times[1:]
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(one / other for one, other in times)
    precision = str(dtype).removeprefix("torch.")
    return {"network": name, "precision": precision, "compiled_s": ours, "operators_s": theirs, "ratio": ratio}


def seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


if __name__ == "__main__":
    main()

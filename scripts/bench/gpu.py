"""Everything that wants a graphics card to be checked, in one run of a few minutes and one table.

    python scripts/bench/gpu.py [--official ~/official] [--minutes 8] [--json results/bench/gpu.json]
    python scripts/bench/gpu.py --device cpu --quick     # a rehearsal without a card: small networks, every step once

1. **agrees**: every network, small, on the device against float32 on the processor: results and gradients in float32
   (without TF32), results in bf16 and fp16. The figure is the largest difference, as a share of the largest value.
2. **takes**: milliseconds an image in fp32 (as torch is set, which allows no TF32), bf16 and fp16, of the networks and
   sides of `peers.py`; ours, ours compiled block by block (without --quick), and the official code where `--official`
   names a folder with checkouts of SwinIR, Uformer and EDT. They take turns; medians.
3. **learns**: 200 steps of SwinIR-light on patches of 48 px: milliseconds a step, and the loss of the first and last
   twenty steps.

What does not fit into `--minutes` is left out, and the table says so. The exit code is 1 if a network disagrees, gives
what is not finite, or does not learn.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

import peers
from timing import interleaved, machine, report

from restore.inference.blocks import compile_blocks
from restore.inference.precision import PRECISIONS, arithmetic
from restore.registry import NETWORKS

WINDOWED = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2]}
SMALL: dict[str, dict[str, Any]] = {  # every registered network
    "EDSR": {"num_feat": 8, "num_block": 2},
    "EDT": {**WINDOWED, "scales": [2], "num_feat": 8, "window_size": [6, 24], "img_size": 48},
    "EFDN": {"n_feats": 8},
    "FFDNet": {"in_nc": 3, "out_nc": 3, "nc": 8, "nb": 3},
    "HiT_SRF": {"embed_dim": 16, "depths": [2], "num_heads": [2]},
    "IMDN": {"nf": 16, "num_modules": 2},
    "IPT": {"n_feats": 4, "num_layers": 1, "num_heads": 12, "scale": 2, "patch_size": 12},
    "MAN": {"n_resblocks": 2, "n_feats": 12},
    "MSRResNet": {"num_feat": 8, "num_block": 2},
    "MetaFormerRestorer": {
        "embed_dim": 16,
        "depths": [2],
        "mixers": [{"type": kind, "num_heads": 2, "window_size": 4} for kind in ("window", "shifted_window")],
    },
    "NGswin": {
        "embed_dim": 16,
        "dec_dim": 16,
        "depths": [1, 2, 1],
        "num_heads": [2, 2, 2],
        "dec_depths": 1,
        "dec_num_heads": 2,
    },
    "RCAN": {"num_feat": 8, "num_group": 2, "num_block": 1, "squeeze_factor": 4, "upscale": 2},
    "RFDN": {"nf": 8, "num_modules": 2},
    "RLFN": {"feature_channels": 8, "num_blocks": 2},
    "RRDBNet": {"num_feat": 8, "num_block": 1, "num_grow_ch": 4},
    "RepConvSR": {"num_feat": 8, "num_block": 2},
    "SRVGGNetCompact": {"num_feat": 8, "num_conv": 3},
    "SwinIR": {**WINDOWED, "upscale": 2, "window_size": 8, "upsampler": "pixelshuffledirect"},
    "Uformer": {
        "embed_dim": 4,
        "img_size": 64,
        "depths": [1] * 9,
        "num_heads": [1, 2, 2, 2, 2, 2, 2, 2, 1],
        "modulator": True,
    },
    "UNetRestorer": {"encoder": "test_convnext", "width": 8, "max_width": 16, "depth": 1},
}
MOST_APART = {"fp32": 1e-4, "gradient": 1e-3, "bf16": 0.1, "fp16": 0.02}
QUICK = ("SwinIR-light x4",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--official", default="", help="folder with checkouts of SwinIR, Uformer and EDT")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--quick", action="store_true", help="everything once, and small: a rehearsal")
    parser.add_argument("--json", default="results/bench/gpu.json")
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    device = torch.device(arguments.device)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    rows: list[dict[str, Any]] = []
    for part, share in ((agreeing, 0.35), (taking, 0.85), (learning, 1.0)):
        until = end - 60 * arguments.minutes * (1 - share)
        for row in part(device, arguments, until):
            rows.append({"what": part.__name__, **row})
            print(", ".join(str(value) for value in rows[-1].values()), flush=True)
    facts = {"device": str(device)} if arguments.quick else machine(arguments.device)
    report("on the device", rows, facts, arguments.json)
    wrong = [row for row in rows if row.get("ends") == "WRONG"]
    if wrong:
        sys.exit(f"{len(wrong)} of {len(rows)} rows are wrong")


def agreeing(device: torch.device, arguments: argparse.Namespace, until: float) -> Iterator[dict[str, Any]]:
    """A row for each network and precision: how far the device is from the processor."""
    for name in SMALL:
        if time.monotonic() > until:
            yield left_out(name)
            continue
        torch.manual_seed(0)
        network = stirred(NETWORKS.build({"type": name, **SMALL[name]})).eval()
        x_BCHW = peers.image(48)[:, : network.spec.in_channels] * network.spec.value_range
        expected, gradients = run(network, x_BCHW)
        there = network.to(device)
        found, found_gradients = run(there, x_BCHW.to(device))
        yield judged(name, "fp32", apart(found, expected))
        yield judged(name, "gradient", max(apart(*pair) for pair in zip(found_gradients, gradients, strict=True)))
        for precision in ("bf16", "fp16"):
            if precision in network.spec.precisions:
                with torch.no_grad(), arithmetic(device, PRECISIONS[precision]):
                    yield judged(name, precision, apart(there(x_BCHW.to(device)), expected))


def stirred(network: nn.Module) -> nn.Module:
    """The network with every weight moved a little, so that none is zero and every layer has its say."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape))
    return network


def run(network: nn.Module, x_BCHW: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The result, and the gradients of its mean square by all weights."""
    network.zero_grad(set_to_none=True)
    result = network(x_BCHW)
    result.square().mean().backward()
    return result.detach(), [each.grad.clone() for each in network.parameters() if each.grad is not None]


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, as a share of the largest value; infinity where it is not finite."""
    expected = expected.float().cpu()
    difference = (found.float().cpu() - expected).abs().max().item()
    return difference / max(expected.abs().max().item(), 1e-6) if difference == difference else float("inf")


def judged(name: str, precision: str, share: float) -> dict[str, Any]:
    ends = "good" if share <= MOST_APART[precision] else "WRONG"
    return {"network": name, "precision": precision, "apart": share, "ends": ends}


def left_out(name: str) -> dict[str, Any]:
    return {"network": name, "ends": "left out: the time is up"}


def taking(device: torch.device, arguments: argparse.Namespace, until: float) -> Iterator[dict[str, Any]]:
    """A row for each network, side, precision and form: milliseconds an image."""
    sides = (32,) if arguments.quick else (64, 128, 256)
    for name, (options, _) in peers.NETWORKS.items():
        if arguments.quick and name not in QUICK:
            continue
        options = options | ({"depths": [2], "num_heads": [2]} if arguments.quick else {})
        with tempfile.TemporaryDirectory() as folder:
            weights = Path(folder) / "weights.pth"
            torch.manual_seed(0)
            torch.save(peers.sensible(peers.build(options)).state_dict(), weights)
            for side in sides:
                if time.monotonic() > until:
                    yield left_out(f"{name}, {side} px")
                    continue
                job = peers.Job(options, str(weights), side, "fp32", 1, arguments.official)
                forms, problem = forms_of(job, device, compiled=not arguments.quick)
                yield from timed(name, job, forms, device, arguments)
                if problem and side == sides[0]:
                    yield {"network": name, "form": "official", "ends": f"left out: {problem}"}


def forms_of(job: peers.Job, device: torch.device, *, compiled: bool) -> tuple[dict[str, nn.Module], str]:
    """Our network, the same compiled, and the official one, or why there is none."""
    forms: dict[str, nn.Module] = {"ours": peers.loaded(job).to(device)}
    if compiled:
        forms["ours compiled"] = peers.loaded(job).to(device)
        compile_blocks(forms["ours compiled"])
    try:
        forms["official"] = peers.official_network(job, device)
    except (peers.LeftOutError, ImportError) as error:
        return forms, str(error)
    return forms, ""


def timed(
    name: str, job: peers.Job, forms: dict[str, nn.Module], device: torch.device, arguments: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    x_BCHW = peers.image(job.side).to(device)
    for precision, dtype in PRECISIONS.items():
        with torch.inference_mode(), arithmetic(device, dtype):
            calls = {form: lambda network=network: network(x_BCHW) for form, network in forms.items()}
            finite = {form: bool(call().isfinite().all()) for form, call in calls.items()}
            seconds = interleaved(calls, runs=1 if arguments.quick else 7)
        ours = statistics.median(seconds["ours"])
        for form, values in seconds.items():
            median = statistics.median(values)
            row = {"network": name, "precision": precision, "side": job.side, "form": form, "ms": 1e3 * median}
            ends = "good" if finite[form] or form == "official" else "WRONG"
            yield {**row, "ours / this": ours / median, "ends": ends}


def learning(device: torch.device, arguments: argparse.Namespace, until: float) -> Iterator[dict[str, Any]]:
    """A row for each precision: milliseconds a step, and the loss in the beginning and in the end."""
    steps, batch = (12, 2) if arguments.quick else (200, 16)
    options = peers.SWINIR | peers.LIGHT | ({"depths": [2], "num_heads": [2]} if arguments.quick else {})
    few = max(2, steps // 10)
    for precision in ("fp32", "bf16"):
        if time.monotonic() > until:
            yield left_out(f"training in {precision}")
            continue
        torch.manual_seed(0)
        network = peers.build(options).to(device).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=2e-4)
        target = torch.cat([peers.image(192)] * batch).to(device)
        small = nn.functional.interpolate(target, scale_factor=0.25, mode="area")
        losses, times = [], []
        for _ in range(steps):
            start = time.perf_counter()
            with arithmetic(device, PRECISIONS[precision]):
                loss = nn.functional.l1_loss(network(small).float(), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            times.append(time.perf_counter() - start)
        first, last = statistics.mean(losses[:few]), statistics.mean(losses[-few:])
        row = {"network": "SwinIR-light x4", "precision": precision, "form": f"{steps} steps of {batch} patches"}
        ends = "good" if last < first else "WRONG"
        yield {**row, "ms": 1e3 * statistics.median(times), "loss": f"{first:.4f} to {last:.4f}", "ends": ends}


if __name__ == "__main__":
    main()

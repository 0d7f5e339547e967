"""How much faster the networks are than the straightforward published form, with the same weights.

    PYTHONPATH=. python scripts/bench/networks.py [--device cuda] [--dtype bf16] [--threads 2] [--rounds 7] [--only IPT]

Both forms run in turn, so a busy machine slows both; the ratio of each round is taken, and the median of the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from plain_edt import PlainEDT
from plain_ipt import PlainIPT
from plain_swinir import PlainSwinIR
from plain_uformer import PlainUformer

from restore.analysis.cost import image_cost
from restore.networks.edt import EDT
from restore.networks.ipt import IPT
from restore.networks.swinir import SwinIR
from restore.networks.uformer import Uformer

CASES: dict[str, tuple[Callable, Callable, tuple[int, int]]] = {  # ours, plain, number of images and their side
    "SwinIR-light x4": (
        lambda: SwinIR(embed_dim=60, window_size=8, mlp_ratio=2, upscale=4, upsampler="pixelshuffledirect"),
        PlainSwinIR,
        (1, 96),
    ),
    "Uformer-T": (lambda: Uformer(embed_dim=16, modulator=True), lambda: PlainUformer(16), (1, 256)),
    "Uformer-S": (lambda: Uformer(embed_dim=32, modulator=True), lambda: PlainUformer(32), (1, 256)),
    "EDT-T x2": (
        lambda: EDT(
            scales=[2],
            num_feat=8,
            embed_dim=60,
            depths=[6] * 4,
            num_heads=[6] * 4,
            upsampler="pixelshuffledirect",
        ),
        PlainEDT,
        (1, 96),
    ),
    "IPT x2": (lambda: IPT(scale=2), PlainIPT, (2, 48)),  # the whole network on tiles of the published test
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="part of a name")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"{'network':<18}{'input':>11}{'params':>9}{'MACs':>10}{'plain':>10}{'ours':>10}{'faster':>9}{'difference':>12}"
    )
    for name, (ours, plain, shape) in CASES.items():
        if arguments.only in name:
            compare(name, ours(), plain(), *shape, arguments)


@torch.inference_mode()
def compare(
    name: str, ours: torch.nn.Module, plain: torch.nn.Module, count: int, side: int, arguments: argparse.Namespace
) -> None:
    torch.manual_seed(0)
    missing = plain.load_state_dict(ours.state_dict(), strict=False).missing_keys
    assert not missing, f"{name}: the plain form has other weights: {missing}"
    ours, plain = ours.eval().to(arguments.device), plain.eval().to(arguments.device)
    image = torch.rand(count, 3, side, side, device=arguments.device) * ours.spec.value_range
    cost = image_cost(ours, height=side)
    with torch.autocast(arguments.device, torch.bfloat16, enabled=arguments.dtype == "bf16"):
        reference = plain(image)
        difference = ((ours(image) - reference).norm() / reference.norm()).item()
        times = [(seconds(plain, image), seconds(ours, image)) for _ in range(arguments.rounds)]
    slow, fast = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(first / second for first, second in times)
    print(
        f"{name:<18}{f'{count}x{side}x{side}':>11}{cost.parameters / 1e6:>7.2f} M{count * cost.macs / 1e9:>8.2f} G"
        f"{slow:>9.3f}s{fast:>9.3f}s{ratio:>8.2f}x{difference:>12.1e}",
        flush=True,
    )


def seconds(network: torch.nn.Module, image: torch.Tensor) -> float:
    synchronize = torch.cuda.synchronize if image.is_cuda else (lambda: None)
    synchronize()
    start = time.perf_counter()
    network(image)
    synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

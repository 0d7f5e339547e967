"""Networks as they were trained against the same networks folded, in turn in one run.

python scripts/bench/folding.py [--device cpu] [--threads 2] [--runs 5] [--json results/bench/folding.json]
"""

from __future__ import annotations

import argparse

import torch
from timing import interleaved, machine, report, summary

from restore import build_model
from restore.layers.folding import fold

LIGHT = {"type": "SwinIR", "upscale": 4, "embed_dim": 60, "depths": [6] * 4, "num_heads": [6] * 4, "window_size": 8}
NETWORKS = {
    "RepConvSR x4": ({"type": "RepConvSR"}, 128),
    "SwinIR-light x4": ({**LIGHT, "mlp_ratio": 2, "upsampler": "pixelshuffledirect"}, 96),
    "Uformer-T": ({"type": "Uformer", "embed_dim": 16, "modulator": True}, 128),
    "MetaFormer, convolutions, LayerScale": (
        {"type": "MetaFormerRestorer", "mixers": ["gated_conv"], "layer_scale": 0.1},
        96,
    ),
    "U-Net on RepGhostNet": ({"type": "UNetRestorer", "encoder": "repghostnet_100"}, 128),
    "U-Net on MobileOne": ({"type": "UNetRestorer", "encoder": "mobileone_s1"}, 128),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", default="results/bench/folding.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    rows = [row(name, *NETWORKS[name], arguments.device, arguments.runs) for name in NETWORKS]
    report("Folding", rows, machine(arguments.device), arguments.json)


@torch.no_grad()
def row(name: str, block: dict, side_px: int, device: str, runs: int) -> dict[str, object]:
    """What folding does to one network."""
    network = build_model(block).eval().to(device)
    for parameter in network.parameters():  # some start as zeros, which would hide all others
        parameter.add_(torch.randn_like(parameter), alpha=0.01)
    folded = fold(network)
    x_BCHW = torch.rand(1, 3, side_px, side_px, device=device)
    seconds = summary(
        interleaved({"as trained": lambda: network(x_BCHW), "folded": lambda: folded(x_BCHW)}, runs, 2), "as trained"
    )
    sizes = [sum(parameter.numel() for parameter in each.parameters()) / 1e6 for each in (network, folded)]
    return {
        "network": name,
        "px": side_px,
        "parameters [M]": sizes[0],
        "folded [M]": sizes[1],
        "as trained [ms]": 1e3 * seconds["as trained"]["median_s"],
        "folded [ms]": 1e3 * seconds["folded"]["median_s"],
        "ratio": seconds["folded"]["ratio"],
        "difference over range": difference(network(x_BCHW), folded(x_BCHW)),
    }


def difference(wanted: torch.Tensor, found: torch.Tensor) -> float:
    """The largest difference over the range of what is wanted."""
    return ((wanted - found).abs().max() / (wanted.max() - wanted.min())).item()


if __name__ == "__main__":
    main()

"""SwinIR-light x4 on one image, against a plain implementation of the published forward pass.

    python scripts/bench/swinir.py [--size 256] [--threads 2] [--device cpu] [--json results/bench/swinir.json]

`plain` is `plain_swinir.py`; `fp32` is our network as it is called by users; `auto` is what `--precision auto` chooses
(bf16 where the processor computes it natively, otherwise float32). All get the same weights and input, in turn.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from plain_swinir import PlainSwinIR
from timing import interleaved, machine, report, summary

from restore.inference import Restorer
from restore.networks.swinir import SwinIR

LIGHT = {
    "upscale": 4,
    "embed_dim": 60,
    "depths": [6] * 4,
    "num_heads": [6] * 4,
    "window_size": 8,
    "mlp_ratio": 2,
    "upsampler": "pixelshuffledirect",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", default="results/bench/swinir.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    ours = SwinIR(**LIGHT).eval()
    plain = PlainSwinIR().eval()
    derived = ("attn_mask", "relative_position_index")
    plain.load_state_dict({name: value for name, value in ours.state_dict().items() if not name.endswith(derived)})
    plain.to(arguments.device)
    x = torch.rand(1, 3, arguments.size, arguments.size, device=arguments.device)
    restorers = {
        precision: Restorer(ours, device=arguments.device, precision=precision, tile=None)
        for precision in ("fp32", "auto")
    }
    candidates = {"plain": lambda: plain(x)} | {
        name: (lambda restorer=restorer: restorer(x)) for name, restorer in restorers.items()
    }
    with torch.inference_mode():
        expected = plain(x).clamp(0, 1)
        seconds = interleaved(candidates, arguments.runs)
        rows = []
        for name, figures in summary(seconds, "plain").items():
            difference = (candidates[name]().clamp(0, 1).float() - expected).abs().max().item()
            rows.append({"forward": name, **figures, "largest difference": difference})
    facts = machine(arguments.device)
    report(f"SwinIR-light x4, {arguments.size} x {arguments.size} input", rows, facts, arguments.json)


if __name__ == "__main__":
    main()

"""Does a body of 48 blocks learn, and where must its norms stand?

    python scripts/studies/very_deep.py

One stage of 48 blocks of window attention learns to take noise of sigma 25 off colour patches, from the first step at
the full rate. Printed over the seeds: the norm of the gradient that reaches the first block over that which reaches
the last, before any step and after all of them; and then the PSNR of noisy photographs of Set5 (centres of 128 px).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from study import note, parser, show, trained

from restore import build_model
from restore.images import list_images, read_image, to_tensor
from restore.metrics import psnr
from restore.zoo import load_network

BLOCKS, SIGMA, SIDE_PX = 48, 25, 128
BODY = {
    "type": "MetaFormerRestorer",
    "mixers": [{"type": "window", "num_heads": 2, "window_size": 8}],
    "embed_dim": 24,
    "depths": [BLOCKS],
    "drop_path_rate": 0.0,
}
PLACEMENTS = ("post", "pre", "deepnorm", "sub-ln")


def main() -> None:
    """Train, measure and print."""
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--iterations", type=int, default=80)
    made.add_argument("--rate", type=float, default=3e-3)
    made.add_argument("--clip-norm", type=float, default=1.0, help="largest norm of gradients; 0 for any")
    made.add_argument("--gt-px", type=int, default=24, help="side of the patches of training")
    made.add_argument("--placements", nargs="+", default=list(PLACEMENTS))
    arguments = made.parse_args()
    data, n = arguments.data, arguments.iterations
    pairs = noisy(data / "benchmark/Set5/HR")
    columns = ("first / last block before", "first / last block after", "PSNR")
    rows = {"the noisy photographs": dict(zip(columns, ([math.nan], [math.nan], [quality(None, pairs)]), strict=True))}
    for placement in arguments.placements:
        rows[placement] = {column: [] for column in columns}
        for seed in arguments.seeds:
            weights = trained(
                "options/train_sweep_denoise_25.yml",
                f"very_deep_{placement}_{arguments.rate:g}_{arguments.clip_norm}_{n}_{seed}",
                [
                    f"datasets.train.dataroot_gt=[{data}/train/photos]",
                    f"datasets.train.gt_size={arguments.gt_px}",
                    "datasets.train.num_worker_per_gpu=0",
                    "datasets.val=~",
                    "val=~",
                    f"network_g={BODY | {'placement': placement}}",
                    f"train.optim_g.lr={arguments.rate}",
                    f"train.clip_norm={arguments.clip_norm or '~'}",
                    f"train.scheduler.periods=[{n}]",
                    f"train.total_iter={n}",
                    "train.warmup_iter=-1",
                    "train.ema_decay=0",
                    f"logger.save_checkpoint_freq={n}",
                ],
                arguments.output,
                seed=seed,
            )
            torch.manual_seed(seed)
            new, learned = build_model(BODY | {"placement": placement}), load_network(weights)
            found = gradients(new, pairs), gradients(learned, pairs), quality(learned, pairs)
            note(placement, seed, *found)
            for values, value in zip(rows[placement].values(), found, strict=True):
                values.append(value)
    show(rows, digits=4)


def noisy(folder) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Photographs with and without noise."""
    found, draw = [], torch.Generator().manual_seed(0)
    for path in list_images(folder):
        pixels = read_image(path).pixels
        top, left = ((side - SIDE_PX) // 2 for side in pixels.shape[:2])
        sharp = to_tensor(np.ascontiguousarray(pixels[top : top + SIDE_PX, left : left + SIDE_PX, :3]))
        found.append((sharp + torch.randn(sharp.shape, generator=draw) * SIGMA / 255, sharp))
    return found


@torch.no_grad()
def quality(network, pairs) -> float:
    """Mean PSNR of what a network makes of noisy photographs; of these themselves without one."""
    made = [(bad if network is None else network.eval()(bad), sharp) for bad, sharp in pairs]
    return float(np.mean([float(psnr(restored.clamp(0, 1), sharp)) for restored, sharp in made]))


def gradients(network, pairs) -> float:
    """The norm of the gradient of the first block over that of the last."""
    bad, sharp = (side[..., :32, :32] for side in pairs[0])
    (network.train().requires_grad_(True)(bad) - sharp).abs().mean().backward()
    first, last = (network.stages[0].blocks[number].mixer.proj.weight.grad.norm() for number in (0, BLOCKS - 1))
    return float(first / last)


if __name__ == "__main__":
    main()

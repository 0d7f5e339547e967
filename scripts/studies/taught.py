"""Does a student that learns from a teacher gain over one that learns from the references, in as many iterations?

    python scripts/studies/taught.py --teacher rrdb_psnr_x4.safetensors

A small RepConvSR learns x4 from scratch: from the references, from the teacher's answers to the same inputs, or from
both. All begin with the same weights, see the same crops in the same order and take as many steps. There are `--crops`
crops, so the teacher is asked so often and no more, whatever the seed. `new crops` is what more data bring without a
teacher: references again, of other crops of all photographs in every step, mirrored and turned. Printed over the seeds:
PSNR (Y) of Set5 and Set14 at the end, and what is gained over the first row.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from study import note, parser, show, trained

from restore.images import list_images, read_image, write_image
from restore.training.history import HISTORY, read_history

VARIANTS = {
    "references": {"pixel_opt": 1},
    "answers": {"distill_opt": 1},
    "both": {"pixel_opt": 0.5, "distill_opt": 0.5},
    "new crops": {"pixel_opt": 1},
}
LOSSES = {"pixel_opt": "L1Loss", "distill_opt": "SoftDistillationLoss"}
SIDE_PX = 96


def main() -> None:
    """Train, measure and print."""
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--teacher", required=True, help="name or file of a network that enlarges four times")
    made.add_argument("--variants", nargs="+", choices=VARIANTS, default=["references", "answers"])
    made.add_argument("--iterations", type=int, default=3000)
    made.add_argument("--crops", type=int, default=200)
    arguments = made.parse_args()
    data, n, count = arguments.data, arguments.iterations, arguments.crops
    crops = cut(data / "train/photos", arguments.output / f"crops_{count}", count)
    common = [
        f"datasets.train.gt_size={SIDE_PX}",
        "datasets.train.gt_sizes=~",
        "datasets.train.mini_batch_sizes=~",
        "datasets.train.iters=~",
        "datasets.train.batch_size_per_gpu=4",
        f"datasets.val.dataroot_gt={data}/benchmark/Set5/HR",
        f"datasets.val.dataroot_lq={data}/benchmark/Set5/LR_bicubic/X4",
        f"datasets.val_2.dataroot_gt={data}/benchmark/Set14/HR",
        "network_g.num_feat=32",
        "network_g.num_block=4",
        f"train.scheduler.hold={n // 2}",
        f"train.scheduler.total={n}",
        f"train.total_iter={n}",
        "train.pixel_opt=~",
        f"val.val_freq={n}",
        f"logger.save_checkpoint_freq={n}",
    ]
    rows: dict[str, dict[str, list[float]]] = {name: {} for name in arguments.variants}
    for seed in arguments.seeds:
        first: list[float] = []
        for name in arguments.variants:
            is_new, weights_of_losses = name == "new crops", VARIANTS[name]
            own = [f"train.{key}={{type: {LOSSES[key]}, loss_weight: {of}}}" for key, of in weights_of_losses.items()]
            if "distill_opt" in weights_of_losses:
                own.append(f"train.teacher={{model: {arguments.teacher}, cache: {arguments.output / 'answers'}}}")
            own += [f"datasets.train.{key}={str(is_new).lower()}" for key in ("use_hflip", "use_rot")]
            own.append(f"datasets.train.dataroot_gt={data / 'train/photos' if is_new else crops}")
            label = f"{name.replace(' ', '_')}_{count}_{n}_{seed}"
            weights = trained("options/train_fast_x4.yml", label, [*common, *own], arguments.output, seed=seed)
            values = reached(weights.parents[1] / HISTORY)
            first = first or values
            note(name, seed, *values)
            columns = ("Set5", "Set14", "gained on Set5", "gained on Set14")
            for column, value in zip(columns, [*values, *np.subtract(values, first)], strict=True):
                rows[name].setdefault(column, []).append(float(value))
    show(rows)


def cut(photos: Path, folder: Path, count: int) -> Path:
    """So many crops, drawn once, as many of each photograph."""
    files, draw = list_images(photos), np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        file, corner = folder / f"{number:05d}.png", draw.random(2)
        if not file.exists():
            pixels = read_image(files[number % len(files)]).pixels
            top, left = (int(part * (side - SIDE_PX)) for part, side in zip(corner, pixels.shape[:2], strict=True))
            write_image(file, np.ascontiguousarray(pixels[top : top + SIDE_PX, left : left + SIDE_PX, :3]))
    return folder.resolve()


def reached(history: Path) -> list[float]:
    """The PSNR of Set5 and Set14 that a run ended with."""
    found = {key: value for row in read_history(history).values() for key, value in row.items() if "psnr" in key}
    return [next(value for key, value in found.items() if place in key) for place in ("Set5", "Set14")]


if __name__ == "__main__":
    main()

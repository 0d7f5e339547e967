"""What merging tokens and leaving tokens out gain and lose in a judge that has a ViT: times as fast, and SRCC.

    python scripts/studies/judges.py

TRIQ on a small ViT whose patches are made by convolutions (`hmlp_vit`) learns noise of known severity, once as it is
and once for each `--keep`. Every judge, and the first one with its tokens merged, then judges images at severities
between the steps of training, in turn, image by image: processor's time of one thread. An image is four photographs of
McMaster side by side (992 px, 3,844 tokens). Of the last `--keep` a picture shows which tokens it keeps (kept.png).
"""

from __future__ import annotations

import time

import numpy as np
import torch
import torch.nn.functional as F
from study import note, parser, show, trained

from restore.data.ratings.synthetic import SyntheticQualityDataset
from restore.images import list_images, read_image, to_pixels, to_tensor, write_image
from restore.inference.judging import judgements
from restore.layers.merging import merge
from restore.metrics.correlation import srcc
from restore.quality import load_quality

ENCODER = {"type": "hmlp_vit", "embed_dim": 96, "depth": 4, "num_heads": 3, "position": "conv", "class_token": False}
KINDS = ("noise", "speckle", "salt_pepper")
SIDE_PX = 496


def main() -> None:
    """Train, measure and print."""
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--iterations", type=int, default=300)
    made.add_argument("--images", type=int, default=2, help="of four photographs each")
    made.add_argument("--merge", nargs="+", default=["tome:0.3", "tome:0.5", "tome:0.5:blocks"])
    made.add_argument("--keep", type=float, nargs="*", default=[0.7])
    arguments = made.parse_args()
    torch.set_num_threads(1)
    whole = SyntheticQualityDataset(
        name="between",
        dataroot_gt=str(joined(arguments)),
        kinds=KINDS,
        num_levels=5,
        between=True,
    )
    columns = ("times as fast", "SRCC", "change")
    rows: dict[str, dict[str, list[float]]] = {}
    for seed in arguments.seeds:
        plain, *fewer = (weights(arguments, keep, seed) for keep in (1.0, *arguments.keep))
        judges = {"all tokens": load_quality(plain)}
        judges |= {f"`--merge {how}`": merge(load_quality(plain), how) for how in arguments.merge}
        judges |= {f"`keep: {keep}`": load_quality(file) for keep, file in zip(arguments.keep, fewer, strict=True)}
        if fewer:
            photograph = read_image(list_images(arguments.data / "benchmark/McMaster")[0]).pixels
            draw(load_quality(fewer[-1]), photograph[:SIDE_PX, :SIDE_PX, :3], arguments.output / "kept.png")
        seconds, scores, opinions = dict.fromkeys(judges, 0.0), {name: [] for name in judges}, []
        for index in range(len(whole)):
            sample = [whole[index]]
            for name, judge in judges.items():
                since = time.process_time()
                (each,) = judgements(judge, sample)
                seconds[name] += time.process_time() - since
                scores[name].append(each.score)
            opinions.append(each.opinion)
        found = {name: srcc(values, opinions) for name, values in scores.items()}
        for name, value in found.items():
            three = (seconds["all tokens"] / seconds[name], value, value - found["all tokens"])
            note(name, seed, *three)
            for column, figure in zip(columns, three, strict=True):
                rows.setdefault(name, {column: [] for column in columns})[column].append(figure)
    show(rows)


def weights(arguments, keep: float, seed: int):
    """The weights of a judge that keeps so many of its tokens each time."""
    n = arguments.iterations
    settings = [
        "datasets.val=~",
        "val=~",
        f"datasets.train.dataroot_gt=[{arguments.data}/train/photos, {arguments.data}/train/bsds400]",
        "datasets.train.crop_px=128",
        f"network_g.encoder={ENCODER | {'out_indices': [3], 'keep': keep}}",
        f"train.total_iter={n}",
        f"train.scheduler.periods=[{n}]",
        f"logger.save_checkpoint_freq={n}",
    ]
    name = f"judge_{keep:g}_{n}_{seed}"
    return trained("options/train_sweep_encoders_quality.yml", name, settings, arguments.output, seed=seed)


def joined(arguments):
    """A folder of images that are four photographs each."""
    folder = arguments.output / "joined"
    folder.mkdir(parents=True, exist_ok=True)
    files = list_images(arguments.data / "benchmark/McMaster")[: 4 * arguments.images]
    for number in range(arguments.images):
        four = [read_image(file).pixels[:SIDE_PX, :SIDE_PX, :3] for file in files[4 * number : 4 * number + 4]]
        rows = [np.concatenate(four[:2], axis=1), np.concatenate(four[2:], axis=1)]
        write_image(folder / f"{number}.png", np.concatenate(rows))
    return folder


def draw(judge, pixels: np.ndarray, file) -> None:
    """The image, and beside it what is left after each selection; what is left out is dark."""
    (encoder,) = (each for each in judge.modules() if hasattr(each, "kept_tokens"))
    x_BCHW = to_tensor(np.ascontiguousarray(pixels))
    with torch.no_grad():
        kept = encoder.eval().kept_tokens(x_BCHW)
    shown = [x_BCHW, *(x_BCHW * (0.2 + 0.8 * F.interpolate(each[:, None].float(), x_BCHW.shape[2:])) for each in kept)]
    write_image(file, to_pixels(torch.cat(shown, 3)[..., ::2, ::2], np.uint8))


if __name__ == "__main__":
    main()

"""What merging of tokens gains and loses: times as fast, and the change of PSNR or SRCC.

    python restore/train.py -opt scripts/studies/global_attention_denoise_25.yml
    python scripts/studies/merging.py -opt scripts/studies/global_attention_denoise_25.yml \\
        --set path.pretrain_network_g=experiments/global_attention_denoise_25/models/net_g_latest.pth

Any option file of a network that restores or judges will do. The figures are means over its dataset `test`, or `val`
where there is none; times are seconds of the processor, candidates taking turns image by image.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from measured import dataset_of, psnr_of

from restore.assembly.networks import given_by
from restore.assembly.restorers import quality_model_of, restorer_of
from restore.inference.judging import judgements
from restore.metrics.correlation import srcc
from restore.options import load

HOW = ["tome:0.3", "tome:0.5", "tome:0.3:blocks", "tome:0.5:blocks", "cluster:28x28", "cluster:48x48"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-opt", required=True, help="option file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--how", nargs="+", default=HOW)
    parser.add_argument("--images", type=int, help="how many; by default all")
    parser.add_argument("--crop", type=int, help="of images to restore, only the middle of this side")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = dataset_of(load(arguments.opt, arguments.set, is_train=False))
    indices = range(len(dataset))[: arguments.images]
    candidates = {how: of_options(arguments.opt, arguments.set, how, arguments.crop) for how in (None, *arguments.how)}
    found = {how: [] for how in candidates}
    seconds = dict.fromkeys(candidates, 0.0)
    for index in indices:
        for how, candidate in candidates.items():
            since = time.process_time()
            value = candidate(dataset, index)
            seconds[how] += time.process_time() - since
            found[how].append(value)
    summary = {how: summed(values) for how, values in found.items()}
    print(f"| merged | times as fast | {summary[None][0]} | change |")
    print("|---|---|---|---|")
    for how, (_, value) in summary.items():
        faster, change = seconds[None] / seconds[how], value - summary[None][1]
        print(f"| {how or 'nothing'} | {faster:.2f} | {value:.4f} | {change:+.4f} |")


def of_options(file: str, overrides: list[str], how: str | None, crop: int | None):
    """A function of a dataset and an index, which gives a PSNR, or a score and an opinion."""
    options = load(file, [*overrides, *([f"runtime.merge={how}"] if how else [])], is_train=False)
    if given_by(options) == "opinions":
        model = quality_model_of(options)

        def judged(dataset, index):
            (each,) = judgements(model, dataset, [index])
            return each.score, each.opinion

        return judged
    restorer = restorer_of(options).measuring()

    def restored(dataset, index):
        return psnr_of(restorer, dataset[index], crop, restorer.scale)

    return restored


def summed(values: list) -> tuple[str, float]:
    if isinstance(values[0], tuple):
        return "SRCC", srcc(*zip(*values, strict=True))
    return "PSNR [dB]", sum(values) / len(values)


if __name__ == "__main__":
    main()

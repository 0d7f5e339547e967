"""What a search is worth: how well it predicts milliseconds and ranks networks, and what it finds.

    python scripts/studies/search.py --data datasets --output experiments/search

Prints three tables for `scripts/studies/search_tiny.yml`, on one thread of the processor: the rank correlation of
predicted milliseconds with those of networks that were not measured before; Kendall's tau between what networks reach
with the supernet's weights and what they reach when each is trained alone; and what is found within the milliseconds of
the network that was made by hand. The same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from study import note, parser, show, trained

from restore.assembly.search_options import comparison_of, read_search, supernet_of, training_options
from restore.assembly.searches import RECORD, Bound, search
from restore.evaluation.searches import LatencyPredictor, Search, measure_round, rank_correlation
from restore.networks.elastic import num_parameters
from restore.registry import NETWORKS
from restore.zoo.load import load_network

FILE = "scripts/studies/search_tiny.yml"
ROUNDS = 9


def main() -> None:
    made = parser(__doc__ or "")
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.add_argument("--iterations", type=int, default=3500, help="of the supernet")
    made.add_argument("--alone", type=int, default=500, help="iterations of each network that is trained alone")
    made.add_argument("--networks", type=int, default=8, help="how many of these")
    made.add_argument("--unseen", type=int, default=50, help="networks whose milliseconds are predicted")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the option file")
    arguments = made.parse_args()
    torch.set_num_threads(1)
    data = arguments.data
    settings = [
        f"datasets.train.dataroot_gt=[{data}/train/photos,{data}/train/bsds400]",
        f"datasets.val.dataroot_gt={data}/benchmark/Set5/HR",
        "num_gpu=0",
        "val.val_freq=1000000",
        "manual_seed=0",
        *arguments.set,
    ]
    milliseconds = own_milliseconds(arguments, settings)
    folder = arguments.output / "search"
    if search(
        FILE, folder, Bound(milliseconds=milliseconds), iterations=arguments.iterations, overrides=settings, say=tell
    ):
        raise SystemExit(130)
    supernet = supernet_of(training_options(FILE, settings, folder, arguments.iterations))
    record = Search.opened(folder / RECORD, {}, {})
    predicted(arguments, supernet, record)
    ranked(arguments, settings, supernet)
    compared(arguments, settings, record, f"{milliseconds:g}ms")


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def kept(path: Path, make):
    """What was made before, or is made now."""
    if not path.exists():
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(made))
    return json.loads(path.read_text())


def rounds_of(networks, side: int) -> list[float]:
    """Milliseconds of networks: medians over rounds in which all have their turn."""
    rounds = [measure_round(networks, 3, side, number, torch.device("cpu")) for number in range(ROUNDS)]
    return [statistics.median(each) for each in zip(*rounds, strict=True)]


def own_milliseconds(arguments, settings) -> float:
    """Those of the network that was made by hand, to a tenth."""
    options, how, _ = read_search(FILE, settings)
    own = NETWORKS.build(options.network_g).eval()
    return kept(arguments.output / "own.json", lambda: round(rounds_of([lambda: own] * 5, how.image_px)[0] + 0.05, 1))


def predicted(arguments, supernet, record) -> None:
    """The first table."""
    space, side = supernet.space, record.settings["image_px"]
    known = {space.key(tuple(each)) for each in record.measured}
    generator, unseen = random.Random(1), {}
    while len(unseen) < arguments.unseen:
        choice = space.drawn(generator)
        if space.key(choice) not in known:
            unseen[space.key(choice)] = choice
    choices = list(unseen.values())
    measured = kept(
        arguments.output / "unseen.json",
        lambda: rounds_of([partial(supernet.network_of, each) for each in choices], side),
    )
    predictor = LatencyPredictor(space, side, [tuple(each) for each in record.measured], record.milliseconds())
    found = [predictor(each) for each in choices]
    errors = [abs(one - other) / other for one, other in zip(found, measured, strict=True)]
    print("| what predicts | networks measured | rank correlation on others | of these | median error |")
    print("|---|---|---|---|---|")
    rows = {"milliseconds by blocks": found, "parameters": [num_parameters(space, each) for each in choices]}
    for name, values in rows.items():
        error = f"{100 * statistics.median(errors):.1f} %" if values is found else ""
        correlation = rank_correlation(values, measured)
        print(f"| {name} | {len(record.measured)} | {correlation:.3f} | {len(choices)} | {error} |")
    print(flush=True)


def ranked(arguments, settings, supernet) -> None:
    """The second table."""
    from scipy.stats import kendalltau

    options, _, space = read_search(FILE, settings)
    measure = comparison_of(options, supernet)[1]
    generator = random.Random(2)
    choices = [space.drawn(generator) for _ in range(arguments.networks)]
    print("| network | parameters | with the supernet's weights [dB] | trained alone [dB] |")
    print("|---|---|---|---|")
    inherited, alone = [], []
    for number, choice in enumerate(choices):
        with torch.no_grad():
            inherited.append(measure(supernet.network_of(choice)))
        alone.append(reached(arguments, settings, f"alone_{number}", space.block(choice), 0, measure))
        values = f"{inherited[-1]:.3f} | {alone[-1]:.3f}"
        print(f"| {number + 1} | {num_parameters(space, choice):,} | {values} |", flush=True)
    print(f"\nKendall's tau: {kendalltau(inherited, alone).statistic:.3f}\n", flush=True)


def compared(arguments, settings, record, label: str) -> None:
    """The third table."""
    options, how, _ = read_search(FILE, settings)
    found = record.found[label]
    blocks = {"made by hand": options.network_g, "found": found["network_g"]}
    networks = {name: NETWORKS.build(block).eval() for name, block in blocks.items()}
    measure = comparison_of(options, networks["found"])[1]
    medians = rounds_of([partial(lambda each: each, network) for network in networks.values()], how.image_px)
    rows: dict[str, dict[str, list[float]]] = {
        name: {"PSNR [dB]": []} for name in (*blocks, "found, from the supernet")
    }
    for seed in arguments.seeds:
        for name, block in blocks.items():
            run = f"{name.replace(' ', '_')}_{seed}"
            rows[name]["PSNR [dB]"].append(reached(arguments, settings, run, block, seed, measure))
            note(name, seed, rows[name]["PSNR [dB]"][-1])
        weights = arguments.output / "search" / f"{label}.pth"
        start = [f"path.pretrain_network_g={weights}", "path.param_key_g=params"]
        value = reached(arguments, [*settings, *start], f"found_further_{seed}", found["network_g"], seed, measure)
        rows["found, from the supernet"]["PSNR [dB]"].append(value)
        note("found, from the supernet", seed, value)
    for (name, network), took in zip(networks.items(), medians, strict=True):
        print(f"{name}: {sum(each.numel() for each in network.parameters()):,} parameters, {took:.2f} ms")
    print(f"found: {found['found']['text']}\n")
    show(rows)


def reached(arguments, settings, name: str, block, seed: int, measure) -> float:
    """What a network reaches when it is trained by itself."""
    own = [
        f"network_g={json.dumps(block)}",
        f"train.total_iter={arguments.alone}",
        f"train.scheduler.periods=[{arguments.alone}]",
        f"manual_seed={seed}",
    ]
    weights = trained(FILE, name, [*settings, *own], arguments.output / "alone", seed=seed)
    return measure(load_network(weights))


if __name__ == "__main__":
    main()

"""What pruning paths finds, beside networks that have the same mixer at each place.

    python scripts/studies/path_pruning.py

At four places of a small body (`scripts/studies/search_paths.yml`) three mixers learn beside each other; then those
that count for least are left out until there are no more parameters than with windows everywhere. What is left and each
mixer by itself are then trained from nothing, for as long. Printed over the seeds: PSNR on the middles of Set5.
"""

from __future__ import annotations

import json

import torch
from study import note, parser, show, trained

from restore.assembly.search_options import comparison_of, read_search
from restore.assembly.searches import RECORD, Bound, search
from restore.evaluation.searches import Search
from restore.registry import NETWORKS
from restore.zoo.load import load_network

FILE = "scripts/studies/search_paths.yml"


def main() -> None:
    """Search, train, measure and print."""
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--iterations", type=int, default=1000, help="of all paths together")
    made.add_argument("--alone", type=int, default=500, help="iterations of each network that is trained alone")
    arguments = made.parse_args()
    torch.set_num_threads(1)
    data, n = arguments.data, arguments.alone
    settings = [
        f"datasets.train.dataroot_gt=[{data}/train/photos,{data}/train/bsds400]",
        f"datasets.val.dataroot_gt={data}/benchmark/Set5/HR",
        "num_gpu=0",
        "val.val_freq=1000000",
    ]
    options, how, _ = read_search(FILE, settings)
    single = {f"{each['type']} at each place": {**options.network_g, "mixers": [each]} for each in how.space["mixers"]}
    single |= {"made by hand": options.network_g}
    counts = {name: sum(each.numel() for each in NETWORKS.build(block).parameters()) for name, block in single.items()}
    folder, bound = arguments.output / "paths", Bound(parameters=counts["made by hand"])
    if search(FILE, folder, bound, iterations=arguments.iterations, overrides=[*settings, "manual_seed=0"], say=print):
        raise SystemExit(130)
    found = Search.opened(folder / RECORD, {}, {}).found[str(bound)]["network_g"]
    print(json.dumps(found["mixers"]))
    rows: dict[str, dict[str, list[float]]] = {}
    for seed in arguments.seeds:
        for name, block in {**single, "found": found}.items():
            own = [f"network_g={json.dumps(block)}", f"train.total_iter={n}", f"train.scheduler.periods=[{n}]"]
            weights = trained(
                FILE, f"{name.replace(' ', '_')}_{n}_{seed}", [*settings, *own], arguments.output, seed=seed
            )
            network = load_network(weights)
            value = comparison_of(options, network)[1](network)
            note(name, seed, value)
            count = float(sum(each.numel() for each in network.parameters()))
            for column, figure in (("parameters", count), ("PSNR [dB]", value)):
                rows.setdefault(name, {}).setdefault(column, []).append(figure)
    show(rows)


if __name__ == "__main__":
    main()

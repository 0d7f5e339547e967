"""Prints the tables of docs/encoders.md: every encoder of ours with its variants, parameters, strides and source; and
where weights are offered.

    python scripts/encoder_table.py            the tables
    python scripts/encoder_table.py --costs    counts what all families cost, and writes it into the package

Parameters of the table are those of a classifier with 1000 classes, in millions, counted without allocating them.
"""

from __future__ import annotations

import json
import sys

import torch

from restore.encoders import Classifier, build_encoder
from restore.zoo.components import list_components
from restore.zoo.costs import COUNTED_ENCODERS, count_encoder
from restore.zoo.encoder_weights import list_encoder_weights

SKIPPED = ("timm", "pyramid")  # and families of timm


def main() -> None:
    """Print one row for each family."""
    print("| name | what it is | strides | variants: millions of parameters | source |")
    print("|---|---|---|---|---|")
    for family in list_components("encoder"):
        if family.name in SKIPPED or family.weights == "timm":
            continue
        variants = family.variants or (family.name,)
        counted = [f"`{name.removeprefix(family.name + '_')}` {millions(name):.1f}" for name in variants]
        with torch.device("meta"):
            strides = sorted({*build_encoder(variants[0]).strides})
        cells = (f"`{family.name}`", family.about, ", ".join(map(str, strides)), ", ".join(counted), family.arxiv or "")
        print(f"| {' | '.join(cells)} |")
    print("\n| encoder | offered | variants | built with | licence of the repository |\n|---|---|---|---|---|")
    for name, card in list_encoder_weights().items():
        place = card.page.removeprefix("https://").removeprefix("github.com/")
        offered = f"[{place}]({card.page})" + (f": {card.note}" if card.note else "")
        variants = ", ".join(f"`{each}`" for each in card.variants) or "all"
        built = ", ".join(f"`{key}: {str(value).lower()}`" for key, value in card.arguments.items())
        print(f"| `{name}` | {offered} | {variants} | {built} | {card.licence} |")


def millions(name: str) -> float:
    """Parameters of a classifier with 1000 classes."""
    with torch.device("meta"):
        return sum(p.numel() for p in Classifier(build_encoder(name), 1000).parameters()) / 1e6


def write_costs() -> None:
    """One line for each family that has defaults to build with."""
    counted = {family.name: count_encoder(family.name) for family in list_components("encoder")}
    lines = [f'  "{name}": {json.dumps(facts)}' for name, facts in counted.items() if facts is not None]
    COUNTED_ENCODERS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    write_costs() if "--costs" in sys.argv else main()

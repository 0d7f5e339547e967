"""`restore models`: what can be loaded by name, and what can be built."""

from __future__ import annotations

import argparse
import json
import sys

KINDS = ("model", "network", "encoder", "mixer", "quality", "metric", "loss")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("kind", nargs="?", default="model", choices=KINDS, help="what to list")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from restore.zoo import list_cards, list_models

    if arguments.kind != "model":
        names = list_models(arguments.kind)
        sys.stdout.write(json.dumps(names, indent=2) + "\n" if arguments.json else "".join(f"{n}\n" for n in names))
    elif arguments.json:
        sys.stdout.write(json.dumps([card.model_dump() for card in list_cards()], indent=2) + "\n")
    else:
        _show_cards(list_cards())
    return 0


def _show_cards(cards) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "model", "task", "what it is", "PSNR [dB] or SRCC", "weights", "licence", title="models that load by name"
    )
    for card in cards:
        figures = "\n".join(filter(None, map(_figure, card.figures)))
        where = "shipped" if card.path else card.url or "not here"
        table.add_row(card.name, card.task, card.summary, figures, where, card.licence)
    Console().print(table)


def _figure(figure) -> str:
    """The headline of a figure: the dataset, and its PSNR or its rank correlation."""
    if figure.psnr is not None:
        return f"{figure.dataset} {figure.psnr:.2f}"
    return f"{figure.dataset} {figure.srcc:.3f}" if figure.srcc is not None else ""

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
        sys.stdout.write(json.dumps([_described(card) for card in list_cards()], indent=2) + "\n")
    else:
        _show_cards(list_cards())
    return 0


def _described(card) -> dict:
    from restore.zoo.download import address, local_weights

    path = local_weights(card)
    return {**card.model_dump(), "url": address(card), "path": str(path) if path else None}


def _show_cards(cards) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(
        Column("model", no_wrap=True),
        "task",
        "PSNR [dB] or SRCC",
        "weights",
        "licence",
        title="models that load by name",
    )
    for card in cards:
        figures = ", ".join(filter(None, map(_figure, card.figures)))
        table.add_row(card.name, card.task, figures, _where(card), card.licence)
    console = Console()
    console.print(table)
    console.print(
        "Figures are measured here for shipped models, published for others: --json gives sources and addresses."
    )


def _figure(figure) -> str:
    """The headline of a figure: the dataset, and its PSNR or its rank correlation."""
    if figure.psnr is not None:
        return f"{figure.dataset} {figure.psnr:.2f}"
    return f"{figure.dataset} {figure.srcc:.3f}" if figure.srcc is not None else ""


def _where(card) -> str:
    from restore.zoo.download import address, local_weights

    path = local_weights(card)
    if path is None:
        size = f", {card.size_bytes / 1e6:.1f} MB" if card.size_bytes else ""
        return f"downloadable{size}" if address(card) else f"by hand from {card.page}"
    return "shipped" if path == card.path else f"on disk: {path}"

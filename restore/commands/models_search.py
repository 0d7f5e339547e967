"""`restore models search`: models by words in names, tags and descriptions: those of `restore models` and OpenModelDB.

    restore models search photo --scale 4 --licence apache
    restore models search --architecture swinir --json

What is found is run with `-m`, by its name or as `omdb:NAME`. Look at the licence first.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from typing import TYPE_CHECKING, Any

from restore.commands.arguments import add_json, positive
from restore.terminal import open_console, tell_json

if TYPE_CHECKING:
    from restore.zoo.card import Card

__all__ = ["add_arguments", "run"]

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Words, and what narrows them down."""
    parser.add_argument("words", nargs="*", metavar="WORD", help="all of them are looked for, in any order")
    parser.add_argument("--scale", type=positive, help="output pixels per input pixel")
    parser.add_argument("--architecture", help="a part of its name: esrgan, swinir, dat, span, compact ...")
    parser.add_argument("--licence", "--license", help="a part of its name: mit, apache, cc-by ...")
    parser.add_argument("--limit", type=positive, default=20, metavar="N", help="show so many")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what is found; 0 if there is anything, else 1."""
    from restore.errors import MissingError
    from restore.zoo.openmodeldb import search

    found = [_of_zoo(card) for card in _in_zoo(arguments)]
    try:
        published = search(
            arguments.words, scale=arguments.scale, architecture=arguments.architecture, licence=arguments.licence
        )
    except MissingError as error:
        logger.warning("warning: OpenModelDB is not searched: %s", error)
        published = []
    found += [
        {
            "model": each.address,
            "scale": each.scale,
            "architecture": each.architecture,
            "licence": each.licence,
            "size_bytes": each.size_bytes,
            "date": each.date,
            "about": each.name,
        }
        for each in published
    ]
    shown = found[: arguments.limit]
    if arguments.json:
        tell_json(shown)
    else:
        _show(shown, len(found))
    return 0 if found else 1


def _in_zoo(arguments: argparse.Namespace) -> list[Card]:
    from restore.zoo import list_cards

    def fits(card: Card) -> bool:
        text = " ".join([card.name, card.task, card.summary, card.trained_on]).lower()
        architecture = str((card.network or {}).get("type", card.name)).lower()
        return (
            all(word.lower() in text for word in arguments.words)
            and arguments.scale in (None, card.scale)
            and (arguments.architecture or "").lower() in architecture
            and (arguments.licence or "").lower() in card.licence.lower()
        )

    return [card for card in list_cards() if card.restores and fits(card)]


def _of_zoo(card: Card) -> dict[str, Any]:
    return {
        "model": card.name,
        "scale": card.scale,
        "architecture": (card.network or {}).get("type", ""),
        "licence": card.licence,
        "size_bytes": card.size_bytes,
        "date": "",
        "about": card.summary,
    }


def _show(shown: list[dict[str, Any]], num_found: int) -> None:
    from rich.table import Column, Table

    console = open_console(
        markup=False, emoji=False, highlight=False, width=shutil.get_terminal_size((160, 24)).columns
    )
    if not shown:
        console.print("nothing is found: try fewer words, or leave out a filter.")
        return
    table = Table(Column("model", overflow="fold"), "scale", "architecture", "licence", "MB", "date")
    if console.width >= 120:
        table.add_column("about", overflow="fold")
    for each in shown:
        size = f"{each['size_bytes'] / 1e6:.1f}" if each["size_bytes"] else ""
        cells = [each["model"], f"x{each['scale']}", each["architecture"], each["licence"], size, each["date"]]
        table.add_row(*cells, *([each["about"]] if console.width >= 120 else []))
    console.print(table)
    if num_found > len(shown):
        console.print(f"{num_found - len(shown)} more: narrow it down, or --limit {num_found}.")

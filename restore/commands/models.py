"""`restore models`: what can be loaded by name, and what can be built.

restore models                       every model: what it is for, how good it is, where its weights are
restore models --task sr --scale 4   some of them
restore models swinir_classical_x2   one of them: address, size, checksum, licence, figures with their sources
restore models encoder               the names of what can be built: network, encoder, mixer, quality, ...
restore models --kind mixer          what they are: paper, year, licence of official code, weights, what checked them
restore models outlook               one of them, with its options
restore models mixer --cost          parameters and multiply-adds of what can be built, or of a model
restore models omdb:4x-Name          what is published at an address: hf:, https:// or omdb:
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from typing import TYPE_CHECKING, Any

from restore.commands.arguments import add_json
from restore.commands.components import is_component, show_components
from restore.terminal import open_console, tell, tell_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from restore.analysis.cost import Cost
    from restore.zoo.card import Card, Figure

KINDS = (
    *("network", "discriminator", "encoder", "mixer", "quality", "detector", "metric", "loss"),
    *("norm", "feed_forward", "position", "placement"),
)
PIPED_COLUMNS = 200
"""Width of the table where nobody's terminal bounds it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "what",
        nargs="?",
        help=f"the name or address of a model, or of what can be built; or a kind: model, {', '.join(KINDS)}",
    )
    parser.add_argument("--kind", choices=("model", *KINDS), help="show all of a kind, or NAME of this kind")
    parser.add_argument("--task", help="of models: sr, denoise, jpeg, derain, deblur, quality or defects")
    parser.add_argument("--scale", type=int, help="of models: output pixels per input pixel")
    parser.add_argument("--shipped", action="store_true", help="of models: those whose weights are in the package")
    add_json(parser)
    parser.add_argument(
        "--cost",
        action="store_true",
        help="count parameters, multiply-adds and activations of one model, or of every network (for 256 x 256), "
        "encoder (224 x 224; a minute), mixer or feed-forward network (96 x 96 x 60)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from restore.zoo import list_cards, list_models
    from restore.zoo.addresses import card_of, is_address

    cards = {card.name: card for card in list_cards()}
    what, kind = arguments.what, arguments.kind
    if kind not in (None, "model") and not arguments.task and not arguments.scale and not arguments.shipped:
        show_components(kind, what, costs=arguments.cost, as_json=arguments.json)
        return 0
    chosen = _chosen_cards(arguments)
    if is_address(what):
        cards[what] = card_of(what)
    what = what or "model"
    if arguments.cost:
        _show_costs(what, arguments.json)
    elif what in KINDS:
        names = list_models(what)
        tell_json(names) if arguments.json else tell("\n".join(names), out=True)
    elif what != "model" and what not in cards and is_component(what):
        show_components(None, what, costs=arguments.cost, as_json=arguments.json)
    elif what != "model" and what not in cards:
        _refuse(what)
    elif arguments.json:
        shown = chosen if what == "model" else [cards[what]]
        tell_json([_described(card) for card in shown])
    elif what == "model":
        _show_cards(chosen)
    else:
        _show_card(cards[what])
    return 0


def _refuse(name: str) -> None:
    """Say what may have been meant."""
    from restore.errors import OptionsError, nearest
    from restore.zoo import list_cards
    from restore.zoo.load import KINDS as REGISTRIES

    known = [*(card.name for card in list_cards()), *(each for registry in REGISTRIES.values() for each in registry)]
    raise OptionsError(
        f"unknown model or component '{name}'.{nearest(name, known)} `restore models` lists models, `restore models "
        f"KIND` what can be built: {', '.join(KINDS)}."
    )


def _chosen_cards(arguments: argparse.Namespace) -> Sequence[Card]:
    """The models that the filters leave; with none given, all."""
    from restore.errors import OptionsError, nearest
    from restore.zoo import list_cards

    cards, task, scale = list_cards(), arguments.task, arguments.scale
    given = [name for name in ("task", "scale", "shipped") if getattr(arguments, name)]
    if given and (arguments.kind not in (None, "model") or arguments.what not in (None, "model")):
        raise OptionsError(f"--{given[0]} is of models: leave out what is shown besides")
    tasks = sorted({card.task for card in cards})
    if task is not None and task not in tasks:
        raise OptionsError(f"unknown task '{task}'.{nearest(task, tasks)} Known: {', '.join(tasks)}.")
    left = [
        card
        for card in cards
        if task in (None, card.task) and scale in (None, card.scale) and (card.path or not arguments.shipped)
    ]
    if not left:
        raise OptionsError("no model is left by these filters; `restore models` shows all")
    return left


def _show_costs(what: str, as_json: bool) -> None:
    from restore.zoo import find_card
    from restore.zoo.costs import component_costs, model_cost

    costs = component_costs(what) if what in (*KINDS, "model") else {what: model_cost(find_card(what))}
    if as_json:
        counted = {name: cost and dataclasses.asdict(cost) for name, cost in costs.items()}
        tell_json(counted)
        return
    from rich.table import Column, Table

    columns: dict[str, Callable[[Cost], float]] = {
        "parameters [M]": lambda cost: cost.parameters / 1e6,
        "multiply-adds [G]": lambda cost: cost.macs / 1e9,
        "activations [M]": lambda cost: cost.activations / 1e6,
        "gathered [M]": lambda cost: cost.gathered / 1e6,
    }
    table = Table(Column("name", no_wrap=True), *columns)
    for name, cost in costs.items():
        table.add_row(name, *("-" if cost is None else f"{figure(cost):.3f}" for figure in columns.values()))
    width = shutil.get_terminal_size((PIPED_COLUMNS, 24)).columns
    open_console(width=width, markup=False, emoji=False).print(table)


def _described(card: Card) -> dict[str, Any]:
    from restore.zoo.download import address, local_weights, place_of, recorded_checksum

    path = local_weights(card)
    place = place_of(card).name.lower()
    where = {"url": address(card), "path": str(path) if path else None, "place": place}
    return {**card.model_dump(), **where, "recorded_sha256": recorded_checksum(card)}


def _show_cards(cards: Sequence[Card]) -> None:
    """A table of as many columns as there is room for."""
    from rich.table import Column, Table

    width = shutil.get_terminal_size((PIPED_COLUMNS, 24)).columns
    columns = {"model": lambda card: card.name, "task": _task, "weights": _where}
    if width >= 100:
        columns |= {"PSNR (dB) or SRCC": _figures, "licence": lambda card: card.licence}
    if width >= 170:
        columns |= {"size": _size, "SHA-256": lambda card: (card.sha256 or "-")[:12], "from": _source}
    table = Table(
        *(Column(name, no_wrap=name in ("model", "size"), overflow="fold") for name in columns),
        title="models that load by name",
    )
    for card in sorted(cards, key=lambda card: (card.task, card.scale, card.name)):
        table.add_row(*(cell(card) for cell in columns.values()))
    console = open_console(width=width, markup=False, emoji=False)
    console.print(table)
    console.print(
        "Figures are measured here for shipped models, published for others. `restore models NAME` shows one with its "
        "address, size, checksum, licence and the sources of its figures; --json shows all.",
        highlight=False,
    )


def _show_card(card: Card) -> None:
    from rich.table import Column, Table

    from restore.zoo.download import weights_folder

    console = open_console(
        width=shutil.get_terminal_size((PIPED_COLUMNS, 24)).columns, highlight=False, markup=False, emoji=False
    )
    rows = {
        "summary": card.summary,
        "task": _task(card),
        "weights": f"{card.weights}: {_where(card)}",
        "from": _source(card),
        "kept in": "" if card.path else f"{weights_folder()}, or a folder that RESTORE_WEIGHTS names",
        "size": _size(card),
        "SHA-256": _checksum(card),
        "licence": card.licence,
        "trained on": card.trained_on,
        "training": card.training,
    }
    grid = Table.grid(Column(style="bold"), Column(overflow="fold"), padding=(0, 2))
    for name, text in rows.items():
        if text:
            grid.add_row(name, text)
    console.print(card.name, style="bold")
    console.print(grid)
    if card.figures:
        measures = ("psnr", "ssim", "psnr_b", "bicubic_psnr", "srcc", "plcc")
        given = [name for name in measures if any(getattr(figure, name) is not None for figure in card.figures)]
        table = Table("dataset", "protocol", *given, Column("source", overflow="fold"))
        for figure in card.figures:
            values = (getattr(figure, name) for name in given)
            table.add_row(
                figure.dataset, figure.protocol, *("" if v is None else f"{v:g}" for v in values), figure.source
            )
        console.print(table)


def _task(card: Card) -> str:
    """The task and its level: sr x4, denoise 25, jpeg 10 grey."""
    level = f"x{card.scale}" if card.scale > 1 else card.sigma or card.quality
    parts = [card.task, f"{level:g}" if isinstance(level, float) else level]
    parts += ["grey"] if card.grey else []
    parts += ["real"] if card.real else []
    return " ".join(str(part) for part in parts if part)


def _figures(card: Card) -> str:
    return ", ".join(filter(None, map(_figure, card.figures)))


def _figure(figure: Figure) -> str:
    """The headline of a figure: the dataset, and its PSNR or its rank correlation."""
    if figure.psnr is not None:
        return f"{figure.dataset} {figure.psnr:.2f}"
    other = figure.srcc if figure.srcc is not None else figure.ap50
    return f"{figure.dataset} {other:.3f}" if other is not None else ""


def _checksum(card: Card) -> str:
    from restore.zoo.download import recorded_checksum

    if card.sha256:
        return card.sha256
    recorded = recorded_checksum(card)
    return (
        f"{recorded}: of the first file seen here; nobody publishes one"
        if recorded
        else "nobody publishes one: that of the first file seen here is recorded, and compared from then on"
    )


def _size(card: Card) -> str:
    return f"{card.size_bytes / 1e6:.1f} MB" if card.size_bytes else "unknown"


def _source(card: Card) -> str:
    from restore.zoo.download import address

    return address(card) or card.page or ""


def _where(card: Card) -> str:
    from restore.zoo.download import Place, local_weights, place_of

    place = place_of(card)
    if place is Place.ON_DISK:
        return f"on disk: {local_weights(card)}"
    return {Place.SHIPPED: "shipped", Place.DOWNLOADABLE: "downloadable", Place.BY_HAND: "by hand"}[place]

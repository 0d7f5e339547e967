"""What can be built, printed: a table of a kind, a page of one."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from restore.terminal import open_console, tell_json

if TYPE_CHECKING:
    from restore.analysis.cost import Cost
    from restore.zoo.components import Component

__all__ = ["is_component", "show_components"]

QUICK = ("network", "mixer", "feed_forward")
"""Kinds whose costs are counted in seconds, and always shown."""


def is_component(name: str) -> bool:
    """Whether something of this name can be built."""
    from restore.zoo.load import KINDS

    return any(name in registry for registry in KINDS.values())


def show_components(kind: str | None, name: str | None, *, costs: bool, as_json: bool) -> None:
    """Print every component of a kind, or pages of one name.

    Args:
        kind: of which; None for every kind that has the name.
        name: one of them; None for all.
        costs: count what they cost, also where it takes a minute.
        as_json: everything that is known, for programs.

    Raises:
        OptionsError: no such component.
    """
    from restore.zoo.components import describe, find_components, list_components

    if name is None:
        assert kind is not None
        found = list_components(kind)
    else:
        found = find_components(name) if kind is None else [describe(kind, name)]
    counted = [_Counted(each, bool(costs or name or kind in QUICK)) for each in found]
    if as_json:
        tell_json([each.described() for each in counted])
    elif name is None:
        _show_table(counted)
    else:
        for each in counted:
            _show_page(each)


class _Counted:
    """A component, and what building it on the meta device tells, or told when the package was made."""

    def __init__(self, component: Component, count: bool):
        from restore.analysis.cost import Cost
        from restore.zoo.costs import COUNTED_AT, component_cost, counted_encoder

        self.component = component
        self.at = COUNTED_AT.get(component.kind, "")
        self.cost: Cost | None = component_cost(component.kind, component.name) if count else None
        self.strides, self.channels = self._maps() if count and component.kind == "encoder" else ((), ())
        if not count and component.kind == "encoder" and (known := counted_encoder(component.name)):
            self.strides, self.channels = known.pop("strides"), known.pop("channels")
            self.cost = Cost(**known)

    def _maps(self) -> tuple[Sequence[int], Sequence[int]]:
        import torch

        from restore.errors import OptionsError
        from restore.registry import ENCODERS

        try:
            with torch.device("meta"):
                encoder = ENCODERS.build(self.component.name)
        except OptionsError:
            return (), ()
        return encoder.strides, encoder.channels

    def described(self) -> dict[str, Any]:
        """For JSON."""
        described = dataclasses.asdict(self.component)
        if self.cost is not None:
            cost = dataclasses.asdict(self.cost)
            described["cost"] = {"at": self.at, **cost}
        return described | ({"strides": self.strides, "channels": self.channels} if self.strides else {})


def _show_table(counted: Sequence[_Counted]) -> None:
    from rich.table import Column, Table

    width = shutil.get_terminal_size((200, 24)).columns
    columns: dict[str, Callable[[_Counted], str]] = {
        "name": lambda each: each.component.name,
        "paper": lambda each: each.component.paper,
        "licence": lambda each: each.component.licence or "",
    }
    if any(each.cost for each in counted):
        columns["parameters [M]"] = lambda each: "-" if each.cost is None else f"{each.cost.parameters / 1e6:.3f}"
        columns["multiply-adds [G]"] = lambda each: "-" if each.cost is None else f"{each.cost.macs / 1e9:.3f}"
    if any(each.strides for each in counted):
        columns["strides"] = lambda each: ", ".join(map(str, dict.fromkeys(each.strides)))
    if width >= 110:
        columns["weights"] = lambda each: each.component.weights
        columns["checked against"] = lambda each: each.component.checked
    if width >= 150:
        columns["arXiv"] = lambda each: each.component.arxiv or ""
        columns["what it is"] = lambda each: each.component.about
    columns = {name: cell for name, cell in columns.items() if any(map(cell, counted))}
    table = Table(*(Column(name, no_wrap=name == "name", overflow="fold") for name in columns))
    for each in counted:
        table.add_row(*(cell(each) for cell in columns.values()))
    console = open_console(width=width, markup=False, emoji=False, highlight=False)
    console.print(table)
    at = next((each.at for each in counted if each.cost), "")
    console.print(
        (f"Counted for {at}, with default arguments. " if at else "")
        + "Licences are those of official code. `restore models NAME` shows one with its options, --json all there is, "
        "--cost what they cost.",
        highlight=False,
    )


def _show_page(counted: _Counted) -> None:
    from rich.table import Column, Table

    from restore.zoo.components import fields_of

    width = shutil.get_terminal_size((200, 24)).columns
    console = open_console(width=width, markup=False, emoji=False, highlight=False)
    grid = Table.grid(Column(style="bold"), Column(overflow="fold"), padding=(0, 2))
    for label, text in fields_of(counted.component):
        grid.add_row(label, text)
    if counted.cost is not None:
        parameters, macs = counted.cost.parameters / 1e6, counted.cost.macs / 1e9
        grid.add_row("cost", f"{parameters:.3f} M parameters, {macs:.3f} G multiply-adds for {counted.at}")
    if counted.strides:
        maps = [
            f"{stride} px, {channels} channels"
            for stride, channels in zip(counted.strides, counted.channels, strict=True)
        ]
        grid.add_row("maps", "; ".join(maps))
    console.print(counted.component.name, style="bold")
    console.print(grid)
    console.print(f"\n{counted.component.text}\n", highlight=False)

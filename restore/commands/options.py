"""`restore options`: explain what an option file comes to, check files, or print the JSON schema for editors."""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore.commands.arguments import add_json
from restore.terminal import is_quiet, open_console, tell_json

if TYPE_CHECKING:
    from restore.options.explain import Row
    from restore.options.tree import Origin

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the three actions and their arguments."""
    from restore.options.arguments import add_override_arguments

    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    explaining = actions.add_parser("explain", help="print every resolved option, and what differs from the defaults")
    explaining.add_argument("file", metavar="FILE", help="option file")
    explaining.add_argument("--changed", action="store_true", help="print only what differs from the defaults")
    add_json(explaining)
    explaining.add_argument("--yaml", action="store_true", help="print YAML that can be used as an option file")
    checking = actions.add_parser("check", help="report every mistake in option files")
    checking.add_argument("files", nargs="+", metavar="FILE", help="option file")
    add_json(checking, "a line for each mistake")
    for action in (explaining, checking):
        add_override_arguments(action)
    add_json(actions.add_parser("list", help="list the option files that come with the package"))
    copying = actions.add_parser("copy", help="copy an option file of the package, with what it extends, to change it")
    copying.add_argument("name", metavar="NAME", help="its name, as `list` shows it")
    copying.add_argument("-o", "--output", type=Path, default=Path(), metavar="DIR", help="folder to copy it to")
    writing = actions.add_parser(
        "schema", help="print the JSON schema that editors complete and check option files with"
    )
    writing.add_argument("-o", "--output", type=Path, help="file to write instead of printing")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked; returns the exit code: 2 if a checked file has mistakes."""
    actions = {"explain": _explain, "check": _check, "schema": _schema, "list": _list, "copy": _copy}
    return actions[arguments.action](arguments)


def _explain(arguments: argparse.Namespace) -> int:
    from restore.options.explain import explain
    from restore.options.loading import resolve
    from restore.options.source import read

    tree = read(arguments.file, arguments.overrides)
    options = resolve(tree)
    if arguments.yaml:
        sys.stdout.write(options.dump())
        return 0
    rows = explain(options, tree)
    changed = [row for row in rows if row.differs]
    if arguments.json:
        tell_json([_described(row) for row in (changed if arguments.changed else rows)])
        return 0
    console = open_console(markup=False, emoji=False)
    console.print(_table(changed if arguments.changed else rows, arguments.file))
    console.print(f"{len(changed)} of {len(rows)} options differ from their defaults.", highlight=False)
    return 0


def _described(row: Row) -> dict[str, Any]:
    from restore.options.explain import NO_DEFAULT

    default = {} if row.default is NO_DEFAULT else {"default": row.default}
    place = str(row.origin) if row.origin else None
    return {"option": row.path, "value": row.value, **default, "differs": row.differs, "set_in": place}


def _table(rows: list[Row], title: str) -> Any:
    """The options as an indented tree; bold is what differs from its default, dim what does not."""
    from rich.table import Table
    from rich.text import Text

    from restore.options.explain import NO_DEFAULT

    table = Table(title=f"Options of {title}", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in ("option", "value", "default", "set in"):
        table.add_column(name, overflow="fold")
    above: list[str] = []
    for row in rows:
        *blocks, name = row.path.split(".")
        shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(above, blocks, strict=False)))
        for depth, block in enumerate(blocks[shared:], shared):
            table.add_row(Text("  " * depth + f"{block}:", "cyan"))
        above = blocks
        default = _written(row.default) if row.differs and row.default is not NO_DEFAULT else ""
        style = "bold" if row.differs else "dim"
        table.add_row(
            Text("  " * len(blocks) + name, style),
            Text(_written(row.value), style),
            Text(default, "dim"),
            Text(_place(row.origin, title), "dim"),
        )
    return table


def _place(origin: Origin | None, file: str) -> str:
    """Where an option was set: a line of `file`, another file, or an override."""
    if origin is None:
        return ""
    if origin.file != file:
        return str(origin)
    return f"line {origin.line}" if origin.line else "left out there"  # of another program's file


def _written(value: Any) -> str:
    """A value as YAML writes it, on one line."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()


def _check(arguments: argparse.Namespace) -> int:
    from rich.text import Text

    from restore.errors import OptionsError
    from restore.options import load

    console = open_console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
    found: dict[str, list[str]] = {}
    for file in arguments.files:
        found[file] = []
        try:
            load(file, arguments.overrides)
        except OptionsError as error:
            found[file] = list(map(str, error.problems))
            if arguments.json:
                continue
            count = len(error.problems)
            mistakes = f"{count} mistake{'' if count == 1 else 's'}"
            console.print(Text.assemble(("✗", "red"), " ", (str(file), "bold"), f": {mistakes}"))
            for problem in error.problems:
                console.print(f"  {problem}")
        else:
            if not (arguments.json or is_quiet()):
                console.print(Text.assemble(("✓", "green"), f" {file}"))
    if arguments.json:
        tell_json(found)
    return 2 if any(found.values()) else 0


def _schema(arguments: argparse.Namespace) -> int:
    import json

    from restore.files import atomic_write
    from restore.options.json_schema import json_schema

    text = json.dumps(json_schema(), indent=2) + "\n"
    if arguments.output is None:
        sys.stdout.write(text)
        return 0
    with atomic_write(arguments.output) as file:
        file.write(text.encode())
    return 0


def _list(arguments: argparse.Namespace) -> int:
    """Names and first lines of the packaged files."""
    from rich.table import Table

    from restore.packaged import option_files

    found = {}
    for name, path in option_files().items():
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        found[name] = first.lstrip("# ") if first.startswith("#") else ""
    if arguments.json:
        tell_json(found)
        return 0
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, about in found.items():
        table.add_row(name, about)
    console = open_console(markup=False, emoji=False, highlight=False)
    console.print(table)
    return 0


def _copy(arguments: argparse.Namespace) -> int:
    """Copy a file and everything below it, keeping how they stand to each other."""
    import logging

    from restore.errors import OutputError
    from restore.files import atomic_write
    from restore.options.source import files_of
    from restore.packaged import option_file, packaged_folder

    root = packaged_folder("options")
    copies = {source: arguments.output / source.relative_to(root) for source in files_of(option_file(arguments.name))}
    for source, copy in copies.items():
        if copy.exists() and copy.read_bytes() != source.read_bytes():
            raise OutputError(f"{copy} exists and is another file: remove it, or name another folder with --output.")
    for source, copy in copies.items():
        with atomic_write(copy) as file:
            file.write(source.read_bytes())
        logging.getLogger("restore").info("%s", copy)
    return 0

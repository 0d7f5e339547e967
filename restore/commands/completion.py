"""`restore completion SHELL`: a script with which the shell completes commands, options, files and names of models.

restore completion bash > ~/.local/share/bash-completion/completions/restore
restore completion zsh > ~/.zfunc/_restore
restore completion fish > ~/.config/fish/completions/restore.fish
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from restore.commands import COMMANDS
from restore.commands.parser import whole_parser
from restore.terminal import tell

__all__ = ["add_arguments", "run"]

SHELLS = ("bash", "zsh", "tcsh", "fish", "powershell")
FOLDERS = ("DIR",)
"""What options whose value is a folder call it in their help."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which shell, and which of the command's two names."""
    parser.add_argument("shell", choices=SHELLS, help="the shell that reads the script")
    parser.add_argument("--name", choices=("restore", "restore-toolkit"), default="restore", help="of the command")


def run(arguments: argparse.Namespace) -> int:
    """Print the script; returns the exit code."""
    import shtab

    whole = whole_parser(arguments.name, COMMANDS)
    names = _models()
    for action in _actions(whole):
        action.choices = None if action.choices is None else list(action.choices)  # shtab takes a dict for commands
        if {"-m", "--model"} & set(action.option_strings):
            action.complete = {"bash": "_restore_models", "zsh": f"({' '.join(names)})"}  # type: ignore[attr-defined]
        elif action.metavar in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.choices is None and action.type not in (int, float) and action.nargs != 0:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    listed = f'_restore_models() {{ compgen -W "{" ".join(names)}" -- "$1"; compgen -f -- "$1"; }}'
    tell(shtab.complete(whole, arguments.shell, preamble={"bash": listed}.get(arguments.shell, "")), out=True)
    return 0


def _models() -> list[str]:
    from restore.zoo import list_models

    return list_models()


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of a parser and of those below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in dict.fromkeys(action.choices.values()):
                yield from _actions(below)
        else:
            yield action

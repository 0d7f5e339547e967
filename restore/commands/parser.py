"""The command line itself: what every command's options have in common.

Every long option has two spellings, `--auto-resume` and `--auto_resume`. A mistake is one line, a short usage line and
the nearest name. `-` is no file: nothing is read from standard input or written to standard output. Help comes in
groups, the last of which every command has: `--help`, `--quiet`, `--debug`, `--plugin`.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn, cast

from restore.errors import nearest
from restore.terminal import visible

__all__ = ["Parser", "command_parser", "whole_parser"]


class Parser(argparse.ArgumentParser):
    """Parser of a command, or of one of its actions."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **{"formatter_class": _HelpFormatter, **options, "add_help": False})

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse, in either spelling; what is left over is an error here, where the options are known."""
        given = [] if args is None else list(args)
        end = given.index("--") if "--" in given else len(given)
        words = [self._as_declared(word) for word in given[:end]] + given[end:]
        parsed, others = super().parse_known_args(words, namespace)
        if others and not any(self._actions_of_a_kind()):
            self.error(self._unknown(others))
        self._refuse_streams(parsed)
        return parsed, others

    def error(self, message: str) -> NoReturn:
        """One line with what is wrong, one with what is needed; exit code 2."""
        self.exit(2, f"error: {visible(message)}\n{self.format_usage().rstrip()}; --help shows all\n")

    def complete(self, about: str, *, is_action: bool = False) -> None:
        """Add what every command and each of its actions has."""
        self.description = f"{about[0].upper()}{about[1:]}."
        # what stands before the action counts too
        absent: dict[str, Any] = {"default": argparse.SUPPRESS} if is_action else {}
        general = self.add_argument_group("general")
        general.add_argument("-h", "--help", action="help", help="show this text")
        general.add_argument("-q", "--quiet", action="store_true", help="say nothing but warnings and errors", **absent)
        if "--debug" not in self._option_string_actions:  # `train` and `test` have their own, which means more
            general.add_argument(
                "--debug", action="store_true", help="show the traceback of an error and debugging messages", **absent
            )
        general.add_argument(
            "--plugin",
            action="append",
            metavar="FILE",
            help="a Python file that registers networks or other components of your own; may be given several times",
            **absent,
        )
        self.usage = self._short_usage()
        for actions in self._actions_of_a_kind():
            for listed in actions._choices_actions:
                cast(Parser, actions.choices[listed.dest]).complete(listed.help or "", is_action=True)

    def _actions_of_a_kind(self) -> Iterator[Any]:
        return (action for action in self._actions if isinstance(action, argparse._SubParsersAction))

    def _as_declared(self, word: str) -> str:
        """A long option as it was declared, whichever way it is spelled; any other word as it is."""
        if not word.startswith("--"):
            return word
        name, equals, value = word.partition("=")
        meant = {_canonical(flag): flag for flag in self._option_string_actions if flag.startswith("--")}
        found = meant.get(_canonical(name))
        if found is None:
            beginning = [flag for each, flag in meant.items() if each.startswith(_canonical(name))]
            found = beginning[0] if len(beginning) == 1 else name
        return f"{found}{equals}{value}"

    def _unknown(self, words: Sequence[str]) -> str:
        words = [word for word in words if word != "--"]
        name = words[0].partition("=")[0]
        if not name.startswith("-"):
            return f"'{words[0]}' is one argument too many."
        flags = {_canonical(flag): flag for flag in self._option_string_actions}
        return f"unknown option {name}.{nearest(_canonical(name), flags)}"

    def _refuse_streams(self, parsed: argparse.Namespace) -> None:
        for action in self._actions:
            values = getattr(parsed, action.dest, None)
            if action.option_strings and "-" in map(str, values if isinstance(values, list) else [values]):
                flags = "/".join(action.option_strings)
                self.error(
                    f"argument {flags}: '-' is no file. Standard input is not read and standard output not written: "
                    "name a file or a folder (./- for a file of that name)."
                )

    def _short_usage(self) -> str:
        """What has to be given; the rest is `[options]`."""
        formatter = self._get_formatter()
        needed = [action for action in self._actions if action.required or not action.option_strings]
        groups = [group for group in self._mutually_exclusive_groups if group.required]
        needed += [action for group in groups for action in group._group_actions if action not in needed]
        formatter.add_usage(None, sorted(needed, key=self._actions.index), groups, prefix="")
        return f"{' '.join(formatter.format_help().split())} [options]".replace("%", "%%")


def command_parser(name: str, about: str) -> tuple[Any, Parser]:
    """The module of a command, and its parser."""
    module = importlib.import_module(f"restore.commands.{name.replace(' ', '_')}")
    parser = Parser(prog=f"restore {name}")
    module.add_arguments(parser)
    parser.complete(about)
    return module, parser


def whole_parser(prog: str, commands: Mapping[str, str]) -> argparse.ArgumentParser:
    """One parser of all commands, for what looks at all of them: shell completion."""
    whole = argparse.ArgumentParser(prog=prog)
    listed = whole.add_subparsers(metavar="COMMAND", parser_class=Parser)
    for name, about in commands.items():
        if " " in name:  # argparse has no commands of two words
            continue
        parser = listed.add_parser(name, help=about, add_help=False)
        importlib.import_module(f"restore.commands.{name}").add_arguments(parser)
        parser.complete(about)
    return whole


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default only where there is one worth showing."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, "", [], argparse.SUPPRESS) or not action.option_strings:
            return action.help
        return super()._get_help_string(action)


def _canonical(flag: str) -> str:
    return flag.replace("_", "-")

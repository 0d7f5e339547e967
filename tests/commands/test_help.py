"""What every command says about itself."""

from __future__ import annotations

import re

import pytest

from restore.cli import COMMANDS, main
from restore.errors import OptionsError

ACTIONS = {
    "data": ("check", "lmdb", "subimages", "list", "prepare"),
    "options": ("explain", "check", "list", "copy", "schema"),
    "leaderboard": ("score", "table"),
}
COMMAND_LINES = [[name, *action] for name in COMMANDS for action in [[], *([a] for a in ACTIONS.get(name, ()))]]


def _help(capsys, command):
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMAND_LINES, ids=" ".join)
def test_help(capsys, command):
    text = _help(capsys, command)
    assert "--debug" in text
    assert re.search(r"\n\n[A-Z][^\n]+", text), "a description"
    assert "(default: )" not in text


def test_descriptions_keep_their_capitals(capsys):
    assert "Write a model as an ONNX" in _help(capsys, ["export"])


@pytest.mark.parametrize("place", [1, 2])
def test_debug_counts_before_and_after_the_action(place, tmp_path):
    command = ["data", "check", "-opt", str(tmp_path / "none.yml")]
    assert main(command) == 2
    command.insert(place, "--debug")
    with pytest.raises(OptionsError):
        main(command)

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
COMMAND_LINES = [
    [*name.split(), *action] for name in COMMANDS for action in [[], *([a] for a in ACTIONS.get(name, ()))]
]


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


@pytest.mark.parametrize(
    "words",
    [
        ("submit", "sr_x4", "-m", "swinir_light_x4", "-i", "in", "-o", "mine.zip"),
        ("score", "-r", "in", "--metrics", "niqe", "-o", "page.html"),
        ("degrade", "-i", "in", "-o", "pairs.tar", "--recipe", "bicubic"),
        ("degrade", "-i", "in", "-o", "pairs.png", "--recipe", "bicubic"),
        ("data", "subimages", "-i", "in", "-o", "pieces.tif"),
    ],
)
def test_a_folder_is_not_called_like_a_file(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    try:
        code = main(list(words))
    except SystemExit as stopped:  # of argparse
        code = stopped.code
    assert code == 2
    assert "is the name of a" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]

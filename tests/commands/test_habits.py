"""What every command does alike: spellings, mistakes, `--quiet`, `--json`, `-` that is no file, completion."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import shutil
import subprocess

import numpy as np
import pytest

from restore.cli import COMMANDS, main
from restore.commands.parser import Parser, whole_parser
from restore.images import write_image
from restore.terminal import be_quiet, is_quiet, tell

ARGPARSE = argparse._SubParsersAction


def parsers(parser):
    for action in parser._actions:
        if isinstance(action, ARGPARSE):
            for below in action.choices.values():
                yield below
                yield from parsers(below)


ALL = {parser.prog: parser for parser in parsers(whole_parser("restore", COMMANDS))}


@pytest.fixture(autouse=True)
def _loud():
    yield
    be_quiet(False)
    logging.getLogger("restore").setLevel(logging.NOTSET)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    write_image(path, np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8))
    return path


@pytest.mark.parametrize("parser", ALL.values(), ids=ALL)
def test_every_long_option_has_two_spellings(parser):
    for action in parser._actions:
        for flag in action.option_strings:
            if flag.startswith("--"):
                body = flag[2:]
                for spelling in (body, body.replace("-", "_"), body.replace("_", "-")):
                    found = parser._option_string_actions.get(parser._as_declared(f"--{spelling}=x").partition("=")[0])
                    assert found is action, spelling


@pytest.mark.parametrize("flag", ["--tile-overlap", "--tile_overlap", "--tile_over", "--tile-over"])
def test_spellings_and_beginnings_on_the_command_line(flag, photo, weights, tmp_path):
    command = ["run", "-m", str(weights), "-i", str(photo), "-o", str(tmp_path / "out"), flag, "-1"]
    assert main([*command[:-2], f"{flag}=4", "--device", "cpu"]) == 0
    assert main([*command[:-2], f"{flag}=-1"]) == 2


def test_what_follows_two_dashes_is_no_option():
    parser = Parser(prog="x")
    parser.add_argument("--a-b")
    parser.add_argument("words", nargs="*")
    parser.complete("it")
    parsed = parser.parse_args(["--a_b=1", "--", "--a_b"])
    assert (parsed.a_b, parsed.words) == ("1", ["--a_b"])


@pytest.mark.parametrize("parser", ALL.values(), ids=ALL)
def test_a_mistake_is_two_short_lines(parser, capsys):
    with pytest.raises(SystemExit, match="2"):
        parser.error("something is wrong")
    first, second = capsys.readouterr().err.splitlines()
    assert first == "error: something is wrong"
    assert second.startswith(f"usage: {parser.prog}")
    assert len(second) < 160


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("run -m x -i a -o b --titel 5", "unknown option --titel. Did you mean '--tile'?"),
        ("data check -opt x --wrokers 2", "unknown option --wrokers. Did you mean '--workers'?"),
        ("models a b", "'b' is one argument too many."),
        ("run -m x -i a -o b -- c", "'c' is one argument too many."),
    ],
)
def test_unknown_options_get_the_nearest_name(command, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(command.split())
    assert words in capsys.readouterr().err


def test_an_unknown_command_is_one_line(capsys):
    assert main(["modles"]) == 2
    said = capsys.readouterr().err
    assert said == "error: unknown command 'modles'. Did you mean 'models'? `restore --help` lists them.\n"


def test_an_unknown_model_gets_a_few_names_and_not_all(photo, capsys, tmp_path):
    assert main(["run", "-m", "swinir_ligth_x4", "-i", str(photo), "-o", str(tmp_path / "o")]) == 2
    said = capsys.readouterr().err
    assert "Did you mean 'swinir_light_x4', " in said
    assert "`restore models` lists the" in said
    assert len(said) < 250


@pytest.mark.parametrize(
    "command",
    [
        "run -m x -i - -o out",
        "run -m x -i in -o -",
        "run -m x -i in - -o out",
        "score -r -",
        "degrade -i - -o out",
        "data lmdb -i - -o x.lmdb",
        "export -m x -o -",
        "finetune -m x -i - -o tuned",
        "compare photo.png -m x -o -",
        "submit sr_x4 -m x -i - -o out",
        "test -opt -",
        "blend a b -o=-",
    ],
)
def test_standard_streams_are_refused_in_words(command, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(command.split())
    said = capsys.readouterr().err
    assert "'-' is no file" in said
    assert "name a file or a folder" in said


@pytest.mark.parametrize("parser", ALL.values(), ids=ALL)
def test_numbers_of_things_at_once_mean_one_thing_each(parser):
    help_of = {flag: action.help for action in parser._actions for flag in action.option_strings}
    if "--workers" in help_of:
        assert "worked on at once" in help_of["--workers"]
    if "--threads" in help_of:
        assert "threads of the processor that the network computes with" in help_of["--threads"]
    assert "--jobs" not in help_of


def test_threads(photo, weights, tmp_path):
    import torch

    before = torch.get_num_threads()
    try:
        assert main(["run", "-m", str(weights), "-i", str(photo), "-o", str(tmp_path / "o"), "--threads", "1"]) == 0
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_quiet_says_nothing_but_what_is_wrong(photo, weights, tmp_path, capsys):
    command = ["run", "-m", str(weights), "-o", str(tmp_path / "out"), "--device", "cpu", "--quiet", "-i", str(photo)]
    assert main(command) == 0
    assert tuple(capsys.readouterr()) == ("", "")
    (bad := tmp_path / "bad.png").write_bytes(b"no image")
    assert main([*command, str(bad)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "bad.png" in err
    assert main([*command[:-1], str(bad)]) == 2
    assert "error:" in capsys.readouterr().err
    assert is_quiet()


def test_quiet_does_not_last(capsys):
    be_quiet(True)
    tell("a")
    tell("b", always=True)
    tell("c", out=True)
    assert tuple(capsys.readouterr()) == ("c\n", "b\n")
    assert main(["options", "list", "--json"]) == 0
    assert not is_quiet()


JSON = {
    "run": "run -m {weights} -i {photo} -o {out} --device cpu",
    "run --resume": "run -m {weights} -i {photo} -o {out} --device cpu --resume",
    "compare": "compare {photo} -m {weights} -o {out}.html",
    "score": "score -r {photo} -g {photo} -o {out}",
    "protocols": "score --protocols",
    "models": "models",
    "kind": "models mixer",
    "one": "models swinir_light_x4",
    "component": "models outlook",
    "doctor": "doctor",
    "options list": "options list",
    "options explain": "options explain swinir_x4",
    "options check": "options check swinir_x4",
    "data list": "data list",
    "data check": "data check -opt swinir_x4",
    "board": "leaderboard table {board} -o {out}.html",
}


@pytest.mark.parametrize("command", JSON.values(), ids=JSON)
def test_json_is_one_document_and_nothing_else(command, photo, weights, tmp_path, capsys):
    board = tmp_path / "board.jsonl"
    board.write_text('{"name": "a", "track": "sr_x4", "scores": {"psnr": 30.0}}\n')
    words = {"weights": weights, "photo": photo, "out": tmp_path / "out", "board": board}
    assert main([*shlex.split(command.format(**words)), "--json"]) in (0, 1)
    json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def test_json_of_a_run_names_what_failed(photo, weights, tmp_path, capsys):
    (bad := tmp_path / "bad.png").write_bytes(b"no image")
    command = ["run", "-m", str(weights), "-i", str(photo), str(bad), "-o", str(tmp_path / "out"), "--json"]
    assert main(command) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["restored"], found["failed"], found["left"]) == (1, 1, 0)
    assert {file["source"]: bool(file["error"]) for file in found["files"]} == {str(photo): False, str(bad): True}


def test_json_of_identical_images_is_json(photo, tmp_path, capsys):
    command = ["score", "-r", str(photo), "-g", str(photo), "-o", str(tmp_path / "s"), "--metrics", "psnr", "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["images"][0]["values"]["psnr"] == "inf"


@pytest.mark.parametrize("parser", ALL.values(), ids=ALL)
def test_help_ends_with_what_every_command_has(parser):
    general = parser.format_help().partition("\ngeneral:\n")[2]
    for flag in ("--help", "--quiet", "--plugin"):
        assert flag in general


def test_commands_are_listed_in_groups(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    for group in ("restore images:", "measure:", "train:", "data:", "models:", "this installation:"):
        assert f"\n{group}\n" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh", "fish", "powershell"])
def test_completion_scripts(shell, capsys):
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "tile-overlap" in script
    assert "leaderboard" in script


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(capsys, tmp_path):
    pytest.importorskip("shtab")
    main(["completion", "bash"])
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)

    def completed(*words):
        call = (
            f"source {script}; COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; "
            f"_shtab_restore restore {shlex.quote(words[-1])} {shlex.quote(words[-2])}; echo ${{COMPREPLY[@]}}"
        )
        return subprocess.run(["bash", "-c", call], capture_output=True, text=True, check=True).stdout.split()

    assert completed("restore", "comp") == ["compare", "completion"]
    assert completed("restore", "run", "--tile-o") == ["--tile-overlap"]
    assert {"fast_x2", "fast_x4"} <= set(completed("restore", "run", "-m", "fast"))
    assert completed("restore", "data", "sub") == ["subimages"]

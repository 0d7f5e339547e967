"""Texts from outside are shown and do nothing: on terminals, in tables, in Markdown; signals and pipes are quiet."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from restore.cli import main
from restore.images import write_image
from restore.terminal import VisibleFormatter, csv_text, markdown_cell, one_line, open_console, visible

EVIL = "\x1b]0;owned\x07\x1b[31m\rred\x9b2J\u202egnp.\x7f"
RESTORE = [sys.executable, "-m", "restore"]


def does_something(character):
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(character) in (
        *("LRE", "LRO", "RLE", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"),
    )


@given(st.text(st.characters(codec=None)))
@example(EVIL)
@example("\ud800 of a name that is no text")
def test_nothing_that_does_something_is_left(text):
    shown = visible(text)
    assert not any(does_something(character) for character in shown if character not in "\n\t")
    assert not any(does_something(character) for character in one_line(text))
    assert visible(shown) == shown
    plain = "".join(
        character for character in text if not does_something(character) and character not in "\u061c\u200e\u200f"
    )
    assert text != plain or shown == text
    shown.encode("utf-8")


def test_a_console_colours_what_it_means_to_and_nothing_else():
    file = io.StringIO()
    console = open_console(file=file, force_terminal=True, width=200, markup=False, highlight=False)
    console.print(EVIL, style="bold")
    written = file.getvalue()
    assert "\\x1b]0;owned" in written
    assert written.count("\x1b") == 2
    assert not any(does_something(mark) for mark in written if mark not in "\x1b\n")


def test_log_records_stay_on_their_line():
    record = logging.makeLogRecord({"msg": "reading %s\nof %d", "args": (f"a\n{EVIL}", 3)})
    text = VisibleFormatter("%(message)s").format(record)
    assert text.split("\n")[1:] == ["of 3"]
    assert "\x1b" not in text
    assert record.args[0].startswith("a\n")


CELLS = st.one_of(st.text(st.characters(codec="utf-8", exclude_characters="\r\0")), st.floats(), st.integers())


@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1))
@example([["=cmd|' /C calc'!A0", -1.5], ["+1+1", "-2.25"], ["@SUM(A1)", "\t=1"]])
def test_no_cell_of_a_table_is_a_formula(rows):
    read = list(csv.reader(io.StringIO(csv_text(rows), newline="")))
    for row, cells in zip(rows, read, strict=True):
        for value, cell in zip(row, cells, strict=True):
            assert cell in (str(value), f"'{value}")
            if isinstance(value, float) or cell == str(value):
                assert not cell.startswith(("=", "@", "\t"))
                assert cell[:1] not in ("+", "-") or isinstance(float(cell), float)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)&gt;"),
        ("a|b\nc", "a\\|b\\\\nc"),
        ("[x](javascript:1)", "\\[x\\](javascript:1)"),
        ("swinir_light_x4", "swinir_light_x4"),
        ("\\|", "\\\\\\|"),
    ],
)
def test_cells_of_markdown_are_text(text, shown):
    assert markdown_cell(text) == shown


def test_a_board_escapes_what_it_is_given(tmp_path):
    board = tmp_path / "board.jsonl"
    entry = {
        "name": "<script>|",
        "track": "sr_x4",
        "scores": {"psnr": 30.0},
        "cost": {},
        "dataset": "<b>",
        "date": "<i>",
    }
    board.write_text(json.dumps(entry) + "\n")
    assert main(["leaderboard", "table", str(board), "-o", str(tmp_path / "board.html")]) == 0
    for name in ("board.html", "board.md"):
        text = (tmp_path / name).read_text()
        assert "&lt;b&gt;" in text
        assert not any(tag in text for tag in ("<script>|", "<b>", "<i>"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow fewer names")
def test_names_of_files_do_nothing_to_the_terminal(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for name in ("=1+1", "good", EVIL.replace("/", "")):
        write_image(tmp_path / f"in/{name}.png", pixels)
    (tmp_path / f"in/bad{EVIL}.png").write_bytes(b"no image")
    (tmp_path / f"in/bad{EVIL}.dat").write_bytes(b"no image")
    (tmp_path / "in/two\nFAKE lines.png").write_bytes(b"no image")
    raw = b"in/half\xff\x1b.png"
    with open(raw, "wb") as file:
        file.write(b"no image")
    for command in (
        ["run", "-m", "fast_x2", "-i", "in", "-o", "out", "--device", "cpu"],
        ["score", "-r", "in", "-g", "in", "-o", "scores"],
        ["data", "subimages", "-i", "in", "-o", "pieces"],
        ["degrade", "-i", "in", "-o", "pairs", "--recipe", "jpeg", "--workers", "1"],
        ["run", "-m", f"no{EVIL}.pth", "-i", "in", "-o", "out"],
        ["data", "lmdb", "-i", "in", "-o", "out.lmdb"],
        ["options", "check", f"no{EVIL}.yml"],
    ):
        assert main(command) in (1, 2)
        said = "".join(capfd.readouterr())
        assert not any(does_something(character) for character in said if character != "\n"), command
        assert not any(line.startswith("FAKE") for line in said.splitlines()), command
    rows = list(csv.reader(io.StringIO((tmp_path / "scores/scores.csv").read_text(encoding="utf-8"), newline="")))
    assert {"'=1+1.png", "good.png"} <= {row[0] for row in rows}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_exit_code_130_and_what_is_done_is_kept(tmp_path, number):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for index in range(60):
        write_image(tmp_path / f"in/{index:02}.png", pixels)
    command = [*RESTORE, "run", "-m", "fast_x2", "-i", "in", "-o", "out", "--device", "cpu"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob("out/*.png")):
        time.sleep(0.005)
    process.send_signal(number)
    said = process.communicate()[1]
    assert process.returncode == 130, said
    assert " restored in " in said
    assert " left" in said
    assert "Traceback" not in said
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".png"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_treated_so_in_every_command_and_left_as_they_were(monkeypatch, capsys, number):
    from restore.commands import doctor

    def interrupted(arguments):
        exec("import os, signal; os.kill(os.getpid(), number)", {"number": number})

    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(doctor, "run", interrupted)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "error: interrupted: everything finished so far is kept.\n"
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize(("code", "expected"), [(1, 130), (0, 0)])
def test_a_signal_that_a_library_swallows_is_told_where_work_failed(monkeypatch, capsys, code, expected):
    from restore.commands import doctor

    def swallowed(arguments):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            return code

    monkeypatch.setattr(doctor, "run", swallowed)
    assert main(["doctor"]) == expected
    assert ("interrupted" in capsys.readouterr().err) == (expected == 130)


def test_a_signal_that_a_library_makes_another_error_of_is_no_traceback(monkeypatch, capsys):
    from restore.commands import doctor

    def changed(arguments):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None

    monkeypatch.setattr(doctor, "run", changed)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "error: interrupted: everything finished so far is kept.\n"


@pytest.mark.parametrize("command", [["models"], ["options", "list"], ["models", "--json"]])
def test_a_reader_that_goes_away_is_no_error(command):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*RESTORE, *command], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_broken_pipe_of_something_else_is_an_error(monkeypatch):
    from restore.commands import doctor

    def broken(arguments):
        raise BrokenPipeError

    monkeypatch.setattr(doctor, "run", broken)
    with pytest.raises(BrokenPipeError):
        main(["doctor"])


def test_the_program_ends_as_its_command_has_and_does_what_waits_for_the_end():
    code = (
        "import atexit, sys, threading, time; from restore.__main__ import run; atexit.register(print, 'last'); "
        "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start(); run(sys.argv[1:])"
    )
    for arguments, expected in ((["--version"], 0), (["options", "check", "/no/such.yml"], 2)):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert done.returncode == expected, done.stderr
        assert "thread" in done.stdout.split()
        assert done.stdout.split()[-1] == "last"
    assert "/no/such.yml" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_the_program_ends_quietly_where_nobody_reads():
    command = [sys.executable, "-m", "restore", "options", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141

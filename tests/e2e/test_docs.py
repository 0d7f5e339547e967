"""Every command of these pages of the documentation runs, and so does their Python."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from restore.cli import main
from restore.commands import COMMANDS as COMMANDS_OF_RESTORE
from restore.commands.parser import command_parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("commands.md", "defects.md", "models.md")


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)


COMMANDS = [
    (page, line.partition("  #")[0].strip())
    for page in PAGES
    for block in blocks(page, "bash")
    for line in block.splitlines()
    if line.strip() and not line.startswith("#")
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    from restore.images import resize_pixels, write_image

    folder = tmp_path_factory.mktemp("docs")
    coarse = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    for name in ("photo.png", "photos/cat.png", "photos/dog.png"):
        write_image(folder / name, resize_pixels(coarse, size=(40, 48)))
    (folder / "models.json").write_text("{}")
    return folder


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_command(page, command, workspace, monkeypatch):
    assert command.startswith("restore ")
    if not set(command) & set("<>|$*;&"):  # nothing for a shell to do
        monkeypatch.chdir(workspace)
        monkeypatch.setenv("RESTORE_OPENMODELDB", "models.json")
        assert main(shlex.split(command)[1:]) == 0
        return
    program = shlex.join([sys.executable, "-m", "restore.cli"])
    line = f"{program} {command.removeprefix('restore ')}"
    listed = {"RESTORE_OPENMODELDB": str(workspace / "models.json")}
    done = subprocess.run(["bash", "-c", line], cwd=workspace, capture_output=True, text=True, env=os.environ | listed)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(("page", "code"), [(page, code) for page in PAGES for code in blocks(page, "python")])
def test_python(page, code, workspace, monkeypatch, capsys):
    monkeypatch.chdir(workspace)
    exec(code, {})
    for line in re.findall(r"print\(.*?\)  +# (.*)", code):
        assert line in capsys.readouterr().out


PLACES = ("docs/*.md", "*.md", "options/README.md", "datasets/README.md")
WRITTEN = sorted({path.relative_to(ROOT).as_posix() for place in PLACES for path in ROOT.glob(place)})
SHELL = re.compile(r"\s(?:&&|[|>;&])(?:\s|$)|\s#\s")


def written(page):
    """The commands of the repository that a page shows, as words."""
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(SHELL.split(f"{line} ")[0], comments=True)
            if words and (words[0] == "restore" or (words[0] in ("python", "bash") and "." in words[1][:-1])):
                yield words


@pytest.mark.parametrize("page", [page for page in WRITTEN if any(written(page))])
def test_commands_of_every_page_are_understood(page):
    """Those that take long are not run: their arguments are read, and their scripts and option files are there."""
    for words in written(page):
        if words[0] == "restore":
            name = " ".join(words[1:3]) if " ".join(words[1:3]) in COMMANDS_OF_RESTORE else words[1]
            command_parser(name, COMMANDS_OF_RESTORE[name])[1].parse_args(words[1 + len(name.split()) :])
        else:
            assert (ROOT / words[1]).is_file(), words[1]
            if words[1].startswith("scripts/"):  # what studies share stands beside them
                beside = "".join(each.read_text(encoding="utf-8") for each in (ROOT / words[1]).parent.glob("*.py"))
                unknown = [word for word in words[2:] if word.startswith("--") and f'"{word}"' not in beside]
                assert unknown in ([], ["--set"]), words  # which is added for all
        for option, value in itertools.pairwise(words):
            if option == "-opt" and value.startswith(("options/", "scripts/")):
                assert (ROOT / value).is_file(), value

"""Every command of these pages of the documentation runs, and so does their Python."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from restore.cli import main

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

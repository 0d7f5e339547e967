"""Every command whose output grows over time leaves it to one process."""

from __future__ import annotations

import numpy as np
import pytest

from restore.cli import main
from restore.images import write_image
from restore.locks import reserved

COMMANDS = {
    "score": ["score", "-r", "in", "-g", "in", "-o", "out"],
    "degrade": ["degrade", "-i", "in", "-o", "out", "--recipe", "jpeg", "--workers", "1"],
    "subimages": ["data", "subimages", "-i", "in", "-o", "out", "--size", "8", "--step", "8"],
    "lmdb": ["data", "lmdb", "-i", "in", "-o", "out.lmdb"],
    "submit": ["submit", "sr_x4", "-m", "fast_x4", "-i", "in", "-o", "out"],
    "sweep": ["sweep", "--mixers", "identity", "--seeds", "1", "-o", "out"],
}
LONG = ("submit", "sweep")  # only refused here


@pytest.mark.parametrize("name", COMMANDS)
def test_the_second_is_refused_and_the_next_is_not(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "in/a.png", np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    output = COMMANDS[name][COMMANDS[name].index("-o") + 1]
    with reserved(output):
        assert main(COMMANDS[name]) == 2
    said = capsys.readouterr().err
    assert f"{output}' is being written by another process" in said
    assert said.count("error:") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    if name not in LONG:
        assert main(COMMANDS[name]) == 0
    assert not list(tmp_path.rglob(".*"))

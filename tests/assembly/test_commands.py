"""Every command that takes an option file is given every one that is shipped, where no data and no weights are.

It must end with one message and an exit code; `main` lets every exception pass that is not expected.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from restore.cli import main

OPTIONS = Path(__file__).parents[2] / "options"
FILES = {path.stem: path for path in sorted(OPTIONS.glob("*.yml"))}
TRAININGS = [name for name in FILES if name.startswith("train_")]
HERE = ("swinir_x4", "train_first_x2")  # whose photographs come with a package
SMALL = {name for name in TRAININGS if "light" in name or "small" in name}


def kinds():
    """One file for each combination of network, objective and datasets."""
    found = {}
    for name, path in FILES.items():
        values = yaml.safe_load(path.read_text())
        blocks = [values.get("network_g") or {}, *values.get("datasets", {}).values()]
        found.setdefault((values.get("model_type"), *((block or {}).get("type") for block in blocks)), name)
    return set(found.values())


def few(names, quick):
    """Those that are not quick are left to `-m slow`."""
    return [pytest.param(name, marks=[] if name in quick else pytest.mark.slow) for name in names]


KINDS = kinds()


def said(capsys, *arguments):
    """What a command that cannot succeed says."""
    assert main([str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("name", few([name for name in FILES if name not in HERE], KINDS))
def test_a_test_says_which_folder_is_missing(name, empty_place, capsys):
    assert "does not exist" in said(capsys, "test", "-opt", FILES[name])
    assert not (empty_place / "results").exists()


@pytest.mark.parametrize("name", few([name for name in TRAININGS if name not in HERE], KINDS & SMALL))
def test_a_training_says_which_folder_or_file_is_missing(name, empty_place, capsys):
    words = said(capsys, "train", "-opt", FILES[name], "--set", "num_gpu=0")
    assert re.search("does not exist|no such weights file|could not", words), words
    assert not (empty_place / "experiments").exists()


@pytest.mark.parametrize("name", few(FILES, KINDS))
def test_nothing_was_trained_yet(name, empty_place, capsys):
    words = said(capsys, "train", "-opt", FILES[name], "--plot")
    assert ("holds no history of a training" if name in TRAININGS else "missing: training needs") in words


@pytest.mark.parametrize("track", ["sr_x4", "perceptual_iqa"])
@pytest.mark.parametrize("name", few(FILES, KINDS))
def test_a_submission_says_what_it_lacks(name, track, empty_place, capsys):
    words = said(capsys, "submit", track, "-opt", FILES[name], "-o", "sent")
    assert re.search("give the folder of the inputs with -i|' does not exist: check datasets", words), words
    assert not (empty_place / "sent").exists()

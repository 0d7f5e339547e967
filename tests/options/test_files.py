"""Option files as they are: our own, and BasicSR's where a copy is at hand.

BasicSR's files are not ours to carry. Name the `options` folder of a checkout in RESTORE_BASICSR_OPTIONS to run them:
each must load unedited, or end in exactly one mistake that names the component we lack and the nearest we have.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from restore.errors import OptionsError
from restore.options import load

OURS = sorted((Path(__file__).parents[2] / "options").rglob("*.yml"))
FOLDER = os.environ.get("RESTORE_BASICSR_OPTIONS")
THEIRS = sorted(Path(FOLDER).rglob("*.yml")) if FOLDER else []


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_our_files_are_right(path, tmp_path):
    options = load(path)
    (tmp_path / "dumped.yml").write_text(options.dump())
    assert load(tmp_path / "dumped.yml", is_train=options.is_train) == options


@pytest.mark.skipif(not THEIRS, reason="needs BasicSR's option files in RESTORE_BASICSR_OPTIONS")
def test_files_of_basicsr_load_unedited():
    wrong = {}
    for path in THEIRS:
        try:
            load(path)
        except OptionsError as error:
            messages = [problem.message for problem in error.problems]
            if len(messages) > 1 or "is not part of this package" not in messages[0]:
                wrong[str(path.relative_to(FOLDER))] = messages
    assert wrong == {}

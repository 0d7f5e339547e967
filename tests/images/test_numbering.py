"""Names of numbered files."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from restore.errors import DataError, OptionsError
from restore.images.numbering import Numbering


def test_names_and_numbers(tmp_path, caplog):
    names = Numbering(tmp_path / "100%_%03d_x.png".replace("%_", "_"))
    assert names.path(7).name == "100_007_x.png"
    assert Numbering("%d.png").path(12) == Path("12.png")
    for number in (3, 4, 8, 9):
        (tmp_path / f"{number:05}.png").write_bytes(b"")
    (tmp_path / "5.png").write_bytes(b"has no leading zeros")
    with caplog.at_level(logging.WARNING):
        assert list(Numbering(tmp_path / "%05d.png").find()) == [3, 4, 8, 9]
    assert "number 5 and 2 more is missing" in caplog.text
    with pytest.raises(DataError, match=r"there is no file .*frame_0001\.png"):
        Numbering(tmp_path / "frame_%04d.png").find()
    for wrong, words in (("%d_%d.png", "one placeholder"), ("%05d", "ending|numbered files are images")):
        with pytest.raises(OptionsError, match=words):
            Numbering(tmp_path / wrong)
    (tmp_path / "50%done.png").write_bytes(b"")
    assert not Numbering.is_one(tmp_path / "50%done.png")

"""`restore defects` and `restore score --defects`: what they write, for any kind of image, and what they refuse."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

from restore.cli import main
from restore.detection.loading import save_detector
from restore.images import write_image
from restore.registry import DETECTORS

BLOCK = {
    "type": "QueryDetector",
    "encoder": {"type": "conv_pyramid", "widths": [4, 6], "out_indices": [1]},
    "width": 8,
    "num_heads": 2,
    "num_points": 2,
    "num_queries": 4,
    "num_layers": 1,
}


@pytest.fixture
def detector(tmp_path, one_thread):
    """One that is unsure of everything, and says so of something everywhere."""
    torch.manual_seed(0)
    path = tmp_path / "detector.safetensors"
    save_detector(DETECTORS.build(BLOCK), BLOCK, path)
    return str(path)


@pytest.fixture
def photos(tmp_path):
    random = np.random.default_rng(0)
    folder = tmp_path / "photos"
    write_image(folder / "a.png", random.integers(0, 256, (40, 52, 3), dtype=np.uint8))
    write_image(folder / "grey & 16 bit.png", random.integers(0, 65536, (30, 31), dtype=np.uint16))
    write_image(folder / "in/alpha.png", random.integers(0, 256, (20, 21, 4), dtype=np.uint8))
    write_image(folder / "one.png", np.full((1, 1, 3), 200, np.uint8))
    return folder


def test_everything_is_written(photos, detector, tmp_path, capsys):
    output = tmp_path / "found"
    command = ["defects", "-i", str(photos), "-o", str(output), "-m", detector, "--min-score", "0", "--recursive"]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((output / "defects.json").read_text())
    assert sorted(told["images"]) == ["a.png", "grey & 16 bit.png", "in/alpha.png", "one.png"]
    assert told["images"]["a.png"]["size"] == [40, 52]
    rows = list(csv.DictReader((output / "defects.csv").read_text().splitlines()))
    assert len(rows) == sum(len(image["defects"]) for image in told["images"].values()) > 0
    for name, image in told["images"].items():
        height, width = image["size"]
        for each in image["defects"]:
            left, top, right, bottom = each["box"]
            assert 0 <= left <= right <= width, name
            assert 0 <= top <= bottom <= height, name
    page = (output / "defects.html").read_text()
    assert page.count("<svg viewBox") == 4
    assert page.count("<rect ") == len(rows)
    assert "grey &amp; 16 bit.png" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_kinds_and_scores_choose(photos, detector, tmp_path):
    command = ["defects", "-i", str(photos / "a.png"), "-m", detector]
    assert main([*command, "-o", str(tmp_path / "some"), "--kinds", "dust, text", "--min-score", "0"]) == 0
    found = json.loads((tmp_path / "some/defects.json").read_text())
    assert found["kinds"] == ["dust", "text"]
    assert {each["kind"] for each in found["images"]["a.png"]["defects"]} == {"dust", "text"}
    assert main([*command, "-o", str(tmp_path / "none"), "--min-score", "1"]) == 0
    assert json.loads((tmp_path / "none/defects.json").read_text())["images"]["a.png"]["defects"] == []
    assert "<rect" not in (tmp_path / "none/defects.html").read_text()


def test_a_damaged_file_stops_no_other(photos, detector, tmp_path, caplog):
    (photos / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert main(["defects", "-i", str(photos), "-o", str(tmp_path / "found"), "-m", detector]) == 1
    found = json.loads((tmp_path / "found/defects.json").read_text())
    assert list(found["failed"]) == ["b.png"]
    assert len(found["images"]) == 3
    assert "b.png" in (tmp_path / "found/defects.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kinds", "dusk"], "Did you mean 'dust'"),
        (["-m", "nobody"], "no shipped detector"),
        (["-m", "missing.pth"], "missing.pth"),
    ],
)
def test_mistakes(photos, detector, tmp_path, capsys, words, message):
    command = ["defects", "-i", str(photos), "-o", str(tmp_path / "found"), "-m", detector, *words]
    assert main(command) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("share", ["1.5", "-1", "much"])
def test_scores_are_shares(photos, share, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["defects", "-i", str(photos), "--min-score", share])
    assert "0 to 1" in capsys.readouterr().err


def test_score_boxes_them_too(photos, detector, tmp_path, monkeypatch):
    monkeypatch.setattr("restore.commands.defects.MODEL", detector)
    output = tmp_path / "scores"
    command = ["score", "-r", str(photos / "a.png"), "--metrics", "triq", "-o", str(output), "--defects"]
    assert main([*command, "--workers", "1"]) == 0
    assert "<svg viewBox" in (output / "defects.html").read_text()
    assert list(json.loads((output / "defects.json").read_text())["images"]) == ["a.png"]

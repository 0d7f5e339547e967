"""`restore models`, and `restore run --task`, which chooses among them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from restore.cli import main
from restore.images import read_image, write_image
from restore.zoo import build_model, find_card, list_cards

DENOISER = {
    "type": "SwinIR",
    "upscale": 1,
    "img_size": 16,
    "window_size": 8,
    "embed_dim": 12,
    "depths": [2],
    "num_heads": [2],
    "mlp_ratio": 2,
}


@pytest.fixture(autouse=True)
def _no_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RESTORE_WEIGHTS", "http://127.0.0.1:9/nothing")


def printed(capsys, *arguments):
    assert main(["models", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [60, 80, 120, 240])
def test_the_table_fits_the_terminal_and_names_every_model(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    table = printed(capsys)
    assert max(map(len, table.splitlines())) <= columns
    for card in list_cards():
        assert f" {card.name} " in table
    assert ("32.92" in table) == (columns >= 100)
    assert ("4e78e33f22c1" in table) == (columns >= 170)
    assert "shipped" in table


def test_one_model_with_everything_that_is_known(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("RESTORE_WEIGHTS")
    shown = printed(capsys, "swinir_classical_x4")
    card = find_card("swinir_classical_x4")
    for text in (card.url, card.sha256, "67.9 MB", "Apache-2.0", "downloadable", "table 2", "0.9044"):
        assert text in shown
    assert "nobody publishes one: that of the first file seen here is recorded" in printed(capsys, "swinir_grey_jpeg10")
    assert "29.95" in printed(capsys, "swinir_grey_jpeg10")


def test_json_holds_addresses_and_sources(capsys):
    (card,) = json.loads(printed(capsys, "swinir_color_dn25", "--json"))
    assert card["place"] == "downloadable"
    assert card["url"] == "http://127.0.0.1:9/nothing/005_colorDN_DFWB_s128w8_SwinIR-M_noise25.pth"
    assert card["figures"][0]["source"] == "SwinIR paper (arXiv 2108.10257), table 6"
    assert len(json.loads(printed(capsys, "--json"))) == len(list_cards())
    assert "SwinIR" in json.loads(printed(capsys, "network", "--json"))


def test_unknown_models_get_a_suggestion(capsys, caplog):
    assert main(["models", "swinir_lihgt_x4"]) == 2
    assert "Did you mean 'swinir_light_x4'?" in capsys.readouterr().err + caplog.text


def restore_run(tmp_path, *task):
    write_image(tmp_path / "in.png", np.full((20, 24, 3), 99, np.uint8))
    return main(["run", "--task", *task, "-i", str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png")])


def test_a_task_chooses_the_model(tmp_path, monkeypatch, caplog):
    torch.manual_seed(0)
    weights = tmp_path / "weights" / find_card("swinir_color_dn50").weights
    weights.parent.mkdir()
    torch.save({"params": build_model(DENOISER).state_dict()}, weights)
    monkeypatch.setenv("RESTORE_WEIGHTS", str(weights.parent))
    assert restore_run(tmp_path, "denoise", "--sigma", "50", "--device", "cpu") == 0
    assert "model: swinir_color_dn50" in caplog.text
    assert read_image(tmp_path / "out.png").pixels.shape == (20, 24, 3)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            ["sr", "--scale", "8"],
            r"could not download .*127.*x8\.pth.* Get 001_\S+x8\.pth from https://github",
        ),
        (["derain"], r"http://127.*RESTORE_WEIGHTS"),
        (["sr", "--scale", "7"], r"at scale 7: allowed is 2, 3, 4, 8"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_message(tmp_path, capsys, caplog, task, message):
    assert restore_run(tmp_path, *task) == 2
    said = " ".join((capsys.readouterr().err + caplog.text).split())
    assert re.search(message, said), said
    assert not (tmp_path / "out.png").exists()

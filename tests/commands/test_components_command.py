"""`restore models --kind`, pages of components, and filters of models."""

from __future__ import annotations

import json

import pytest

from restore.cli import main
from restore.zoo import list_cards
from restore.zoo.load import KINDS


def printed(capsys, *arguments):
    assert main(["models", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [70, 120, 220])
@pytest.mark.parametrize("kind", ["mixer", "feed_forward", "placement"])
def test_a_table_names_all_of_a_kind(kind, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    table = printed(capsys, "--kind", kind)
    assert max(map(len, table.splitlines())) <= columns
    assert [name for name in KINDS[kind] if f" {name} " not in table] == []
    assert "Vaswani" in table
    assert ("96 x 96 x 60" in table.replace("\n", " ")) == (kind != "placement")
    assert ("1706.03762" in table) == (columns == 220)


def test_encoders_are_listed_without_building_them(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("restore.zoo.costs._COUNTED", {})
    table = printed(capsys, "--kind", "encoder")
    families = [
        name for name in KINDS["encoder"] if not any(name in KINDS["encoder"].variants(f) for f in KINDS["encoder"])
    ]
    assert [name for name in families if f" {name} " not in table] == []
    assert "CC-BY-NC-SA" in table
    found = {each["name"]: each for each in json.loads(printed(capsys, "--kind", "encoder", "--json"))}
    assert {name for name in families if "cost" not in found[name]} == {"timm"}  # which has no default
    assert (found["hornet"]["strides"], found["hornet"]["channels"]) == ([4, 8, 16, 32], [64, 128, 256, 512])
    assert found["hornet"]["cost"]["parameters"] > 20e6
    assert "224 x 224" in table


def test_json_has_what_is_known_and_what_it_costs(capsys):
    found = {each["name"]: each for each in json.loads(printed(capsys, "--kind", "mixer", "--json"))}
    assert [*found] == KINDS["mixer"].names()
    assert found["outlook"]["arxiv"] == "2106.13112"
    assert found["outlook"]["cost"]["at"] == "96 x 96 x 60"
    assert found["outlook"]["cost"]["parameters"] == 60 * 60 + 6 * 81 * 61 + 60 * 61


def test_a_page_shows_one_with_its_options(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    page = printed(capsys, "linformer")
    for text in ("Wang et al. 2020, arXiv 2006.04768", "M parameters", "96 x 96 x 60", "grid_px: side of the squares"):
        assert text in page
    page = printed(capsys, "afno", "--kind", "encoder")
    assert "4 px, 256 channels" in page
    assert "mixer" not in page.split("what it is")[0]
    assert printed(capsys, "afno").count("what it is") == 2
    (cost,) = json.loads(printed(capsys, "hornet_tiny", "--json"))
    assert (cost["strides"], cost["channels"]) == ([4, 8, 16, 32], [64, 128, 256, 512])


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--task", "sr", "--scale", "3"], lambda card: card.task == "sr" and card.scale == 3),
        (["--shipped"], lambda card: card.path is not None),
        (["--task", "quality", "--kind", "model"], lambda card: card.task == "quality"),
        (["--scale", "8"], lambda card: card.scale == 8),
    ],
)
def test_filters_of_models(arguments, left, capsys):
    names = [card["name"] for card in json.loads(printed(capsys, *arguments, "--json"))]
    assert names == [card.name for card in list_cards() if left(card)]
    assert 0 < len(names) < len(list_cards())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "denois"], "unknown task 'denois'. Did you mean 'denoise'"),
        (["--scale", "7"], "no model is left"),
        (["--kind", "mixer", "--shipped"], "--shipped is of models"),
        (["swinir_light_x4", "--task", "sr"], "--task is of models"),
        (["outlok"], "unknown model or component 'outlok'. Did you mean 'outlook'"),
        (["outlook", "--kind", "norm"], "unknown norm 'outlook'"),
    ],
)
def test_mistakes_are_named(arguments, message, capsys):
    assert main(["models", *arguments]) == 2
    assert message in capsys.readouterr().err

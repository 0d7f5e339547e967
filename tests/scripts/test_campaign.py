"""The campaign in short: hostile inputs of every kind, made from seeds, end in answers; and it sees what does not."""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def campaign():
    sys.path.insert(0, str(ROOT / "scripts"))
    yield importlib.import_module("campaign")
    sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture
def only(campaign, monkeypatch):
    """A function: the campaign has one kind of input, that is read so."""

    def replace(read):
        inputs = sys.modules["hostile_inputs"]
        monkeypatch.setitem(inputs.GOOD, "mine", lambda: {"x": b"good"})
        monkeypatch.setitem(inputs.HOW, "mine", (inputs.mutated,))
        monkeypatch.setitem(campaign.READERS, "mine", read)

    return replace


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["image", "weights", "options", "zip", "mat"])
def test_every_input_is_answered(campaign, tmp_path, kind):
    campaign.warm_up({kind}, tmp_path)
    ends = {seed: campaign.judge(kind, seed, tmp_path) for seed in range(15)}
    assert {seed: end for seed, end in ends.items() if end[0] != "answered"} == {}
    assert any(words for _, words in ends.values())  # some of them were refused


@pytest.mark.parametrize("kind", ["image", "weights", "options", "zip", "mat"])
def test_an_input_is_made_again_from_its_seed(campaign, kind):
    inputs = [campaign.make(kind, seed) for seed in range(20)]
    sys.modules["hostile_inputs"]._made.pop(kind)
    assert [campaign.make(kind, seed) for seed in range(20)] == inputs
    assert len({content for _, content in inputs}) > 10


def test_what_goes_wrong_is_seen(campaign, only, tmp_path):
    def end(read):
        only(read)
        return campaign.judge("mine", 0, tmp_path, limit_s=1)

    def for_ever(path, folder):
        start = time.process_time()
        while time.process_time() < start + 30:
            pass

    box = tmp_path / "box"
    box.mkdir()
    assert end(lambda path, folder: 1 / 0)[0] == "foreign"
    assert end(for_ever)[0] == "hang"
    outside = str(tmp_path.parent / "campaign_outside")
    assert end(lambda path, folder: os.close(os.open(outside, os.O_CREAT | os.O_WRONLY)))[0] == "outside"
    Path(outside).unlink()
    assert end(lambda path, folder: (folder / "inside").write_bytes(b"x"))[0] == "answered"

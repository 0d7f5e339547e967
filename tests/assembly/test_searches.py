"""`restore search`: a supernet, what is found in it, and its way on."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

import restore.assembly.searches as module
from restore.assembly.search_options import supernet_of, training_options
from restore.assembly.searches import Bound
from restore.assembly.trainings import train
from restore.cli import main
from restore.commands.search import count, milliseconds
from restore.images import write_image
from restore.networks.checkpoint import read_weights
from restore.options import load
from restore.registry import NETWORKS
from restore.training.history import read_history

SPACE = {
    "embed_dim": [8, 12],
    "depths": [1, 2],
    "mixers": [{"type": "window", "num_heads": 2, "window_size": [2, 4]}, "gated_conv"],
    "feed_forward": ["mlp", "gated"],
    "mlp_ratio": [1, 2],
}
HOW = {"num_measured": 12, "rounds": 2, "generations": 1, "population": 4, "crop_px": 16, "image_px": 16}
FILE = "options/search_denoise_25.yml"


@pytest.fixture
def settings(tmp_path, one_thread, monkeypatch):
    """Assignments that make the search of the option file tiny; times are told from the number of parameters."""
    random = np.random.default_rng(0)
    for number in range(2):
        write_image(tmp_path / "gt" / f"{number}.png", random.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    monkeypatch.setattr(module, "measure_round", by_size)
    values = {
        "num_gpu": 0,
        "manual_seed": 0,
        "datasets.train.dataroot_gt": tmp_path / "gt",
        "datasets.train.cache": "none",
        "datasets.train.gt_size": 16,
        "datasets.train.batch_size_per_gpu": 1,
        "datasets.train.num_worker_per_gpu": 0,
        "datasets.val.dataroot_gt": tmp_path / "gt",
        "network_g.mixers": json.dumps([{"type": "window", "num_heads": 2, "window_size": 4}]),
        "network_g.embed_dim": 12,
        "network_g.depths": [1, 1],
        "search": json.dumps({"space": SPACE, **HOW}),
        "val.val_freq": 1000,
    }
    return [f"{key}={value}" for key, value in values.items()]


def by_size(networks, channels, side, seed, device):
    return [sum(each.numel() for each in make().parameters()) / 1000 + 0.001 * seed for make in networks]


@pytest.fixture
def run(settings, tmp_path):
    """A function that searches and gives the exit code and the record."""

    def search(*arguments, output=tmp_path / "out", changes=()):
        sets = [part for each in (*settings, *changes) for part in ("--set", each)]
        code = main(["search", "-opt", FILE, "--iterations", "2", "-o", str(output), *sets, *arguments])
        record = output / "search.json"
        return code, json.loads(record.read_text()) if record.exists() else None

    return search


def test_it_finds_writes_and_goes_on(run, settings, tmp_path, capsys):
    code, record = run("--latency", "4ms")
    assert code == 0
    found = record["found"]["4ms"]
    assert found["found"]["parameters"] <= 4000
    assert found["found"]["ms"] <= 4
    assert found["own"]["score"] is not None  # the option file's own network is one of the space
    assert len(record["measured"]) == 12
    assert len(record["rounds"]) == 2
    assert -1 <= record["correlation"] <= 1
    page = (tmp_path / "out/search.html").read_text()
    assert all(text in page for text in ("4ms", "<svg", "Predicted against measured", "own"))

    folder = tmp_path / "out"
    options = load(folder / "4ms.yml", is_train=True)
    assert options.search is None
    assert options.network_g == found["network_g"]
    state, block = read_weights(folder / "4ms.pth")
    supernet = supernet_of(training_options(FILE, settings, folder, 2))
    assert block == found["network_g"]
    weights = supernet.weights_of(tuple(found["choice"]))
    assert state.keys() == weights.keys()
    assert all(torch.equal(state[name], each) for name, each in weights.items())
    NETWORKS.build(block).load_state_dict(state)
    further = ["--set", "train.total_iter=1", "--set", "train.scheduler.periods=[1]"]
    place = ["--set", f"path.experiments_root={tmp_path / 'further'}", "--set", f"path.results_root={tmp_path}"]
    assert main(["train", "-opt", str(folder / "4ms.yml"), *further, *place]) == 0
    assert main(["test", "-opt", str(folder / "4ms.yml"), *place]) == 0

    capsys.readouterr()
    code, both = run("--params", "5k", "--latency", "9ms")
    assert code == 0
    assert "trained before" in capsys.readouterr().err
    assert both["found"]["9ms_5000params"]["found"]["parameters"] <= 5000
    assert both["rounds"] == record["rounds"]
    assert both["found"]["4ms"] == record["found"]["4ms"]
    assert run("--latency", "4ms")[1]["found"]["4ms"] == found
    assert "found before" in capsys.readouterr().err


def test_a_training_of_the_supernet_that_was_interrupted_goes_on_bit_by_bit(settings, tmp_path):
    def trained(folder):
        options = training_options(
            FILE, [*settings, "logger.save_checkpoint_freq=2", "logger.keep_checkpoints=5"], folder, 4
        )
        assert train(options) == 0
        return options.paths.experiments_root

    root = trained(tmp_path / "whole")
    again = tmp_path / "parts" / "training" / root.name
    shutil.copytree(root, again)
    for part in ("models/net_g_latest.pth", "models/net_g_4.pth", "training_states/4.state"):
        (again / part).unlink()
    assert (again / "training_states/2.state").exists()
    trained(tmp_path / "parts")
    states = [read_weights(each / "models/net_g_4.pth", "params")[0] for each in (root, again)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_an_interrupted_training_ends_the_search(run, monkeypatch):
    monkeypatch.setattr(module, "train", lambda options: 130)
    code, record = run("--params", "5k")
    assert code == 130
    assert record["found"] == {}


def test_what_was_measured_is_kept_when_it_is_interrupted(run, monkeypatch, tmp_path):
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return by_size(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "measure_round", interrupted)
        code, record = run("--latency", "4ms")
    assert code == 130
    assert len(record["rounds"]) == 1
    assert run("--latency", "4ms")[1]["rounds"][0] == record["rounds"][0]


def test_paths_are_pruned_to_the_bound(run, tmp_path):
    mixers = [{"type": "window", "num_heads": 2, "window_size": 4}, "gated_conv", "conv_modulation"]
    changes = ["search=" + json.dumps({"space": {"mixers": mixers}, "means": "paths", **HOW})]
    code, record = run("--params", "9k", changes=changes)
    assert code == 0
    found = record["found"]["9000params"]
    assert found["found"]["parameters"] <= 9000
    state, block = read_weights(tmp_path / "out/9000params.pth")
    assert block["mixers"] == found["network_g"]["mixers"]
    NETWORKS.build(block).load_state_dict(state)
    history = read_history(next(tmp_path.glob("out/training/*/history.jsonl")))
    assert any(row.get("l_paths", 0) > 0 for row in history.values())
    assert run("--params", "1k", changes=changes)[0] == 2


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        ((), (), "give --latency (30ms), --params (0.3M) or both"),
        (("--params", "100"), (), "the smallest network of search.space has"),
        (("--params", "1M"), ("search=~",), "search: missing: what to choose from"),
        (("--params", "1M"), ("search.space=" + json.dumps({"dims": [1]}),), "search.space.dims: nothing to choose"),
        (("--params", "1M"), ("search.means=paths",), "means: paths prunes mixers alone"),
        (("--params", "1M"), ("datasets.val=~",), "datasets.val: missing: networks are compared"),
        (("--params", "1M"), ("search.num_measred=3",), "Did you mean 'num_measured'"),
    ],
)
def test_what_cannot_be_is_refused(run, arguments, changes, message, capsys):
    assert run(*arguments, changes=changes)[0] == 2
    assert message in capsys.readouterr().err


def test_other_settings_are_another_search(run, capsys):
    assert run("--params", "5k")[0] == 0
    assert run("--params", "6k", changes=["search.generations=0"])[0] == 0  # the same supernet
    for change in ("search.crop_px=12", "search.num_drawn=3", "train.pixel_opt.type=MSELoss"):
        assert run("--params", "5k", changes=[change])[0] == 2
        assert "a search with other settings" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["SupernetModel", "PathsModel"])
def test_its_objectives_are_for_it(settings, kind):
    with pytest.raises(Exception, match=r"search: missing|restore search"):
        train(load(FILE, [*settings, f"model_type={kind}", "search=~"], is_train=True))
    with pytest.raises(Exception, match=r"`restore search` writes it|needs `paths`"):
        train(load(FILE, [*settings, f"model_type={kind}"], is_train=True))


def test_bounds_are_read():
    assert [milliseconds(text) for text in ("30ms", "0.03s", "30")] == [30.0, 30.0, 30.0]
    assert [count(text) for text in ("0.3M", "300k", "300000")] == [300_000] * 3
    assert str(Bound(300_000, 12.5)) == "12.5ms_300000params"

"""The examples of CONTRIBUTING.md: each is one file, and does what the text around it says."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from training_runs import same

import restore
from restore import registry
from restore.cli import main
from restore.encoders import build_encoder
from restore.images import write_image
from restore.layers.mixers import build_mixer

SWINIR = {
    "type": "SwinIR",
    "upscale": 1,
    "img_size": 8,
    "window_size": 4,
    "embed_dim": 8,
    "depths": [1],
    "num_heads": [2],
    "mlp_ratio": 1,
    "upsampler": "",
    "drop_rate": 0.1,
}
TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def examples() -> Iterator[tuple[str, str]]:
    """Every Python block with the heading above it."""
    for section in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]:
        for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)):
            yield f"{section.splitlines()[0]}{f' ({number})' if number else ''}", block


EXAMPLES = dict(examples())


@pytest.fixture
def run(monkeypatch, tmp_path):
    """A function that imports an example as a module; what it registers is forgotten afterwards."""
    for each in vars(registry).values():
        if isinstance(each, registry.Registry):
            each.names()
            monkeypatch.setattr(each, "_components", dict(each._components))
            monkeypatch.setattr(each, "_aliases", dict(each._aliases))

    def importer(heading: str) -> ModuleType:
        path = tmp_path / "example.py"
        path.write_text(EXAMPLES[heading], encoding="utf-8")
        spec = importlib.util.spec_from_file_location("example", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return importer


def test_a_layer_folds(run, assert_folds):
    example = run("Adding a layer that folds")
    folded = assert_folds(torch.nn.Sequential(example.Doubled(4), example.Doubled(4)), torch.rand(1, 4, 5, 7))
    assert [type(layer) for layer in folded] == [torch.nn.Conv2d] * 2


def test_there_is_one_for_each_kind_of_component():
    assert {"Adding a network", "Adding an encoder", "Adding a mixer", "Adding an objective"} <= {*EXAMPLES}


@pytest.mark.parametrize("heading", EXAMPLES)
def test_every_example_runs(heading, run):
    run(heading)


def test_a_network_is_built_from_options_and_loaded_by_its_weights_alone(run, tmp_path):
    run("Adding a network")
    assert "Shallow" in restore.list_models("network")
    network = restore.build_model({"type": "Shallow", "width": 8, "upscale": 3})
    torch.save(network.state_dict(), tmp_path / "shallow.pth")
    restored = restore.load_model(tmp_path / "shallow.pth", device="cpu")(np.zeros((7, 1, 3), np.uint8))
    assert restored.shape == (21, 3, 3)
    (tmp_path / "test.yml").write_text(
        "name: shallow\nscale: 3\nnetwork_g: {type: Shallow, upscale: 3, wdth: 8}\n"
        "datasets: {test: {name: any, type: SingleImageDataset, dataroot_lq: .}}\n"
    )
    assert main(["options", "check", str(tmp_path / "test.yml")]) == 2
    assert main(["options", "check", str(tmp_path / "test.yml"), "--set", "network_g={type: Shallow, upscale: 3}"]) == 0


def test_an_encoder_serves_a_restoration_network(run):
    run("Adding an encoder")
    fine, coarse = build_encoder({"type": "patches", "width": 8})(torch.rand(1, 3, 9, 17))
    assert (fine.shape, coarse.shape) == ((1, 8, 3, 5), (1, 16, 2, 3))
    network = restore.build_model({"type": "UNetRestorer", "encoder": {"type": "patches", "width": 8}, "width": 8})
    assert network(torch.rand(1, 3, 9, 17)).shape == (1, 3, 9, 17)


def test_a_mixer_serves_a_restoration_network(run):
    run("Adding a mixer")
    assert build_mixer("depthwise", 12)(torch.rand(1, 5, 7, 12)).shape == (1, 5, 7, 12)
    block = {"type": "MetaFormerRestorer", "mixers": ["depthwise", "channel"], "embed_dim": 12, "depths": [2]}
    assert restore.build_model(block)(torch.rand(1, 3, 5, 9)).shape == (1, 3, 5, 9)


def test_an_objective_trains_and_is_resumed_bit_by_bit(run, tmp_path, one_thread):
    run("Adding an objective")
    _, text = TEXT.split("## Adding an objective")
    options = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
    noise = np.random.default_rng(0)
    for number in range(3):
        write_image(tmp_path / f"photographs/{number}.png", noise.integers(0, 256, (60, 50, 3), dtype=np.uint8))
    torch.manual_seed(1)
    teacher = restore.build_model(SWINIR)
    torch.save({"params": teacher.state_dict(), "network": SWINIR}, tmp_path / "teacher.pth")
    train = options["datasets"]["train"]
    train |= {"batch_size_per_gpu": 2, "num_worker_per_gpu": 0}
    train["dataset"]["dataroot_lq"] = str(tmp_path / "photographs")
    for view in train["views"]:
        view["crop_px"] = 16
    options |= {"name": "whole", "num_gpu": 0, "manual_seed": 2, "network_g": SWINIR}
    options["path"] = {"experiments_root": str(tmp_path / "experiments")}
    options["train"] |= {"total_iter": 4, "optim_g": {"type": "Adam", "lr": 1e-3}, "ema_decay": 0.5}
    options["train"]["teacher"]["model"] = str(tmp_path / "teacher.pth")
    (tmp_path / "train.yml").write_text(yaml.safe_dump(options))
    command = ["train", "-opt", str(tmp_path / "train.yml")]
    assert main(command) == 0
    assert main([*command, "--set", "name=parts", "train.total_iter=2"]) == 0
    assert main([*command, "--auto_resume", "--set", "name=parts"]) == 0
    for file in ("models/net_g_4.pth", "training_states/4.state"):
        whole, parts = (
            torch.load(tmp_path / "experiments" / name / file, weights_only=True) for name in ("whole", "parts")
        )
        assert same(whole, parts)
    assert {*whole["restore"]["heads"], *whole["restore"]["followers"]} == {"predictor", "past"}


def test_an_objective_says_which_fields_it_misses(run, tmp_path, capsys):
    run("Adding an objective")
    write_image(tmp_path / "0.png", np.zeros((20, 20, 3), np.uint8))
    alone = {"name": "alone", "type": "SingleImageDataset", "dataroot_lq": str(tmp_path), "batch_size_per_gpu": 1}
    options = {"name": "x", "model_type": "Agreement", "datasets": {"train": alone}, "network_g": SWINIR}
    options["train"] = {
        "total_iter": 1,
        "optim_g": {"type": "Adam", "lr": 1e-3},
        "teacher": {"model": "swinir_light_x4"},
    }
    (tmp_path / "train.yml").write_text(yaml.safe_dump(options))
    assert main(["train", "-opt", str(tmp_path / "train.yml")]) == 2
    assert "Agreement needs lq_1 (image), lq_2 (image); the SingleImageDataset 'alone' gives" in capsys.readouterr().err

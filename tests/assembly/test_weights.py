"""One rule by which networks get their weights: names of shipped models and files, in trainings, tests, submissions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from restore.assembly.restorers import quality_model_of, restorer_of
from restore.assembly.trainings import train
from restore.cli import main
from restore.errors import CheckpointError, OptionsError
from restore.images import write_image
from restore.options import load
from restore.quality import load_quality
from restore.zoo import find_card, list_models, load_network
from restore.zoo.download import address


@pytest.fixture
def write(empty_place):
    """A function: an option file with one dataset for each phase, changed at its top; its images beside it."""
    random = np.random.default_rng(0)
    for number in range(3):
        small = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        write_image(empty_place / f"lq/{number}.png", small)
        write_image(empty_place / f"gt/{number}.png", small.repeat(2, 0).repeat(2, 1))
    pairs = {"type": "PairedImageDataset", "dataroot_gt": "gt", "dataroot_lq": "lq"}
    loading = {"gt_size": 16, "batch_size_per_gpu": 1, "num_worker_per_gpu": 0}
    learning = {"total_iter": 1, "optim_g": {"type": "SGD", "lr": 0.0}, "pixel_opt": {"type": "L1Loss"}}

    def options(*overrides, **changes):
        values = {
            "name": "x",
            "scale": 2,
            "num_gpu": 0,
            "manual_seed": 0,
            "datasets": {"train": {"name": "a", **pairs, **loading}, "test": {"name": "b", **pairs}},
            "train": learning,
            "network_g": find_card("swinir_light_x2").network,
        }
        (empty_place / "options.yml").write_text(yaml.safe_dump(values | changes))
        return load("options.yml", overrides)

    return options


def judged(**changes):
    """The changes that make an option file one of a quality model."""
    photographs = {"type": "SyntheticQualityDataset", "dataroot_gt": "gt", "num_levels": 1, "kinds": ["jpeg", "noise"]}
    return {
        "model_type": "QualityModel",
        "scale": 1,
        "datasets": {"test": {"name": "b", **photographs}},
        "network_g": find_card("triq_small").network,
    } | changes


def test_a_training_starts_from_a_model_by_its_name(write):
    assert train(write("path.pretrain_network_g=swinir_light_x2")) == 0
    trained = torch.load("experiments/x/models/net_g_latest.pth", weights_only=True)["params"]
    shipped = load_network("swinir_light_x2").state_dict()
    assert all(torch.equal(trained[key], value) for key, value in shipped.items())


@pytest.mark.parametrize("described", [True, False], ids=["with_its_block", "told_from_its_weights"])
def test_a_restorer_has_the_weights_of_a_model_by_its_name(write, described):
    changes = {} if described else {"network_g": None}
    restorer = restorer_of(write("datasets.train=~", "path.pretrain_network_g=swinir_light_x2", **changes))
    wanted = load_network("swinir_light_x2").state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in restorer.network.state_dict().items())


@pytest.mark.parametrize("described", [True, False], ids=["with_its_block", "told_from_its_weights"])
def test_a_quality_model_has_the_weights_of_a_model_by_its_name(write, described):
    changes = {} if described else {"network_g": None}
    model = quality_model_of(write("path.pretrain_network_g=triq_small", **judged(**changes)))
    wanted = load_quality("triq_small").state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())
    assert not model.training


def test_a_quality_model_is_tested_by_its_name_alone(write):
    write(**judged(network_g=None, path={"pretrain_network_g": "triq_small"}))
    assert main(["test", "-opt", "options.yml"]) == 0
    assert json.loads(Path("results/x/results.json").read_text())["network"] == "TRIQ"


@pytest.mark.slow
def test_a_submission_takes_a_model_by_its_name(write):
    block = find_card("swinir_light_x4").network
    write(network_g=block, scale=4, path={"pretrain_network_g": "swinir_light_x4"})
    assert main(["submit", "sr_x4", "-opt", "options.yml", "-i", "lq", "-o", "sent"]) == 0


@pytest.mark.parametrize("name", ["swinir_lihgt_x2", "nowhere.pth"])
def test_what_is_neither_a_model_nor_a_file_is_refused_everywhere(write, name):
    chosen = f"path.pretrain_network_g={name}"
    for build in (
        lambda: train(write(chosen)),
        lambda: restorer_of(write("datasets.train=~", chosen)),
        lambda: restorer_of(write("datasets.train=~", chosen, network_g=None)),
        lambda: quality_model_of(write(chosen, **judged())),
        lambda: quality_model_of(write(chosen, **judged(network_g=None))),
    ):
        with pytest.raises((OptionsError, CheckpointError), match=f"unknown model '{name}'|{name}: no such weights"):
            build()


def test_what_judges_images_restores_none(write):
    with pytest.raises(OptionsError, match="judges images and restores none"):
        restorer_of(write("datasets.train=~", "path.pretrain_network_g=triq_small", network_g=None))
    write(**judged(path={"pretrain_network_g": "triq_small"}))
    assert main(["test", "-opt", "options.yml", "--input", "lq", "--output", "out"]) == 2


def test_weights_of_several_tasks_need_a_choice(write):
    several = {"type": "EDT", "num_feat": 4, "embed_dim": 12, "depths": [1], "num_heads": [2], "scales": [2, 3]}
    with pytest.raises(OptionsError, match="2 tasks: sr_x2, sr_x3"):
        restorer_of(write("datasets.train=~", network_g=several))


def test_missing_weights_name_the_option_and_where_they_are(write):
    card = published()
    for changes, call in (({}, restorer_of), ({}, train)):
        options = write(**changes, path={"pretrain_network_g": f"elsewhere/{card.weights}"})
        with pytest.raises(CheckpointError) as caught:
            call(options)
        said = str(caught.value)
        assert said.startswith(f"path.pretrain_network_g: elsewhere/{card.weights}: no such weights file.")
        assert f"write {card.name} in place of the path, and it is loaded from {address(card)}." in said
    with pytest.raises(CheckpointError, match=r"^path\.pretrain_network_g: gone\.pth: no such weights file\.$"):
        restorer_of(write(path={"pretrain_network_g": "gone.pth"}))
    with pytest.raises(OptionsError, match=r"path\.pretrain_network_g: .*swinir_lihgt_x2.*swinir_light_x2"):
        restorer_of(write(path={"pretrain_network_g": "swinir_lihgt_x2"}))


def published():
    """A card whose weights are not carried by the package."""
    return next(card for card in map(find_card, list_models()) if card.url and card.path is None)

"""One rule by which datasets are built: names, scales, channels, tasks, and what a model can be tested on."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from restore.assembly.datasets import build_dataset, evaluation_sets
from restore.assembly.networks import shape_of_network
from restore.cli import main
from restore.errors import OptionsError
from restore.images import write_image
from restore.options import load

PAIRS = {"type": "PairedImageDataset", "dataroot_gt": "gt", "dataroot_lq": "lq"}
SHARP = {"type": "DownsampledImageDataset", "dataroot_gt": "gt"}
RATED = {"type": "SyntheticQualityDataset", "dataroot_gt": "gt", "kinds": ["jpeg"], "num_levels": 1}
SEVERAL = {"type": "EDT", "num_feat": 4, "embed_dim": 12, "depths": [1], "num_heads": [2], "scales": [2, 4]}
SMALL = {"type": "SRVGGNetCompact", "num_feat": 4, "num_conv": 1, "upscale": 2}
TRIQ = {"type": "TRIQ", "encoder": "test_resnet"}


@pytest.fixture
def read(empty_place):
    """A function: the options of a file with these datasets and this network; images beside it."""
    random = np.random.default_rng(0)
    for number in range(2):
        write_image(empty_place / f"lq/{number}.png", random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        write_image(empty_place / f"gt/{number}.png", random.integers(0, 256, (16, 16, 3), dtype=np.uint8))

    def options(network, datasets, **changes):
        named = {key: {"name": f"the {key}", **block} for key, block in datasets.items()}
        values = {"name": "x", "scale": 2, "num_gpu": 0, "network_g": network, "datasets": named, **changes}
        (empty_place / "options.yml").write_text(yaml.safe_dump(values))
        return load("options.yml", is_train=False)

    return options


def test_names_and_scales(read):
    options = read(SMALL, {"test_2": PAIRS, "test_1": SHARP, "val": PAIRS})
    sets = evaluation_sets(options)
    assert [(each.name, each.scale) for each in sets] == [("the test_1", 2), ("the test_2", 2), ("the val", 2)]


def test_a_dataset_that_takes_no_scale_is_built_as_well(read):
    options = read(TRIQ, {"train": {**RATED, "batch_size_per_gpu": 1}, "test": RATED}, model_type="QualityModel")
    assert len(build_dataset(options, "train", None)) == len(evaluation_sets(options)[0]) == 4


@pytest.mark.parametrize(("given", "wanted"), [({}, "grey"), ({"color": "y"}, "y")])
def test_a_network_of_one_channel_sees_grey_images_unless_the_file_says_otherwise(read, given, wanted):
    blocks = {"train": {**PAIRS, **given, "batch_size_per_gpu": 1}, "val": {**PAIRS, **given}}
    grey = read({**SMALL, "num_in_ch": 1, "num_out_ch": 1}, blocks)
    for key in blocks:
        assert build_dataset(grey, key, shape_of_network(grey)).color == wanted
        assert build_dataset(grey, key, shape_of_network(grey))[0]["lq"].shape == (8, 8, 1)
    colour = read(SMALL, blocks)
    assert build_dataset(colour, "train", shape_of_network(colour)).color == given.get("color")


def test_a_dataset_of_one_task_has_its_scale(read):
    options = read(SEVERAL, {"test_1": {**SHARP, "task": "sr_x4"}, "test_2": {**SHARP, "task": "sr_x2"}}, scale=1)
    assert [dataset.scale for dataset in evaluation_sets(options)] == [4, 2]
    with pytest.raises(OptionsError, match=r"datasets\.test\.task: the network has no task 'sr_x3'"):
        evaluation_sets(read(SEVERAL, {"test": {**SHARP, "task": "sr_x3"}}))
    with pytest.raises(OptionsError, match=r"datasets\.test\.task: missing: network_g has several tasks"):
        evaluation_sets(read(SEVERAL, {"test": SHARP}))


@pytest.mark.parametrize(
    ("network", "model_type", "block", "message"),
    [
        (SMALL, "SRModel", RATED, "SRModel is tested on images to restore, as PairedImageDataset gives them; Synth"),
        (TRIQ, "QualityModel", PAIRS, "QualityModel is tested on images with opinions, as QualityDataset gives them"),
        (SMALL, "SRModel", {"type": "MultiTaskDataset", "tasks": {"a": SHARP}}, "SRModel is tested on images to rest"),
    ],
)
def test_what_a_model_cannot_be_tested_on_is_said_first(read, capsys, network, model_type, block, message):
    options = read(network, {"test": block}, model_type=model_type)
    with pytest.raises(OptionsError, match=f"datasets.test.type: {message}"):
        evaluation_sets(options)
    for command in (["test"], ["data", "check"]):
        assert main([*command, "-opt", "options.yml"]) == (2 if command == ["test"] else 1)
        assert message in capsys.readouterr().err


def test_a_network_that_looks_at_values_is_built_with_them(read, monkeypatch):
    from restore.networks.residual import MSRResNet
    from restore.registry import NETWORKS

    class Curious(MSRResNet):
        def __init__(self, num_feat: int = 4):
            super().__init__(num_feat=num_feat, num_block=1, upscale=2)
            assert next(self.parameters()).sum().item() != 0

    monkeypatch.setitem(NETWORKS._components, "Curious", Curious)
    assert shape_of_network(read({"type": "Curious"}, {"test": PAIRS})).spec.scale == 2
    assert shape_of_network(read(SMALL, {"test": PAIRS})).spec.scale == 2
    assert next(shape_of_network(read(SMALL, {"test": PAIRS})).parameters()).is_meta

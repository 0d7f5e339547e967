"""`restore data check` on every shipped option file, where the data are not: one line for all that is missing."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from restore.cli import main
from restore.images import write_image
from restore.options.loading import load_datasets

OPTIONS = Path(__file__).parents[2] / "options"
FILES = {path.stem: path for path in sorted(OPTIONS.glob("*.yml"))}
BENCHMARKS = {path.stem: path for path in sorted((OPTIONS / "benchmarks").glob("*.yml"))}  # which name no network
HERE = ("swinir_x4", "train_first_x2")  # whose photographs come with a package


def roots(options):
    """The folders that the datasets of an option file name."""
    for dataset in options.datasets.values():
        for block in (dataset.block, *dataset.block.get("tasks", {}).values()):
            for key in ("dataroot", "dataroot_gt", "dataroot_lq"):
                given = block.get(key, [])
                yield from [given] if isinstance(given, str) else given


@pytest.mark.parametrize("name", [*FILES, *BENCHMARKS])
def test_every_folder_that_is_missing_is_named_in_one_line(name, empty_place, capsys, caplog):
    path = str(FILES.get(name) or BENCHMARKS[name])
    code = main(["data", "check", "-opt", path, "--set", "num_gpu=0"])
    *lines, last = capsys.readouterr().err.splitlines()
    if name in BENCHMARKS:
        assert "its datasets are checked, but as an option file of a run it has mistakes" in caplog.text
        assert "network_g: missing" in caplog.text
    missing = {root for root in roots(load_datasets(path)) if root.lower() != "none"}
    assert bool(code) is bool(missing) is (name not in HERE)
    for root in missing:
        assert any(f"the folder {root} does not exist" in line for line in lines), root
    assert all(re.match(r"(dataset '[^']+'|[\w ()-]+): .* does not exist", line) for line in lines), lines
    if missing:
        assert last == f"0 samples read, {len(lines)} problem{'s' if len(lines) > 1 else ''}"


TEMPLATES = sorted((OPTIONS / "templates").glob("*.yml"))


@pytest.mark.parametrize("name", [path.name for path in TEMPLATES if "\ndatasets:" not in path.read_text("utf-8")])
def test_a_template_has_no_datasets_to_check(name, empty_place, capsys):
    assert main(["data", "check", "-opt", str(OPTIONS / "templates" / name)]) == 0
    assert "0 samples read, 0 problems" in capsys.readouterr().err


MISTAKES = {
    "elsewhere": ("train: {total_iter: many, optim_g: {lr: 1}, no_such_key: 1}\nval: 5", 0, "total_iter"),
    "a key at the top": ("nmae: x", 2, "nmae"),
    "in a dataset": (
        "datasets: {test: {name: x, type: PairedImageDataset, dataroot: photos}}",
        1,
        "dataroot",
    ),  # others are read
    "no type": ("name: x\ndatasets: {test: {name: x, dataroot_gt: photos}}", 2, "datasets.test.type"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_only_mistakes_in_datasets_are_in_the_way(empty_place, capsys, caplog, mistake):
    text, code, named = MISTAKES[mistake]
    (empty_place / "options.yml").write_text(text)
    assert main(["data", "check", "-opt", "options.yml"]) == code
    assert named in capsys.readouterr().err + caplog.text


@pytest.fixture
def rated(empty_place, capsys):
    """A function: what a check says of one dataset of ratings."""
    for number in range(4):
        write_image(empty_place / f"photos/{number}.png", np.full((16, 20, 3), 40 * number, np.uint8))

    def check(**block):
        values = {
            "name": "x",
            "model_type": "QualityModel",
            "num_gpu": 0,
            "network_g": {"type": "TRIQ", "encoder": "test_resnet"},
            "datasets": {"test": {"name": "rated", **block}},
        }
        (empty_place / "options.yml").write_text(yaml.safe_dump(values))
        code = main(["data", "check", "-opt", "options.yml"])
        return code, capsys.readouterr().err

    return check


def test_every_file_of_a_list_of_ratings_is_named(rated, empty_place):
    rows = "".join(f"{name}.png,,{rating}\n" for name, rating in ((0, 20), (1, 50), (7, 30), (8, 90)))
    (empty_place / "list.txt").write_text(f"dis_img_path,dis_type,score\n{rows}")
    (empty_place / "photos/0.png").write_bytes(b"no image")
    code, said = rated(type="QualityDataset", format="live_itw", dataroot="photos", listing="list.txt")
    assert code == 1
    for words in (
        "photos/7.png has a rating and does not exist",
        "photos/8.png has a rating and does not exist",
        "photos/2.png has no rating",
        "photos/3.png has no rating",
        "photos/0.png': the file is not",
        "2 samples read, 5 problems",
    ):
        assert words in said, said


def test_photographs_of_a_ladder_are_read_once_and_packed_by_nobody(rated, empty_place):
    block = {"type": "SyntheticQualityDataset", "dataroot_gt": "photos", "cache": "packed", "crop_px": 16}
    assert rated(**block) == (0, "4 samples read, 0 problems\n")
    (empty_place / "photos/2.png").write_bytes(b"no image")
    write_image(empty_place / "photos/3.png", np.zeros((8, 20, 3), np.uint8))
    code, said = rated(**block)
    assert code == 1
    assert "photos/2.png': the file is not" in said
    assert "photos/3.png is 20x8, smaller than crop_px 16" in said
    assert "4 samples read, 2 problems" in said
    assert not (empty_place / "cache").exists()

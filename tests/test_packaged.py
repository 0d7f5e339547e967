"""What comes with the package is found by name, wherever a command is called."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from restore.cli import main
from restore.commands import doctor
from restore.errors import MissingError, OptionsError
from restore.options import load
from restore.packaged import option_file, option_files, packaged_folder

PAIRED = ["--gt", "good", "--lq", "bad"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_file_has_a_name():
    folder = packaged_folder("options")
    assert {*option_files().values()} == {*folder.rglob("*.yml")}
    assert option_file("benchmarks/sr_x4") == folder / "benchmarks" / "sr_x4.yml"


def test_an_option_file_is_read_by_name(tmp_path):
    assert load("swinir_x4", is_train=False).name == "swinir_x4"
    (tmp_path / "swinir_x4").write_text("name: mine\n")  # a file that is there comes first
    with pytest.raises(OptionsError, match=r"mine|missing"):
        load("swinir_x4", is_train=False)


@pytest.mark.parametrize("wrong", ["swinr_x4", "benchmarks/sr_x5", "swinir_x4.yml"])
def test_wrong_names(wrong):
    with pytest.raises(OptionsError, match=r"no such file|no option file"):
        load(wrong)
    if not wrong.endswith(".yml"):
        with pytest.raises(MissingError, match=r"Did you mean|options list"):
            option_file(wrong)


def test_copies_work_alone(tmp_path, monkeypatch):
    assert main(["options", "copy", "train_swinir_jpeg_colour_40", "-o", "mine"]) == 0
    copies = sorted(path.relative_to(tmp_path / "mine").as_posix() for path in (tmp_path / "mine").rglob("*.yml"))
    assert "train_swinir_jpeg_colour_40.yml" in copies
    assert "templates/training.yml" in copies
    assert load("mine/train_swinir_jpeg_colour_40.yml").name == load("train_swinir_jpeg_colour_40").name
    (tmp_path / "mine/train_swinir_jpeg_colour_40.yml").write_text("name: changed\n")
    assert main(["options", "copy", "train_swinir_jpeg_colour_40", "-o", "mine"]) == 2
    assert (tmp_path / "mine/train_swinir_jpeg_colour_40.yml").read_text() == "name: changed\n"


def test_list_names_every_file(capsys):
    assert main(["options", "list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("swinir_x4", "benchmarks/sr_x4", "train_iqt_small_synthetic"))


@pytest.mark.parametrize("task", ["sr", "denoise", "jpeg"])
def test_init_from_good_images(task):
    assert main(["init", task, "--gt", "my photos: 1", "--val", "other", "-o", "mine.yml"]) == 0
    options = load("mine.yml", is_train=True)
    assert str(options.datasets["train"].dataroot_gt) == "my photos: 1"
    assert options.scale == (4 if task == "sr" else 1)
    text = Path("mine.yml").read_text()
    assert main(["init", task, "--gt", "x", "-o", "mine.yml"]) == 2, "nothing is overwritten"
    assert Path("mine.yml").read_text() == text


@pytest.mark.parametrize("task", ["sr", "denoise", "jpeg", "deblur", "derain"])
def test_init_from_pairs(task):
    assert main(["init", task, *PAIRED]) == 0
    (path,) = Path().glob("train_*.yml")
    load(path, is_train=True)
    assert "PairedImageDataset" in path.read_text()


def test_init_refuses_what_cannot_be():
    assert main(["init", "deblur", "--gt", "good"]) == 2
    assert main(["init", "sr", "--gt", "good", "--val", "v", "--val-lq", "w"]) == 2
    assert main(["init", "sr", "--gt", "good", "--scale", "0"]) == 2
    assert not [*Path().glob("train_*.yml")]


def test_init_trains(make_photographs):
    make_photographs("photos")
    assert main(["init", "sr", "--gt", "photos", "-o", "mine.yml"]) == 0
    small = ["train.total_iter=1", "network_g.depths=[1]", "network_g.num_heads=[2]", "network_g.embed_dim=12"]
    small += ["datasets.train.gt_size=64", "datasets.train.batch_size_per_gpu=1", "datasets.train.num_worker_per_gpu=0"]
    assert main(["train", "-opt", "mine.yml", "--set", *small]) == 0


@pytest.fixture
def make_photographs():
    import numpy as np

    from restore.images import write_image

    def make(folder):
        write_image(f"{folder}/one.png", np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8))

    return make


def test_doctor(capsys):
    code = main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert {"this", "required", "optional", "devices", "room", "wrong"} <= found.keys()
    assert code == int(bool(found["wrong"]))


def test_doctor_names_two_opencvs(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: "4.8" if name in doctor.CV2[:2] else None)
    wrong = doctor.faults({"required": {"torch": "2.4", "lmdb": None}})
    assert any("opencv-python and opencv-python-headless" in line for line in wrong)
    assert any("lmdb is not installed" in line for line in wrong)


def test_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "restore", "--version"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.strip()


def test_demo_is_the_option_file(monkeypatch):
    from restore.commands import test as testing

    seen: list[argparse.Namespace] = []
    monkeypatch.setattr(testing, "run", lambda parsed: seen.append(parsed) or 0)
    assert main(["demo", "--set", "val.save_img=false"]) == 0
    assert seen[0].opt == "swinir_x4"
    assert [str(override) for override in seen[0].overrides] == ["--set val.save_img=false"]


def test_one_opencv():
    installed = [name for name in doctor.CV2 if doctor._version(name)]
    assert len(installed) == 1, "`restore doctor` says how to keep one; scripts/setup.sh does it"


def test_a_folder_of_the_same_name_hides_nothing(tmp_path):
    (tmp_path / "swinir_x4").mkdir()
    assert load("swinir_x4", is_train=False).name == "swinir_x4"


def test_copies_from_a_package_behind_a_link(tmp_path, monkeypatch):
    from restore import packaged

    (tmp_path / "link").symlink_to(packaged._PACKAGE.parent)
    monkeypatch.setattr(packaged, "_PACKAGE", tmp_path / "link" / "restore")
    assert main(["options", "copy", "train_swinir_jpeg_colour_40", "-o", "mine"]) == 0
    assert load("mine/train_swinir_jpeg_colour_40.yml").name == "swinir_jpeg_colour_40"


def test_files_that_extend_each_other_end(tmp_path):
    from restore.options.source import files_of

    (tmp_path / "a.yml").write_text("extends: b.yml\n")
    (tmp_path / "b.yml").write_text("extends: [a.yml, c.yml]\n")
    (tmp_path / "c.yml").write_text("name: c\n")
    assert [file.name for file in files_of(tmp_path / "a.yml")] == ["a.yml", "b.yml", "c.yml"]

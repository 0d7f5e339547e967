"""`restore test` and `python restore/test.py`: from an option file to results, and what bad input meets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from restore.cli import main
from restore.images import read_image, write_image
from restore.options import load
from restore.zoo import build_model

ROOT = Path(__file__).parents[2]
NETWORK = {
    "type": "SwinIR",
    "upscale": 2,
    "in_chans": 3,
    "img_size": 8,
    "window_size": 4,
    "img_range": 1.0,
    "depths": [2],
    "embed_dim": 8,
    "num_heads": [2],
    "mlp_ratio": 2,
    "upsampler": "pixelshuffledirect",
    "resi_connection": "1conv",
}
PSNR = {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": True, "better": "higher"}


@pytest.fixture
def run_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def option_file(run_in):
    """A function: write BasicSR's kind of test option file, changed at dotted paths, with its data and weights."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        write_image(run_in / f"data/HR/{name}.png", random.integers(0, 256, (18, 22, 3), dtype=np.uint8))
        write_image(run_in / f"data/LR/{name}x2.png", random.integers(0, 256, (9, 11, 3), dtype=np.uint8))
    torch.manual_seed(0)
    torch.save({"params": build_model(NETWORK).state_dict()}, run_in / "net.pth")

    def write(**changes):
        dataset = {"type": "PairedImageDataset", "io_backend": {"type": "disk"}, "filename_tmpl": "{}x2"}
        roots = {"dataroot_gt": "data/HR", "dataroot_lq": "data/LR"}
        options = {
            "name": "tiny",
            "model_type": "SwinIRModel",
            "scale": 2,
            "num_gpu": 0,
            "manual_seed": 0,
            "datasets": {"test_1": {"name": "One", **dataset, **roots}},
            "network_g": dict(NETWORK),
            "path": {"pretrain_network_g": "net.pth", "strict_load_g": True, "param_key_g": "params"},
            "val": {"save_img": True, "suffix": None, "metrics": {"psnr": dict(PSNR)}},
        }
        for path, value in changes.items():
            *parents, last = path.split("__")
            block = options
            for parent in parents:
                block = block[parent]
            block[last] = value
        (run_in / "test.yml").write_text(yaml.safe_dump(options))
        return "test.yml"

    return write


def test_option_file_of_basicsr(option_file, run_in, capsys):
    assert main(["test", "-opt", option_file()]) == 0
    folder = run_in / "results/tiny"
    assert {path.name for path in folder.iterdir() if not path.name.startswith("test_tiny_")} == {
        "visualization",
        "results.json",
        "metrics.csv",
        "options.yml",
        "report.html",
    }
    assert sorted(path.name for path in (folder / "visualization/One").iterdir()) == ["ax2_tiny.png", "bx2_tiny.png"]
    assert read_image(folder / "visualization/One/ax2_tiny.png").pixels.shape == (18, 22, 3)
    assert load(folder / "options.yml") == load("test.yml")
    results = json.loads((folder / "results.json").read_text())
    mean = results["datasets"]["One"]["mean"]["psnr"]
    table = capsys.readouterr().out
    assert f"{mean['restored']:.2f}" in table
    assert f"{mean['baseline']:.2f}" in table


def test_overrides(option_file, run_in):
    arguments = ["--set", "val.save_img=false", "name=other", "--force_yml", "path:results_root=out"]
    assert main(["test", "-opt", option_file(), *arguments]) == 0
    assert (run_in / "out/other/results.json").is_file()
    assert not (run_in / "out/other/visualization").exists()


def test_several_datasets_in_the_order_of_their_keys(option_file, run_in):
    single = {"name": "Own", "type": "SingleImageDataset", "dataroot_lq": "data/LR"}
    made = {"name": "Made", "type": "DownsampledImageDataset", "dataroot_gt": "data/HR"}
    assert main(["test", "-opt", option_file(datasets={"test_2": single, "test_1": made})]) == 0
    results = json.loads((run_in / "results/tiny/results.json").read_text())
    assert list(results["datasets"]) == ["Made", "Own"]
    assert results["datasets"]["Made"]["mean"]["psnr"]["baseline"] > 0
    assert results["datasets"]["Own"]["has_reference"] is False


def test_own_images_instead(option_file, run_in):
    assert main(["test", "-opt", option_file(), "--input", "data/LR", "--output", "mine"]) == 0
    assert sorted(path.name for path in (run_in / "mine").iterdir()) == ["ax2.png", "bx2.png"]
    assert read_image(run_in / "mine/ax2.png").pixels.shape == (18, 22, 3)
    assert not (run_in / "results").exists()


def test_other_processes_leave_the_work_to_the_first(option_file, run_in, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert main(["test", "-opt", option_file(), "--launcher", "pytorch", "--local-rank", "1"]) == 0
    assert not (run_in / "results").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"datasets__test_1__dataroot_gt": "data/nowhere"}, ["dataset 'One'", "data/nowhere does not exist"]),
        ({"datasets__test_1__dataroot_gt": "data"}, ["dataset 'One'", "no image in the folder data"]),
        (
            {"datasets__test_1__filename_tmpl": "{}"},
            ["dataset 'One'", "data/HR/a.png", "no counterpart data/LR/a.png", "filename_tmpl"],
        ),
        ({"datasets__test_1__filename_tmp": "{}"}, ["datasets.test_1.filename_tmp", "Did you mean 'filename_tmpl'"]),
        ({"datasets": {}}, ["datasets", "nothing to test on"]),
        ({"scale": 3}, ["scale", "the network enlarges by 2"]),
        ({"network_g__embed_dim": 16}, ["net.pth", "made for another network"]),
        ({"network_g__type": "SwinIRR"}, ["network_g.type", "Did you mean 'SwinIR'"]),
        ({"path__pretrain_network_g": "gone.pth"}, ["gone.pth", "no such weights file"]),
        ({"path__pretrain_network_g": "swinir_light_x44"}, ["unknown model 'swinir_light_x44'"]),
        ({"val__metrics__psnr__crop_borderr": 4}, ["val.metrics.psnr.crop_borderr"]),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(option_file, run_in, capsys, changes, words):
    assert main(["test", "-opt", option_file(**changes)]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words), message
    assert "Traceback" not in message
    assert not (run_in / "results").exists()


def test_sizes_that_do_not_match_name_both_files(option_file, run_in, capsys):
    path = option_file()
    write_image(run_in / "data/LR/bx2.png", np.zeros((9, 12, 3), np.uint8))
    assert main(["test", "-opt", path]) == 2
    message = capsys.readouterr().err
    assert "data/HR/b.png is 22x18" in message
    assert "data/LR/bx2.png of 12x9" in message


def test_output_that_cannot_be_made(option_file, run_in, capsys):
    (run_in / "results").write_text("a file in the way")
    assert main(["test", "-opt", option_file()]) == 2
    assert "cannot make the folder" in capsys.readouterr().err


def test_input_needs_output(option_file, capsys):
    assert main(["test", "-opt", option_file(), "--input", "data/LR"]) == 2
    assert "--input and --output belong together" in capsys.readouterr().err


def test_script_runs_from_anywhere_without_installation(option_file, run_in):
    path = option_file()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    script = [sys.executable, str(ROOT / "restore/test.py"), "-opt", path]
    done = subprocess.run(script, cwd=run_in, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "PSNR" in done.stdout
    assert (run_in / "results/tiny/report.html").is_file()


@pytest.mark.parametrize("name", ["swinir_x4", "swinir_x4_benchmarks"])
def test_shipped_option_files(name):
    options = load(ROOT / f"options/{name}.yml")
    assert options.scale == build_model(options.network_g).spec.scale == 4
    assert options.path.pretrain_network_g == "swinir_light_x4"
    assert options.val.metrics["psnr"] == {"type": "calculate_psnr", "crop_border": 4, "test_y_channel": True}


@pytest.mark.parametrize(
    ("name", "network", "wrapper"),
    [
        ("test_swinir_light_x3", {"upscale": 3}, "params"),
        ("test_swinir_denoise_colour_25", {"upscale": 1, "upsampler": ""}, "params"),
        ("test_swinir_denoise_grey_50", {"upscale": 1, "upsampler": "", "in_chans": 1}, "state_dict"),
        ("test_swinir_jpeg_grey_40", {"upscale": 1, "upsampler": "", "in_chans": 1, "window_size": 7}, "params"),
        ("test_swinir_jpeg_colour_10", {"upscale": 1, "upsampler": "", "window_size": 7}, "params"),
        ("test_swinir_real_large_x4", {"upscale": 4, "upsampler": "nearest+conv"}, "params_ema"),
        ("test_edt_derain_heavy", None, "module."),
    ],
)
def test_files_for_published_weights_run(name, network, wrapper, run_in):
    """With small weights of the same shape of keys in the place of the published ones, however they are wrapped."""
    small_edt = {"type": "EDT", "rain_levels": ["H"], "num_feat": 4, "embed_dim": 12, "depths": [1], "num_heads": [1]}
    torch.manual_seed(0)
    state = build_model({**NETWORK, **network} if network else small_edt).state_dict()
    state = {wrapper: state} if wrapper != "module." else {f"module.{key}": value for key, value in state.items()}
    torch.save(state, run_in / "net.pth")
    random = np.random.default_rng(0)
    folder = run_in / "data"
    write_image(folder / "a.png", random.integers(0, 256, (60, 64, 3), dtype=np.uint8))
    first, *others = sorted(dataset.key for dataset in load(ROOT / f"options/{name}.yml").phases("test"))
    roots = ["dataroot_gt", "dataroot_lq"] if "derain" in name else ["dataroot_lq" if "real" in name else "dataroot_gt"]
    overrides = [f"datasets.{first}.{root}={folder}" for root in roots] + [f"datasets.{key}=~" for key in others]
    overrides += ["num_gpu=0", "path.pretrain_network_g=net.pth", "runtime.tile=~", "val.pbar=false"]
    assert main(["test", "-opt", str(ROOT / f"options/{name}.yml"), "--set", *overrides]) == 0
    (dataset,) = json.loads((run_in / "results" / name / "results.json").read_text())["datasets"].values()
    measured = dataset["images"][0]["restored"]
    assert set(measured) == set(load(ROOT / f"options/{name}.yml").val.metrics)
    if "denoise" in name:
        sigma = int(name.rsplit("_", 1)[1])
        of_noise = 20 * np.log10(255 / sigma)  # the baseline is clipped, which removes some of it
        assert of_noise - 0.5 < dataset["images"][0]["baseline"]["psnr"] < of_noise + 2

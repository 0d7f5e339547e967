"""`restore sweep`: every mixer or encoder in the same network, resumable, with a record and a page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import restore.assembly.sweeps as module
from restore.assembly.sweeps import bodies
from restore.assembly.trainings import options_in
from restore.cli import main
from restore.errors import DataError
from restore.evaluation.sweeps import Sweep, bounded_memory, measured
from restore.images import write_image
from restore.inference.memory import free_bytes
from restore.options import load
from restore.registry import MIXERS


@pytest.fixture
def sweep(tmp_path, one_thread, monkeypatch):
    """A function that sweeps over tiny photographs and gives the exit code and the record."""
    monkeypatch.setattr("restore.evaluation.sweeps.measuring.SIDES", (16, 24))
    monkeypatch.setattr("restore.evaluation.sweeps.page.SIDES", (16, 24))
    random = np.random.default_rng(0)
    for folder, side in (("gt", 64), ("lq", 16)):
        for number in range(2):
            name = f"{number}{'x4' if folder == 'lq' else ''}.png"
            write_image(tmp_path / folder / name, random.integers(0, 256, (side, side, 3), dtype=np.uint8))
    changes = {
        "num_gpu": 0,
        "datasets.train.dataroot_gt": tmp_path / "gt",
        "datasets.train.cache": "none",
        "datasets.train.gt_size": 32,
        "datasets.train.batch_size_per_gpu": 1,
        "datasets.train.num_worker_per_gpu": 0,
        "datasets.val.dataroot_gt": tmp_path / "gt",
        "network_g.embed_dim": 12,
        "network_g.depths": "[2]",
    }
    of_pairs = {"datasets.val.dataroot_lq": tmp_path / "lq"}

    real = module.measured

    def quick(network, channels, device, clock=True):
        runs = {"ms": 1.0, "mib": 1.0} if clock else {}
        return {"parameters": 1, **{side: {"macs": 1, **runs} for side in ("16", "24")}}

    def run(*arguments, tasks=("sr_x4", "denoise_25"), output=tmp_path / "out", measure=False, **more):
        monkeypatch.setattr(module, "measured", real if measure else quick)
        pairs = changes | (of_pairs if tasks == ("sr_x4",) else {}) | more
        files = [part for task in tasks for part in ("-opt", f"options/train_sweep_{task}.yml")]
        sets = [part for key, value in pairs.items() if value is not None for part in ("--set", f"{key}={value}")]
        code = main(["sweep", *files, "--iterations", "2", "-o", str(output), *sets, *arguments])
        record = output / "sweep.json"
        return code, json.loads(record.read_text()) if record.exists() else None

    return run


@pytest.mark.parametrize("kind", ["mixers", "encoders"])
def test_the_records_in_the_docs_are_of_the_option_files_as_they_are(kind):
    kept = json.loads((Path(__file__).parents[2] / f"docs/sweep/{kind}.json").read_text(encoding="utf-8"))["settings"]
    files = [f"train_{name}" for name in kept if name != "iterations"]
    assert kept == {"iterations": None} | {
        file.removeprefix("train_"): load(file, [], is_train=True).digest("path", "logger") for file in files
    }


def test_a_sweep_goes_on_with_a_copy_of_its_option_file(sweep, tmp_path, monkeypatch):
    arguments = ("--mixers", "pooling", "--seeds", "1", "--no-measure")
    assert sweep(*arguments, tasks=("denoise_25",))[0] == 0
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree("options", elsewhere / "options")
    monkeypatch.chdir(elsewhere)
    code, record = sweep(*arguments, tasks=("denoise_25",))
    assert (code, len(record["trials"])) == (0, 1)


def test_schedules_of_every_kind_are_stretched_to_the_iterations(tmp_path):
    """A file's own schedule need not be the one of the tasks that come with the package."""
    short = options_in(tmp_path, "options/train_swinir_light_x4.yml", ["train.total_iter=500000"], 1000)
    assert short.train.total_iter == 1000
    assert short.train.scheduler["milestones"] == [500, 800, 900, 950]
    assert short.auto_resume
    assert options_in(tmp_path, "options/train_fast_x4.yml", []).train.total_iter > 1000


def test_what_is_counted_beside_other_work_is_clocked_later(sweep, tmp_path):
    arguments = ("--mixers", "pooling", "--seeds", "1")
    code, record = sweep(*arguments, "--no-measure", tasks=("denoise_25",))
    assert (code, record["costs"]["sweep_denoise_25"]["pooling"]["16"]) == (0, {"macs": 1})
    assert "multiply-adds" in (tmp_path / "out/sweep.html").read_text()
    code, clocked = sweep(*arguments, tasks=("denoise_25",))
    assert (code, clocked["trials"]) == (0, record["trials"])
    assert clocked["costs"]["sweep_denoise_25"]["pooling"]["16"] == {"macs": 1, "ms": 1.0, "mib": 1.0}


def test_it_trains_measures_draws_and_goes_on(sweep, tmp_path, capsys):
    code, record = sweep("--mixers", "pooling,window", "--seeds", "1", tasks=("denoise_25",), measure=True)
    assert code == 0
    assert [(each["name"], each["seed"]) for each in record["trials"]] == [("pooling", 0), ("window", 0)]
    assert all(5 < each["psnr"] < 60 for each in record["trials"])
    costs = record["costs"]["sweep_denoise_25"]
    assert costs["window"]["parameters"] > costs["pooling"]["parameters"] > 0
    assert costs["window"]["24"]["macs"] > costs["window"]["16"]["macs"]
    assert costs["window"]["24"]["ms"] > 0
    page = (tmp_path / "out/sweep.html").read_text()
    for text in ("window", "pooling", "<svg", "sweep_denoise_25", "multiply-adds"):
        assert text in page
    assert "0 done before" in capsys.readouterr().err

    code, again = sweep("--mixers", "pooling,window", "--seeds", "2", tasks=("denoise_25",))
    assert code == 0
    assert "2 done before" in capsys.readouterr().err
    assert again["trials"][:2] == record["trials"]
    assert [(each["name"], each["seed"]) for each in again["trials"][2:]] == [("pooling", 1), ("window", 1)]
    rows = Sweep(**again).rows("sweep_denoise_25")
    assert {row["num_seeds"] for row in rows} == {2}
    assert all(row["spread"] > 0 for row in rows)


def test_measured_again_without_training_again(sweep, tmp_path, capsys):
    arguments = ("--mixers", "pooling,window", "--seeds", "1")
    before = sweep(*arguments, tasks=("denoise_25",))[1]
    before["costs"]["sweep_denoise_25"]["window"]["16"]["ms"] = 1e9
    (tmp_path / "out/sweep.json").write_text(json.dumps(before))
    assert sweep(*arguments, tasks=("denoise_25",))[1] == before
    capsys.readouterr()
    code, after = sweep(*arguments, "--remeasure", tasks=("denoise_25",))
    assert code == 0
    assert after["trials"] == before["trials"]
    assert after["costs"]["sweep_denoise_25"]["window"]["16"]["ms"] == 1.0
    assert "window: measured again" in capsys.readouterr().err


def test_super_resolution_too(sweep):
    code, record = sweep("--mixers", "pooling", "--seeds", "1", tasks=("sr_x4",))
    assert code == 0
    assert record["trials"][0]["task"] == "sweep_sr_x4"


TINY_JUDGE = {
    "datasets.train.cache": "none",
    "datasets.train.crop_px": 32,
    "datasets.val.crop_px": 32,
    "datasets.val.max_images": 1,
}
TINY_UNET = {"network_g.encoder": "conv_pyramid", "network_g.width": 4}


def of_encoders(name, **more):
    """Changes for a task of encoders, whose file lacks what those of mixers have."""
    left = {"network_g.embed_dim", "network_g.depths", *(["datasets.train.gt_size"] if name == "quality" else [])}
    return dict.fromkeys(left) | more


@pytest.mark.slow
def test_encoders_judge_and_join_the_record_of_others(sweep, tmp_path):
    names = ("--encoders", "vit,band_energy", "--seeds", "1")
    code, record = sweep(*names, tasks=("encoders_quality",), measure=True, **of_encoders("quality", **TINY_JUDGE))
    assert code == 0
    assert [each["name"] for each in record["trials"]] == ["vit", "band_energy"]
    assert all(-1 <= each["srcc"] <= 1 for each in record["trials"])
    page = (tmp_path / "out/sweep.html").read_text()
    assert "SRCC against multiply-adds" in page
    assert "PSNR" not in page

    unet = of_encoders("denoise", **TINY_UNET)
    code, both = sweep("--encoders", "vit,hornet", "--seeds", "1", tasks=("encoders_denoise_25",), **unet)
    assert code == 0
    assert both["trials"][:2] == record["trials"]
    assert both["settings"].keys() == {"iterations", "sweep_encoders_quality", "sweep_encoders_denoise_25"}
    assert all(each["psnr"] > 5 for each in both["trials"][2:])
    assert "SRCC against" in (tmp_path / "out/sweep.html").read_text()
    assert "PSNR [dB] against" in (tmp_path / "out/sweep.html").read_text()


def test_a_network_that_holds_nothing_to_compare_is_refused(sweep, capsys):
    fixed = of_encoders("denoise", network_g="{type: SRVGGNetCompact, upscale: 1}")
    assert sweep("--encoders", "vit", tasks=("encoders_denoise_25",), **fixed)[0] == 2
    assert "network_g.type: SRVGGNetCompact has neither the argument `mixers` nor `encoder`" in capsys.readouterr().err


def test_unknown_encoders_are_named(sweep, capsys):
    unet = of_encoders("denoise", **TINY_UNET)
    assert sweep("--encoders", "hornett", tasks=("encoders_denoise_25",), **unet)[0] == 2
    assert "unknown encoder 'hornett'. Did you mean 'hornet'?" in capsys.readouterr().err


def test_other_settings_are_another_sweep(sweep, capsys):
    assert sweep("--mixers", "pooling", "--seeds", "1", tasks=("denoise_25",))[0] == 0
    changed = {"network_g.mlp_ratio": 1.0}
    assert sweep("--mixers", "pooling", "--seeds", "1", tasks=("denoise_25",), **changed)[0] == 2
    assert "other settings (sweep_denoise_25)" in capsys.readouterr().err


def test_what_cannot_be_trained_is_named_and_tried_again(sweep, capsys):
    arguments = ("--mixers", "channel,pooling", "--seeds", "1")
    code, record = sweep(*arguments, tasks=("denoise_25",), **{"network_g.embed_dim": 10})
    assert code == 1
    assert "multiple of num_heads" in record["trials"][0]["error"]
    assert "psnr" in record["trials"][1]
    assert "channel seed 0: failed" in capsys.readouterr().err
    sweep(*arguments, tasks=("denoise_25",), **{"network_g.embed_dim": 10})
    assert "1 done before" in capsys.readouterr().err


def test_an_interrupted_training_ends_the_sweep(sweep, monkeypatch):
    monkeypatch.setattr(module, "train", lambda options: 130)
    code, record = sweep("--mixers", "pooling", "--seeds", "1", tasks=("denoise_25",))
    assert (code, record) == (130, None)


def test_what_needs_more_memory_than_there_is_is_not_measured():
    found = measured(torch.nn.Upsample(scale_factor=1 << 14), 3, torch.device("cpu"))
    assert found == {"parameters": 0, **{side: {"macs": 0, "ms": None, "mib": None} for side in ("64", "128")}}


@pytest.mark.slow
def test_memory_is_that_of_the_network_alone():
    torch.empty(1 << 28, dtype=torch.uint8).fill_(1)  # what this process has held does not count
    found = measured(torch.nn.Upsample(scale_factor=32), 3, torch.device("cpu"))
    assert [found[side]["mib"] for side in ("64", "128")] == pytest.approx([48, 192], rel=0.3)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is bounded on Linux")
def test_memory_is_bounded_and_released():
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    with bounded_memory(torch.device("cpu")), pytest.raises(RuntimeError, match="memory"):
        torch.empty(free_bytes(torch.device("cpu")), dtype=torch.uint8)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_every_mixer_has_a_body_and_those_with_shifts_take_turns():
    found = bodies()
    assert found["window"] == ["window", "shifted_window"]
    assert found["outlook"] == ["outlook"]
    assert {name for pair in found.values() for name in pair} == {*MIXERS}
    assert bodies(["shifted_window"]) == {"shifted_window": ["shifted_window"]}


def test_unknown_mixers_are_named(sweep, capsys):
    assert sweep("--mixers", "windoww")[0] == 2
    assert "unknown mixer 'windoww'. Did you mean 'window'?" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", '{"other": 1}'])
def test_what_is_no_record_is_refused(text, tmp_path):
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(DataError, match="not the record of a sweep"):
        Sweep.opened(tmp_path / "sweep.json", {}, {})


def test_the_files_of_the_command_are_found_anywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "--mixers", "pooling", "--seeds", "1", "--set", "num_gpu=0"]) in (1, 2)
    assert "datasets/train/photos" in capsys.readouterr().err

"""Where scalars and images of a run go."""

from __future__ import annotations

import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from training_runs import run

from restore.errors import MissingError
from restore.training import plot
from restore.training.patches import Patches


class Screen:
    def __init__(self):
        self.shown = []

    def image(self, name, pixels, iteration):
        self.shown.append((name, pixels, iteration))


def test_tensorboard_shows_the_same_patches_at_every_validation(option_file, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert run(option_file, "logger.use_tb_logger=true", "logger.num_patches=2", "logger.print_freq=3") == 0
    (events,) = tmp_path.rglob("events.out.tfevents*")
    log = EventAccumulator(str(events), size_guidance={"images": 0}).Reload()
    assert {"losses/l_pix", "lr", "metrics/noise/psnr"} <= set(log.Tags()["scalars"])
    assert log.Tags()["images"] == ["images/noise/0", "images/noise/1"]
    assert [(image.step, image.height, image.width) for image in log.Images("images/noise/0")] == [
        (3, 24, 60),
        (6, 24, 60),
    ]


def test_tensorboard_begins_anew_or_goes_on_like_the_run(option_file, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = ["logger.use_tb_logger=true", "logger.num_patches=0", "logger.print_freq=1", "val=null"]
    options.append("logger.save_best=null")
    run(option_file, *options, "train.total_iter=5")
    (tmp_path / "experiments/tiny/training_states/5.state").unlink()
    (tmp_path / "experiments/tiny/models/net_g_5.pth").unlink()
    run(option_file, *options, auto_resume=True)  # from iteration 3: what was written of 4 and 5 counts no more
    log = EventAccumulator(str(tmp_path / "tb_logger/tiny")).Reload()
    assert [event.step for event in log.Scalars("lr")] == [1, 2, 3, 4, 5, 6]
    run(option_file, *options, "train.total_iter=1")
    log = EventAccumulator(str(tmp_path / "tb_logger/tiny")).Reload()
    assert [event.step for event in log.Scalars("lr")] == [1]
    assert len(list((tmp_path / "tb_logger").glob("tiny_archived_*"))) == 1


def test_a_patch_is_the_middle_of_input_result_and_reference():
    screen = Screen()
    lq = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8, 1)
    gt = lq.repeat(2, 0).repeat(2, 1)
    patches = Patches([screen, print], count=1, side_px=8)
    patches("a", 0, lq.astype(np.float32) / 255, gt[..., 0], gt.astype(np.uint16) * 257, 7)
    patches("b", 1, lq, gt, gt, 7)
    ((name, pixels, iteration),) = screen.shown
    assert (name, iteration) == ("a", 7)
    assert np.array_equal(pixels, np.concatenate([gt[2:10, 4:12]] * 3, axis=1))


def test_wandb_sees_scalars_and_images(option_file, monkeypatch):
    calls, logged = [], []
    session = SimpleNamespace(log=lambda values, step: logged.append((step, values)))
    module = SimpleNamespace(init=lambda **given: calls.append(given) or session, Image=lambda pixels: pixels.shape)
    monkeypatch.setitem(sys.modules, "wandb", module)
    run(
        option_file,
        "logger.wandb.project=p",
        "logger.wandb.resume_id=r42",
        "logger.num_patches=1",
        "train.total_iter=3",
    )
    assert calls == [{"project": "p", "name": "tiny", "id": "r42", "resume": "allow"}]
    assert [step for step, values in logged if "l_pix" in values] == [2, 3]
    assert [values for _, values in logged if "images/noise/0" in values] == [{"images/noise/0": (24, 60, 3)}]
    assert "metrics/noise/psnr" in logged[-1][1]


def test_wandb_that_is_not_installed(option_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingError, match="pip install wandb"):
        run(option_file, "logger.wandb.project=p")


def curves(folder, rows):
    (folder / "history.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return plot.plot_history(folder).read_text()


def test_curves_say_what_they_show(tmp_path):
    rows = [{"iter": 1, "lr": 1e-4, "l_pix": 2, "memory_mib": 3}, {"iter": 2, "lr": 1e-5, "metrics/set5/psnr": 30}]
    page = curves(tmp_path, rows)
    titles = re.findall(r"<figcaption><b>(.*?)</b> <span .*?>by iteration; last (.*?)</span>", page)
    assert titles == [("set5/psnr", "30"), ("l_pix", "2"), ("learning rate", "1e-05"), ("memory in MiB", "3")]
    assert re.findall("<h2 .*?>(.*?)</h2>", page) == ["Validation", "Losses", "Training"]
    assert "iterations 1 to 2" in page
    assert f"<h1>{tmp_path.name}</h1>" in page
    assert "history.jsonl" not in page


def test_single_values_are_seen_where_they_stand_in_the_run(tmp_path):
    rows = [{"iter": 10, "l_pix": 0.1}, {"iter": 20, "l_pix": 0.2, "metrics/set5/psnr": 0.3}]
    validated, trained = curves(tmp_path, rows).split("<figure")[1:]
    place = r'<circle class="dot" cx="([^"]*)"'
    assert re.findall(place, validated) == re.findall(place, trained)[1:]


def test_long_curves_say_that_they_are_thinned(tmp_path):
    page = curves(tmp_path, [{"iter": number, "l_pix": number % 7} for number in range(1, 2001)])
    assert "more than 1,000 points" in page

"""Whole trainings from option files: files written, resuming, errors, several processes."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_runs import run, same

from restore.cli import main
from restore.data.sampling import StreamSampler
from restore.errors import CheckpointError, DataError, OptionsError, OutputError, RestoreError, TrainingError
from restore.inference import blocks
from restore.locks import reserved
from restore.metrics import psnr
from restore.options import load
from restore.training.history import read_history
from restore.training.trainer import Trainer
from restore.zoo import load_network

ROOT = Path(__file__).parents[2]


def state(tmp_path, iteration, name="tiny"):
    return torch.load(tmp_path / f"experiments/{name}/training_states/{iteration}.state", weights_only=True)


def weights(tmp_path, label, name="tiny"):
    return torch.load(tmp_path / f"experiments/{name}/models/net_g_{label}.pth", weights_only=True)


def test_a_training_leaves_the_files_of_basicsr(option_file, tmp_path):
    assert main(["train", "-opt", str(option_file)]) == 0
    folder = tmp_path / "experiments/tiny"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    logs = {name for name in names if re.fullmatch(r"train_tiny_\d{8}_\d{6}\.log", name)}
    models = {f"models/net_g_{label}.pth" for label in ("3", "6", "best", "latest")}
    states = {"training_states/3.state", "training_states/6.state"}
    assert len(logs) == 1
    assert names == {*logs, *models, *states, "tiny.yml", "history.jsonl", "curves.html"}
    assert set(weights(tmp_path, 6)) == {"params", "params_ema", "network"}
    saved = state(tmp_path, 6)
    assert {"epoch", "iter", "optimizers", "schedulers"} < set(saved)
    assert (saved["iter"], saved["epoch"]) == (6, 2)
    schedule = saved["schedulers"][0]
    assert (schedule["last_epoch"], schedule["base_lrs"], schedule["_last_lr"]) == (5, [2e-3], [1e-3])
    assert saved["optimizers"][0]["param_groups"][0]["initial_lr"] == 2e-3
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [row["iter"] for row in rows if "l_pix" in row] == [2, 4, 6]
    assert [row["iter"] for row in rows if "metrics/noise/psnr" in row] == [3, 6]
    assert load(folder / "tiny.yml", is_train=True).train.total_iter == 6
    assert main(["train", "-opt", str(option_file), "--plot"]) == 0


def test_a_trained_file_says_which_network_it_is_for(option_file, tmp_path):
    """Neither heads nor the range of values can be told from keys and shapes."""
    chosen = ["num_heads=[4]", "embed_dim=12", "depths=[1]", "img_range=2.0", "window_size=7"]
    run(option_file, *(f"network_g.{each}" for each in chosen), "train.total_iter=1", "val.val_freq=1")
    for label in ("1", "best", "latest"):
        assert weights(tmp_path, label)["network"]["img_range"] == 2.0
        network = load_network(tmp_path / f"experiments/tiny/models/net_g_{label}.pth")
        assert (network.img_range, network.window_size, network.layers[0].residual_group.blocks[0].attn.num_heads) == (
            2.0,
            7,
            4,
        )


def test_debugging_messages_are_ours_alone(option_file, tmp_path):
    assert main(["train", "-opt", str(option_file), "--debug", "--set", "train.total_iter=1"]) == 0
    try:
        assert logging.getLogger("restore").isEnabledFor(logging.DEBUG)
        assert not logging.getLogger("PIL").isEnabledFor(logging.DEBUG)
    finally:
        logging.getLogger("restore").setLevel(logging.NOTSET)
    assert (tmp_path / "experiments/debug_tiny/models/net_g_1.pth").is_file()


def test_it_learns(option_file, tmp_path):
    run(option_file, "train.total_iter=40", "val.val_freq=40", "logger.print_freq=10", "logger.save_checkpoint_freq=40")
    lines = (tmp_path / "experiments/tiny/history.jsonl").read_text().splitlines()
    losses = [json.loads(line)["l_pix"] for line in lines if "l_pix" in line]
    assert losses[-1] < 0.8 * losses[0]


def test_stopped_and_resumed_is_bit_identical(option_file, tmp_path, caplog):
    run(option_file, "train.total_iter=12")
    whole = weights(tmp_path, 12), state(tmp_path, 12)
    run(option_file, "train.total_iter=12", "name=parts", "train.accumulate=1")
    for path in (tmp_path / "experiments/parts").rglob("*"):
        if path.stem in ("12", "9", "net_g_12", "net_g_9", "net_g_latest"):
            path.unlink()
    with caplog.at_level(logging.INFO, "restore"):
        run(option_file, "train.total_iter=12", "name=parts", auto_resume=True)
    assert "resuming from" in caplog.text
    assert "6.state" in caplog.text
    assert same(whole, (weights(tmp_path, 12, "parts"), state(tmp_path, 12, "parts")))


def test_killed_at_random_moments_and_resumed_is_bit_identical():
    script = ROOT / "scripts/stress_resume.py"
    done = subprocess.run(
        [sys.executable, str(script), "--kills", "1", "--iterations", "6"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 kills, 1 processes: identical" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_ten_kills(processes):
    script = ROOT / "scripts/stress_resume.py"
    command = [sys.executable, str(script), "--kills", "10", "--processes", str(processes), "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_resume_state_of_another_run(option_file, tmp_path):
    run(option_file)
    where = tmp_path / "experiments/tiny/training_states/3.state"
    run(option_file, "name=branch", f"path.resume_state={where}")
    assert same(weights(tmp_path, 6), weights(tmp_path, 6, "branch"))


def test_a_fresh_start_moves_the_old_folder_away(option_file, tmp_path):
    run(option_file, "train.total_iter=1")
    run(option_file, "train.total_iter=1")
    run(option_file, "train.total_iter=1")
    names = sorted(path.name for path in (tmp_path / "experiments").iterdir())
    assert len(names) == 3
    assert names[0] == "tiny"
    assert all(name.startswith("tiny_archived_") for name in names[1:])


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.pixel_opt=null"],
        ["datasets.train.dataroot_gt=nowhere"],
        ["datasets.val.dataroot_lq=nowhere"],
        ["path.pretrain_network_g=nowhere.pth"],
        ["val.metrics.psnr.crop_border=-1"],
        ["model_type=SRGANModel"],
        ["train.optim_g.lr=-1"],
        ["train.scheduler={type: CosineAnnealingRestartLR, periods: [3, 3], restart_weights: [1]}"],
        ["scale=1"],
        ["train.perceptual_opt={type: PerceptualLoss, layer_weights: {conv1_1: 1}, weights: nowhere.pth}"],
    ],
)
def test_a_start_that_fails_leaves_the_old_folder(option_file, tmp_path, overrides):
    (tmp_path / "experiments/tiny").mkdir(parents=True)
    with pytest.raises(RestoreError):
        run(option_file, *overrides)
    assert [path.name for path in (tmp_path / "experiments").iterdir()] == ["tiny"]


def test_the_log_holds_what_was_said_before_the_folder_was_there_and_the_error(option_file, tmp_path, caplog):
    caplog.set_level(logging.INFO, "restore")
    run(option_file, "train.total_iter=1", "name=first")
    weights = f"path.pretrain_network_g={tmp_path}/experiments/first/models/net_g_1.pth"
    with pytest.raises(TrainingError):
        run(option_file, weights, "train.optim_g.lr=1e30")
    (file,) = (tmp_path / "experiments/tiny").glob("train_tiny_*.log")
    assert re.search(r"INFO: network_g starts from .*ERROR: iteration \d: l_pix is nan", file.read_text(), re.DOTALL)


def test_changed_options_are_said_and_applied(option_file, tmp_path, caplog):
    run(option_file)
    with caplog.at_level(logging.WARNING, "restore"):
        run(
            option_file,
            "train.total_iter=9",
            "train.optim_g.lr=1e-3",
            "train.scheduler.milestones=[8]",
            auto_resume=True,
        )
    assert "milestones was [4] at the checkpoint; the option file's [8] applies" in caplog.text
    assert "base_lrs was [0.002] at the checkpoint; the option file's [0.001] applies" in caplog.text
    assert state(tmp_path, 9)["optimizers"][0]["param_groups"][0]["lr"] == pytest.approx(5e-4)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["train.optim_g={type: SGD, lr: 2e-3, momentum: 0.9}"],
            ["optim_g was Adam at the checkpoint, SGD now: it starts without moments", "optim_g.type was Adam"],
        ),
        (["train.scheduler={type: CosineAnnealingRestartLR, periods: [9]}"], ["scheduler.type was MultiStepLR"]),
        (["train.precision=fp16"], ["precision was float32 at the checkpoint; the option file's float16 applies"]),
        (["train.ema_decay=0", "train.warmup_iter=2"], ["ema_decay was 0.9", "warmup_iter was 0"]),
        (
            ["manual_seed=5", "train.clip_norm=1"],
            ["continues with the seed of the checkpoint, 3", "clip_norm was None"],
        ),
        (["train.total_iter=3"], ["the checkpoint is of iteration 3 and train.total_iter is 3: nothing is left to do"]),
    ],
    ids=["optimizer", "schedule", "precision", "average", "seed", "nothing_left"],
)
def test_what_the_option_file_changed_is_said(option_file, tmp_path, caplog, overrides, said):
    run(option_file, "train.total_iter=3", "val=null", "logger.save_best=null")
    with caplog.at_level(logging.WARNING, "restore"):
        assert run(option_file, "val=null", "logger.save_best=null", *overrides, auto_resume=True) == 0
    assert all(message in caplog.text for message in said)


def test_an_unchanged_option_file_is_passed_over_in_silence(option_file, caplog):
    run(option_file, "train.total_iter=3")
    caplog.clear()
    run(option_file, auto_resume=True)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_nothing_to_resume_is_said(option_file, caplog):
    with caplog.at_level(logging.INFO, "restore"):
        run(option_file, "train.total_iter=1", auto_resume=True)
    assert "nothing to resume in" in caplog.text


def test_a_state_of_another_optimizer_without_its_name(option_file, tmp_path, caplog):
    run(option_file, "train.total_iter=3")
    content = state(tmp_path, 3)
    del content["restore"]
    torch.save(content, tmp_path / "experiments/tiny/training_states/3.state")
    run(option_file, "train.optim_g={type: SGD, lr: 1e-3}", auto_resume=True)
    assert "optim_g was another optimizer at the checkpoint, SGD now: it starts without moments" in caplog.text


def test_numbers_that_an_optimizer_keeps_among_its_options_survive(option_file, tmp_path):
    pytest.importorskip("pytorch_optimizer")
    constant = ["train.optim_g={type: Prodigy, lr: 1.0}", "train.scheduler.type=Constant", "val=null"]
    constant = [*constant, "train.scheduler={type: Constant}", "logger.save_best=null"]
    run(option_file, *constant, "name=whole")
    run(option_file, *constant, "train.total_iter=3")
    run(option_file, *constant, auto_resume=True)
    assert state(tmp_path, 3)["optimizers"][0]["param_groups"][0]["d"] != 1e-6  # where it starts
    assert same(state(tmp_path, 6)["optimizers"], state(tmp_path, 6, "whole")["optimizers"])


def test_a_state_of_basicsr_is_taken_up(option_file, tmp_path, caplog):
    run(option_file, "train.total_iter=3")
    path = tmp_path / "experiments/tiny/training_states/3.state"
    content = state(tmp_path, 3)
    del content["restore"]
    torch.save(content, path)
    with caplog.at_level(logging.WARNING, "restore"):
        run(option_file, auto_resume=True)
    assert "not written by this package" in caplog.text
    assert state(tmp_path, 6)["iter"] == 6


def test_a_state_is_taken_up_in_another_memory_layout(option_file, tmp_path):
    for name, layout in (("tiny", "false"), ("turned", "true")):
        resume = [] if name == "tiny" else [f"path.resume_state={tmp_path}/experiments/tiny/training_states/3.state"]
        run(option_file, f"name={name}", f"train.channels_last={layout}", "train.optim_g.eps=1e-3", *resume)
    for one, other in zip(*(weights(tmp_path, 6, name)["params"].values() for name in ("tiny", "turned")), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_resuming_with_another_network_names_what_differs(option_file):
    run(option_file, "train.total_iter=3")
    with pytest.raises(CheckpointError, match=r"net_g_3\.pth: made for another network"):
        run(option_file, "network_g.embed_dim=12", auto_resume=True)


def test_resuming_without_the_weights(option_file, tmp_path):
    run(option_file, "train.total_iter=3")
    (tmp_path / "experiments/tiny/models/net_g_3.pth").unlink()
    with pytest.raises(CheckpointError, match=r"net_g_3\.pth is missing"):
        run(option_file, f"path.resume_state={tmp_path}/experiments/tiny/training_states/3.state")


def test_warm_start(option_file, tmp_path):
    run(option_file, "train.total_iter=3")
    start = tmp_path / "experiments/tiny/models/net_g_3.pth"
    frozen = ["train.total_iter=1", "train.optim_g.lr=1e-30", "name=warm", f"path.pretrain_network_g={start}"]
    run(option_file, *frozen, "path.param_key_g=params_ema")
    assert same(weights(tmp_path, 3)["params_ema"], weights(tmp_path, 1, "warm")["params"])


def test_a_run_that_another_process_trains_is_left_alone(option_file, tmp_path):
    run(option_file, "train.total_iter=3")
    before = sorted(tmp_path.rglob("*"))
    for auto_resume in (False, True):
        with reserved(tmp_path / "experiments/tiny"), pytest.raises(OutputError, match="tiny' is being written by"):
            run(option_file, "train.total_iter=9", auto_resume=auto_resume)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interrupted_run_is_saved_and_says_so(option_file, tmp_path, monkeypatch):
    step = Trainer.step

    def interrupted(trainer, micro_batches):
        step(trainer, micro_batches)
        if trainer.iteration == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainer, "step", interrupted)
    assert main(["train", "-opt", str(option_file)]) == 130
    assert state(tmp_path, 2)["iter"] == 2


@pytest.mark.parametrize(
    ("signals", "left"),
    [([signal.SIGTERM], ["3", "6", "7"]), ([signal.SIGINT] * 2, ["3"])],
    ids=["asked", "at_once"],
)
@pytest.mark.parametrize("write", [3, 4], ids=["of_the_network", "of_the_state"])
def test_signals_in_the_middle_of_writing_a_checkpoint(option_file, tmp_path, monkeypatch, signals, left, write):
    overrides = ["train.total_iter=9", "val.val_freq=100"]
    run(option_file, *overrides, "name=whole")
    save, writes = torch.save, []

    def interrupted(content, stream):
        stream.write(b"half of a file")
        writes.append(stream)
        if len(writes) == write:  # of iteration 6, after both files of iteration 3
            for number in signals:
                os.kill(os.getpid(), number)
        stream.seek(0)
        save(content, stream)

    with monkeypatch.context() as patched:
        patched.setattr("restore.training.checkpoints.torch.save", interrupted)
        assert main(["train", "-opt", str(option_file), "--set", *overrides]) == 130
    folder = tmp_path / "experiments/tiny"
    assert not list(folder.rglob("*.tmp"))
    assert sorted(path.stem for path in folder.rglob("*.state")) == left
    assert run(option_file, *overrides, auto_resume=True) == 0
    assert same(weights(tmp_path, 9), weights(tmp_path, 9, "whole"))
    assert same(state(tmp_path, 9)["restore"], state(tmp_path, 9, "whole")["restore"])


@pytest.mark.parametrize("total", [3, 6], ids=["in_the_last_validation", "in_another_one"])
def test_a_signal_ends_a_validation_which_the_resumed_run_makes_up_for(option_file, tmp_path, monkeypatch, total):
    run(option_file, f"train.total_iter={total}", "name=whole")
    measured = []

    def interrupting(restored, reference):
        measured.append(1)
        if len(measured) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return psnr(restored, reference, border_px=2)

    interrupting.traits = psnr.traits
    with monkeypatch.context() as patched:
        patched.setattr("restore.assembly.validations.metrics_of", lambda options: {"psnr": interrupting})
        assert run(option_file, f"train.total_iter={total}") == 130
    assert len(measured) == 2
    assert state(tmp_path, 3)["restore"]["callbacks"]["Validation"] == {"best": {}, "unfinished": True}
    assert not (tmp_path / "experiments/tiny/models/net_g_best.pth").exists()
    assert run(option_file, f"train.total_iter={total}", auto_resume=True) == 0
    best = tmp_path / "experiments/tiny/models/net_g_best.pth"
    assert same(torch.load(best), torch.load(tmp_path / "experiments/whole/models/net_g_best.pth"))
    histories = [read_history(tmp_path / f"experiments/{name}/history.jsonl") for name in ("whole", "tiny")]
    assert len({history[3]["metrics/noise/psnr"] for history in histories}) == 1
    if total > 3:
        assert same(state(tmp_path, 6)["restore"], state(tmp_path, 6, "whole")["restore"])


def test_an_error_in_a_validation_costs_no_iterations(option_file, tmp_path, monkeypatch):
    run(option_file, "train.total_iter=6", "name=whole")

    def failing(restored, reference):
        raise DataError("'a.png' is damaged")

    failing.traits = psnr.traits
    with monkeypatch.context() as patched:
        patched.setattr("restore.assembly.validations.metrics_of", lambda options: {"psnr": failing})
        with pytest.raises(DataError, match=r"a\.png"):
            run(option_file, "train.total_iter=6", "logger.save_checkpoint_freq=100")
    assert state(tmp_path, 3)["restore"]["callbacks"]["Validation"] == {"best": {}, "unfinished": True}
    assert run(option_file, "train.total_iter=6", auto_resume=True) == 0
    assert same(state(tmp_path, 6)["restore"], state(tmp_path, 6, "whole")["restore"])


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["train.pixel_opt=null"], OptionsError, "give at least one of pixel_opt"),
        (["train.pixel_opt.kind=x"], OptionsError, "kind"),
        (["train.optim_g.beta=1"], OptionsError, "betas"),
        (["train.precision=fp16", "network_g.type=SwinIRR"], OptionsError, "SwinIR"),
        (["datasets.train.gt_size=15"], OptionsError, "15 is not a multiple of the scale 2"),
    ],
)
def test_mistakes_in_options(option_file, overrides, error, message):
    with pytest.raises(error, match=message):
        run(option_file, *overrides)


def test_grey_networks_train_out_of_the_box(option_file, tmp_path):
    run(option_file, "network_g.in_chans=1", "train.total_iter=3")
    assert (tmp_path / "experiments/tiny/models/net_g_3.pth").is_file()


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.precision=bf16"],
        ["train.channels_last=true", "train.accumulate=2"],
        ["train.activation_checkpointing=true", "network_g.depths=[2]", "train.clip_norm=0.1"],
        ["train.mixing_augs.mixup=true", "train.mixing_augs.cutmix=0.5", "train.mixing_augs.use_identity=true"],
        [
            "datasets.train.gt_sizes=[8,16]",
            "datasets.train.batch_size_per_gpu=4",
            "datasets.train.mini_batch_sizes=[4,1]",
            "datasets.train.iters=[2,4]",
        ],
        ["train.optim_g.type=AdamW", "logger.use_tb_logger=true"],
        ["val.save_img=true", "runtime.tile=8", "logger.keep_checkpoints=1"],
    ],
    ids=["bf16", "channels_last", "checkpointing", "mixing", "progressive", "tensorboard", "tiled"],
)
def test_what_a_run_may_ask_for(option_file, tmp_path, overrides):
    assert run(option_file, *overrides) == 0
    assert all(torch.isfinite(value).all() for value in weights(tmp_path, 6)["params"].values())


def test_perceptual_losses_train(option_file, tmp_path):
    from torchvision.models import vgg16

    torch.manual_seed(0)
    file = tmp_path / "vgg16_features.pth"
    torch.save({f"features.{name}": value for name, value in vgg16().features.state_dict().items()}, file)
    losses = {
        "perceptual_opt": f"{{type: PerceptualLoss, layer_weights: {{conv1_2: 1}}, vgg_type: vgg16, style_weight: 1, "
        f"weights: {file}}}",
        "lpips_opt": f"{{type: LPIPSLoss, weights: {file}}}",
        "dists_opt": f"{{type: DISTSLoss, weights: {file}}}",
    }
    overrides = [f"train.{key}={block}" for key, block in losses.items()]
    assert run(option_file, "train.pixel_opt=~", "datasets.train.gt_size=20", "train.total_iter=2", *overrides) == 0
    row = json.loads((tmp_path / "experiments/tiny/history.jsonl").read_text().splitlines()[0])
    values = {name: value for name, value in row.items() if name.startswith("l_")}
    assert values.keys() == {"l_percep", "l_style", "l_lpips", "l_dists"}
    assert all(value > 0 for value in values.values())
    assert not any("features" in name for name in weights(tmp_path, 2)["params"])


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # of torch's own tracing
def test_compiled_by_blocks_trains_as_written(option_file, tmp_path, monkeypatch):
    compiled = []

    def compile_blocks(network):
        compiled.append(blocks.compile_blocks(network, backend="aot_eager"))

    monkeypatch.setattr("restore.assembly.trainings.compile_blocks", compile_blocks)
    short = ["network_g.depths=[2]", "train.total_iter=2", "val.val_freq=2", "train.optim_g.eps=1e-3"]
    run(option_file, *short)
    run(option_file, *short, "train.compile=true", "name=compiled")
    assert compiled == [2]
    one, other = (weights(tmp_path, 2, name) for name in ("tiny", "compiled"))
    assert one["params"].keys() == other["params"].keys()
    for key in ("params", "params_ema"):
        for a, b in zip(one[key].values(), other[key].values(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_recomputed_activations_change_nothing(option_file, tmp_path):
    run(option_file, "network_g.depths=[2]")
    run(option_file, "network_g.depths=[2]", "train.activation_checkpointing=true", "name=again")
    for one, other in zip(
        weights(tmp_path, 6)["params"].values(), weights(tmp_path, 6, "again")["params"].values(), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_the_sampler_goes_on_where_it_was(option_file, monkeypatch):
    run(option_file)
    seen = []
    monkeypatch.setattr(StreamSampler, "start_at", lambda self, *at: seen.append(at))
    run(option_file, "train.total_iter=7", auto_resume=True)
    assert seen == [(6, 12)]

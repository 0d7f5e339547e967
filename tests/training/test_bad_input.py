"""Bad input of a training ends in one message that says what to do, and what was learnt before it is kept."""

from __future__ import annotations

import pytest
import torch
from training_runs import run, same

from restore.data.loading import Failure, Guarded
from restore.errors import CheckpointError, DataError, OptionsError, TrainingError
from restore.training.guards import BUILDING_ADVICE, failures_explained


def weights(tmp_path, label, name="tiny"):
    return torch.load(tmp_path / f"experiments/{name}/models/net_g_{label}.pth", weights_only=True)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["scale=4", "val.val_freq=null"], r"network_g: SwinIR as configured enlarges 2 times, and scale is 4"),
        (["datasets.train.color=y"], r"'y' gives images of 1 channel\(s\), and SwinIR takes 3: leave color out"),
        (["datasets.train.color=rgb", "network_g.in_chans=1"], r"takes 1: take color: y or color: grey"),
    ],
)
def test_a_network_and_data_that_do_not_fit(option_file, tmp_path, overrides, message):
    with pytest.raises(OptionsError, match=message):
        run(option_file, *overrides)
    assert not (tmp_path / "experiments").exists()


def test_luma_trains_a_network_of_one_channel(option_file, tmp_path):
    run(option_file, "network_g.in_chans=1", "datasets.train.color=y", "datasets.val.color=y", "train.total_iter=1")
    assert (tmp_path / "experiments/tiny/models/net_g_1.pth").is_file()


def test_a_scale_that_fits_is_named(option_file):
    with pytest.raises(DataError, match=r"which is not 1 times .* They fit at scale 2: is scale 1 right\?"):
        run(option_file, "scale=1", "network_g.upscale=1", "network_g.upsampler=", "val.val_freq=null")


def test_bad_data_ends_a_run_after_saving(option_file, tmp_path, monkeypatch):
    """Iteration 5 meets a bad image; what was learnt in 4 is kept, and as good as any checkpoint."""
    run(option_file, "name=whole", "logger.save_checkpoint_freq=4")
    read = Guarded.__getitem__

    def bad(self, draw):
        return read(self, draw) if draw.position < 8 else Failure("cannot read 'x.png'")

    with monkeypatch.context() as patched:
        patched.setattr(Guarded, "__getitem__", bad)
        with pytest.raises(DataError, match=r"x\.png"):
            run(option_file, "logger.save_checkpoint_freq=3")
    assert same(weights(tmp_path, 4), weights(tmp_path, 4, "whole"))
    run(option_file, auto_resume=True)
    assert same(weights(tmp_path, 6), weights(tmp_path, 6, "whole"))


def test_a_file_of_weights_is_no_state(option_file, tmp_path):
    run(option_file, "train.total_iter=1")
    with pytest.raises(CheckpointError, match=r"net_g_1\.pth is not the state of a training: .*pretrain_network_g"):
        run(option_file, f"path.resume_state={tmp_path}/experiments/tiny/models/net_g_1.pth")


def test_another_optimizer_starts_without_moments(option_file, tmp_path, caplog):
    run(option_file, "train.total_iter=1")
    run(option_file, "train.total_iter=2", "train.optim_g={type: SGD, lr: 1e-3, momentum: 0.9}", auto_resume=True)
    assert "train.optim_g was Adam at the checkpoint, SGD now: it starts without moments" in caplog.text
    moments = torch.load(tmp_path / "experiments/tiny/training_states/2.state", weights_only=True)["optimizers"][0]
    assert {name for state in moments["state"].values() for name in state} == {"momentum_buffer"}
    caplog.clear()
    run(option_file, "name=adam", "train.total_iter=1")
    run(option_file, "name=adam", "train.total_iter=2", "train.optim_g={type: AdamW, lr: 1e-3}", auto_resume=True)
    assert "without moments" not in caplog.text


def test_moments_of_another_network(option_file, tmp_path, caplog):
    run(option_file, "train.total_iter=1")
    state = tmp_path / "experiments/tiny/training_states/1.state"
    changes = ["network_g.embed_dim=12", f"path.resume_state={state}", "train.total_iter=2"]
    run(option_file, *changes, "path.ignore_resume_networks=[network_g]")
    assert "network_g was ignored, and its moments have other sizes" in caplog.text
    saved = torch.load(state, weights_only=True)
    saved["optimizers"][0]["state"][0]["exp_avg"] = torch.zeros(7, 3, 3, 3)
    torch.save(saved, state)
    with pytest.raises(TrainingError, match=r"another network_g: of its moments, number 0: \(7, 3, 3, 3\), wanted"):
        run(option_file, "name=again", f"path.resume_state={state}", "train.total_iter=2")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), r"on the device\. Lower batch_size_per_gpu"),
        (RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory: 9 bytes"), "on the processor. Lower"),
        (MemoryError(), "out of memory. Lower batch_size_per_gpu"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It"), r"Lower num_worker.*shm-size"),
    ],
)
def test_failures_of_the_machine_say_what_to_lower(error, message):
    with pytest.raises(TrainingError, match=message), failures_explained():
        raise error


@pytest.mark.parametrize(
    ("norm", "shape", "message"),
    [
        (torch.nn.BatchNorm2d(3), (1, 3, 1, 1), "set batch_size_per_gpu to 2 or more"),
        (torch.nn.BatchNorm1d(3), (1, 3), "set batch_size_per_gpu to 2 or more"),
        (torch.nn.InstanceNorm2d(3), (4, 3, 1, 1), "instance norm .* take larger patches"),
    ],
)
def test_norms_of_too_few_values_say_what_to_raise(norm, shape, message):
    with pytest.raises(TrainingError, match=message), failures_explained():
        norm(torch.rand(shape))


def test_a_batch_of_one_for_a_network_with_batch_norm_of_pooled_maps(option_file):
    pytest.importorskip("spandrel")
    small = "{type: DAT, upscale: 2, embed_dim: 16, depth: [1], num_heads: [2], split_size: [2, 4], img_size: 8}"
    with pytest.raises(TrainingError, match="set batch_size_per_gpu to 2 or more"):
        run(option_file, f"network_g={small}", "datasets.train.batch_size_per_gpu=1", "train.total_iter=1")


def test_other_failures_pass_through():
    with pytest.raises(ValueError, match=r"^other$"), failures_explained():
        raise ValueError("other")
    with pytest.raises(RuntimeError, match=r"^other$"), failures_explained():
        raise RuntimeError("other")
    with pytest.raises(TrainingError, match="The networks alone do not fit"), failures_explained(BUILDING_ADVICE):
        raise MemoryError


def test_memory_that_is_not_there(option_file):
    with pytest.raises(TrainingError, match="The networks alone do not fit"):
        run(option_file, "network_g={type: EDSR, num_feat: 1000000, num_block: 1, upscale: 2}")

"""Several processes: the same run as one, split or not, and back again after one of them dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from restore.assembly.trainings import train
from restore.errors import OptionsError, TrainingError
from restore.options import load
from restore.training.distribution import join_processes, restarted
from restore.training.sharding import local, shard, split_like, whole

ROOT = Path(__file__).parents[2]
STILL = "network_g.depths=[2] train.clip_norm=0.05 train.optim_g.eps=1e-2"  # Adam at rest
COMMON = f"{STILL} train.accumulate=2 runtime.precision=fp32"
SPLIT = f"{COMMON} dist_params.strategy=fsdp"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, write_options):
    """The folder of trainings: one process, two, two with a split network, and split ones that were resumed."""
    if not hasattr(torch.cpu.Stream, "record_event"):
        pytest.skip(f"torch {torch.__version__} splits no network on the processor")
    folder = tmp_path_factory.mktemp("distributed")
    option_file = write_options(folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train(load(option_file, ["name=one", "datasets.train.batch_size_per_gpu=4", *COMMON.split()], is_train=True))
    torch.set_num_threads(threads)
    runs = [
        f"--set name=two {COMMON}",
        f"--set name=split {SPLIT}",
        f"--set name=parts train.total_iter=3 {SPLIT}",
        f"--auto_resume --set name=parts {SPLIT}",
        f"--set name=joined path.resume_state={folder}/experiments/split/training_states/3.state {COMMON}",
    ]
    command = [sys.executable, str(Path(__file__).with_name("forked_training.py")), "2", str(option_file)]
    done = subprocess.run([*command, *" -- ".join(runs).split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "experiments"


def weights(folder, name, label=6):
    return torch.load(folder / name / f"models/net_g_{label}.pth", weights_only=True)


def state(folder, name, iteration=6):
    return torch.load(folder / name / f"training_states/{iteration}.state", weights_only=True)


def history(folder, name):
    rows = [json.loads(line) for line in (folder / name / "history.jsonl").read_text().splitlines()]
    kept = ("iter", "lr", "l_", "metrics")
    return [{key: value for key, value in row.items() if key.startswith(kept)} for row in rows]


def tensors(nested):
    if isinstance(nested, torch.Tensor):
        return [nested]
    values = nested.values() if isinstance(nested, dict) else nested if isinstance(nested, (list, tuple)) else ()
    return [tensor for value in values for tensor in tensors(value)]


@pytest.mark.parametrize("name", ["two", "split"])
def test_several_processes_train_as_one(trained, name):
    for ours, theirs in zip(history(trained, "one"), history(trained, name), strict=True):
        metrics = {key: theirs.pop(key) for key in list(theirs) if key.startswith("metrics")}
        assert {key: ours.pop(key) for key in metrics} == pytest.approx(metrics, rel=1e-4)  # of rounded images
        assert ours == pytest.approx(theirs, rel=1e-5)
    one, other = weights(trained, "one"), weights(trained, name)
    assert other.keys() == {"params", "params_ema", "network"}
    for a, b in zip(tensors(one), tensors(other), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)  # a twentieth of one of Adam's steps


def test_a_split_network_is_saved_whole(trained):
    for part in (weights, lambda *run: state(*run)["optimizers"]):
        one, split = (tensors(part(trained, name)) for name in ("one", "split"))
        assert [(type(tensor), tensor.shape) for tensor in one] == [(type(tensor), tensor.shape) for tensor in split]
    assert weights(trained, "split", "best").keys() == {"params", "params_ema", "network"}


def test_a_split_run_is_resumed_bit_by_bit(trained):
    for read in (weights, state):
        for a, b in zip(tensors(read(trained, "split")), tensors(read(trained, "parts")), strict=True):
            assert torch.equal(a, b)


def test_a_split_run_is_resumed_whole(trained):
    for a, b in zip(tensors(weights(trained, "split")), tensors(weights(trained, "joined")), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


def test_splitting_needs_a_recent_torch(network, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.distributed.fsdp", None)
    with pytest.raises(TrainingError, match=r"needs torch 2\.6 or newer; this is .* Use ddp"):
        shard(network)


def test_a_network_in_channels_last_memory_cannot_be_split(option_file):
    with pytest.raises(OptionsError, match=r"train\.channels_last: dist_params\.strategy: fsdp cannot have it"):
        load(option_file, ["dist_params.strategy=fsdp", "train.channels_last=true"], is_train=True)


def test_one_process_has_nobody_to_share_with(option_file, caplog):
    assert train(load(option_file, ["dist_params.strategy=fsdp", "train.total_iter=1"], is_train=True)) == 0
    assert "there is only one process" in caplog.text


def test_ordinary_tensors_pass_unchanged():
    tensor = torch.rand(3)
    assert local(tensor) is tensor
    assert split_like(tensor, torch.rand(3)) is tensor
    nested = {"state": {0: {"step": 1, "exp_avg": tensor}}, "groups": [(tensor,)]}
    copy = whole(nested, keep=False)
    assert copy == nested
    assert copy["state"][0]["exp_avg"] is tensor


@pytest.mark.parametrize(
    ("variable", "count", "expected"),
    [
        ("TORCHELASTIC_RESTART_COUNT", "0", False),
        ("TORCHELASTIC_RESTART_COUNT", "2", True),
        ("SLURM_RESTART_COUNT", "1", True),
    ],
)
def test_processes_know_that_they_were_restarted(monkeypatch, variable, count, expected):
    monkeypatch.setenv(variable, count)
    assert restarted() is expected


def test_launchers_without_their_variables(option_file, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    for launcher in ("pytorch", "slurm"):
        options = load(option_file, is_train=True)
        options._launcher = launcher
        with pytest.raises(TrainingError, match=f"--launcher {launcher}: the variable"):
            train(options)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("localhost", "localhost"), ("gpu[03-05,9],cpu1", "gpu03"), ("a-1,b[2-3]", "a-1"), ("n[7,9]-ib", "n7-ib")],
)
def test_the_first_node_needs_no_program_of_slurm(monkeypatch, nodes, first):
    given = {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_NODELIST": nodes, "SLURM_LOCALID": "0"}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    for name, value in {**given, "PATH": ""}.items():
        monkeypatch.setenv(name, value)
    assert join_processes("slurm", port=29777).world_size == 1
    assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == (first, "29777")


DYING = """
import os, signal, sys
sys.path.insert(0, "{root}")
import torch
from restore.training.trainer import Trainer
from restore.cli import main

torch.set_num_threads(1)
step = Trainer.step

def dying(trainer, micro_batches):
    step(trainer, micro_batches)
    if trainer.iteration == 5 and trainer.processes.rank == 1 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)

Trainer.step = dying
sys.exit(main(["train", "-opt", sys.argv[1], "--set", *sys.argv[2:]]))
"""


@pytest.mark.slow
def test_torchrun_restarts_from_the_last_state(trained, write_options, tmp_path):
    script = tmp_path / "dying.py"
    script.write_text(DYING.format(root=ROOT))
    option_file = write_options(tmp_path)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--max_restarts=1"]
    done = subprocess.run(
        [sys.executable, *launch, str(script), str(option_file), "name=two", *COMMON.split()],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "resuming from" in done.stderr
    assert "3.state" in done.stderr
    for read in (weights, state):
        for a, b in zip(tensors(read(trained, "two")), tensors(read(tmp_path / "experiments", "two")), strict=True):
            assert torch.equal(a, b)

"""Several tasks in one training: which task when, who learns from it, and that files, processes and restarts agree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import run

from restore import load_model
from restore.cli import main
from restore.data.multitask import MultiTaskDataset
from restore.errors import DataError, OptionsError
from restore.images import write_image
from restore.losses.contrastive import PatchContrastiveLoss
from restore.networks.branches import branch_weights
from restore.networks.edt import EDT
from restore.networks.ipt import IPT
from restore.registry import OBJECTIVES
from restore.training.objectives import ContrastivePretraining, MultiTask

ROOT = Path(__file__).parents[2]
L1 = {"pixel_opt": {"type": "L1Loss"}}

EDT_BLOCK = """{type: EDT, window_size: [2, 4], img_size: 8, num_feat: 4, embed_dim: 12, depths: [1], num_heads: [6],
             drop_path_rate: 0, scales: [2, 3], noise_levels: [25]}"""
IPT_BLOCK = """{type: IPT, patch_size: 12, n_feats: 4, num_heads: 12, num_layers: 1, scale: 2+3+1, num_queries: 3}"""
OPTIONS = """
name: many
model_type: {model}
num_gpu: 0
manual_seed: 3
datasets:
  train:
    name: many
    type: MultiTaskDataset
    sampling: drawn
    batch_size_per_gpu: 2
    num_worker_per_gpu: 0
    tasks:
      sr_x2: {{type: DownsampledImageDataset, scale: 2, dataroot_gt: {root}/gt, gt_size: 24}}
      sr_x3: {{type: DownsampledImageDataset, scale: 3, dataroot_gt: {root}/gt, gt_size: 36, use_hflip: true}}
      dn_g25: {{type: GaussianNoiseDataset, dataroot_gt: {root}/few, gt_size: 12, sigma_type: choice, sigma_range: 25}}
  val_1: {{name: large, task: sr_x3, type: DownsampledImageDataset, dataroot_gt: {root}/few}}
  val_2: {{name: clean, task: dn_g25, type: GaussianNoiseDataset, dataroot_gt: {root}/few, sigma_test: 25}}
network_g: {network}
path: {{experiments_root: {root}/experiments}}
train:
  total_iter: 6
  ema_decay: 0.9
  optim_g: {{type: Adam, lr: 1e-3}}
  pixel_opt: {{type: L1Loss}}
val: {{val_freq: 3, metrics: {{psnr: {{type: calculate_psnr, crop_border: 0}}}}}}
logger: {{print_freq: 1, save_checkpoint_freq: 3}}
"""


@pytest.fixture
def write_file(tmp_path):
    """A function: an option file for a network of three tasks, images beside it."""
    noise = np.random.default_rng(0)
    for folder, count in (("gt", 5), ("few", 2)):
        for number in range(count):
            rough = noise.integers(0, 256, (10, 10, 3), dtype=np.uint8)
            write_image(tmp_path / folder / f"{number}.png", rough.repeat(4, 0).repeat(4, 1))

    def write(network=EDT_BLOCK, model="EDTModel"):
        path = tmp_path / "train.yml"
        path.write_text(OPTIONS.format(root=tmp_path, network=network, model=model))
        return path

    return write


def history(tmp_path, name="many"):
    lines = (tmp_path / f"experiments/{name}/history.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def checkpoint(tmp_path, label, name="many"):
    return torch.load(tmp_path / f"experiments/{name}/models/net_g_{label}.pth", weights_only=True)


def edt(**changes) -> EDT:
    torch.manual_seed(0)
    sizes = {"num_feat": 4, "embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": (2, 4), "img_size": 8}
    return EDT(**(sizes | {"scales": [2, 3], "noise_levels": [25], "drop_path_rate": 0.0} | changes))


def ipt(**changes) -> IPT:
    torch.manual_seed(0)
    sizes = {"patch_size": 12, "n_feats": 4, "num_heads": 12, "num_layers": 1}
    return IPT(**(sizes | {"scale": "2+3+1", "num_queries": 3} | changes))


def batch_of(task, scale, size=4):
    draw = torch.Generator().manual_seed(scale)
    gt = torch.rand(size, 3, 12 * scale, 12 * scale, generator=draw)
    return {"lq": torch.nn.functional.avg_pool2d(gt, scale), "gt": gt, "task": [task] * size}


def test_model_types():
    assert OBJECTIVES.get("EDTModel") is OBJECTIVES.get("MultiTaskModel") is MultiTask
    assert OBJECTIVES.get("IPTModel") is ContrastivePretraining


@pytest.mark.parametrize(("network", "model"), [(EDT_BLOCK, "EDTModel"), (IPT_BLOCK, "IPTModel")])
def test_a_training_of_several_tasks(write_file, tmp_path, network, model):
    contrast = ["train.contrastive_opt={type: PatchContrastiveLoss, loss_weight: 1e-4}"] if model == "IPTModel" else []
    path = write_file(network, model)
    assert run(path, "train.total_iter=3", *contrast) == 0
    rows = [row for row in history(tmp_path) if any(key.startswith("l_pix") for key in row)]
    named = [next(key for key in row if key.startswith("l_pix")) for row in rows]
    assert set(named) == {"l_pix_sr_x2", "l_pix_sr_x3", "l_pix_dn_g25"}
    assert all(("l_contrastive" in row) == bool(contrast) for row in rows)
    validated = {key for row in history(tmp_path) for key in row if key.startswith("metrics/")}
    assert validated == {"metrics/large/psnr", "metrics/clean/psnr"}
    assert load_model(tmp_path / "experiments/many/models/net_g_latest.pth", task="sr_x3").scale == 3


def test_datasets_are_checked_with_the_scales_of_their_tasks(write_file, tmp_path, capsys):
    path = write_file()
    for number in range(2):
        write_image(tmp_path / f"third/{number}.png", np.zeros((13, 13, 3), np.uint8))
    text = path.read_text()
    made = f"task: sr_x3, type: DownsampledImageDataset, dataroot_gt: {tmp_path}/few"
    paired = f"task: sr_x3, type: PairedImageDataset, dataroot_lq: {tmp_path}/third, dataroot_gt: {tmp_path}/few"
    assert made in text
    path.write_text(text.replace(made, paired))
    assert main(["data", "check", "-opt", str(path)]) == 0
    assert "16 samples read, 0 problems" in capsys.readouterr().err


def test_stopped_and_resumed_is_bit_identical(write_file, tmp_path):
    overrides = ["train.accumulate=2"]
    path = write_file()
    run(path, *overrides)
    run(path, *overrides, "name=parts")
    for file in (tmp_path / "experiments/parts").rglob("*"):
        if file.stem in ("6", "net_g_6", "net_g_latest"):
            file.unlink()
    run(path, *overrides, "name=parts", auto_resume=True)
    whole, parts = checkpoint(tmp_path, 6), checkpoint(tmp_path, 6, "parts")
    assert whole["network"] == parts["network"]
    for key in ("params", "params_ema"):
        assert all(torch.equal(weight, parts[key][name]) for name, weight in whole[key].items())


def same_on_two_processes(path, tmp_path, ways):
    """Every way to train, in two processes, against the same with the whole batch in one."""
    runs = [f"--set name={name} {' '.join(ways[name])}" for name in ways]
    command = [sys.executable, str(Path(__file__).with_name("forked_training.py")), "2", str(path)]
    done = subprocess.run([*command, *" -- ".join(runs).split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, overrides in ways.items():
        run(path, f"name=one_{name}", "datasets.train.batch_size_per_gpu=4", *overrides)
        for ours, theirs in zip(history(tmp_path, f"one_{name}"), history(tmp_path, name), strict=True):
            values = {key for key in ours if key.startswith(("iter", "l_", "metrics"))}
            assert {key: ours[key] for key in values} == pytest.approx({key: theirs[key] for key in values}, rel=1e-4)


@pytest.mark.slow
def test_two_processes_train_as_one(write_file, tmp_path):
    ways = {
        "drawn": ["train.total_iter=5", "train.accumulate=2", "train.clip_norm=0.5"],
        "in_turn": ["train.total_iter=3", "train.accumulate=3", "datasets.train.sampling=in_turn"],
        "split": ["train.total_iter=4", "train.clip_norm=0.5", "dist_params.strategy=fsdp"],
    }
    same_on_two_processes(write_file(), tmp_path, ways)


@pytest.mark.slow
def test_two_processes_split_ipt(write_file, tmp_path):
    ways = {"split": ["train.total_iter=4", "dist_params.strategy=fsdp"]}
    same_on_two_processes(write_file(IPT_BLOCK, "IPTModel"), tmp_path, ways)


@pytest.mark.parametrize(("build", "lr"), [(edt, 2e-2), (ipt, 1e-2)], ids=["EDT", "IPT"])
def test_every_task_is_learned(build, lr, make_trainer):
    network = build()
    objective = MultiTask({"g": network}, L1, tasks={"sr_x2": 0, "sr_x3": 1, "dn_g25": 2})
    batches = [batch_of("sr_x2", 2), batch_of("sr_x3", 3), batch_of("dn_g25", 1)]
    for scale, batch in zip((2, 3, 1), batches, strict=True):
        batch["gt"] = 0.2 * torch.nn.functional.interpolate(batch["lq"], scale_factor=scale)

    def losses():
        with torch.no_grad():
            return np.array([next(iter(objective.losses(batch).values())).item() for batch in batches])

    before = losses()
    trainer = make_trainer(
        network, total_iter=30, objective=objective, ema_decay=0, optimizer={"type": "Adam", "lr": lr}
    )
    trainer.fit(iter(batches * 10))
    assert (losses() < 0.9 * before).all()


@pytest.mark.parametrize("network", [edt(), ipt()], ids=["EDT", "IPT"])
def test_tasks_that_are_not_in_the_batch_stay_as_they_are(network, make_trainer):
    tasks = {"sr_x2": 0, "sr_x3": 1, "dn_g25": 2}
    objective = MultiTask({"g": network}, L1, tasks=tasks)
    trainer = make_trainer(network, total_iter=6, objective=objective, ema_decay=0.5)
    before = {name: value.clone() for name, value in network.named_parameters()}
    batches = [batch_of("sr_x2", 2), batch_of("sr_x3", 3), batch_of("sr_x2", 2)]
    objective.losses(batches[0])["l_pix_sr_x2"].backward()
    others = ("_sr_x3", "_dn_g25", "head.1", "tail.1", "head.2", "tail.2")
    without = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert without == {
        name
        for name, parameter in network.named_parameters()
        if any(other in name for other in others) or not parameter.requires_grad
    }
    network.zero_grad()
    trainer.fit(iter(batches * 2))
    untouched = {name for name, value in network.named_parameters() if torch.equal(value, before[name])}
    never = {name for name in before if any(mark in name for mark in ("dn_g25", "head.2", "tail.2"))}
    assert never <= untouched
    assert not any("sr_x" in name or name.startswith(("head.0", "tail.1")) for name in untouched)
    average = dict(trainer.objective.average.network.named_parameters())
    assert all(torch.equal(average[name], before[name]) for name in never)
    moved = next(name for name in before if name.endswith(("head_sr_x3.0.weight", "head.1.0.weight")))
    assert (average[moved] - before[moved]).abs().max() > 0
    state = trainer.optimizers["g"].state
    assert not any(parameter in state for name, parameter in network.named_parameters() if name in never)


def test_contrastive_loss_is_that_of_the_decoder():
    network = ipt()
    contrast = {"type": "PatchContrastiveLoss", "loss_weight": 0.1}
    objective = ContrastivePretraining(
        {"g": network}, {**L1, "contrastive_opt": contrast}, tasks={"sr_x2": 0, "sr_x3": 1, "dn_g25": 2}
    )
    batch = batch_of("sr_x3", 3)
    found = objective.losses(batch)
    restored, features = network(batch["lq"] * 255, task=1, return_features=True)
    torch.testing.assert_close(found["l_pix_sr_x3"], (restored / 255 - batch["gt"]).abs().mean())
    torch.testing.assert_close(found["l_contrastive"], PatchContrastiveLoss(0.1)(features))
    large = {"lq": torch.rand(2, 3, 24, 12), "gt": torch.rand(2, 3, 72, 36), "task": ["sr_x3"] * 2}
    features = network(large["lq"] * 255, task=1, return_features=True)[1]
    of_images = features.reshape(2, 2 * 16, -1)
    torch.testing.assert_close(objective.losses(large)["l_contrastive"], PatchContrastiveLoss(0.1)(of_images))


def dataset(tmp_path, **changes):
    sharp = {"type": "DownsampledImageDataset", "dataroot_gt": str(tmp_path / "gt"), "gt_size": 12}
    tasks = {"a": {**sharp, "scale": 2}, "b": {**sharp, "dataroot_gt": str(tmp_path / "few"), "scale": 3}}
    return MultiTaskDataset(**({"tasks": tasks} | changes))


def test_tasks_of_batches(write_file, tmp_path):
    from restore.data.sampling import PatchStage, StreamSampler

    write_file()
    data = dataset(tmp_path, weights=[3, 1])
    assert len(data) == 5
    batches = list(StreamSampler(len(data), [PatchStage(4)], total_iter=400, seed=7))
    tasks = [{data.task_of(draw) for draw in batch} for batch in batches]
    assert all(len(task) == 1 for task in tasks)
    assert 250 < sum(task == {"a"} for task in tasks) < 350
    shown = [data[draw]["gt_path"] for batch in batches[:120] for draw in batch if data.task_of(draw) == "b"]
    counts = [sum(path.endswith(f"few/{number}.png") for path in shown) for number in (0, 1)]
    assert sum(counts) == len(shown)
    assert min(counts) > len(shown) / 3
    sample = data[batches[0][0]]
    assert sample["gt"].shape[0] == sample["lq"].shape[0] * {"a": 2, "b": 3}[sample["task"]]
    turns = dataset(tmp_path, sampling="in_turn")
    assert [turns.task_of(batch[0]) for batch in batches[:5]] == ["a", "b", "a", "b", "a"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": {}}, "no tasks"),
        ({"weights": [1]}, "share for each of"),
        ({"weights": [0, 0]}, "share for each of"),
        ({"weights": [1, 2], "sampling": "in_turn"}, "in turn have no weights"),
        ({"tasks": {"a": {"type": "GaussianNoiseDataset", "sigma": 3}}}, "sigma_range"),
        ({"tasks": {"a": {"dataroot_gt": "x"}}}, r"tasks\.a\.type"),
    ],
)
def test_datasets_that_cannot_be(write_file, tmp_path, changes, message):
    write_file()
    with pytest.raises((DataError, OptionsError), match=message):
        dataset(tmp_path, **changes)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["network_g.scales=[2]"], "neither names of the network's tasks"),
        (["datasets.train.tasks.sr_x3.scale=2"], r"tasks\.sr_x3\.scale.*enlarges by 3"),
        (["datasets.val_1.task=null"], r"datasets\.val_1\.task.*missing.*sr_x2"),
        (["datasets.val_1.task=sr_x8"], r"datasets\.val_1\.task.*no task 'sr_x8'"),
        (["datasets.train.tasks.sr_x3.gtsize=2"], r"datasets\.train\.tasks\.sr_x3\.gtsize.*gt_size"),
    ],
)
def test_mistakes_are_named(write_file, overrides, message):
    with pytest.raises(OptionsError, match=message):
        run(write_file(), *overrides)


@pytest.mark.parametrize(("network", "model"), [(EDT_BLOCK, "EDTModel"), (IPT_BLOCK, "IPTModel")])
def test_fine_tuning_starts_from_one_branch(write_file, tmp_path, network, model):
    path = write_file(network, model)
    run(path, "train.total_iter=1")
    many = tmp_path / "experiments/many/models/net_g_1.pth"
    single = ["network_g.scales=[3]", "network_g.noise_levels=[]"] if "EDT" in network else ["network_g.scale=3"]
    single += [] if "EDT" in network else ["network_g.num_queries=1"]
    data = f"{{name: x, type: DownsampledImageDataset, dataroot_gt: {tmp_path}/gt, gt_size: 36, batch_size_per_gpu: 1}}"
    tuned = [f"datasets.train={data}", "scale=3", "datasets.val_1.task=null", "datasets.val_2=null"]
    tuned += [*single, "train.total_iter=1", "train.optim_g.lr=1e-30", f"path.pretrain_network_g={many}"]
    state = torch.load(many, weights_only=True)["params"]
    for name, more in (("named", ["path.pretrain_task_g=sr_x3"]), ("found", [])):
        run(path, *tuned, *more, f"name={name}")
        own = checkpoint(tmp_path, 1, name)["params"]
        wanted = branch_weights(state, "sr_x3")
        assert own.keys() == wanted.keys()
        assert all(torch.equal(own[key], wanted[key]) for key in own if "attn_mask" not in key)

"""Frozen networks, heads and followers: who learns, what is saved where, and that restarts and processes agree."""

from __future__ import annotations

import copy
import logging
import subprocess
import sys
from pathlib import Path

import distilling  # noqa: F401 - registers its objective
import pytest
import torch
from distilling import Distilled
from torch import nn
from training_runs import same

from restore.assembly.trainings import train
from restore.cli import main
from restore.errors import CheckpointError, OptionsError, TrainingError
from restore.options import load
from restore.registry import OBJECTIVES, SCHEDULERS
from restore.training.followers import Follower
from restore.training.objectives import Restoration
from restore.training.optimizers import build_optimizer
from restore.training.schedules import RateControl
from restore.training.trainer import Plan, Trainer

HERE = Path(__file__).parent
CONSTANT = SCHEDULERS.build({"type": "Constant"})


@pytest.fixture
def objective(network):
    teacher, head = copy.deepcopy(network), nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    followers = {"slow": Follower(network, 0.9), "slow_head": Follower(head, 0.5)}
    return Distilled({"g": network}, frozen={"teacher": teacher}, heads={"head": head}, followers=followers)


def trainer_of(objective, total_iter=4, **plan):
    optimizer = build_optimizer({"type": "Adam", "lr": 1e-2}, nn.ModuleList(objective.trained("g")))
    rates = {"g": RateControl(optimizer, CONSTANT)}
    return Trainer(objective, {"g": optimizer}, rates, Plan(total_iter, **plan))


def values(module):
    return [value.clone() for value in module.state_dict().values()]


def test_who_learns_and_who_does_not(objective, batches):
    before = {name: values(each) for name, each in objective.named_modules() if name.count(".") == 1}
    trainer_of(objective).fit(batches(4))
    after = {name: values(each) for name, each in objective.named_modules() if name.count(".") == 1}
    changed = {name for name in before if not same(before[name], after[name])}
    assert changed == {"networks.g", "heads.head", "followers.slow", "followers.slow_head"}
    assert not any(value.requires_grad for value in objective.frozen.parameters())
    assert not any(value.requires_grad for value in objective.followers.parameters())


def test_frozen_networks_and_followers_stay_in_evaluation_mode(objective):
    objective.train()
    assert objective.networks["g"].training
    assert objective.heads["head"].training
    for still in (objective.frozen, objective.followers):
        assert not any(module.training for each in still.values() for module in each.modules())


def test_followers_are_averages_of_every_step(objective, batches):
    network, head = objective.networks["g"], objective.heads["head"]
    expected = [copy.deepcopy(network), copy.deepcopy(head)]
    trainer = trainer_of(objective)
    for batch in batches(4):
        trainer.step([batch])
        for mine, now, decay in zip(expected, (network, head), (0.9, 0.5), strict=True):
            for mean, value in zip(mine.parameters(), now.parameters(), strict=True):
                mean.data = mean.data * decay + value.data * (1 - decay)
    for mine, follower in zip(expected, objective.followers.values(), strict=True):
        for mean, value in zip(mine.parameters(), follower.network.parameters(), strict=True):
            torch.testing.assert_close(value, mean)


def test_clipping_counts_the_heads(objective, batches):
    seen = []
    trainer = trainer_of(objective, total_iter=1, clip_norm=1e-3)
    trainer.optimizers["g"].register_step_pre_hook(
        lambda optimizer, *_: seen.append(
            torch.stack([p.grad.norm() for group in optimizer.param_groups for p in group["params"]]).norm().item()
        )
    )
    trainer.fit(batches(1))
    assert seen == [pytest.approx(1e-3, rel=1e-3)]


def test_a_follower_of_the_second_network_waits_for_its_turn(network, batches):
    judge = nn.Conv2d(3, 1, 3)

    class InTurns(Restoration):
        def turns(self, iteration):
            return ["g"] if iteration % 2 else ["g", "d"]

        def losses(self, batch, turn):
            return super().losses(batch) if turn == "g" else {"l_d": self.networks["d"](batch["gt"]).square().mean()}

    objective = InTurns({"g": network, "d": judge}, {"pixel_opt": {"type": "L1Loss"}})
    objective.followers["past"] = Follower(judge, 0.5)
    objective.keep_average(0.5)
    optimizers = {name: build_optimizer({"type": "SGD", "lr": 0.1}, each) for name, each in objective.networks.items()}
    rates = {name: RateControl(each, CONSTANT) for name, each in optimizers.items()}
    Trainer(objective, optimizers, rates, Plan(5)).fit(batches(5))
    assert objective.followers["past"].num_updates == 2
    assert objective.average.num_updates == 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_options):
    """A folder with an option file, images, and a teacher that was trained from them."""
    folder = tmp_path_factory.mktemp("parts")
    option_file = write_options(folder)
    assert train(load(option_file, ["name=teacher", "train.total_iter=3"], is_train=True)) == 0
    return folder


def overrides(folder, *further):
    teacher = folder / "experiments/teacher/models/net_g_3.pth"
    return ["model_type=Distilled", "train.pixel_opt=null", f"train.teacher.model={teacher}", *further]


def distil(folder, name, *further, resume=False):
    words = ["train", "-opt", str(folder / "train.yml"), *(["--auto_resume"] if resume else [])]
    return main([*words, "--set", *overrides(folder, f"name={name}", *further)])


def saved(folder, name, iteration=6):
    root = folder / "experiments" / name
    files = root / f"models/net_g_{iteration}.pth", root / f"training_states/{iteration}.state"
    return [torch.load(file, weights_only=True) for file in files]


DROPOUT = "network_g.drop_rate=0.2"


def test_stopped_and_resumed_is_bit_identical(folder, capsys):
    assert distil(folder, "whole", DROPOUT) == 0
    assert distil(folder, "broken", DROPOUT, "train.total_iter=3") == 0
    assert distil(folder, "broken", DROPOUT, resume=True) == 0
    whole, broken = saved(folder, "whole"), saved(folder, "broken")
    assert same(whole, broken)
    weights, state = whole
    assert set(weights) == {"params", "params_ema", "network"}
    assert not any(name.startswith(("head", "slow", "teacher")) for name in weights["params"])
    ours = state["restore"]
    assert set(ours["heads"]) == {"head"}
    assert {name: each["num_updates"] for name, each in ours["followers"].items()} == {"slow": 6, "slow_head": 6}
    assert len(ours["setting"]["the frozen network 'teacher'"]) == 12
    assert same(broken, saved(folder, "broken", 6))
    assert not same(ours["heads"], saved(folder, "broken", 3)[1]["restore"]["heads"])


def test_another_teacher_is_said(folder, caplog):
    distil(folder, "taught", "train.total_iter=3")
    other = folder / "experiments/teacher/models/net_g_best.pth"
    content = torch.load(other, weights_only=True)
    content["params_ema"] = {name: value * 1.01 for name, value in content["params_ema"].items()}
    torch.save(content, folder / "other.pth")
    with caplog.at_level(logging.WARNING, "restore"):
        assert distil(folder, "taught", f"train.teacher.model={folder / 'other.pth'}", resume=True) == 0
    assert "the frozen network 'teacher' was " in caplog.text


def test_states_of_other_objectives(folder, monkeypatch):
    distil(folder, "parts", "train.total_iter=3")
    where = f"path.resume_state={folder}/experiments/parts/training_states/3.state"
    build = Distilled.from_options.__func__

    def renamed(cls, networks, options, frozen):
        objective = build(cls, networks, options, frozen)
        objective.heads["other"] = objective.heads.pop("head")
        return objective

    def wider(cls, networks, options, frozen):
        objective = build(cls, networks, options, frozen)
        objective.followers["slow"] = Follower(nn.Conv2d(3, 4, 1), 0.5)
        return objective

    for change, error, message in (
        (renamed, TrainingError, "has the heads: head; this model_type has: other"),
        (wider, CheckpointError, "follower 'slow' of the training state: made for another network"),
    ):
        monkeypatch.setattr(Distilled, "from_options", classmethod(change))
        options = load(folder / "train.yml", overrides(folder, "name=again", where), is_train=True)
        with pytest.raises(error, match=message):
            train(options)


def test_a_teacher_is_for_those_who_learn_from_one(folder):
    with pytest.raises(OptionsError, match=r"train\.teacher: model_type EDTModel does not learn from.*Distilled"):
        load(folder / "train.yml", ["model_type=EDTModel", "train.teacher={model: swinir_light_x4}"], is_train=True)
    with pytest.raises(
        OptionsError, match=r"train\.teacher: missing: model_type Distilled learns from a teacher, \{model"
    ):
        load(folder / "train.yml", ["model_type=Distilled", "train.pixel_opt=null"], is_train=True)
    with pytest.raises(OptionsError, match=r"train\.teacher\.model: missing\. A weights file, or the name"):
        load(folder / "train.yml", ["model_type=Distilled", "train.teacher={}"], is_train=True)


def test_a_teacher_that_is_not_there(folder, capsys):
    assert distil(folder, "none", "train.teacher.model=swinir_lite_x4") == 2
    assert "swinir_light_x4" in capsys.readouterr().err


def test_what_a_batch_lacks_is_said_before_the_run(folder):
    single = "datasets.train={name: alone, type: SingleImageDataset, batch_size_per_gpu: 2, dataroot_lq: %s}"
    options = load(folder / "train.yml", ["name=lacking", single % (folder / "lq")], is_train=True)
    with pytest.raises(OptionsError) as raised:
        train(options)
    (problem,) = raised.value.problems
    assert problem.path == "datasets.train.type"
    assert problem.message.startswith(
        "model_type SRModel needs gt (image); the SingleImageDataset 'alone' gives lq (image), lq_path (text). "
        "Datasets that give it: CardDataset, DegradedImageDataset, "
    )
    assert "RealESRGANDataset" not in problem.message
    assert not (folder / "experiments/lacking").exists()


def test_every_objective_says_what_it_needs(network):
    for name in OBJECTIVES:
        kind = OBJECTIVES.get(name)
        assert kind.needs or name == "QualityModel", name  # which depends on the model


@pytest.fixture(scope="module")
def processes(folder):
    """One process with the whole batch, two, two with split networks, and split ones that were interrupted."""
    still = ["network_g.depths=[2]", "train.clip_norm=0.05", "train.optim_g.eps=1e-2", "train.accumulate=2"]
    plain = overrides(folder, *still)
    split = [*plain, "dist_params.strategy=fsdp"]
    assert distil(folder, "one", "datasets.train.batch_size_per_gpu=4", *still) == 0
    runs = [
        ["--set", "name=two", *plain],
        ["--set", "name=split", *split],
        ["--set", "name=parts", "train.total_iter=3", *split],
        ["--auto_resume", "--set", "name=parts", *split],
    ]
    words = " -- ".join(map(" ".join, runs))
    code = (
        f"import sys, runpy; sys.path.insert(0, {str(HERE)!r}); sys.path.insert(0, {str(HERE.parents[1])!r}); "
        f"import distilling; runpy.run_path({str(HERE / 'forked_training.py')!r}, run_name='__main__')"
    )
    command = [sys.executable, "-c", code, "2", str(folder / "train.yml"), *words.split(" ")]
    done = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two", "split"])
def test_several_processes_train_as_one(processes, name):
    one, other = saved(processes, "one"), saved(processes, name)
    for part in ("heads", "followers"):
        ours, theirs = one[1]["restore"][part], other[1]["restore"][part]
        for a, b in zip(tensors(ours), tensors(theirs), strict=True):
            torch.testing.assert_close(a.float(), b.float(), rtol=0, atol=2e-3)
    for a, b in zip(tensors(one[0]), tensors(other[0]), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_split_run_is_resumed_bit_by_bit(processes):
    for a, b in zip(tensors(saved(processes, "split")), tensors(saved(processes, "parts")), strict=True):
        assert torch.equal(a, b)


def tensors(nested):
    if isinstance(nested, torch.Tensor):
        return [nested]
    parts = nested.values() if isinstance(nested, dict) else nested if isinstance(nested, (list, tuple)) else ()
    return [tensor for part in parts for tensor in tensors(part)]

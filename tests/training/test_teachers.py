"""Learning from a teacher: every kind of loss, and a cache that changes nothing but the time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from training_runs import run, same

from restore.cli import main
from restore.data.storage.answers import AnswerCache
from restore.errors import OptionsError
from restore.images import write_image
from restore.losses.opinion import level_logits
from restore.networks.swinir import SwinIR
from restore.options import load
from restore.quality import build_quality
from restore.training.objectives import Quality

HERE = Path(__file__).parent
SOFT = "train.distill_opt={type: SoftDistillationLoss}"
DROPOUT = "network_g.drop_rate=0.2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_options):
    """A folder with an option file, images, and a teacher that was trained from them."""
    folder = tmp_path_factory.mktemp("teachers")
    wider = ["network_g.embed_dim=12", "network_g.num_heads=[3]"]
    run(write_options(folder), "name=teacher", "train.total_iter=3", *wider)
    return folder


@pytest.fixture
def learn(folder):
    """A function: train under a name, with overrides; returns the weights and the losses of the log."""
    teacher = f"train.teacher.model={folder}/experiments/teacher/models/net_g_3.pth"

    def learn(name, *overrides, **how):
        quiet = ["logger.print_freq=1", "val=null", "logger.save_best=null", DROPOUT]
        assert run(folder / "train.yml", f"name={name}", teacher, *quiet, *overrides, **how) == 0
        root = folder / "experiments" / name
        rows = [json.loads(line) for line in (root / "history.jsonl").read_text().splitlines()]
        losses = [{key: value for key, value in row.items() if key.startswith("l_")} for row in rows]
        return torch.load(root / "models/net_g_latest.pth", weights_only=True), losses

    return learn


@pytest.fixture
def asked(monkeypatch):
    """How many images the teacher, the network of 12 channels, was given."""
    counts = []
    forward = SwinIR.forward

    def counted(network, x_BCHW):
        if network.conv_first.out_channels == 12:
            counts.append(len(x_BCHW))
        return forward(network, x_BCHW)

    monkeypatch.setattr(SwinIR, "forward", counted)
    return counts


KINDS = {
    "hard": "{type: HardDistillationLoss, loss_weight: 0.5}",
    "soft": "{type: SoftDistillationLoss}",
    "answer": "{type: AnswerLoss, loss: {type: FFTLoss}, loss_weight: 0.5}",
    "feature": "{type: FeatureDistillationLoss, student: conv_after_body, teacher: conv_after_body}",
    "relation": "{type: RelationDistillationLoss, student: layers.0, teacher: conv_after_body}",
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_the_same_with_a_cache_and_without(learn, folder, asked, kind):
    loss, cache = f"train.distill_opt={KINDS[kind]}", f"train.teacher.cache={folder}/cache_{kind}"
    online, losses = learn(f"{kind}_online", loss, "train.teacher.crops=1")
    assert set(losses[0]) == {"l_pix", "l_distill"}
    assert asked.count(2) == 6
    asked.clear()
    filling = learn(f"{kind}_filling", loss, cache, "train.teacher.crops=1")
    assert asked.count(2) in (3, 4)  # five images in batches of two, then again
    asked.clear()
    cached = learn(f"{kind}_cached", loss, cache, "train.teacher.crops=1", "datasets.train.num_worker_per_gpu=1")
    assert asked.count(2) == 0
    assert same(filling, (online, losses))
    assert same(cached, (online, losses))


def test_kinds_stand_beside_each_other_and_the_reference_may_go(learn):
    feature = f"train.feature_distill_opt={KINDS['feature']}"
    _, losses = learn("both", SOFT, feature, "train.pixel_opt=null")
    assert set(losses[0]) == {"l_distill", "l_feature_distill"}


def test_without_references_the_teacher_is_enough(folder, learn):
    alone = "datasets.train={name: alone, type: SingleImageDataset, batch_size_per_gpu: 2, num_worker_per_gpu: 0}"
    views = f"dataset: {{type: SingleImageDataset, dataroot_lq: {folder}/lq}}, views: [{{crop_px: 8}}]"
    with pytest.raises(OptionsError, match=r"SRModel needs lq \(image\); the MultiViewDataset 'alone' gives lq_1"):
        learn("views", SOFT, "train.pixel_opt=null", alone.replace("SingleImageDataset", f"MultiViewDataset, {views}"))
    single = alone.replace("batch_size_per_gpu: 2", f"batch_size_per_gpu: 1, dataroot_lq: {folder}/lq")
    _, losses = learn("alone", SOFT, "train.pixel_opt=null", single)
    assert set(losses[0]) == {"l_distill"}


def test_stopped_and_resumed_is_bit_identical(learn, folder):
    """The head of the features is in the state; the cache knows already what the resumed run asks."""
    options = [f"train.distill_opt={KINDS['feature']}", "train.teacher.crops=2"]
    whole = learn("whole", *options, f"train.teacher.cache={folder}/one")
    learn("parts", *options, f"train.teacher.cache={folder}/other", "train.total_iter=5")
    for path in (folder / "experiments/parts").rglob("*"):
        if path.stem in ("5", "net_g_5", "net_g_latest"):
            path.unlink()
    resumed = learn("parts", *options, f"train.teacher.cache={folder}/other", auto_resume=True)
    assert same(whole[0], resumed[0])
    states = [
        torch.load(folder / f"experiments/{name}/training_states/6.state", weights_only=True)
        for name in ("whole", "parts")
    ]
    assert same(states[0]["restore"]["heads"], states[1]["restore"]["heads"])
    assert set(states[0]["restore"]["heads"]) == {"distill"}


def test_answers_are_shared_and_of_one_network(learn, folder, asked):
    cache = f"train.teacher.cache={folder}/shared"
    learn("first", SOFT, cache)
    (answers,) = (folder / "shared").iterdir()
    about = json.loads((answers / "about.json").read_text())
    assert (about["network"], about["precision"]) == ("SwinIR", "float32")
    assert len(AnswerCache(folder / "shared", answers.name)) == 12  # always new crops
    asked.clear()
    learn("second", SOFT, cache, "network_g.depths=[2]")  # another student with the same crops
    assert asked.count(2) == 0
    learn("third", SOFT, cache, "manual_seed=4")
    assert asked.count(2) == 6
    other = folder / "other_teacher.pth"
    content = torch.load(folder / "experiments/teacher/models/net_g_3.pth", weights_only=True)
    content["params_ema"] = {name: value * 1.01 for name, value in content["params_ema"].items()}
    torch.save(content, other)
    learn("fourth", SOFT, cache, f"train.teacher.model={other}", "train.total_iter=1")
    assert len(list((folder / "shared").iterdir())) == 2


def test_the_teacher_is_what_it_is_in_a_training_of_another_arithmetic(learn, folder):
    learn("half", SOFT, f"train.teacher.cache={folder}/half", "train.precision=bf16", "train.total_iter=1")
    (answers,) = (folder / "half").iterdir()
    assert answers.name.endswith("-bfloat16")


def test_a_teacher_answers_in_its_own_range(folder, learn, monkeypatch):
    """The images that reach the teacher are those of the batch, and its answers those of its restorer."""
    from restore import load_model
    from restore.training.lessons import Lessons

    seen = []
    ask = Lessons._ask

    def watch(lessons, inputs):
        found = ask(lessons, inputs)
        seen.append((inputs[0], found["answer"]))
        return found

    monkeypatch.setattr(Lessons, "_ask", watch)
    learn("range", SOFT, "train.total_iter=1")
    restorer = load_model(folder / "experiments/teacher/models/net_g_3.pth", device="cpu", precision="fp32")
    inputs, answer = seen[0]
    torch.testing.assert_close(restorer(inputs), answer.float(), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("overrides", "path", "message"),
    [
        (["train.teacher=null"], "train.distill_opt", "SoftDistillationLoss compares with a teacher: name one"),
        (["train.distill_opt=null"], "train.distill_opt", "missing: how the network is compared with its teacher"),
        (["train.mixing_augs={mixup: true}", "train.teacher.cache=x"], "train.teacher.cache", "blended afterwards"),
        (["train.distill_opt.temprature=2"], "train.distill_opt.temprature", "Did you mean 'temperature'"),
        (["train.teacher.modell=x"], "train.teacher.modell", "Did you mean 'model'"),
        (["model_type=EDTModel"], "train.teacher", "does not learn from a teacher. Those that do: "),
        (["train.distill_opt={type: L1Loss}"], "train.distill_opt", "missing: how the network is compared"),
    ],
)
def test_mistakes_are_named_when_the_file_is_read(folder, overrides, path, message):
    with pytest.raises(OptionsError) as raised:
        load(folder / "train.yml", ["train.teacher.model=swinir_light_x4", SOFT, *overrides], is_train=True)
    assert any(problem.path == path and message in problem.message for problem in raised.value.problems)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["train.teacher.model=swinir_light_x4"],
            r"train\.teacher\.model: it enlarges 4 times, and network_g enl",
        ),
        (
            [f"train.distill_opt={KINDS['feature'].replace('student: conv_after_body', 'student: conv_after')}"],
            r"train\.distill_opt\.student: SwinIR has no module 'conv_after'\. Did you mean 'conv_after_body'",
        ),
        (
            [f"train.distill_opt={KINDS['feature'].replace('teacher: conv_after_body', 'teacher: layers.0.norm')}"],
            r"train\.distill_opt\.teacher: SwinIR has no module",
        ),
    ],
)
def test_teachers_that_do_not_fit(learn, overrides, message):
    with pytest.raises(OptionsError, match=message):
        learn("unfit", SOFT, *overrides)


@pytest.mark.slow
def test_several_processes_fill_and_read_a_cache(folder):
    teacher = f"train.teacher.model={folder}/experiments/teacher/models/net_g_3.pth train.teacher.crops=1"
    loss = "train.distill_opt.type=SoftDistillationLoss val=null logger.save_best=null"
    cache = f"train.teacher.cache={folder}/many"
    runs = [
        f"--set name=two_online {teacher} {loss}",
        f"--set name=two_filling {teacher} {loss} {cache}",
        f"--set name=two_cached {teacher} {loss} {cache}",
    ]
    command = [sys.executable, str(HERE / "forked_training.py"), "2", str(folder / "train.yml")]
    done = subprocess.run([*command, *" -- ".join(runs).split()], cwd=HERE.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (answers,) = (folder / "many").iterdir()
    assert {path.name for path in answers.glob("*.sqlite")} == {"0.sqlite", "1.sqlite"}
    online, *others = (
        torch.load(folder / f"experiments/{name}/models/net_g_6.pth", weights_only=True)
        for name in ("two_online", "two_filling", "two_cached")
    )
    assert all(same(online, each) for each in others)


SMALL = {"encoder": "convnext_atto", "width": 8, "num_heads": 2, "ffn_width": 8}
IQT = {"type": "IQT", "head_width": 8, "input_px": 32, **SMALL}
TRIQ = {"type": "TRIQ", **SMALL}


@pytest.fixture
def judges(tmp_path):
    """A folder with photographs and the weights of two quality models."""
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 22, 3), dtype=np.uint8)
        write_image(tmp_path / "photos" / f"{seed}.png", pixels.repeat(2, 0).repeat(2, 1))
    for name, block in (("iqt", IQT), ("triq", TRIQ)):
        torch.manual_seed(1)
        torch.save({"params": build_quality(block).state_dict(), "network": block}, tmp_path / f"{name}.pth")
    return tmp_path


@pytest.mark.parametrize("loss", ["HardDistillationLoss", "SoftDistillationLoss"])
@pytest.mark.parametrize(("student", "teacher"), [(TRIQ, "iqt"), (IQT, "triq"), (TRIQ, "triq")], ids=str)
def test_judges_learn_from_judges(judges, student, teacher, loss, capsys):
    if student is IQT and loss.startswith("Hard"):
        pytest.skip("as soft, but for rounding")
    ladder = {"type": "SyntheticQualityDataset", "dataroot_gt": str(judges / "photos"), "kinds": ["noise"]}
    options = {
        "name": "judge",
        "model_type": "QualityModel",
        "num_gpu": 0,
        "manual_seed": 0,
        "datasets": {
            "train": {
                **ladder,
                "name": "l",
                "num_levels": 2,
                "crop_px": 32,
                "batch_size_per_gpu": 2,
                "num_worker_per_gpu": 0,
            }
        },
        "network_g": student,
        "path": {"experiments_root": str(judges / "experiments")},
        "train": {
            "total_iter": 2,
            "optim_g": {"type": "Adam", "lr": 1e-3},
            "teacher": {"model": str(judges / f"{teacher}.pth"), "cache": str(judges / "answers"), "crops": 1},
            "distill_opt": {"type": loss},
        },
        "logger": {"print_freq": 1},
    }
    path = judges / "judge.yml"
    path.write_text(yaml.safe_dump(options))
    assert main(["train", "-opt", str(path)]) == 0, capsys.readouterr().err
    rows = [json.loads(line) for line in (judges / "experiments/judge/history.jsonl").read_text().splitlines()]
    assert all(row["l_distill"] > 0 for row in rows)


def test_opinions_and_levels_of_a_teacher():
    """A teacher without doubts about the third level; one with a reference for a model without."""
    opinion = torch.tensor([0.5, 0.0])
    shares = level_logits(opinion).softmax(1)
    assert shares.argmax(1).tolist() == [2, 0]
    torch.testing.assert_close(shares[0], shares[0].flip(0))
    teacher, student = build_quality(IQT), build_quality(TRIQ)
    objective = Quality({"g": student}, {"distill_opt": {"type": "SoftDistillationLoss"}}, frozen={"teacher": teacher})
    assert objective.needs == {"image": "image", "reference": "image"}
    assert not any(module.training for module in objective.train().frozen["teacher"].modules())
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(objective.taught(images, images), level_logits(teacher(images, images)))
    assert isinstance(objective.heads, nn.ModuleDict)

"""Quality models go through the same option files, trainer and test command as restoration networks."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from restore.assembly.trainings import train
from restore.cli import main
from restore.data.ratings.opinions import distribution_about
from restore.errors import DataError, OptionsError
from restore.images import write_image
from restore.losses.opinion import OpinionLoss
from restore.networks.checkpoint import read_state_dict
from restore.options import load
from restore.quality import build_quality, load_quality
from restore.training.objectives import Quality

OPTIONS = Path(__file__).parents[2] / "options"
ENCODER = {"type": "conv_pyramid", "widths": [4, 8]}
SMALL = {"encoder": ENCODER, "num_layers": 1, "width": 8, "num_heads": 2, "ffn_width": 8, "dropout": 0.0}
MODELS = {
    "IQT": {"type": "IQT", **SMALL, "head_width": 8, "input_px": 16, "num_crops": 2, "freeze_encoder": False},
    "TRIQ": {"type": "TRIQ", **SMALL, "grid": [3, 4]},
}
LOSSES = {"IQT": "MSELoss", "TRIQ": "OpinionLoss"}


@pytest.fixture
def option_file(tmp_path, request):
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 256, (12, 14, 3), dtype=np.uint8)
        write_image(tmp_path / "photos" / f"{seed}.png", pixels.repeat(2, 0).repeat(2, 1))
    ladder = {
        "name": "ladder",
        "type": "SyntheticQualityDataset",
        "dataroot_gt": str(tmp_path / "photos"),
        "kinds": ["noise"],
        "num_levels": 2,
    }
    name = request.param
    options = {
        "name": "tiny",
        "model_type": "QualityModel",
        "num_gpu": 0,
        "manual_seed": 0,
        "datasets": {
            "train": {**ladder, "crop_px": 16, "batch_size_per_gpu": 6, "num_worker_per_gpu": 0},
            "val": {**ladder, "name": "between", "between": True},
        },
        "network_g": MODELS[name],
        "path": {"experiments_root": str(tmp_path / "experiments"), "results_root": str(tmp_path / "results")},
        "train": {
            "total_iter": 4,
            "ema_decay": 0.5,
            "optim_g": {"type": "Adam", "lr": 1e-3},
            "quality_opt": {"type": LOSSES[name]},
        },
        "val": {"val_freq": 2},
        "logger": {"save_checkpoint_freq": 2, "save_best": "srcc", "print_freq": 2},
    }
    path = tmp_path / "tiny.yml"
    path.write_text(yaml.safe_dump(options))
    return path


@pytest.mark.parametrize("option_file", MODELS, indirect=True)
def test_training_validation_and_test(option_file, tmp_path, caplog):
    caplog.set_level(logging.INFO, "restore")
    assert train(load(option_file, is_train=True)) == 0
    assert "between/srcc" in caplog.text
    assert "between/rmse" in caplog.text
    (weights,) = tmp_path.rglob("net_g_latest.pth")
    assert list(tmp_path.rglob("net_g_best*.pth"))
    trained = load_quality(weights)
    assert type(trained).__name__ == yaml.safe_load(option_file.read_text())["network_g"]["type"]
    ours = read_state_dict(weights)
    assert all(torch.equal(value, ours[key]) for key, value in trained.state_dict().items())
    assert main(["test", "-opt", str(option_file), "--set", f"path.pretrain_network_g={weights}"]) == 0
    (results,) = tmp_path.rglob("results.json")
    found = json.loads(results.read_text())["datasets"]["between"]
    assert found["num_images"] == 4
    assert set(found["none"]) == {"srcc", "plcc", "krcc", "rmse"}
    report = results.with_name("report.html").read_text()
    assert report.count("<circle") == 4
    assert len(results.with_name("scores.csv").read_text().splitlines()) == 5


@pytest.mark.parametrize("option_file", ["TRIQ"], indirect=True)
def test_too_few_rated_images_to_validate_on_are_told_before_training(option_file, tmp_path, capsys):
    (tmp_path / "photos/1.png").unlink()
    few = [f"datasets.val.{key}" for key in ("between=false", "num_levels=1")]
    assert main(["train", "-opt", str(option_file), "--set", *few]) == 2
    said = capsys.readouterr().err
    assert "datasets.val: 2 images: correlations with opinions need at least 3" in said
    assert not (tmp_path / "experiments").exists()


def test_two_phases_with_groups_of_sizes(tmp_path, monkeypatch):
    """The published schedule of TRIQ, from its own option files: two sizes of each image, batches of one size."""
    lines = []
    for index in range(20):
        pixels = np.random.default_rng(index).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        write_image(tmp_path / "koniq10k" / "512x384" / f"{index}.jpg", pixels)
        votes = [0] * 5
        votes[index % 5] = 10
        lines.append(f'"{index}.jpg",{",".join(map(str, votes))},10,{index % 5 + 1}.0,0.3,10')
    header = '"image_name","c1","c2","c3","c4","c5","c_total","MOS","SD","MOS_zscore"'
    (tmp_path / "koniq10k" / "koniq10k_scores_and_distributions.csv").write_text("\n".join([header, *lines]))
    small = [
        "num_gpu=0",
        *(f"datasets.{part}.dataroot={tmp_path / 'koniq10k'}" for part in ("train", "val")),
        "datasets.train.format=koniq10k",
        "datasets.train.batch_size_per_gpu=2",
        "datasets.train.num_worker_per_gpu=0",
        f"network_g={json.dumps(MODELS['TRIQ'])}",
        "train.total_iter=8",
        "val.val_freq=4",
        "logger.save_checkpoint_freq=4",
        f"path.experiments_root={tmp_path / 'experiments'}",
    ]
    sizes = []
    losses = Quality.losses

    def watched(self, batch, turn="g"):
        sizes.append(tuple(batch["image"].shape[1:]))
        return losses(self, batch, turn)

    monkeypatch.setattr(Quality, "losses", watched)
    assert train(load(OPTIONS / "train_triq_koniq10k.yml", [*small, "logger.save_best=rmse"], is_train=True)) == 0
    assert set(sizes) == {(3, 24, 32), (3, 12, 16)}
    best = tmp_path / "experiments" / "triq_koniq10k" / "models" / "net_g_best.pth"
    second = [*small, f"path.pretrain_network_g={best}", "logger.save_best=rmse"]
    assert train(load(OPTIONS / "train_triq_koniq10k_phase2.yml", second, is_train=True)) == 0
    before = read_state_dict(best)
    after = read_state_dict(tmp_path / "experiments" / "triq_koniq10k_phase2" / "models" / "net_g_latest.pth")
    moved = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert 0 < moved < 1e-4  # eight steps of 1e-6 at most


@pytest.mark.parametrize("option_file", ["IQT"], indirect=True)
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("network_g={type: IQT, witdh: 8}", "network_g.witdh: unknown option of IQT. Did you mean 'width'"),
        ("network_g={type: SwinIR}", "unknown quality model 'SwinIR'"),
        ("train.quality_opt=null", "quality_opt: missing"),
        ("datasets.train.crop=9", "unknown option of SyntheticQualityDataset"),
    ],
)
def test_mistakes_in_options(option_file, override, message):
    with pytest.raises(OptionsError, match=message):
        train(load(option_file, overrides=[override], is_train=True))


def test_models_with_a_reference_say_so():
    objective = Quality({"g": build_quality(MODELS["IQT"])}, {"quality_opt": {"type": "MSELoss"}})
    with pytest.raises(DataError, match="IQT needs references"):
        objective.losses({"image": torch.rand(1, 3, 16, 16), "opinion": torch.tensor([0.5])})


def test_opinion_loss_is_least_at_the_opinions():
    shares = torch.tensor([[1.0, 2.0, 1.0, 0.0, 0.0]])
    loss = OpinionLoss(loss_weight=2.0)
    best = loss((shares / 4).clamp(min=1e-9).log(), shares)
    torch.testing.assert_close(best, 2 * torch.tensor(0.5 * np.log(4) + 0.5 * np.log(2), dtype=torch.float32))
    assert loss(torch.zeros(1, 5), shares) > best


@pytest.mark.parametrize("name", MODELS)
def test_a_model_learns_an_ordering(name):
    torch.manual_seed(0)
    block = {**MODELS[name], "input_px": 16} if name == "IQT" else MODELS[name]
    objective = Quality({"g": build_quality(block)}, {"quality_opt": {"type": LOSSES[name]}})
    optimizer = torch.optim.Adam(objective.parameters(), lr=3e-3)
    draw = torch.Generator().manual_seed(0)
    reference = torch.rand(1, 3, 16, 16, generator=draw).expand(8, -1, -1, -1) * 0.5 + 0.25
    severity = torch.linspace(0, 1, 8)
    batch = {
        "reference": reference,
        "opinion": 1 - severity,
        "distribution": torch.stack([torch.from_numpy(distribution_about(1 - value)) for value in severity.tolist()]),
    }
    for _ in range(60):
        noise = torch.randn(8, 3, 16, 16, generator=draw) * 0.3
        batch["image"] = reference + severity.view(-1, 1, 1, 1) * noise
        sum(objective.losses(batch, "g").values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    model = objective.networks["g"]
    scores = model.judge(batch["image"], reference)
    assert np.corrcoef(scores.numpy(), 1 - severity.numpy())[0, 1] > 0.9

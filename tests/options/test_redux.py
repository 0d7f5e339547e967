"""Option files of traiNNer-redux mean here what they mean there, or say what cannot be had."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from restore.errors import OptionsError
from restore.images import write_image
from restore.options import load
from restore.options.redux import keys, names, translate
from restore.options.redux.networks import NETWORKS
from restore.options.tree import Origin, Tree
from restore.registry import DATASETS, DISCRIMINATORS, LOSSES, OPTIMIZERS, SCHEDULERS
from restore.registry import NETWORKS as KINDS

ROOT = Path(__file__).parents[2]

PAIRED = """
name: little
scale: 2
num_gpu: 0
datasets:
  train:
    {name: pairs, type: pairedimagedataset, dataroot_gt: [gt], dataroot_lq: [lq], lq_size: 16,
     batch_size_per_gpu: 2, num_worker_per_gpu: 0, accum_iter: 3, prefetch_factor: 2}
  val: {name: whole, type: PairedImageDataset, dataroot_gt: gt, dataroot_lq: lq}
network_g: {type: SuperUltraCompact, num_feat: 8}
path: {strict_load_g: true}
train:
  ema_decay: 0.99
  grad_clip: true
  optim_g: {type: adamw, lr: !!float 2e-4, betas: [0.9, 0.99]}
  scheduler: {type: multisteplr, milestones: [2], gamma: 0.5}
  total_iter: 3
  losses:
    - {type: CharbonnierLoss, loss_weight: 0.5}
    - {type: psnrloss, loss_weight: 1, to_y: true}
    - {type: cosimloss, loss_weight: 0}
val:
  {val_enabled: true, val_freq: 3, save_img: false, tile_size: 0, metrics_enabled: true,
   metrics: {psnr: {type: calculate_psnr, crop_border: 2}}}
logger: {print_freq: 1, save_checkpoint_freq: 3, save_checkpoint_format: safetensors, use_tb_logger: false}
"""


def changed(tmp_path, *changes):
    """The options of the file above with other values: (dotted path, value), None taking it out."""
    values = yaml.safe_load(PAIRED)
    for path, value in changes:
        block = values
        *before, last = path.split(".")
        for key in before:
            block = block.setdefault(key, {})
        if value is None:
            block.pop(last, None)
        else:
            block[last] = value
    (tmp_path / "file.yml").write_text(yaml.safe_dump(values))
    return load(tmp_path / "file.yml")


def refusal(tmp_path, *changes):
    with pytest.raises(OptionsError) as caught:
        changed(tmp_path, *changes)
    return str(caught.value)


def test_a_whole_file(tmp_path):
    (tmp_path / "file.yml").write_text(PAIRED)
    options = load(tmp_path / "file.yml")
    assert options.model_type == "SRModel"
    assert options.network_g == {"type": "SRVGGNetCompact", "num_feat": 8, "num_conv": 8, "upscale": 2}
    train, data = options.train, options.datasets["train"]
    assert train.losses() == {
        "charbonnier_opt": {"type": "CharbonnierLoss", "loss_weight": 0.5},
        "psnr_opt": {"type": "PSNRLoss", "loss_weight": 1, "toY": True},
    }
    assert (train.accumulate, train.clip_norm, train.ema_decay, train.ema_power) == (3, 100.0, 0.99, 10)
    assert train.optim_g == {"type": "AdamW", "lr": 2e-4, "betas": [0.9, 0.99]}
    assert train.scheduler == {"type": "MultiStepLR", "milestones": [2], "gamma": 0.5}
    assert (data.type, data.gt_size, data.use_hflip, data.use_rot) == ("PairedImageDataset", 32, True, True)
    assert options.datasets["val"].type == "PairedImageDataset"
    assert options.val.val_freq == 3
    assert options.val.pbar
    assert options.val.metrics["psnr"] == {"type": "calculate_psnr", "crop_border": 2}
    assert options.path.param_key_g is None
    assert options.runtime.tile is None
    assert options.runtime.precision == train.precision == "fp32"
    assert load(tmp_path / "file.yml").dump() == options.dump()


def test_the_resolved_file_says_the_same_in_our_words(tmp_path):
    options = changed(tmp_path)
    (tmp_path / "again.yml").write_text(options.dump())
    assert load(tmp_path / "again.yml") == options


def test_names_in_any_case(tmp_path):
    plain = changed(tmp_path).resolved()
    assert changed(tmp_path, ("network_g.type", "SUPERULTRACOMPACT")).resolved() == plain
    assert changed(tmp_path, ("train.optim_g.type", "AdamW")).resolved() == plain
    assert changed(tmp_path, ("datasets.train.type", "PairedImageDataset")).resolved() == plain
    assert changed(tmp_path, ("val.metrics.psnr.type", "Calculate_PSNR")).resolved() == plain


def test_mixed_precision(tmp_path):
    on = ("use_amp", True)
    for changes, wanted in (
        ([on], "fp16"),
        ([on, ("amp_bf16", True)], "bf16"),
        ([("amp_bf16", True)], "fp32"),
        ([on, ("network_g", {"type": "swinir_s"})], "bf16"),  # which overflows
    ):
        options = changed(tmp_path, *changes)
        assert options.train.precision == options.runtime.precision == wanted
    assert changed(tmp_path, on).train.channels_last is True
    assert changed(tmp_path, on, ("use_channels_last", False)).train.channels_last is False
    assert changed(tmp_path).train.channels_last is None
    options = changed(tmp_path, ("fast_matmul", True), ("use_compile", True), ("compile_mode", "max-autotune"))
    assert options.train.tf32
    assert options.train.compile
    assert options.runtime.compile


def test_validation_that_is_off(tmp_path):
    options = changed(tmp_path, ("val.val_enabled", False), ("val.metrics_enabled", False))
    assert options.val.val_freq is None
    assert options.val.metrics == {}
    options = changed(tmp_path, ("val.tile_size", 64), ("val.tile_overlap", 8))
    assert (options.runtime.tile, options.runtime.tile_overlap) == (64, 8)


def test_an_average_that_is_off_has_no_power(tmp_path):
    assert changed(tmp_path, ("train.ema_decay", 0)).train.ema_decay == 0
    assert changed(tmp_path, ("train.ema_power", 0.75)).train.ema_power == 0.75


def test_older_losses(tmp_path):
    options = changed(
        tmp_path,
        ("train.losses", None),
        ("train.pixel_opt", {"type": "L1Loss", "loss_weight": 2.0}),
        ("train.mssim_opt", {"type": "mssimloss", "loss_weight": 0.1, "is_prod": True}),
    )
    assert options.train.losses() == {
        "l1_opt": {"type": "L1Loss", "loss_weight": 2.0},
        "mssim_opt": {"type": "MSSIMLoss", "loss_weight": 0.1},
    }


ADVERSARIAL = [
    ("network_d", {"type": "DUnet", "num_feat": 8}),
    ("train.optim_d", {"type": "AdamW", "lr": 1e-4}),
    (
        "train.losses",
        [
            {"type": "ganloss", "loss_weight": 0.1},
            {"type": "hsluvloss", "loss_weight": 1.0, "criterion": "charbonnier"},
        ],
    ),
]
DEGRADED = [
    ("high_order_degradation", True),
    ("jpeg_range", [30, 40]),
    ("resize_mode_list", ["nearest-exact", "area"]),
    ("resize_mode_prob", [1, 3]),
    ("blur_prob2", 0.5),
    ("datasets.train.type", "realesrgandataset"),
    ("datasets.train.dataroot_lq", None),
    ("datasets.train.blur_kernel_size", 12),
]


def test_adversarial_training(tmp_path):
    pytest.importorskip("spandrel")
    options = changed(tmp_path, *ADVERSARIAL)
    assert options.model_type == "SRGANModel"
    assert options.network_d["type"] == "DUnet"
    assert options.train.losses() == {
        "gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1},
        "hsluv_opt": {"type": "HSLuvLoss", "loss_weight": 1.0, "criterion": "charbonnier"},
    }
    assert changed(tmp_path, *ADVERSARIAL, *DEGRADED).model_type == "RealESRGANModel"


def test_a_discriminator_without_its_loss_is_left_out(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        options = changed(tmp_path, *ADVERSARIAL[:2])
    assert options.network_d is None
    assert options.train.optim_d is None
    assert "network_d: no effect without a ganloss, as there" in caplog.text


def test_perceptual_loss(tmp_path):
    block = {"type": "perceptualloss", "loss_weight": 0.01}
    assert changed(tmp_path, ("train.losses", [block])).train.losses()["perceptual_opt"] == {
        "type": "PerceptualLoss",
        "perceptual_weight": 0.01,
        "layer_weights": {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1, "conv4_4": 1, "conv5_4": 1},
        "criterion": "charbonnier",
        "padding": "replicate",
        "float32": True,
    }
    block["type"] = "PerceptualFP16Loss"
    assert "float32" not in changed(tmp_path, ("train.losses", [block])).train.losses()["perceptual_opt"]


def test_degradation(tmp_path):
    options = changed(tmp_path, *DEGRADED)
    assert options.model_type == "RealESRNetModel"
    assert (options.gt_usm, options.lq_usm, options.l1_gt_usm) == (False, False, False)
    assert (options.jpeg_range, options.jpeg_range2, options.second_blur_prob) == ((30, 40), (75, 95), 0.5)
    assert (options.blur_prob, options.queue_size, options.noise_range) == (0, 120, (0, 0))
    assert options.resize_mode_list == ["nearest_exact", "area"]
    assert options.resize_mode_list3 == ["antialiased_bilinear", "antialiased_bicubic", "nearest_exact", "lanczos"]
    arguments = options.datasets["train"].block
    assert (arguments["gt_size"], arguments["crop_pad_size"], arguments["kernel_range"]) == (32, 64, [5, 17])
    without = changed(tmp_path, ("jpeg_range", [30, 40]), ("datasets.train.sinc_prob", 0.5), ("thicklines_prob", 0.2))
    assert without.jpeg_range is None
    assert without == changed(tmp_path)


REFUSED = {
    "input_pixel_format": ("yuv444", "'yuv444' cannot be had here. The network saw images in this format"),
    "network_g_teacher": ({"type": "compact"}, "Write train.teacher: {model: FILE}"),
    "network_ae": ({"type": "autoencoder"}, "an autoencoder there"),
    "path.pretrain_network_g_ema": ("x.pth", "begins with path.pretrain_network_g"),
    "path.pretrain_network_ae_decoder": ("x.pth", "of an autoencoder there"),
    "train.adaptive_d": (True, "Write false and a smaller lr"),
    "train.eco": ({"enabled": True}, "train.eco.enabled: True cannot be had here. Targets were mixed"),
    "train.ema_switch_iter": (5, "train.ema_switch_iter: 5 cannot be had here"),
    "train.ema_update_after_step": (5, "Write 0"),
    "train.restart_scheduler": (True, "rates follow from the iteration"),
    "train.use_moa": (True, "Write false and train.mixing_augs"),
    "datasets.train.lq_resize_mode": ("area", "Write type: DownsampledImageDataset"),
    "datasets.val.color": ("y", "Pairs were of all colours there"),
    "train.scheduler.type": ("onecyclelr", "'onecyclelr' cannot be had here: it was torch's. Write one of MultiStepLR"),
    "use_amp": ("perhaps", "use_amp: must be true or false; given: 'perhaps'"),
    "datasets.train.lq_size": ("many", "must be a whole number of pixels, such as 64; given: 'many'"),
    "val.tile_seize": (3, "val.tile_seize: unknown option"),
    "network_g.learn_residual": (False, "network_g.learn_residual: False cannot be had here. Write True"),
}

ALONE = {
    "train.losses": ("l1loss", "train.losses: must be a list of blocks, such as {type: charbonnierloss"),
    "datasets.train.gt_size": (32, "datasets.train.lq_size: gt_size is there as well"),
    "network_g.colour": (3, "network_g.colour: "),
    "network_g.type": ("superultracompakt", "unknown network 'superultracompakt'"),
    "scale": (None, "scale: missing: how many times larger"),
}


def test_refusals(tmp_path):
    said = refusal(tmp_path, *((path, value) for path, (value, _) in REFUSED.items()))
    assert [message for _, message in REFUSED.values() if message not in said] == []


@pytest.mark.parametrize("path", ALONE)
def test_refusals_that_stand_alone(tmp_path, path):
    value, message = ALONE[path]
    assert message in refusal(tmp_path, (path, value))


LOSS_MISTAKES = [
    ({"type": "l1los", "loss_weight": 1}, ".type: unknown loss 'l1los'. Did you mean 'l1loss'"),
    ({"type": "cosimloss", "loss_weight": 1}, ".type: 'cosimloss' is not here."),
    ({"type": "DISTSLoss", "loss_weight": 1}, ".type: 'DISTSLoss' is not here. DISTSLoss here clips images"),
    ({"type": "ldlloss", "loss_weight": 1, "criterion": "l2"}, ".criterion: 'l2' cannot be had here. Leave it out"),
    ({"type": "mseloss"}, ".loss_weight: must be a number"),
    (
        {"type": "mseloss", "loss_weight": "much"},
        ".loss_weight: must be a number, the factor of the loss; given: 'much'",
    ),
    ({"type": "mseloss", "loss_weight": -1.0}, ".loss_weight: -1.0: a weight below 0 compared with the enlarged input"),
    ({"loss_weight": 1}, ": must be a block such as"),
    ("l1loss", ": must be a block such as"),
    ({"type": "mssimloss", "loss_weight": 1, "color_space": "lhm"}, ".color_space: 'lhm' cannot be had here"),
    ({"type": "charbonnierloss", "loss_weight": 1}, ""),
    ({"type": "CharbonnierLoss", "loss_weight": 1}, ": 'charbonnierloss' is at train.losses.10, too"),
]


def test_losses_that_are_refused(tmp_path):
    said = refusal(tmp_path, ("train.losses", [block for block, _ in LOSS_MISTAKES]))
    wanted = [f"train.losses.{number}{message}" for number, (_, message) in enumerate(LOSS_MISTAKES) if message]
    assert [each for each in wanted if each not in said] == []
    assert "train.l1_opt.colour" in refusal(
        tmp_path, ("train.losses", [{"type": "l1loss", "loss_weight": 1, "colour": 2}])
    )


def test_every_mistake_at_once_with_its_line(tmp_path):
    text = PAIRED.replace("lq_size: 16", "lq_size: 0").replace("CharbonnierLoss", "charbonnyloss")
    text = text.replace("print_freq: 1", "print_freq: no").replace("num_feat: 8", "num_feat: x")
    (tmp_path / "file.yml").write_text(text)
    with pytest.raises(OptionsError) as caught:
        load(tmp_path / "file.yml")
    found = {problem.path: problem.line for problem in caught.value.problems}
    lines = text.splitlines()
    for path, words in (
        ("datasets.train.lq_size", "lq_size"),
        ("train.losses.0.type", "charbonnyloss"),
        ("logger.print_freq", "print_freq"),
        ("network_g.num_feat", "num_feat"),
    ):
        assert words in lines[found[path] - 1]


def test_a_network_that_is_not_here_is_named_once(tmp_path):
    for name in ("RTMoSR_L", "spanplus"):
        said = refusal(tmp_path, ("network_g", {"type": name, "dim": 3}))
        assert f"{name.lower()} is not part of this package" in said
        assert said.count("network_g") == 1


def test_a_scale_that_a_network_does_not_have_here(tmp_path):
    pytest.importorskip("spandrel")
    said = refusal(tmp_path, ("scale", 8), ("network_g", {"type": "realcugan"}))
    assert "scale: 'realcugan' is of scale 2, 3, 4 here; given: 8" in said
    assert changed(tmp_path, ("scale", 3), ("network_g", {"type": "realcugan"})).network_g["type"] == "UpCunet3x"


def test_our_keys_go_first(tmp_path):
    (tmp_path / "theirs.yml").write_text(f"use_amp: true\n{PAIRED}")
    ours = "extends: theirs.yml\nruntime: {tile: 96}\ntrain: {precision: fp32, mse_opt: {type: MSELoss}}\n"
    (tmp_path / "file.yml").write_text(ours)
    options = load(tmp_path / "file.yml", ["train.clip_norm=1.5"])
    assert (options.runtime.tile, options.runtime.precision, options.train.precision) == (96, "fp16", "fp32")
    assert options.train.clip_norm == 1.5
    assert "mse_opt" in options.train.losses()


def test_files_for_export(tmp_path, caplog):
    text = "name: out\nscale: 4\nnum_gpu: auto\nnetwork_g: {type: compact}\npath: {pretrain_network_g: net.pth}\n"
    (tmp_path / "file.yml").write_text(f"{text}onnx: {{dtype: fp16}}\n")
    with caplog.at_level(logging.INFO):
        options = load(tmp_path / "file.yml")
    assert options.network_g == {"type": "SRVGGNetCompact", "upscale": 4}
    assert not options.is_train
    assert re.search(r"file.yml:6: onnx: no effect here: `restore export` writes ONNX files", caplog.text)


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "file.yml").write_text("name: a\nscale: 2\nnetwork_g: {type: SwinIR, upscale: 2}\nuse_amp: true\n"
                                       "path: {pretrain_network_g: net.pth}\n")  # fmt: skip
    options = load(tmp_path / "file.yml")
    assert options.runtime.tile == "auto"
    assert options.path.param_key_g == "params"


def test_the_tables_name_what_there_is():
    for table, registry in (
        (names.DATASETS, DATASETS),
        (names.DISCRIMINATORS, DISCRIMINATORS),
        (names.SCHEDULERS, SCHEDULERS),
        ({key: name for key, name in names.OPTIMIZERS.items() if key in ("adam", "adamw", "nadam")}, OPTIMIZERS),
    ):
        assert all(name in registry and key == key.lower() for key, name in table.items())
    assert all(loss.type in LOSSES for loss in names.LOSSES.values())
    assert not set(keys.DEGRADATION) & set(keys.OF_DEGRADATION)


def test_every_preset_has_arguments_of_its_network():
    pytest.importorskip("spandrel")
    for name, preset in NETWORKS.items():
        scale = (preset.scales or tuple(preset.by_scale) or (4,))[-1]
        values = {"scale": scale, "onnx": {}, "network_g": {"type": name.upper()}}
        assert translate(Tree(values, {(): Origin("file.yml")})) == []
        block = values["network_g"]
        assert block["type"] in (preset.type, *preset.by_scale.values())
        if block["type"] in KINDS:  # one is of a package of its own
            assert KINDS.check(block, "network_g") == [], name


def test_training_through_the_command_line(tmp_path):
    random = np.random.default_rng(0)
    for folder, side in (("gt", 64), ("lq", 32)):
        for number in range(2):
            pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
            write_image(tmp_path / folder / f"{number}.png", pixels)
    (tmp_path / "file.yml").write_text(PAIRED)
    command = [sys.executable, "-m", "restore"]
    done = subprocess.run([*command, "options", "check", "file.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*command, "options", "explain", "file.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert re.search(r"ema_power +10(\.0)? .*left out there", done.stdout)
    assert re.search(r"gt_size +32 .*line 7", done.stdout)
    done = subprocess.run([*command, "train", "-opt", "file.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    history = (tmp_path / "experiments/little/history.jsonl").read_text().splitlines()
    rows = [row for row in map(yaml.safe_load, history) if "l_charbonnier" in row]
    assert len(rows) == 3
    assert all({"l_charbonnier", "l_psnr", "lr"} <= set(row) for row in rows)
    assert (tmp_path / "experiments/little/models/net_g_3.pth").is_file()

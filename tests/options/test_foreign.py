"""What other repositories write is answered with what to write here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from restore.errors import OptionsError
from restore.options import load
from restore.options.foreign import _KEYS
from restore.registry import METRICS, NETWORKS, OBJECTIVES

ROOT = Path(__file__).parents[2]
FILE = """
name: demo
scale: 4
network_g: {type: SwinIR, upscale: 4}
path: {pretrain_network_g: net.pth}
"""

KEYS = {
    "val: {tile_size: 0}": "val.tile_size: unknown option. Here it is runtime.tile. It is a key of traiNNer-redux",
    "amp_bf16: true": "amp_bf16: unknown option. Here it is train.precision. .* are told by one of val.val_enabled",
    "network_h: {type: RCAN, use_pa: true}": "network_h.use_pa: .*Leave it out",
    "use_channels_last: true": "use_channels_last: .*Here it is train.channels_last",
    "train: {total_iter: 5, grad_clip: true}": "train.grad_clip: .*Here it is train.clip_norm",
    "train: {total_iter: 5, moa_probs: [1]}": "train.moa_probs: unknown option. It is a key of traiNNer-redux",
    "datasets: {test: {name: a, type: PairedImageDataset, dataroot_gt: a, dataroot_lq: b, noise: 25}}":
        "datasets.test.noise: .*GaussianNoiseDataset and sigma",
    "network_h: {type: RCAN, use_checkpoint: true}": "network_h.use_checkpoint: .*activation_checkpointing: true",
    "train_dataset: {dataset: {}}": "train_dataset: .*Write datasets.train: .*DownsampledImageDataset",
    "test_dataset: 1": "test_dataset: .*Write datasets.test: ",
    "model: {name: liif}": "model: unknown option. Write network_g: ",
    "optimizer: {name: adam}": "optimizer: unknown option. Write train.optim_g: ",
    "epoch_max: 1000": "epoch_max: .*Write train.total_iter",
    "eval_type: div2k-4": "eval_type: .*of one scale",
    "eval_bsize: 30000": "eval_bsize: .*runtime.tile",
    "resume: x.pth": "resume: .*Write path.resume_state",
    "kernel_prob2: [1]": "kernel_prob2: .*write it in datasets.train",
}  # fmt: skip

NAMES = {
    "model_type: FancyIRModel": "Write SRModel",
    "network_h: {type: rcan}": "Write RCAN",
    "network_h: {type: swinir_m}": "Write SwinIR: what makes it 'm' are its arguments",
    "network_h: {type: compact}": "Write SRVGGNetCompact",
    "val: {metrics: {a: {type: calculate_lpips}}}": "Write lpips",
    "val: {metrics: {a: {type: calculate_dists}}}": "Write dists",
    "val: {metrics: {a: {type: calculate_fid}}}": "Write fid",
    "val: {metrics: {a: {type: calculate_topiq}}}": "Write pyiqa:topiq_fr",
    "datasets: {test: {name: a, type: pairedimagedataset}}": "Write PairedImageDataset",
    "datasets: {test: {name: a, type: PairedImageDADataset}}": "Write PairedImageDataset",
}


def mistakes(tmp_path, text):
    (tmp_path / "file.yml").write_text(f"{FILE}{text}\n")
    with pytest.raises(OptionsError) as caught:
        load(tmp_path / "file.yml")
    return str(caught.value)


@pytest.mark.parametrize("text", KEYS)
def test_keys(tmp_path, text):
    assert re.search(KEYS[text], mistakes(tmp_path, text))


@pytest.mark.parametrize("text", NAMES)
def test_names(tmp_path, text):
    assert f"'. {NAMES[text]}" in mistakes(tmp_path, text)


def test_what_is_told_to_be_written_is_known(tmp_path):
    """Every option that an answer names is one."""
    text = " ".join(_KEYS.values())
    for path in re.findall(r"Write ((?:train|runtime|val|logger|path)\.\w+)", text) + re.findall(
        r"(runtime\.\w+)", text
    ):
        section, _, key = path.partition(".")
        (tmp_path / "file.yml").write_text(f"{FILE}\n{section}: {{{key}: [wrong]}}\n")
        with pytest.raises(OptionsError) as caught:
            load(tmp_path / "file.yml")
        assert f"{path}: unknown" not in str(caught.value)
    for registry, names in ((METRICS, ["lpips", "dists", "fid"]), (NETWORKS, ["RRDBNet"]), (OBJECTIVES, ["SRModel"])):
        assert all(name in registry for name in names)


@pytest.mark.parametrize("name", ["DAT", "ATD", "CAT", "ART", "HAT", "RGT", "SRFormer", "SwinFIR", "MambaIR", "HATFIR",
                                  "MambaIRv2", "MambaIRv2Light", "ESR", "HIT"])  # fmt: skip
def test_model_types_of_repositories_are_objectives(name):
    assert OBJECTIVES.get(f"{name}Model") is OBJECTIVES.get("SRModel")
    assert OBJECTIVES.get("RealHATGANModel") is OBJECTIVES.get("RealESRGANModel")


@pytest.mark.parametrize("text", ["print_network: false", "val: {use_chop: true}", "val: {patchwise_testing: false}"])
def test_what_has_no_effect_here_is_taken(tmp_path, text):
    (tmp_path / "file.yml").write_text(f"{FILE}{text}\n")
    assert load(tmp_path / "file.yml").runtime.tile == "auto"


def test_averages_of_flips_under_other_names(tmp_path):
    for text in ("model_type: CATSEModel", "val: {selfensemble_testing: true}"):
        (tmp_path / "file.yml").write_text(f"{FILE}{text}\n")
        assert load(tmp_path / "file.yml").runtime.self_ensemble is True
    for text in ("model_type: CATModel", "val: {selfensemble_testing: false}"):
        (tmp_path / "file.yml").write_text(f"{FILE}{text}\n")
        assert load(tmp_path / "file.yml").runtime.self_ensemble is False
    text = "val: {selfensemble_testing: true}\nruntime: {self_ensemble: false}"
    (tmp_path / "file.yml").write_text(f"{FILE}{text}\n")
    assert load(tmp_path / "file.yml").runtime.self_ensemble is False  # the newer name goes first


def test_mixed_precision_of_a_training(tmp_path):
    text = "datasets: {train: {name: a, type: PairedImageDataset, dataroot_gt: a, dataroot_lq: b, gt_size: 64,"
    text += " batch_size_per_gpu: 1}}"
    text += "\nuse_amp: true\ntrain: {total_iter: 5, optim_g: {type: Adam, lr: 1e-4}, pixel_opt: {type: L1Loss}"
    for more, wanted in (("}", "auto"), (", precision: fp32}", "fp32")):
        (tmp_path / "file.yml").write_text(f"{FILE}{text}{more}\n")
        assert load(tmp_path / "file.yml").train.precision == wanted


@pytest.mark.slow
def test_the_table_of_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/loads.yml").write_text(FILE)
    (tmp_path / "refused.yaml").write_text(f"{FILE}amp_bf16: true\n")
    script = [sys.executable, str(ROOT / "scripts/option_table.py"), str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    assert "| a/loads.yml | loads |" in done.stdout
    assert "| refused.yaml | amp_bf16: unknown option. Here it is train.precision" in done.stdout
    assert done.stderr == "1 of 2 files load\n"
    done = subprocess.run([*script, "--by-message"], capture_output=True, text=True, check=True)
    assert "| 1 | loads | a/loads.yml |" in done.stdout

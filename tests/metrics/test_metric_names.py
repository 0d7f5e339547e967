"""Metrics by name: the registry, BasicSR's names and options, the named protocols."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restore.errors import OptionsError
from restore.metrics import METRICS, PROTOCOLS, protocol, psnr, ssim, traits


def test_basicsr_blocks_run_unchanged(golden, golden_pairs):
    block = {"type": "calculate_psnr", "crop_border": 4, "test_y_channel": True, "better": "higher"}
    for name, pair in golden_pairs.items():
        assert METRICS.bind(block)(*pair) == pytest.approx(golden[name]["psnr_b4_y"], abs=1e-6)
        ssim_block = {**block, "type": "calculate_ssim"}
        assert METRICS.bind(ssim_block)(*pair) == pytest.approx(golden[name]["ssim_b4_y"], abs=1e-6)


def test_basicsr_tensor_metrics(photo, noisy):
    restored, reference = (torch.from_numpy(i / 255).permute(2, 0, 1)[None] for i in (noisy, photo))
    error = (restored - reference).square().mean().item()
    metric = METRICS.bind({"type": "calculate_psnr_pt", "crop_border": 0})
    assert metric(restored, reference).item() == pytest.approx(-10 * np.log10(error + 1e-8), abs=1e-9)
    assert metric(reference, reference).item() == pytest.approx(80, abs=1e-9)
    metric = METRICS.bind({"type": "calculate_ssim_pt", "crop_border": 2})
    assert metric(restored, reference).item() == pytest.approx(ssim(noisy, photo, border_px=2), abs=1e-9)


def test_channels_first(photo, noisy):
    metric = METRICS.bind({"type": "calculate_psnr", "crop_border": 3, "input_order": "CHW"})
    assert metric(noisy.transpose(2, 0, 1), photo.transpose(2, 0, 1)) == psnr(noisy, photo, border_px=3)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"type": "psnrr"}, "Did you mean 'psnr'"),
        ({"type": "calculate_psnr"}, "crop_border: missing"),
        ({"type": "calculate_psnr", "crop_border": 4, "test_y_chanel": True}, "Did you mean 'test_y_channel'"),
        ({"type": "calculate_psnr", "crop_border": 4, "better": "lower"}, "'higher'"),
        ({"type": "psnr", "restored": 1}, "unknown option"),
    ],
)
def test_wrong_blocks_are_refused(block, message):
    with pytest.raises(OptionsError, match=message):
        METRICS.bind(block)


def test_every_metric_says_which_way_is_better():
    for name in METRICS:
        assert isinstance(traits(name).higher_is_better, bool), name
    assert traits("psnr").higher_is_better
    assert traits(METRICS.bind({"type": "ssim", "border_px": 2})).needs_reference


@pytest.mark.parametrize(
    ("name", "scale", "expected"),
    [
        ("swinir_sr", 4, {"border_px": 4, "luma": True, "y_rounding": "none", "bits": 8}),
        ("div2k2017", 4, {"border_px": 10, "luma": False, "y_rounding": "none", "bits": 8}),
        ("ntire_esr", 4, {"border_px": 4, "luma": False, "y_rounding": "none", "bits": 8}),
        ("ipt", 1, {"border_px": 0, "luma": "edsr", "y_rounding": "none", "bits": 8}),
        ("sidd", 1, {"border_px": 0, "luma": False, "y_rounding": "none", "bits": None}),
    ],
)
def test_protocols_as_published(name, scale, expected):
    assert protocol(name).arguments(scale) == expected


def test_protocols_differ_on_the_same_pair(golden, golden_pairs):
    pair = golden_pairs["butterfly"]
    scores = {name: psnr(*pair, **protocol(name).arguments(scale=4)) for name in PROTOCOLS}
    assert scores["swinir_sr"] == pytest.approx(golden["butterfly"]["psnr_b4_y"], abs=1e-6)
    assert scores["ntire_esr"] == pytest.approx(golden["butterfly"]["psnr_b4_rgb"], abs=1e-6)
    distinct = ("swinir_sr", "ntire_esr", "div2k2017", "ipt", "ntire_sr25_board", "ntire_sr25_eval")
    values = [scores[name] for name in distinct]
    assert np.diff(np.sort(values)).min() > 1e-6


def test_an_unknown_protocol_is_refused():
    with pytest.raises(OptionsError, match="Did you mean 'swinir_sr'"):
        protocol("swinir_rs")


def test_a_protocol_can_be_read():
    assert str(protocol("div2k2017")) == "RGB, border 6 + scale px, 8 bit"
    assert str(protocol("restormer_derain")) == "Y, border 0 px, 8 bit, Y rounded"

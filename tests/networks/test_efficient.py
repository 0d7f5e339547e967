"""The baselines of efficient super-resolution, and FFDNet."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from network_tester import NetworkTester, counts

import restore
from restore.cli import main
from restore.errors import OptionsError
from restore.images import read_image, write_image
from restore.networks.efficient import EFDN, IMDN, RFDN, RLFN
from restore.networks.ffdnet import FFDNet
from restore.zoo import load_network


class TestEfficient(NetworkTester):
    variants: ClassVar[dict[str, dict]] = {
        "imdn": {"type": "IMDN", "nf": 16, "num_modules": 2},
        "imdn_x2_grey": {"type": "IMDN", "nf": 16, "num_modules": 1, "upscale": 2, "in_nc": 1, "out_nc": 1},
        "rfdn_x3": {"type": "RFDN", "nf": 8, "num_modules": 2, "upscale": 3},
        "rlfn": {"type": "RLFN", "feature_channels": 8, "num_blocks": 2},
        "rlfn_inner": {"type": "RLFN", "feature_channels": 6, "mid_channels": 8, "num_blocks": 1, "upscale": 2},
        "efdn": {"type": "EFDN", "n_feats": 8},
    }


class TestFFDNet(NetworkTester):
    variants: ClassVar[dict[str, dict]] = {
        "grey": {"type": "FFDNet", "nc": 8, "nb": 4},
        "colour": {"type": "FFDNet", "in_nc": 3, "out_nc": 3, "nc": 8, "nb": 3},
    }


@pytest.mark.parametrize(
    ("network", "options", "parameters"),
    [
        (IMDN, {}, 715_176),
        (RFDN, {}, 433_448),
        (RLFN, {}, 543_740),
        (RLFN, {"feature_channels": 48}, 470_208),
        (RLFN, {"feature_channels": 46, "mid_channels": 48, "num_blocks": 4}, 317_218),
        (EFDN, {}, 276_192),
        (FFDNet, {"in_nc": 3, "out_nc": 3, "nc": 96, "nb": 12}, 852_108),
    ],
)
def test_sizes(network, options, parameters):
    assert counts(network, **options)[0] == parameters


@pytest.mark.parametrize(("file", "psnr"), [("imdn_x4.pth", 32.210), ("rfdn_x4.pth", 32.159)], ids=["IMDN", "RFDN"])
def test_published_figures(shared, file, psnr):
    """Set5 x4, luma without a border of 4 pixels."""
    restorer = restore.load_model(shared(f"weights/{file}"), device="cpu", precision="fp32")
    folder, found = shared("data/benchmark/Set5"), []
    for path in sorted((folder / "HR").iterdir()):
        restored = restorer(read_image(folder / "LR_bicubic" / "X4" / f"{path.stem}x4.png").pixels)
        reference = read_image(path).pixels[: restored.shape[0], : restored.shape[1]]
        found.append(float(restore.metrics.psnr(restored, reference, border_px=4, luma=True)))
    assert np.mean(found) == pytest.approx(psnr, abs=0.001)


def test_the_published_denoiser(shared):
    """Colour, sigma 25: over McMaster's eighteen images 32.33 dB here (published 32.35); of the first alone 28.58."""
    path = sorted(shared("data/benchmark/McMaster").rglob("*.*"))[0]
    clean = read_image(path).pixels[..., :3].astype(np.float32) / 255
    noisy = clean + np.random.default_rng(0).normal(0, 25 / 255, clean.shape).astype(np.float32)
    network = load_network(shared("weights/ffdnet_color.pth"), sigma=25)
    with torch.no_grad():
        restored = network(torch.from_numpy(noisy.transpose(2, 0, 1)[None].copy()))[0].clamp(0, 1)
    error = np.square(restored.numpy().transpose(1, 2, 0) - clean).mean()
    assert -10 * np.log10(error) == pytest.approx(28.58, abs=0.01)


def test_each_image_of_a_batch_has_its_level():
    torch.manual_seed(0)
    network = FFDNet(nc=8, nb=3).eval()
    x = torch.rand(2, 1, 7, 9)
    with torch.no_grad():
        together = network(x, torch.tensor([10.0, 40.0]))
        for index, sigma in enumerate((10, 40)):
            torch.testing.assert_close(together[index : index + 1], network(x[index : index + 1], sigma))
        network.expect_noise(40)
        torch.testing.assert_close(network(x[1:]), together[1:])


def test_the_level_is_given_on_the_command_line(tmp_path, capsys):
    torch.manual_seed(0)
    torch.save(FFDNet(in_nc=3, out_nc=3, nc=8, nb=3).state_dict(), tmp_path / "ffdnet.pth")
    write_image(tmp_path / "in.png", np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8))
    results = []
    for sigma in ("5", "70"):
        arguments = ["-m", str(tmp_path / "ffdnet.pth"), "-i", str(tmp_path / "in.png"), "--device", "cpu"]
        assert main(["run", *arguments, "-o", str(tmp_path / f"{sigma}.png"), "--sigma", sigma]) == 0
        results.append(read_image(tmp_path / f"{sigma}.png").pixels)
    assert (results[0] != results[1]).any()
    with pytest.raises(OptionsError, match="must be at least 0"):
        restore.load_model(tmp_path / "ffdnet.pth", sigma=-1)
    with pytest.raises(OptionsError, match="SwinIR is not told how strong the noise is"):
        restore.load_model("swinir_light_x2", sigma=25)

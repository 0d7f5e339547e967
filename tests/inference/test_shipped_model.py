"""The shipped model under every arithmetic that it survives, and compiled; slow, for they need its full size."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

import restore
from restore.images import read_image
from restore.inference.blocks import compile_blocks
from restore.metrics import psnr

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def mean_psnr(folder, **runtime):
    restorer = restore.load_model("swinir_light_x4", device="cpu", tile=None, **runtime)
    return np.mean(
        [
            psnr(restorer(read_image(lq).pixels), read_image(gt).pixels, border_px=4, luma=True)
            for gt, lq in zip(
                sorted((folder / "HR").iterdir()), sorted((folder / "LR_bicubic/X4").iterdir()), strict=True
            )
        ]
    )


def test_bfloat16_costs_less_than_a_hundredth_of_a_decibel(shared):
    folder = shared("data/benchmark/Set5")
    fp32 = mean_psnr(folder, precision="fp32")
    assert round(fp32, 2) == 31.50
    assert mean_psnr(folder, precision="bf16") == pytest.approx(fp32, abs=0.01)


@pytest.mark.skipif(not shutil.which("g++") and not shutil.which("clang++"), reason="needs a compiler for C++")
def test_compiled_it_gives_the_same_image():
    image = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    plain, compiled = (restore.load_model("swinir_light_x4", device="cpu", precision="fp32", tile=None) for _ in "12")
    assert compile_blocks(compiled.network) == 24
    torch.testing.assert_close(compiled(image), plain(image), atol=1e-5, rtol=0)

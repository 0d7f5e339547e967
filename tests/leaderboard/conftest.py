"""A model that is quick and whose every value is known, small challenges, and submissions to them."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from restore.images import write_image
from restore.inference import Restorer
from restore.leaderboard.readme import Readme
from restore.leaderboard.tracks import TRACKS
from restore.networks import ImageSpec


class Repeat(nn.Module):
    """Repeats every pixel; knows how often it was asked."""

    def __init__(self, scale=4):
        super().__init__()
        self.spec = ImageSpec(scale=scale)
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        self.conv.weight = nn.Parameter(torch.eye(3)[:, :, None, None])
        self.calls = 0

    def forward(self, x_BCHW):
        self.calls += 1
        return F.interpolate(self.conv(x_BCHW), scale_factor=self.spec.scale, mode="nearest")


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """In all tests of this folder."""


@pytest.fixture
def restorer():
    """A function: a restorer that repeats pixels."""
    return lambda scale=4, **arguments: Restorer(Repeat(scale), device="cpu", precision="fp32", **arguments)


@pytest.fixture
def noise():
    """A function: random pixels of this shape."""
    random = np.random.default_rng(0)
    return lambda *shape: random.integers(0, 256, shape).astype(np.uint8)


@pytest.fixture
def challenge(tmp_path, noise):
    """Three pairs of x4: `challenge/lr/0901x4.png` (6x8) ... and `challenge/hr/0901.png` (24x32)."""
    for number in (901, 902, 903):
        write_image(tmp_path / "challenge" / "lr" / f"{number:04}x4.png", noise(6, 8, 3))
        write_image(tmp_path / "challenge" / "hr" / f"{number:04}.png", noise(24, 32, 3))
    return tmp_path / "challenge"


@pytest.fixture
def zipped(tmp_path):
    """A function: a zip of these members, `{name or ZipInfo: bytes}`."""

    def make(members, name="res.zip"):
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return path

    return make


@pytest.fixture
def readme():
    """The text of a right readme.txt."""
    return str(Readme(1.5, True, False, "a method"))


@pytest.fixture
def sr_x4():
    return TRACKS["sr_x4"]

"""A model that is quick and whose every value is known, and small datasets."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from restore.images import write_image
from restore.inference import Restorer
from restore.networks import ImageSpec


class Nearest(nn.Module):
    """Repeats every pixel."""

    def __init__(self, scale=2, channels=3):
        super().__init__()
        self.spec = ImageSpec(scale=scale, in_channels=channels, out_channels=channels)
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x_BCHW):
        return nn.functional.interpolate(x_BCHW, scale_factor=self.spec.scale, mode="nearest")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def restorer():
    """A function: a restorer that repeats pixels."""
    return lambda scale=2, channels=3: Restorer(Nearest(scale, channels), device="cpu", precision="fp32")


@pytest.fixture
def dataset(tmp_path):
    """A function: a dataset of these pairs, `{name: (reference, input)}`, either of which may be None."""
    from restore.data.pairs import Pair

    def make(name, pairs):
        listed = []
        for stem, images in pairs.items():
            paths = []
            for kind, pixels in zip(("gt", "lq"), images, strict=True):
                paths.append(None if pixels is None else tmp_path / name / kind / f"{stem}.png")
                if pixels is not None:
                    write_image(paths[-1], pixels)
            listed.append(Pair(stem, *paths))
        return SimpleNamespace(name=name, pairs=listed, color=None)

    return make


@pytest.fixture
def noise():
    """A function: random pixels of this shape."""
    random = np.random.default_rng(0)
    return lambda *shape, dtype=np.uint8: random.integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)

"""The golden pairs: bicubic x4 enlargements of Set5, rounded to 8 bits, against their originals."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


def read_rgb(path):
    return cv2.imread(str(path))[..., ::-1].copy()


@pytest.fixture(scope="session")
def golden(shared):
    values = json.loads(shared("fixtures/metrics_golden.json").read_text())
    return {name: value for name, value in values.items() if not name.startswith("_")}


@pytest.fixture(scope="session")
def golden_pairs(shared, golden):
    return {name: _pair(shared("data/benchmark/Set5"), name) for name in golden}


@pytest.fixture(scope="session")
def calibration_pairs(shared):
    folder = shared("data/iqa/calibration")
    names = sorted(path.name for path in (folder / "ref_dir").iterdir())
    return {name: (read_rgb(folder / "dist_dir" / name), read_rgb(folder / "ref_dir" / name)) for name in names}


@pytest.fixture(scope="session")
def photo():
    """A smooth random texture with edges, (192, 208, 3) uint8: natural enough for every metric."""
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.normal(size=(192, 208, 3)), (0, 0), 2.0)
    noise[60:120, 50:150] += 0.4
    return (np.clip(noise / (4 * noise.std()) + 0.5, 0, 1) * 255).round().astype(np.uint8)


@pytest.fixture(scope="session")
def noisy(photo):
    noise = np.random.default_rng(1).normal(scale=12, size=photo.shape)
    return np.clip(photo + noise, 0, 255).round().astype(np.uint8)


def pyiqa_resize():
    """The resize of pyiqa, without the seconds that importing the whole package takes."""
    found = importlib.util.find_spec("pyiqa")
    if found is None:
        pytest.skip("pyiqa, whose resize makes the pairs, is not installed: pip install -e '.[iqa]'")
    path = Path(found.origin).parent / "matlab_utils/resize.py"
    spec = importlib.util.spec_from_file_location("pyiqa_resize", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.imresize


def _pair(folder, name):
    """Enlarged by the resize that made the golden values: ties are rounded differently in any other one."""
    reference = read_rgb(next((folder / "HR").glob(f"{name}*")))
    small = read_rgb(next(folder.glob(f"LR_bicubic/X4/{name}*")))
    small_BCHW = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255
    restored = (
        (pyiqa_resize()(small_BCHW, scale=4).clamp(0, 1) * 255).round()[0].permute(1, 2, 0).numpy().astype(np.uint8)
    )
    return restored, reference[: restored.shape[0], : restored.shape[1]]

"""Folders of small images."""

from __future__ import annotations

import numpy as np
import pytest

from restore.images import write_image


@pytest.fixture
def images(tmp_path):
    """A function that writes random images and returns their folder."""

    def write(name, count=3, size=(24, 32), channels=3, dtype=np.uint8, suffix=".png", tmpl="{}"):
        noise = np.random.default_rng(sum(size) + channels)
        shape = size if channels == 1 else (*size, channels)
        for number in range(count):
            pixels = noise.integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)
            write_image(tmp_path / name / f"{tmpl.format(f'{number:02d}')}{suffix}", pixels)
        return tmp_path / name

    return write

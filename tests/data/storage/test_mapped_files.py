"""Uncompressed TIFF files: a crop reads its own pixels only, and everything else is decoded as ever."""

import mmap

import numpy as np
import pytest
import tifffile

from restore.data.storage.sources import FileSource
from restore.errors import ImageError
from restore.images import read_image


def is_mapped(pixels: np.ndarray) -> bool:
    while isinstance(pixels, np.ndarray):
        pixels = pixels.base
    return isinstance(pixels, mmap.mmap)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(30, 41), (30, 41, 3), (30, 41, 4)], ids=str)
@pytest.mark.parametrize(
    ("options", "mapped"),
    [
        ({}, True),
        ({"compression": "zlib"}, False),
        ({"byteorder": ">"}, None),  # of one byte a value or of two
        ({"extratags": [(274, "H", 1, 6, True)]}, False),
        ({"tile": (16, 16)}, False),
    ],
    ids=["plain", "deflated", "big-endian", "turned", "tiled"],
)
def test_what_is_mapped_is_what_would_be_decoded(tmp_path, shape, dtype, options, mapped):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)
    photometric = "minisblack" if len(shape) == 2 else "rgb"
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric=photometric, **options)
    found = FileSource([tmp_path / "a.tif"]).read(0)
    np.testing.assert_array_equal(found, read_image(tmp_path / "a.tif").pixels)
    assert is_mapped(found) is (dtype == np.uint8 if mapped is None else mapped)
    assert not is_mapped(found) or not found.flags.writeable


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ImageError, match=r"a\.tif"):
        FileSource([path]).read(0)

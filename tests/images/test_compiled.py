"""Loops over pixels in C give what the libraries give that they stand in for; skipped where none was built."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest
import torch

from restore.errors import ImageError
from restore.images import PngRows, compiled, decode_image, open_rows, resize, resize_pixels
from restore.metrics import niqe, psnr, ssim
from restore.metrics.filters import gaussian_taps

needs_library = pytest.mark.skipif(compiled._library is None, reason="source/pixels.so is not built")
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels


@pytest.fixture(params=["with the library", "without"])
def library(request, monkeypatch):
    """Whether there is one."""
    if request.param == "without":
        monkeypatch.setattr(compiled, "_library", None)
    elif compiled._library is None:
        pytest.skip("source/pixels.so is not built")


def png_file(rows: np.ndarray, width: int, channels: int, more: bytes = b"") -> bytes:
    """A PNG file of filtered rows: any bytes are some image."""
    header = struct.pack(">IIBBBBB", width, len(rows), 8, COLOUR_TYPES[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def random_rows(height: int, width: int, channels: int) -> np.ndarray:
    """Rows that begin with each of the filters in turn."""
    random = np.random.default_rng(channels)
    rows = random.integers(256, size=(height, 1 + width * channels), dtype=np.uint8)
    rows[:, 0] = np.arange(height) * 3 % 5
    return rows


@pytest.mark.parametrize("width", [1, 2, 17])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_files_are_decoded_as_pillow_does(library, channels, width):
    data = png_file(random_rows(11, width, channels), width, channels)
    expected = np.array(PIL.Image.open(io.BytesIO(data)))
    decoded = decode_image(data).pixels
    assert decoded.shape == expected.shape
    assert (decoded == expected).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_part_of_a_png_file_is_that_of_the_whole(library, channels):
    data = png_file(random_rows(40, 30, channels), 30, channels)
    whole, rows = decode_image(data).pixels, open_rows(data, "some.png")
    assert isinstance(rows, PngRows)
    assert (rows.shape, rows.ndim) == (whole.shape, whole.ndim)
    for place in ((slice(0, 1), slice(0, 1)), (slice(7, 20), slice(3, 30)), (slice(0, 40), slice(0, 30))):
        assert (rows[place] == whole[place]).all()


@needs_library
def test_what_is_below_a_part_is_not_decoded():
    rows = random_rows(40, 30, 3)
    rows[30, 0] = 9  # there is no such filter
    view = open_rows(png_file(rows, 30, 3), "some.png")
    assert view[10:30, 5:9].shape == (20, 4, 3)
    with pytest.raises(ImageError, match=r"some\.png"):
        view[10:31, 5:9]


@pytest.mark.parametrize("kept", [0, 4], ids=["none", "some"])
def test_a_png_file_without_all_rows_is_refused(library, kept):
    data = bytearray(png_file(random_rows(40, 30, 3)[:kept], 30, 3))
    data[20:24] = struct.pack(">I", 40)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(ImageError):
        decode_image(bytes(data))
    view = open_rows(bytes(data), "some.png")
    with pytest.raises(ImageError, match=r"some\.png"):
        view[5:10, :]


@pytest.mark.parametrize("turned", ["as palette", "16 bits", "interlaced"])
def test_other_png_files_are_read_whole(turned):
    pixels = np.random.default_rng(0).integers(256, size=(9, 8), dtype=np.uint8)
    image = PIL.Image.fromarray(pixels)
    if turned == "16 bits":
        image = PIL.Image.fromarray(pixels.astype(np.uint16) * 256)
    file = io.BytesIO()
    (image.convert("P") if turned == "as palette" else image).save(file, "PNG")
    data = bytearray(file.getvalue())
    if turned == "interlaced":  # of one row and column, which is the same in passes
        data = bytearray(png_file(random_rows(1, 1, 1), 1, 1))
        data[28] = 1
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    found = open_rows(bytes(data), "some.png")
    assert isinstance(found, np.ndarray)
    assert (found == decode_image(bytes(data)).pixels).all()


@needs_library
@pytest.mark.parametrize("level", range(compiled._level + 1))
@pytest.mark.parametrize("size", [(11, 11), (12, 75), (40, 74), (30, 139)])
def test_similarity_is_the_same_without_the_library(monkeypatch, level, size):
    random = np.random.default_rng(0)
    reference = random.integers(256, size=(*size, 3), dtype=np.uint8)
    restored = np.clip(reference + random.normal(scale=9, size=reference.shape), 0, 255).astype(np.uint8)
    monkeypatch.setattr(compiled, "_level", level)
    pairs = [(restored, reference), (restored / 255, reference / 255)]
    found = [[function(*pair) for function in (psnr, ssim)] for pair in pairs]
    luma = ssim(restored, reference, luma=True)
    monkeypatch.setattr(compiled, "_library", None)
    for pair, values in zip(pairs, found, strict=True):
        assert [psnr(*pair), ssim(*pair)] == pytest.approx(values, abs=1e-12)
    assert found[0] == pytest.approx(found[1], abs=1e-12)
    assert ssim(restored, reference, luma=True) == pytest.approx(luma, abs=1e-12)


@pytest.mark.parametrize("wanted", ["0", "off"])
def test_it_is_switched_off_by_the_environment(wanted):
    assert compiled._load(compiled.PATH, wanted) == (None, 0)


def test_a_file_that_is_no_library_is_not_used(tmp_path):
    (tmp_path / "pixels.so").write_bytes(b"no library")
    assert compiled._load(tmp_path / "pixels.so", "") == (None, 0)


@needs_library
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("kernel", ["cubic", "linear", "lanczos3", "box"])
@pytest.mark.parametrize("scale", [1.0 + 1 / 3, 2, 3, (2, 1), (0.5, 2)], ids=str)
def test_resizing_is_the_same_without_the_library(monkeypatch, dtype, kernel, scale):
    x_BCHW = torch.rand(2, 3, 9, 71, dtype=dtype, generator=torch.Generator().manual_seed(0))
    found = resize(x_BCHW, scale=scale, kernel=kernel)
    strided = resize(x_BCHW.mT, scale=scale[::-1] if isinstance(scale, tuple) else scale, kernel=kernel)
    monkeypatch.setattr(compiled, "_library", None)
    expected = resize(x_BCHW, scale=scale, kernel=kernel)
    assert found.shape == expected.shape
    tolerance = 5e-7 if dtype is torch.float32 else 1e-15
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
    torch.testing.assert_close(strided.mT, expected, atol=tolerance, rtol=0)


@needs_library
def test_8_bit_images_are_enlarged_to_the_same_levels(monkeypatch):
    pixels = np.random.default_rng(0).integers(256, size=(40, 33, 3), dtype=np.uint8)
    found = [resize_pixels(pixels, scale=scale, round_each_axis=False) for scale in (2, 3, 4, 1.7)]
    monkeypatch.setattr(compiled, "_library", None)
    for scale, enlarged in zip((2, 3, 4, 1.7), found, strict=True):
        exact = (
            resize(torch.from_numpy(pixels).double().permute(2, 0, 1)[None], scale=scale)[0].permute(1, 2, 0).numpy()
        )
        tie = np.abs(exact % 1 - 0.5) < 1e-9  # where the order of a sum decides, which is that of the machine's library
        differs = resize_pixels(pixels, scale=scale, round_each_axis=False) != enlarged
        assert not (differs & ~tie).any()


@needs_library
def test_images_smaller_than_a_sum_are_enlarged(monkeypatch):
    x_BCHW = torch.arange(6.0).view(1, 1, 2, 3)
    found = resize(x_BCHW, scale=3)
    monkeypatch.setattr(compiled, "_library", None)
    torch.testing.assert_close(found, resize(x_BCHW, scale=3))


def sums_of_block(values: np.ndarray) -> list[list[float]]:
    """What `block_sums` gives for one block, by its definition."""
    above = np.roll(values, 1, axis=0)
    others = [np.roll(values, 1, axis=1), above, np.roll(above, 1, axis=1), np.roll(above, -1, axis=1)]
    rows = []
    for samples in (values, *(values * other for other in others)):
        left, right = samples[samples < 0], samples[samples > 0]
        rows.append([(left**2).sum(), (right**2).sum(), np.abs(samples).sum(), left.size, right.size])
    return rows


@needs_library
@pytest.mark.parametrize("level", range(compiled._level + 1))
@pytest.mark.parametrize(("block_px", "rows", "columns"), [(96, 1, 2), (48, 3, 1), (48, 2, 3)])
def test_sums_over_blocks_are_what_they_are_said_to_be(monkeypatch, level, block_px, rows, columns):
    levels = np.random.default_rng(0).integers(256, size=(rows * block_px, columns * block_px)).astype(np.float64)
    levels[:20, :30] = 77  # flat: no value there is of either side
    taps = np.array(gaussian_taps(7, 7 / 6))
    padded = np.pad(levels, 3, mode="edge")
    mean, square = (cv2.sepFilter2D(each, -1, taps, taps)[3:-3, 3:-3] for each in (padded, padded**2))
    difference = np.where(np.abs(levels - mean) > 1e-6, levels - mean, 0)
    normalised = difference / (np.sqrt(np.abs(square - mean**2)) + 1)
    expected = [
        sums_of_block(block) for row in np.split(normalised, rows, axis=0) for block in np.split(row, columns, axis=1)
    ]
    monkeypatch.setattr(compiled, "_level", level)
    found = compiled.block_sums(levels, block_px, taps, 1e-6)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert (compiled.block_sums(np.asfortranarray(levels), block_px, taps, 1e-6) == found).all()
    monkeypatch.setattr(compiled, "_level", 0)
    assert (compiled.block_sums(levels, block_px, taps, 1e-6) == found).all()


@needs_library
@pytest.mark.parametrize("size", [(96, 192), (200, 331)])
def test_niqe_is_the_same_without_the_library(monkeypatch, size):
    random = np.random.default_rng(0)
    photograph = cv2.resize(random.integers(256, size=(25, 40, 3), dtype=np.uint8), size[::-1])
    photograph = np.clip(photograph + random.normal(scale=4, size=photograph.shape), 0, 255).astype(np.uint8)
    photograph[:30, :50] = 128
    pair = torch.from_numpy(photograph).permute(2, 0, 1)[None].double() / 255
    found, batch = niqe(photograph), niqe(torch.cat([pair, pair.flip(-1)]))
    monkeypatch.setattr(compiled, "_library", None)
    assert niqe(photograph) == pytest.approx(found, abs=1e-4)
    torch.testing.assert_close(niqe(torch.cat([pair, pair.flip(-1)])), batch, atol=1e-4, rtol=0)


def test_niqe_of_what_wants_gradients_is_the_same():
    x_BCHW = torch.rand(1, 1, 96, 192, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x_BCHW = x_BCHW.requires_grad_()
    value = niqe(x_BCHW)
    assert value.item() == pytest.approx(niqe(x_BCHW.detach()).item(), abs=1e-4)

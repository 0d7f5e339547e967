"""Files that are written from top to bottom: whatever blocks the rows come in, the file is the same."""

from __future__ import annotations

import io
import itertools

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from restore.errors import ImageError
from restore.images import Image, decode_image, encode_image, read_image, written_by_rows
from restore.images.strips import Strips

HEIGHT, WIDTH = 75, 37
KINDS = [
    (suffix, depth, channels)
    for suffix, depths in {
        ".png": ("uint8", "uint16"),
        ".tif": ("uint8", "uint16", "float32"),
        ".jpg": ("uint8",),
        ".webp": ("uint8",),
        ".bmp": ("uint8",),
    }.items()
    for depth, channels in itertools.product(depths, (1, 2, 3, 4))
    if suffix != ".jpg" or channels in (1, 3)
]


def pixels_of(depth="uint8", channels=3):
    values = np.random.default_rng(0).random((HEIGHT, WIDTH, channels) if channels > 1 else (HEIGHT, WIDTH))
    return values.astype(depth) if depth == "float32" else (values * np.iinfo(depth).max).astype(depth)


def blocks_of(pixels, sizes=(1, 20, 7)):
    first = 0
    for size in itertools.cycle(sizes):
        if first >= len(pixels):
            return
        yield pixels[first : first + size]
        first += size


@pytest.fixture
def small_strips(monkeypatch):
    """Strips as of much larger images: TIFF of few rows, JPEG of 16."""
    monkeypatch.setattr("restore.images.tiff._STRIP_BYTES", 8 * WIDTH)
    monkeypatch.setattr("restore.images.jpeg._LONGEST_INTERVAL", 3 * -(-WIDTH // 8))
    monkeypatch.setattr("restore.images.jpeg._STRIP_UNITS", 2 * -(-WIDTH // 8))


def test_blocks_become_strips_of_one_height():
    rows = np.arange(75).reshape(75, 1)
    strips = Strips(16)
    cut = []
    for block in blocks_of(rows, (1, 40, 7)):
        given = block.copy()
        cut += [strip.copy() for strip in strips.cut(given)]
        given[:] = -1  # its place is used for others
    cut += [strip.copy() for strip in strips.rest()]
    assert [len(strip) for strip in cut] == [16, 16, 16, 16, 11]
    np.testing.assert_array_equal(np.concatenate(cut), rows)


@pytest.mark.parametrize(("suffix", "depth", "channels"), KINDS)
def test_blocks_of_rows_make_the_same_file(tmp_path, small_strips, suffix, depth, channels):
    pixels = pixels_of(depth, channels)
    path = tmp_path / f"image{suffix}"
    with written_by_rows(path, Image(pixels[:1]), pixels.shape, depth) as write:
        for rows in blocks_of(pixels):
            write(rows)
    if suffix != ".png":  # whose data stand in as many chunks as blocks came
        assert path.read_bytes() == encode_image(pixels, suffix)
    read = read_image(path).pixels
    assert read.dtype == depth
    if suffix in (".png", ".tif"):
        np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (160, 64), (161, 65), (8, 3)])
def test_strips_of_jpeg_decode_as_the_whole(monkeypatch, channels, size):
    """Pixel by pixel, in two decoders, with more restart markers than there are numbers for them."""
    shape = (*size, channels) if channels > 1 else size
    pixels = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, shape, np.uint8), (5, 5), 1.5)
    whole = encode_image(pixels, ".jpg", quality=80)
    monkeypatch.setattr("restore.images.jpeg._LONGEST_INTERVAL", -(-size[1] // 8))
    strips = encode_image(pixels, ".jpg", quality=80)
    marks = [strips.count(bytes((0xFF, 0xD0 + number))) for number in range(8)]
    assert sum(marks) == -(-size[0] // 8) - 1
    assert (strips == whole) == (sum(marks) == 0)
    np.testing.assert_array_equal(decode_image(strips).pixels, decode_image(whole).pixels)
    one, other = (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) for data in (strips, whole))
    np.testing.assert_array_equal(one, other)


def test_jpeg_of_strips_that_is_cut_off_is_refused(small_strips):
    data = encode_image(pixels_of(), ".jpg")
    assert data.count(b"\xff\xd0") == 1
    decode_image(data)
    for length in (len(data) // 2, len(data) - 200):
        with pytest.raises(ImageError, match=r"truncated|damaged"):
            decode_image(data[:length])


def test_metadata_of_jpeg_strips_is_that_of_the_whole(small_strips):
    exif = PillowImage.Exif()
    exif[315] = "somebody"
    image = Image(pixels_of(), exif=exif.tobytes().removeprefix(b"Exif\0\0"))
    image.carried = type(image.carried)(density=(300.0, 150.0, True))
    read = decode_image(encode_image(image, ".jpg"))
    assert read.carried.density == (300, 150, True)
    tags = PillowImage.Exif()
    tags.load(read.exif)
    assert tags[315] == "somebody"
    assert read.pixels.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_other_programs_read_tiff_strips(small_strips, depth):
    pixels = pixels_of(depth)
    data = encode_image(pixels, ".tif")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        assert len(page.dataoffsets) == len(page.databytecounts) > 8
        assert page.dataoffsets[-1] + page.databytecounts[-1] == len(data)
        np.testing.assert_array_equal(page.asarray(), pixels)
    if depth == "uint8":
        np.testing.assert_array_equal(np.asarray(PillowImage.open(io.BytesIO(data))), pixels)
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read[..., ::-1], pixels)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 37])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_other_programs_read_bmp(channels, width):
    pixels = np.ascontiguousarray(pixels_of(channels=channels)[:, :width])
    data = encode_image(pixels, ".bmp")
    with PillowImage.open(io.BytesIO(data)) as file:
        expected = pixels[..., [0, 0, 0, 1]] if channels == 2 else pixels
        assert np.array_equal(np.asarray(file), expected)
    by_opencv = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    order = {1: ..., 2: (..., [0, 0, 0, 1]), 3: (..., [2, 1, 0]), 4: (..., [2, 1, 0, 3])}[channels]
    assert np.array_equal(by_opencv, pixels[order])


def test_nothing_is_left_of_an_image_that_breaks_off(tmp_path):
    def breaking_off():
        with written_by_rows(path, Image(pixels_of()), (64, 37, 3), "uint8") as write:
            write(pixels_of()[:20])
            raise RuntimeError("broke off")

    path = tmp_path / "image.png"
    path.write_bytes(b"before")
    with pytest.raises(RuntimeError, match="broke off"):
        breaking_off()
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["image.png"]


def test_an_image_that_does_not_fit_makes_no_folder(tmp_path):
    path = tmp_path / "new" / "image.jpg"
    writing = written_by_rows(path, Image(pixels_of()), (8, 8), "uint16")
    with pytest.raises(ImageError, match=r"cannot write .*image.jpg.*JPEG cannot hold uint16"):
        writing.__enter__()
    assert not path.parent.exists()

"""Image files: every layout comes back as it went in; what is damaged or does not fit is a clear error."""

from __future__ import annotations

import io
import logging
import stat
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from PIL import ImageCms, ImageOps

from restore.errors import DataError, ImageError, OutputError
from restore.images import Image, decode_image, encode_image, list_images, read_image, read_size, write_image
from restore.images.formats import FORMATS

LAYOUTS = [
    (fmt, depth, channels)
    for fmt in FORMATS
    for depth in fmt.depths
    for channels in (1, 2, 3, 4)
    if fmt.alpha or channels in (1, 3)
]
LAYOUT_NAMES = [f"{fmt.name}-{depth}-{channels}" for fmt, depth, channels in LAYOUTS]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def random_pixels(depth: str, channels: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    white = {"uint8": 255, "uint16": 65535, "float32": 1}[depth]
    pixels = np.random.default_rng(seed).random((height, width, channels), np.float32) * white
    return pixels.astype(depth)[:, :, 0] if channels == 1 else pixels.astype(depth)


def exif_block(orientation: int) -> bytes:
    exif = PillowImage.Exif()
    exif[0x0112], exif[271], exif[33432] = orientation, "Maker", "somebody"
    exif.get_ifd(34665).update({33434: (1, 125), 36867: "2024:01:01 00:00:00"})
    exif.get_ifd(34853)[1] = "N"
    return exif.tobytes().removeprefix(b"Exif\0\0")


def tags_of(exif: bytes) -> tuple:
    parsed = PillowImage.Exif()
    parsed.load(b"Exif\0\0" + exif)
    exposure = parsed.get_ifd(34665)
    return parsed[0x0112], parsed[271], parsed[33432], exposure[33434], exposure[36867], parsed.get_ifd(34853)[1]


def as_stored(fmt, pixels: np.ndarray) -> np.ndarray:
    """What a format without this layout stores instead."""
    if pixels.ndim == 2:
        return pixels if fmt.grey else np.stack([pixels] * 3, -1)
    return pixels[:, :, [0, 0, 0, 1]] if pixels.shape[2] == 2 and fmt.name in ("WebP", "BMP") else pixels


@pytest.mark.parametrize(("fmt", "depth", "channels"), LAYOUTS, ids=LAYOUT_NAMES)
@settings(max_examples=8, deadline=None)
@given(height=st.integers(1, 19), width=st.integers(1, 19), seed=st.integers(0, 999), data=st.data())
def test_round_trip(fmt, depth, channels, height, width, seed, data):
    pixels = random_pixels(depth, channels, height, width, seed)
    suffix = data.draw(st.sampled_from(fmt.suffixes))
    read = decode_image(encode_image(pixels, suffix, lossless=fmt.lossless)).pixels
    expected = as_stored(fmt, pixels)
    assert (read.dtype, read.shape) == (expected.dtype, expected.shape)
    if fmt.lossless:
        np.testing.assert_array_equal(read, expected)


def test_jpeg_is_close():
    rows, columns = np.mgrid[0:64, 0:64]
    smooth = np.stack([rows * 3, columns * 3, 250 - rows - columns], -1).astype(np.uint8)
    read = decode_image(encode_image(smooth, ".jpg")).pixels
    assert np.abs(read.astype(int) - smooth).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("fmt", "depth", "channels"), [layout for layout in LAYOUTS if "EXIF" in layout[0].carries])
def test_orientation_and_metadata(tmp_path, fmt, depth, channels, orientation):
    stored = random_pixels(depth, channels, 16, 24)
    icc = SRGB if channels > 2 else None
    path = tmp_path / f"image{fmt.suffixes[0]}"
    write_image(path, Image(stored, icc, exif_block(orientation)), lossless=fmt.lossless)
    image = read_image(path)
    labels = np.arange(16 * 24, dtype=np.int32).reshape(16, 24)
    tagged = PillowImage.fromarray(labels)
    tagged.getexif()[0x0112] = orientation
    order = np.asarray(ImageOps.exif_transpose(tagged))
    expected = as_stored(fmt, stored).reshape(16 * 24, -1)[order]
    assert read_size(path) == image.pixels.shape[:2] == order.shape
    if fmt.lossless:
        np.testing.assert_array_equal(image.pixels.reshape(*order.shape, -1), expected)
    assert image.icc == icc
    assert tags_of(image.exif) == (1, "Maker", "somebody", (1, 125), "2024:01:01 00:00:00", "N")
    again = tmp_path / f"again{fmt.suffixes[0]}"
    write_image(again, image, lossless=fmt.lossless)
    assert (read_image(again).icc, tags_of(read_image(again).exif)) == (icc, tags_of(image.exif))


def test_tiny_dark_16_bit_stays_16_bit(tmp_path):
    dark = np.ones((1, 1, 3), np.uint16)
    write_image(tmp_path / "dark.png", dark)
    assert read_image(tmp_path / "dark.png").pixels.dtype == np.uint16
    assert (read_image(tmp_path / "dark.png").pixels == dark).all()


def saved(image: PillowImage.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_palettes_and_bilevel_images():
    colours = random_pixels("uint8", 3, 9, 7)
    palette = PillowImage.fromarray(colours).quantize(16)
    np.testing.assert_array_equal(decode_image(saved(palette, "PNG")).pixels, np.asarray(palette.convert("RGB")))
    transparent = decode_image(saved(palette, "PNG", transparency=3)).pixels
    assert transparent.shape == (9, 7, 4)
    assert ((transparent[..., 3] == 0) == (np.asarray(palette) == 3)).all()
    bilevel = PillowImage.fromarray(colours[..., 0] > 99)
    for kind in ("PNG", "TIFF", "BMP"):
        np.testing.assert_array_equal(decode_image(saved(bilevel, kind)).pixels, np.where(colours[..., 0] > 99, 255, 0))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind):
    red = PillowImage.new("CMYK", (16, 16), (0, 255, 255, 0))
    pixels = decode_image(saved(red, kind)).pixels
    assert pixels.shape == (16, 16, 3)
    assert np.abs(pixels.astype(int) - (255, 0, 0)).max() <= 3


def test_16_bit_tiff_of_another_compression():
    cv2 = pytest.importorskip("cv2")
    pixels = random_pixels("uint16", 3, 20, 30)
    lzw = cv2.imencode(".tif", pixels[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes()
    np.testing.assert_array_equal(decode_image(lzw).pixels, pixels)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WebP"])
def test_of_several_frames_the_first_with_a_warning(kind, caplog):
    frames = [PillowImage.new("RGB", (8, 8), (value, 0, 0)) for value in (200, 100)]
    options = {"lossless": True} if kind == "WebP" else {}
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with caplog.at_level(logging.WARNING):
        assert (decode_image(data, "moving").pixels == (200, 0, 0)).all()
    assert "'moving' holds 2 frames or pages: only the first is read" in caplog.text


@pytest.mark.parametrize(("fmt", "depth", "channels"), LAYOUTS, ids=LAYOUT_NAMES)
@pytest.mark.parametrize("kept", [0, 1, 0.02, 0.5, 0.99])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_truncated_files_are_errors(tmp_path, fmt, depth, channels, kept):
    data = encode_image(random_pixels(depth, channels, 64, 64), fmt.suffixes[0])
    path = tmp_path / f"broken{fmt.suffixes[0]}"
    path.write_bytes(data[: kept if kept in (0, 1) else int(kept * len(data))])
    with pytest.raises(ImageError, match=r"cannot read '.*broken.*': .+"):
        read_image(path)


def test_damaged_and_foreign_files_are_errors(tmp_path):
    png = bytearray(encode_image(random_pixels("uint8", 3, 32, 32), ".png"))
    png[len(png) // 2] ^= 1
    with pytest.raises(ImageError, match=r"cannot read 'it': .*wrong checksum in its IDAT chunk"):
        decode_image(bytes(png), "it")
    with pytest.raises(ImageError, match="the file is not PNG, TIFF, JPEG, "):
        decode_image(b"MZ................")
    with pytest.raises(ImageError, match=r"none\.png': No such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="directory"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="No such file"):
        read_size(tmp_path / "none.png")


def test_a_bomb_is_not_decoded():
    png = bytearray(encode_image(np.zeros((4, 4), np.uint8), ".png"))
    header = b"IHDR" + struct.pack(">II", 1 << 17, 1 << 17) + bytes(png[24:29])
    png[12:33] = header + struct.pack(">I", zlib.crc32(header))
    with pytest.raises(ImageError, match="it claims 131072x131072 pixels"):
        decode_image(bytes(png))


@pytest.mark.parametrize(
    ("suffix", "shape", "depth", "message"),
    [
        (".jpg", (4, 4, 4), np.uint8, "JPEG cannot hold an alpha channel; PNG, TIFF, WebP, BMP can"),
        (".jpg", (4, 4, 3), np.uint16, "JPEG cannot hold uint16 samples, only uint8; PNG, TIFF can"),
        (".webp", (4, 4, 3), np.uint16, "WebP cannot hold uint16"),
        (".bmp", (4, 4), np.uint16, "BMP cannot hold uint16"),
        (".png", (4, 4), np.float32, "PNG cannot hold float32 samples, only uint8 and uint16; TIFF can"),
        (".png", (4, 4, 5), np.uint8, r"shape \(4, 4, 5\)"),
        (".png", (0, 4), np.uint8, "H and W greater than 0"),
        (".png", (4, 4), np.float64, "pixels are float64"),
        (".pgn", (4, 4), np.uint8, r"Did you mean '\.png'"),
        ("", (4, 4), np.uint8, "the file name has no ending"),
    ],
)
def test_what_a_format_cannot_hold(tmp_path, suffix, shape, depth, message):
    with pytest.raises(ImageError, match=message):
        write_image(tmp_path / f"image{suffix}", np.zeros(shape, depth))
    assert not list(tmp_path.iterdir())


def test_lossless_jpeg_and_senseless_quality(tmp_path):
    with pytest.raises(ImageError, match="JPEG is always lossy; PNG, TIFF, WebP, BMP can be lossless"):
        write_image(tmp_path / "a.jpg", np.zeros((4, 4), np.uint8), lossless=True)
    with pytest.raises(ImageError, match="quality is 101"):
        write_image(tmp_path / "a.jpg", np.zeros((4, 4), np.uint8), quality=101)
    with pytest.raises(ImageError, match="WebP holds at most 16383 px a side"):
        write_image(tmp_path / "a.webp", np.zeros((1, 20000), np.uint8))


def test_a_profile_that_does_not_fit_is_dropped_with_a_warning(tmp_path, caplog):
    write_image(tmp_path / "a.png", Image(np.zeros((4, 4), np.uint8), SRGB))
    assert read_image(tmp_path / "a.png").icc is None
    assert "an ICC profile for RGB does not fit" in caplog.text


def test_writing_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "new" / "image.png"
    write_image(path, np.zeros((4, 4), np.uint8))
    before = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) & stat.S_IRUSR

    def no_space(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OutputError, match=r"cannot write '.*image\.png': No space left on device"):
        write_image(path, np.ones((4, 4), np.uint8))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_or_a_file_in_the_way(tmp_path):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match=r"folder\.png"):
        write_image(tmp_path / "folder.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"cannot write '.*a\.png'"):
        write_image(tmp_path / "file" / "a.png", np.zeros((4, 4), np.uint8))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_list_images(tmp_path):
    for name in ("b.png", "a.JPG", "c.txt", ".hidden.png", "sub/d.tif", ".cache/e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in list_images(tmp_path)] == ["a.JPG", "b.png"]
    assert [path.name for path in list_images(tmp_path, recursive=True)] == ["a.JPG", "b.png", "d.tif"]
    with pytest.raises(DataError, match="is not a folder"):
        list_images(tmp_path / "b.png")

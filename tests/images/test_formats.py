"""Formats that are read only, and those that need a plugin; what none of them can hold is known beforehand."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from restore.errors import ImageError
from restore.images import (
    decode_image,
    encode_image,
    list_images,
    read_image,
    read_size,
    readable_suffixes,
    write_image,
)
from restore.images import formats as known
from restore.images.formats import FORMATS, WRITTEN_SUFFIXES, check_fits, format_for, unread_here


def pnm(kind: int, values: np.ndarray, largest: int, comment: bytes = b"") -> bytes:
    """A PNM file of sample values as they are stored; for bitmaps a one is black."""
    height, width = values.shape[:2]
    words = [b"%d %d" % (width, height)] + ([b"%d" % largest] if kind not in (1, 4) else [])
    head = b"P%d\n" % kind + comment + b"\n".join(words) + b"\n"
    if kind < 4:
        return head + b"\n".join(b" ".join(b"%d" % value for value in row.ravel()) for row in values) + b"\n"
    if kind == 4:
        return head + np.packbits(values.astype(bool), axis=1).tobytes()
    return head + values.astype(np.uint8 if largest < 256 else ">u2").tobytes()


@settings(max_examples=60, deadline=None)
@given(
    kind=st.integers(1, 6),
    height=st.integers(1, 9),
    width=st.integers(1, 19),
    largest=st.sampled_from([1, 100, 255, 256, 1023, 65535]),
    comment=st.sampled_from([b"", b"# made by hand\n", b"# 3 4\r# 5\n"]),
    seed=st.integers(0, 99),
)
def test_pnm_has_white_where_its_largest_value_is(kind, height, width, largest, comment, seed):
    largest = 1 if kind in (1, 4) else largest
    shape = (height, width, 3) if kind in (3, 6) else (height, width)
    values = np.random.default_rng(seed).integers(0, largest + 1, shape)
    data = pnm(kind, values, largest, comment)
    white = 255 if largest < 256 else 65535
    shown = 1 - values if kind in (1, 4) else values
    pixels = decode_image(data).pixels
    assert pixels.dtype == (np.uint8 if white == 255 else np.uint16)
    np.testing.assert_array_equal(pixels, np.rint(shown * (white / largest)))
    if kind > 3:
        with pytest.raises(ImageError, match="truncated"):
            decode_image(data[:-1])


def test_pnm_as_another_library_writes_it(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 11, 3), np.uint8)
    PillowImage.fromarray(pixels).save(tmp_path / "a.ppm")
    PillowImage.fromarray(pixels[..., 0]).save(tmp_path / "b.pgm")
    PillowImage.fromarray(pixels[..., 0] > 127).save(tmp_path / "c.pbm")
    np.testing.assert_array_equal(read_image(tmp_path / "a.ppm").pixels, pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "b.pgm").pixels, pixels[..., 0])
    np.testing.assert_array_equal(read_image(tmp_path / "c.pbm").pixels, (pixels[..., 0] > 127) * 255)
    assert [read_size(path) for path in list_images(tmp_path)] == [(7, 11)] * 3


@pytest.mark.parametrize(
    "data",
    [
        b"P5\n",
        b"P5\n3\n",
        b"P6 0 4 255\n",
        b"P5 2 2 70000\n" + bytes(8),
        b"P5 2 2 7\n\x08\x00\x00\x00",
        b"P2 2 1 9 1 x",
    ],
)
def test_damaged_pnm(data):
    with pytest.raises(ImageError, match="cannot read 'it'"):
        decode_image(data, "it")


@pytest.mark.parametrize("suffix", [".jpe", ".jfif", ".jif", ".JPEG"])
def test_other_names_of_jpeg(tmp_path, suffix):
    write_image(tmp_path / f"a{suffix}", np.zeros((8, 9, 3), np.uint8))
    (path,) = list_images(tmp_path)
    assert path.read_bytes()[:3] == b"\xff\xd8\xff"
    assert read_image(path).pixels.shape == (8, 9, 3)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "RGBA"])
def test_still_gif(tmp_path, mode):
    picture = PillowImage.new("RGBA", (9, 6), (255, 0, 0, 255))
    picture.putpixel((0, 0), (0, 0, 0, 0))
    picture.convert(mode).save(tmp_path / "a.gif")
    assert list_images(tmp_path) == [tmp_path / "a.gif"]
    assert read_size(tmp_path / "a.gif") == (6, 9)
    pixels = read_image(tmp_path / "a.gif").pixels
    assert pixels.shape[:2] == (6, 9)
    if mode == "RGBA":
        assert (pixels[0, 0, 3], tuple(pixels[5, 8])) == (0, (255, 0, 0, 255))


@pytest.mark.parametrize(("name", "module", "suffix"), [(p.name, p.module, p.suffixes[0]) for p in known._PLUGINS])
def test_formats_of_plugins(tmp_path, name, module, suffix):
    if not known._is_installed(module):
        pytest.skip(f"{name} is not read here")
    if name == "HEIC":
        import pillow_heif

        pillow_heif.register_heif_opener()
    if name == "JPEG XL":
        import pillow_jxl  # noqa: F401 - registers itself
    rows, columns = np.mgrid[0:40, 0:48]
    smooth = np.stack([rows * 3, columns * 3, 200 - rows - columns], -1).astype(np.uint8)
    exif = PillowImage.Exif()
    exif[0x0112], exif[271] = 6, "Maker"
    file = io.BytesIO()
    PillowImage.fromarray(smooth).save(
        file, {"HEIC": "HEIF", "JPEG XL": "JXL"}.get(name, name), quality=95, exif=exif.tobytes()
    )
    (tmp_path / f"a{suffix}").write_bytes(file.getvalue())
    assert list_images(tmp_path) == [tmp_path / f"a{suffix}"]
    image = read_image(tmp_path / f"a{suffix}")
    assert read_size(tmp_path / f"a{suffix}") == image.pixels.shape[:2]
    upright = smooth if image.pixels.shape == smooth.shape else np.rot90(smooth, -1)
    assert np.abs(image.pixels.astype(int) - upright).max() < 30


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf", "AVIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "AVIF"),
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\xff\x0a" + bytes(30), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(30), "JPEG XL"),
    ],
)
def test_what_needs_a_plugin_says_which(tmp_path, monkeypatch, head, name):
    monkeypatch.setattr(known, "_is_installed", lambda module: False)
    (tmp_path / "photo.png").write_bytes(head)
    for read in (read_image, read_size):
        with pytest.raises(ImageError, match=rf"photo.png': {name} is not read here: pip install '[a-z>=.\-\[\]0-9]+'"):
            read(tmp_path / "photo.png")


def test_endings_that_are_not_read_here(tmp_path, monkeypatch):
    monkeypatch.setattr(known, "_is_installed", lambda module: False)
    readable_suffixes.cache_clear()
    try:
        names = ("a.heic", "b.HEIC", "c.avif", "d.dng", "e.txt", "f.png")
        said = unread_here([tmp_path / name for name in names])
        assert said.startswith("formats that are not read here: .avif (pip install")
        assert ".heic (pip install 'restore-toolkit[heif]')" in said
        assert said.endswith(".dng")
        assert unread_here([tmp_path / "e.txt", tmp_path / "f.png"]) == ""
        assert ".heic" not in readable_suffixes()
    finally:
        readable_suffixes.cache_clear()


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_the_largest_side_is_what_the_encoder_takes(fmt):
    most = min(fmt.max_side_px, 70_000)
    for shape in ((1, most), (most, 1)):
        check_fits(fmt.suffixes[0], shape, "uint8")
        assert decode_image(encode_image(np.zeros(shape, np.uint8), fmt.suffixes[0])).pixels.shape[:2] == shape
    if fmt.max_side_px < 1 << 30:
        with pytest.raises(
            ImageError, match=f"{fmt.name} holds at most {fmt.max_side_px} px a side.*TIFF.* can hold it"
        ):
            check_fits(fmt.suffixes[0], (3, fmt.max_side_px + 1, 3), "uint8")


@pytest.mark.parametrize("shape", [(46_400, 46_400), (26_800, 26_800, 3), (23_200, 23_200, 2), (22_000, 24_500, 4)])
def test_more_bytes_than_a_bmp_holds_are_known_before_it_is_written(shape):
    with pytest.raises(ImageError, match=r"BMP holds at most 2147\d+ bytes of pixels, and this has 2\d+; PNG, .*TIFF"):
        check_fits(".bmp", shape, "uint8")
    check_fits(".bmp", (shape[0] * 9 // 10, shape[1] * 9 // 10, *shape[2:]), "uint8")
    check_fits(".tif", shape, "uint8")


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_what_is_said_not_to_fit_is_what_is_not_written(suffix, depth, channels):
    shape = (5, 6) if channels == 1 else (5, 6, channels)
    fmt = format_for(suffix)
    if depth in fmt.depths and (fmt.alpha or channels in (1, 3)):
        check_fits(suffix, shape, depth)
        read = decode_image(encode_image(np.zeros(shape, depth), suffix)).pixels
        assert (read.shape[:2], read.dtype) == ((5, 6), depth)
        return
    with pytest.raises(ImageError, match=r"can\. Or .* of restore run") as refused:
        check_fits(suffix, shape, depth)
    with pytest.raises(ImageError) as not_written:
        encode_image(np.zeros(shape, depth), suffix)
    assert str(refused.value) == str(not_written.value)

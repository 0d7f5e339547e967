"""Pixels that are not there are refused, pixels that are whole are read, and no file asks for more than is allowed."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import random
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from restore.errors import ImageError
from restore.images import decode_image, encode_image, read_image, read_size, write_image
from restore.images.formats import WRITTEN_SUFFIXES
from restore.images.pillow import without_pillows_bound
from restore.images.png import SIGNATURE

PASSES = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PNG_KINDS = [(kind, depth) for kind in PNG_CHANNELS for depth in (1, 8, 16)]
PNG_KINDS = [(kind, depth) for kind, depth in PNG_KINDS if (depth == 8 or kind == 0 or (kind != 3 and depth == 16))]


def chunk(kind: bytes, payload: bytes, *, wrong: int = 0) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload) ^ wrong)


def png_rows(height: int, width: int, kind: int, depth: int, *, interlaced: bool, value: int) -> list[bytes]:
    """The unfiltered rows of an image that is `value` in every byte."""
    rows = []
    for row, row_step, column, column_step in PASSES if interlaced else ((0, 1, 0, 1),):
        columns = len(range(column, width, column_step))
        if columns:
            row_bytes = (columns * PNG_CHANNELS[kind] * depth + 7) // 8
            rows += [b"\0" + bytes([value]) * row_bytes for _ in range(row, height, row_step)]
    return rows


def png_file(size, kind, depth, data: bytes, *, interlaced=False, more=(), end=True, pieces=1) -> bytes:
    header = struct.pack(">IIBBBBB", size[1], size[0], depth, kind, 0, 0, interlaced)
    palette = [chunk(b"PLTE", bytes(range(255, -1, -1)) * 3)] if kind == 3 else []
    step = -(-len(data) // pieces) or 1
    parts = [chunk(b"IDAT", data[start : start + step]) for start in range(0, max(len(data), 1), step)]
    return b"".join((SIGNATURE, chunk(b"IHDR", header), *palette, *more, *parts, chunk(b"IEND", b"") if end else b""))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "depth"), PNG_KINDS)
@settings(max_examples=12, deadline=None)
@given(height=st.integers(1, 12), width=st.integers(1, 12), value=st.sampled_from([0, 1, 255]), data=st.data())
def test_png_rows_that_are_missing(kind, depth, interlaced, height, width, value, data):
    rows = png_rows(height, width, kind, depth, interlaced=interlaced, value=value)
    options = {"interlaced": interlaced, "pieces": data.draw(st.integers(1, 3))}
    whole = png_file((height, width), kind, depth, zlib.compress(b"".join(rows)), **options)
    assert decode_image(whole).pixels.shape[:2] == (height, width)
    kept = b"".join(rows)[: data.draw(st.integers(0, sum(map(len, rows)) - 1))]
    with pytest.raises(ImageError, match="truncated"):
        decode_image(png_file((height, width), kind, depth, zlib.compress(kept), **options))


@pytest.mark.parametrize("depth", [8, 16])
def test_png_with_faults_beside_its_pixels(depth, caplog):
    rows = b"".join(png_rows(9, 7, 2, depth, interlaced=False, value=77))
    text = chunk(b"tEXt", b"Title\0a photograph")
    broken = {
        "wrong checksum in its tEXt chunk": {"more": [chunk(b"tEXt", b"a\0b", wrong=1)]},
        "wrong checksum in its eXIf chunk": {"more": [text, chunk(b"eXIf", b"II*\0", wrong=2)]},
        "wrong checksum in its iCCP chunk": {"more": [chunk(b"iCCP", b"x\0\0x", wrong=3)]},
        "its end is missing": {"end": False},
    }
    for message, options in broken.items():
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            pixels = decode_image(png_file((9, 7), 2, depth, zlib.compress(rows), **options), "it").pixels
        assert (pixels == (77 if depth == 8 else 77 * 257)).all()
        assert f"'it' is damaged ({message}), but its pixels are whole" in caplog.text
    whole = png_file((9, 7), 2, depth, zlib.compress(rows))
    after_data = whole.index(b"IEND") - 8
    for cut in range(1, len(whole) - after_data + 1):  # whatever is missing of the last chunk and of a checksum
        assert (decode_image(whole[:-cut]).pixels[-1] > 0).all()
    with pytest.raises(ImageError, match="truncated"):
        decode_image(whole[: after_data - 12])


def test_png_with_compressed_text_without_bounds():
    rows = zlib.compress(b"".join(png_rows(4, 4, 0, 8, interlaced=False, value=9)))
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 26)))
    assert (decode_image(png_file((4, 4), 0, 8, rows, more=[bomb])).pixels == 9).all()


def textured(height: int, width: int, channels: int = 3, dtype: str = "uint8") -> np.ndarray:
    noise = np.random.default_rng(height * width).integers(1, 250, (height, width, channels)).astype(dtype)
    return noise * 257 if dtype == "uint16" else noise


def tiff_file(pixels: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    photometric = "rgb" if pixels.shape[2] == 3 else "minisblack"
    if options.pop("separate", False):
        options["planarconfig"], pixels = "separate", np.moveaxis(pixels, 2, 0)
    tifffile.imwrite(file, pixels, photometric=photometric, metadata=None, **options)
    return file.getvalue()


def with_pillow(pixels: np.ndarray, compression: str) -> bytes:
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, "TIFF", compression=compression, tiffinfo={278: 8})
    return file.getvalue()


def with_opencv(pixels: np.ndarray, compression: int) -> bytes:
    options = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 8]
    return cv2.imencode(".tif", pixels[..., ::-1], options)[1].tobytes()


LAYOUTS = {"strips": {"rowsperstrip": 8}, "tiles": {"tile": (16, 32)}, "planes": {"rowsperstrip": 8, "separate": True}}
PACKINGS = {"plain": {}, "deflate": {"compression": "zlib"}, "predictor": {"compression": "zlib", "predictor": True}}
BIG = textured(40, 48)
TIFFS = {
    f"{dtype} {layout} {packing} {order}": (
        textured(40, 48, dtype=dtype),
        {**LAYOUTS[layout], **PACKINGS[packing], "byteorder": order},
    )
    for dtype in ("uint8", "uint16", "float32")
    for layout, packing, order in itertools.product(LAYOUTS, PACKINGS, "<>")
    if not (packing == "predictor" and dtype == "float32")  # tifffile writes it only with a codec package
}
PACKED = {
    **{
        f"uint8 {name}": (BIG, with_pillow(BIG, name))
        for name in ("tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg")
    },
    **{f"uint16 {number}": (textured(40, 48, dtype="uint16"), number) for number in (5, 8, 32773, 32946)},
}


def tiff_case(name: str) -> tuple[np.ndarray, bytes]:
    if name in TIFFS:
        pixels, options = TIFFS[name]
        return pixels, tiff_file(pixels, **options)
    pixels, made = PACKED[name]
    return pixels, made if isinstance(made, bytes) else with_opencv(pixels, made)


def changed(data: bytes, tag: int, change) -> bytes:
    """The file with another number in the middle of the values of a tag."""
    result = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        entry, order = file.pages[0].tags[tag], file.byteorder
        size, kind = {3: (2, "H"), 4: (4, "I")}[int(entry.dtype)]
        place = entry.valueoffset + size * (entry.count // 2)
        struct.pack_into(order + kind, result, place, change(struct.unpack_from(order + kind, data, place)[0]))
    return bytes(result)


@pytest.mark.parametrize("name", [*TIFFS, *PACKED])
def test_tiff_strips_and_tiles_that_are_missing(name):
    pixels, data = tiff_case(name)
    if "jpeg" not in name:
        np.testing.assert_array_equal(decode_image(data).pixels, pixels)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        starts, counts = (324, 325) if file.pages[0].is_tiled else (273, 279)
        last = max(file.pages[0].dataoffsets)
    broken = {
        "no bytes": changed(data, counts, lambda count: 0),
        "half its bytes": changed(data, counts, lambda count: count // 2),
        "no place": changed(data, starts, lambda start: 0),
        "a place past the end": changed(data, starts, lambda start: len(data) + 9),
        "too many bytes": changed(data, counts, lambda count: 60_000),
        "cut": data[: last + 1] if data[4:8] == b"\x08\0\0\0" or data[4:8] == b"\0\0\0\x08" else data[: len(data) // 2],
    }
    for file in broken.values():
        with pytest.raises(ImageError, match=r"truncated|damaged|decoder error"):
            decode_image(file)


@pytest.mark.parametrize("number", [324, 325, 273, 279])
def test_tiff_lists_too_few(number):
    layout = {"tile": (16, 16)} if number > 300 else {"rowsperstrip": 4}
    for dtype in ("uint8", "uint16"):
        data = bytearray(tiff_file(textured(40, 48, dtype=dtype), compression="zlib", **layout))
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            tag = file.pages[0].tags[number]
            struct.pack_into("<I", data, tag.offset + 4, tag.count - 1)
        with pytest.raises(ImageError, match="truncated"):
            decode_image(bytes(data))


def test_tiff_that_inflates_to_more_than_its_pixels():
    small = tiff_file(textured(4, 4, dtype="uint16"), compression="zlib", rowsperstrip=4)
    bomb = zlib.compress(bytes(1 << 27))
    with tifffile.TiffFile(io.BytesIO(small)) as file:
        offset, count = file.pages[0].tags[273], file.pages[0].tags[279]
    data = bytearray(small + bomb)
    struct.pack_into("<I", data, offset.valueoffset, len(small))
    struct.pack_into("<HII", data, count.offset + 2, 4, 1, len(bomb))
    with pytest.raises(ImageError, match="inflates to more than its 96 bytes"):
        decode_image(bytes(data))


def saved(kind: str, pixels: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


JPEGS = {
    "baseline": {},
    "420": {"subsampling": 2, "quality": 40},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 4},
    "restarts 420": {"restart_marker_rows": 1, "subsampling": 2},
}


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_without_its_end(name, channels):
    pixels = cv2.GaussianBlur(textured(38, 90, 3), (0, 0), 2)[..., :channels].squeeze()
    data = saved("JPEG", pixels, **JPEGS[name])
    expected = decode_image(data).pixels
    for cut in (1, 2):
        np.testing.assert_array_equal(decode_image(data[:-cut]).pixels, expected)
    for cut in [*range(3, 50), *range(50, len(data) - 700, len(data) // 9)]:
        with pytest.raises(ImageError, match="truncated"):
            decode_image(data[:-cut])


def test_a_missing_end_is_said(caplog):
    decode_image(saved("JPEG", textured(33, 44))[:-2], "it")
    assert "'it' is damaged (its end is missing), but its pixels are whole: they are read" in caplog.text


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_whose_end_comes_early(name, mode):
    picture = PillowImage.fromarray(cv2.GaussianBlur(textured(80, 96), (0, 0), 2)).convert(mode)
    file = io.BytesIO()
    picture.save(file, "JPEG", **JPEGS[name])
    data = file.getvalue()
    expected = decode_image(data).pixels
    for kept in (0.5, 0.7, 0.9):
        with pytest.raises(ImageError, match="truncated"):
            decode_image(data[: int(kept * len(data))] + b"\xff\xd9")
    for cut in range(1, 24):  # the last block, byte by byte
        with contextlib.suppress(ImageError):
            np.testing.assert_array_equal(decode_image(data[: -2 - cut] + b"\xff\xd9").pixels, expected)


@pytest.mark.parametrize("value", [0, 127, 128, 255])
def test_whole_jpegs_are_read_whatever_their_last_pixels_are(value):
    for height, width, options in itertools.product((8, 9, 33), (8, 17), JPEGS.values()):
        data = saved("JPEG", np.full((height, width), value, np.uint8), **options)
        np.testing.assert_array_equal(decode_image(data).pixels, np.asarray(PillowImage.open(io.BytesIO(data))))


def jpeg_of_separate_scans(parameters: bytes = b"\0\x3f\0") -> list[bytes]:
    """The parts of a sequential JPEG of 8x8 pixels, one scan for each component; the codes are all of one bit."""

    def segment(marker: int, payload: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload

    tables = segment(0xDB, b"\0" + bytes([8]) * 64)
    for kind, value in ((0x00, 5), (0x10, 0)):  # a difference of five bits; the end of a block
        tables += segment(0xC4, bytes([kind, 1]) + bytes(15) + bytes([value]))
    frame = segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 3) + b"".join(bytes([each, 0x11, 0]) for each in (1, 2, 3)))
    scans = [segment(0xDA, bytes([1, each, 0]) + parameters) + bytes([0b01010101, 0]) for each in (1, 2, 3)]
    return [b"\xff\xd8" + tables + frame, *scans]


def test_sequential_jpeg_without_its_last_scans():
    parts = jpeg_of_separate_scans()
    expected = decode_image(b"".join(parts) + b"\xff\xd9").pixels
    assert len(np.unique(expected)) > 1
    for kept in (2, 3):
        for end in (b"", b"\xff\xd9"):
            with pytest.raises(ImageError, match="truncated"):
                decode_image(b"".join(parts[:kept]) + end)
    for careless in (b"\0\0\0", b"\0\x3f\x01", b"\x01\0\xff"):  # has no meaning in a sequential file
        data = b"".join(jpeg_of_separate_scans(careless)) + b"\xff\xd9"
        np.testing.assert_array_equal(decode_image(data).pixels, expected)


def test_progressive_jpeg_without_its_last_scans():
    data = saved("JPEG", cv2.GaussianBlur(textured(70, 90), (0, 0), 2), progressive=True)
    scans = [place for place in range(len(data)) if data[place : place + 2] == b"\xff\xda"]
    for place in scans[1:]:
        with pytest.raises(ImageError, match="truncated"):
            decode_image(data[:place])


def test_jpeg_with_what_follows_its_end():
    data = saved("JPEG", textured(33, 44))
    for more in (b"\0" * 100, b"a film", data[: len(data) // 2]):
        assert decode_image(data + more).pixels.shape == (33, 44, 3)


@pytest.mark.parametrize("suffix", [".bmp", ".webp"])
def test_other_files_that_are_cut(suffix):
    data = encode_image(textured(30, 40), suffix)
    for kept in range(0, len(data) - 2, max(1, len(data) // 50)):
        with pytest.raises(ImageError):
            decode_image(data[:kept])


CLAIMS = [(1, 1 << 30), (1 << 30, 1), (1 << 15, 1 << 15), (1 << 17, 1 << 17), (0, 5), (5, 0)]


def claiming(kind: str, height: int, width: int) -> bytes:
    """A file of a few pixels whose header speaks of other sides."""
    data = bytearray(encode_image(textured(4, 4), f".{kind}"))
    if kind == "png":
        header = b"IHDR" + struct.pack(">II", width, height) + bytes(data[24:29])
        data[12:33] = header + struct.pack(">I", zlib.crc32(header))
    elif kind == "bmp":
        struct.pack_into("<ii", data, 18, width, height)
    elif kind == "jpg":
        frame = data.index(b"\xff\xc0")
        struct.pack_into(">HH", data, frame + 5, height & 0xFFFF, width & 0xFFFF)
    else:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            for tag, value in ((257, height), (256, width)):
                struct.pack_into("<HII", data, file.pages[0].tags[tag].offset + 2, 4, 1, value)
    return bytes(data)


@pytest.mark.parametrize("kind", ["png", "bmp", "jpg", "tif"])
@pytest.mark.parametrize(("height", "width"), CLAIMS)
def test_a_few_bytes_claim_much(tmp_path, kind, height, width):
    path = tmp_path / f"claim.{kind}"
    path.write_bytes(claiming(kind, height, width))
    for read in (read_image, read_size):
        with pytest.raises(ImageError, match=r"cannot read '.*claim"):
            read(path)


def test_a_gif_claims_no_screen_that_its_bytes_could_not_fill():
    data = bytearray(saved("GIF", np.zeros((20, 20), np.uint8)))
    struct.pack_into("<HH", data, 6, 1000, 1000)
    assert decode_image(bytes(data)).pixels.shape[:2] == (1000, 1000)
    struct.pack_into("<HH", data, 6, 32_000, 32_000)
    with pytest.raises(ImageError, match="claims"):
        decode_image(bytes(data))


@pytest.mark.parametrize("suffix", sorted({".gif", *WRITTEN_SUFFIXES}))
def test_images_above_pillows_own_bound_are_read(monkeypatch, suffix, tmp_path):
    """It is meant for images of unknown origin, whose claims are compared with their bytes here."""
    path = tmp_path / f"a{suffix}"
    if suffix == ".gif":
        path.write_bytes(saved("GIF", textured(70, 80)))
    else:
        write_image(path, textured(70, 80))
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 100)
    assert read_size(path) == (70, 80)
    assert read_image(path).pixels.shape[:2] == (70, 80)
    assert PillowImage.MAX_IMAGE_PIXELS == 100


def test_large_jpegs_with_restarts_are_read(monkeypatch):
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 100)
    for options in JPEGS.values():
        data = saved("JPEG", textured(70, 80), **options)
        assert decode_image(data).pixels.shape == (70, 80, 3)


def test_pillows_bound_comes_back_after_the_last_of_several_readers(monkeypatch):
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 100)
    first, second = without_pillows_bound(), without_pillows_bound()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert PillowImage.MAX_IMAGE_PIXELS is None
    second.__exit__(None, None, None)
    assert PillowImage.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("tag", [258, 277, 278, 322, 323, 256, 257, 284, 317])
@pytest.mark.parametrize("value", [0, 2, 65535])
def test_tiff_with_senseless_numbers(tag, value):
    """Whatever a directory claims, it is an image or an error of ours."""
    for dtype, layout in itertools.product(("uint8", "uint16"), ({"tile": (16, 16)}, {"rowsperstrip": 4})):
        data = bytearray(tiff_file(textured(20, 20, dtype=dtype), compression="zlib", **layout))
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            entry = file.pages[0].tags.get(tag)
            if entry is None:
                continue
            struct.pack_into("<HIHH", data, entry.offset + 2, 3, 1, value, 0)
        with contextlib.suppress(ImageError):
            assert decode_image(bytes(data)).pixels.size < 1 << 24


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp"])
def test_damaged_bytes_are_an_image_or_an_error_of_ours(suffix):
    source = random.Random(suffix)
    depths = ("uint8", "uint16") if suffix in (".png", ".tif") else ("uint8",)
    for number in range(150):
        data = bytearray(encode_image(textured(12, 17, 3, depths[number % len(depths)]), suffix))
        for _ in range(source.randrange(1, 4)):
            data[source.randrange(min(len(data), 300) if number % 3 else len(data))] = source.randrange(256)
        with contextlib.suppress(ImageError):
            decode_image(bytes(data[: source.randrange(len(data))] if number % 5 == 0 else data))

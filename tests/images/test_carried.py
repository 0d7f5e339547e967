"""What files carry beside their pixels: what is kept from each format to each other is a table in the docs."""

from __future__ import annotations

import dataclasses
import io
import logging
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage
from PIL import ImageCms, PngImagePlugin
from PIL.TiffImagePlugin import IFDRational

from restore.images import Image, decode_image, encode_image, read_image
from restore.images.carried import Carried, say_left_behind
from restore.images.formats import FORMATS, how_to_read

PAGE = Path(__file__).parents[2] / "docs" / "carried.md"
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF><r:Description tiff:Orientation="6" tiff:ImageWidth='24'
 exif:PixelYDimension="16"><exif:PixelXDimension>24</exif:PixelXDimension><dc:rights>somebody</dc:rights></r:Description>
</r:RDF></x:xmpmeta>"""
GAMMA = struct.pack(">I", 100_000)
KINDS = ("profile", "EXIF", "resolution", "XMP", "text", "colour")
SOURCES = {
    "PNG": KINDS,
    "JPEG": ("profile", "EXIF", "resolution", "XMP", "text"),
    "TIFF": ("profile", "EXIF", "resolution", "XMP"),
    "WebP": ("profile", "EXIF", "resolution", "XMP"),
    "BMP": ("resolution",),
    "GIF": ("text",),
    "PNM": (),
    "AVIF": ("profile", "EXIF", "resolution", "XMP"),
}
SOURCES = {name: kinds for name, kinds in SOURCES.items() if not how_to_read(name)}


@pytest.fixture(autouse=True)
def _nothing_said_yet():
    say_left_behind.cache_clear()


def exif_block(*, resolution: float | None = None, orientation: int = 1) -> bytes:
    exif = PillowImage.Exif()
    exif[274], exif[315], exif[256], exif[257] = orientation, "somebody", 24, 16
    exif.get_ifd(34665).update({33434: (1, 125), 40962: 24, 40963: 16})
    if resolution:
        exif[282] = exif[283] = IFDRational(resolution)
        exif[296] = 2
    return exif.tobytes()


def photo(channels: int = 3) -> PillowImage.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, channels), np.uint8)
    return PillowImage.fromarray(pixels.squeeze())


def saved(kind: str, image: PillowImage.Image | None = None, **options) -> bytes:
    file = io.BytesIO()
    (image or photo()).save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def source(name: str) -> bytes:
    """A file of this format, by Pillow, with everything that it can carry."""
    if name == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_text("Title", "a photograph")
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        data = saved("PNG", pnginfo=info, dpi=(300, 300), icc_profile=SRGB, exif=exif_block())
        return data[:33] + chunk(b"gAMA", GAMMA) + data[33:]
    if name == "JPEG":
        return saved("JPEG", dpi=(300, 300), icc_profile=SRGB, exif=exif_block(), xmp=XMP, comment="a photograph")
    if name == "TIFF":
        return saved("TIFF", dpi=(300, 300), icc_profile=SRGB, tiffinfo={315: "somebody", 700: XMP})
    if name == "WebP":
        return saved("WEBP", icc_profile=SRGB, exif=exif_block(resolution=300), xmp=XMP, lossless=True)
    if name == "BMP":
        return saved("BMP", dpi=(300, 300))
    if name == "PNM":
        return saved("PPM")
    if name == "AVIF":
        return saved("AVIF", icc_profile=SRGB, exif=exif_block(resolution=300), xmp=XMP)
    return saved("GIF", comment="a photograph")


def found_in(data: bytes) -> set[str]:
    """What Pillow finds in a file of that which `source` puts in."""
    image = PillowImage.open(io.BytesIO(data))
    image.load()
    exif, info = image.getexif(), image.info
    density = info.get("dpi") or (exif.get(282, 0), exif.get(283, 0))
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    texts = [*getattr(image, "text", {}).values(), info.get("comment") or b""]
    found = {
        "profile": bool(info.get("icc_profile")),
        "EXIF": exif.get(315) == "somebody",
        "resolution": all(abs(float(each) - 300) < 0.5 for each in density),
        "XMP": b"somebody" in (xmp.encode() if isinstance(xmp, str) else xmp),
        "text": any(b"a photograph" in (text.encode() if isinstance(text, str) else text) for text in texts),
        "colour": info.get("gamma") == 1.0,
    }
    return {kind for kind in KINDS if found[kind]}


def written(image: Image, name: str) -> bytes:
    suffix = next(fmt.suffixes[0] for fmt in FORMATS if fmt.name == name)
    larger = np.repeat(np.repeat(image.pixels, 2, 0), 2, 1)
    return encode_image(dataclasses.replace(image, pixels=larger), suffix)


def table() -> list[str]:
    """Rows: formats that are read; columns: formats that are written."""
    names = [fmt.name for fmt in FORMATS]
    rows = ["| from \\ to | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for name, kinds in SOURCES.items():
        image, cells = decode_image(source(name)), []
        for target in names:
            kept = found_in(written(image, target))
            cells.append("all" if kept and kept == set(kinds) else ", ".join(k for k in KINDS if k in kept) or "-")
        rows.append(f"| {name}: {', '.join(kinds) or 'nothing'} | " + " | ".join(cells) + " |")
    return rows


@pytest.mark.parametrize("name", SOURCES)
def test_sources_hold_what_they_should(name):
    assert found_in(source(name)) == set(SOURCES[name])


def test_the_table_of_the_docs():
    rows, page = table(), PAGE.read_text(encoding="utf-8").splitlines()
    written = [row for row in page if row.startswith("|") and (row in rows or row.split(":")[0][2:] in SOURCES)]
    assert written == rows, "docs/carried.md should hold this table:\n\n" + "\n".join(rows)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("target", [fmt.name for fmt in FORMATS])
def test_what_is_left_behind_is_said(name, target, caplog):
    image = decode_image(source(name))
    lost = set(SOURCES[name]) - found_in(written(image, target))
    written(image, target)
    words = {
        "profile": "ICC",
        "EXIF": "EXIF",
        "resolution": "resolution",
        "XMP": "XMP",
        "text": "text",
        "colour": "gAMA",
    }
    said = [record.message for record in caplog.records if record.message.startswith("not carried over")]
    assert len(said) == len(lost)  # once, however many files there are
    assert {kind for kind in lost if any(words[kind] in message for message in said)} == lost


@pytest.mark.parametrize("target", ["PNG", "JPEG", "TIFF", "WebP"])
@pytest.mark.parametrize("orientation", [1, 6, 8, 3])
def test_sizes_and_orientation_are_those_of_the_result(target, orientation):
    exif = exif_block(orientation=orientation)
    image = decode_image(saved("JPEG", exif=exif, xmp=XMP, dpi=(300, 150)))
    result = PillowImage.open(io.BytesIO(written(image, target)))
    tags = result.getexif()
    width, height = result.size
    assert (width, height) == ((48, 32) if orientation in (1, 3) else (32, 48))
    assert tags.get(274, 1) == 1
    assert (tags.get_ifd(34665)[40962], tags.get_ifd(34665)[40963]) == (width, height)
    if target != "TIFF":
        assert (tags[256], tags[257]) == (width, height)
    xmp = result.info.get("xmp") or result.info.get("XML:com.adobe.xmp")
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    for part in (
        b'Orientation="1"',
        b"ImageWidth='%d'" % width,
        b'YDimension="%d"' % height,
        b"XDimension>%d<" % width,
    ):
        assert part in xmp
    again = decode_image(written(image, target)).carried.density
    assert again == ((300, 150, True) if orientation in (1, 3) else (150, 300, True))


@pytest.mark.parametrize("shape", [(16, 24), (16, 24, 2), (16, 24, 3), (16, 24, 4)])
@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
def test_tiff_files_of_more_than_four_gigabytes(monkeypatch, shape, depth):
    """Written and read as BigTIFF, with all that they carry; here the bound is lowered."""
    monkeypatch.setattr("restore.images.tiff._MOST_CLASSIC", 10)
    pixels = np.random.default_rng(0).random(shape)
    pixels = pixels.astype(depth) if depth == "float32" else (pixels * np.iinfo(depth).max).astype(depth)
    exif, carried = exif_block(resolution=300).removeprefix(b"Exif\0\0"), Carried((300.0, 300.0, True), XMP)
    data = encode_image(Image(pixels, SRGB if len(shape) > 2 and shape[2] > 2 else None, exif, carried=carried), ".tif")
    assert data[:4] == b"II+\0"
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert file.is_bigtiff
    image = decode_image(data)
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.carried.density == (300, 300, True)
    assert b"somebody" in image.carried.xmp
    assert bool(image.icc) == (len(shape) > 2 and shape[2] > 2)
    tags = PillowImage.Exif()
    tags.load(image.exif)
    assert tags[315] == "somebody"
    assert tags.get_ifd(34665)[33434] == (1, 125) or float(tags.get_ifd(34665)[33434]) == 1 / 125


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_the_author_and_the_date_in_a_tiff_file_of_another_program(order, bigtiff, caplog):
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=bigtiff, byteorder=order) as writer:
        extra = [(315, 2, 0, "somebody", True), (306, 2, 0, "2020:01:02 03:04:05", True)]
        writer.write(np.asarray(photo()), photometric="rgb", extratags=extra, description="a bridge", metadata=None)
    image = decode_image(file.getvalue())
    np.testing.assert_array_equal(image.pixels, np.asarray(photo()))
    result = decode_image(written(image, "PNG"))
    if bigtiff and order == ">":  # of which Pillow knows nothing
        assert "not carried over: the EXIF tags" in caplog.text
        return
    tags = PillowImage.Exif()
    tags.load(result.exif)
    assert (tags[315], tags[306], tags[270]) == ("somebody", "2020:01:02 03:04:05", "a bridge")


def test_a_thumbnail_of_the_old_image_is_taken_off():
    exif = bytearray(exif_block().removeprefix(b"Exif\0\0"))
    order = {b"II": "<", b"MM": ">"}[bytes(exif[:2])]
    (directory,) = struct.unpack_from(f"{order}I", exif, 4)
    (count,) = struct.unpack_from(f"{order}H", exif, directory)
    end = directory + 2 + 12 * count
    struct.pack_into(f"{order}I", exif, end, len(exif))
    thumbnail = bytes(exif) + struct.pack(f"{order}HHHIII", 1, 513, 4, 1, 0, 0)
    for suffix in (".png", ".jpg", ".webp"):
        kept = decode_image(encode_image(Image(np.asarray(photo()), exif=thumbnail), suffix)).exif
        assert len(kept) == len(thumbnail)
        assert struct.unpack_from(f"{order}I", kept, end) == (0,)


@pytest.mark.parametrize("density", [(72, 72, True), (300, 600, True), (1.0, 2.0, False), (2.54, 96.52, True)])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp"])
def test_resolutions_come_back(density, suffix):
    image = decode_image(saved("PNG"))
    image.carried = dataclasses.replace(image.carried, density=density)
    found = decode_image(encode_image(image, suffix)).carried.density
    if suffix == ".bmp" and not density[2]:
        assert found is None
    else:
        exact = pytest.approx(density[:2], abs=0.51 if suffix == ".jpg" else 0.02)
        assert (found[:2], found[2]) == (exact, density[2])


@pytest.mark.parametrize("text", ["plain", "caf\u00e9", "\u5199\u771f", "two\nlines", ""])
def test_text_in_every_alphabet(text):
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", text, zip=len(text) > 4)
    info.add_itxt("Description", text, zip=True)
    result = PillowImage.open(io.BytesIO(encode_image(decode_image(saved("PNG", pnginfo=info)), ".png")))
    assert result.text == {"Title": text, "Description": text}


def test_blocks_in_raw_profiles_are_what_they_say():
    info = PngImagePlugin.PngInfo()
    for name, block in (("exif", exif_block()), ("icc", SRGB), ("xmp", XMP), ("iptc", b"abc")):
        info.add_text(f"Raw profile type {name}", f"\n{name}\n{len(block):8}\n{block.hex()}\n", zip=True)
    image = decode_image(saved("PNG", pnginfo=info))
    assert image.exif == exif_block().removeprefix(b"Exif\0\0")
    assert image.icc == SRGB
    assert b"somebody" in image.carried.xmp
    assert image.carried.text == ()
    assert image.carried.left == ("IPTC and Photoshop data",)


def test_plain_srgb_is_no_loss(caplog):
    data = saved("PNG")
    image = decode_image(data[:33] + chunk(b"sRGB", b"\0") + chunk(b"gAMA", struct.pack(">I", 45455)) + data[33:])
    encode_image(image, ".jpg")
    assert "not carried over" not in caplog.text


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, None),  # tifffile's own {"shape": ...}
        ({"imagej": True}, "the description of ImageJ"),
        ({"ome": True, "description": None}, "the description of OME-TIFF"),
        ({"description": "a photograph", "metadata": None}, None),
    ],
)
def test_descriptions_of_the_old_file(dtype, options, said, caplog):
    file = io.BytesIO()
    pixels = np.ones((16, 24), dtype) if options.get("imagej") else np.ones((16, 24, 3), dtype)
    tifffile.imwrite(file, pixels, photometric="rgb" if pixels.ndim == 3 else None, **options)
    image = decode_image(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(written(image, "TIFF"))) as result:
        description = result.pages[0].description
    assert description == ("a photograph" if "metadata" in options else "")
    said_now = [record.message for record in caplog.records]
    assert said_now == ([f"not carried over: {said} of an image"] if said else [])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(("extra", "channels"), [(["unassalpha"], 4), (["unspecified"], 3), (["assocalpha"], 4)])
def test_channels_beyond_the_colours(dtype, extra, channels, caplog):
    white = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    pixels = np.full((5, 6, 4), 0.25 * white).astype(dtype)
    pixels[..., 3] = (0.5 * white) if dtype == "float32" else white // 2
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric="rgb", extrasamples=extra, metadata=None)
    image = decode_image(file.getvalue())
    assert image.channels == channels
    expected = 0.5 if extra == ["assocalpha"] else 0.25
    assert image.pixels[0, 0, 0] / white == pytest.approx(expected, abs=0.01)
    encode_image(image, ".tif")
    assert ("channels beyond colour and alpha" in caplog.text) == (channels == 3)


def test_more_channels_than_are_known(caplog):
    file = io.BytesIO()
    pixels = np.arange(5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7)
    tifffile.imwrite(
        file,
        pixels,
        photometric="rgb",
        planarconfig="contig",
        extrasamples=["unassalpha"] + 3 * ["unspecified"],
        metadata=None,
    )
    image = decode_image(file.getvalue())
    np.testing.assert_array_equal(image.pixels, pixels[..., :4])
    encode_image(image, ".png")
    assert "not carried over: channels beyond colour and alpha of an image" in caplog.text


def test_a_place_on_earth_is_said(caplog):
    file = io.BytesIO()
    geo = [(33550, "d", 3, (1.0, 1.0, 0.0), True), (34735, "H", 4, (1, 1, 0, 0), True)]
    tifffile.imwrite(file, np.ones((16, 24, 3), np.uint8), photometric="rgb", metadata=None, extratags=geo)
    encode_image(decode_image(file.getvalue()), ".tif")
    assert [record.message for record in caplog.records] == [
        "not carried over: the place on Earth (GeoTIFF) of an image"
    ]


@pytest.mark.parametrize("kind", ["exif", "xmp", "comment"])
def test_blocks_too_large_for_jpeg_do_not_stop_it(kind, caplog):
    image = decode_image(source("PNG"))
    large = {"exif": image.exif + bytes(70_000), "xmp": XMP + b" " * 70_000, "comment": (("Title", "x" * 70_000),)}[
        kind
    ]
    if kind == "exif":
        image.exif = large
    else:
        image.carried = dataclasses.replace(image.carried, **{"text" if kind == "comment" else kind: large})
    assert decode_image(encode_image(image, ".jpg")).pixels.shape == (16, 24, 3)
    assert "JPEG holds at most 65500 bytes of it" in caplog.text


def test_paths_are_told_by_their_ending(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    (tmp_path / "a.png").write_bytes(source("PNG"))
    encode_image(read_image(tmp_path / "a.png"), ".webp")
    assert "not carried over: text of png files: WebP holds none" in caplog.text


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp"])
def test_a_damaged_exif_block_does_not_stop_an_image(suffix, caplog):
    whole, source = exif_block(resolution=300).removeprefix(b"Exif\0\0"), random.Random(0)
    for number in range(60):
        exif = bytearray(whole)
        for _ in range(source.randrange(1, 5)):
            exif[source.randrange(len(exif))] = source.randrange(256)
        damaged = bytes(exif[: source.randrange(1, len(exif))]) if number % 3 == 0 else bytes(exif)
        image = Image(np.asarray(photo()), exif=damaged, carried=Carried((300.0, 300.0, True)))
        assert decode_image(encode_image(image, suffix)).pixels.shape == (16, 24, 3)
    assert suffix == ".bmp" or "the EXIF block of an image: it is damaged" in caplog.text

from __future__ import annotations

import io
import os
import stat
import struct
import sys
import zipfile
import zlib

import numpy as np
import pytest

from restore.errors import DataError, ImageError
from restore.images import encode_image
from restore.leaderboard import archive
from restore.leaderboard.archive import Limits, open_package, write_zip
from restore.leaderboard.checking import read_rgb


def _link(name):
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/passwd", "is an absolute path"),
        ("C:\\evil.png", "is an absolute path"),
        ("../evil.png", "leads outside"),
        ("images/../../evil.png", "leads outside"),
        ("..\\evil.png", "leads outside"),
        ("images/0901x4.png", "lies in a folder: the zip must be flat"),
        ("__MACOSX/._0901x4.png", "was added by macOS"),
        ("a\x1b[31m.png", "is not a name of a file"),
        (_link("0901x4.png"), "is a link"),
    ],
)
def test_hostile_members_are_refused_and_nothing_is_written(tmp_path, zipped, name, reason):
    path = zipped({name: b"/etc/passwd", "fine.png": b""})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=reason), open_package(path):
        pass
    assert sorted(tmp_path.rglob("*")) == before


def test_every_reason_at_once(zipped):
    path = zipped({"../a.png": b"", "b/c.png": b"", _link("d.png"): b"x"})
    with pytest.raises(DataError) as caught, open_package(path):
        pass
    assert all(text in str(caught.value) for text in ("'../a.png'", "'b/c.png'", "'d.png' is a link"))


def test_too_many_files(zipped):
    path = zipped({f"{number:05}.png": b"" for number in range(10_100)})
    with pytest.raises(DataError, match="holds 10,100 files; a submission has 4,096 at most"), open_package(path):
        pass


def test_doubled_names_also_in_another_case(zipped):
    path = zipped({"A.png": b"", "a.PNG": b""})
    with pytest.raises(DataError, match="is there 2 times"), open_package(path):
        pass


def test_bombs_by_their_ratio_and_by_their_size(zipped):
    path = zipped({"0901x4.png": b"\0" * (4 << 20)})
    with pytest.raises(DataError, match="a zip bomb"), open_package(path):
        pass
    path = zipped({"0901x4.png": os.urandom(2000)})
    with pytest.raises(DataError, match="unpacks to"), open_package(path, Limits(file_bytes=1000)):
        pass
    with pytest.raises(DataError, match="it unpacks to"), open_package(path, Limits(total_bytes=1000)):
        pass


def test_a_member_that_lies_about_its_size_is_read_no_further(zipped):
    path = zipped({"a.png": b"\0" * (4 << 20)})
    data = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature) + place
        data[at : at + 4] = struct.pack("<I", 100)
    path.write_bytes(data)
    with open_package(path) as package, pytest.raises(DataError, match="cannot be unpacked"):
        package.read("a.png")


def test_an_image_that_claims_any_size_is_not_decoded(zipped):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    path = zipped({"a.png": b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")})
    with open_package(path) as package, pytest.raises(DataError, match=r"60000x60000 .* expected: 8x4"):
        read_rgb(package, "a.png", [(4, 8)])


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.zeros((4, 8), np.uint8), "8 bit grey; expected: 8 bit RGB"),
        (np.zeros((4, 8, 4), np.uint8), "8 bit RGB with alpha"),
        (np.zeros((4, 8, 3), np.uint16), "16 bit RGB"),
        (np.zeros((8, 4, 3), np.uint8), "4x8 .* expected: 8x4"),
    ],
)
def test_wrong_modes_and_sizes(zipped, pixels, reason):
    path = zipped({"a.png": encode_image(pixels, ".png")})
    with open_package(path) as package, pytest.raises(DataError, match=reason):
        read_rgb(package, "a.png", [(4, 8)])


@pytest.mark.parametrize("content", [b"", b"GIF89a" + bytes(100), b"#!/bin/sh\nrm -rf /\n" * 9])
def test_other_files_with_names_of_images(zipped, content):
    with open_package(zipped({"a.png": content})) as package, pytest.raises(DataError, match="is not a PNG image"):
        read_rgb(package, "a.png", [(4, 8)])


def test_damaged_images(zipped):
    content = bytearray(encode_image(np.zeros((4, 8, 3), np.uint8), ".png"))
    content[45] ^= 255
    with open_package(zipped({"a.png": bytes(content)})) as package, pytest.raises(ImageError, match="damaged"):
        read_rgb(package, "a.png", [(4, 8)])


def test_not_a_zip_at_all(tmp_path, zipped):
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(DataError, match="is not a readable zip"), open_package(tmp_path / "text.zip"):
        pass
    cut = zipped({"a.png": os.urandom(5000)})
    cut.write_bytes(cut.read_bytes()[:3000])
    with pytest.raises(DataError, match="is not a readable zip"), open_package(cut):
        pass
    with pytest.raises(DataError, match="there is no submission"), open_package(tmp_path / "none"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_folders_are_judged_by_the_same_rules(tmp_path):
    folder = tmp_path / "res"
    folder.mkdir()
    (folder / "a.png").symlink_to("/etc/passwd")
    (folder / "sub").mkdir()
    with pytest.raises(DataError, match=r"'a.png' is a folder, a link[\s\S]*'sub' is a folder"), open_package(folder):
        pass


def test_a_folder_that_holds_one_zip_is_that_zip(tmp_path, zipped):
    folder = tmp_path / "res"
    folder.mkdir()
    zipped({"a.txt": b"hello"}).rename(folder / "mine.zip")
    with open_package(folder) as package:
        assert package.text("a.txt") == "hello"


def test_written_zips_are_flat_plain_and_the_same_every_time(tmp_path):
    (tmp_path / "x").write_bytes(b"from a file")
    files = {"b.png": tmp_path / "x", "a.txt": b"text"}
    write_zip(tmp_path / "1.zip", files)
    write_zip(tmp_path / "2.zip", dict(reversed(files.items())))
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO((tmp_path / "1.zip").read_bytes())) as made:
        assert made.namelist() == ["a.txt", "b.png"]
        assert made.testzip() is None
    with open_package(tmp_path / "1.zip") as package:
        assert package.read("b.png") == b"from a file"


def test_long_lists_of_problems_are_cut(zipped):
    with pytest.raises(DataError) as caught, open_package(zipped({f"../{n}.png": b"" for n in range(30)})):
        pass
    assert "and 22 more" in str(caught.value)
    assert archive.SHOWN == 8

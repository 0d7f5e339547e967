"""One bad file never stops the rest: it is named, the others are done, and the command ends with 1."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from restore.cli import main
from restore.data.loading import Guarded
from restore.data.sampling import Draw
from restore.data.single import SingleImageDataset
from restore.images import encode_image, list_images
from restore.terminal import visible

GOOD = {"good one.png", "good two.tif", "latin\udce9.png"}


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def wide_png() -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1 << 30, 1, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def tiff(**tags: int) -> bytes:
    """A directory of eight bits that says what the arguments say."""
    numbers = {
        "width": 256,
        "height": 257,
        "compression": 259,
        "offset": 273,
        "samples": 277,
        "count": 279,
        "bits": 258,
    }
    values = {"width": 4, "height": 4, "compression": 1, "offset": 8, "samples": 1, "count": 16, "bits": 8, **tags}
    entries = sorted((numbers[name], value) for name, value in values.items())
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in [*entries, (262, 1)])
    return b"II*\0" + struct.pack("<IH", 8, len(entries) + 1) + directory + bytes(4)


def bad_files() -> dict[str, bytes]:
    noise = np.random.default_rng(0).integers(1, 255, (48, 48, 3), np.uint8)
    png, jpg, tif = (encode_image(noise, suffix) for suffix in (".png", ".jpg", ".tif"))
    return {
        "empty.png": b"",
        "text.jpg": b"<html>not found</html>",
        "half p.png": png[: len(png) // 2],
        "half j.jpg": jpg[: len(jpg) // 2],
        "half t.tif": tif[: len(tif) // 2],
        "begun.tif": b"II*\0\0\0\0\0" + bytes(64),
        "no directory.tif": b"II*\0" + struct.pack("<I", 1 << 20) + bytes(64),
        "samples.tif": tiff(samples=65535, width=1 << 20, height=1 << 10, bits=16),
        "large.tif": tiff(width=1 << 31, height=1 << 31),
        "wide.png": wide_png(),
        "bad\udce9.png": b"nothing",
    }


@pytest.fixture
def folder(tmp_path):
    """A folder with three images that can be read and fifteen that cannot."""
    if sys.platform != "linux":
        pytest.skip("names that are not UTF-8 are Linux's")
    source = tmp_path / "in"
    source.mkdir()
    for seed, name in enumerate(sorted(GOOD)):
        noise = np.random.default_rng(seed).integers(0, 255, (48, 48, 3), np.uint8)
        (source / name).write_bytes(encode_image(noise, name[-4:]))
    for name, data in bad_files().items():
        (source / name).write_bytes(data)
    for name, target in {"away.png": "nowhere.png", "self.png": "self.png", "a.png": "b.png", "b.png": "a.png"}.items():
        (source / name).symlink_to(target)
    (source / "circle").symlink_to(".")
    return source


COMMANDS = {
    "run": ["run", "-m", "WEIGHTS", "-i", "IN", "-o", "IN/out", "--device", "cpu", "--recursive"],
    "score": ["score", "-r", "IN", "-g", "IN", "-o", "OUT", "--workers", "1"],
    "degrade": ["degrade", "-i", "IN", "-o", "OUT", "--recipe", "bicubic", "--save-parameters", "--workers", "1"],
    "subimages": ["data", "subimages", "-i", "IN", "-o", "OUT", "--size", "24", "--step", "24"],
    "lmdb": ["data", "lmdb", "-i", "IN", "-o", "OUT.lmdb"],
    "check": ["data", "check", "-opt", "OPT"],
}
NEEDED = {"lmdb": "lmdb"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_bad_file_is_named_and_the_rest_is_done(command, folder, tmp_path, weights, capsys, monkeypatch):
    if command in NEEDED:
        pytest.importorskip(NEEDED[command])
    monkeypatch.setenv("COLUMNS", "400")
    block = f"{{name: x, type: SingleImageDataset, dataroot_lq: {folder}}}"
    network = "{type: SwinIR, embed_dim: 12, depths: [2], num_heads: [2]}"
    option_file = tmp_path / "o.yml"
    option_file.write_text(f"name: a\nnetwork_g: {network}\ndatasets:\n  test: {block}\n")
    places = {"WEIGHTS": weights, "IN": folder, "OUT": tmp_path / "out", "OPT": option_file}
    arguments = list(COMMANDS[command])
    for name, place in places.items():
        arguments = [part.replace(name, str(place)) if part.startswith(name) else part for part in arguments]
    assert main(arguments) == 1
    said = "".join(capsys.readouterr()).replace("\n", "")
    bad = {path.name for path in list_images(folder)} - GOOD
    if command == "lmdb":  # whose keys are ASCII
        bad.add("latin\udce9.png")
    shown = {name.encode("ascii", "backslashreplace").decode() for name in bad}
    assert {name for name in shown if name not in said} == set()
    made = {"run": folder / "out", "degrade": tmp_path / "out" / "lq", "subimages": tmp_path / "out"}
    if command in made:
        count = {"subimages": 4}.get(command, 1) * len(GOOD)
        assert len(list_images(made[command])) == count
    if command == "lmdb":
        assert len((tmp_path / "out.lmdb" / "meta_info.txt").read_text().splitlines()) == 2
    if command == "score":
        assert "inf" in (tmp_path / "out" / "scores.csv").read_text(encoding="utf-8")


def test_training_names_or_skips_them(folder, caplog):
    dataset = SingleImageDataset(str(folder))
    for index in range(len(dataset)):
        name = dataset.pairs[index].lq.name
        sample = Guarded(dataset)[Draw(index, 0, index)]
        assert isinstance(sample, dict) if name in GOOD else visible(name) in sample.message
        assert Path(Guarded(dataset, skip=True)[Draw(index, 0, index)]["lq_path"]).name in GOOD
    assert "skipped: cannot read" in caplog.text

"""MATLAB files: what scipy gives for good ones, one message for all others."""

from __future__ import annotations

import io
import random
import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from restore.data.storage import matfile
from restore.data.storage.matfile import read_mat
from restore.errors import DataError


def cells(*items) -> np.ndarray:
    found = np.empty(len(items), object)
    found[:] = items
    return found


CONTENT = {
    **{
        f"of_{kind}": np.arange(24).reshape(2, 3, 4).astype(kind) for kind in ("u1", "i2", "u2", "i4", "f4", "f8", "i8")
    },
    "one": 3.5,
    "nothing": np.empty((0, 3)),
    "blocks": np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 3), np.uint8),
    "names": cells("fastfading/img1.bmp", "ä.png", ""),
    "rows": np.array(["abc", "def"]),
    "nested": cells(cells(np.eye(2)), np.float32(2)),
    "is_true": np.array([True, False]),
}


def saved(content, *, packed: bool = False) -> bytes:
    file = io.BytesIO()
    savemat(file, content, do_compression=packed, oned_as="row")
    return file.getvalue()


def same(one, other) -> bool:
    if one.dtype == object:
        return one.shape == other.shape and all(map(same, one.reshape(-1), other.reshape(-1)))
    return one.shape == other.shape and one.dtype.kind == other.dtype.kind and np.array_equal(one, other)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", CONTENT)
def test_good_files_give_what_scipy_gives(name, packed):
    data = saved({name: CONTENT[name], "after": 5}, packed=packed)
    found, wanted = read_mat(data, "x.mat"), loadmat(io.BytesIO(data))
    assert same(found[name], wanted[name])
    assert found["after"].item() == 5


def test_other_kinds_of_variables_are_left_out():
    found = read_mat(saved({"a": {"field": 1}, "b": np.array([1j]), "c": 2}), "x.mat")
    assert list(found) == ["c"]


def test_what_is_no_such_file_is_said():
    with pytest.raises(DataError, match=r"x\.mat is not a readable MATLAB file"):
        read_mat(b"PK\x03\x04" + bytes(500), "x.mat")
    with pytest.raises(DataError, match=r"version 7\.3; save it with '-v7'"):
        read_mat(b"MATLAB 7.3 MAT-file" + bytes(500), "x.mat")
    old = io.BytesIO()
    savemat(old, {"blocks": np.eye(4)}, format="4")
    with pytest.raises(DataError, match="version 4; save it with '-v7'"):
        read_mat(old.getvalue(), "x.mat")


def test_what_unpacks_to_anything_is_bounded(monkeypatch):
    monkeypatch.setattr(matfile, "LARGEST_BYTES", 1 << 20)
    bomb = zlib.compress(bytes(1 << 26))
    for element in (bomb, zlib.compress(bytes(700_000))):
        packed = (15).to_bytes(4, "little") + len(element).to_bytes(4, "little") + element
        with pytest.raises(DataError, match="unpacks to more than 1 MiB"):
            read_mat(saved({})[:128] + packed * 2, "x.mat")


def test_cells_in_cells_end():
    deep = np.eye(2)
    for _ in range(200):
        deep = cells(deep)
    assert read_mat(saved({"deep": deep}), "x.mat")["deep"].shape == (1, 1)


@pytest.mark.parametrize("packed", [False, True])
def test_changed_files_end_in_one_error(packed):
    data = saved({"DenoisedBlocksSrgb": cells(*CONTENT["blocks"][0]), "names": CONTENT["names"]}, packed=packed)
    refused = []
    for seed in range(600):
        draw = random.Random(seed)
        content = bytearray(data)
        for _ in range(draw.choice([1, 2, 10])):
            place = draw.randrange(100, len(content))
            content[place : place + draw.choice([0, 1, 4])] = draw.choice([b"", b"\xff" * 4, draw.randbytes(4)])
        if draw.random() < 0.2:
            content = content[: draw.randrange(len(content))]
        try:
            read_mat(bytes(content), "x.mat")
        except DataError as error:
            refused.append(str(error))
    assert len(refused) > 200
    assert all(message.startswith("x.mat ") and "\n" not in message for message in refused)

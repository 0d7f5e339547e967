"""Pickles written by hand against their reader: nothing runs, nothing hangs, nothing grows, whatever they say."""

from __future__ import annotations

import io
import pickle
import resource
import struct
import sys
import tarfile
import time
import zipfile

import pytest
import torch

from restore.errors import CheckpointError
from restore.networks import pickled
from restore.networks.checkpoint import read_state_dict
from restore.networks.reading import read_checkpoint

RAN: list[str] = []


def touch(name: str) -> None:
    """What a pickle would have to call."""
    RAN.append(name)


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def whole(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def long(number: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", number)


def put(number: int) -> bytes:
    return b"q" + bytes([number])


def get(number: int) -> bytes:
    return b"h" + bytes([number])


def program(body: bytes, protocol: int = 2) -> bytes:
    return (b"\x80" + bytes([protocol]) if protocol > 1 else b"") + body + b"."


def in_zip(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/data.pkl", content)
        archive.writestr("a/data/0", struct.pack("<4f", 1, 2, 3, 4))
        archive.writestr("a/version", "3\n")
    return stream.getvalue()


def in_row(content: bytes) -> bytes:
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    values = struct.pack("<q4f", 4, 1, 2, 3, 4)
    return b"".join(pickle.dumps(each, 2) for each in head) + content + pickle.dumps(["0"], 2) + values


LAYOUTS = {"zip": in_zip, "row": in_row, "bare": bytes}
ME = __name__
NAMED = f"c{ME}\ntouch\n".encode()
FORK = [b"](" + get(level) + get(level) + b"e" + put(level + 1) for level in range(60)]
FORKED = b"]" + put(0) + b"".join(FORK)  # a list of 2 ** 60 values, which share one
FORKED_TUPLE = b")" + put(0) + b"".join(get(k) + get(k) + b"\x86" + put(k + 1) for k in range(60))
STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04tQ"


def tensor(size: bytes, stride: bytes, offset: bytes = b"K\x00", storage: bytes = STORAGE) -> bytes:
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + size + stride
    return b"}" + text("a.w") + rebuilt + b"\x89ccollections\nOrderedDict\n)RtRs"


def view(start: bytes) -> bytes:
    return STORAGE.replace(b"K\x04tQ", b"K\x04" + text("v") + start + b"K\x01\x87tQ")


def module(**parts: bytes) -> bytes:
    """An instance of a module that remembers itself as 0."""
    made = b"ccopyreg\n_reconstructor\nctorch.nn\nModule\ncbuiltins\nobject\nN\x87R" + put(0)
    return made + b"}(" + b"".join(text(name) + part for name, part in parts.items()) + b"ub"


WRITTEN = ("", " in protocol 0", " in protocol 1")
ONE = b"K\x01\x85"
CALLS = {
    "GLOBAL, REDUCE": program(NAMED + text("x") + b"\x85R"),
    "GLOBAL, REDUCE in protocol 0": program(f"c{ME}\ntouch\np0\n(S'x'\ntRp1\n".encode(), 0),
    "GLOBAL, REDUCE in protocol 1": program(NAMED + b"(" + b"U\x01x" + b"tR", 1),
    "INST": program(b"(S'x'\n" + f"i{ME}\ntouch\n".encode(), 2),
    "OBJ": program(b"(" + NAMED + text("x") + b"o"),
    "NEWOBJ": program(NAMED + text("x") + b"\x85\x81"),
    "NEWOBJ_EX": program(NAMED + text("x") + b"\x85}\x92", 4),
    "STACK_GLOBAL": program(text(ME) + text("touch") + b"\x93" + text("x") + b"\x85R", 4),
    "STACK_GLOBAL with dots": program(text("os") + text("path.os.system") + b"\x93" + text("exit 3") + b"\x85R", 4),
    "getattr of an import": program(
        b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(" + text(ME) + b"tR" + text("touch") + b"tR(" + text("x") + b"tR"
    ),
    "eval": program(b"cbuiltins\neval\n" + text(f"__import__('{ME}').touch('x')") + b"\x85R"),
    "BUILD with __setstate__": program(b"ccollections\nOrderedDict\n)R}" + text("__setstate__") + NAMED + b"sb"),
    "BUILD with slots": program(b"ccollections\nOrderedDict\n)RN}" + text("__class__") + NAMED + b"s\x86b"),
    "BUILD of a called": program(NAMED + b")R" + b"}" + text("a") + b"K\x01sb"),
    "append of an instance": program(b"ccollections\ndeque\n)R" + NAMED + text("x") + b"\x85Ra"),
    "a chain of calls": program(NAMED + b"".join(b")R" + NAMED + b"\x86" for _ in range(50)) + b"0" * 0),
    "torch.load": program(b"ctorch\nload\n" + text("/etc/passwd") + b"\x85R"),
    "torch.hub.load": program(b"ctorch.hub\nload\n" + text("evil/model") + text("x") + b"\x86R"),
    "an array": program(b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text("b") + b"\x87R"),
    "copyreg": program(b"ccopyreg\nadd_extension\n(" + text(ME) + text("touch") + b"K\x01tR\x82\x01)R"),
    "EXT1": program(b"\x82\x01"),
    "EXT2": program(b"\x83\x01\x00"),
    "EXT4": program(b"\x84\x01\x00\x00\x00"),
    "PERSID": program(f"P{ME}.touch\n".encode()),
    "BINPERSID of a text": program(text("x") + b"Q"),
    "BINPERSID of a call": program(b"(" + text("storage") + NAMED + b")R" + text("0") + text("cpu") + b"K\x04tQ"),
}
SENSELESS = {
    "names that are no text": program(b"]K\x01\x93", 4),
    "the text of a shared list as a name": program(FORKED + text("x") + b"\x93", 4),
    "the text of a shared list as a device": program(FORKED + b"ctorch\ndevice\n" + get(60) + b"\x85R"),
    "a shared list as a key": program(FORKED + b"}" + get(60) + b"K\x01s"),
    "a shared tuple as a key": program(FORKED_TUPLE + b"}" + get(60) + b"K\x01s"),
    "a shared tuple in a set": program(FORKED_TUPLE + b"\x8f(" + get(60) + b"\x90", 4),
    "shared dictionaries": program(
        b"}" + put(0) + b"".join(b"}(" + text("a") + get(k) + text("b") + get(k) + b"u" + put(k + 1) for k in range(60))
    ),
    "LONG4 of two gigabytes": program(b"\x8b\xff\xff\xff\x7f1"),
    "a LONG4 of less than nothing": program(b"\x8b\xff\xff\xff\xff1"),
    "BINBYTES8 of exabytes": program(b"\x8e" + struct.pack("<Q", 1 << 62) + b"x", 4),
    "BINUNICODE8 of terabytes": program(b"\x8d" + struct.pack("<Q", 1 << 42) + b"x", 4),
    "BYTEARRAY8 of exabytes": program(b"\x96" + struct.pack("<Q", 1 << 62) + b"x", 5),
    "a FRAME of exabytes": program(b"\x95" + struct.pack("<Q", 1 << 62) + b"N", 4),
    "BINSTRING of less than nothing": program(b"T\xff\xff\xff\xffx"),
    "INT of a million digits": program(b"I" + b"9" * 1_000_000 + b"\n"),
    "LONG of a million digits": program(b"L" + b"9" * 1_000_000 + b"L\n"),
    "PUT at less than nothing": program(b"Np-5\n"),
    "GET of nothing": program(b"g77\n"),
    "protocol 99": b"\x80\x63N.",
    "an unknown instruction": program(b"\xfe"),
    "no end": b"\x80\x02N",
    "nothing on the stack": b"\x80\x02.",
    "NEXT_BUFFER": program(b"\x97", 5),
    "READONLY_BUFFER": program(b"\x97\x98", 5),
    "POP of nothing": program(b"00N"),
    "APPEND to a number": program(b"K\x01K\x02a"),
    "SETITEM on a text": program(text("x") + b"K\x01K\x02s"),
    "deep tuples": program(b"N" + b"\x85" * 100_000),
    "deep lists": program(b"]" * 100_000 + b"a" * 99_999),
    "deep dictionaries": program((b"}" + text("params")) * 60_000 + b"}" + b"s" * 60_000),
    "marks": program(b"(" * 100_000),
    "a bytearray of two gigabytes": program(b"cbuiltins\nbytearray\n" + whole(2**31 - 1) + b"\x85R"),
    "a module in itself": program(
        module(
            _modules=b"}(" + b"".join(text(f"m{k}") + get(0) for k in range(500)) + b"u",
            _parameters=b"}(" + b"".join(text(f"p{k}") + b"N" for k in range(500)) + b"u",
        )
    ),
    "a module whose parts are numbers": program(module(_non_persistent_buffers_set=b"K\x05", _modules=b"K\x05")),
    "a tensor of many sides": program(
        tensor(b"(" + long((1 << 61) - 1) * 100_000 + b"t", b"(" + b"K\x00" * 100_000 + b"t")
    ),
    "a tensor of 65 sides": program(tensor(b"(" + b"K\x01" * 65 + b"t", b"(" + b"K\x00" * 65 + b"t")),
    "a tensor before its storage": program(tensor(ONE, ONE, whole(-3))),
    "a tensor behind its storage": program(tensor(ONE, ONE, whole(4))),
    "a tensor of texts": program(tensor(text("ab"), text("cd"))),
    "a tensor of a number": program(tensor(b"K\x01", b"K\x01")),
    "a tensor that overflows": program(tensor(long(1 << 61) * 2 + b"\x86", b"K\x00K\x00\x86")),
    "a view before its storage": program(tensor(ONE, ONE, storage=view(whole(-2)))),
    "a view behind its storage": program(tensor(ONE, ONE, storage=view(whole(4)))),
    "a view from a text": program(tensor(ONE, ONE, storage=view(text("x")))),
    "a view from a list": program(tensor(ONE, ONE, storage=view(b"]"))),
    "a storage elsewhere": program(tensor(ONE, ONE, storage=STORAGE.replace(text("0"), text("../../etc/passwd")))),
    "a storage of less than nothing": program(tensor(ONE, ONE, storage=STORAGE.replace(b"K\x04tQ", whole(-4) + b"tQ"))),
}
NUMBERS = b"}(" + b"".join(text(f"k{k}") + b"N" for k in range(2000)) + b"u" + put(0)
COPIES = {
    "of a dictionary": NUMBERS + b"ccollections\nOrderedDict\n" + put(1) + (get(1) + get(0) + b"\x85R0") * 3000,
    "kept": NUMBERS + b"ccollections\nOrderedDict\n" + put(1) + b"(" + (get(1) + get(0) + b"\x85R") * 3000 + b"l",
    "of a text": text("x" * 2_000_000) + put(0) + b"c_codecs\nencode\n" + put(1) + (get(1) + get(0) + b"\x85R0") * 9999,
    "of a list": NUMBERS + b"cbuiltins\nfrozenset\n" + put(1) + (get(1) + get(0) + b"\x85R0") * 3000,
}


@pytest.fixture(autouse=True)
def nothing_ran():
    RAN.clear()
    yield
    assert RAN == []


def refused(tmp_path, content: bytes) -> str:
    """The one line with which weights are refused, after a few seconds and a little memory at most."""
    (tmp_path / "x.pth").write_bytes(content)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(CheckpointError, match=r"x\.pth: ") as caught:
        read_state_dict(tmp_path / "x.pth")
    assert time.process_time() - start < 20
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 500 << 20
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", [*(f"GLOBAL, REDUCE{more}" for more in WRITTEN), "INST", "OBJ", "STACK_GLOBAL"])
def test_these_would_run_something(name):
    pickle.loads(CALLS[name])
    assert RAN == ["x"]
    RAN.clear()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_called(tmp_path, name, layout):
    refused(tmp_path, LAYOUTS[layout](CALLS[name]))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SENSELESS)
def test_senseless_pickles_are_refused_soon(tmp_path, name, layout):
    refused(tmp_path, LAYOUTS[layout](SENSELESS[name]))


@pytest.mark.parametrize("name", COPIES)
def test_what_is_copied_is_bounded(tmp_path, name):
    assert "copies the same values" in refused(tmp_path, in_zip(program(COPIES[name])))


@pytest.mark.parametrize("body", [b"(" * 9000, b"(" + b"}" * 9000 + b"l", b"N0" * 9000 + b"N"])
def test_the_number_of_instructions_is_bounded(tmp_path, monkeypatch, body):
    monkeypatch.setattr(pickled, "MOST_INSTRUCTIONS", 5000)
    assert "more than 5,000 instructions" in refused(tmp_path, in_zip(program(body)))


@pytest.mark.parametrize("layout", ["zip", "row"])
def test_what_a_tensor_may_be(tmp_path, layout):
    good = {
        "of 64 sides": tensor(b"(" + b"K\x01" * 64 + b"t", b"(" + b"K\x00" * 64 + b"t"),
        "in the middle": tensor(ONE, ONE, whole(3)),
        "of a view": tensor(ONE, ONE, storage=view(whole(3))),
        "empty": tensor(b"K\x00" + long((1 << 61) - 1) + b"\x86", b"K\x01K\x01\x86"),
    }
    for name, body in good.items():
        (tmp_path / "x.pth").write_bytes(LAYOUTS[layout](program(body)))
        found = read_checkpoint(tmp_path / "x.pth")["a.w"]
        assert isinstance(found, torch.Tensor), name
        if name in ("in the middle", "of a view"):
            assert found.tolist() == [4.0]


def test_the_oldest_layout_is_named(tmp_path):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = CALLS["GLOBAL, REDUCE"]
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    assert "a tar archive" in refused(tmp_path, stream.getvalue())

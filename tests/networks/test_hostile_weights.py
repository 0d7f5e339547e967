"""Weights files from anywhere: damaged, disguised, nested, with strangers in them; one message or the weights."""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import pickle
import random
import socket
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

import restore
from restore.errors import CheckpointError, OptionsError
from restore.networks.checkpoint import fits_into, load_weights, read_state_dict
from restore.networks.reading import read_checkpoint
from restore.networks.repconv import RepConvSR
from restore.networks.swinir import SwinIR
from restore.quality import load_quality
from restore.zoo.load import load_network, network_block

TINY = {"embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 4, "mlp_ratio": 1, "img_size": 8}
BLOCK = {"type": "SwinIR", **TINY, "upscale": 2, "upsampler": "pixelshuffledirect"}


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return {name: value.contiguous() for name, value in SwinIR(**TINY, upscale=2, upsampler="pixelshuffledirect")
            .state_dict().items()}  # fmt: skip


def written(content, *, protocol: int = 2, legacy: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def prefixed(state, prefix):
    return {f"{prefix}{name}": value for name, value in state.items()}


def same(state, other):
    return state.keys() == other.keys() and all(torch.equal(state[name], other[name]) for name in state)


# --- what is read, and how exactly


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("legacy", [False, True])
def test_every_layout_and_protocol_gives_what_was_saved(tmp_path, protocol, legacy):
    base = torch.arange(24.0)
    content = {
        "shared": [base.view(4, 6).t(), base[3:9]],
        "types": [torch.tensor([1, 0]).to(t) for t in (torch.uint8, torch.int8, torch.int16, torch.int64, torch.bool)],
        "floats": [torch.tensor([0.5, -2]).to(t) for t in (torch.float16, torch.bfloat16, torch.float64)],
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(2.5),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "plain": {"text": "é", 3: (1, 2**70, -1.5, None, True, b"\x00\xff"), "set": {1, 2}, "list": [[], {}]},
        "counter": collections.Counter({5: 2}),
        "ordered": collections.OrderedDict(b=1, a=2),
    }
    path = tmp_path / "x.pth"
    path.write_bytes(written(content, protocol=protocol, legacy=legacy))
    found = read_checkpoint(path)
    assert found["plain"] == content["plain"]
    assert (found["counter"], type(found["counter"])) == (content["counter"], collections.Counter)
    assert list(found["ordered"]) == ["b", "a"]
    for key in ("shared", "types", "floats"):
        assert [each.dtype for each in found[key]] == [each.dtype for each in content[key]]
        assert all(torch.equal(one, other) for one, other in zip(found[key], content[key], strict=True))
    for key in ("empty", "scalar", "parameter"):
        assert torch.equal(found[key], content[key].detach())
    found["shared"][1][0] = 99.0
    assert found["shared"][0].t().reshape(-1)[3] == 99.0  # as in the network, two views of one storage


@pytest.mark.parametrize("wanted", ["float8_e4m3fn", "uint16", "uint32"])
def test_newer_types_are_read(tmp_path, wanted):
    value = torch.tensor([1, 2, 3]).to(getattr(torch, wanted))
    torch.save({"x": value}, tmp_path / "x.pth")
    assert torch.equal(read_checkpoint(tmp_path / "x.pth")["x"].to(torch.float32), value.to(torch.float32))


def test_files_without_checksums_are_read(tmp_path, state):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, tmp_path / "x.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(read_state_dict(tmp_path / "x.pth"), state)


# --- where the weights are in a file

NESTED = {
    "generator": lambda s: {"generator": s},
    "checkpoint, state_dict, generator": lambda s: {"checkpoint": {"state_dict": {"generator": s}}, "epoch": 3},
    "net_g beside net_d": lambda s: {"net_d": {"conv.weight": torch.zeros(1)}, "net_g": s},
    "averaged before plain": lambda s: {"g": {name: value + 1 for name, value in s.items()}, "g_ema": s},
    "module. and netG.": lambda s: {"state_dict": prefixed(s, "module.netG.")},
    "generator. beside a critic": lambda s: {
        "state_dict": {**prefixed(s, "generator."), "discriminator.conv.weight": torch.zeros(1), "step": torch.ones(1)}
    },
    "one word in front": lambda s: prefixed(s, "my_network."),
    "numbers beside the tensors": lambda s: {**s, "epoch": 3, "best": 31.5},
    "counters of a profiler": lambda s: {**s, "total_ops": torch.zeros(1), "conv_first.total_params": torch.zeros(1)},
    "an optimizer": lambda s: {"optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}, "weights": s},
    "numbers of numpy": lambda s: {"params": s, "psnr": np.float64(31.5), "iter": np.int64(7)},
    "a namespace": lambda s: {"params": s, "args": argparse.Namespace(lr=1e-4, path=PurePosixPath("a/b"))},
    "an array of numpy": lambda s: {"params": s, "curve": np.arange(3.0)},
    "a dictionary in itself": lambda s: (lambda d: d.update(params=s, itself=d) or d)({}),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrap", NESTED.values(), ids=NESTED)
def test_the_weights_are_found(tmp_path, state, wrap, legacy):
    (tmp_path / "x.pth").write_bytes(written(wrap(dict(state)), legacy=legacy))
    assert same(read_state_dict(tmp_path / "x.pth"), state)
    assert type(load_network(tmp_path / "x.pth")).__name__ == "SwinIR"


def test_the_group_that_fits_a_known_network_is_taken(tmp_path):
    network = torch.nn.Linear(2, 3)
    torch.save({"a": {"w": torch.zeros(1)}, "b": {"c": prefixed(network.state_dict(), "net.")}}, tmp_path / "x.pth")
    state = read_state_dict(tmp_path / "x.pth", "params", fits_into(network))
    assert load_weights(network, state) == []


def test_numbers_of_numpy_are_numbers(tmp_path):
    content = {"a": np.float32(0.5), "b": np.int64(-7), "c": np.bool_(True), "d": np.array([1.0]).astype(">f8")[0]}
    torch.save(content, tmp_path / "x.pth")
    assert read_checkpoint(tmp_path / "x.pth") == {"a": 0.5, "b": -7, "c": True, "d": 1.0}


def test_a_network_that_was_saved_whole_gives_its_weights(tmp_path, state, caplog):
    network = SwinIR(**TINY, upscale=2, upsampler="pixelshuffledirect")
    network.load_state_dict(state)
    torch.save(network, tmp_path / "whole.pth")
    found = read_state_dict(tmp_path / "whole.pth")
    assert load_weights(SwinIR(**TINY, upscale=2, upsampler="pixelshuffledirect"), found) == []
    assert all(torch.equal(found[name], state[name]) for name in found)
    assert "names 'restore.networks.swinir.SwinIR'" in caplog.text


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("protocol", [2, 5])
def test_nothing_is_run(tmp_path, state, caplog, protocol):
    ran = tmp_path / "ran"
    (tmp_path / "evil.pth").write_bytes(written({"params": state, "x": Bomb(str(ran))}, protocol=protocol))
    assert same(read_state_dict(tmp_path / "evil.pth"), state)
    assert "names 'io.open'" in caplog.text
    assert "nothing of it was run" in caplog.text
    assert not ran.exists()


# --- what is refused, in one line

KINDS = {
    "empty": (b"", "empty"),
    "zeros": (bytes(5000), "nothing but zeros"),
    "web page": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
    "json": (b'{"error": "not found"}', "a text"),
    "gzip": (b"\x1f\x8b\x08\x00", "gzip"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(9), "HDF5"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(99), "an image"),
    "noise": (random.Random(0).randbytes(3000), "begins as no file of"),
    "one byte": (b"\x80", "begins as no file of"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_weights_file_is_called_what_it_is(tmp_path, kind, suffix):
    content, words = KINDS[kind]
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_network(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def zipped(members, compression=zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_other_archives_are_named(tmp_path):
    (tmp_path / "x.pth").write_bytes(zipped({"readme.txt": b"hello"}))
    with pytest.raises(CheckpointError, match=r"a zip archive of something else \(readme\.txt\)"):
        read_checkpoint(tmp_path / "x.pth")
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), str(tmp_path / "y.pth"))
    with pytest.raises(CheckpointError, match="a TorchScript program"):
        read_checkpoint(tmp_path / "y.pth")


def test_an_archive_does_not_unpack_to_more_than_it_is(tmp_path):
    content = pickle.dumps({"x": 1}, protocol=2)
    (tmp_path / "x.pth").write_bytes(
        zipped({"x/data.pkl": content, "x/data/0": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    )
    with pytest.raises(CheckpointError, match="would unpack to 50,0"):
        read_checkpoint(tmp_path / "x.pth")


def test_content_decides_not_the_suffix(tmp_path, state):
    save_file(state, tmp_path / "really_safetensors.pth")
    (tmp_path / "really_pth.safetensors").write_bytes(written(state))
    for path in tmp_path.iterdir():
        assert same(read_state_dict(path), state)
        assert type(load_network(path)).__name__ == "SwinIR"


TENSORS = {
    "quantised": lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8),
    "sparse": lambda x: x.to_sparse(),
    "without values": lambda x: x.to("meta"),
    "complex": lambda x: x.to(torch.complex64),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_of_other_kinds_are_refused(tmp_path, state, kind):
    name = "conv_first.weight"
    torch.save({"params": {**state, name: TENSORS[kind](state[name])}}, tmp_path / "x.pth")
    with pytest.raises(
        CheckpointError, match=rf"tensors that are {kind}.*cannot be loaded \(1 of {len(state)}: {name}"
    ):
        load_network(tmp_path / "x.pth")


WITHOUT = {
    "numbers as keys": lambda s: dict(enumerate(s.values())),
    "in itself": lambda s: (lambda d: d.update(params=d) or d)({}),
    "a list": lambda s: [1, 2, 3],
    "a number": lambda s: 3,
    "nothing": lambda s: {},
    "only a stranger": lambda s: {"params": Bomb("ran")},
    "deep": lambda s: deep(3000),
    "tuples as keys": lambda s: {(1, (2, "x")): s["conv_first.weight"]},
    "another network": lambda s: {"a.weight": torch.zeros(2)},
    "long names": lambda s: {"a." + "b" * 5000: torch.zeros(2)},
    "names with escapes": lambda s: {"conv.\x1b[31mweight": torch.zeros(2)},
}


def deep(levels):
    content: dict = {}
    for _ in range(levels):
        content = {"params": content}
    return content


@pytest.mark.parametrize("kind", WITHOUT)
def test_files_without_weights_are_refused(tmp_path, state, kind):
    (tmp_path / "x.pth").write_bytes(pickled(WITHOUT[kind](state)))
    with pytest.raises(CheckpointError, match=r"x\.pth"):
        load_network(tmp_path / "x.pth")
    assert not Path("ran").exists()


def pickled(content) -> bytes:
    """Written by a pickler that goes as deep as it is asked to."""
    import sys
    import threading

    found: list[bytes] = []
    limit = sys.getrecursionlimit()
    before = threading.stack_size(256 << 20)
    sys.setrecursionlimit(50_000)
    try:
        thread = threading.Thread(target=lambda: found.append(written(content)))
        thread.start()
        thread.join()
    finally:
        sys.setrecursionlimit(limit)
        threading.stack_size(before)
    return found[0]


# --- blocks that name networks

BLOCKS = {
    "ten million blocks": {"depths": [10_000_000], "num_heads": [2]},
    "nine thousand blocks": {"depths": [9000], "num_heads": [2]},
    "a long list": {"depths": [2] * 100_000, "num_heads": [2] * 100_000},
    "as wide as the sea": {"embed_dim": 10**12},
    "wide": {"embed_dim": 60_000},
    "a window as large": {"window_size": 500},
    "nothing wide": {"embed_dim": 0},
    "negative": {"depths": [-3]},
    "infinite": {"mlp_ratio": float("inf")},
    "no number": {"mlp_ratio": float("nan")},
    "another network": {"embed_dim": 16},
    "unknown": {"no_such_argument": 1},
    "of no network": {"type": "NoSuchNetwork"},
    "a discriminator": {"type": "UNetDiscriminatorSN"},
    "an encoder of the hub": {"type": "UNetRestorer", "encoder": {"type": "timm", "name": "hf-hub:evil/model"}},
    "an encoder of a file": {
        "type": "UNetRestorer",
        "encoder": {"type": "timm", "name": "resnet18", "model_args": {"checkpoint_path": "/etc/passwd"}},
    },
    "published weights": {"type": "UNetRestorer", "encoder": {"type": "resnet18", "pretrained": True}},
    "those of another place": {
        "type": "UNetRestorer",
        "encoder": {
            "type": "timm",
            "name": "resnet18",
            "model_args": {"pretrained_cfg": {"url": "http://127.0.0.1/x"}},
        },
    },
    "a block in itself": (lambda d: d.update(encoder=d) or d)({"type": "UNetRestorer"}),
    "numbers as keys": {5: 6},
    "a stranger": {"depths": argparse.Namespace()},
}


@pytest.fixture
def no_network(monkeypatch):
    """The addresses that something tried to reach."""
    tried: list = []

    def refuse(*arguments, **named):
        tried.append(arguments)
        raise OSError("no network in this test")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tried


@pytest.mark.parametrize("name", BLOCKS)
def test_absurd_blocks_are_refused(tmp_path, state, no_network, name):
    block = {**(BLOCK if "type" not in BLOCKS[name] else {}), **BLOCKS[name]}
    torch.save({"params": state, "network": block}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"x\.pth: "):
        load_network(tmp_path / "x.pth")
    assert no_network == []


@pytest.mark.parametrize("name", ["a block in itself", "a long list", "as wide as the sea", "a stranger"])
def test_blocks_that_are_only_asked_for_are_held_to_the_same(tmp_path, state, name):
    torch.save({"params": state, "network": {**BLOCK, **BLOCKS[name]}}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"x\.pth: the block"):
        network_block(tmp_path / "x.pth")


@pytest.mark.parametrize("encoder", [None, "inception_block35", {"type": "inception_block35", "pretrained": True}])
def test_weights_of_quality_models_cause_no_request(tmp_path, no_network, encoder):
    block = {"type": "IQT"} | ({"encoder": encoder} if encoder else {})
    torch.save({"params": {"regressor.conv_enc.weight": torch.zeros(1)}, "network": block}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="made for another network than IQT"):
        load_quality(tmp_path / "x.pth")
    assert no_network == []


@pytest.mark.parametrize("text", ["{", "[1]", "3", '{"type": 5}', '{"type": "IQT", "width": 99999999}', "[" * 9999])
def test_headers_that_name_no_quality_model(tmp_path, state, text):
    save_file(state, tmp_path / "x.safetensors", metadata={"quality": text})
    with pytest.raises(CheckpointError, match=r"x\.safetensors: "):
        load_quality(tmp_path / "x.safetensors")


HUGE = {"layers.99999999999.x": "recognition", "layers.900.residual_group.blocks.900.attn.qkv.weight": "recognition"}


@pytest.mark.parametrize("name", HUGE)
def test_names_that_count_far_are_no_network_of_ours(tmp_path, state, name):
    torch.save({**state, name: torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError):
        load_network(tmp_path / "x.pth")


# --- damage


def seeds(state) -> dict[str, bytes]:
    stream = io.BytesIO()
    torch.save({"params": state, "network": BLOCK}, stream)
    return {"zip": stream.getvalue(), "row": written({"params": state}, legacy=True), "safetensors": save(state)}


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, a part gone, doubled or moved."""
    content = bytearray(data)
    for _ in range(draw.choice([1, 1, 3, 20])):
        place, length = draw.randrange(len(content)), draw.choice([1, 2, 8, 100])
        match draw.randrange(5):
            case 0:
                content[place] = draw.randrange(256)
            case 1:
                content[place : place + length] = draw.randbytes(length)
            case 2:
                del content[place : place + length]
            case 3:
                content[place:place] = content[place : place + length]
            case _:
                content[place:place] = draw.choice([b"\0" * 8, b"\xff" * 8, b"(}].\x85R", b"cos\nsystem\n"])
    return bytes(content)


@pytest.mark.parametrize("kind", ["zip", "row", "safetensors"])
def test_damaged_files_end_in_one_error(tmp_path, state, kind):
    """No change of an archive is missed; in the other layouts, which have no checksums, values may change unseen."""
    whole, path = seeds(state)[kind], tmp_path / "x.pth"
    undetected = 0
    for seed in range(150):
        draw = random.Random(seed)
        data = mutated(whole, draw)
        if draw.random() < 0.3:
            data = data[: draw.randrange(len(data))]
        path.write_bytes(data)
        try:
            found = read_state_dict(path)
        except CheckpointError:
            continue
        undetected += kind == "zip" and found.keys() >= state.keys() and not same(found, state)
    assert undetected == 0


@pytest.mark.parametrize("seed", range(60))
def test_damage_behind_right_checksums_ends_in_one_error(tmp_path, state, seed):
    """The pickle in an archive is changed, and the archive written anew around it."""
    draw = random.Random(seed)
    source = zipfile.ZipFile(io.BytesIO(seeds(state)["zip"]))
    members = {name: source.read(name) for name in source.namelist()}
    main = next(name for name in members if name.endswith("data.pkl"))
    members[main] = mutated(members[main], draw)
    (tmp_path / "x.pth").write_bytes(zipped(members))
    with contextlib.suppress(CheckpointError, OptionsError):
        restore.load_model(tmp_path / "x.pth", device="cpu")


def test_a_tensor_is_no_larger_than_what_is_stored(tmp_path):
    one = torch.zeros(1)
    torch.save({"a.weight": one.expand(100_000, 100_000)}, tmp_path / "wide.pth")
    with pytest.raises(CheckpointError, match="stand for far more values than it holds"):
        read_checkpoint(tmp_path / "wide.pth")
    source = zipfile.ZipFile(io.BytesIO(written({"a.weight": torch.zeros(7, 3)})))
    members = {name: source.read(name) for name in source.namelist()}
    main = next(name for name in members if name.endswith("data.pkl"))
    assert members[main].count(b"K\x07K\x03\x86") == 1
    members[main] = members[main].replace(b"K\x07K\x03\x86", b"K\x09K\x03\x86")
    (tmp_path / "long.pth").write_bytes(zipped(members))
    with pytest.raises(CheckpointError, match="needs more bytes than are stored"):
        read_checkpoint(tmp_path / "long.pth")


def test_a_header_may_lie(tmp_path, state):
    save_file(state, tmp_path / "x.safetensors")
    data = (tmp_path / "x.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    for change in ({"dtype": "F99"}, {"shape": [10**15]}, {"data_offsets": [5, 1]}, {"shape": [-1]}, {"dtype": 5}):
        text = json.dumps({**header, "conv_first.bias": {**header["conv_first.bias"], **change}}).encode()
        (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
        with pytest.raises(CheckpointError, match=r"x\.safetensors: damaged"):
            read_checkpoint(tmp_path / "x.safetensors")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool])
def test_whole_numbers_are_no_weights(dtype):
    network = RepConvSR(num_feat=4, num_block=1, upscale=2)
    state = {name: value.to(dtype) for name, value in network.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"a\.pth: \d+ of \d+ tensors hold whole numbers \(conv_first"):
        load_weights(network, state, source="a.pth")

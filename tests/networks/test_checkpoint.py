from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from restore.errors import CheckpointError
from restore.networks.checkpoint import infer, load_weights, read_state_dict
from restore.networks.swinir import SwinIR
from restore.registry import NETWORKS

TINY = {"embed_dim": 12, "depths": [2, 1], "num_heads": [2, 3], "window_size": 4, "mlp_ratio": 2, "img_size": 16}
VARIANTS = [
    {"upscale": 2, "upsampler": "pixelshuffle"},
    {"upscale": 3, "upsampler": "pixelshuffle", "img_size": 24},
    {"upscale": 8, "upsampler": "pixelshuffle", "mlp_ratio": 4},
    {"upscale": 3, "upsampler": "pixelshuffledirect", "patch_norm": False},
    {"upscale": 2, "upsampler": "nearest+conv", "qkv_bias": False},
    {"upscale": 4, "upsampler": "nearest+conv", "resi_connection": "3conv"},
    {"upscale": 1, "in_chans": 1, "window_size": 7, "img_size": 28, "img_range": 255.0},
]


@pytest.fixture
def network() -> SwinIR:
    return SwinIR(**TINY, upscale=2, upsampler="pixelshuffledirect")


@pytest.mark.parametrize("changes", VARIANTS, ids=lambda v: f"{v.get('upsampler', 'dn')}_x{v['upscale']}")
def test_arguments_are_told_from_the_keys(changes):
    options = TINY | changes
    block = infer(SwinIR(**options).state_dict())
    assert block["type"] == "SwinIR"
    assert {key: block[key] for key in options if key in block} == options
    NETWORKS.build(block).load_state_dict(SwinIR(**options).state_dict())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"params": s},
        lambda s: {"params": {}, "params_ema": s},
        lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}, "epoch": 3},
        lambda s: {"model": s, "optimizer": {}},
    ],
)
def test_every_wrapper_is_opened(wrap, network, tmp_path):
    torch.save(wrap(network.state_dict()), tmp_path / "x.pth")
    state = read_state_dict(tmp_path / "x.pth")
    other = SwinIR(**TINY, upscale=2, upsampler="pixelshuffledirect")
    assert load_weights(other, state) == []
    assert torch.equal(other.conv_first.weight, network.conv_first.weight)


def test_safetensors(network, tmp_path):
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "x.safetensors")
    assert torch.equal(read_state_dict(tmp_path / "x.safetensors")["norm.weight"], network.norm.weight)


def test_key_is_obeyed_and_falls_back_to_params(network, tmp_path):
    other = {k: v + 1 if v.is_floating_point() else v for k, v in network.state_dict().items()}
    torch.save({"params": network.state_dict(), "params_ema": other}, tmp_path / "x.pth")
    assert torch.equal(read_state_dict(tmp_path / "x.pth")["norm.weight"], other["norm.weight"])
    for key in ("params", "wanted"):
        assert torch.equal(read_state_dict(tmp_path / "x.pth", key)["norm.weight"], network.norm.weight)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_are_named(suffix, network, tmp_path):
    path = tmp_path / f"cut{suffix}"
    state = {k: v.contiguous() for k, v in network.state_dict().items()}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=f"cut\\{suffix}: damaged"):
        read_state_dict(path)
    path.write_bytes(b"hello")
    with pytest.raises(CheckpointError, match=f"cut\\{suffix}"):
        read_state_dict(path)


def test_missing_file_suggests_a_name(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "swinir.pth")
    with pytest.raises(CheckpointError, match=r"Did you mean 'swinir\.pth'"):
        read_state_dict(tmp_path / "swinr.pth")


def test_another_network_is_described(network):
    other = SwinIR(**(TINY | {"embed_dim": 24}), upscale=3, upsampler="pixelshuffle")
    with pytest.raises(CheckpointError) as caught:
        load_weights(network, other.state_dict(), source="x.pth")
    message = str(caught.value)
    assert message.startswith("x.pth: made for another network than SwinIR. It seems to be SwinIR(")
    assert "embed_dim=24" in message
    assert "wanted (12, 3, 3, 3)" in message
    assert "unexpected: conv_before_upsample.0.weight" in message


def test_not_strict_skips_and_says_what(network):
    other = SwinIR(**TINY, upscale=4, upsampler="pixelshuffledirect")
    skipped = load_weights(network, other.state_dict(), strict=False)
    assert skipped == ["upsample.0.bias", "upsample.0.weight"]
    assert torch.equal(network.conv_first.weight, other.conv_first.weight)


@pytest.mark.parametrize(
    ("key", "name"), [("first_norm.weight", "MetaFormerRestorer"), ("lateral.0.weight", "UNetRestorer")]
)
def test_networks_of_chosen_parts_are_named(key, name):
    with pytest.raises(CheckpointError, match=rf"They seem to be of {name}, whose parts no key tells"):
        infer({key: torch.zeros(1)})


@pytest.mark.parametrize(("name", "lost"), [("Uformer", ".mlp."), ("SwinIR", ".mlp."), ("EDT", ".mlp.")])
def test_relatives_that_lack_keys_are_not_ours(name, lost):
    with torch.device("meta"):
        state = NETWORKS.build({"type": name, **({"upscale": 1} if name == "SwinIR" else {})}).state_dict()
    with pytest.raises(CheckpointError, match=f"Nearest: {name}"):
        infer({key: value for key, value in state.items() if lost not in key})


def test_unknown_weights(network):
    with pytest.raises(CheckpointError, match=r"none of our networks.*First keys: a"):
        infer({"a": torch.zeros(1)})

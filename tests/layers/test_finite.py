"""Weights with NaN or infinity are refused wherever weights become a network."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from restore.encoders import load_published, published_state
from restore.encoders.build import build_encoder
from restore.errors import CheckpointError
from restore.layers.finite import require_finite
from restore.networks.checkpoint import load_weights
from restore.networks.foreign import load_foreign
from restore.registry import NETWORKS
from restore.training.distribution import load_saved_weights
from restore.zoo import load_network

BLOCK = {"type": "SwinIR", "upscale": 2, "img_size": 8, "window_size": 4, "embed_dim": 8, "depths": [1],
         "num_heads": [2], "mlp_ratio": 2, "upsampler": "pixelshuffledirect"}  # fmt: skip


def poisoned(network: nn.Module, name: str, value: float) -> dict[str, torch.Tensor]:
    state = {key: each.clone() for key, each in network.state_dict().items()}
    state[name].view(-1)[-1] = value
    return state


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["conv_first.bias", "conv_first.weight", "norm.weight"])
@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"params_ema": state}], ids=["bare", "wrapped"])
def test_a_file_with_such_weights_is_refused(tmp_path, name, value, wrap):
    network = NETWORKS.build(BLOCK)
    torch.save(wrap(poisoned(network, name, value)), tmp_path / "it.pth")
    with pytest.raises(CheckpointError, match=rf"it\.pth: 1 of \d+ tensors are not finite .*: {name}\.") as refused:
        load_network(tmp_path / "it.pth")
    assert "spandrel" not in str(refused.value)


def test_files_of_a_training_and_of_safetensors(tmp_path):
    from safetensors.torch import save_file

    network = NETWORKS.build(BLOCK)
    state = poisoned(network, "conv_first.bias", math.nan)
    torch.save({"params": network.state_dict(), "params_ema": state, "network": BLOCK}, tmp_path / "net_g_9.pth")
    save_file(state, tmp_path / "it.safetensors")
    for name in ("net_g_9.pth", "it.safetensors"):
        with pytest.raises(CheckpointError, match=r"not finite .*conv_first\.bias"):
            load_network(tmp_path / name)
    load_network(tmp_path / "net_g_9.pth", key="params")
    for load in (load_saved_weights, lambda network, state, source: load_weights(network, state, source=source)):
        before = network.conv_first.bias.detach().clone()
        with pytest.raises(CheckpointError, match=r"head 'a': .*not finite"):
            load(network, state, "head 'a'")
        assert torch.equal(network.conv_first.bias, before)


def test_networks_of_spandrel():
    pytest.importorskip("spandrel")
    from spandrel.architectures.PLKSR import PLKSR  # a family that we do not have

    network = PLKSR(dim=8, n_blocks=1, upscaling_factor=2)
    assert load_foreign(network.state_dict(), source="it") is not None
    name = next(iter(network.state_dict()))
    with pytest.raises(CheckpointError, match=f"not finite .*{name}"):
        load_foreign(poisoned(network, name, math.inf), source="it")


def test_published_weights_of_encoders():
    encoder = build_encoder({"type": "vig", "img_size": 64, "embed_dim": 16, "depth": 1, "num_neighbours": 3})
    state = {name: value.clone() for name, value in published_state(encoder).items()}
    load_published(encoder, state)
    name = next(name for name, value in state.items() if value.is_floating_point())
    state[name].view(-1)[0] = math.nan
    with pytest.raises(CheckpointError, match=r"it: 1 of .* not finite"):
        load_published(encoder, state, source="it")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_every_kind_of_number(dtype):
    fine = torch.ones(4).to(dtype)
    require_finite({"a": fine, "b": torch.arange(3), "c": torch.tensor([True])}, "it")
    with pytest.raises(CheckpointError, match="it: 1 of 2 tensors"):
        require_finite({"a": torch.tensor([1.0, math.nan]).to(dtype), "b": fine}, "it")


def test_masks_of_attention_are_no_weights():
    mask = torch.full((4, 4), -math.inf).triu(1)
    require_finite({"mask": mask}, "it")
    for wrong in (mask[0], mask + torch.eye(4), -mask, torch.where(mask == 0, math.nan, mask)):
        with pytest.raises(CheckpointError):
            require_finite({"mask": wrong}, "it")


def test_many_are_counted():
    with pytest.raises(CheckpointError, match=r"20 of 20 tensors .*: 0, 1, 2, 3, 4, 5, 6, 7 \.\.\."):
        require_finite({str(n): torch.tensor([math.nan]) for n in range(20)}, "it")

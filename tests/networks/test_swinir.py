from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from restore.networks.swinir import SwinIR
from restore.registry import NETWORKS

M = {"embed_dim": 180, "depths": [6] * 6, "num_heads": [6] * 6, "window_size": 8, "mlp_ratio": 2}
S = {"embed_dim": 60, "depths": [6] * 4, "num_heads": [6] * 4, "window_size": 8, "mlp_ratio": 2}
L = {"embed_dim": 240, "depths": [6] * 9, "num_heads": [8] * 9, "window_size": 8, "mlp_ratio": 2}
PUBLISHED = {  # name: (options, parameters, state-dict keys)
    "classical_x2": (M | {"upscale": 2, "img_size": 48, "upsampler": "pixelshuffle"}, 11_752_487, 548),
    "classical_x3": (M | {"upscale": 3, "img_size": 48, "upsampler": "pixelshuffle"}, 11_937_127, 548),
    "classical_x4": (M | {"upscale": 4, "img_size": 64, "upsampler": "pixelshuffle"}, 11_900_199, 550),
    "classical_x8": (M | {"upscale": 8, "img_size": 48, "upsampler": "pixelshuffle"}, 12_047_911, 552),
    "light_x2": (S | {"upscale": 2, "upsampler": "pixelshuffledirect"}, 910_152, 366),
    "light_x3": (S | {"upscale": 3, "upsampler": "pixelshuffledirect"}, 918_267, 366),
    "light_x4": (S | {"upscale": 4, "upsampler": "pixelshuffledirect"}, 929_628, 366),
    "real_x2": (M | {"upscale": 2, "upsampler": "nearest+conv"}, 11_678_631, 550),
    "real_x4": (M | {"upscale": 4, "upsampler": "nearest+conv"}, 11_715_559, 552),
    "real_x4_large": (
        L | {"upscale": 4, "upsampler": "nearest+conv", "resi_connection": "3conv"},
        28_013_059,
        859,
    ),
    "denoise_grey": (M | {"upscale": 1, "img_size": 128, "in_chans": 1}, 11_497_681, 544),
    "denoise_colour": (M | {"upscale": 1, "img_size": 128}, 11_504_163, 544),
    "jpeg_grey": (M | {"upscale": 1, "img_size": 126, "in_chans": 1, "window_size": 7}, 11_485_585, 544),
    "jpeg_colour": (M | {"upscale": 1, "img_size": 126, "window_size": 7}, 11_492_067, 544),
}
TINY = {"embed_dim": 24, "depths": [2, 2], "num_heads": [4, 4], "window_size": 8, "mlp_ratio": 2, "img_size": 16}
VARIANTS = [
    {"upscale": 3, "upsampler": "pixelshuffle"},
    {"upscale": 4, "upsampler": "pixelshuffledirect"},
    {"upscale": 4, "upsampler": "nearest+conv", "resi_connection": "3conv"},
    {"upscale": 1, "in_chans": 1},
    {"upscale": 1, "window_size": 7, "img_size": 21, "img_range": 255.0},
]


def tiny(fill=None, **changes) -> SwinIR:
    torch.manual_seed(0)
    network = SwinIR(**(TINY | changes)).eval()
    if fill:
        fill.fill_state_dict(network)
    return network


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    options, parameters, keys = PUBLISHED[name]
    with torch.device("meta"):
        network = SwinIR(**options)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert len(network.state_dict()) == keys


@pytest.mark.parametrize("name", ["car_w7", "classical_x3", "denoise_gray", "light_x2", "real_x4"])
def test_agrees_with_published_network(name, shared, fill):
    fixture = np.load(shared(f"fixtures/swinir_{name}.npz"))
    network = NETWORKS.build(json.loads(str(fixture["config"]))).eval()
    fill.fill_state_dict(network, int(fixture["seed"]))
    with torch.no_grad():
        output = network(torch.from_numpy(fixture["input"])).numpy()
    expected = fixture["output"]
    assert np.abs(output - expected).max() <= 1e-5 * np.ptp(expected)


@pytest.mark.parametrize("changes", VARIANTS, ids=lambda v: v.get("upsampler", f"dn{v.get('window_size', 8)}"))
@pytest.mark.parametrize("size", [(1, 1), (3, 17), (16, 24)], ids=str)
def test_any_size_forward_and_backward(changes, size):
    network = tiny(**changes).train()
    x = torch.rand(2, network.in_chans, *size)
    output = network(x)
    assert output.shape == (2, network.in_chans, size[0] * network.upscale, size[1] * network.upscale)
    output.mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_batch_equals_singles():
    network = tiny(upscale=2, upsampler="pixelshuffledirect")
    x = torch.rand(3, 3, 24, 16)
    with torch.no_grad():
        assert torch.allclose(network(x), torch.cat([network(one[None]) for one in x]), atol=1e-5)


def test_checkpoints_of_any_training_size_load():
    source = tiny(img_size=48, upscale=1)
    state = source.state_dict()
    assert state["layers.0.residual_group.blocks.1.attn_mask"].shape == (36, 64, 64)
    x = torch.rand(1, 3, 19, 30)
    for target, kept in [
        (tiny(upscale=1), state),
        (tiny(upscale=1), {k: v for k, v in state.items() if "attn_mask" not in k}),
    ]:
        torch.nn.init.zeros_(target.conv_first.weight)
        assert target.load_state_dict(kept) == torch.nn.modules.module._IncompatibleKeys([], [])
        with torch.no_grad():
            assert torch.equal(target(x), source(x))


def test_training_size_within_the_window_switches_the_shift_off():
    assert all(
        block.shift == (0, 0) for stage in tiny(img_size=8, upscale=1).layers for block in stage.residual_group.blocks
    )


def test_activation_checkpointing_gives_the_same_gradients():
    x = torch.rand(1, 3, 16, 16)
    gradients = []
    for use_checkpoint in (False, True):
        network = tiny(use_checkpoint=use_checkpoint, drop_path_rate=0.0, upscale=1).train()
        network(x).square().mean().backward()
        gradients.append([p.grad for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_zero_last_convolution_is_the_identity():
    network = tiny(upscale=1)
    torch.nn.init.zeros_(network.conv_last.weight)
    torch.nn.init.zeros_(network.conv_last.bias)
    x = torch.rand(1, 3, 11, 20)
    with torch.no_grad():
        assert torch.allclose(network(x), x, atol=1e-6)


def test_translation_by_windows_commutes_in_the_interior(fill):
    network = tiny(fill, upscale=1)
    x = torch.rand(1, 3, 64, 64)
    moved = torch.roll(x, (8, 8), (2, 3))
    with torch.no_grad():
        a, b = network(x), torch.roll(network(moved), (-8, -8), (2, 3))
    inside = (slice(None), slice(None), slice(24, 32), slice(24, 32))
    assert torch.allclose(a[inside], b[inside], atol=1e-4)


def test_kept_biases_follow_the_weights():
    network, other = tiny(upscale=1), tiny(upscale=1)
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        first = network(x)
        for parameter in other.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        network.load_state_dict(other.state_dict())
        assert torch.equal(network(x), other(x))
        assert not torch.equal(network(x), first)
        assert torch.equal(copy.deepcopy(network)(x), other(x))
        for each in (network, other):  # as averages are often written: it leaves no trace in the version of a tensor
            for parameter in each.parameters():
                parameter.data.mul_(0.5)
        assert torch.equal(network(x), copy.deepcopy(other)(x))
    with torch.inference_mode():
        inside = network(x)
    assert torch.allclose(network(x), inside, atol=1e-6)


def test_bfloat16_is_close(fill):
    network = tiny(fill, upscale=2, upsampler="pixelshuffledirect")
    x = torch.rand(1, 3, 24, 24)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = network(x).float()
    with torch.no_grad():
        full = network(x)
    assert (low - full).abs().mean() <= 0.02 * (full.max() - full.min())


def overflowing() -> SwinIR:
    """Weights with which the residual stream passes 65504 several times over, and the result is an ordinary image."""
    network = tiny(upscale=2, upsampler="pixelshuffledirect")
    with torch.no_grad():
        for stage in network.layers:
            for block in stage.residual_group.blocks:
                block.mlp.fc1.weight.mul_(30)
                block.mlp.fc2.weight.mul_(3e5)
    return network


def test_float16_survives_activations_beyond_its_range():
    network, x = overflowing(), torch.rand(1, 3, 24, 24)
    largest = []
    for stage in network.layers:
        stage.register_forward_hook(lambda module, inputs, output: largest.append(output.abs().max().item()))
    with torch.no_grad():
        full = network(x)
        peak = max(largest)
        with torch.autocast("cpu", torch.float16):
            half = network(x).float()
    assert peak > 4 * 65504, "the test would prove nothing"
    assert torch.isfinite(half).all()
    assert (half - full).abs().mean() <= 0.01 * (full.max() - full.min())


def test_published_half_precision_overflows_where_ours_does_not():
    network, x = overflowing().half(), torch.rand(1, 3, 24, 24).half()
    with torch.no_grad():
        assert not torch.isfinite(network(x)).all()


def test_channels_last_and_compiled_blocks_agree(fill):
    network = tiny(fill, upscale=2, upsampler="pixelshuffledirect")
    x = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        expected = network(x)
        output = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert torch.allclose(output, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upscale": 3, "upsampler": "nearest+conv"}, "2 or 4"),
        ({"upscale": 2, "upsampler": ""}, "needs an upsampler"),
        ({"upscale": 6, "upsampler": "pixelshuffle"}, "power of two"),
        ({"embed_dim": 25, "upscale": 1}, "not divisible"),
        ({"depths": [2], "upscale": 1}, "one stage each"),
        ({"depths": [], "num_heads": [], "upscale": 1}, "one stage each"),
        ({"num_heads": [0, 0], "upscale": 1}, r"num_heads is \[0, 0\]: must be greater than 0"),
        ({"upscale": -2, "upsampler": "pixelshuffledirect"}, "upscale is -2"),
        ({"window_size": 0, "upscale": 1}, "window_size is 0"),
    ],
)
def test_impossible_configurations_say_why(options, message):
    with pytest.raises(ValueError, match=message):
        SwinIR(**(TINY | options))

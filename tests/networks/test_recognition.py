"""Each published configuration of the four families is told from the keys and shapes of its weights alone.

Weights are built without memory (on the device `meta`) at their full width; where only the depth would be new, they
have fewer blocks.
"""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from restore import load_model
from restore.networks.branches import Branch, branch_weights
from restore.networks.checkpoint import infer, unwrap
from restore.registry import NETWORKS

WRAPPERS = {
    "bare": lambda state: state,
    "params": lambda state: {"params": state},
    "params_ema": lambda state: {"params": {}, "params_ema": state},
    "state_dict": lambda state: {"state_dict": state, "epoch": 250, "optimizer": {"lr": 2e-4}},
    "module.": lambda state: {f"module.{key}": value for key, value in state.items()},
    "state_dict, module.": lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    "params_ema, module.": lambda state: {
        "params": state,
        "params_ema": {f"module.{key}": value for key, value in state.items()},
    },
    "params, an empty params_ema": lambda state: {"params": state, "params_ema": {}},
    "state_dict, params": lambda state: {"state_dict": {"params": state}, "epoch": 3},
    "module. of a compiled network, twice": lambda state: {
        f"module._orig_mod.module.{key}": value for key, value in state.items()
    },
}

SWINIR = {
    "type": "SwinIR",
    "depths": [2, 1, 1, 1, 1, 2],
    "embed_dim": 180,
    "num_heads": [6] * 6,
    "mlp_ratio": 2,
    "window_size": 8,
}
LIGHT = SWINIR | {"depths": [6] * 4, "embed_dim": 60, "num_heads": [6] * 4, "upsampler": "pixelshuffledirect"}
LARGE = SWINIR | {"depths": [2] * 9, "embed_dim": 240, "num_heads": [8] * 9, "resi_connection": "3conv"}
SAME_SIZE = SWINIR | {"upscale": 1, "upsampler": "", "img_size": 128}
UFORMER = {"type": "Uformer", "img_size": 128, "embed_dim": 32, "win_size": 8, "depths": [2] * 9, "modulator": True}
EDT_T = {"type": "EDT", "num_feat": 8, "embed_dim": 60, "depths": [6] * 4, "num_heads": [6] * 4}
EDT_T |= {"upsampler": "pixelshuffledirect"}
EDT_S = {"type": "EDT", "num_feat": 16, "embed_dim": 120, "depths": [6] * 5, "num_heads": [6] * 5}
EDT_B = {"type": "EDT", "num_feat": 32, "embed_dim": 180, "depths": [2, 1, 1, 1, 1, 2], "num_heads": [6] * 6}
EDT_L = {"type": "EDT", "num_feat": 64, "embed_dim": 240, "depths": [2] * 12, "num_heads": [8] * 12}
SIX = {"type": "IPT", "scale": [2, 3, 4, 1, 1, 1]}

PUBLISHED = {
    **{f"swinir x{s}": SWINIR | {"upscale": s, "upsampler": "pixelshuffle", "img_size": 48} for s in (2, 3, 4, 8)},
    **{f"swinir light x{s}": LIGHT | {"upscale": s, "img_size": 64} for s in (2, 3, 4)},
    **{f"swinir real x{s}": SWINIR | {"upscale": s, "upsampler": "nearest+conv", "img_size": 64} for s in (2, 4)},
    "swinir real large x4": LARGE | {"upscale": 4, "upsampler": "nearest+conv", "img_size": 64},
    "swinir denoise grey": SAME_SIZE | {"in_chans": 1, "img_range": 1.0},
    "swinir denoise colour": SAME_SIZE | {"in_chans": 3, "img_range": 1.0},
    "swinir jpeg grey": SAME_SIZE | {"window_size": 7, "img_size": 126, "in_chans": 1, "img_range": 255.0},
    "swinir jpeg colour": SAME_SIZE | {"window_size": 7, "img_size": 126, "img_range": 255.0},
    "uformer T": UFORMER | {"embed_dim": 16},
    "uformer S": UFORMER,
    "uformer B": UFORMER | {"depths": [1, 2, 8, 8, 2, 8, 8, 2, 1]},
    "uformer S, no modulator": UFORMER | {"modulator": False},
    "uformer T, conv projection": UFORMER | {"embed_dim": 16, "token_projection": "conv"},
    "uformer T, mlp": UFORMER | {"embed_dim": 16, "token_mlp": "mlp"},
    "uformer T, cross modulator": UFORMER | {"embed_dim": 16, "cross_modulator": True},
    "uformer T, four channels": UFORMER | {"embed_dim": 16, "dd_in": 4},
    "uformer T, window 4": UFORMER | {"embed_dim": 16, "win_size": 4, "img_size": 64},
    **{f"ipt scale {s}": {"type": "IPT", "scale": [s], "num_queries": 1} for s in (1, 2, 3, 4)},
    "ipt, six tasks, six queries": SIX | {"num_queries": 6},
    "ipt, six tasks, one query": SIX | {"num_queries": 1},
    "ipt, four layers": SIX | {"num_queries": 6, "num_layers": 4},
    **{f"edt T x{s}": EDT_T | {"scales": [s]} for s in (2, 3, 4)},
    "edt S": EDT_S | {"scales": [2]},
    **{f"edt B x{s}": EDT_B | {"scales": [s]} for s in (2, 3, 4)},
    "edt L": EDT_L | {"scales": [2]},
    **{f"edt B denoise {s}": EDT_B | {"noise_levels": [s], "img_size": 48} for s in (15, 25, 50)},
    **{f"edt B derain {level}": EDT_B | {"rain_levels": [level]} for level in "LH"},
    "edt B denoise, full size": EDT_B | {"noise_levels": [25], "downsample": False, "img_size": 144},
    "edt B x2x3x4": EDT_B | {"scales": [2, 3, 4]},
    "edt B g15g25g50": EDT_B | {"noise_levels": [15, 25, 50]},
    "edt B x2x3 g15": EDT_B | {"scales": [2, 3], "noise_levels": [15]},
    "edt B rain": EDT_B | {"rain_levels": ["L", "H"]},
}


def weights(block) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return NETWORKS.build(block).state_dict()


def shapes(state) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in state.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_are_recognised(name):
    block = PUBLISHED[name]
    state = weights(block)
    for wrapper, wrap in WRAPPERS.items():
        found = infer(unwrap(wrap(state)))
        assert {key: found[key] for key in block} == block, wrapper
    assert shapes(weights(found)) == shapes(state)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_run_forward_and_backward(name, precision):
    torch.manual_seed(0)
    network = of_one_task(NETWORKS.build(PUBLISHED[name]).eval())
    spec = network.spec
    for height, width in ((1, 1), (13, 18), (24, 33)):
        x = torch.rand(1, spec.in_channels, height, width, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            output = network(x * spec.value_range)
        assert output.shape == (1, spec.out_channels, height * spec.scale, width * spec.scale)
        output.float().mean().backward()
        gradients = [p.grad for p in [x, *network.parameters()] if p.grad is not None]
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert x.grad.abs().max() > 0


def of_one_task(network: torch.nn.Module) -> torch.nn.Module:
    """The network, or what it is for the first of its tasks."""
    return Branch(network, 0) if len(network.tasks) > 1 else network


SMALL = {
    "SwinIR": {"embed_dim": 12, "depths": [1], "num_heads": [2], "upscale": 3, "upsampler": "pixelshuffledirect"},
    "Uformer": {"embed_dim": 4, "depths": [1] * 9, "num_heads": [1] * 9, "img_size": 128},
    "IPT": {"n_feats": 4, "num_heads": 12, "num_layers": 1, "patch_size": 12, "scale": [2]},
    "EDT": {"num_feat": 4, "embed_dim": 12, "depths": [1], "num_heads": [6], "scales": [2], "img_size": 24},
}
SCALES = {"SwinIR": 3, "Uformer": 1, "IPT": 2, "EDT": 2}


@pytest.mark.parametrize("family", SMALL)
def test_files_load_whatever_their_wrapper(family, tmp_path):
    torch.manual_seed(0)
    network = NETWORKS.build({"type": family, **SMALL[family]})
    state = network.state_dict()
    for number, wrap in enumerate(WRAPPERS.values()):
        torch.save(wrap(state), tmp_path / f"{number}.pth")
    for prefix in ("", "module.", "params_ema.", "net_g."):  # tensors without a dictionary around them
        save_file(
            {f"{prefix}{key}": value.clone() for key, value in state.items()}, tmp_path / f"{prefix}x.safetensors"
        )
    for path in sorted(tmp_path.iterdir()):
        restorer = load_model(path, device="cpu")
        assert (type(restorer.network).__name__, restorer.scale) == (family, SCALES[family])
        loaded = restorer.network.state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in state.items() if "attn_mask" not in key)


@pytest.mark.parametrize(
    ("name", "task", "expected"),
    [
        ("edt B x2x3x4", "sr_x3", "edt B x3"),
        ("edt B x2x3x4", 2, "edt B x4"),
        ("edt B g15g25g50", "dn_g50", "edt B denoise 50"),
        ("edt B x2x3 g15", "dn_g15", "edt B denoise 15"),
        ("edt B rain", "dr_H", "edt B derain H"),
        ("ipt, six tasks, six queries", "sr_x3", "ipt scale 3"),
        ("ipt, six tasks, six queries", "0", "ipt scale 2"),
        ("ipt, six tasks, one query", "task_5", "ipt scale 1"),
    ],
)
def test_one_task_of_several_is_a_published_network(name, task, expected):
    own = branch_weights(weights(PUBLISHED[name]), task)
    assert shapes(own) == shapes(weights(PUBLISHED[expected]))
    found = infer(own)
    assert {key: found[key] for key in PUBLISHED[expected]} == PUBLISHED[expected]

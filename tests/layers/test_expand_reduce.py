"""Units of DeFINE and DeLighT: their widths and groups, and outputs of the official code."""

from __future__ import annotations

import ast
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from restore.layers.build import build_feed_forward
from restore.layers.expand_reduce import DefineUnit, LightUnit, block_wise_scaling, define_groups, light_groups
from restore.layers.group_linear import GroupLinear
from restore.networks.metaformer import MetaFormerRestorer


@pytest.mark.parametrize(
    ("depth", "most", "groups"), [(4, 4, [1, 4, 2, 1]), (7, 8, [4, 2, 1, 8, 4, 2, 1]), (3, 1, [1, 1, 1])]
)
def test_groups_of_define(depth, most, groups):
    assert define_groups(depth, most) == groups


@pytest.mark.parametrize(
    ("depth", "most", "groups"), [(4, 4, [2, 4, 4, 2]), (5, 8, [2, 4, 8, 4, 2]), (2, 2, [2, 2]), (6, 2, [2] * 6)]
)
def test_groups_of_dextra(depth, most, groups):
    assert light_groups(depth, most) == groups


def test_blocks_grow_by_the_formulas():
    B, low, high, w = 5, 4, 8, 2.0
    found = [block_wise_scaling(w, low, high, b, B) for b in range(B)]
    assert [depth for depth, _ in found] == [4, 5, 6, 7, 8]
    assert [width for _, width in found] == pytest.approx([w + (high - low) * b / (low * (B - 1)) for b in range(B)])
    assert block_wise_scaling(w, low, high, 0, 1) == (4, 2.0)
    network = MetaFormerRestorer(
        mixers="pooling", embed_dim=16, depths=[2, 3], feed_forward={"type": "light", "max_groups": 2}
    )
    depths = [len(block.ffn.layers) for stage in network.stages for block in stage.blocks]
    assert depths == [4, 5, 6, 7, 8]


@pytest.mark.parametrize(("mlp_ratio", "widths"), [(2.0, [16] * 5), ((1.0, 3.0), [8, 12, 16, 20, 24])])
def test_hidden_widths_change_evenly_from_the_first_block_to_the_last(mlp_ratio, widths):
    network = MetaFormerRestorer(mixers="pooling", embed_dim=8, depths=[2, 3], mlp_ratio=mlp_ratio)
    assert [block.ffn.inner_dim for stage in network.stages for block in stage.blocks] == widths


@pytest.mark.parametrize(("kind", "fixture"), [(LightUnit, "dextra"), (DefineUnit, "define")])
def test_units_are_those_of_the_official_code(kind, fixture, shared, fill):
    stored = np.load(shared(f"fixtures/encoders/{fixture}_unit__four_layers.npz"))
    config = json.loads(str(stored["config"]))
    unit = kind(64)
    layers = config["layers"]
    assert [layer.in_features for layer in unit.layers] == layers["in"]
    assert [*unit.groups] == layers["groups"]
    assert [layer.out_features for layer in unit.layers][:-1] == layers["out"][:-1]
    official = {
        key: torch.from_numpy(np.asarray(fill.fill_array(key, tuple(ast.literal_eval(str(shape))), 0), np.float32))
        for key, shape in zip(stored["keys"].tolist(), stored["shapes"].tolist(), strict=True)
    }
    ins, outs, groups = (layers[name][-1] for name in ("in", "out", "groups"))
    unit.layers[-1] = GroupLinear(ins, outs, groups)  # which gives the output's width there, and here half of it
    unit.norms[-1] = torch.nn.LayerNorm(outs // groups)
    for number, (layer, norm) in enumerate(zip(unit.layers, unit.norms, strict=True)):
        weights, bias = official[f"dextra_layers.{number}.weights"], official[f"dextra_layers.{number}.bias"]
        layer.weight.data = weights.mT.flatten(0, 1) if weights.ndim == 3 else weights
        layer.bias.data = bias.flatten()
        norm.load_state_dict(
            {name: official[f"dextra_layers.{number}.normalization_fn.{name}"] for name in ("weight", "bias")}
        )
    unit.fc1.load_state_dict({"weight": official["input_layer.weights"], "bias": official["input_layer.bias"]})
    unit.norm1.load_state_dict({name: official[f"input_layer.normalization_fn.{name}"] for name in ("weight", "bias")})
    with torch.no_grad():
        inner = unit.expand(torch.from_numpy(stored["input"]))
        output = F.linear(inner, official["output_layer.weights"], official["output_layer.bias"])
        scale, shift = (official[f"output_layer.normalization_fn.{name}"] for name in ("weight", "bias"))
        output = F.gelu(F.layer_norm(output, output.shape[-1:], scale, shift))
    assert np.abs(output.numpy() - stored["output"]).max() <= 1e-5 * np.abs(stored["output"]).max()


def test_light_networks_are_light():
    unit, usual = build_feed_forward({"type": "mlp", "mlp_ratio": 0.25}, 64), build_feed_forward("mlp", 64)
    assert sum(p.numel() for p in usual.parameters() if p.ndim == 2) == 16 * sum(
        p.numel() for p in unit.parameters() if p.ndim == 2
    )


@pytest.mark.parametrize("name", ["group", "light"])
@pytest.mark.parametrize("dim", [7, 12, 60])
def test_any_width_is_taken(name, dim):
    unit = build_feed_forward(name, dim, mlp_ratio=1.5)
    assert unit(torch.randn(1, 2, 3, dim)).shape == (1, 2, 3, dim)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "group", "depth": 1}, "a unit of 1 layers"),
        ({"type": "light", "max_groups": 3}, "power of two"),
        ({"type": "light", "min_depth": 5, "max_depth": 4}, "at least min_depth 5"),
        ({"type": "light", "index": 1}, "set by what uses it"),
    ],
)
def test_impossible_options_say_why(options, message):
    with pytest.raises(ValueError, match=message):
        build_feed_forward(options, 16)

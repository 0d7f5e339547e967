"""Blocks that share their weights."""

from __future__ import annotations

import copy
import io

import pytest
import torch

from restore import build_model
from restore.analysis.cost import count_parameters
from restore.errors import OptionsError

SWINIR = {"type": "SwinIR", "upscale": 1, "window_size": 4, "embed_dim": 12, "depths": [4, 3], "num_heads": [2, 2]}
METAFORMER = {"type": "MetaFormerRestorer", "embed_dim": 12, "depths": [4, 3], "mixers": ["window", "shifted_window"]}
BLOCKS = {
    "SwinIR": (SWINIR, ("attn", "mlp")),
    "windows": (METAFORMER, ("mixer", "ffn")),
    "reversible": ({**METAFORMER, "reversible": True}, ("mixer", "ffn")),
    "no_ffn": ({**METAFORMER, "feed_forward": "none"}, ("mixer", "ffn")),
}


def blocks_of(network):
    stages = network.layers if hasattr(network, "layers") else network.stages
    return [[*(stage.residual_group.blocks if hasattr(stage, "residual_group") else stage.blocks)] for stage in stages]


def parts_of(block, parts):
    return [getattr(block, part) for part in parts if getattr(block, part) is not None]


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("share", [2, 3, 9])
def test_shared_weights_count_once(name, share):
    block, parts = BLOCKS[name]
    plain, shared = build_model(block), build_model({**block, "share_blocks": share})
    saved = sum(
        sum(count_parameters(part) for part in parts_of(each, parts))
        for stage in blocks_of(plain)
        for number, each in enumerate(stage)
        if number % share
    )
    assert count_parameters(shared) == count_parameters(plain) - saved
    assert list(shared.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize("name", BLOCKS)
def test_it_is_the_network_with_equal_weights(name):
    block, _ = BLOCKS[name]
    torch.manual_seed(0)
    shared, plain = build_model({**block, "share_blocks": 2}), build_model(block)
    plain.load_state_dict(shared.state_dict())
    x = torch.rand(1, 3, 16, 24)
    shared.train(False), plain.train(False)
    assert torch.equal(shared(x), plain(x))
    for network in (shared, plain):
        network(x).square().mean().backward()
    first, second = blocks_of(shared)[0][:2]
    one, other = blocks_of(plain)[0][:2]
    part = BLOCKS[name][1][0]
    ours, theirs = getattr(first, part).qkv.weight.grad, getattr(one, part).qkv.weight.grad
    assert torch.allclose(ours, theirs + getattr(other, part).qkv.weight.grad, atol=1e-7)
    assert getattr(second, part).qkv.weight is getattr(first, part).qkv.weight
    assert second.norm1.weight is not first.norm1.weight


@pytest.mark.parametrize("name", BLOCKS)
def test_it_stays_shared_when_copied_moved_and_loaded(name):
    block = {**BLOCKS[name][0], "share_blocks": 2}
    network = build_model(block)
    count = count_parameters(network)
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    other = build_model(block)
    other.load_state_dict(torch.load(file, weights_only=True))
    for twin in (copy.deepcopy(network), copy.deepcopy(network).double().float(), other):
        assert count_parameters(twin) == count
        assert all(
            torch.equal(one, two)
            for one, two in zip(twin.state_dict().values(), network.state_dict().values(), strict=True)
        )


def test_one_is_the_network_as_it_was():
    torch.manual_seed(0)
    plain = build_model(SWINIR).state_dict()
    torch.manual_seed(0)
    one = build_model({**SWINIR, "share_blocks": 1}).state_dict()
    assert all(torch.equal(plain[key], one[key]) for key in plain)


@pytest.mark.parametrize(
    "more",
    [{"mixers": ["window", "pooling"]}, {"feed_forward": {"type": "light", "min_depth": 2, "max_depth": 6}}],
)
def test_what_differs_cannot_be_shared(more):
    with pytest.raises(OptionsError, match=r"share_blocks: (mixer|ffn) of blocks \d and \d cannot share"):
        build_model({**METAFORMER, **more, "share_blocks": 2})


def test_none_is_no_number_of_blocks():
    with pytest.raises(OptionsError, match="share_blocks"):
        build_model({**SWINIR, "share_blocks": 0})

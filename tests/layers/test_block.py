from __future__ import annotations

import pytest
import torch

from restore.layers.block import MetaFormerBlock
from restore.layers.ffn import MLP, DepthwiseFeedForward
from restore.layers.mixers.attention.stripe import StripeAttention
from restore.layers.mixers.attention.window import WindowAttention
from restore.layers.mixers.convolution.local import IdentityMixer
from restore.layers.residual import LayerScale
from restore.networks import edt, uformer
from restore.registry import FEED_FORWARDS, MIXERS, NORMS, PLACEMENTS

DIM = 24


def randomise(module: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.2)
    return module.eval()


def same_output(first: torch.nn.Module, second: torch.nn.Module, names: dict[str, str], size: int) -> bool:
    """Whether `second` computes what `first` does with the weights of `first` under other names."""
    state = {}
    for key, value in first.state_dict().items():
        for old, new in names.items():
            key = new + key.removeprefix(old) if key.startswith(old) else key
        state[key] = value
    own = second.state_dict()
    second.load_state_dict({key: value for key, value in state.items() if key in own})
    x = torch.randn(2, size, 2 * size, DIM)
    with torch.no_grad():
        return torch.allclose(first(x), second(x), atol=1e-5)


@pytest.mark.parametrize("shifted", [False, True])
def test_the_block_of_edt_is_a_metaformer_block(shifted):
    published = randomise(edt.Block(DIM, 2, (2, 4), shifted, 2.0, 0.0, 8))
    block = MetaFormerBlock(DIM, StripeAttention(DIM, 2, (2, 4), shifted), DepthwiseFeedForward(DIM, 2)).eval()
    assert same_output(
        published, block, {"qkv": "mixer.qkv", "proj": "mixer.proj", "attns": "mixer.attns", "mlp": "ffn"}, 4
    )


@pytest.mark.parametrize("shifted", [False, True])
def test_the_block_of_uformer_is_a_metaformer_block(shifted):
    published = randomise(
        uformer.Block(DIM, 2, 4, shifted, 2.0, True, None, 0.0, 0.0, "linear", "mlp", False, False, True)
    )
    block = MetaFormerBlock(DIM, WindowAttention(DIM, 2, 4, shifted), MLP(DIM, 2)).eval()
    qkv = {name: getattr(published.attn.qkv, name) for name in ("to_q", "to_kv")}
    with torch.no_grad():
        for part in ("weight", "bias"):
            merged = torch.cat([getattr(each, part) for each in qkv.values()])
            getattr(block.mixer.qkv, part).copy_(merged)
    names = {"attn.relative_position_bias_table": "mixer.table", "attn.proj": "mixer.proj", "mlp": "ffn"}
    saved = {key: value.clone() for key, value in block.state_dict().items() if "qkv" in key}
    published.register_state_dict_post_hook(lambda module, state, prefix, extra: state.update(saved))
    assert same_output(published, block, names, 4)


def test_identity_and_no_feed_forward_is_a_norm_and_a_sum():
    x = torch.randn(1, 3, 5, DIM)
    block = MetaFormerBlock(DIM, IdentityMixer(DIM), None)
    assert torch.allclose(block(x), x + torch.nn.functional.layer_norm(x, (DIM,)))


def test_placements_differ_as_their_formulas_do():
    x = torch.randn(1, 3, 5, DIM)
    norm = torch.nn.LayerNorm(DIM)
    feed_forward = randomise(MLP(DIM, 2))
    expected = {"pre": x + norm(x), "post": norm(x + x), "res-post": x + norm(x)}
    expected["pre"] = expected["pre"] + feed_forward(norm(expected["pre"]))
    expected["post"] = norm(expected["post"] + feed_forward(expected["post"]))
    expected["res-post"] = expected["res-post"] + norm(feed_forward(expected["res-post"]))
    for placement, wanted in expected.items():
        block = MetaFormerBlock(DIM, IdentityMixer(DIM), feed_forward, placement=placement)
        assert torch.allclose(block(x), wanted, atol=1e-6), placement


def test_layer_scale_of_zero_is_the_identity():
    block = MetaFormerBlock(DIM, IdentityMixer(DIM), MLP(DIM, 1), layer_scale=0.0)
    x = torch.randn(1, 4, 4, DIM)
    assert torch.equal(block(x), x)


def test_drop_path_drops_whole_branches_in_training_only():
    block = MetaFormerBlock(DIM, IdentityMixer(DIM), None, drop_path=0.5)
    x = torch.randn(64, 1, 1, DIM)
    torch.manual_seed(0)
    unchanged = (block.train()(x) == x).flatten(1).all(dim=1)
    assert 16 < unchanged.sum() < 48
    assert not (block.eval()(x) == x).flatten(1).all(dim=1).any()


@pytest.mark.parametrize("placement", PLACEMENTS.names())
@pytest.mark.parametrize("norm", NORMS.names())
def test_factors_of_channels_fold_wherever_norms_stand(norm, placement, assert_folds):
    block = MetaFormerBlock(DIM, "window", "mlp", norm=norm, placement=placement, layer_scale=0.3, num_blocks=2)
    folded = assert_folds(block, torch.randn(2, 8, 16, DIM))
    kept = placement == "res-post" and norm == "grn"  # whose last step adds its input
    for scale in (folded.scale1, folded.scale2):
        assert isinstance(scale, LayerScale if kept else torch.nn.Identity)


@pytest.mark.parametrize("name", MIXERS.names())
def test_factors_of_channels_fold_into_every_mixer_that_has_a_projection(name, assert_folds):
    block = MetaFormerBlock(DIM, name, "none", layer_scale=0.3)
    rows, columns = block.mixer.size_multiple
    folded = assert_folds(block, torch.randn(1, rows, 2 * columns, DIM))
    has_one = block.mixer.projection() is not None or name == "paths"  # whose factors take them
    assert isinstance(folded.scale1, LayerScale) != has_one


@pytest.mark.parametrize("name", [name for name in FEED_FORWARDS if name != "none"])
def test_factors_of_channels_fold_into_every_feed_forward_network(name, assert_folds):
    block = MetaFormerBlock(DIM, "pooling", name, layer_scale=0.3)
    assert isinstance(assert_folds(block, torch.randn(1, 5, 6, DIM)).scale2, torch.nn.Identity)


def test_blocks_that_share_a_mixer_fold_apart(assert_folds):
    mixer = WindowAttention(DIM, 2, 4)
    blocks = torch.nn.Sequential(*(MetaFormerBlock(DIM, mixer, None, layer_scale=scale) for scale in (0.3, 0.7)))
    assert_folds(blocks, torch.randn(1, 4, 8, DIM))

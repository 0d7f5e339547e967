from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from network_tester import NetworkTester, counts, fixture_error

from restore.networks.checkpoint import infer
from restore.networks.uformer import Uformer

TINY = {"type": "Uformer", "img_size": 64, "embed_dim": 4, "win_size": 2, "depths": [1, 1, 1, 1, 2, 1, 1, 1, 1]}
TINY["num_heads"] = [1, 2, 2, 2, 2, 2, 2, 2, 1]
B = [1, 2, 8, 8, 2, 8, 8, 2, 1]


def tiny(**changes) -> Uformer:
    torch.manual_seed(0)
    return Uformer(**{key: value for key, value in TINY.items() if key != "type"} | changes).eval()


def shifts(network: Uformer) -> list[bool]:
    return [block.shift[0] > 0 for block in network.conv.blocks]


class TestUformer(NetworkTester):
    variants: ClassVar = {
        "plain": TINY | {"img_size": 32},
        "modulated": TINY | {"img_size": 32, "modulator": True, "dd_in": 3},
        "conv": TINY | {"img_size": 32, "token_projection": "conv", "token_mlp": "mlp"},
        "crossed": TINY | {"img_size": 32, "cross_modulator": True, "qkv_bias": False},
        "more_channels": TINY | {"img_size": 32, "dd_in": 4},
    }


@pytest.mark.parametrize(
    ("options", "parameters", "keys"),
    [
        ({"embed_dim": 16}, 5_291_853, 352),
        ({"embed_dim": 32}, 20_751_197, 352),
        ({"embed_dim": 32, "depths": B}, 50_880_946, 759),
    ],
    ids="TSB",
)
def test_published_counts(options, parameters, keys):
    assert counts(Uformer, modulator=True, **options) == (parameters, keys)


@pytest.mark.parametrize(
    ("options", "without"),
    [({"embed_dim": 16}, 61_440), ({"embed_dim": 32}, 122_880), ({"embed_dim": 32, "depths": B}, 413_696)],
)
def test_modulators_account_for_the_difference_to_the_paper(options, without):
    assert counts(Uformer, modulator=True, **options)[0] - counts(Uformer, **options)[0] == without


def test_agrees_with_published_network(shared, fill):
    typical, largest = fixture_error(shared, fill, "uformer_t_128")
    assert typical <= 1e-5
    assert largest <= 1e-5


def test_bottleneck_shift_follows_img_size_unless_it_is_said():
    assert shifts(tiny(img_size=64)) == [False, True]
    assert shifts(tiny(img_size=32)) == [False, False]
    assert shifts(tiny(img_size=32, bottleneck_shift=True)) == [False, True]
    assert shifts(tiny(img_size=64, bottleneck_shift=False)) == [False, False]
    assert shifts(tiny(img_size=64, shift_flag=False, bottleneck_shift=True)) == [False, False]


def test_bottleneck_shift_changes_the_result_of_the_same_weights(fill):
    trained, tested = tiny(img_size=64), tiny(img_size=32)
    fill.fill_state_dict(trained)
    tested.load_state_dict(trained.state_dict())
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert not torch.allclose(trained(x), tested(x), atol=1e-3)
        assert torch.equal(trained(x), tiny_with(trained, img_size=32, bottleneck_shift=True)(x))


def tiny_with(source: Uformer, **changes) -> Uformer:
    network = tiny(**changes)
    network.load_state_dict(source.state_dict())
    return network


def test_stages_smaller_than_the_window_shrink_it_as_published():
    network = tiny(img_size=32, win_size=4)
    assert network.conv.blocks[0].attn.relative_position_bias_table.shape[0] == 9
    assert infer(network.state_dict())["img_size"] == 32


def test_weights_without_img_size_are_taken_for_the_published_tests():
    with torch.device("meta"):
        state = Uformer(embed_dim=16, modulator=True).state_dict()
    block = infer(state)
    assert (block["img_size"], block["embed_dim"], block["win_size"]) == (128, 16, 8)
    assert block["num_heads"] == [1, 2, 4, 8, 16, 16, 8, 4, 2]


def test_zero_output_projection_is_the_identity():
    network = tiny(modulator=True)
    torch.nn.init.zeros_(network.output_proj["proj"][0].weight)
    torch.nn.init.zeros_(network.output_proj["proj"][0].bias)
    x = torch.rand(1, 3, 11, 40)
    with torch.no_grad():
        assert torch.equal(network(x), x)


def test_residual_follows_the_published_rule_unless_it_is_said():
    assert tiny().global_residual
    assert not tiny(dd_in=4).global_residual
    assert tiny(dd_in=1, in_chans=1, global_residual=True).global_residual


def test_far_sides_of_a_long_image_do_not_meet(fill):
    network = tiny()
    fill.fill_state_dict(network)
    x = torch.rand(1, 3, 32, 320)
    changed = x.clone()
    changed[..., -32:] = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        moved = (network(changed) - network(x)).abs().amax(dim=(0, 1, 2))
    assert moved[-32:].min() > 1e-4
    assert moved[:64].max() <= 1e-5


def test_windows_without_shift_meet_only_through_convolutions(fill):
    network = tiny(shift_flag=False, token_mlp="mlp")
    fill.fill_state_dict(network)
    stage = network.encoderlayer_0
    x = torch.randn(1, 4, 8, 8)
    changed = x.clone()
    changed[..., 2:4, 4:6] += 1
    with torch.no_grad():
        moved = (stage(changed) - stage(x)).abs().amax(dim=1)[0] > 0
    assert moved[2:4, 4:6].all()
    assert moved.sum() == 4


def test_cross_modulator_uses_its_norm_unless_told_otherwise():
    fixed, published = tiny(cross_modulator=True), tiny(cross_modulator=True, cross_norm=False)
    for network in (fixed, published):
        network(torch.rand(1, 3, 8, 8)).sum().backward()
    assert fixed.decoderlayer_0.blocks[0].norm_cross.weight.grad is not None
    assert published.decoderlayer_0.blocks[0].norm_cross.weight.grad is None


def test_activation_checkpointing_gives_the_same_gradients():
    gradients = []
    for use_checkpoint in (False, True):
        network = tiny(use_checkpoint=use_checkpoint, drop_path_rate=0.0).train()
        network(torch.ones(1, 3, 8, 8)).square().mean().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": [2] * 8}, "nine entries"),
        ({"num_heads": [3] * 9}, "not a multiple"),
        ({"num_heads": [0] * 9}, r"num_heads is \[0, .*: must be greater than 0"),
        ({"img_size": 8}, "img_size 8 is less than 16"),
        ({"in_chans": 1}, "give both the same number, or global_residual: false"),
        ({"in_chans": 4}, "dd_in 3 channels is added to the output of in_chans 4"),
        ({"dd_in": 4, "global_residual": True}, "dd_in 4 channels is added to the output of in_chans 3"),
    ],
)
def test_impossible_configurations_say_why(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)

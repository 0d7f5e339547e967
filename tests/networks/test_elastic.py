"""Networks as slices of one that holds them all."""

from __future__ import annotations

import random

import pytest
import torch

from restore.errors import OptionsError
from restore.layers.build import build_feed_forward
from restore.layers.mixers import build_mixer
from restore.networks.elastic import Space, Supernet, num_parameters
from restore.networks.elastic.slicing import cut, stored
from restore.registry import FEED_FORWARDS, MIXERS, NETWORKS

BODY = {"type": "MetaFormerRestorer", "embed_dim": 12, "depths": [2, 1], "mixers": ["pooling"], "drop_path_rate": 0.0}
WINDOW = {"type": "window", "num_heads": 2, "window_size": 4}
SPACES = {  # one axis each
    "width": {"embed_dim": [8, 12]},
    "depth": {"depths": [1, 2, 3]},
    "heads": {"mixers": [{**WINDOW, "num_heads": [2, 4]}]},
    "window": {"mixers": [{**WINDOW, "window_size": [2, 4, 8]}]},
    "kernel": {"mixers": [{"type": "separable_conv", "kernel_size": [3, 7]}]},
    "expansion": {"mixers": [{"type": "gated_conv", "expansion": [1.0, 2.0]}]},
    "mixer": {"mixers": [WINDOW, "gated_conv", {"type": "channel", "num_heads": 2}, "conv_modulation", "identity"]},
    "feed-forward": {"feed_forward": ["mlp", "gated", "glu", {"type": "depthwise", "kernel_size": [3, 5]}, "none"]},
    "hidden width": {"mlp_ratio": [0.5, 1.0, 2.0]},
    "all": {
        "embed_dim": [8, 12],
        "depths": [1, 2],
        "mixers": [{**WINDOW, "num_heads": [1, 2], "window_size": [2, 4]}, "gated_conv"],
        "feed_forward": ["mlp", "gated"],
        "mlp_ratio": [1.0, 2.0],
    },
}


def supernet(space, **changes) -> Supernet:
    torch.manual_seed(0)
    return Supernet({**BODY, **changes}, space).double().eval()


def choices(space: Space, most: int = 12) -> list:
    """All values of each axis beside the largest, and a few that are drawn."""
    generator, largest = random.Random(0), space.largest()
    single = [
        (*largest[:place], number, *largest[place + 1 :])
        for place, values in enumerate(space.axes.values())
        for number in range(len(values))
    ]
    return [*generator.sample(single, min(most, len(single))), *(space.drawn(generator) for _ in range(3))]


def image(side: int = 16) -> torch.Tensor:
    return torch.rand(1, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SPACES)
def test_a_network_inside_is_the_one_built_alone_and_has_as_many_parameters_as_are_counted(name):
    whole, x = supernet(SPACES[name]), image()
    for choice in choices(whole.space):
        whole.chosen = choice
        alone = NETWORKS.build(whole.space.block(choice)).double().eval()
        alone.load_state_dict(whole.weights_of(choice))
        with torch.no_grad():
            torch.testing.assert_close(whole(x), alone(x), rtol=1e-10, atol=1e-10)
        assert num_parameters(whole.space, choice) == sum(each.numel() for each in alone.parameters())


def test_the_largest_is_the_supernet():
    whole = supernet({"embed_dim": [8, 12], "mixers": [WINDOW], "mlp_ratio": [1, 2]})
    assert whole.chosen == whole.space.largest()
    with torch.no_grad():
        torch.testing.assert_close(whole(image()), whole.body(image()), rtol=1e-10, atol=1e-10)
    own, body = whole.network_of(whole.chosen), dict(whole.body.named_parameters())
    assert all(each is body[name.replace(".mixer.", ".mixer.paths.0.")] for name, each in own.named_parameters())


def test_a_shallower_and_narrower_network_is_the_largest_with_parts_set_to_zero():
    """Told without slices: what is cut away contributes nothing where its last layer is zero."""
    whole, x = supernet({"depths": [1, 2], "mlp_ratio": [0.5, 2.0]}, depths=[2]), image()
    small = whole.network_of(whole.space.smallest())
    with torch.no_grad():
        wanted = small(x)
        for index, block in enumerate(whole.body.stages[0].blocks):
            block.ffn.fc2.weight[:, 6:] = 0
            if index:
                block.ffn.fc2.weight.zero_()
                block.ffn.fc2.bias.zero_()
                block.mixer.scales[0].gamma.zero_()
        torch.testing.assert_close(whole.body(x), wanted, rtol=1e-10, atol=1e-10)


def test_gradients_reach_the_shared_weights_and_only_the_slices():
    whole = supernet({"embed_dim": [8, 12]})
    whole.chosen = whole.space.smallest()
    whole(image()).sum().backward()
    gradient = whole.body.conv_first.weight.grad
    assert gradient[:8].abs().min() > 0
    assert gradient[8:].abs().max() == 0


def embedded(large: torch.nn.Module, small: torch.nn.Module) -> torch.nn.Module:
    """The larger component, zero but for the weights of the smaller one, in their places."""
    values = dict(small.named_parameters())
    for name, parameter in large.named_parameters():
        parameter.data.zero_()
        layer, _, leaf = name.rpartition(".")
        cut(parameter, values[name], large, layer, leaf).backward(values[name].detach())
        parameter.data.copy_(parameter.grad)
    return large


SLICED = [name for name in MIXERS if getattr(MIXERS.get(name), "side_by_side", None) is not None]
SLICED_FFN = [name for name in FEED_FORWARDS if getattr(FEED_FORWARDS.get(name), "side_by_side", None) is not None]


@pytest.mark.parametrize("name", [*SLICED, "shifted_window"])
def test_a_mixer_in_the_first_channels_of_a_wider_one_sees_nothing_of_the_others(name):
    torch.manual_seed(0)
    heads = [{"num_heads": count} if name.removeprefix("shifted_") in ("window", "channel") else {} for count in (2, 4)]
    small, large = (build_mixer({"type": name, **each}, dim).double() for each, dim in zip(heads, (8, 16), strict=True))
    x = torch.rand(1, 16, 16, 8, dtype=torch.float64)
    wider = torch.cat([x, torch.zeros_like(x)], dim=-1)
    found, wanted = embedded(large, small)(wider), small(x)
    torch.testing.assert_close(found[..., :8], wanted, rtol=1e-10, atol=1e-10)
    assert found[..., 8:].abs().max() == 0


@pytest.mark.parametrize("name", [name for name in SLICED_FFN if "grn" not in name and "norm" not in name])
def test_a_feed_forward_network_in_a_wider_one_too(name):
    torch.manual_seed(0)
    small, large = (build_feed_forward(name, dim, mlp_ratio=ratio).double() for dim, ratio in ((8, 1.5), (16, 2.0)))
    x = torch.rand(1, 6, 6, 8, dtype=torch.float64)
    found = embedded(large, small)(torch.cat([x, torch.zeros_like(x)], dim=-1))
    torch.testing.assert_close(found[..., :8], small(x), rtol=1e-10, atol=1e-10)


def test_relative_positions_keep_their_places_in_smaller_windows():
    large, small = (build_mixer({**WINDOW, "window_size": side}, 8) for side in (8, 4))
    table = cut(large.table, small.table, large, "", "table")
    assert torch.equal(table.view(7, 7, 2), large.table.view(15, 15, 2)[4:11, 4:11])
    with torch.no_grad():
        small.table.copy_(table)
        wanted = large.position_bias().view(2, 8, 8, 8, 8)[:, :4, :4, :4, :4]
        assert torch.equal(small.position_bias().view(2, 4, 4, 4, 4), wanted)


def test_a_smaller_kernel_is_the_larger_one_with_a_border_of_zeros():
    torch.manual_seed(0)
    large, small = (build_mixer({"type": "separable_conv", "kernel_size": side}, 4).double() for side in (7, 3))
    x = torch.rand(1, 9, 9, 4, dtype=torch.float64)
    torch.testing.assert_close(embedded(large, small)(x), small(x), rtol=1e-10, atol=1e-10)


def test_what_is_stored_is_what_the_state_dict_holds():
    whole = supernet(SPACES["all"])
    assert {name for name, *_ in stored(whole)} == {*whole.state_dict()}


def test_drawing_leaves_the_global_generator_where_it_was():
    whole = supernet(SPACES["all"])
    before = torch.get_rng_state()
    whole.network_of(whole.space.drawn(random.Random(0)))
    num_parameters(whole.space, whole.space.smallest())
    assert torch.equal(torch.get_rng_state(), before)


def test_choices_and_blocks():
    space = Space(BODY, SPACES["all"])
    assert len(space) == 2 * 2 * 2 * 5 * 5 * 2 * 2 * 2
    block = space.block(space.largest())
    assert (block["embed_dim"], block["depths"], block["mlp_ratio"]) == (12, [2, 2], 2.0)
    assert NETWORKS.check(block, "network_g") == []
    generator = random.Random(0)
    for _ in range(20):
        choice = space.drawn(generator)
        assert space.key(space.choice_of(space.block(choice))) == space.key(choice)
        assert space.mutated(choice, 0.0, generator) == choice
        other = space.drawn(generator)
        assert all(
            each in pair for each, *pair in zip(space.crossed(choice, other, generator), choice, other, strict=True)
        )
    assert space.choice_of({**block, "embed_dim": 10}) is None
    windows = Space(BODY, SPACES["window"])
    shifted = windows.block(windows.smallest())
    assert [each["type"] for each in shifted["mixers"]] == ["window", "shifted_window"]
    assert space.choice_of({**BODY, "mixers": ["gated_conv"]}) is not None


@pytest.mark.parametrize(
    ("changes", "space", "message"),
    [
        ({}, {}, "search.space: missing: what to choose from"),
        ({}, {"embed_dmi": [8]}, "search.space.embed_dmi: nothing to choose. Did you mean 'embed_dim'"),
        ({}, {"embed_dim": 8}, "search.space.embed_dim: expected a list"),
        ({}, {"depths": [0]}, "search.space.depths: expected whole numbers above 0; given: 0"),
        ({}, {"mixers": ["windoww"]}, "unknown mixer 'windoww'"),
        ({}, {"mixers": [{**WINDOW, "sides": [2]}]}, "search.space.mixers.0.sides"),
        (
            {},
            {"embed_dim": [8, 9], "mixers": [WINDOW]},
            "with embed_dim 9: window: dim 9 must be a multiple of num_heads 2",
        ),
        (
            {},
            {"embed_dim": [8, 12], "mixers": [{"type": "outlook", "num_heads": 2}]},
            "outlook cannot be cut .* These can: .*window",
        ),
        ({}, {"mlp_ratio": [1, 2], "feed_forward": ["light"]}, "light cannot be cut"),
        ({"type": "SwinIR"}, {"depths": [1]}, "SwinIR has no slots to choose for"),
        ({"share_blocks": 2}, {"depths": [1]}, "leave share_blocks and reversible out"),
        ({"norm": "batch"}, {"depths": [1, 2]}, "a batch norm .* keeps statistics of one network"),
        ({"placement": "sub-ln"}, {"depths": [1, 2]}, "sub-ln has a norm inside"),
    ],
)
def test_what_cannot_be_is_refused(changes, space, message):
    with pytest.raises(OptionsError, match=message):
        supernet(space, **changes)

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from network_tester import NetworkTester

from restore.errors import OptionsError
from restore.networks.metaformer import MetaFormerRestorer
from restore.networks.swinir import SwinIR
from restore.registry import FEED_FORWARDS, MIXERS, NETWORKS, NORMS, PLACEMENTS, POSITIONS

TINY = {"type": "MetaFormerRestorer", "embed_dim": 16, "depths": [2, 1]}
WINDOW = {"type": "window", "num_heads": 2, "window_size": 4}


def tiny(**changes) -> MetaFormerRestorer:
    torch.manual_seed(0)
    return MetaFormerRestorer(**{key: value for key, value in TINY.items() if key != "type"} | changes).eval()


class TestMetaFormerRestorer(NetworkTester):
    recognised = False
    variants: ClassVar = {
        "window": TINY
        | {"mixers": [WINDOW, WINDOW | {"type": "shifted_window"}], "upscale": 2, "upsampler": "pixelshuffledirect"},
        "stripe": TINY
        | {"mixers": {"type": "stripe", "num_heads": 2, "window_size": [2, 4]}, "feed_forward": "depthwise"},
        "channel": TINY | {"mixers": {"type": "channel", "num_heads": 2}, "feed_forward": "gated", "norm": "res-post"},
        "convolution": TINY | {"mixers": ["separable_conv", "gated_conv"], "layer_scale": 0.1, "in_chans": 1},
        "pooling": TINY
        | {"mixers": "pooling", "norm": "post", "position": "sinusoid", "upscale": 3, "upsampler": "pixelshuffle"},
        "identity": TINY
        | {
            "mixers": "identity",
            "feed_forward": "none",
            "position": "conv",
            "upscale": 4,
            "upsampler": "nearest+conv",
            "resi_connection": "3conv",
        },
        "on_bicubic": TINY
        | {"mixers": "window", "embed_dim": 24, "upscale": 3, "upsampler": "pixelshuffledirect", "base": "bicubic"},
        "slots": TINY
        | {
            "mixers": [{"type": "attention", "num_heads": 2}, "separable_conv"],
            "feed_forward": {"type": "glu", "activation": "silu", "mlp_ratio": 1.5},
            "norm": {"type": "rms", "eps": 1e-5},
            "placement": "sub-ln",
            "position": {"type": "learned", "grid_px": 4},
        },
    }


SLOTS = {"norm": NORMS, "placement": PLACEMENTS, "position": POSITIONS, "feed_forward": FEED_FORWARDS}


@pytest.mark.parametrize(("slot", "name"), [(slot, name) for slot, names in SLOTS.items() for name in names])
def test_every_component_of_every_slot_can_be_named(slot, name):
    network = tiny(mixers="gated_conv", depths=[2], **{slot: name}).train()
    x = torch.rand(2, 3, 5, 6)
    network(x).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    plain = tiny(mixers="gated_conv", depths=[2])
    assert (
        (name in ("layer", "pre", "none", "mlp", "grn_mlp") and slot != "norm")
        or name == "layer"
        or not torch.equal(network.eval()(x), plain(x))
    )


@pytest.mark.parametrize("name", MIXERS.names())
def test_every_mixer_can_be_named_and_learns(name):
    network = tiny(mixers=name, embed_dim=24, depths=[2]).train()
    network(torch.rand(2, 3, 9, 13)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_blocks_know_their_place_among_all():
    network = tiny(mixers="pooling", depths=[2, 3], placement="deepnorm")
    placements = [block.placement for stage in network.stages for block in stage.blocks]
    assert [(each.index, each.num_blocks) for each in placements] == [(index, 5) for index in range(5)]


@pytest.mark.parametrize("placement", ["pre", "post", "res-post"])
def test_files_that_say_of_the_norm_where_it_stands_are_read_so(placement):
    old, new = tiny(mixers="pooling", norm=placement), tiny(mixers="pooling", placement=placement)
    x = torch.rand(1, 3, 6, 5)
    assert torch.equal(old(x), new(x))
    assert NETWORKS.check({**TINY, "norm": placement}) == []


def test_swinir_is_a_configuration():
    torch.manual_seed(0)
    swinir = SwinIR(
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 2],
        window_size=4,
        mlp_ratio=2,
        upscale=2,
        upsampler="pixelshuffledirect",
        img_size=16,
    ).eval()
    torch.nn.init.zeros_(swinir.mean)
    network = tiny(
        mixers=[WINDOW, WINDOW | {"type": "shifted_window"}], depths=[2, 2], upscale=2, upsampler="pixelshuffledirect"
    )
    names = {
        "patch_embed.norm": "first_norm",
        "norm.": "last_norm.",
        "layers.": "stages.",
        "residual_group.": "",
        "attn.relative_position_bias_table": "mixer.table",
        "attn.": "mixer.",
        "mlp.": "ffn.",
        "upsample.": "reconstruction.steps.",
    }
    state = {}
    for key, value in swinir.state_dict().items():
        for old, new in names.items():
            key = (
                new + key.removeprefix(old)
                if old in ("norm.", "layers.", "upsample.") and key.startswith(old)
                else (key if old in ("norm.", "layers.", "upsample.") else key.replace(old, new))
            )
        if "attn_mask" not in key and "position_index" not in key:
            state[key] = value
    network.load_state_dict(state)
    x = torch.rand(1, 3, 12, 16)
    with torch.no_grad():
        assert torch.allclose(network(x) - 0.5, swinir(x - 0.5), atol=1e-5)


def test_mixers_take_turns_within_a_stage():
    network = tiny(mixers=["pooling", "identity"], depths=[3, 2])
    names = [type(mixer).__name__ for mixer in network.mixers()]
    assert names == ["Pooling", "IdentityMixer", "Pooling", "Pooling", "IdentityMixer"]


def test_sizes_are_multiples_of_what_all_mixers_need():
    network = tiny(mixers=[WINDOW | {"window_size": 6}, {"type": "stripe", "num_heads": 2, "window_size": [2, 4]}])
    assert network.spec.size_multiple == 12


def test_zero_last_convolution_is_the_identity():
    network = tiny(mixers="pooling")
    torch.nn.init.zeros_(network.reconstruction.steps[-1].weight)
    torch.nn.init.zeros_(network.reconstruction.steps[-1].bias)
    x = torch.rand(1, 3, 7, 10)
    with torch.no_grad():
        assert torch.allclose(network(x), x, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixers": ["identity", "poling"]}, r"mixers\.1: unknown mixer 'poling'.*Did you mean 'pooling'"),
        ({"mixers": {"type": "pooling", "size": 3}}, r"mixers\.0\.size: unknown option"),
        ({"mixers": []}, "name at least one each"),
        ({"mixers": "pooling", "depths": []}, "name at least one each"),
        ({"mixers": "pooling", "depths": [2, 0]}, r"depths is \[2, 0\]: must be greater than 0"),
        ({"mixers": ["pooling", "identity"], "depths": [1, 1]}, "2 are given, but no stage has more than 1 blocks"),
        ({"mixers": "pooling", "upscale": 2}, "does not fit upscale 2"),
        ({"mixers": "pooling", "upscale": 3, "upsampler": "nearest+conv"}, "power of two"),
        ({"mixers": "pooling", "position": "sinusoid", "embed_dim": 18}, "multiple of 4"),
        ({"mixers": "pooling", "norm": "post", "placement": "res-post"}, "both say where the norms stand"),
        ({"mixers": "pooling", "norm": "lair"}, "unknown norm 'lair'.*Did you mean 'layer'"),
        ({"mixers": "pooling", "placement": {"type": "deepnorm", "alpha": 2}}, "placement.alpha: unknown option"),
        ({"mixers": "pooling", "feed_forward": {"type": "mlp", "activation": "tanh"}}, "feed_forward.activation"),
    ],
)
def test_impossible_configurations_say_why(options, message):
    with pytest.raises((OptionsError, ValueError), match=message):
        tiny(**options)


@pytest.mark.parametrize("reversible", [False, True])
def test_parameters_keep_their_order(reversible):
    """A training state knows them by it, and a seed gives the same weights."""
    network = MetaFormerRestorer(mixers=["identity"], embed_dim=4, depths=[1], reversible=reversible)
    names = [name for name, _ in network.named_parameters() if name.startswith("stages.0.")]
    assert [name.split(".")[2] for name in names] == ["blocks"] * (len(names) - 2) + ["conv"] * 2


@pytest.mark.parametrize("base", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("upsampler", "upscale"), [("pixelshuffledirect", 3), ("pixelshuffle", 3), ("nearest+conv", 2)]
)
def test_on_a_base_it_starts_as_that_and_learns(base, upsampler, upscale):
    """Also where the map is padded to whole windows, and with the same weights as without."""
    mixers = {"type": "window", "num_heads": 2, "window_size": 4}
    network = tiny(mixers=mixers, upscale=upscale, upsampler=upsampler, base=base)
    plain = tiny(mixers=mixers, upscale=upscale, upsampler=upsampler)
    x = torch.rand(2, 3, 7, 9)
    enlarged = torch.nn.functional.interpolate(x, scale_factor=upscale, mode=base, align_corners=False)
    assert torch.equal(network(x), enlarged)
    assert not torch.allclose(plain(x), enlarged, atol=0.1)
    network.load_state_dict(plain.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(network(x), plain(x) - 0.5 + enlarged)

    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    for _ in range(2):  # the last convolution moves first, then everything
        optimizer.zero_grad()
        (network(x) - x.mean()).square().mean().backward()
        optimizer.step()
    assert all(parameter.grad.abs().max() > 0 for parameter in network.reconstruction.parameters())


def test_at_the_size_of_the_image_there_is_no_other_base():
    with pytest.raises(ValueError, match="base 'bicubic' is for upscale 2 and more"):
        tiny(base="bicubic")

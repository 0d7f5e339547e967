"""Every registered encoder keeps the contract, and so does the one that CONTRIBUTING.md shows."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from encoder_tester import EncoderTester

from restore.encoders import HALF, Encoder, Features, TokenEncoder, build_encoder
from restore.layers.tokens import Tokens
from restore.networks.unet import UNetRestorer
from restore.registry import ENCODERS

VIT = {"embed_dim": 32, "depth": 3, "num_heads": 2}
SWIN = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}
CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [8, 16, 16, 32]}
SMALL = {  # options that make an encoder small enough to test in seconds; all others are tested as they are
    "conv_pyramid": {"widths": [4, 8]},
    "afno": {"img_size": 64, "embed_dim": 16, "depth": 3, "num_blocks": 2},
    "amixer": {
        "img_size": 64,
        "embed_dim": 8,
        "depths": [1, 2, 1, 1],
        "num_heads": [2, 2, 4, 4],
        "window_sizes": [4, 4, 4, 2],
    },
    "amixer_deit": {"img_size": 64, "embed_dim": 16, "depth": 3, "num_heads": 2, "num_maps": 4},
    "vig": {"img_size": 64, "embed_dim": 16, "depth": 3, "num_neighbours": 3},
    "pyramid_vig": {"img_size": 64, "dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_neighbours": 4},
    "context_cluster": {"dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_heads": [2, 2, 2, 2], "head_dim": 8},
    "cyclemlp": {"dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "repmlpnet": {
        "dims": [16, 16, 32, 32],
        "depths": [1, 1, 1, 1],
        "window_sizes": [8, 4, 2, 2],
        "num_sharesets": [1, 2, 4, 8],
    },
    "swin_mlp": {
        "img_size": 64,
        "embed_dim": 8,
        "depths": [1, 2, 1, 1],
        "num_heads": [2, 2, 4, 4],
        "window_size": 4,
    },
    "band_energy": {"num_filters": 4, "widths": [8, 8]},
    "conv2former": {"dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "hornet": {"base_dim": 16, "depths": [1, 1, 1, 1], "filter_sizes": [None, None, 4, 2]},
    "slak": {"dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "kernel_sizes": [13, 11, 9, 7]},
    "gfnet": {"img_size": 64, "embed_dim": 16, "depth": 3},
    "gfnet_h": {"img_size": 64, "dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "lvvit": {"img_size": 32, "embed_dim": 48, "depth": 3, "num_heads": 2, "stem_width": 32},
    "deepvit": {"img_size": 32, "embed_dim": 16, "depth": 3, "num_heads": 2, "num_reattention": 1},
    "refiner": {"img_size": 32, "embed_dim": 16, "depth": 3, "num_heads": 2},
    "pyramid_tnt": {
        "img_size": 64,
        "dims": [16, 16, 32, 32],
        "inner_dims": [4, 4, 8, 8],
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 2, 2],
        "inner_heads": [1, 1, 2, 2],
    },
    "flexivit": {"embed_dim": 16, "depth": 3, "num_heads": 2},
    "repopt_vgg": {"depths": [1, 2, 1, 1], "width_factors": [0.125, 0.125, 0.0625, 0.0625]},
    "metaformer": {"dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "identityformer": {"dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "randformer": {"dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "grids": [None, None, 4, 2]},
    "mini_deit": {"img_size": 32, "embed_dim": 16, "depth": 6, "num_heads": 2},
    "mini_swin": {
        "img_size": 64,
        "embed_dim": 8,
        "depths": [2, 2, 2, 2],
        "num_shared": [2, 1, 2, 2],
        "num_heads": [2, 2, 4, 4],
        "window_size": 4,
    },
    "autoformer": {
        "img_size": 32,
        "embed_dim": 16,
        "num_heads": [1, 2, 1],
        "mlp_ratios": [2.0, 3.0, 2.0],
        "head_dim": 8,
        "max_distance": 3,
    },
    "after_trt_vit": {"dims": [8, 8, 16, 16], "depths": [1, 1, 2, 2], "num_mixed": [0, 0, 1, 1], "num_heads": 2},
    "visual_transformer": {"num_tokens": 4, "token_dim": 16},
    "hr_nas": {
        "stem_width": 8,
        "dims": [6, 12, 16],
        "depths": [1, 2, 1],
        "expansion": 2,
        "kernel_sizes": [3, 5],
        "head_dims": [8, 12, 20],
        "head_width": 20,
    },
    "ceit": {"img_size": 32, "embed_dim": 16, "depth": 3, "num_heads": 2},
    "cct": {"embed_dim": 16},
    "cvt_lite": {"embed_dim": 16},
    "vit_lite": {"embed_dim": 16},
    "cvt": {"dims": [8, 16, 16], "depths": [1, 1, 1], "num_heads": [1, 2, 2]},
    "t2t_vit": {"img_size": 32, "embed_dim": 16, "depth": 3, "num_heads": 2},
    "conv_stem_vit": {"img_size": 32, "embed_dim": 16, "depth": 3, "num_heads": 2, "stem_widths": [8, 8, 16, 16]},
    **{
        name: {"img_size": 32, "embed_dim": 16, "depth": 3, "num_heads": 2}
        for name in ("hmlp_vit", "parallel_vit", "cpvt", "deepnorm_vit", "subln_vit")
    },
    "pyramid": {"encoder": "test_vit", "width": 8},
    **{name: {"model_args": VIT} for name in ("vit", "deit", "deit3", "cait", "beit3")},
    **{name: {"model_args": SWIN} for name in ("swin", "swinv2")},
    **{name: {"model_args": CONVNEXT} for name in ("convnext", "convnextv2")},
    "tnt": {"model_args": {"embed_dim": 32, "inner_dim": 8, "depth": 3, "num_heads_inner": 2, "num_heads_outer": 2}},
    "levit": {"model_args": {"embed_dim": [32, 48, 64], "depth": [1, 1, 1], "num_heads": [2, 2, 2]}},
    "coatnet": {"model_args": {"embed_dim": [16, 16, 32, 32], "depths": [1, 1, 1, 1], "stem_width": [8, 16]}},
    "tiny_vit": {"model_args": {"embed_dims": [8, 16, 32, 32], "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}},
}
LARGE = {"volo", "poolformer", "mlp_mixer", "resmlp", "gmlp", "caformer", "convformer", "resnet50_v1"}
"""Models that cannot be made small."""

FAMILIES = [name for name in ENCODERS if not any(name in ENCODERS.variants(family) for family in ENCODERS)]


class TestRegistered(EncoderTester):
    """Every family once, however many variants it has; other names of timm are in `timm/`."""

    blocks: ClassVar = [{"type": name, **SMALL.get(name, {})} for name in FAMILIES if name not in {"timm", *LARGE}]
    discrete: ClassVar = {"vig", "pyramid_vig", "context_cluster"}
    without_gradient: ClassVar = {  # the last map has one place, which attends to itself whatever its bias
        "levit": ("stages.2.blocks.0.attn.attention_biases",),
        "pyramid_tnt": ("stages.3.relative_pos", "stages.3.blocks.0.outer_attn.q.weight"),
    }


@pytest.mark.slow
class TestRegisteredLarge(EncoderTester):
    blocks: ClassVar = [{"type": name} for name in FAMILIES if name in LARGE]


class TestForms(EncoderTester):
    """Further forms of some encoders."""

    blocks: ClassVar = [
        {"type": name, **SMALL[name], **form}
        for name, form in (
            ("repopt_vgg", {"learns_as": "branches"}),
            ("repopt_vgg", {"learns_as": "multiplied"}),
            ("mini_swin", {"compat": True}),
            ("repopt_vgg", {"learns_as": "repvgg", "squeeze_excitation": True}),
            ("vig", {"conv": "edge", "activation": "prelu"}),
            ("pyramid_vig", {"conv": "gin", "norm": "none"}),
            ("autoformer", {"max_distance": None, "positions": False, "placement": "post"}),
            ("cvt", {"projection": "avg", "class_token": [True, False, True]}),
            ("lvvit", {"order": ["mha", "ffn", "tr"]}),
        )
    ]
    discrete: ClassVar = {"vig", "pyramid_vig"}


@pytest.mark.slow
class TestFormsOfSeveralResolutions(EncoderTester):
    blocks: ClassVar = [
        {"type": "hr_nas", **SMALL["hr_nas"], **form}
        for form in (
            {"num_tokens": 4},
            {"out_indices": [0]},
        )
    ]


class TestDocumented(EncoderTester):
    blocks: ClassVar = ["patches"]
    test_it_can_be_sent_to_another_process = None  # no module holds the class

    @pytest.fixture(autouse=True)
    def registered(self, run_example, monkeypatch):
        monkeypatch.setattr(ENCODERS, "_components", dict(ENCODERS._components))
        run_example("an encoder")

    def test_it_stands_in_a_network(self):
        network = UNetRestorer({"type": "patches", "width": 8}, width=8, depth=1)
        assert network(torch.rand(1, 3, 13, 21)).shape == (1, 3, 13, 21)


class Odd(Encoder):
    """Says one thing and does another."""

    def __init__(self, in_chans=3, out_indices=None, *, give=list, **declared):
        declared = {"channels": (4, 8), "strides": (2, 4), "size_multiple": 4} | declared
        super().__init__(in_chans, out_indices=out_indices, **declared)
        self.give = give

    def maps(self, x_BCHW):
        B, _, H, W = x_BCHW.shape
        return self.give([x_BCHW.new_zeros(B, 4, H // 2, W // 2), x_BCHW.new_zeros(B, 8, H // 4, W // 4)])


MISTAKES = {
    "coarser than declared": (lambda maps: [maps[1], maps[1]], r"\(1, 8, 4, 5\), \(1, 8, 4, 5\)"),
    "one is missing": (lambda maps: maps[1:], r"\[\(1, 8, 4, 5\)\]"),
    "channels last": (lambda maps: [each.permute(0, 2, 3, 1) for each in maps], r"\(1, 8, 10, 4\)"),
    "tokens": (lambda maps: [each.flatten(2) for each in maps], r"\(1, 4, 80\)"),
    "images lost": (lambda maps: [each[:0] for each in maps], r"\(0, 4, 8, 10\)"),
    "one map alone": (lambda maps: maps[0], "Tensor, not a list"),
    "a dictionary": (lambda maps: dict(enumerate(maps)), "dict, not a list"),
    "nothing": (lambda maps: None, "NoneType, not a list"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_maps_that_are_not_as_declared_are_found(mistake):
    give, found = MISTAKES[mistake]
    assert len(Odd()(torch.zeros(1, 3, 15, 17))) == 2
    with pytest.raises(AssertionError, match=rf"Odd\.maps gave .*{found}"):
        Odd(give=give)(torch.zeros(1, 3, 15, 17))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"strides": (2,)}, "one stride for each map, ascending"),
        ({"strides": (4, 2)}, "one stride for each map, ascending"),
        ({"strides": (0, 2)}, r"strides is \[0, 2\]: must be greater than 0"),
        ({"size_multiple": 0}, "size_multiple is 0"),
        ({"out_indices": []}, "out_indices is empty"),
    ],
)
def test_declarations_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Odd(**wrong)


def test_normalisation_of_weights_that_do_not_exist_is_refused():
    with pytest.raises(ValueError, match="normalisation is 'weights', but this encoder has none"):
        Odd(normalisation="weights")
    assert Odd(normalisation="weights", weights_statistics=HALF)._mean is None


def test_channels_beyond_three_are_normalised_in_turn_and_grey_by_the_mean():
    assert Odd(4, normalisation="imagenet")._mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406, 0.485])
    assert Odd(1, normalisation="imagenet")._mean.flatten().tolist() == pytest.approx([0.449])


def test_normalisation_leaves_the_state_dict_as_it_was():
    assert Odd(normalisation="imagenet").state_dict().keys() == Odd().state_dict().keys()


def test_images_without_a_batch_are_refused():
    with pytest.raises(ValueError, match=r"takes \(B, 3, H, W\).*given \(3, 8, 8\)"):
        Odd()(torch.zeros(3, 8, 8))


def test_an_encoder_takes_what_networks_give_it():
    with pytest.raises(TypeError, match=r"Deaf\.__init__ does not take in_chans and out_indices: add `in_ch"):

        class Deaf(Encoder):
            def __init__(self, width: int = 8):
                super().__init__(3, channels=(width,), strides=(2,))


class NoEncoder(torch.nn.Module):
    def __init__(self, in_chans=3, out_indices=None):
        super().__init__()


class Headless(Odd):
    def __init__(self, in_chans=3, out_indices=None):
        self.in_chans = in_chans


class Listed(Odd):
    def __init__(self, in_chans=3, out_indices=None):
        super().__init__(in_chans, out_indices)
        self.blocks = torch.nn.ModuleList()


class Careless(Odd):
    def __init__(self, in_chans=3, out_indices=None):
        super().__init__(in_chans)


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (NoEncoder, "NoEncoder is registered as an encoder but does not derive from Encoder"),
        (Headless, r"Headless\.__init__ does not call super\(\)\.__init__"),
        (Listed, "Listed has a module called blocks, which is a method of encoders: call it stack"),
        (Careless, r"Careless\.__init__ does not give out_indices to super\(\)\.__init__"),
    ],
)
def test_what_breaks_the_contract_is_refused_when_it_is_built(component, message, monkeypatch):
    monkeypatch.setattr(ENCODERS, "_components", ENCODERS._components | {"mine": component})
    with pytest.raises(TypeError, match=message):
        build_encoder({"type": "mine", "out_indices": [1]})


class MeanAdded(torch.nn.Module):
    """Each token learns of all others."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(6, 6)

    def forward(self, x_BNC):
        return x_BNC + self.linear(x_BNC.tanh().mean(dim=1, keepdim=True) + x_BNC)


class Plain(TokenEncoder):
    """Patches of 8 px, one class token."""

    def __init__(self, in_chans=3, out_indices=None, normalisation="symmetric", num_blocks=4, tile_px=None):
        super().__init__(
            in_chans,
            dim=6,
            num_blocks=num_blocks,
            patch_px=8,
            out_indices=out_indices,
            normalisation=normalisation,
            tile_px=tile_px,
        )
        self.patch_embed = torch.nn.Conv2d(in_chans, 6, 8, 8)
        self.cls_token = torch.nn.Parameter(torch.randn(1, 1, 6))
        self.stack = torch.nn.ModuleList(MeanAdded() for _ in range(num_blocks))
        self.norm = torch.nn.LayerNorm(6)

    def embed(self, x_BCHW):
        cls_B1C = self.cls_token + x_BCHW.mean(dim=(1, 2, 3)).view(-1, 1, 1)
        return Tokens(cls_B1C, num_prefix=1).with_map(self.patch_embed(x_BCHW))


class TestTokens(EncoderTester):
    blocks: ClassVar = ["plain", {"type": "plain", "tile_px": 16}]

    @pytest.fixture(autouse=True)
    def registered(self, monkeypatch):
        monkeypatch.setattr(ENCODERS, "_components", ENCODERS._components | {"plain": Plain})


def test_tokens_are_the_last_map_after_the_norm_and_stay_with_their_patches():
    torch.manual_seed(0)
    encoder, x = Plain().eval(), torch.rand(2, 3, 20, 37)
    features = encoder.encode(x)
    assert (encoder.num_maps, encoder.out_indices) == (4, (1, 2, 3))
    assert (features.tokens.grid, features.tokens.num_prefix) == ((3, 5), 1)
    normed = encoder.norm(features.maps[-1].flatten(2).transpose(1, 2))
    torch.testing.assert_close(features.tokens.patches_BNC, normed)
    assert features.tokens.prefix_BNC.shape == (2, 1, 6)


def test_class_tokens_of_tiles_are_averaged_and_patches_lie_side_by_side():
    torch.manual_seed(0)
    encoder, x = Plain(tile_px=16).eval(), torch.rand(2, 3, 16, 32)
    whole = encoder.encode(x).tokens
    left, right = (encoder.encode(half).tokens for half in x.split(16, dim=3))
    torch.testing.assert_close(whole.prefix_BNC, (left.prefix_BNC + right.prefix_BNC) / 2)
    torch.testing.assert_close(whole.map_BCHW(), torch.cat([left.map_BCHW(), right.map_BCHW()], dim=3))


def test_tiles_are_no_larger_than_the_image_needs():
    def side(image_px, tile_px, size_multiple):
        strides = (2, 4)
        return Odd(tile_px=tile_px, size_multiple=size_multiple, strides=strides).tile_side(image_px)

    assert [side(px, 224, 224) for px in (1, 224, 225)] == [224, 224, 224]
    assert [side(px, 224, 16) for px in (1, 64, 65, 224, 225, 256, 500)] == [16, 64, 80, 224, 128, 128, 176]


def test_an_encoder_without_what_follows_its_chosen_maps():
    encoder = Plain(out_indices=[0, 1])
    before = [each.detach() for each in encoder(torch.ones(1, 3, 16, 16))]
    encoder.prune_to_maps()
    assert (len(encoder.stack), encoder.num_maps, encoder.out_indices) == (2, 2, (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(before, encoder(torch.ones(1, 3, 16, 16)), strict=True))
    with pytest.raises(AssertionError, match="built for its maps alone"):
        encoder.encode(torch.ones(1, 3, 16, 16))


def test_features_without_tokens():
    assert Odd().encode(torch.zeros(1, 3, 8, 8)).tokens is None
    assert Features([]).logits is None

"""Encoders of tokens against their official code."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from official import errors, parameters

from restore.encoders import Classifier, build_encoder, load_published, published_state
from restore.encoders.token.cct import SequencePooling
from restore.encoders.token.vit_forms import HierarchicalStem
from restore.layers.mixers import build_mixer
from restore.layers.tokens import Tokens

SMALL = {  # fixture: (block, whether its map is that after the last norm)
    "lvvit__small": ({"type": "lvvit", "img_size": 96, "embed_dim": 48, "depth": 3, "num_heads": 3}, True),
    "deepvit__small": (
        {"type": "deepvit", "img_size": 96, "embed_dim": 48, "depth": 4, "num_reattention": 2, "num_heads": 4},
        False,
    ),
    "refiner__small": ({"type": "refiner", "img_size": 96, "embed_dim": 48, "depth": 4, "num_heads": 4}, True),
    "mini_deit_tiny__64": ({"type": "mini_deit_tiny", "img_size": 64}, False),
    "pyramid_tnt__small": (
        {
            "type": "pyramid_tnt",
            "img_size": 128,
            "dims": [16, 32, 64, 64],
            "inner_dims": [4, 8, 16, 16],
            "depths": [1, 2, 1, 1],
            "num_heads": [2, 4, 8, 8],
            "inner_heads": [1, 2, 4, 4],
        },
        False,
    ),
    "ceit__small": (
        {"type": "ceit", "img_size": 96, "embed_dim": 48, "depth": 3, "num_heads": 3, "qkv_bias": False},
        False,
    ),
    "cct_2_3x2_32__32": ("cct_2_3x2", False),
    "cct_7_3x1_32__32": ("cct_7_3x1", False),
}
SMALL |= {
    "cvt__small": ({"type": "cvt", "dims": [16, 48, 96], "depths": [1, 1, 2]}, False),
    **{
        f"t2t_vit__small_{kind}": (
            {"type": "t2t_vit", "img_size": 96, "tokens_type": kind, "embed_dim": 48, "depth": 2, "num_heads": 3,
             "mlp_ratio": 2},
            False,
        )
        for kind in ("performer", "transformer")
    },
}  # fmt: skip
PARAMETERS = {  # as counted in the official code, with 1000 classes
    "lvvit_tiny": 8_534_720,
    "lvvit_small": 26_151_824,
    "lvvit_medium": 55_830_544,
    "lvvit_large": 150_021_968,
    "deepvit_16b": 24_426_664,
    "deepvit_24b": 36_261_448,
    "deepvit_32b": 48_096_232,
    "deepvit_small": 27_312_632,
    "deepvit_large": 58_883_708,
    "refiner_small": 25_408_656,
    "refiner_medium": 55_450_932,
    "refiner_large": 81_150_192,
    "autoformer_tiny": 5_867_944,
    "autoformer_small": 22_891_432,
    "autoformer_base": 53_691_688,
    "mini_deit_tiny": 3_090_304,
    "mini_deit_small": 11_450_824,
    "mini_deit_base": 44_098_408,
    "mini_deit_base_384": 44_390_248,
    "mini_swin_tiny": 12_001_765,
    "mini_swin_small": 26_463_205,
    "mini_swin_base": 46_444_852,
    "mini_swin_base_384": 46_512_532,
    "pyramid_tnt_tiny": 10_578_529,
    "pyramid_tnt_small": 31_953_200,
    "pyramid_tnt_medium": 84_943_572,
    "pyramid_tnt_base": 156_990_072,
    "ceit_tiny": 6_356_904,
    "ceit_small": 24_204_840,
    "ceit_base": 94_405_416,
    "cct_7_7x2": 4_804_521,
    "cct_14_7x2": 22_367_273,
    "cvt_13": 19_997_480,
    "cvt_21": 31_622_696,
    "cvt_w24": 277_196_392,
}
OF_TEN_CLASSES = {
    "cct_2_3x2": 283_723,
    "cct_4_3x2": 482_123,
    "cct_6_3x1": 3_233_803,
    "cct_6_3x2": 3_326_923,
    "cct_7_3x1": 3_760_139,
    "cct_7_3x2": 3_853_259,
    "vit_lite_2_4": 214_666,
    "vit_lite_4_4": 413_066,
    "vit_lite_6_4": 3_190_538,
    "vit_lite_7_4": 3_716_874,
    "cvt_lite_2_4": 214_539,
    "cvt_lite_4_4": 412_939,
    "cvt_lite_6_4": 3_190_283,
    "cvt_lite_7_4": 3_716_619,
}


@pytest.mark.parametrize("name", SMALL)
def test_agrees_with_official_code(name, shared, fill):
    block, normed = SMALL[name]
    found = errors(shared, fill, name, block, normed=normed)
    assert "output_logits" in found
    assert max(found.values()) <= 1e-5, found


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name):
    assert parameters(name) == PARAMETERS[name]


@pytest.mark.parametrize("name", OF_TEN_CLASSES)
def test_parameters_of_ten_classes(name):
    assert parameters(name, 10) == OF_TEN_CLASSES[name]


@pytest.mark.parametrize(("name", "count"), [("ceit_tiny", 6_429_864), ("ceit_small", 24_350_760)])
def test_ceit_of_384_px(name, count):
    assert parameters({"type": name, "img_size": 384}) == count


def test_sequence_pooling():
    torch.manual_seed(0)
    pooling, tokens_BNC = SequencePooling(5), torch.randn(2, 7, 5)
    torch.testing.assert_close(pooling(tokens_BNC), pooling(tokens_BNC[:, torch.randperm(7)]))
    torch.nn.init.zeros_(pooling.weight)
    torch.testing.assert_close(pooling(tokens_BNC), tokens_BNC.mean(dim=1))


def test_reattention_with_the_identity_is_attention():
    torch.manual_seed(0)
    mixer = build_mixer({"type": "reattention", "num_heads": 4}, 16).double().eval()
    plain = build_mixer({"type": "attention", "num_heads": 4}, 16).double()
    plain.load_state_dict(mixer.state_dict(), strict=False)
    x_BHWC = torch.randn(2, 4, 5, 16, dtype=torch.float64)
    assert not torch.allclose(mixer(x_BHWC), plain(x_BHWC))
    with torch.no_grad():
        mixer.reatten_matrix.weight.copy_(torch.eye(4)[:, :, None, None])
        mixer.reatten_matrix.bias.zero_()
        mixer.var_norm.running_var.fill_(1 - mixer.var_norm.eps)
    torch.testing.assert_close(mixer(x_BHWC), plain(x_BHWC), rtol=0, atol=1e-12)


def _refining(num_heads: int = 2) -> torch.nn.Module:
    torch.manual_seed(0)
    mixer = build_mixer({"type": "refined", "num_heads": num_heads}, 8).double().eval()
    with torch.no_grad():
        mixer.adapt_bn.running_var.fill_(1 - mixer.adapt_bn.eps)
    return mixer


def test_refinement_without_its_last_gain_is_attention():
    mixer = _refining()
    plain = build_mixer({"type": "attention", "num_heads": 2}, 8).double()
    plain.load_state_dict(mixer.state_dict(), strict=False)
    x_BHWC = torch.randn(2, 4, 5, 8, dtype=torch.float64)
    assert not torch.allclose(mixer(x_BHWC), plain(x_BHWC))
    torch.nn.init.zeros_(mixer.DLA.bn3.weight)
    torch.testing.assert_close(mixer(x_BHWC), plain(x_BHWC), rtol=0, atol=1e-12)


def test_a_map_convolved_along_its_keys_is_attention_to_convolved_values():
    """(A * K) V = A (K correlated with V), the distributed local attention of Refiner, away from the last keys."""
    torch.manual_seed(0)
    map_NN, value_Nd, kernel = (torch.randn(size, dtype=torch.float64) for size in ((9, 9), (9, 4), (3,)))
    map_NN[:, [0, -1]] = 0  # the ends have no neighbours
    convolve = _refining().DLA.depth_sep_conv
    with torch.no_grad():
        convolve.weight.zero_()
        convolve.weight[0, 0, 1] = kernel
    convolved_NN = convolve(torch.stack([map_NN] + [torch.zeros_like(map_NN)] * 5))[0]
    seen_Nd = torch.nn.functional.conv1d(value_Nd.T[:, None], kernel.flip(0).view(1, 1, 3), padding=1)[:, 0].T
    torch.testing.assert_close(convolved_NN @ value_Nd, map_NN @ seen_Nd, rtol=0, atol=1e-12)


def test_refining_blocks_have_less_weights_and_maps_add_up():
    torch.manual_seed(0)
    encoder = build_encoder({"type": "refiner", "img_size": 32, "embed_dim": 16, "depth": 3, "num_heads": 2}).eval()
    refining, adding = (sum(p.numel() for p in encoder.stack[n].mixer.qkv.parameters()) for n in (1, 2))
    assert adding - refining == 2 * 16**2 + 2 * 16
    tokens, passed = encoder.embed(torch.rand(1, 3, 32, 32)), None
    sums = []
    for block in encoder.stack:
        tokens, passed = block(tokens, passed)
        sums.append(passed.sum(dim=-1))
    for found, expected in zip(sums, (1, 1, 1 + 8**-0.5), strict=True):
        torch.testing.assert_close(found, torch.full_like(found, expected))


TNT = {"type": "pyramid_tnt", "img_size": 64, "dims": [8, 8, 16, 16], "inner_dims": [2, 4, 4, 4],
       "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "inner_heads": [1, 1, 2, 2]}  # fmt: skip


def test_words_of_different_patches_do_not_meet_in_a_block():
    torch.manual_seed(0)
    block = build_encoder(TNT).stages[1].blocks[0]
    words, patches = torch.randn(12, 4, 4, 4), torch.randn(1, 3, 4, 8)
    other = words.clone()
    other[5] += 1
    moved = [block(each, patches, torch.zeros(1, 1, 12, 2))[0] for each in (words, other)]
    assert (moved[0] - moved[1]).abs().amax(dim=(1, 2, 3)).nonzero().flatten().tolist() == [5]


def test_patches_that_words_tell_nothing_are_those_of_a_pyramid_without_words():
    torch.manual_seed(0)
    encoder = build_encoder(TNT).eval()
    with torch.no_grad():
        for stage in encoder.stages:
            stage.blocks[0].proj_norm2.weight.zero_()
            stage.blocks[0].proj_norm2.bias.zero_()
    x = torch.rand(1, 3, 64, 64)
    before = encoder(x)
    with torch.no_grad():
        encoder.inner_pos.add_(1.0)
    assert all(torch.equal(one, other) for one, other in zip(before, encoder(x), strict=True))


def test_scores_of_another_size_are_resampled_along_both_grids():
    torch.manual_seed(0)
    stage = build_encoder(TNT).stages[0]
    assert stage.scores((8, 8)) is stage.relative_pos
    assert stage.scores((12, 16)).shape == (1, 1, 192, 12)
    with torch.no_grad():
        stage.relative_pos.fill_(0.5)
    torch.testing.assert_close(stage.scores((12, 16)), torch.full((1, 1, 192, 12), 0.5))


def test_sizes_that_no_stage_could_fit_are_refused():
    with pytest.raises(ValueError, match="img_size is 224: it must be a multiple of 64"):
        build_encoder({"type": "pyramid_tnt", "img_size": 224})


def test_flexivit_is_that_of_timm():
    import timm

    torch.manual_seed(0)
    options = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    model = timm.create_model("flexivit_small", num_classes=10, **options).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    classifier = Classifier(
        build_encoder({"type": "flexivit", "stored_patch_px": 16, "stored_grid": 15, **options}), 10
    )
    load_published(classifier.eval(), model.state_dict())
    x = torch.rand(2, 3, 240, 240)
    torch.testing.assert_close(classifier(x), model(2 * x - 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("size", "count"), [("small", 22_061_416), ("base", 86_589_160), ("large", 304_355_304)])
def test_parameters_of_flexivit(size, count):
    """The published counts are of weights for patches of 16 px; stored for 32 px, there are more."""
    assert parameters({"type": f"flexivit_{size}", "stored_patch_px": 16, "stored_grid": 15}) == count
    dim = {"small": 384, "base": 768, "large": 1024}[size]
    assert parameters(f"flexivit_{size}") == count + dim * (3 * (32**2 - 16**2) - (15**2 - 7**2))


def test_flexivit_draws_patches_in_training_and_its_maps_keep_their_stride():
    torch.manual_seed(0)
    encoder = build_encoder({"type": "flexivit", "embed_dim": 16, "depth": 2, "num_heads": 2, "patch_sizes": [8, 12]})
    x, sizes = torch.rand(1, 3, 37, 51), set()
    for _ in range(8):
        features = encoder.train().encode(x)
        assert [tuple(each.shape) for each in features.maps] == [(1, 16, 3, 4)] * 2
        sizes.add(tuple(features.tokens.grid))
    assert sizes == {(5, 7), (4, 5)}
    assert encoder.eval().encode(x).tokens.grid == (3, 4)
    assert torch.equal(encoder(x)[0], encoder(x)[0])


def test_one_network_at_two_sizes_of_patches():
    """A patch has the same token as when it is seen at twice its size."""
    torch.manual_seed(0)
    options = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_sizes": []}
    fine, coarse = (build_encoder({"type": "flexivit", "patch_size": size, **options}).eval() for size in (32, 64))
    coarse.load_state_dict(fine.state_dict())
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        one = fine(x)[-1]
        other = coarse(torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear"))[-1]
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_semantic_tokens_do_not_know_where_pixels_are_and_the_map_can_do_without_them():
    torch.manual_seed(0)
    block = {"type": "visual_transformer", "num_layers": 3, "num_tokens": 5, "token_dim": 12}
    encoder = build_encoder(block).eval()
    x_BHWC, order = torch.randn(2, 3, 4, 256), torch.randperm(12)
    moved_BHWC = x_BHWC.flatten(1, 2)[:, order].view(x_BHWC.shape)
    tokens = moved_tokens = None
    for layer in encoder.stack:
        x_BHWC, tokens = layer(x_BHWC, tokens)
        moved_BHWC, moved_tokens = layer(moved_BHWC, moved_tokens)
    torch.testing.assert_close(tokens, moved_tokens, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(x_BHWC.flatten(1, 2)[:, order], moved_BHWC.flatten(1, 2), rtol=1e-4, atol=1e-4)
    image = torch.rand(1, 3, 40, 56)
    features = encoder.encode(image)
    assert features.tokens.x_BNC.shape == (1, 5, 12)
    assert features.tokens.grid is None
    with torch.no_grad():
        for layer in encoder.stack:
            layer.projector.proj.weight.zero_()
            layer.projector.proj.bias.zero_()
    without = build_encoder({**block, "num_layers": 0}).eval()
    without.load_state_dict(encoder.state_dict(), strict=False)
    assert torch.equal(encoder(image)[-1], without(image)[-1])


TRAINABLE = {"t2t_vit_7": 4_255_694, "t2t_vit_14": 21_465_806, "t2t_vit_t_14": 21_465_422}
ROUNDED = {  # in millions, as papers and closed forms give them
    "t2t_vit_10": 5.889, "t2t_vit_12": 6.942, "t2t_vit_19": 39.177, "t2t_vit_24": 64.106, "t2t_vit_t_19": 39.173,
    "t2t_vit_t_24": 64.101, "conv_stem_vit_1gf": 4.57, "conv_stem_vit_4gf": 17.75, "conv_stem_vit_18gf": 81.57,
    "conv_stem_vit_36gf": 167.80, "parallel_vit_small_18x2": 64.665, "parallel_vit_base_18x2": 256.732,
}  # fmt: skip


@pytest.mark.parametrize("name", TRAINABLE)
def test_trainable_parameters(name):
    with torch.device("meta"):
        classifier = Classifier(build_encoder(name), 1000)
    assert sum(p.numel() for p in classifier.parameters() if p.requires_grad) == TRAINABLE[name]


@pytest.mark.parametrize("name", ROUNDED)
def test_parameters_as_rounded(name):
    digits = len(str(ROUNDED[name]).partition(".")[2])
    assert parameters(name) / 1e6 == pytest.approx(
        ROUNDED[name], abs=0.51 * 10 ** -min(digits, 2) if digits < 3 else 6e-4
    )


def test_hmlp_stem_looks_at_its_own_patch():
    torch.manual_seed(0)
    stem = HierarchicalStem(3, 768).eval()
    assert sum(p.numel() for p in stem.parameters()) == 749_952
    x = torch.rand(1, 3, 32, 48)
    other = x.clone()
    other[:, :, :16, 16:32] = 0
    changed = (stem(x) - stem(other)).abs().amax(dim=(0, 1)) > 0
    assert changed.tolist() == [[False, True, False], [False, False, False]]


def test_parallel_and_sequential_have_as_many_parameters():
    options = {"embed_dim": 32, "num_heads": 2}
    parallel = parameters({"type": "parallel_vit", "depth": 3, **options})
    assert parallel == parameters({"type": "parallel_vit", "depth": 6, "num_parallel": 1, **options})


@pytest.mark.parametrize("name", ["parallel_vit", "hmlp_vit"])
def test_official_tables_without_a_place_for_the_class_token_are_taken(name):
    options = {"img_size": 32, "embed_dim": 16, "num_heads": 2, "depth": 1, "layer_scale": 1e-4}
    encoder, other = (build_encoder({"type": name, **options}) for _ in range(2))
    state = published_state(encoder)
    assert {"patch_embed.proj.weight", "patch_embed.proj.0.weight"} & {*state}
    numbered = {"blocks.0.norm11.weight", "blocks.0.attn1.qkv.weight", "blocks.0.gamma_1_1", "blocks.0.mlp1.fc1.bias"}
    assert numbered <= {*state} if name == "parallel_vit" else not numbered & {*state}
    assert {"blocks.0.norm1.weight", "blocks.0.attn.proj.bias", "blocks.0.gamma_1", "blocks.0.gamma_2"} <= {*state}
    load_published(other, {**state, "pos_embed": state["pos_embed"][:, 1:]})
    assert torch.equal(other.pos_embed[:, 1:], encoder.pos_embed[:, 1:])
    assert not other.pos_embed[:, 0].any()


def test_positions_by_convolution_take_any_size():
    torch.manual_seed(0)
    encoder = build_encoder({"type": "cpvt", "embed_dim": 16, "num_heads": 2, "depth": 2})
    assert encoder.pos_embed is None
    assert sum(p.numel() for p in encoder.peg.parameters()) == 16 * 9 + 16
    x = torch.rand(1, 3, 32, 48)
    tokens = encoder.eval().embed(x)
    with torch.no_grad():
        encoder.peg.conv.weight.zero_()
        encoder.peg.conv.bias.zero_()
    torch.testing.assert_close(encoder.block(encoder.stack[0], tokens).x_BNC, encoder.stack[0](tokens).x_BNC)


def test_deepnorm_and_subln_constants():
    encoder = build_encoder({"type": "deepnorm_vit", "depth": 12, "embed_dim": 16, "num_heads": 2})
    assert encoder.stack[0].placement.alpha == pytest.approx(24**0.25)
    extra = parameters({"type": "subln_vit", "depth": 2, "embed_dim": 16, "num_heads": 2})
    plain = parameters({"type": "subln_vit", "depth": 2, "embed_dim": 16, "num_heads": 2, "placement": "pre"})
    assert extra - plain == 2 * (2 * 16 + 2 * 64)


def test_published_weights_of_t2t_are_scaled_by_the_width():
    torch.manual_seed(0)
    options = {"img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 3}
    plain, scaled = (build_encoder({"type": "t2t_vit", **options, "width_scale": on}).eval() for on in (False, True))
    scaled.load_state_dict(plain.state_dict())
    with torch.no_grad():
        for block in plain.stack:
            block.mixer.qkv.weight[:24] /= 3**0.5
        x = torch.rand(1, 3, 37, 51)
        for a, b in zip(plain(x), scaled(x), strict=True):
            torch.testing.assert_close(a, b)


def test_tokens_of_t2t_overlap():
    torch.manual_seed(0)
    stem = build_encoder({"type": "t2t_vit", "img_size": 64, "embed_dim": 24, "depth": 1, "num_heads": 3}).patch_embed
    ones = torch.ones(1, 1, 8, 8)
    seen = F.fold(F.unfold(ones, 3, stride=2, padding=1), (8, 8), 3, stride=2, padding=1)
    assert seen[0, 0, 2:-2, 2:-2].unique().tolist() == [1, 2, 4]  # each position stands in up to four tokens
    assert stem(torch.rand(1, 3, 64, 48)).shape == (1, 24, 4, 3)


def test_cct_without_positions_is_cct_whose_positions_are_zero():
    torch.manual_seed(0)
    plain, with_table = (
        build_encoder({"type": "cct", "embed_dim": 16, "positions": on}).eval() for on in (False, True)
    )
    assert with_table.state_dict().keys() - plain.state_dict().keys() == {"positional_emb"}
    torch.nn.init.zeros_(with_table.positional_emb)
    plain.load_state_dict(with_table.state_dict(), strict=False)
    x = torch.rand(1, 3, 37, 51)
    assert all(torch.equal(a, b) for a, b in zip(plain(x), with_table(x), strict=True))


def test_lvvit_may_look_at_the_class_token_alone():
    small = {"img_size": 32, "embed_dim": 48, "depth": 2, "num_heads": 2}
    encoder = build_encoder({"type": "lvvit", "dense": False, **small})
    classifier = Classifier(encoder, 5)
    features = encoder.encode_all(torch.rand(2, 3, 32, 32))
    assert [*classifier.head.state_dict()] == ["head.weight", "head.bias"]
    torch.testing.assert_close(classifier.head(features), classifier.head.head(features.tokens.x_BNC[:, 0]))


def test_ceit_looks_at_neighbours_of_patches_and_adds_the_norm_of_the_class_token():
    """A kernel that is 1 in the centre, with norms that do nothing, leaves a perceptron of each patch."""
    torch.manual_seed(0)
    block = build_encoder({"type": "ceit", "img_size": 64, "embed_dim": 24, "depth": 1, "num_heads": 3}).eval().stack[0]
    tokens = Tokens(torch.randn(1, 13, 24), (3, 4), num_prefix=1)
    with torch.no_grad():
        block.attn.proj.weight.zero_()
        block.attn.proj.bias.zero_()
        block.leff.conv2.weight.zero_()[:, :, 1, 1] = 1
        for module in block.leff.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_var.fill_(1 - module.eps)
            elif isinstance(module, torch.nn.Conv2d):
                module.bias.zero_()
        normed_BNC = block.norm2(tokens.x_BNC)
        hidden_BNC = F.gelu(F.linear(normed_BNC, block.leff.conv1.weight.flatten(1)))
        patches_BNC = F.linear(F.gelu(hidden_BNC), block.leff.conv3.weight.flatten(1))
        after = block(tokens).x_BNC
    torch.testing.assert_close(after[:, :1], (tokens.x_BNC + normed_BNC)[:, :1])
    torch.testing.assert_close(after[:, 1:], (tokens.x_BNC + patches_BNC)[:, 1:])


@pytest.mark.parametrize(
    ("block", "wanted"),
    [
        ({"type": "cvt", "patch_sizes": [7, 3, 5]}, "patches: size 5, stride 2 and padding 1"),
        ({"type": "cvt", "patch_sizes": [7, 3]}, "zip|give one for each"),
        ({"type": "cct", "stride": 2, "padding": 0}, "kernel: size 3, stride 2 and padding 0"),
        ({"type": "cct", "pooling_size": 5}, "pooling: size 5"),
        ({"type": "ceit", "patch_size": 6}, "multiple of 4"),
        ({"type": "deepvit", "depth": 3, "num_reattention": [3]}, "from 0 to 2"),
        ({"type": "refiner", "depth": 2, "share": [True, False]}, "the first has a map of its own"),
    ],
)
def test_numbers_that_do_not_belong_together_are_refused(block, wanted):
    with pytest.raises(ValueError, match=wanted):
        build_encoder(block)

"""Properties that papers state of whole encoders, and that follow from no other test."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from restore.encoders import Classifier, build_encoder
from restore.layers.tokens import Tokens

TINY = {"embed_dim": 16, "depth": 2, "num_heads": 2}


def parameters(block: dict) -> int:
    """Of a classifier of 1000 classes."""
    return sum(each.numel() for each in Classifier(build_encoder(block), 1000).parameters())


@pytest.mark.parametrize("dim", [16, 32])
def test_parameters_of_transformers_are_those_of_their_formulas(dim):
    """DeiT has a token, a place and a head more than ViT; DeiT III factors of branches, and no place of the class."""
    depth, size = 3, {"img_size": 32}
    arguments = {"model_args": {"embed_dim": dim, "depth": depth, "num_heads": 2}}
    vit = parameters({"type": "vit_tiny", **size, **arguments})
    patches, places, head = 3 * 16 * 16 * dim + dim, (4 + 1) * dim, 1000 * dim + 1000
    assert vit == depth * (12 * dim**2 + 13 * dim) + patches + dim + places + 2 * dim + head
    distilled = parameters({"type": "deit_tiny_distilled", **size, **arguments})
    assert distilled - vit == dim + dim + head
    assert parameters({"type": "deit3_small", **size, **arguments}) - vit == 2 * depth * dim - dim


def test_without_places_the_patches_of_a_vit_may_stand_anywhere():
    torch.manual_seed(0)
    encoder = build_encoder({"type": "vit_tiny", "img_size": 48, "model_args": TINY}).eval()
    x, order = torch.rand(1, 3, 48, 48), torch.randperm(9)
    patches = x.unfold(2, 16, 16).unfold(3, 16, 16).flatten(2, 3)
    moved = torch.stack([patches[:, :, i] for i in order], 2).unflatten(2, (3, 3))
    moved = moved.permute(0, 1, 2, 4, 3, 5).reshape(x.shape)

    def maps():
        with torch.no_grad():
            return encoder(x)[-1].flatten(2)[:, :, order], encoder(moved)[-1].flatten(2)

    nn.init.normal_(encoder.get_parameter("model.model.pos_embed"))
    here, there = maps()
    assert not torch.allclose(here, there, atol=1e-2)
    nn.init.zeros_(encoder.get_parameter("model.model.pos_embed"))
    here, there = maps()
    torch.testing.assert_close(here, there, rtol=0, atol=1e-5)


def test_keys_of_cvt_are_a_quarter_of_its_queries_and_a_shift_is_a_shift_inside():
    torch.manual_seed(0)
    stage = (
        build_encoder({"type": "cvt", "dims": [8, 16, 32], "depths": [1, 1, 1], "num_heads": [1, 1, 1]})
        .eval()
        .stages[0]
    )
    attention, x = stage.blocks[0].attn, torch.randn(1, 12, 16, 8)
    tokens = Tokens.of_map(x)
    lengths = [attention._heads(name, tokens.map_BCHW(), tokens).shape[2] for name in "qkv"]
    assert lengths == [12 * 16, 6 * 8, 6 * 8]
    moved = attention.conv_proj_k(x.roll((2, 4), (1, 2)).permute(0, 3, 1, 2)).roll((-1, -2), (2, 3))
    still = attention.conv_proj_k(x.permute(0, 3, 1, 2))
    torch.testing.assert_close(moved[:, :, 1:-2, 1:-3], still[:, :, 1:-2, 1:-3])
    assert not torch.allclose(moved, still)


def test_patches_of_early_convolutions_overlap_on_the_same_grid():
    torch.manual_seed(0)
    widths = {"conv_stem_vit": {"stem_widths": [4, 8, 8, 16]}, "parallel_vit": {}}
    reached = {}
    for name, options in widths.items():
        block = {"type": name, **TINY, **options}
        embed = build_encoder(block).eval().patch_embed
        x = torch.rand(1, 3, 64, 64)
        other = x.clone()
        other[:, :, 15:17, 24] += 1  # in the middle of a column, above and below a border of patches
        with torch.no_grad():
            changed = (embed(x) - embed(other)).abs().amax(1)[0] > 1e-7
        assert changed.shape == (4, 4)
        reached[name] = changed.nonzero().tolist()
    assert reached["parallel_vit"] == [[0, 1], [1, 1]]
    assert {(0, 1), (1, 1)} < {tuple(place) for place in reached["conv_stem_vit"]}


def test_places_of_levit_are_the_same_both_ways():
    """Scores depend on how far rows and columns are apart, not on which comes first: flips of both axes."""
    torch.manual_seed(0)
    encoder = build_encoder({"type": "levit_128s", "img_size": 128}).eval()
    attention = next(each for each in encoder.modules() if hasattr(each, "attention_biases"))
    nn.init.normal_(attention.attention_biases)
    biases = attention.attention_biases[:, attention.attention_bias_idxs]
    side = round(biases.shape[-1] ** 0.5)
    places = biases.unflatten(2, (side, side)).unflatten(1, (side, side))
    assert torch.equal(places, places.flip(1, 3))
    assert torch.equal(places, places.flip(2, 4))
    assert not torch.equal(places, places.flip(1))

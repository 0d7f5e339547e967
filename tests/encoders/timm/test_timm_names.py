from __future__ import annotations

import pytest

from restore.encoders import build_encoder
from restore.encoders.suggestions import meant
from restore.encoders.timm import FAMILIES
from restore.errors import OptionsError
from restore.registry import ENCODERS

SEEDS = [
    *("vit", "deit", "deit3", "tnt", "cait", "levit", "coatnet", "volo", "swin", "swinv2", "poolformer", "tiny_vit"),
    *("mlp_mixer", "resmlp", "gmlp", "convnext", "convnextv2", "caformer", "convformer", "beit3"),
]


def test_the_families_of_papers_are_registered_with_their_variants():
    assert sorted(FAMILIES) == sorted(SEEDS)
    assert ENCODERS.variants("swin") == ("swin_tiny", "swin_small", "swin_base", "swin_large")
    assert {*SEEDS} <= {*ENCODERS.names()}


def test_a_family_alone_is_its_smallest_member():
    block = {"model_args": {"embed_dim": 16, "depth": 2, "num_heads": 2}}
    family, member = (build_encoder({"type": name, **block}) for name in ("vit", "vit_tiny"))
    assert family.state_dict().keys() == member.state_dict().keys()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("convnext_ato", "convnext_atto"),
        ("swin_v2_t", "swinv2_tiny"),
        ("SwinV2-Tiny", "swinv2_tiny"),
        ("ViT-B/16", "vit_base_patch16_224"),
        ("vit_b_16", "vit_base_patch16_224"),
        ("swin_t", "swin_tiny"),
        ("ResNet-50", "resnet50"),
        ("deit_iii_small", "deit3_small"),
        ("dinov2", "vit_base_patch14_dinov2"),
        ("mlpmixer", "mlp_mixer"),
        ("pvt", "pvt_v2_b0"),
        ("tinyvit_5m", "tiny_vit_5m"),
        ("levit128s", "levit_128s"),
        ("caformer18", "caformer_s18"),
        ("PoolFormer", "poolformer"),
        ("conv_pyramd", "conv_pyramid"),
        ("hornett", "hornet"),
        ("LV-ViT-S", "lvvit_small"),
        ("deep_vit", "deepvit"),
        ("GFNet-H-Ti", "gfnet_h_tiny"),
        ("flexi_vit", "flexivit"),
        ("identity_former", "identityformer"),
        ("coc_tiny", "context_cluster_tiny"),
        ("pvig_ti", "pyramid_vig_tiny"),
        ("magneto", "subln_vit"),
        ("hornet_tinyy", "hornet_tiny"),
    ],
)
def test_suggestions_name_what_is_meant(given, wanted):
    with pytest.raises(OptionsError, match=rf"encoder\.type: unknown encoder '{given}'\. Did you mean '{wanted}'\?"):
        build_encoder({"type": given})


def test_nothing_is_suggested_where_nothing_is_meant():
    assert meant("zzz", ["vit_tiny", "swin"]) == ""
    assert meant("iqt", ["vit", "swin"]) == ""
    assert meant("", ["vit"]) == meant("--", ["vit"]) == ""


def test_a_prefix_asks_for_timms_own():
    ours, theirs = build_encoder("test_resnet"), build_encoder({"type": "timm:test_resnet"})
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    with pytest.raises(OptionsError, match=r"has no model 'test_resnt'\. Did you mean 'test_resnet'"):
        build_encoder({"type": "timm:test_resnt"})

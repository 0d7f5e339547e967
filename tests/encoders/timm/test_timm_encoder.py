from __future__ import annotations

import copy
import time
from typing import ClassVar

import pytest
import timm
import torch
from encoder_tester import EncoderTester
from torch.utils._python_dispatch import TorchDispatchMode

from restore.encoders import Classifier, Encoder, build_encoder, load_published, published_state
from restore.encoders.timm import FAMILIES
from restore.encoders.timm.probe import build
from restore.errors import OptionsError

TINY_VIT = {"embed_dim": 16, "depth": 3, "num_heads": 2}


class Operators(TorchDispatchMode):
    """The names of all that run."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function._schema.name)
        return function(*args, **(kwargs or {}))


def test_on_the_meta_device_nothing_is_filled_and_elsewhere_all_is():
    with Operators() as seen:
        build("test_vit", {}, device="meta")
    assert not {f"aten::{name}_" for name in ("uniform", "normal", "erfinv", "mul", "fill")} & seen.names
    torch.manual_seed(0)
    found = build("test_vit", {}).state_dict()
    torch.manual_seed(0)
    expected = timm.create_model("test_vit", features_only=True).state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


class TestTimmOfAnySize(EncoderTester):
    blocks: ClassVar = ["test_convnext", "test_resnet", "test_vit"]


class TestTimmOfOneSize(EncoderTester):
    blocks: ClassVar = [{"type": "levit_128s", "img_size": 64}]
    without_gradient: ClassVar = {  # the last map has one place, which attends to itself whatever its bias
        "levit_128s": tuple(f"stages.2.blocks.{number}.attn.attention_biases" for number in range(4))
    }


@pytest.mark.slow
class TestTimmLarge(EncoderTester):
    blocks: ClassVar = [
        "convnext_atto",
        "swin_tiny_patch4_window7_224",
        {"type": "coatnet_0_rw_224", "img_size": 64},
        "inception_resnet_v2",
    ]
    without_gradient: ClassVar = {
        "coatnet_0_rw_224": tuple(
            f"stages_3.blocks.{number}.attn.rel_pos.relative_position_bias_table" for number in (0, 1)
        )
    }


def test_a_model_of_one_size_sees_tiles_side_by_side():
    encoder = build_encoder({"type": "levit_128s", "img_size": 64}).eval()
    x = torch.randn(1, 3, 64, 192)
    with torch.no_grad():
        whole, alone = encoder(x), encoder(x[..., 64:128])
    assert encoder.tile_px == 64
    for each, part in zip(whole, alone, strict=True):
        side = part.shape[-1]
        assert torch.allclose(each[..., side : 2 * side], part, atol=1e-5)


def test_maps_that_come_out_small_are_resampled():
    class Narrow(Encoder):
        def __init__(self, in_chans: int = 3, out_indices=None):
            super().__init__(in_chans, channels=(4,), strides=(2,), out_indices=out_indices, size_multiple=2)
            self.conv = torch.nn.Conv2d(in_chans, 4, 2, stride=2)

        def maps(self, x_BCHW):
            return [self.conv(x_BCHW)]

    assert Narrow()(torch.zeros(1, 3, 5, 7))[0].shape == (1, 4, 3, 4)


def test_every_block_of_a_vit_has_a_map_and_the_last_three_are_given():
    encoder = build_encoder("test_vit").eval()
    model = timm.create_model("test_vit").eval()
    load_published(encoder, model.state_dict())
    x = torch.rand(1, 3, 48, 80)
    with torch.no_grad():
        maps = build_all("test_vit", encoder)(x)
        expected = timm.create_model("test_vit", dynamic_img_size=True).eval()
        expected.load_state_dict(model.state_dict())
        _, blocks = expected.forward_intermediates(2 * x - 1)
        usual = encoder(x)
    assert (encoder.num_maps, encoder.out_indices) == (6, (3, 4, 5))
    assert all(torch.equal(a, b) for a, b in zip(maps, blocks, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(usual, blocks[3:], strict=True))


def build_all(name, encoder):
    other = build_encoder({"type": name, "out_indices": range(encoder.num_maps)}).eval()
    other.load_state_dict(encoder.state_dict())
    return other


@pytest.mark.parametrize(
    ("name", "num_prefix"),
    [("test_vit", 1), ("deit_tiny_distilled", 2), ("levit_128s", 0), ("test_efficientnet", None)],
)
def test_tokens_are_those_of_the_model(name, num_prefix):
    encoder = build_encoder({"type": name, "model_args": {"depth": 2}} if name.startswith("deit") else name).eval()
    tokens = encoder.encode(torch.rand(2, 3, 64, 128)).tokens
    if num_prefix is None:
        assert tokens is None
        return
    stride = encoder.strides[-1]
    assert (tokens.num_prefix, tokens.grid) == (num_prefix, (64 // stride, 128 // stride))


def test_a_classifier_is_the_model_of_timm():
    for name in ("test_vit", "test_convnext", "test_resnet"):
        model = timm.create_model(name).eval()
        classifier = Classifier(build_encoder(name), model.num_classes).eval()
        load_published(classifier, model.state_dict())
        assert published_state(classifier).keys() == model.state_dict().keys()
        x = torch.rand(2, 3, *model.default_cfg["input_size"][1:])
        with torch.no_grad():
            torch.testing.assert_close(classifier(x), model(2 * x - 1))
            if name == "test_vit":
                tokens = classifier.encode(x).tokens
                torch.testing.assert_close(tokens.x_BNC, model.forward_features(2 * x - 1))


def test_a_head_for_other_classes_is_new_and_what_follows_the_maps_stays():
    classifier = Classifier(build_encoder("test_vit"), 5)
    assert classifier.head.state_dict()["head.weight"].shape == (5, 64)
    assert "model.model.norm.weight" in classifier.encoder.state_dict()
    assert not [key for key in classifier.encoder.state_dict() if "head" in key]


def test_arguments_of_the_model_are_passed_on():
    block = {"type": "vit_tiny_patch16_224", "model_args": {**TINY_VIT, "patch_size": 8, "drop_path_rate": 0.5}}
    encoder = build_encoder(block)
    assert (encoder.strides, encoder.channels, encoder.num_maps) == ((8,) * 3, (16,) * 3, 3)
    assert encoder.blocks()[-1].drop_path1.drop_prob == 0.5
    window = build_encoder({"type": "swin_tiny", "model_args": {"window_size": [4, 4], "depths": [1, 1, 1, 1]}})
    assert window.blocks()[0].window_size == (4, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dept": 3}, r"has no argument 'dept' that model_args could set. Did you mean 'depth'\?"),
        ({"img_size": 64}, "model_args holds img_size, which is an argument of the encoder"),
        ({"depth": 3.5}, "refuses its model_args"),
    ],
)
def test_arguments_that_the_model_does_not_have(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_encoder({"type": "test_vit", "model_args": arguments})


def test_arguments_that_a_variant_sets_itself():
    with pytest.raises(ValueError, match="'poolformer_s12' sets 'depths' itself, so that model_args cannot"):
        build_encoder({"type": "poolformer", "model_args": {"depths": [1, 1, 1, 1]}})


def test_unknown_options_are_named():
    with pytest.raises(OptionsError, match=r"out_indexes.*Did you mean 'out_indices'"):
        build_encoder({"type": "test_resnet", "out_indexes": [0]})


def test_img_size_where_there_is_none():
    with pytest.raises(ValueError, match="cannot be built for another img_size"):
        build_encoder({"type": "test_resnet", "img_size": 64})


def test_img_size_that_no_stride_divides():
    with pytest.raises(ValueError, match="img_size is a multiple of 16, 32, 64"):
        build_encoder({"type": "levit_128s", "img_size": 32})


def test_a_model_is_built_once_and_probed_without_numbers(monkeypatch):
    created = []
    create = timm.create_model

    def counted(name, **options):
        created.append(torch.empty(0).device.type)
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", counted)
    torch.manual_seed(5)
    build_encoder({"type": "test_vit", "model_args": {"depth": 2}})
    assert created.count("cpu") == 1
    state = torch.get_rng_state()
    torch.manual_seed(5)
    create("test_vit", depth=2, dynamic_img_size=True)
    assert torch.equal(torch.get_rng_state(), state), "probing draws random numbers, so that seeds mean something else"


def test_without_what_no_map_depends_on_keys_are_those_of_timms_own_feature_extraction():
    for name in ("test_vit", "test_convnext"):
        pruned = build_encoder(name, maps_only=True)
        usual = timm.create_model(name, features_only=True)
        assert pruned.state_dict().keys() == {f"model.{key}" for key in usual.state_dict()}


def test_blocks_after_the_last_chosen_map_go_with_the_last_norm():
    pruned = build_encoder({"type": "test_vit", "out_indices": [0, 2]}, maps_only=True)
    assert len(pruned.blocks()) == 3
    x = torch.rand(1, 3, 32, 32)
    assert [each.shape for each in pruned(x)] == [(1, 64, 2, 2)] * 2


def test_branches_that_timm_joins_are_joined(assert_folds):
    encoder = build_encoder("repghostnet_050")
    folded = assert_folds(encoder, torch.rand(1, 3, 32, 32))
    sizes = [sum(parameter.numel() for parameter in each.parameters()) for each in (encoder, folded)]
    assert sizes[1] < sizes[0]
    norms = [sum(isinstance(each, torch.nn.BatchNorm2d) for each in model.modules()) for model in (encoder, folded)]
    assert norms[1] < norms[0]


def test_copies_of_a_fitted_model_are_models_of_their_own():
    encoder = build_encoder({"type": "cait", "model_args": {"embed_dim": 16, "depth": 2, "num_heads": 2}})
    x = torch.rand(1, 3, 32, 48)
    before = encoder(x)  # with gradients, so that resampled tables are no leaves
    other = copy.deepcopy(encoder)
    assert all(torch.equal(a, b) for a, b in zip(before, other(x), strict=True))
    with torch.no_grad():
        other.eval()(x)
        other.get_parameter("model.model.pos_embed").add_(1)
    assert all(torch.equal(a, b) for a, b in zip(before, encoder(x), strict=True))
    assert not torch.equal(before[0], other(x)[0])


SPEC = {  # timm-backed variants with 1000 classes, as measured
    "vit_tiny": 5_717_416,
    "vit_small": 22_050_664,
    "deit_tiny_distilled": 5_910_800,
    "deit3_small": 22_059_496,
    "tnt_small": 23_768_584,
    "cait_xxs24": 11_956_264,
    "levit_128s": 7_777_128,
    "coatnet_0": 25_036_820,
    "volo_d1": 26_632_040,
    "swin_tiny": 28_288_354,
    "swinv2_tiny": 28_347_154,
    "poolformer_s12": 11_915_176,
    "tiny_vit_5m": 5_392_764,
    "mlp_mixer_s32": 19_104_624,
    "mlp_mixer_s16": 18_528_264,
    "resmlp_12": 15_350_872,
    "gmlp_tiny": 5_867_328,
    "gmlp_small": 19_422_656,
    "convnext_tiny": 28_589_128,
    "convnextv2_atto": 3_708_400,
    "convnextv2_nano": 15_623_800,
    "caformer_s18": 26_341_656,
    "convformer_s18": 26_774_448,
    "timm:flexivit_small": 22_061_416,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SPEC)
def test_numbers_of_parameters(name):
    classifier = Classifier(build_encoder({"type": name}), 1000)
    assert sum(each.numel() for each in classifier.parameters()) == pytest.approx(SPEC[name], rel=1e-3)


@pytest.mark.slow
def test_every_name_of_the_families_is_timms_and_is_built_in_seconds():
    for variants in FAMILIES.values():
        assert [name for name in variants.values() if not timm.is_model(name)] == []
        start = time.process_time()
        build_encoder({"type": next(iter(variants.values()))}, maps_only=True)
        assert time.process_time() - start < 60  # a hang, not a measurement

"""`train.trainable`: what is named learns, all else stays bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from training_runs import resumed_bit_by_bit, run

from restore import build_model
from restore.errors import OptionsError
from restore.quality import build_quality
from restore.training.optimizers import build_optimizer
from restore.training.trainable import attention_modules, train_only

SWINIR = {"type": "SwinIR", "upscale": 1, "window_size": 4, "embed_dim": 12, "depths": [2], "num_heads": [2]}

METAFORMER = {"type": "MetaFormerRestorer", "mixers": ["attention", "linformer"], "embed_dim": 12, "depths": [2]}
IPT = {"type": "IPT", "n_feats": 4, "num_heads": 2, "num_layers": 1, "patch_size": 12}


def learning(network):
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (SWINIR, (".attn.",)),
        (METAFORMER, (".mixer.",)),
        (IPT, (".self_attn.", ".multihead_attn.")),
        ({"type": "Uformer", "embed_dim": 4, "depths": [1] * 9}, (".attn.",)),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)  # fmt: skip
def test_attention_is_all_attention_and_nothing_else(block, words):
    network = build_model(block)
    wanted = {name for name, _ in network.named_parameters() if any(word in name for word in words)}
    found, everything = train_only(network, "attention")
    assert learning(network) == wanted
    assert found == sum(each.numel() for each in network.parameters() if each.requires_grad)
    assert 0 < found < 0.4 * everything


@pytest.mark.parametrize("encoder", ["vit_tiny_patch16_224", "cpvt_tiny", "swin_tiny_patch4_window7_224"])
def test_attention_of_encoders(encoder):
    judge = build_quality({"type": "TRIQ", "encoder": encoder})
    train_only(judge, "attention")
    assert any(".qkv.weight" in name for name in learning(judge))
    assert not any(".norm" in name or ".mlp" in name or ".ffn" in name for name in learning(judge))


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("conv_last", {"conv_last.weight", "conv_last.bias"}),
        (["conv_last.bias", "norm"], {"conv_last.bias", "norm.weight", "norm.bias"}),
        ("*.norm?.bias", {f"layers.0.residual_group.blocks.{block}.norm{n}.bias" for block in (0, 1) for n in (1, 2)}),
        (["layers.0.conv.w*"], {"layers.0.conv.weight"}),
    ],
)
def test_patterns_name_parameters_and_modules(patterns, expected):
    network = build_model(SWINIR)
    train_only(network, patterns)
    assert learning(network) == expected


def test_the_optimizer_holds_nothing_of_the_rest():
    network = build_model(SWINIR)
    count, _ = train_only(network, ["attention", "conv_last"])
    optimizer = build_optimizer({"type": "Adam", "lr": 1e-3}, network)
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    network(torch.rand(1, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    moments = sum(state["exp_avg"].numel() for state in optimizer.state.values())
    assert moments == count
    changed = {name for name, parameter in network.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == learning(network)


def test_statistics_of_frozen_norms_stay():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1), nn.BatchNorm2d(1))
    train_only(network, ["2", "3"])
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()(torch.rand(2, 1, 5, 5))
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"3.running_mean", "3.running_var", "3.num_batches_tracked"}


def test_what_is_frozen_stays_frozen():
    network = build_model(IPT)
    train_only(network, "*")
    assert not any(name.startswith(("sub_mean", "add_mean")) for name in learning(network))
    with pytest.raises(OptionsError, match="frozen by the network itself"):
        train_only(network, "sub_mean")


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("conv_lost", "conv_last"),
        (["norm", "x.*"], r"'x\.\*' is the name of no parameter"),
        ("attentions", "no parameter"),
    ],
)
def test_names_of_nothing_are_mistakes(wanted, words):
    with pytest.raises(OptionsError, match=words):
        train_only(build_model(SWINIR), wanted)


def test_convolutions_have_no_attention():
    network = build_model({"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1})
    assert [*attention_modules(network)] == []
    with pytest.raises(OptionsError, match="has no attention"):
        train_only(network, "attention")


@pytest.mark.parametrize(
    "more",
    ["train.trainable=attention", "train.trainable=[conv_after_body, '*.attn.proj']", "network_g.share_blocks=2"],
)
def test_runs_resume_bit_by_bit(option_file, tmp_path, more):
    root = tmp_path / "experiments" / "tiny"
    assert resumed_bit_by_bit(option_file, root, 6, "network_g.depths=[2]", more)
    state = torch.load(root / "training_states" / "6.state", weights_only=True)
    (optimizer,) = state["optimizers"]
    weights = torch.load(root / "models" / "net_g_6.pth", weights_only=True)["params"]
    moments = sum(each["exp_avg"].numel() for each in optimizer["state"].values())
    assert moments < sum(value.numel() for key, value in weights.items() if not key.endswith("attn_mask"))


def test_a_name_of_nothing_stops_the_training(option_file):
    with pytest.raises(OptionsError, match=r"train\.trainable"):
        run(option_file, "train.trainable=nothing")

"""What is seen of networks while they run, and the page of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from restore import build_model
from restore.analysis.cost import cost_of
from restore.analysis.findings import analyse, crop_size
from restore.analysis.watching import named_blocks, times_of, watched
from restore.cli import main
from restore.images import write_image
from restore.layers.tokens import Tokens
from restore.quality import build_quality
from restore.quality.loading import save_quality

SWINIR = {
    "type": "SwinIR", "upscale": 2, "window_size": 4, "embed_dim": 12, "depths": [2], "num_heads": [2], "mlp_ratio": 2,
    "upsampler": "pixelshuffledirect",
}  # fmt: skip
VIT = {"type": "cpvt", "embed_dim": 12, "depth": 3, "num_heads": 2, "patch_size": 8, "class_token": True}


def restorer(*mixers, depth=2):
    return build_model(
        {"type": "MetaFormerRestorer", "mixers": list(mixers), "embed_dim": 12, "depths": [depth]}
    ).eval()


@pytest.mark.parametrize("mixer", ["attention", "talking_heads", {"type": "attention", "cosine": True}])
def test_maps_are_those_of_the_mixer(mixer):
    torch.manual_seed(0)
    network = restorer(mixer)
    seen = []
    for block in network.stages[0].blocks:
        block.mixer.register_forward_hook(lambda module, inputs, _: seen.append(inputs[0]))
    image = torch.rand(1, 3, 8, 12)
    runs = watched(network, image)
    assert [run.name for run in runs] == ["stages.0.blocks.0", "stages.0.blocks.1"]
    with torch.no_grad():
        network.double()(image.double())
        for run, inputs, block in zip(runs, seen[-2:], network.stages[0].blocks, strict=True):
            maps, _ = block.mixer.map_and_values(Tokens.of_map(inputs))
            if mixer != "talking_heads":  # which changes maps after softmax
                assert torch.allclose(run.attention.mean_map, maps[0].float(), atol=1e-6)
            assert run.attention.mean_map.shape == maps[0].shape
            assert run.stride == 1
            assert len(run.attention.distance_px) == maps.shape[1]


def test_windows_are_seen_too():
    torch.manual_seed(0)
    runs = watched(build_model(SWINIR), torch.rand(1, 3, 16, 24))
    assert [tuple(run.attention.mean_map.shape) for run in runs] == [(2, 16, 16)] * 2
    for run in runs:
        assert torch.allclose(run.attention.mean_map.sum(-1), torch.ones(2, 16))
        assert all(0 < each < 4.3 for each in run.attention.distance_px)
    assert all(tuple(run.tokens.shape) == (384, 12) for run in runs)


def test_what_has_no_attention_has_none():
    runs = watched(restorer("pooling"), torch.rand(1, 3, 16, 24))
    assert [run.attention for run in runs] == [None, None]


@pytest.mark.parametrize("channels", [16, 24, 36])
def test_layouts_are_told_from_the_shape_of_the_image(channels):
    first = build_model({"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": channels, "num_block": 2})
    last = build_model({"type": "MetaFormerRestorer", "mixers": ["pooling"], "embed_dim": channels, "depths": [2]})
    for network in (first, last):
        for run in watched(network, torch.rand(1, 3, 24, 32)):
            assert tuple(run.tokens.shape) == (24 * 32, channels)


def test_tokens_of_encoders_come_without_their_class_token():
    judge = build_quality({"type": "TRIQ", "encoder": VIT, "num_layers": 2}).eval()
    runs = watched(judge, torch.rand(1, 3, 64, 96))
    of_encoder = [run for run in runs if run.name.startswith("encoder")]
    assert [tuple(run.tokens.shape) for run in of_encoder] == [(96, 12)] * 3
    assert [run.stride for run in of_encoder] == [8] * 3
    assert [tuple(run.attention.mean_map.shape) for run in of_encoder] == [(2, 97, 97)] * 3


def test_watching_changes_nothing():
    network = restorer("attention")
    image, before = torch.rand(1, 3, 8, 12), None
    with torch.no_grad():
        before = network(image)
        watched(network, image)
        assert torch.equal(network(image), before)
    assert all(not module._forward_hooks for module in network.modules())


def test_costs_of_modules_add_up():
    network = restorer("attention", "window")
    image = torch.rand(1, 3, 16, 24)
    cost = cost_of(network, image)
    assert cost.macs_by_module[""] == cost.macs
    children = ["conv_first", "first_norm", "stages.0", "last_norm", "conv_after_body", "reconstruction"]
    assert sum(cost.macs_by_module.get(name, 0) for name in children) == cost.macs
    assert set(named_blocks(network)) <= set(cost.macs_by_module)
    seconds, whole = times_of(network, image, rounds=1)
    assert 0 < sum(seconds.values()) < whole


@pytest.mark.parametrize("block", [SWINIR, {"type": "RRDBNet", "num_in_ch": 1, "num_out_ch": 1, "num_block": 2}])
def test_findings_of_restorers(block):
    torch.manual_seed(1)
    network = build_model({**block, "num_feat": 8} if block["type"] == "RRDBNet" else block).eval()
    size = crop_size(network, 16)
    found = analyse(network, torch.rand(1, network.spec.in_channels, *size), num_steps=2)
    assert found.image.shape == (*size, 3)
    assert found.gradient.shape == found.attribution.shape == size
    assert found.figures["side of 50%"] <= found.figures["side of 95%"]
    assert (
        sum(row["macs"] for row in found.layers)
        == cost_of(network, torch.rand(1, network.spec.in_channels, *size)).macs
    )
    assert all(0 < row["rank_residual"] < 3 for row in found.blocks)


@pytest.mark.parametrize("block", [
    {"type": "TRIQ", "encoder": VIT, "num_layers": 1},
    {"type": "IQT", "encoder": VIT, "num_layers": 1, "width": 12, "num_heads": 2, "ffn_width": 24, "input_px": 32},
])  # fmt: skip
def test_findings_of_judges(block):
    torch.manual_seed(1)
    judge = build_quality(block).eval()
    size = crop_size(judge, 64)
    found = analyse(judge, torch.rand(1, 3, *size), num_steps=2)
    assert found.gradient.max() > 0
    assert np.abs(found.attribution).max() > 0
    assert any("entropy" in row for row in found.blocks)


def test_merged_tokens_are_painted():
    torch.manual_seed(2)
    network = restorer("attention")
    found = analyse(network, torch.rand(1, 3, 16, 24), num_steps=1, merging="tome:0.5")
    assert list(found.merged) == ["attention 1: 192 of 384 tokens", "attention 2: 192 of 384 tokens"]
    assert all(each.shape == (16, 24, 3) for each in found.merged.values())
    assert found.blocks[0]["name"] == "stages.0.blocks.0"


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    write_image(path, np.random.default_rng(0).integers(0, 256, (40, 36, 3), np.uint8))
    return path


@pytest.mark.parametrize("kind", ["restorer", "judge"])
def test_the_command_writes_a_page(tmp_path, photo, kind, capsys):
    torch.manual_seed(3)
    model = tmp_path / "net.safetensors"
    if kind == "judge":
        block = {"type": "TRIQ", "encoder": VIT, "num_layers": 1}
        save_quality(build_quality(block), block, model)
    else:
        model = tmp_path / "net.pth"
        torch.save({"params": build_model(SWINIR).state_dict()}, model)
    options = ["--side", "16", "--steps", "1", "--at", "3,39", "-o", str(tmp_path / "out")]
    assert main(["analyse", str(model), str(photo), *options]) == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for words in (
        "Effective receptive field",
        "Local attribution",
        "Rank residual",
        "Cost by layer",
        "How far heads look",
    ):
        assert words in page
    assert page.count("data:image/webp") == 4
    figures = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert figures["layers"][-1]["name"] == "all the rest"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--at", "36,3"], "outside"),
        (["--at", "x"], "not X,Y"),
        (["--merge", "tome:0.3"], "no attention of all tokens"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, photo, more, words, capsys):
    torch.save({"params": build_model(SWINIR).state_dict()}, tmp_path / "net.pth")
    try:
        code = main(["analyse", str(tmp_path / "net.pth"), str(photo), "-o", str(tmp_path / "out"), *more])
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert words in " ".join(capsys.readouterr().err.split())

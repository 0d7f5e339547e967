"""Losses that keep the places of an image apart."""

from __future__ import annotations

import json
import math

import pytest
import torch
from training_runs import resumed_bit_by_bit

from restore.errors import ImageError, OptionsError
from restore.losses.diversity import DiversityLoss, contrast, similarity
from restore.options import load
from restore.quality import build_quality
from restore.registry import NETWORKS
from restore.training.objectives import Quality, Restoration

BODY = {"type": "SwinIR", "upscale": 1, "img_size": 8, "window_size": 4, "embed_dim": 8, "depths": [1, 1],
        "num_heads": [2, 2], "mlp_ratio": 1, "upsampler": ""}  # fmt: skip


def drawn(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def test_places_that_are_alike_and_places_that_are_orthogonal():
    alike = drawn(2, 1, 6).expand(2, 5, 6) * torch.tensor([1.0, 2.0, 0.1, -3.0, 4.0]).view(1, 5, 1)
    torch.testing.assert_close(similarity(alike), torch.tensor(1.0))
    orthogonal = torch.linalg.qr(drawn(2, 6, 6)).Q[:, :5]
    torch.testing.assert_close(similarity(orthogonal), torch.tensor(0.0), atol=1e-6, rtol=0)
    mixed = drawn(1, 3, 4)
    cosines = torch.nn.functional.cosine_similarity(mixed[0, [0, 0, 1]], mixed[0, [1, 2, 2]], dim=1)
    torch.testing.assert_close(similarity(mixed), cosines.abs().mean())
    assert similarity(drawn(2, 1, 4)) == 0


def test_its_gradient_pushes_places_apart():
    places = (drawn(1, 1, 6) + 0.1 * drawn(1, 8, 6, seed=1)).requires_grad_()
    before = similarity(places)
    before.backward()
    assert similarity(places - 0.5 * places.grad) < before


def test_places_that_know_where_they_come_from_contrast():
    first = torch.linalg.qr(drawn(1, 6, 6)).Q
    assert contrast(first, first) < math.log(2) < contrast(first, first.roll(1, dims=1))
    torch.testing.assert_close(contrast(first, first), torch.tensor(math.log(1 + math.exp(-1))))
    same = drawn(1, 1, 6).expand(1, 6, 6)
    torch.testing.assert_close(contrast(first, same), torch.tensor(math.log(2)))


@pytest.mark.parametrize("layout", ["BCHW", "BHWC"])
def test_maps_and_tokens_are_the_same_places(layout):
    tokens = drawn(2, 16, 5)
    given = tokens.view(2, 4, 4, 5) if layout == "BHWC" else tokens.view(2, 4, 4, 5).permute(0, 3, 1, 2)
    loss = DiversityLoss("a", first="b", contrastive=0.5, loss_weight=2.0, layout=layout)
    early = drawn(2, 16, 5, seed=1)
    wanted = 2 * (similarity(tokens) + 0.5 * contrast(early, tokens))
    torch.testing.assert_close(loss({"a": given, "b": early}), wanted)
    torch.testing.assert_close(loss({"a": tokens, "b": early}), wanted)


def test_large_maps_are_averaged_and_early_layers_get_no_gradient():
    loss = DiversityLoss("a", first="b", cosine=0.0, contrastive=1.0, max_side=2)
    last, early = drawn(1, 3, 4, 4).requires_grad_(), drawn(1, 3, 8, 8, seed=1).requires_grad_()
    loss({"a": last, "b": early}).backward()
    assert last.grad.abs().sum() > 0
    assert early.grad is None
    with pytest.raises(ImageError, match="'b' gives 4 channels at 4 places and 'a' 3 at 4"):
        loss({"a": last, "b": drawn(1, 4, 8, 8)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"contrastive": 1.0}, "name it in first"), ({"cosine": 0.0}, "are both 0")],
)
def test_what_does_not_go_together(arguments, message):
    with pytest.raises(ValueError, match=message):
        DiversityLoss("a", **arguments)


def test_a_wrong_layer_is_answered_with_those_that_there_are():
    network = NETWORKS.build(BODY)
    losses = {"pixel_opt": {"type": "L1Loss"}, "diversity_opt": {"type": "DiversityLoss", "layer": "layer.1"}}
    with pytest.raises(OptionsError, match=r"train\.diversity_opt\.layer: SwinIR has no module 'layer.1'.*layers\.1"):
        Restoration({"g": network}, losses)


def test_it_stands_beside_other_losses():
    torch.manual_seed(0)
    block = {"type": "DiversityLoss", "layer": "layers.1", "first": "layers.0", "contrastive": 1.0, "layout": "BHWC"}
    objective = Restoration({"g": NETWORKS.build(BODY)}, {"pixel_opt": {"type": "L1Loss"}, "diversity_opt": block})
    batch = {"lq": torch.rand(2, 3, 8, 8), "gt": torch.rand(2, 3, 8, 8)}
    assert set(objective.losses(batch)) == {"l_pix", "l_diversity"}
    judge = {"type": "TRIQ", "encoder": {"type": "conv_pyramid", "widths": [4]}, "width": 8, "num_heads": 2}
    quality = {
        "quality_opt": {"type": "MSELoss"},
        "diversity_opt": {"type": "DiversityLoss", "layer": "encoder.stages.0"},
    }
    objective = Quality({"g": build_quality(judge)}, quality)
    found = objective.losses({"image": torch.rand(2, 3, 8, 8), "distribution": torch.rand(2, 5)})
    assert set(found) == {"l_quality", "l_diversity"}


def test_a_network_that_learns_by_it_smooths_less():
    found = {}
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        network = NETWORKS.build(BODY)
        losses = {"pixel_opt": {"type": "L1Loss"}}
        losses["diversity_opt"] = {
            "type": "DiversityLoss",
            "layer": "layers.1",
            "loss_weight": weight,
            "layout": "BHWC",
        }
        objective = Restoration({"g": network}, losses)
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        batch = {"lq": torch.rand(2, 3, 8, 8)}
        batch["gt"] = batch["lq"].mean(dim=(2, 3), keepdim=True).expand(-1, -1, 8, 8)
        for _ in range(25):
            sum(objective.losses(batch).values()).backward()
            optimizer.step()
            optimizer.zero_grad()
        seen = []
        network.layers[1].register_forward_hook(lambda _, inputs, output, seen=seen: seen.append(output))
        network(batch["lq"])
        found[weight] = similarity(seen[0].flatten(1, -2)).item()
    assert found[1.0] < found[0.0]


def test_a_run_goes_on_bit_by_bit(option_file, tmp_path):
    block = "train.diversity_opt={type: DiversityLoss, layer: layers.0, layout: BHWC, loss_weight: 0.1}"
    root = tmp_path / "experiments/tiny"
    assert resumed_bit_by_bit(option_file, root, 6, block)
    rows = [json.loads(line) for line in (root / "history.jsonl").read_text().splitlines()]
    assert all(0 < row["l_diversity"] <= 0.1 for row in rows if "l_pix" in row)


def test_alone_it_is_refused(option_file):
    block = "train.diversity_opt={type: DiversityLoss, layer: layers.0}"
    with pytest.raises(OptionsError, match="teaches nothing else: give another loss"):
        load(option_file, [block, "train.pixel_opt=~"], is_train=True)
    with pytest.raises(OptionsError, match="layers of the network itself"):
        load(option_file, [block, "model_type=SRGANModel"], is_train=True)

"""Encoders and mixers that see graphs and sets of points, against their official code and in closed form."""

from __future__ import annotations

import pytest
import torch
from official import errors, parameters

from restore.encoders import build_encoder
from restore.layers.mixers import build_mixer
from restore.layers.mixers.graph.neighbours import nearest_neighbours

SMALL = {
    "vig__small": {"type": "vig", "img_size": 128, "embed_dim": 32, "depth": 6, "num_neighbours": 4},
    "pyramid_vig__small": {"type": "pyramid_vig", "dims": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
    "context_cluster__small": {
        "type": "context_cluster", "dims": [16, 32, 48, 64], "depths": [1, 1, 2, 1], "num_heads": [2, 2, 4, 4],
        "head_dim": [8, 8, 12, 12],
    },
}  # fmt: skip
PARAMETERS = {  # trainable, as counted in the official code, with 1000 classes
    "vig_tiny": 7_184_744,
    "vig_small": 22_747_752,
    "vig_base": 86_841_832,
    "pyramid_vig_tiny": 10_714_376,
    "pyramid_vig_small": 27_251_912,
    "pyramid_vig_medium": 49_525_832,
    "pyramid_vig_base": 92_980_328,
    "context_cluster_tiny": 5_570_584,
    "context_cluster_tiny2": 5_570_584,
    "context_cluster_tiny_plain": 5_570_584,
    "context_cluster_small": 14_657_024,
    "context_cluster_medium": 29_290_520,
    "context_cluster_base_dim64": 54_231_100,
    "context_cluster_base_dim96": 53_054_904,
}


@pytest.mark.parametrize("name", SMALL)
def test_agrees_with_official_code(name, shared, fill):
    """In float64, as they choose: in float32 a tie may go the other way."""
    found = errors(shared, fill, name, SMALL[name], dtype=torch.float64, classes=10)
    assert "output_logits" in found
    assert max(found.values()) <= 1e-5, found


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name):
    assert parameters(name) == PARAMETERS[name]


def test_frozen_distances_are_stored_under_their_published_keys():
    with torch.device("meta"):
        encoder = build_encoder("pyramid_vig_tiny")
    tables = {
        encoder.published_key(key): tuple(value.shape)
        for key, value in encoder.state_dict().items()
        if key.endswith("relative_pos")
    }
    assert len(tables) == 12
    assert tables["backbone.0.0.relative_pos"] == (1, 3136, 196)
    assert tables["backbone.3.0.relative_pos"] == (1, 784, 196)
    assert tables["backbone.13.0.relative_pos"] == (1, 49, 49)
    assert sum(rows * columns for _, rows, columns in tables.values()) == 12_486_314 - 10_714_376


def drawn(options: dict, dim: int) -> torch.nn.Module:
    """A mixer in float64 and evaluation mode, with random weights and statistics."""
    torch.manual_seed(0)
    mixer = build_mixer(options, dim).double().eval()
    for name, tensor in mixer.state_dict().items():
        if tensor.is_floating_point() and "relative_pos" not in name:
            tensor.copy_(torch.rand_like(tensor) + 0.5 if name.endswith("running_var") else torch.randn_like(tensor))
    return mixer


@pytest.mark.parametrize("dilation", [1, 2])
def test_a_graph_does_not_know_where_positions_are(dilation):
    mixer = drawn({"type": "knn_graph", "num_neighbours": 3, "dilation": dilation}, 8)
    x_BHWC = torch.randn(2, 4, 6, 8, dtype=torch.float64)
    order = torch.randperm(24)
    moved = x_BHWC.flatten(1, 2)[:, order].unflatten(1, (4, 6))
    torch.testing.assert_close(mixer(moved), mixer(x_BHWC).flatten(1, 2)[:, order].unflatten(1, (4, 6)))


def test_with_distances_it_does():
    mixer = drawn({"type": "knn_graph", "num_neighbours": 3, "grid_side": 4}, 8)
    x_BHWC = torch.randn(1, 4, 4, 8, dtype=torch.float64)
    assert not torch.allclose(mixer(x_BHWC.flip(1).roll(1, 1)), mixer(x_BHWC).flip(1).roll(1, 1))
    assert mixer.relative_pos.diagonal(dim1=1, dim2=2).allclose(mixer.relative_pos.new_tensor(-1.0), atol=0.1)


def test_neighbours_are_those_of_all_distances_and_do_not_change_with_scale():
    torch.manual_seed(0)
    x = torch.randn(2, 30, 5, dtype=torch.float64)
    chosen = nearest_neighbours(x, x, 4, 1)
    unit = x / x.norm(dim=-1, keepdim=True)
    expected = torch.cdist(unit, unit).argsort(dim=-1)
    assert torch.equal(chosen, expected[..., :4])
    assert torch.equal(chosen[..., 0], torch.arange(30).expand(2, -1))
    scales = torch.rand(2, 30, 1, dtype=torch.float64) + 0.1
    assert torch.equal(nearest_neighbours(scales * x, scales * x, 4, 1), chosen)
    assert torch.equal(nearest_neighbours(x, x, 4, 3), expected[..., :12:3])
    assert nearest_neighbours(x[:, :2], x[:, :2], 4, 3).shape == (2, 2, 1)


def test_with_one_neighbour_nothing_differs():
    mixer = drawn({"type": "knn_graph", "num_neighbours": 1}, 8)
    mixer.nn = torch.nn.Identity()
    mixed = mixer.mix(torch.randn(1, 5, 5, 8, dtype=torch.float64))
    assert mixed[..., 1::2].abs().max() == 0
    assert mixed[..., ::2].abs().max() > 0


@pytest.mark.parametrize("conv", ["mr", "edge", "sage", "gin"])
def test_graph_convolutions_are_those_of_single_pairs(conv):
    mixer = drawn({"type": "knn_graph", "num_neighbours": 3, "dilation": 2, "conv": conv}, 8)
    x_BHWC = torch.randn(1, 3, 4, 8, dtype=torch.float64)
    x_NC = mixer.fc1(x_BHWC).flatten(0, 2)
    chosen_Nk = nearest_neighbours(x_NC[None], x_NC[None], 3, 2)[0]
    expected = []
    for own, near in zip(x_NC, x_NC[chosen_Nk], strict=True):
        if conv == "mr":
            both = torch.stack([own, torch.stack([each - own for each in near]).amax(0)], dim=1).flatten()
            made = mixer.nn(both[None, :, None])
        elif conv == "edge":
            pairs = [mixer.nn(torch.cat([own, each - own])[None, :, None]) for each in near]
            made = torch.stack(pairs).amax(0)
        elif conv == "sage":
            pooled = torch.stack([mixer.nn1(each[None, :, None])[0, :, 0] for each in near]).amax(0)
            made = mixer.nn2(torch.cat([own, pooled])[None, :, None])
        else:
            made = mixer.nn(((1 + mixer.eps) * own + near.sum(0))[None, :, None])
        expected.append(made.flatten())
    torch.testing.assert_close(mixer.mix(x_BHWC).flatten(0, 2), torch.stack(expected))


def test_neighbours_are_drawn_in_training_where_they_may_be():
    x_BHWC = torch.randn(1, 4, 4, 8, dtype=torch.float64)
    for share, changes in ((0.0, False), (1.0, True)):
        mixer = drawn({"type": "knn_graph", "num_neighbours": 2, "dilation": 3, "norm": "none", "stochastic": share}, 8)
        assert torch.equal(mixer(x_BHWC), mixer(x_BHWC))
        mixer.train()
        for norm in (mixer.fc1.bn, mixer.fc2.bn):
            norm.eval()
        assert any(not torch.equal(mixer(x_BHWC), mixer(x_BHWC)) for _ in range(5)) == changes


def test_every_point_has_one_centre():
    mixer = drawn({"type": "context_cluster", "num_heads": 2, "head_dim": 3}, 6)
    similarity = mixer.similarity(torch.randn(5, 4, 3).double(), torch.randn(5, 40, 3).double())
    assert ((similarity > 0).sum(dim=1) == 1).all()
    assert (similarity < 1).all()


def test_where_all_values_are_equal_a_point_takes_them_by_its_similarity():
    mixer = drawn({"type": "context_cluster", "num_heads": 1, "head_dim": 3}, 6)
    mixer.v.weight.data.zero_()
    x_BHWC = torch.randn(1, 6, 8, 6, dtype=torch.float64)
    points = mixer.f(x_BHWC)
    centres = torch.nn.functional.adaptive_avg_pool2d(points.permute(0, 3, 1, 2), 2).flatten(2).transpose(1, 2)
    weight = mixer.similarity(centres, points.flatten(1, 2)).sum(dim=1)
    expected = weight.view(1, 6, 8, 1) * mixer.v.bias
    torch.testing.assert_close(mixer.mix(x_BHWC), expected)


def test_regions_of_clusters_are_apart():
    mixer = drawn({"type": "context_cluster", "num_heads": 2, "head_dim": 3, "num_folds": 2}, 6)
    x_BHWC = torch.randn(1, 8, 12, 6, dtype=torch.float64)
    changed = x_BHWC.clone()
    changed[:, 4:, :6] += torch.randn(1, 4, 6, 6)
    moved = (mixer(changed) - mixer(x_BHWC)).abs().amax(dim=-1)[0] > 0
    assert moved[4:, :6].all()
    assert moved.sum() == 24


def test_points_of_a_region_may_change_places_if_centres_stay():
    mixer = drawn({"type": "context_cluster", "num_heads": 2, "head_dim": 3, "num_centres": 1}, 6)
    x_BHWC = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    order = torch.randperm(24)
    moved = x_BHWC.flatten(1, 2)[:, order].unflatten(1, (4, 6))
    torch.testing.assert_close(mixer(moved), mixer(x_BHWC).flatten(1, 2)[:, order].unflatten(1, (4, 6)))

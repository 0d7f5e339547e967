"""Rank collapse and its relatives: the statements of the papers, with random networks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from restore.analysis.attribution import (
    blurred,
    diffusion_index,
    gini,
    held_side,
    integrated_gradients,
    receptive_field,
)
from restore.analysis.representations import (
    attention_distance,
    attention_entropy,
    head_similarity,
    map_similarity,
    mixed_norm,
    rank_residual,
    token_similarity,
)
from restore.layers.block import MetaFormerBlock
from restore.layers.mixers.attention.full import SelfAttention

N, DIM = 16, 32


def attentions(depth, seed):
    """Attention layers with weights of N(0, 1 / dim)."""
    torch.manual_seed(seed)
    layers = [SelfAttention(DIM, num_heads=1, qkv_bias=False).double() for _ in range(depth)]
    for layer in layers:
        for matrix in (layer.qkv.weight, layer.proj.weight):
            nn.init.normal_(matrix, std=DIM**-0.5)
        nn.init.zeros_(layer.proj.bias)
    return layers


def tokens(seed):
    torch.manual_seed(100 + seed)
    return torch.randn(1, 1, N, DIM, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(4))
def test_attention_alone_collapses_doubly_exponentially(seed):
    x, logs = tokens(seed), []
    with torch.no_grad():
        for layer in attentions(4, seed):
            x = layer(x)
            logs.append(math.log(max(rank_residual(x[0, 0]), 1e-17)))
    assert logs[3] < math.log(1e-5)
    steps = [after - before for before, after in itertools.pairwise(logs) if after > math.log(1e-14)]
    assert all(later < 1.5 * earlier for earlier, later in itertools.pairwise(steps))  # each far steeper


@pytest.mark.parametrize("seed", range(4))
def test_shortcuts_stop_the_collapse(seed):
    x = tokens(seed)
    with torch.no_grad():
        for layer in attentions(12, seed):
            x = x + layer(x)
    assert rank_residual(x[0, 0]) > 1e-2


@pytest.mark.parametrize("seed", range(2))
def test_feed_forward_networks_without_shortcuts_collapse_later(seed):
    x, pure = tokens(seed), tokens(seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        for layer in attentions(3, seed):
            pure = layer(pure)
            weight = torch.randn(2, DIM, DIM, dtype=torch.float64) * DIM**-0.5
            x = (layer(x) @ weight[0]).relu() @ weight[1]
    assert 0 < rank_residual(x[0, 0]) < 1e-2
    assert rank_residual(pure[0, 0]) < 1e-2


@pytest.mark.parametrize("placement", ["pre", "sub-ln", "deepnorm"])
def test_blocks_of_the_house_keep_their_rank(placement):
    torch.manual_seed(5)
    x = tokens(0).float()
    with torch.no_grad():
        for index in range(12):
            place = {"index": index, "num_blocks": 12}
            x = MetaFormerBlock(DIM, SelfAttention(DIM, 2), "mlp", placement=placement, **place).eval()(x)
    assert rank_residual(x[0, 0]) > 1e-2


def test_the_residual_knows_equal_tokens():
    x = torch.randn(9, 5, dtype=torch.float64)
    assert rank_residual(x[:1].expand(9, 5)) < 1e-15
    assert rank_residual(torch.zeros(4, 3)) == 0
    shifted = mixed_norm((x + 7) - (x + 7).mean(0))  # a constant row changes nothing
    assert torch.allclose(shifted, mixed_norm(x - x.mean(0)))
    assert rank_residual(3 * x) == pytest.approx(rank_residual(x))


def test_products_of_attention_keep_ones():
    maps = torch.randn(3, N, N, dtype=torch.float64).softmax(-1)
    product = maps[0] @ maps[1] @ maps[2]
    assert torch.allclose(product @ torch.ones(N, dtype=torch.float64), torch.ones(N, dtype=torch.float64))


def test_token_similarity_is_the_mean_over_pairs():
    x = torch.randn(7, 4, dtype=torch.float64)
    pairs = [float(torch.cosine_similarity(x[i], x[j], dim=0)) for i in range(7) for j in range(7) if i != j]
    assert token_similarity(x) == pytest.approx(sum(pairs) / len(pairs))
    assert token_similarity(x[:1].expand(5, 4)) == pytest.approx(1)
    assert token_similarity(torch.eye(4)) == pytest.approx(0)


def test_head_similarity_is_the_mean_over_pairs():
    maps = torch.rand(2, 3, 5, 5, dtype=torch.float64)
    pairs = [
        float(torch.cosine_similarity(maps[:, a], maps[:, b], dim=-1).mean())
        for a in range(3)
        for b in range(3)
        if a != b
    ]
    assert head_similarity(maps) == pytest.approx(sum(pairs) / len(pairs))
    assert head_similarity(maps[:, :1].expand(2, 4, 5, 5)) == pytest.approx(1)
    assert map_similarity(maps[0], maps[0]) == pytest.approx(1)
    assert map_similarity(torch.eye(4)[None], torch.eye(4).flip(0)[None]) == 0


def test_distance_and_entropy_of_known_attention():
    rows, columns = 3, 4
    itself = torch.eye(12, dtype=torch.float64).expand(1, 2, 12, 12)
    even = torch.full((1, 1, 12, 12), 1 / 12, dtype=torch.float64)
    assert attention_distance(itself, (rows, columns)).tolist() == [0, 0]
    places = [(row, column) for row in range(rows) for column in range(columns)]
    expected = sum(math.dist(a, b) for a in places for b in places) / 144
    assert float(attention_distance(even, (rows, columns))) == pytest.approx(expected)
    right = torch.eye(12, dtype=torch.float64).roll(1, 1)[None, None]  # mostly one to the right
    assert 1 < float(attention_distance(right, (rows, columns))) < 2
    assert attention_entropy(itself).tolist() == [0, 0]
    assert float(attention_entropy(even)) == pytest.approx(1)


def test_the_receptive_field_of_convolutions_is_known():
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 5, padding=2))
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)
    found = receptive_field(lambda x: network(x)[0, :, 10, 12].sum(), torch.rand(1, 1, 20, 24))
    assert set(map(tuple, found.nonzero().tolist())) == {(y, x) for y in range(7, 14) for x in range(9, 16)}
    assert held_side(found, (10, 12), 1.0 - 1e-6) == 7
    assert held_side(found, (10, 12), 0.01) == 1


def test_integrated_gradients_add_up_to_the_change():
    x = torch.rand(1, 3, 16, 18)
    number = lambda each: (each**3).sum() + each[..., 4:8, 4:8].exp().sum()  # noqa: E731
    found = integrated_gradients(number, x, num_steps=50)
    assert float(found.sum()) == pytest.approx(float(number(x) - number(blurred(x, 1.2))), rel=1e-3)


def test_blur_keeps_constants_and_the_image_at_zero():
    x = torch.rand(1, 3, 9, 11)
    assert torch.equal(blurred(x, 0), x)
    assert torch.allclose(blurred(torch.ones(1, 3, 9, 11), 1.2), torch.ones(1, 3, 9, 11))


def test_gini():
    assert gini(torch.ones(50)) == pytest.approx(0)
    one = torch.zeros(100)
    one[3] = -5
    assert gini(one) == pytest.approx(0.99)
    assert gini(torch.zeros(4)) == 0
    assert diffusion_index(one) == pytest.approx(1)

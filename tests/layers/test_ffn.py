from __future__ import annotations

from typing import get_args

import pytest
import torch
import torch.nn.functional as F

from restore.layers.activations import Activation, activation_layer, make_activation
from restore.layers.build import build_feed_forward
from restore.layers.ffn import MLP, FeedForward
from restore.layers.tokens import Tokens
from restore.registry import FEED_FORWARDS

DIM = 12
NAMES = [name for name in FEED_FORWARDS if name != "none"]


def build(name: str, **options) -> FeedForward:
    torch.manual_seed(0)
    return build_feed_forward({"type": name, **options}, DIM, mlp_ratio=2).eval()


@pytest.mark.parametrize("name", NAMES)
def test_shape_gradients_and_hidden_width(name):
    x = torch.randn(1, 3, 5, DIM, requires_grad=True)
    network = build(name)
    assert network(x).shape == x.shape
    assert network.expand(x).shape == (1, 3, 5, network.inner_dim)
    assert network.inner_dim == network.projection().in_features
    assert network.inner_dim == 2 * DIM or name in ("group", "light")
    network(x).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_it_looks_as_far_as_it_says(name):
    network = build(name)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(1, 11, 11, DIM)
    changed = x.clone()
    changed[0, 5, 5] += 1
    with torch.no_grad():
        moved = (network(changed) - network(x)).abs().amax(-1)[0] > 1e-7
    rows, columns = moved.nonzero().unbind(1)
    reached = torch.maximum((rows - 5).abs(), (columns - 5).abs()).max()
    assert reached == (5 if network.halo_px is None else network.halo_px)


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_a_map_and_its_prefix_alone(name):
    network = build(name)
    x = torch.randn(2, 3 * 4, DIM)
    prefix = torch.randn(2, 2, DIM)
    with torch.no_grad():
        together = network(Tokens(torch.cat([prefix, x], dim=1), (3, 4), num_prefix=2))
        assert torch.allclose(together[:, 2:], network(x.unflatten(1, (3, 4))).flatten(1, 2), atol=1e-6)
        assert torch.allclose(together[:, 1], network(prefix[:, 1, None, None])[:, 0, 0], atol=1e-6)


def test_what_looks_at_neighbours_needs_a_grid():
    tokens = Tokens(torch.randn(1, 5, DIM))
    assert build("glu")(tokens).shape == (1, 5, DIM)
    with pytest.raises(ValueError, match="these 5 tokens do not lie on a grid"):
        build("leff")(tokens)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("gelu", F.gelu),
        ("relu", F.relu),
        ("silu", F.silu),
        ("sigmoid", torch.sigmoid),
        ("quick_gelu", lambda x: x * (1.702 * x).sigmoid()),
        ("leaky_relu", lambda x: x.clamp(min=0) + 0.2 * x.clamp(max=0)),
        ("relu6", lambda x: x.clamp(0, 6)),
        ("hardswish", lambda x: x * (x / 6 + 0.5).clamp(0, 1)),
    ],
)
def test_activations(activation, function):
    mlp, glu = build("mlp", activation=activation), build("glu", activation=activation)
    x = torch.randn(2, 3, 5, DIM)
    torch.testing.assert_close(mlp(x), mlp.fc2(function(mlp.fc1(x))))
    gate, value = glu.fc1(x).chunk(2, -1)
    torch.testing.assert_close(glu(x), glu.fc2(function(gate) * value))


@pytest.mark.parametrize("name", get_args(Activation))
def test_activations_stand_in_sequences_too(name):
    layer, function, x = activation_layer(name), make_activation(name), torch.linspace(-8, 8, 33)
    torch.testing.assert_close(layer(x), function(x))
    assert len(list(layer.parameters())) == {"prelu": 1, "star_relu": 2}.get(name, 0)


@pytest.mark.parametrize("name", ["mlp", "glu"])
def test_a_global_response_norm_stands_before_the_last_linear_map(name):
    normed, plain = build(f"grn_{name}"), build(name)
    plain.load_state_dict(normed.state_dict(), strict=False)
    x = torch.randn(2, 3, 5, DIM)
    assert torch.equal(normed(x), plain(x))  # at first it is the identity
    with torch.no_grad():
        normed.hidden_norm.weight.normal_()
        normed.hidden_norm.bias.normal_()
        hidden = plain.expand(x)
        energy = hidden.square().sum((1, 2), keepdim=True).sqrt()
        relative = energy / (energy.mean(-1, keepdim=True) + 1e-6)
        hidden = hidden + normed.hidden_norm.weight * hidden * relative + normed.hidden_norm.bias
        assert torch.allclose(normed(x), plain.fc2(hidden), atol=1e-5)
    assert normed.halo_px is None
    assert build(f"grn_{name}", hidden_norm={"type": "rms", "eps": 1e-5}).halo_px == 0


def test_the_hidden_width_is_that_of_the_block_if_it_says_so():
    assert build("mlp").inner_dim == 2 * DIM
    assert build("mlp", mlp_ratio=3).inner_dim == 3 * DIM
    assert build_feed_forward("mlp", DIM).inner_dim == 4 * DIM
    assert build_feed_forward("none", DIM, mlp_ratio=2) is None


def test_kernels_differ_and_are_odd():
    assert build("leff").dwconv.kernel_size == (3, 3)
    assert build("depthwise").dwconv.kernel_size == (5, 5)
    with pytest.raises(ValueError, match="kernel_size is 4: must be odd"):
        build("depthwise", kernel_size=4)


def test_dropout_in_training_only():
    mlp = MLP(DIM, 2, drop=0.5)
    x = torch.randn(1, 9, 9, DIM)
    assert torch.equal(mlp.eval()(x), mlp(x))
    assert (mlp.train()(x) == 0).float().mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_folded_it_is_the_same(name, assert_folds):
    assert_folds(build(name), torch.randn(2, 5, 7, DIM))

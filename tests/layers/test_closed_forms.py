"""Properties that papers state of their parts, and that follow from no other test."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from restore.layers.build import build_norm, build_position
from restore.layers.mixers import build_mixer

DIM = 12


def test_pooling_gives_nothing_for_a_constant_map():
    constant = torch.randn(DIM).expand(2, 7, 9, DIM)
    assert build_mixer("pooling", DIM)(constant).abs().max() <= 1e-6


@pytest.mark.parametrize("name", ["identity", "attention", "semantic_tokens", "class_attention", "knn_graph"])
def test_mixers_without_places_commute_with_permutations(name):
    torch.manual_seed(0)
    mixer = build_mixer(name, DIM).double().eval()
    x, order = torch.randn(2, 4, 6, DIM, dtype=torch.double), torch.randperm(24)

    def permuted(each):
        return each.flatten(1, 2)[:, order].view(each.shape)

    assert torch.allclose(mixer(permuted(x)), permuted(mixer(x)), atol=1e-10)


@pytest.mark.parametrize(
    "name", ["conv_modulation", "gated_conv", "separable_conv", "outlook", "pooling", "large_kernel"]
)
def test_local_mixers_commute_with_shifts_away_from_the_border(name):
    torch.manual_seed(0)
    options = {"large_kernel": {"kernel_size": 7}, "conv_modulation": {"kernel_size": 7}}
    mixer = build_mixer({"type": name, **options.get(name, {})}, DIM).double().eval()
    x = torch.randn(1, 24, 24, DIM, dtype=torch.double)
    inner = slice(mixer.halo_px + 2, -mixer.halo_px - 2)
    moved = mixer(x.roll((1, 2), (1, 2))).roll((-1, -2), (1, 2))
    assert torch.allclose(moved[:, inner, inner], mixer(x)[:, inner, inner], atol=1e-10)
    assert not torch.allclose(moved, mixer(x), atol=1e-4)


@pytest.mark.parametrize("shift", [(1, 0), (3, 5)])
def test_global_filters_commute_with_every_circular_shift(shift):
    mixer = build_mixer({"type": "global_filter", "filter_size": [8, 10]}, DIM).double()
    x = torch.randn(1, 8, 10, DIM, dtype=torch.double)
    assert torch.allclose(mixer(x.roll(shift, (1, 2))), mixer(x).roll(shift, (1, 2)), atol=1e-12)


def test_positions_by_convolution_are_the_identity_or_commute_with_shifts_inside():
    torch.manual_seed(0)
    position = build_position("conv", DIM).double()
    x = torch.randn(1, 9, 9, DIM, dtype=torch.double)
    moved = position(x.roll((1, 2), (1, 2))).roll((-1, -2), (1, 2))
    assert torch.allclose(moved[:, 1:-2, 1:-3], position(x)[:, 1:-2, 1:-3], atol=1e-12)
    assert not torch.allclose(moved, position(x), atol=1e-3)  # the border is where places are told

    def circular(each):
        padded = F.pad(each.permute(0, 3, 1, 2), (1, 1, 1, 1), mode="circular").permute(0, 2, 3, 1)
        return position(padded)[:, 1:-1, 1:-1]

    assert torch.allclose(circular(x.roll((4, 3), (1, 2))), circular(x).roll((4, 3), (1, 2)), atol=1e-12)
    with torch.no_grad():
        for parameter in position.parameters():
            parameter.zero_()
    assert torch.equal(position(x), x)
    assert sum(parameter.numel() for parameter in position.parameters()) == 9 * DIM + DIM


def test_a_step_of_sinusoids_is_a_rotation_of_every_pair():
    table = build_position("sinusoid", 16)(torch.zeros(1, 40, 3, 16))[0, :, 0, :8]  # of rows
    sines, cosines = table[:, :4], table[:, 4:]
    for step in (1, 7):
        cosine = (sines[step:] * sines[:-step] + cosines[step:] * cosines[:-step]).mean(0)
        sine = (sines[step:] * cosines[:-step] - cosines[step:] * sines[:-step]).mean(0)
        turned = sines[:-step] * cosine + cosines[:-step] * sine
        assert torch.allclose(turned, sines[step:], atol=1e-5)
        assert torch.allclose(cosine.square() + sine.square(), torch.ones(4), atol=1e-5)


def test_global_response_norm_follows_scale_and_order():
    torch.manual_seed(0)
    norm = build_norm("grn", DIM).double()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 5, 6, DIM, dtype=torch.double)
    assert torch.allclose(norm(3 * x), 3 * norm(x), atol=1e-4)
    order = torch.randperm(30)
    places = x.flatten(1, 2)[:, order].view(x.shape)
    assert torch.allclose(norm(places), norm(x).flatten(1, 2)[:, order].view(x.shape), atol=1e-12)
    energy = x.square().sum((1, 2)).sqrt()
    assert torch.allclose((energy / energy.mean(-1, keepdim=True)).mean(-1), torch.ones(2).double())


def test_the_gate_of_gmlp_is_open_at_first():
    torch.manual_seed(0)
    mixer = build_mixer({"type": "spatial_mlp", "mode": "gated", "window_size": 4}, DIM)
    x = torch.randn(1, 4, 8, DIM)
    value, _ = F.gelu(mixer.expand(x)).chunk(2, dim=-1)
    assert torch.allclose(mixer.mix(x), value, atol=2e-3)
    with torch.no_grad():
        mixer.spatial_mlp.weight.zero_()
        mixer.spatial_mlp.bias.zero_()
    assert not mixer.mix(x).any()


def test_perceptrons_over_positions_do_not_tell_channels_apart():
    torch.manual_seed(0)
    mixer = build_mixer({"type": "spatial_mlp", "mode": "mlp", "window_size": 4}, DIM)
    x, order = torch.randn(1, 4, 4, DIM), torch.randperm(DIM)
    assert torch.allclose(mixer(x[..., order]), mixer(x)[..., order], atol=1e-6)
    numbers = sum(parameter.numel() for parameter in mixer.parameters())
    assert numbers == 2 * 16 * 32 + 32 + 16


def test_attention_without_scores_is_a_mean():
    mixer = build_mixer({"type": "attention", "num_heads": 3}, DIM).double()
    with torch.no_grad():
        mixer.qkv.weight[: 2 * DIM], mixer.qkv.bias[: 2 * DIM] = 0, 0
    x = torch.randn(1, 3, 4, DIM, dtype=torch.double)
    value = F.linear(x, mixer.qkv.weight[2 * DIM :], mixer.qkv.bias[2 * DIM :])
    assert torch.allclose(mixer(x), mixer.proj(value.mean((1, 2), keepdim=True)).expand_as(x), atol=1e-12)


def test_a_filter_keeps_energy_within_its_largest_factor():
    torch.manual_seed(0)
    mixer = build_mixer({"type": "global_filter", "filter_size": [6, 8]}, DIM).double()
    x = torch.randn(3, 6, 8, DIM, dtype=torch.double)
    largest = mixer.complex_weight.square().sum(-1).sqrt().amax((0, 1))
    assert (mixer(x).square().sum((1, 2)) <= largest.square() * x.square().sum((1, 2)) * (1 + 1e-9)).all()

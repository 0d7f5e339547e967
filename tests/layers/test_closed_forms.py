"""Properties that papers state of their parts, and that follow from no other test."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from restore.analysis.cost import cost_of
from restore.layers.block import MetaFormerBlock
from restore.layers.build import build_feed_forward, build_norm, build_position
from restore.layers.folding import fold
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


@pytest.mark.parametrize("gate", [0, 1, 2])
def test_a_gate_of_zeros_closes_a_recursive_gated_convolution(gate):
    torch.manual_seed(0)
    mixer = build_mixer({"type": "recursive_gated_conv", "order": 3}, DIM)
    assert mixer.widths[0] + sum(mixer.widths) == 2 * DIM
    x = torch.randn(1, 5, 6, DIM)
    assert mixer.mix(x).abs().max() > 0
    with torch.no_grad():
        for layer in mixer.pws:
            layer.bias.zero_()
        for parameter in mixer.dwconv.parameters():
            parameter.split(mixer.widths)[gate].zero_()
    assert not mixer.mix(x).any()


@pytest.mark.parametrize("part", ["v", "conv"])
def test_modulation_is_linear_in_values_and_in_what_weighs_them(part):
    torch.manual_seed(0)
    mixer = build_mixer({"type": "conv_modulation", "kernel_size": 5}, DIM).double()
    x, layer = torch.randn(1, 6, 7, DIM, dtype=torch.double), mixer.get_submodule(part)
    one, other = ([torch.randn_like(each) for each in layer.parameters()] for _ in range(2))

    def mixed(parameters):
        names = [f"{part}.{name}" for name, _ in layer.named_parameters()]
        return torch.func.functional_call(mixer, dict(zip(names, parameters, strict=True)), (x,)) - mixer.proj.bias

    both = [2 * a - 3 * b for a, b in zip(one, other, strict=True)]
    assert torch.allclose(mixed(both), 2 * mixed(one) - 3 * mixed(other), atol=1e-10)


def test_long_kernels_have_a_fifth_of_the_weights_of_the_square_that_they_fold_into():
    mixer = build_mixer({"type": "large_kernel", "kernel_size": 51}, 2)
    kernels = [layer.weight[0].numel() for layer in mixer.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert sorted(kernels) == [25, 5 * 51, 5 * 51]
    assert sum(kernels) == 535
    (square,) = (layer for layer in fold(mixer).modules() if isinstance(layer, torch.nn.Conv2d))
    assert square.weight[0].numel() == 2601


def test_points_of_clusters_take_no_more_than_the_largest_value():
    torch.manual_seed(0)
    mixer = build_mixer({"type": "context_cluster", "num_heads": 2, "head_dim": 3, "num_folds": 2}, DIM).double()
    x = 9 * torch.randn(2, 8, 6, DIM, dtype=torch.double)
    largest = mixer.v(x).abs().amax((1, 2), keepdim=True)
    assert (mixer.mix(x).abs() < largest).all()


def test_a_perceptron_of_frequencies_tells_shifts_apart():
    """Its ReLU acts on real and imaginary parts, which turn with a shift: it does not commute, as global filters do."""
    torch.manual_seed(0)
    mixer = build_mixer({"type": "afno", "num_blocks": 3}, DIM).double()
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(1, 6, 8, DIM, dtype=torch.double)
    moved = mixer(x.roll((1, 2), (1, 2))).roll((-1, -2), (1, 2))
    assert not torch.allclose(moved, mixer(x), atol=1e-3)
    assert mixer(x).dtype == torch.double  # real numbers stay real


@pytest.mark.parametrize("name", ["class_attention", "semantic_tokens", "context_cluster"])
def test_few_that_look_at_all_cost_by_a_straight_line(name):
    counts = [cost_of(build_mixer(name, DIM), torch.rand(1, side, 8, DIM)).macs for side in (8, 16, 24)]
    assert counts[2] - counts[1] == counts[1] - counts[0] > 0


def test_a_block_whose_last_maps_are_zero_is_the_identity():
    torch.manual_seed(0)
    mixer = build_mixer({"type": "spatial_mlp", "mode": "mlp", "window_size": 4}, DIM)
    block = MetaFormerBlock(DIM, mixer, build_feed_forward("mlp", DIM))
    x = torch.randn(1, 8, 4, DIM)
    assert not torch.allclose(block(x), x)
    with torch.no_grad():
        for parameter in (*mixer.spatial_mlp.parameters(), *block.ffn.fc2.parameters()):
            parameter.zero_()
    assert torch.equal(block(x), x)


def test_layers_of_groups_that_do_not_see_the_input_again_are_a_plain_pile():
    torch.manual_seed(0)
    unit = build_feed_forward({"type": "group", "depth": 4, "max_groups": 4}, 16).double()
    x = torch.randn(2, 3, 3, 16, dtype=torch.double)
    hidden = F.gelu(unit.norm1(unit.fc1(x)))
    projected = hidden.shape[-1]
    with torch.no_grad():
        for number, (layer, norm, groups) in enumerate(zip(unit.layers, unit.norms, unit.groups, strict=True)):
            matrices = layer.weight.unflatten(0, (groups, -1))
            if number:
                matrices[..., : projected // groups] = 0
                matrices = matrices[..., projected // groups :]
            parts = hidden.unflatten(-1, (groups, -1))[..., None]
            hidden = (matrices @ parts)[..., 0] + layer.bias.unflatten(0, (groups, -1))
            hidden = F.gelu(norm(hidden)).flatten(-2)
        unit.fc2.weight[:, :projected] = 0
    assert torch.allclose(unit(x), F.linear(hidden, unit.fc2.weight[:, projected:], unit.fc2.bias), atol=1e-12)


def test_channels_of_groups_take_turns():
    torch.manual_seed(0)
    unit = build_feed_forward({"type": "light", "max_groups": 4}, 16)
    number = next(number for number, groups in enumerate(unit.groups) if groups == 4)
    seen = []
    unit.layers[number].register_forward_hook(lambda _, __, output: seen.append(output[0, 0, 0]))
    unit.norms[number].register_forward_pre_hook(lambda _, given: seen.append(given[0][0, 0, 0].flatten()))
    unit(torch.randn(1, 1, 1, 16))
    before, after = seen
    assert not torch.equal(before, after)
    assert torch.equal(before.sort().values, after.sort().values)
    width = len(before) // 4  # channels that follow each other come from different groups
    places = [before.tolist().index(value) // width for value in after.tolist()]
    assert places[:4] == [0, 1, 2, 3]

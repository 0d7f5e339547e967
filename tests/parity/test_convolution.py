"""Convolutional and spectral encoders against their official code."""

from __future__ import annotations

import pytest
import torch
from official import errors, parameters

from restore.layers.folding import fold
from restore.layers.mixers import build_mixer
from restore.layers.mixers.spectral.global_filter import filter_kernel

SMALL = {
    "conv2former__small": {"type": "conv2former", "dims": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
    "hornet__small_7x7": {"type": "hornet", "base_dim": 16, "depths": [1, 1, 2, 1]},
    "hornet__small_gf": {"type": "hornet", "base_dim": 16, "depths": [1, 1, 2, 1], "filter_sizes": [None, None, 14, 7]},
    "slak__small": {
        "type": "slak", "dims": [16, 32, 48, 64], "depths": [1, 1, 2, 1], "kernel_sizes": [13, 11, 9, 7],
        "width_factor": 1.3,
    },
    "gfnet__small": {"type": "gfnet", "img_size": 96, "embed_dim": 48, "depth": 3},
    "gfnet_h__small": {"type": "gfnet_h", "img_size": 64, "dims": [16, 32, 64, 96], "depths": [1, 1, 2, 1]},
}  # fmt: skip
PARAMETERS = {  # as counted in the official code, with 1000 classes
    "conv2former_nano": 14_992_840,
    "conv2former_tiny": 26_697_204,
    "conv2former_small": 50_032_692,
    "conv2former_base": 90_029_112,
    "conv2former_large": 198_893_736,
    "hornet_tiny": 22_409_512,
    "hornet_tiny_gf": 22_991_848,
    "hornet_small": 49_528_264,
    "hornet_small_gf": 50_401_768,
    "hornet_base": 87_256_680,
    "hornet_base_gf": 88_421_352,
    "hornet_large": 194_542_504,
    "hornet_large_gf": 196_289_512,
    "hornet_large_gf384": 201_806_824,
    "slak_tiny": 30_816_232,
    "slak_small": 55_568_104,
    "slak_base": 95_717_352,
    "repopt_vgg_b1": 51_841_832,
    "repopt_vgg_b2": 80_330_536,
    "repopt_vgg_l1": 76_037_928,
    "repopt_vgg_l2": 118_132_776,
    "gfnet_tiny": 7_511_784,
    "gfnet_xs": 15_985_768,
    "gfnet_small": 24_869_608,
    "gfnet_base": 43_120_616,
    "gfnet_h_tiny": 15_085_096,
    "gfnet_h_small": 32_162_632,
    "gfnet_h_base": 53_744_200,
}


@pytest.mark.parametrize("name", SMALL)
def test_agrees_with_official_code(name, shared, fill):
    found = errors(shared, fill, name, SMALL[name])
    assert "output_logits" in found
    assert max(found.values()) <= 1e-5, found


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name):
    assert parameters(name) == PARAMETERS[name]


@pytest.mark.parametrize(("size", "count"), [("tiny", 50_703_838), ("small", 91_131_820), ("base", 157_950_792)])
def test_slak_widened(size, count):
    assert parameters({"type": f"slak_{size}", "width_factor": 1.3}) == count


def test_global_filter_is_a_circular_convolution():
    torch.manual_seed(0)
    mixer = build_mixer({"type": "global_filter", "filter_size": [6, 8]}, 5).double()
    x_BHWC = torch.randn(2, 6, 8, 5, dtype=torch.float64)
    kernel_CHW = filter_kernel(mixer.complex_weight.permute(2, 0, 1, 3), (6, 8))
    expected = torch.zeros_like(x_BHWC)
    for row in range(6):
        for column in range(8):
            expected += x_BHWC.roll((row, column), (1, 2)) * kernel_CHW[:, row, column]
    torch.testing.assert_close(mixer(x_BHWC), expected, rtol=0, atol=1e-12)
    shifted = mixer(x_BHWC.roll((2, 3), (1, 2)))
    torch.testing.assert_close(shifted, mixer(x_BHWC).roll((2, 3), (1, 2)), rtol=0, atol=1e-12)


def test_global_filter_of_ones_changes_nothing():
    mixer = build_mixer({"type": "global_filter", "filter_size": [6, 8]}, 3)
    with torch.no_grad():
        mixer.complex_weight.copy_(torch.tensor([1.0, 0.0]))
    x_BHWC = torch.randn(1, 6, 8, 3)
    torch.testing.assert_close(mixer(x_BHWC), x_BHWC)


def test_large_kernel_folds_into_one():
    torch.manual_seed(0)
    mixer = build_mixer({"type": "large_kernel", "kernel_size": 13}, 6).double()
    for norm in (mixer.LoRA1.bn, mixer.LoRA2.bn, mixer.small_conv.bn):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        torch.nn.init.normal_(norm.weight)
    x_BHWC = torch.randn(1, 20, 17, 6, dtype=torch.float64)
    folded = fold(mixer)
    assert sum(p.numel() for p in folded.parameters()) == 6 * (13 * 13 + 1)
    torch.testing.assert_close(folded(x_BHWC), mixer.eval()(x_BHWC), rtol=0, atol=1e-12)


def test_modulation_without_a_convolution_is_two_linear_maps():
    mixer = build_mixer("conv_modulation", 4)
    with torch.no_grad():
        mixer.conv.weight.zero_()
        mixer.conv.bias.fill_(1)
    x_BHWC = torch.randn(1, 5, 6, 4)
    torch.testing.assert_close(mixer(x_BHWC), mixer.proj(mixer.v(x_BHWC)))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_recursive_gates_are_of_degree_order_plus_one(order):
    torch.manual_seed(0)
    mixer = build_mixer({"type": "recursive_gated_conv", "order": order}, 16).double()
    for name, parameter in mixer.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    x_BHWC = torch.randn(1, 9, 9, 16, dtype=torch.float64)
    torch.testing.assert_close(mixer(3 * x_BHWC), 3.0 ** (order + 1) * mixer(x_BHWC), rtol=1e-9, atol=1e-12)

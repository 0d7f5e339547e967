"""Linear maps with a batch norm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.block import MetaFormerBlock
from restore.layers.folding import fold
from restore.layers.normed_linear import NormedLinear
from restore.layers.precision import add_branch


def drawn(layer: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for name, tensor in layer.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5 if name.endswith("running_var") else torch.randn_like(tensor))
    return layer.eval()


def test_it_is_a_1x1_convolution_and_its_norm_and_folds_into_a_linear_map():
    for bias in (True, False):
        layer = drawn(NormedLinear(4, 6, bias).double())
        x_BHWC = torch.randn(2, 3, 5, 4, dtype=torch.float64)
        convolved = F.conv2d(x_BHWC.permute(0, 3, 1, 2), layer.weight[..., None, None], layer.bias)
        norm = layer.bn
        expected = F.batch_norm(convolved, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        torch.testing.assert_close(layer(x_BHWC), expected.permute(0, 2, 3, 1))
        folded = fold(layer)
        assert type(folded) is nn.Linear
        torch.testing.assert_close(folded(x_BHWC), layer(x_BHWC), rtol=1e-12, atol=1e-12)


def test_at_the_end_of_a_branch_it_does_not_overflow_in_float16():
    layer = drawn(NormedLinear(8, 4))
    with torch.no_grad():
        layer.weight.mul_(1e3)
    x = 50 * torch.randn(5, 8)
    with torch.autocast("cpu", torch.float16), torch.no_grad():
        found = add_branch(layer, x)
    assert found.dtype == torch.float32
    assert layer(x).abs().max() > 65504
    torch.testing.assert_close(found, layer(x), rtol=0, atol=0.01 * layer(x).abs().max().item())


def test_factors_of_channels_go_into_the_norm(assert_folds):
    block = MetaFormerBlock(6, "identity", "batch_norm_mlp", layer_scale=0.3)
    folded = assert_folds(block, torch.randn(1, 4, 5, 6))
    assert isinstance(folded.scale2, nn.Identity)
    assert type(folded.ffn.fc2) is nn.Linear

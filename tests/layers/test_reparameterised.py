from __future__ import annotations

import pytest
import torch
from torch import nn

from restore.layers.folding import fold
from restore.layers.reparameterised import NormedBranches, RepConv3x3


def drawn(inputs: int, outputs: int, expansion: int = 2) -> RepConv3x3:
    torch.manual_seed(0)
    module = RepConv3x3(inputs, outputs, expansion).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


@pytest.mark.parametrize(("inputs", "outputs", "expansion"), [(4, 4, 2), (3, 5, 1), (6, 2, 3)])
def test_it_folds_to_a_plain_convolution_up_to_the_border(inputs, outputs, expansion):
    module = drawn(inputs, outputs, expansion)
    x = torch.randn(2, inputs, 7, 1, dtype=torch.float64)
    folded = module.folded()
    assert type(folded) is nn.Conv2d
    torch.testing.assert_close(folded(x), module(x), rtol=0, atol=1e-10)


def test_it_is_the_sum_of_its_branches():
    module = drawn(3, 4)
    x = torch.randn(1, 3, 6, 5, dtype=torch.float64)
    direct = nn.functional.conv2d(x, module.weight, module.bias, padding=1)
    point = nn.functional.conv2d(x, module.point[:, :, None, None])
    inside = nn.functional.conv2d(x, module.expand[:, :, None, None])
    wide = nn.functional.conv2d(
        nn.functional.conv2d(inside, module.spatial, padding=1), module.project[..., None, None]
    )
    torch.testing.assert_close(module(x), direct + point + wide, rtol=0, atol=1e-10)


def test_it_starts_as_a_plain_convolution():
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 4, 3, padding=1)
    torch.manual_seed(0)
    module = RepConv3x3(3, 4)
    x = torch.randn(1, 3, 8, 8)
    assert torch.equal(module(x), plain(x))


def test_every_branch_learns_after_a_step():
    module = drawn(3, 3)
    module(torch.randn(1, 3, 5, 5, dtype=torch.float64)).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in module.parameters())


def test_kernels_are_summed_in_float32_under_autocast():
    module = RepConv3x3(3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert module.kernel().dtype is torch.float32
        assert module(torch.rand(1, 3, 4, 4)).dtype is torch.bfloat16


@pytest.mark.parametrize(("out_channels", "stride"), [(6, 1), (6, 2), (8, 1)])
def test_normed_branches_fold_into_one_convolution(out_channels, stride):
    torch.manual_seed(0)
    module = NormedBranches(6, out_channels, stride).double()
    for name, tensor in module.state_dict().items():
        if "bn_" in name and tensor.is_floating_point():
            tensor.uniform_(0.5, 2)
    assert (module.bn_identity is not None) == (out_channels == 6 and stride == 1)
    x = torch.randn(2, 6, 9, 7, dtype=torch.float64)
    folded = fold(module)
    assert type(folded) is torch.nn.Conv2d
    torch.testing.assert_close(folded(x), module.eval()(x), rtol=0, atol=1e-12)

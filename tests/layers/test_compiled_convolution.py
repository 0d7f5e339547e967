"""The convolution by the shared library gives what torch's gives, for every kind of code that this processor runs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.compiled import convolution as compiled
from restore.layers.compiled import library
from restore.layers.compiled.convolution import (
    compiled_convolution,
    pack_convolution,
    suits_compiled_convolution,
)

pytestmark = pytest.mark.usefixtures("every_processor")


def map_of(*shape):
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


def found_and_exact(x, weight, bias):
    found = compiled_convolution(x, pack_convolution(weight), len(weight), bias)
    exact = F.conv2d(x.double(), weight.double(), None if bias is None else bias.double(), padding=1)
    return found, exact


SIZES = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 3), (7, 5), (64, 1), (37, 51)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 17), (24, 24), (33, 64), (60, 48), (64, 3), (180, 180)])
@torch.no_grad()
def test_values_and_layout(inputs, outputs, size):
    torch.manual_seed(0)
    x, weight = map_of(2, inputs, *size), torch.randn(outputs, inputs, 3, 3)
    for bias in (None, torch.randn(2 * outputs)[::2]):
        found, exact = found_and_exact(x, weight, bias)
        assert found.shape == exact.shape
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert (found - exact).abs().max() <= 1e-6 * exact.abs().max()


@pytest.mark.parametrize("channels", [48, 64, 180])
@torch.no_grad()
def test_nearer_to_float64_than_torch(channels):
    torch.manual_seed(1)
    x, weight = map_of(1, channels, 40, 40), torch.randn(channels, channels, 3, 3)
    found, exact = found_and_exact(x, weight, None)
    assert (found - exact).abs().mean() < (F.conv2d(x, weight, padding=1) - exact).abs().mean()


@torch.no_grad()
def test_weights_in_any_layout():
    torch.manual_seed(2)
    x, weight = map_of(1, 32, 20, 20), torch.randn(32, 32, 3, 3)
    for each in (weight.contiguous(memory_format=torch.channels_last), weight.transpose(0, 1), weight.flip(2)):
        found, exact = found_and_exact(x, each, None)
        assert (found - exact).abs().max() <= 1e-6 * exact.abs().max()


@torch.no_grad()
def test_threads_and_the_batch_change_no_bit(request):
    torch.manual_seed(3)
    before = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(before))
    x, weight = map_of(3, 40, 31, 33), torch.randn(40, 40, 3, 3)
    packed = pack_convolution(weight)
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        assert torch.equal(pack_convolution(weight), packed)
        results.append(compiled_convolution(x, packed, 40, None))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    alone = compiled_convolution(x[1:2].contiguous(memory_format=torch.channels_last), packed, 40, None)
    assert torch.equal(results[0][1:2], alone)


@torch.no_grad()
def test_what_it_is_for():
    weight = torch.randn(64, 64, 3, 3)
    suits = suits_compiled_convolution
    assert suits(map_of(1, 64, 32, 32), weight)
    assert not suits(torch.randn(1, 64, 32, 32), weight)  # channels outside
    assert not suits(map_of(1, 64, 4, 4), weight)  # small
    assert not suits(map_of(1, 64, 32, 32).bfloat16(), weight.bfloat16())
    assert not suits(map_of(1, 64, 32, 32).double(), weight.double())
    assert not suits(map_of(1, 64, 32, 32), torch.randn(64, 64, 5, 5))
    assert not suits(map_of(1, 64, 32, 32), torch.randn(64, 32, 3, 3))  # groups
    assert not suits(map_of(1, 8, 256, 256), torch.randn(64, 8, 3, 3))  # too few inputs
    assert not suits(map_of(0, 64, 32, 32), weight)
    with library.switched_off():
        assert not suits(map_of(1, 64, 32, 32), weight)


def test_constants_stay_constants_inside():
    """A kernel that sums to one leaves a constant image as it is, but for its border."""
    x = torch.full((1, compiled.FEWEST_INPUTS, 9, 9), 0.7).contiguous(memory_format=torch.channels_last)
    weight = torch.zeros(compiled.FEWEST_INPUTS, compiled.FEWEST_INPUTS, 3, 3)
    nn.init.dirac_(weight)
    weight = F.avg_pool2d(weight, 3, 1, 1)
    found = compiled_convolution(x, pack_convolution(weight), len(weight), None)
    torch.testing.assert_close(found[:, :, 1:-1, 1:-1], x[:, :, 1:-1, 1:-1], rtol=1e-6, atol=0)
    torch.testing.assert_close(found[:, :, 0, 0], x[:, :, 0, 0] * 4 / 9, rtol=1e-6, atol=0)

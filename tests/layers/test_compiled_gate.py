"""The gate by the shared library gives what torch's operators give, for every kind of code that this processor runs."""

from __future__ import annotations

import pytest
import torch

from restore.layers.compiled import library
from restore.layers.compiled.gate import compiled_gate

pytestmark = pytest.mark.usefixtures("every_processor")


def map_of(*shape, dtype=torch.float32):
    return torch.randn(*shape).to(dtype).contiguous(memory_format=torch.channels_last)


def gated(x, change):
    x, change = x.double(), change.double()
    return x + change * (torch.sigmoid(change) + 0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 7), (1, 48, 33, 31), (3, 64, 16, 16), (1, 17, 40, 40)])
@torch.no_grad()
def test_values_and_place(shape, dtype):
    torch.manual_seed(0)
    x, change = map_of(*shape, dtype=dtype), 3 * map_of(*shape, dtype=dtype)
    wide = map_of(shape[0], 3 * shape[1], *shape[2:], dtype=dtype)
    before = wide.clone()
    places = wide.split(shape[1], 1)
    found = compiled_gate(x, change, places[1])
    if found is None:  # a map of one position has no layout
        assert shape[2:] == (1, 1)
        found = compiled_gate(x, change)
    else:
        assert torch.equal(places[1], found)
    assert torch.equal(places[0], before[:, : shape[1]])
    assert torch.equal(places[2], before[:, 2 * shape[1] :])
    exact = gated(x, change)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert (found - exact).abs().max() <= (1e-6 if dtype is torch.float32 else 2**-8) * exact.abs().max()


@torch.no_grad()
def test_far_from_zero_and_what_is_not_a_number():
    values = torch.tensor([0.0, -0.0, 20.0, -20.0, 88.0, -88.0, 1e4, -1e4, 3e38, -3e38, torch.inf, torch.nan])
    change = values.view(1, 1, 1, -1).expand(1, 20, 3, -1).contiguous(memory_format=torch.channels_last)
    x = torch.zeros_like(change)
    found = compiled_gate(x, change)
    torch.testing.assert_close(found, gated(x, change).float(), rtol=1e-6, atol=0, equal_nan=True)


@torch.no_grad()
def test_what_torch_computes():
    x, change = map_of(1, 8, 9, 9), map_of(1, 8, 9, 9)
    assert compiled_gate(x, change) is not None
    assert compiled_gate(x.contiguous(), change) is None
    assert compiled_gate(x, change.bfloat16()) is None
    assert compiled_gate(x.double(), change.double()) is None
    assert compiled_gate(x, change, torch.empty(1, 24, 9, 9)[:, :8]) is None
    assert compiled_gate(x, map_of(1, 1, 9, 9)) is None
    with torch.enable_grad():
        assert compiled_gate(x, change) is None
    with library.switched_off():
        assert compiled_gate(x, change) is None

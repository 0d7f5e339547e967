"""Maps of attention that are changed: by rows they come out as in one piece, with the same gradients."""

from __future__ import annotations

import copy

import pytest
import torch

from restore.layers.mixers import build_mixer
from restore.layers.mixers.attention import full, map_convolutions
from restore.layers.mixers.attention.map_convolutions import convolved_maps
from restore.layers.mixers.attention.refined import add_refinement
from restore.layers.tokens import Tokens


def _convolutions(num_heads: int, hidden: int, kernel_size: int) -> torch.nn.Module:
    torch.manual_seed(0)
    holder = torch.nn.Module()
    add_refinement(holder, num_heads, hidden / num_heads, kernel_size)
    layers = holder.DLA.double()
    with torch.no_grad():
        for name in ("bn1", "bn2"):
            norm = layers.get_submodule(name)
            norm.weight.copy_(torch.linspace(-1, 2, hidden))
            norm.bias.copy_(torch.linspace(-1, 4, hidden))
            norm.running_mean.normal_(std=0.1)
            norm.running_var.uniform_(0.5, 1.5)
    return layers


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("kernel_size", "rows"), [(3, 4), (3, 5), (5, 8), (1, 1), (3, 99)])
def test_maps_convolved_by_rows_are_those_of_one_operation_after_the_other(kernel_size, rows, training, monkeypatch):
    """Outputs, gradients and running statistics, with parts that do and do not divide the map."""
    layers = _convolutions(3, 5, kernel_size).train(training)
    other = copy.deepcopy(layers)
    monkeypatch.setattr(map_convolutions, "_FEWEST_BYTES", 1)
    monkeypatch.setattr(map_convolutions, "_ROWS_BYTES", rows * 5 * 13 * 8)
    maps = torch.randn(2, 3, 17, 13, dtype=torch.float64).softmax(dim=-1).requires_grad_()
    again = maps.detach().clone().requires_grad_()
    found = layers.bn3(convolved_maps(maps, layers))
    expected = other(again)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    towards = torch.randn_like(found)
    found.backward(towards)
    expected.backward(towards)
    torch.testing.assert_close(maps.grad, again.grad, rtol=1e-8, atol=1e-9)
    for (name, one), two in zip(layers.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(
            one.grad, two.grad, rtol=1e-7, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}"
        )
    for one, two in zip(layers.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["refined", "talking_heads", "reattention"])
@pytest.mark.parametrize("position", ["none", "table", "irpe"])
def test_large_maps_are_made_by_rows_in_evaluation(name, position, monkeypatch):
    torch.manual_seed(0)
    mixer = build_mixer({"type": name, "num_heads": 2, "position": position}, 8).eval()
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x_BHWC = torch.randn(2, 5, 7, 8)
    with torch.no_grad():
        whole = mixer(x_BHWC)
        monkeypatch.setattr(full, "_MAP_BYTES", 4 * 2 * 2 * 35 * 6)
        assert mixer._rows_at_once(Tokens.of_map(x_BHWC)) == 6
        torch.testing.assert_close(mixer(x_BHWC), whole, rtol=1e-5, atol=1e-5)
    assert mixer._rows_at_once(Tokens.of_map(x_BHWC)) is None  # as gradients would need all of them

from __future__ import annotations

import math

import pytest
import torch

from restore.layers import window
from restore.layers.compiled.library import switched_off
from restore.layers.explicit_attention import explicit_attention
from restore.layers.window import window_attention, window_plan


@pytest.fixture(autouse=True)
def operators():
    """Windows are computed by torch's operators, also where the compiled library is there."""
    with switched_off():
        yield


def plain(qkv_WNC, num_heads, bias_KhNN, counts):
    q, k, v = qkv_WNC.unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)
    bias_WhNN = bias_KhNN.repeat_interleave(torch.tensor(counts), 0)
    weights = (q @ k.mT / math.sqrt(q.shape[-1]) + bias_WhNN).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


@pytest.mark.parametrize(("counts", "tokens"), [((5,), 9), ((4, 0, 2, 1), 16), ((1,), 1)])
def test_output_and_gradients_are_those_of_the_formula(counts, tokens):
    torch.manual_seed(0)
    qkv = torch.randn(sum(counts), tokens, 3 * 6, dtype=torch.double)
    bias = torch.randn(len(counts), 2, tokens, tokens, dtype=torch.double)
    before = qkv.clone()
    towards = torch.randn(sum(counts), tokens, 6, dtype=torch.double)
    found = []
    for function in (lambda *args: explicit_attention(*args, 1 / math.sqrt(3)), plain):
        inputs = qkv.clone().requires_grad_(), bias.clone().requires_grad_()
        given = inputs[0] * 1  # as a layer's output is: something that may be written to by mistake
        output = function(given, 2, inputs[1], counts)
        assert torch.equal(given, before)
        found.append([output, *torch.autograd.grad(output, inputs, towards)])
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected)


def test_bfloat16_stays_as_near_as_its_eight_bits_allow():
    torch.manual_seed(0)
    qkv, bias, towards = torch.randn(300, 16, 3 * 6), torch.randn(1, 2, 16, 16), torch.randn(300, 16, 6)
    found = []
    for dtype, function in (
        (torch.bfloat16, lambda *args: explicit_attention(*args, 1 / math.sqrt(3))),
        (torch.float32, plain),
    ):
        inputs = qkv.to(dtype).clone().requires_grad_(), bias.to(dtype).clone().requires_grad_()
        output = function(inputs[0] * 1, 2, inputs[1], (300,))
        found.append([output, *torch.autograd.grad(output, inputs, towards.to(output.dtype))])
    for ours, exact in zip(*found, strict=True):
        assert ours.dtype == torch.bfloat16
        assert (ours.float() - exact).norm() < 0.015 * exact.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_processor_takes_it_with_and_without_gradients(dtype, monkeypatch):
    calls = []
    monkeypatch.setattr(window, "explicit_attention", lambda *args: calls.append(args) or explicit_attention(*args))
    qkv, bias = torch.randn(4, 16, 12, dtype=dtype), torch.zeros(2, 16, 16, requires_grad=True)
    plan = window_plan(1, 8, 8, (4, 4), (2, 2), torch.device("cpu"))
    window_attention(qkv, 2, bias, plan).sum().backward()
    assert len(calls) == 1
    with torch.no_grad():
        window_attention(qkv, 2, bias, plan)
    assert len(calls) == 2
    window_attention(qkv.requires_grad_(), 2, bias.detach(), plan).sum().backward()  # of a frozen bias
    window_attention(qkv, 2, None, plan).sum().backward()
    assert len(calls) == 4


@pytest.mark.parametrize("scores_bytes", [1, 2**12, 2**30])
def test_without_gradients_windows_are_computed_a_few_at_a_time(scores_bytes, monkeypatch):
    monkeypatch.setattr("restore.layers.explicit_attention._SCORES_BYTES", scores_bytes)
    torch.manual_seed(0)
    counts = (4, 0, 2, 1)
    qkv, bias = torch.randn(7, 16, 3 * 6), torch.randn(4, 2, 16, 16, requires_grad=True)
    before = qkv.clone()
    with torch.inference_mode():
        found = explicit_attention(qkv, 2, bias, counts, 1 / math.sqrt(3))
    assert torch.equal(qkv, before)
    torch.testing.assert_close(found, plain(qkv, 2, bias, counts).detach())


@pytest.mark.parametrize("learned", [True, False], ids=["explicit_attention", "fused"])
def test_tokens_masked_from_each_other_have_a_weight_of_exactly_zero(learned):
    """-100 would leave denormal numbers, which processors multiply many times more slowly."""
    torch.manual_seed(0)
    plan = window_plan(1, 4, 4, (4, 4), (2, 2), torch.device("cpu"))  # one window of four regions
    qkv = torch.randn(1, 16, 12, requires_grad=True)
    bias = torch.zeros(2, 16, 16, requires_grad=learned)
    window_attention(qkv, 2, bias, plan)[0, 0].sum().backward()
    of_values = qkv.grad[0, :, 8:]
    assert int((of_values != 0).any(-1).sum()) == 4

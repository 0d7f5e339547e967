from __future__ import annotations

import pytest
import torch

from restore.layers.compiled.library import is_usable, switched_off
from restore.layers.window import (
    join_windows,
    shift_mask,
    split_windows,
    window_attention,
    window_plan,
)

CPU = torch.device("cpu")
CASES = [
    # batch, height, width, window, shift
    (2, 12, 16, (4, 4), (0, 0)),
    (2, 12, 16, (4, 4), (2, 2)),
    (1, 4, 4, (4, 4), (2, 2)),
    (3, 6, 48, (6, 24), (3, 12)),
    (1, 24, 12, (12, 6), (6, 0)),
]


@pytest.fixture(params=["compiled", "operators"])
def way(request):
    """Windows computed by the compiled library, and by torch's operators."""
    if request.param == "compiled":
        if not is_usable():
            pytest.skip("attention is not compiled: `restore doctor` says why")
        yield
    else:
        with switched_off():
            yield


def published_mask(height, width, window, shift):
    """The mask as the paper describes it: label regions of the rolled map, compare labels inside each window."""
    labels = torch.zeros(height, width)
    count = 0
    for rows in (slice(0, -window[0]), slice(-window[0], -shift[0] or None), slice(-shift[0], None)):
        for columns in (slice(0, -window[1]), slice(-window[1], -shift[1] or None), slice(-shift[1], None)):
            labels[rows, columns] = count
            count += 1
    tiles = labels.unfold(0, window[0], window[0]).unfold(1, window[1], window[1]).flatten(2).flatten(0, 1)
    return (tiles[:, :, None] != tiles[:, None, :]).float() * -100


def published_attention(x_BHWC, num_heads, bias, window, shift):
    """Roll, partition, attend with the full mask, merge and roll back."""
    batch, height, width, channels = x_BHWC.shape
    dim = channels // 3 // num_heads
    x = x_BHWC.roll((-shift[0], -shift[1]), (1, 2))
    x = x.view(batch, height // window[0], window[0], width // window[1], window[1], channels)
    x = x.permute(0, 1, 3, 2, 4, 5).reshape(-1, window[0] * window[1], 3, num_heads, dim)
    q, k, v = x.permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-1, -2) / dim**0.5 + bias
    if any(shift):
        mask = published_mask(height, width, window, shift)
        scores = scores + mask.repeat(batch, 1, 1)[:, None]
    out = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    out = out.view(batch, height // window[0], width // window[1], *window, -1).permute(0, 1, 3, 2, 4, 5)
    return out.reshape(batch, height, width, -1).roll(shift, (1, 2))


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize(("batch", "height", "width", "window", "shift"), CASES)
@pytest.mark.usefixtures("way")
def test_agrees_with_roll_partition_and_full_mask(batch, height, width, window, shift, learned):
    torch.manual_seed(0)
    x = torch.randn(batch, height, width, 3 * 8, requires_grad=True)
    bias = torch.randn(2, window[0] * window[1], window[0] * window[1], requires_grad=learned)
    plan = window_plan(batch, height, width, window, shift, CPU)
    ours = join_windows(window_attention(split_windows(x, plan), 2, bias, plan), plan, (batch, height, width, 8))
    theirs = published_attention(x, 2, bias, window, shift)
    assert torch.allclose(ours, theirs, atol=2e-6)
    weight = torch.randn_like(ours)
    wanted = (x, bias) if learned else (x,)
    gradients = [torch.autograd.grad((y * weight).sum(), wanted) for y in (ours, theirs)]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=2e-5)


@pytest.mark.parametrize(("batch", "height", "width", "window", "shift"), CASES)
def test_splitting_and_joining_are_inverse(batch, height, width, window, shift):
    plan = window_plan(batch, height, width, window, shift, CPU)
    x = torch.randn(batch, height, width, 5)
    windows = split_windows(x, plan)
    assert windows.shape == (sum(plan.counts), window[0] * window[1], 5)
    assert torch.equal(join_windows(windows, plan, x.shape), x)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 24)])
def test_stored_masks_are_the_published_ones(height, width):
    assert torch.equal(shift_mask(height, width, (8, 8), (4, 4)), published_mask(height, width, (8, 8), (4, 4)))


def test_plans_are_cached_and_usable_in_training_after_inference():
    with torch.inference_mode():
        first = window_plan(1, 20, 20, (4, 4), (2, 2), CPU)
    second = window_plan(1, 20, 20, (4, 4), (2, 2), CPU)
    assert first is second
    x = torch.randn(1, 20, 20, 3, requires_grad=True)
    join_windows(split_windows(x, second), second, x.shape).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))

"""Plain convolutions that learn as branches: the same kernels after any number of steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from restore.encoders import build_encoder
from restore.layers.rep_optimized import ConvOfBranches, ScaledBranches, initial_scale


def branches(in_channels=5, out_channels=5, stride=1, dtype=torch.float64):
    torch.manual_seed(0)
    made = ScaledBranches(in_channels, out_channels, stride, initial=0.7).to(dtype)
    with torch.no_grad():
        for scale in (made.scale_conv, made.scale_1x1):
            scale.weight.add_(0.2 * torch.randn_like(scale.weight)).requires_grad_(False)
            scale.weight.requires_grad_(False)
    return made


def trained(module, optimizer, steps=60):
    torch.manual_seed(1)
    x = torch.randn(4, 5, 7, 9, dtype=torch.float64)
    y = torch.randn_like(module(x))
    for _ in range(steps):
        optimizer.zero_grad()
        F.mse_loss(module(x), y).backward()
        optimizer.step()
    return module


@pytest.mark.parametrize("shape", [(5, 5, 1), (5, 8, 1), (5, 5, 2)])
@pytest.mark.parametrize(
    "options", [{}, {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}, {"momentum": 0.5, "weight_decay": 0.1}]
)
def test_the_kernel_learns_as_that_of_the_branches(shape, options):
    many, one = branches(*shape), ConvOfBranches(branches(*shape))
    torch.testing.assert_close(one.kernel(), many.kernel(), rtol=0, atol=1e-15)
    for module in (many, one):
        learned = [each for each in module.parameters() if each.requires_grad]
        trained(module, torch.optim.SGD(learned, lr=0.05, **options))
    torch.testing.assert_close(one.kernel(), many.kernel(), rtol=0, atol=1e-12)
    plain = nn.Conv2d(5, shape[1], 3, shape[2], 1, bias=False).double()
    plain.load_state_dict({"weight": branches(*shape).kernel()})
    trained(plain, torch.optim.SGD(plain.parameters(), lr=0.05, **options))
    assert (plain.weight - one.kernel()).abs().max() > 1e-3, "the multipliers change nothing"


def test_with_adam_it_holds_up_to_its_eps():
    many, one = branches(), ConvOfBranches(branches(), "adam")
    for module in (many, one):
        learned = [each for each in module.parameters() if each.requires_grad]
        trained(module, torch.optim.AdamW(learned, lr=1e-3, weight_decay=0.0))
    assert (one.kernel() - many.kernel()).abs().max() < 1e-5


@pytest.mark.parametrize("stride", [1, 2])
def test_all_forms_compute_the_same(stride, assert_folds):
    many = branches(5, 5, stride).eval()
    x = torch.randn(2, 5, 6, 7, dtype=torch.float64)
    one = ConvOfBranches(many).eval()
    torch.testing.assert_close(one(x), many(x), rtol=0, atol=1e-12)
    apart = many.scale_conv.weight.view(-1, 1, 1) * many.conv(x) + many.scale_1x1.weight.view(-1, 1, 1) * many.conv_1x1(
        x
    )
    apart = apart + (many.scale_identity.weight.view(-1, 1, 1) * x if stride == 1 else 0)
    torch.testing.assert_close(many(x), apart, rtol=0, atol=1e-12)
    for each in (many, one):
        assert_folds(each.float(), x.float())


def test_agrees_with_the_official_optimizer(shared):
    stored = np.load(shared("fixtures/encoders/repopt_sgd__identity.npz"))

    def tensor(name):
        return torch.from_numpy(stored[name])

    made = ScaledBranches(6, 6)
    with torch.no_grad():
        made.conv.weight.copy_(tensor("kernel_3x3"))
        made.conv_1x1.weight.copy_(tensor("kernel_1x1"))
        for name in ("conv", "1x1", "identity"):
            made.get_submodule(f"scale_{name}").weight.copy_(tensor(f"scale_{name.replace('conv', '3x3')}"))
    one = ConvOfBranches(made)
    torch.testing.assert_close(one.multiplier(), tensor("mask"))
    torch.testing.assert_close(one.kernel().detach(), tensor("initial"))
    optimizer = torch.optim.SGD(one.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4, nesterov=True)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = F.mse_loss(one(tensor("x")), tensor("y"))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    torch.testing.assert_close(torch.tensor(losses), tensor("output_losses"), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one.kernel().detach(), tensor("output_kernel"), rtol=0, atol=1e-5)


def test_scales_start_by_their_place():
    encoder = build_encoder({"type": "repopt_vgg", "depths": [1, 3, 1, 1], "width_factors": [0.125] * 4,
                             "learns_as": "branches"})  # fmt: skip
    assert [initial_scale(place) for place in range(3)] == pytest.approx([1, 2**0.5, 1])
    for place, block in enumerate(encoder.stage2):
        for scale in (block.conv.scale_conv, block.conv.scale_1x1):
            torch.testing.assert_close(scale.weight, torch.full((16,), initial_scale(place)))
        assert (block.conv.scale_identity is None) == (place == 0)


def test_scales_that_were_searched_are_taken():
    block = {"type": "repopt_vgg", "depths": [1, 2, 1, 1], "width_factors": [0.125] * 4}
    searched = build_encoder({**block, "learns_as": "branches"})
    with torch.no_grad():
        for module in searched.modules():
            if isinstance(module, ScaledBranches):
                module.scale_conv.weight.uniform_(0.5, 1.5)
    encoder = build_encoder({**block, "learns_as": "multiplied"})
    encoder.take_scales(searched)
    for own, found in zip(encoder.blocks(), searched.blocks(), strict=True):
        assert torch.equal(own.conv.scale_conv, found.conv.scale_conv.weight)
        assert own.conv.has_identity == (found.conv.scale_identity is not None)
        assert not torch.equal(own.conv.kernel(), found.conv.kernel())
    assert [name for name, _ in encoder.stage0.named_children()] == ["conv", "bn", "relu"]
    with pytest.raises(ValueError, match="given 'multiplied' and 'branches'"):
        searched.take_scales(encoder)
    with pytest.raises(ValueError, match="the scales are of blocks of"):
        build_encoder({**block, "learns_as": "multiplied", "depths": [1, 1, 1, 1]}).take_scales(searched)

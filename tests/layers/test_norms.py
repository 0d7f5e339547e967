from __future__ import annotations

import pytest
import torch

from restore.layers.build import build_norm
from restore.registry import NORMS

DIM = 8


def build(name: str, **options) -> torch.nn.Module:
    torch.manual_seed(0)
    norm = build_norm({"type": name, **options}, DIM)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(DIM))
    return norm


@pytest.mark.parametrize("shape", [(2, 3, 5, DIM), (2, 7, DIM)], ids=["map", "tokens"])
@pytest.mark.parametrize("name", NORMS.names())
def test_maps_and_tokens_keep_their_shape_and_images_do_not_meet(name, shape):
    norm = build(name)
    x = torch.randn(shape, requires_grad=True)
    norm(x).square().sum().backward()
    assert x.grad.isfinite().all()
    assert all(parameter.grad is not None for parameter in norm.parameters())
    norm.eval()
    with torch.no_grad():
        assert norm(x).shape == shape
        assert torch.allclose(norm(x), torch.cat([norm(each[None]) for each in x]), atol=1e-6)


@pytest.mark.parametrize("name", NORMS.names())
def test_only_those_that_say_so_compute_over_positions(name):
    norm = build(name).eval()
    x = torch.randn(1, 4, 6, DIM)
    changed = x.clone()
    changed[0, 1, 2, : DIM // 2] += 1
    with torch.no_grad():
        moved = (norm(changed) - norm(x)).abs().amax(-1)[0] > 1e-6
    assert moved[1, 2]
    assert (moved.sum() > 1) == (getattr(norm, "halo_px", 0) is None)


@pytest.mark.parametrize("num_groups", [1, 4])
def test_group_norm_is_that_of_channels_first(num_groups):
    norm = build("group", num_groups=num_groups)
    x = torch.randn(2, 3, 5, DIM)
    wanted = torch.nn.functional.group_norm(x.permute(0, 3, 1, 2), num_groups, norm.weight, norm.bias)
    assert torch.allclose(norm(x), wanted.permute(0, 2, 3, 1), atol=1e-6)


def test_batch_norm_is_that_of_channels_first():
    norm, reference = build_norm("batch", DIM), torch.nn.BatchNorm2d(DIM)
    for mode in (True, True, False):
        x = torch.randn(4, 3, 5, DIM)
        wanted = reference.train(mode)(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        assert torch.allclose(norm.train(mode)(x), wanted, atol=1e-6)


def test_global_response_norm_is_the_identity_at_first_and_weighs_by_energy():
    norm = build_norm("grn", DIM)
    x = torch.randn(2, 3, 5, DIM)
    assert torch.equal(norm(x), x)
    torch.nn.init.ones_(norm.weight)
    energy = x.square().sum((1, 2), keepdim=True).sqrt()
    assert torch.allclose(norm(x), x + x * energy / energy.mean(-1, keepdim=True), atol=1e-5)


def test_root_mean_square():
    x = torch.randn(2, 3, 5, DIM)
    assert torch.allclose(build_norm("rms", DIM)(x), x / x.square().mean(-1, keepdim=True).sqrt(), atol=1e-4)


@pytest.mark.parametrize("name", NORMS.names())
def test_folded_it_is_the_same(name, assert_folds):
    assert_folds(build(name), torch.randn(2, 3, 5, DIM))


@pytest.mark.parametrize("name", NORMS.names())
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_normed_as_whole_numbers_are(name, dtype):
    x = torch.randn(2, 3, 5, DIM).to(dtype)
    norm = build(name).eval()
    with torch.no_grad():
        wanted = norm(x.float())
        with torch.autocast("cpu", dtype):
            output = norm(x).float()
    assert torch.allclose(output, wanted, atol=0.02 * wanted.abs().max())

"""Patches of any size from the weights of one: what resizing patches and weights together leaves unchanged."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from restore.encoders.token.flexivit import resampled_map
from restore.layers.flexible_patches import FlexiblePatches, pi_matrix, pi_resize, resize_matrix

INTERPOLATIONS = ("bilinear", "bicubic")


def resized(patch_BCHW, size, interpolation):
    return F.interpolate(
        patch_BCHW, size, mode=interpolation, align_corners=False, antialias=interpolation == "bicubic"
    )


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("old", "new"), [(8, 16), (8, 12), (6, 7), (7, 7), (5, 23)])
def test_a_patch_that_grows_keeps_its_embedding(old, new, interpolation):
    torch.manual_seed(0)
    patch, weight = torch.randn(4, 3, old, old, dtype=torch.float64), torch.randn(5, 3, old, old, dtype=torch.float64)
    before = torch.einsum("bchw,ochw->bo", patch, weight)
    grown, larger = resized(patch, (new, new), interpolation), pi_resize(weight, new, interpolation)
    torch.testing.assert_close(torch.einsum("bchw,ochw->bo", grown, larger), before, rtol=0, atol=1e-9)
    if old != new:  # resizing the weights like a picture does not do
        naive = torch.einsum("bchw,ochw->bo", grown, resized(weight, (new, new), interpolation))
        assert (naive - before).abs().max() > 0.1 * before.abs().max()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("old", "new"), [(4, 6), (6, 4), (5, 3)])
def test_the_inverse_is_that_of_the_whole_patch(old, new, interpolation):
    """pinv(B^T) w with B of all pixels, as the paper writes it; for patches that shrink, the least-squares answer."""
    torch.manual_seed(0)
    units = torch.eye(old**2, dtype=torch.float64).view(-1, 1, old, old)
    whole = resized(units, (new, new), interpolation).flatten(1).T
    rows = resize_matrix(old, new, interpolation)
    torch.testing.assert_close(whole, torch.kron(rows, rows), rtol=0, atol=1e-12)
    weight = torch.randn(2, 3, old, old, dtype=torch.float64)
    expected = (torch.linalg.pinv(whole.T) @ weight.flatten(2)[..., None])[..., 0].view(2, 3, new, new)
    torch.testing.assert_close(pi_resize(weight, new, interpolation), expected, rtol=0, atol=1e-10)
    least = torch.linalg.lstsq(whole.T, weight.flatten(0, 1).flatten(1).T, driver="gelsd").solution.T
    torch.testing.assert_close(pi_resize(weight, new, interpolation).flatten(0, 1).flatten(1), least)


def test_the_inverse_is_that_of_timm():
    from timm.layers.patch_embed import resample_patch_embed

    torch.manual_seed(0)
    weight = torch.randn(2, 3, 16, 16)
    for size in (8, 12, 24):
        torch.testing.assert_close(
            pi_resize(weight, size, "bicubic"), resample_patch_embed(weight, [size, size]), rtol=1e-4, atol=1e-4
        )


def test_there_and_back_is_not_where_it_was():
    torch.manual_seed(0)
    weight = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    back = pi_resize(pi_resize(weight, 16), 8)
    assert (back - weight).norm() / weight.norm() > 0.5
    torch.testing.assert_close(pi_matrix(8, 8), torch.eye(8, dtype=torch.float64))


@pytest.mark.parametrize("stored_px", [8, 12])
def test_sides_that_were_declared_are_taken(stored_px, assert_folds):
    torch.manual_seed(0)
    patches = FlexiblePatches(3, 6, stored_px, patch_px=8, others_px=(5, 16)).eval()
    assert patches.state_dict().keys() == {"proj.weight", "proj.bias"}
    for side, size in ((None, (3, 4)), (5, (5, 6)), (16, (2, 2))):
        assert patches(torch.rand(1, 3, 21, 29), side).shape == (1, 6, *size)
    with pytest.raises(ValueError, match="patches of 7 px: this embedding was made for 5, 8, 16 px"):
        patches(torch.rand(1, 3, 21, 29), 7)
    assert_folds(patches, torch.rand(1, 3, 24, 32))
    patches.weight(16).square().sum().backward()
    assert patches.proj.weight.grad.abs().min() > 0


@pytest.mark.parametrize("step", [0.5, 1.0, 1.25, 3.0])
def test_resampled_maps_begin_at_the_same_corner(step):
    places = torch.arange(24, dtype=torch.float64) + 0.5  # the centre of each position, in positions
    ramp_BCHW = (places[:, None] * 10 + places).view(1, 1, 24, 24)
    found = resampled_map(ramp_BCHW, (5, 6), step)
    rows, columns = (torch.arange(count, dtype=torch.float64).add(0.5).mul(step).clamp(min=0.5) for count in (5, 6))
    torch.testing.assert_close(found, (rows[:, None] * 10 + columns).view(1, 1, 5, 6))

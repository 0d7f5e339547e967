"""Tiling policies: their weights sum to one, published rules are met exactly, and our own leaves no seam."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restore.errors import OptionsError
from restore.inference import Restorer, bands
from restore.inference.tiling import TILING_POLICIES, blend_axis, chop_axis, script_axis, tiling_policy


def summed(axis, scale):
    total = np.zeros(axis.size_px * scale, np.float32)
    for start, weights in zip(axis.starts, axis.weights, strict=True):
        total[start * scale : (start + axis.tile_px) * scale] += weights
    return total


@settings(max_examples=150, deadline=None)
@given(
    size=st.integers(1, 700),
    tile=st.integers(1, 300),
    overlap=st.integers(0, 80),
    multiple=st.sampled_from([1, 7, 8, 24]),
    scale=st.sampled_from([1, 2, 3, 4]),
)
def test_blend_covers_with_weights_that_sum_to_exactly_one(size, tile, overlap, multiple, scale):
    axis = blend_axis(size, tile, overlap, multiple, scale)
    assert axis.size_px == size
    assert axis.starts[0] == 0
    assert list(axis.starts) == sorted(set(axis.starts))
    assert axis.weights.min() >= 0
    assert (summed(axis, scale) == 1).all()
    assert len(axis.starts) == 1 or axis.tile_px <= max(tile, multiple)
    if size % multiple == 0:
        assert axis.tile_px % multiple == 0
        assert all(start % multiple == 0 for start in axis.starts)


@pytest.mark.parametrize(("size", "tile", "overlap"), [(600, 256, 32), (513, 512, 32), (1000, 128, 16)])
def test_blend_fades_inside_overlaps_only(size, tile, overlap):
    axis = blend_axis(size, tile, overlap)
    overlaps = [left + axis.tile_px - right for left, right in itertools.pairwise(axis.starts)]
    assert all(overlap <= found <= overlap + len(axis.starts) for found in overlaps)
    fading = [(weights > 0) & (weights < 1) for weights in axis.weights]
    assert not fading[0][: axis.tile_px - overlaps[0]].any()
    assert not fading[-1][overlaps[-1] :].any()
    assert all(weights[0] == 0 for weights in axis.weights[1:])  # the rim of a tile inside the image counts for nothing
    assert axis.weights[0][0] == axis.weights[-1][-1] == 1  # the rim of the image counts in full


@settings(max_examples=60, deadline=None)
@given(size=st.integers(48, 300), scale=st.integers(1, 4), overlap=st.integers(0, 40))
def test_published_weights_sum_to_one(size, scale, overlap):
    for axis in (chop_axis(size, 48, scale), script_axis(size, 48, overlap, scale)):
        assert axis.size_px == size
        np.testing.assert_allclose(summed(axis, scale), 1, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("size", [(40, 72), (72, 41), (64, 64), (23, 90)])
def test_swinir_script_is_the_published_rule(tile_signed, size, scale):
    network = tile_signed(scale, size_multiple=8)
    x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    restorer = Restorer(network, device="cpu", tiling="swinir_script", tile=32, tile_overlap=8)

    # The rule: flip-extend to the next multiple of the window, even from one; square tiles; mean of all over a pixel.
    height, width = ((side // 8 + 1) * 8 for side in size)
    padded = torch.cat([x, x.flip(-2)], -2)[..., :height, :]
    padded = torch.cat([padded, padded.flip(-1)], -1)[..., :width]
    side = min(32, height, width)
    total, count = torch.zeros(2, 1, 3, height * scale, width * scale)
    for top in [*range(0, height - side, side - 8), height - side]:
        for left in [*range(0, width - side, side - 8), width - side]:
            place = (..., *(slice(at * scale, (at + side) * scale) for at in (top, left)))
            total[place] += network(padded[..., top : top + side, left : left + side])
            count[place] += 1
    expected = (total / count)[..., : size[0] * scale, : size[1] * scale]

    torch.testing.assert_close(restorer(x), expected, rtol=0, atol=1e-5)


def chopped(network, x, scale):
    """IPT's forward_chop, region by region as its script fills them in, written down from reading it."""
    height, width = x.shape[-2:]
    rest_y, rest_x = (height - 48) % 12, (width - 48) % 12
    grid_y, grid_x = range(0, height - 47, 12), range(0, width - 47, 12)

    def tile(top, left):
        return network(x[..., top : top + 48, left : left + 48])

    def line(tiles, axis, keep_from, keep_to):
        """Tiles along one axis: the mean of central halves, completed by the first tile."""
        length = (12 * (len(tiles) - 1) + 48) * scale
        shape = list(tiles[0].shape)
        shape[axis] = length
        total, count = torch.zeros(2, *shape)
        for number, part in enumerate(tiles):
            at = 12 * number * scale
            total.narrow(axis, at + keep_from, keep_to - keep_from).add_(
                part.narrow(axis, keep_from, keep_to - keep_from)
            )
            count.narrow(axis, at + keep_from, keep_to - keep_from).add_(1)
        joined = total / count.clamp(min=1)
        joined.narrow(axis, 0, 12 * scale).copy_(tiles[0].narrow(axis, 0, 12 * scale))
        return joined

    def row(top):
        return line([tile(top, left) for left in grid_x], -1, 12 * scale, 36 * scale)

    def column(left):
        return line([tile(top, left) for top in grid_y], -2, 12 * scale, 36 * scale)

    inner = line([row(top) for top in grid_y], -2, 12 * scale, 36 * scale)
    left_strip = inner[..., : 48 * scale]
    left_strip.copy_(torch.where(_outside_centre(left_strip, scale), column(0), left_strip))
    cut_y, cut_x = (48 - rest_y) / 2 * scale, (48 - rest_x) / 2 * scale

    def completed(top_part, bottom_part, cut, axis):
        kept = top_part.narrow(axis, 0, top_part.shape[axis] - int(cut))
        start = int(cut + 0.5)
        return torch.cat([kept, bottom_part.narrow(axis, start, bottom_part.shape[axis] - start)], axis)

    left = completed(inner, row(height - 48), cut_y, -2)
    right = completed(column(width - 48), tile(height - 48, width - 48), cut_y, -2)
    return completed(left, right, cut_x, -1)


def _outside_centre(block, scale):
    """The twelve rows at the top and columns at the left, which the script takes from its left-hand strip."""
    outside = torch.zeros_like(block, dtype=torch.bool)
    outside[..., : 12 * scale, :] = True
    outside[..., : 12 * scale] = True
    return outside


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("size", [(48, 48), (49, 71), (60, 96), (97, 85), (131, 61)])
def test_ipt_chop_is_the_published_rule(tile_signed, size, scale):
    network = tile_signed(scale, min_size=48, tiling="ipt_chop")
    x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(Restorer(network, device="cpu")(x), chopped(network, x, scale), rtol=0, atol=1e-5)


def test_ipt_chop_pads_smaller_images(tile_signed):
    x = torch.rand(1, 3, 20, 50)
    assert Restorer(tile_signed(2, min_size=48, tiling="ipt_chop"), device="cpu")(x).shape == (1, 3, 40, 100)


def test_square128_shows_the_network_a_centred_square(enlarge):
    network = enlarge(1)
    x = torch.rand(1, 3, 100, 150)
    y = Restorer(network, device="cpu", tiling="square128")(x)
    assert network.seen == [(1, 3, 256, 256)]
    torch.testing.assert_close(y, x, rtol=0, atol=0)


def images(size):
    rows, columns = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    yield "constant", torch.full((1, 3, size, size), 0.5)
    yield "ramp", (0.7 * columns + 0.3 * rows).expand(1, 3, -1, -1)
    yield "periodic", (0.5 + 0.4 * torch.sin(40 * rows) * torch.cos(55 * columns)).expand(1, 3, -1, -1)


def steepest(difference):
    """The largest step between neighbouring pixels."""
    return max(difference.diff(dim=-2).abs().max(), difference.diff(dim=-1).abs().max()).item()


@pytest.mark.parametrize("kind", ["constant", "ramp", "periodic"])
def test_blend_leaves_no_seam(deep, kind):
    network = deep(depth=20)  # sees 20 px to each side, more than the overlap gives it
    x = dict(images(150))[kind]
    whole = Restorer(network, device="cpu", tile=None)(x)
    assert steepest(Restorer(network, device="cpu", tile=64, tile_overlap=16)(x) - whole) < 1 / 255


def test_hard_joins_do_leave_seams(deep):
    """The measure of the test above sees what it has to see."""
    x = dict(images(150))["constant"]
    network = deep(depth=20)
    whole = Restorer(network, device="cpu", tile=None)(x)
    assert steepest(Restorer(network, device="cpu", tile=64, tile_overlap=0)(x) - whole) > 2 / 255


def test_outermost_ring_is_that_of_the_whole_image(deep):
    network = deep(depth=3)
    x = torch.rand(1, 3, 90, 70)
    whole = Restorer(network, device="cpu", precision="fp32", tile=None)(x)
    tiled = Restorer(network, device="cpu", precision="fp32", tile=40, tile_overlap=16)(x)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=2e-6)  # three layers see less than the overlap leaves out


@pytest.mark.parametrize("policy", ["blend", "swinir_script"])
def test_one_tile_over_the_image_is_the_whole_image(deep, policy):
    network = deep(size_multiple=8)
    x = torch.rand(1, 3, 41, 40)
    whole = Restorer(network, device="cpu", tiling=policy, tile=None)(x)
    if policy == "blend":
        assert torch.equal(Restorer(network, device="cpu", tile=48)(x), whole)
    else:
        assert torch.equal(Restorer(network, device="cpu", tiling=policy, tile=48, tile_overlap=8)(x), whole)


def test_names():
    assert {"blend", "swinir_script", "ipt_chop", "square128"} <= set(TILING_POLICIES)
    with pytest.raises(OptionsError, match="Did you mean 'ipt_chop'"):
        tiling_policy("ipt_crop")
    with pytest.raises(OptionsError, match="smaller than the tile"):
        script_axis(100, 32, 32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tiling": "square128", "tile": 64}, "square128 takes whole images"),
        ({"tiling": "ipt_chop", "tile": 64}, "ipt_chop has 48 px"),
        ({"tiling": "swinir_script", "tile": 20}, "multiples of the network's window, 8"),
        ({"tiling": "swinir_script", "tile": 32, "tile_overlap": 32}, "smaller than the tile, 32"),
    ],
)
def test_settings_that_do_not_go_together_are_one_error_before_any_image(tile_signed, settings, message):
    network = tile_signed(1, size_multiple=8)
    with pytest.raises(OptionsError, match=message):
        Restorer(network, device="cpu", **settings)


@pytest.mark.parametrize("settings", [{"tile": 20}, {"tile": 32, "tile_overlap": 64}, {"tile": None}, {"tile": "auto"}])
@pytest.mark.parametrize("tiling", ["blend", "ipt_chop", "square128"])
def test_settings_that_go_together(tile_signed, tiling, settings):
    if tiling != "blend" and isinstance(settings["tile"], int):
        return
    restored = Restorer(tile_signed(1, size_multiple=8), device="cpu", tiling=tiling, **settings)
    assert restored(torch.rand(1, 3, 50, 60)).shape == (1, 3, 50, 60)


def test_what_is_held_in_float32_is_a_tile_and_the_rows_below_it():
    plan = TILING_POLICIES["blend"].plan(400, 4000, 100, 16, 1, 2)
    sums = bands._Sums(plan, torch.zeros(1, 3, plan.tall.tile_px * 2, plan.wide.tile_px * 2), 2)
    assert sums._tile.shape[-2:] == (plan.tall.tile_px * 2, plan.wide.tile_px * 2)
    assert sums._below.shape[-2] <= 2 * 2 * 16
    assert sums._below.shape[-1] == 8000

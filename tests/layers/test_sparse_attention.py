"""Closed forms of attention that is cheaper than all to all, and official code where it is at hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from restore.analysis.cost import cost_of
from restore.layers.group_linear import GroupLinear
from restore.layers.mixers.attention.deformable import DeformableAttention, sampled_sum
from restore.layers.mixers.attention.full import SelfAttention
from restore.layers.mixers.attention.hashed import HashAttention
from restore.layers.mixers.attention.linformer import LinearAttention
from restore.layers.mixers.attention.long_short import LongShortAttention
from restore.layers.mixers.attention.outlook import OutlookAttention
from restore.layers.tokens import Tokens

DIM, HEADS = 24, 2


def drawn(module: nn.Module) -> nn.Module:
    """The same module in float64, with every parameter away from its first value."""
    torch.manual_seed(0)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return module


@pytest.mark.parametrize("stride", [1, 2])
def test_outlook_is_that_of_volo(stride):
    volo = pytest.importorskip("timm.models.volo")
    mixer = drawn(OutlookAttention(DIM, HEADS, stride=stride))
    reference = volo.OutlookAttention(DIM, HEADS, stride=stride).double().eval()
    reference.load_state_dict(mixer.state_dict())
    x = torch.randn(2, 7, 10, DIM, dtype=torch.double)
    assert torch.allclose(mixer(x), reference(x), atol=1e-12)


@pytest.mark.parametrize(("stride", "kernel_size"), [(1, 3), (1, 5), (2, 3), (3, 3)])
def test_outlook_that_keeps_each_value_counts_overlaps(stride, kernel_size):
    mixer = drawn(OutlookAttention(DIM, HEADS, kernel_size, stride))
    num = kernel_size**2
    with torch.no_grad():
        mixer.v.weight.copy_(torch.eye(DIM))
        mixer.attn.weight.zero_()
        mixer.attn.bias.copy_((1e6 * torch.eye(num).double() - 1e6).flatten().repeat(HEADS))
    x = torch.randn(1, 6, 9, DIM, dtype=torch.double)
    ones = F.unfold(torch.ones(1, 1, 6, 9).double(), kernel_size, padding=kernel_size // 2, stride=stride)
    counts = F.fold(ones, (6, 9), kernel_size, padding=kernel_size // 2, stride=stride)[0, 0]
    assert torch.allclose(mixer.mix(x), x * counts[..., None], atol=1e-12)
    if (stride, kernel_size) == (1, 3):
        assert counts[2, 3] == 9
        assert counts[0, 0] == 4


def test_centres_cover_the_map():
    with pytest.raises(ValueError, match="stride 4 at most 3"):
        OutlookAttention(DIM, HEADS, 3, 4)


@pytest.mark.parametrize(
    "mixer",
    [
        OutlookAttention(DIM, HEADS),
        LongShortAttention(DIM, HEADS, 4),
        DeformableAttention(DIM, HEADS),
        HashAttention(DIM, HEADS, chunk_size=4),
    ],
    ids=lambda mixer: type(mixer).__name__,
)
def test_the_cost_of_a_position_does_not_grow_with_the_map(mixer):
    small, large = (cost_of(mixer, torch.rand(1, side, side, DIM)).macs for side in (8, 16))
    assert large == pytest.approx(4 * small, rel=0.01)


def test_linear_attention_grows_by_a_straight_line():
    counts = [cost_of(LinearAttention(DIM, HEADS, side=4), torch.rand(1, side, 8, DIM)).macs for side in (8, 16, 24)]
    assert counts[1] - counts[0] == counts[2] - counts[1]
    full = [cost_of(SelfAttention(DIM, HEADS), torch.rand(1, side, 8, DIM)).macs for side in (8, 16, 24)]
    assert full[2] - full[1] > full[1] - full[0]


@pytest.mark.parametrize("dynamic", [False, True])
def test_halves_of_channels_do_not_meet(dynamic):
    mixer = drawn(LongShortAttention(DIM, HEADS, 4, kernel_size=3, dynamic=dynamic))
    x = torch.randn(1, 8, 8, DIM, dtype=torch.double)
    whole, half = mixer(x), DIM // 2
    for zeroed, kept in ((slice(0, half), slice(half, DIM)), (slice(half, DIM), slice(0, half))):
        changed = x.clone()
        changed[..., zeroed] = 0
        assert torch.equal(mixer(changed)[..., kept], whole[..., kept])
        assert not torch.allclose(mixer(changed)[..., zeroed], whole[..., zeroed])


@pytest.mark.parametrize("dynamic", [False, True])
def test_weights_of_the_convolution_sum_to_one(dynamic):
    mixer = drawn(LongShortAttention(DIM, HEADS, 4, kernel_size=5, dynamic=dynamic))
    same = torch.randn(DIM, dtype=torch.double).expand(1, 12, 12, DIM)
    near = mixer.mix(same)[..., DIM // 2 :]
    gated = F.glu(mixer.gated(same[..., DIM // 2 :]), dim=-1)
    assert torch.allclose(near[:, 2:-2, 2:-2], gated[:, 2:-2, 2:-2], atol=1e-12)
    assert (near[:, 0].abs() < gated[:, 0].abs()).all()  # beyond the border are zeros


def test_a_dynamic_kernel_that_is_the_same_everywhere_is_a_learned_one():
    light, dynamic = (drawn(LongShortAttention(DIM, HEADS, 4, kernel_size=3, dynamic=kind)) for kind in (False, True))
    with torch.no_grad():
        dynamic.load_state_dict(light.state_dict(), strict=False)
        dynamic.weigh.weight.zero_()
        dynamic.weigh.bias.copy_(light.kernel.flatten())
    x = torch.randn(1, 8, 4, DIM, dtype=torch.double)
    assert torch.allclose(light(x), dynamic(x), atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_linear_maps_are_block_diagonal(groups):
    torch.manual_seed(0)
    layer = GroupLinear(8, 12, groups).double()
    assert layer.weight.numel() == 8 * 12 // groups
    x = torch.randn(3, 8, dtype=torch.double)
    matrix = torch.autograd.functional.jacobian(lambda each: layer(each), x[0])
    blocks = layer.weight.unflatten(0, (groups, -1))
    assert torch.allclose(matrix, torch.block_diag(*blocks))
    assert torch.allclose(layer(x), F.linear(x, matrix, layer.bias))
    assert layer.in_features == 8


@pytest.mark.parametrize("sizes", [(6, 8), (9, 6)])
def test_groups_divide_channels(sizes):
    with pytest.raises(ValueError, match="must be multiples of 4 groups"):
        GroupLinear(*sizes, 4)


def of_full(full: SelfAttention) -> dict[str, torch.Tensor]:
    """The weights of full attention under other names."""
    state = full.state_dict()
    for kind in ("weight", "bias"):
        parts = state.pop(f"qkv.{kind}").chunk(3)
        state |= {f"{name}.{kind}": part for name, part in zip("qkv", parts, strict=True)}
    return state


@pytest.mark.parametrize("grid", [(4, 4), (3, 4), (1, 2)])
def test_attention_to_as_many_means_as_there_are_positions_is_full(grid):
    full, mixer = drawn(SelfAttention(DIM, HEADS)), LinearAttention(DIM, HEADS, side=4).double()
    mixer.load_state_dict(of_full(full))
    x = torch.randn(2, *grid, DIM, dtype=torch.double)
    assert torch.allclose(mixer(x), full(x), atol=1e-12)
    x = torch.randn(2, 2 + grid[0] * grid[1], DIM, dtype=torch.double)
    assert torch.allclose(mixer(Tokens(x, grid, 2)), full(Tokens(x, grid, 2)), atol=1e-12)
    weight = torch.rand(2, x.shape[1]).double() + 1
    assert torch.allclose(mixer(Tokens(x, None, 2, weight)), full(Tokens(x, None, 2, weight)), atol=1e-12)


def test_learned_projections_that_are_the_identity_are_full_attention():
    full, mixer = drawn(SelfAttention(DIM, HEADS)), LinearAttention(DIM, HEADS, side=4, grid_px=4).double()
    mixer.load_state_dict({**of_full(full), "for_keys": torch.eye(16), "for_values": torch.eye(16)})
    x = torch.randn(2, 4, 4, DIM, dtype=torch.double)
    assert torch.equal(mixer(x), mixer(Tokens.of_map(x)).view(x.shape))
    assert torch.allclose(mixer(x), full(x), atol=1e-12)
    with pytest.raises(ValueError, match="parameters for a grid of 4 x 4"):
        mixer(Tokens.of_map(torch.randn(2, 4, 5, DIM).double()))
    assert mixer(torch.randn(1, 9, 5, DIM).double()).shape == (1, 9, 5, DIM)


def test_what_is_kept_are_means():
    mixer = drawn(LinearAttention(DIM, HEADS, side=2))
    x = torch.randn(1, 4, 6, DIM, dtype=torch.double)
    means = torch.stack([x[:, r : r + 2, c : c + 3].mean((1, 2)) for r in (0, 2) for c in (0, 3)], dim=1)
    q, k, v = (
        layer(each).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for layer, each in ((mixer.q, x.flatten(1, 2)), (mixer.k, means), (mixer.v, means))
    )
    wanted = mixer.proj((((q @ k.mT) / math.sqrt(12)).softmax(-1) @ v).transpose(1, 2).flatten(2))
    assert torch.allclose(mixer(x).flatten(1, 2), wanted, atol=1e-12)


def hashed_by_hand(mixer: HashAttention, x_BNC: torch.Tensor, chunk: int) -> torch.Tensor:
    """Token after token, over plain lists."""
    qs = mixer.q(x_BNC).unflatten(-1, (HEADS, -1)).transpose(1, 2)
    vs = mixer.v(x_BNC).unflatten(-1, (HEADS, -1)).transpose(1, 2)
    buckets, output = mixer.buckets(qs), torch.zeros_like(vs)
    B, h, R, N = buckets.shape
    for b, head in ((b, head) for b in range(B) for head in range(h)):
        q, v = qs[b, head], vs[b, head]
        found, amounts = torch.zeros(R, *v.shape).double(), torch.zeros(R, N).double()
        for r in range(R):
            bucket = buckets[b, head, r].tolist()
            order = sorted(range(N), key=lambda i: (bucket[i], i))
            chunks = [order[i : i + chunk] for i in range(0, N, chunk)]
            for number, own in enumerate(chunks):
                before = chunks[number - 1] if len(chunks) > 1 else []
                for i in own:
                    seen = [j for j in before + own if bucket[j] == bucket[i]]
                    scores = torch.stack([q[i] @ F.normalize(q[j], dim=0) / math.sqrt(len(q[i])) for j in seen])
                    scores = scores - 1e5 * torch.tensor([float(j == i) for j in seen])
                    found[r, i], amounts[r, i] = scores.softmax(0) @ v[seen], scores.logsumexp(0)
        output[b, head] = (amounts.softmax(0)[..., None] * found).sum(0)
    return mixer.proj(output.transpose(1, 2).flatten(2))


@pytest.mark.parametrize(("num_buckets", "chunk", "num"), [(4, 5, 23), (6, 4, 8), (2, 7, 7), (1, 3, 10), (8, 64, 19)])
def test_hash_attention_is_that_of_lists(num_buckets, chunk, num):
    mixer = drawn(HashAttention(DIM, HEADS, num_buckets, chunk, num_rounds=3))
    x = torch.randn(2, num, DIM, dtype=torch.double)
    assert torch.allclose(mixer(Tokens(x)), hashed_by_hand(mixer, x, min(chunk, num)), atol=1e-10)


def test_with_one_bucket_and_one_chunk_hash_attention_is_full():
    mixer = drawn(HashAttention(DIM, HEADS, num_buckets=1, chunk_size=99, num_rounds=2))
    x = torch.randn(2, 3, 5, DIM, dtype=torch.double)
    q, v = (layer(x.flatten(1, 2)).unflatten(-1, (HEADS, -1)).transpose(1, 2) for layer in (mixer.q, mixer.v))
    scores = q @ F.normalize(q, dim=-1).mT / math.sqrt(12) - 1e5 * torch.eye(15)
    weights = scores.softmax(-1)
    assert weights.diagonal(dim1=-2, dim2=-1).max() == 0
    wanted = mixer.proj((weights @ v).transpose(1, 2).flatten(2))
    assert torch.allclose(mixer(x).flatten(1, 2), wanted, atol=1e-12)


def test_a_bucket_is_a_direction():
    mixer = drawn(HashAttention(DIM, HEADS, num_buckets=8, num_rounds=3))
    q = torch.randn(2, HEADS, 40, 12, dtype=torch.double)
    buckets = mixer.buckets(q)
    assert torch.equal(buckets, mixer.buckets(q * torch.rand(2, HEADS, 40, 1).double() * 9 + 0 * q))
    assert torch.equal(mixer.buckets(-q), (buckets + 4) % 8)
    assert len(buckets.unique()) == 8


def test_merged_tokens_count_as_often_as_they_stand_for():
    mixer = drawn(HashAttention(DIM, HEADS, num_buckets=1, chunk_size=99))
    x = torch.randn(1, 9, DIM, dtype=torch.double)
    twice, weight = Tokens(torch.cat([x, x[:, -1:]], 1)), torch.ones(1, 9).double()
    weight[:, -1] = 2
    merged = mixer(Tokens(x, weight_BN=weight))
    assert torch.allclose(merged[:, :-1], mixer(twice)[:, :-2], atol=1e-10)


def test_points_that_stay_at_home_and_count_alike_sample_the_map():
    mixer = drawn(DeformableAttention(DIM, HEADS, num_points=3, num_levels=2))
    with torch.no_grad():
        for layer in (mixer.sampling_offsets, mixer.attention_weights):
            layer.weight.zero_()
            layer.bias.zero_()
    x = torch.randn(1, 6, 8, DIM, dtype=torch.double)
    coarse = F.avg_pool2d(x.permute(0, 3, 1, 2), 2)
    places = F.affine_grid(torch.eye(2, 3)[None].double(), (1, 1, 6, 8), align_corners=False)
    upsampled = F.grid_sample(coarse, places, align_corners=False).permute(0, 2, 3, 1)
    seen = F.grid_sample(torch.ones_like(coarse[:, :1]), places, align_corners=False).permute(0, 2, 3, 1)
    values = (mixer.value_proj(x) + F.linear(upsampled, mixer.value_proj.weight) + mixer.value_proj.bias * seen) / 2
    assert torch.allclose(mixer(x), mixer.output_proj(values), atol=1e-12)


def test_sampling_is_bilinear():
    torch.manual_seed(0)
    maps = [torch.randn(2, 4, 5, HEADS, 3).double(), torch.randn(2, 2, 3, HEADS, 3).double()]
    places, weights = torch.rand(2, 7, HEADS, 2, 3, 2).double() * 1.2 - 0.1, torch.rand(2, 7, HEADS, 2, 3).double()
    wanted = torch.zeros(2, 7, HEADS, 3).double()
    for b, query, head, level, point in np.ndindex(*weights.shape):
        value = maps[level][b, :, :, head]
        column = places[b, query, head, level, point, 0].item() * value.shape[1] - 0.5
        row = places[b, query, head, level, point, 1].item() * value.shape[0] - 0.5
        for r, c in ((math.floor(row) + dr, math.floor(column) + dc) for dr in (0, 1) for dc in (0, 1)):
            if 0 <= r < value.shape[0] and 0 <= c < value.shape[1]:
                share = (1 - abs(row - r)) * (1 - abs(column - c))
                wanted[b, query, head] += weights[b, query, head, level, point] * share * value[r, c]
    assert torch.allclose(sampled_sum(maps, places, weights), wanted, atol=1e-12)


def test_points_begin_in_the_directions_of_heads():
    mixer = DeformableAttention(32, 8, num_points=2)
    offsets = mixer.sampling_offsets.bias.detach().view(8, 1, 2, 2)
    assert torch.allclose(offsets[:, 0, 0].abs().amax(-1), torch.ones(8))
    assert torch.allclose(offsets[:, 0, 1], 2 * offsets[:, 0, 0])
    assert torch.allclose(offsets[0, 0, 0], torch.tensor([1.0, 0.0]))
    assert torch.allclose(offsets[2, 0, 0], torch.tensor([0.0, 1.0]), atol=1e-6)


def test_deformable_attention_is_that_of_the_official_code(shared, fill):
    stored = np.load(shared("fixtures/encoders/ms_deform_attn__small.npz"))
    mixer = DeformableAttention(32, 4, num_points=3, num_levels=2).eval()
    state = {
        key: torch.from_numpy(np.asarray(fill.fill_array(key, tuple(value.shape), int(stored["seed"]))))
        for key, value in mixer.state_dict().items()
    }
    assert {*state} == {*stored["keys"].tolist()}
    mixer.load_state_dict(state)
    fine, coarse = torch.from_numpy(stored["value"]).split([96, 24], dim=1)
    maps = [fine.view(2, 8, 12, 32), coarse.view(2, 4, 6, 32)]
    query, references = (torch.from_numpy(stored[name]) for name in ("query", "reference_points"))
    found = mixer.project(mixer.attend(query, references, maps))
    assert np.abs(found.detach().numpy() - stored["output"]).max() <= 1e-5 * np.abs(stored["output"]).max()

"""Closed forms of attention and its relatives, and official code where a library has it."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.mixers.attention.class_token import ClassAttention
from restore.layers.mixers.attention.cosine_window import CosineWindowAttention
from restore.layers.mixers.attention.full import AttentionPosition, SelfAttention
from restore.layers.mixers.attention.refined import RefinedAttention
from restore.layers.mixers.attention.resized_tokens import ResizedTokens, standard_places
from restore.layers.mixers.attention.semantic_tokens import SemanticTokens
from restore.layers.mixers.attention.talking_heads import TalkingHeads
from restore.layers.mixers.mlp.random import RandomMixing
from restore.layers.relative_position import ContextualBias, ContinuousBias, TableBias
from restore.layers.tokens import Tokens

DIM, HEADS = 24, 2
POSITIONS = get_args(AttentionPosition)


def drawn(module: nn.Module) -> nn.Module:
    """The same module in float64, with every parameter away from its first value."""
    torch.manual_seed(0)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return module


def plain(mixer: SelfAttention, x_BNC: torch.Tensor, added=0.0, value=lambda v: 0.0) -> torch.Tensor:
    """Softmax of scores and what is added to them, times values, written out."""
    q, k, v = mixer.qkv(x_BNC).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-2, -1) / math.sqrt(DIM // HEADS) + added
    return mixer.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2) + value(v))


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("cosine", [False, True])
def test_positions_are_for_grids_of_any_size_and_leave_tokens_before_them_alone(position, cosine):
    mixer = drawn(SelfAttention(DIM, HEADS, position=position, cosine=cosine, grid_side=5))
    for grid in ((5, 5), (1, 1), (3, 8)):
        num = grid[0] * grid[1]
        x = torch.randn(2, 2 + num, DIM, dtype=torch.double)
        together = mixer(Tokens(x, grid, 2))
        swapped = mixer(Tokens(torch.cat([x[:, [1, 0]], x[:, 2:]], 1), grid, 2))
        assert together.shape == x.shape
        assert torch.allclose(together[:, 2:], swapped[:, 2:], atol=1e-10)
        assert torch.allclose(together[:, [1, 0]], swapped[:, :2], atol=1e-10)


@pytest.mark.parametrize("position", POSITIONS)
def test_only_positions_tell_permuted_patches_apart(position):
    mixer = drawn(SelfAttention(DIM, HEADS, position=position, grid_side=4))
    x = torch.randn(1, 16, DIM, dtype=torch.double)
    order = torch.randperm(16)
    one, other = (mixer(Tokens(each, (4, 4))) for each in (x, x[:, order]))
    assert torch.allclose(one[:, order], other, atol=1e-10) == (position == "none")


def test_adding_one_number_to_all_scores_of_a_row_changes_nothing():
    mixer = drawn(SelfAttention(DIM, HEADS))
    x = torch.randn(2, 9, DIM, dtype=torch.double)
    of_rows = torch.randn(2, HEADS, 9, 1, dtype=torch.double)
    assert torch.allclose(plain(mixer, x, of_rows), mixer(Tokens(x)), atol=1e-12)


def test_positions_want_a_grid():
    x = torch.randn(1, 7, DIM)
    assert SelfAttention(DIM, HEADS)(Tokens(x)).shape == x.shape
    for position in ("peg", "table", "irpe", "lepe", "sinusoid", "log_cpb"):
        with pytest.raises(ValueError, match="do not lie on a grid"):
            SelfAttention(DIM, HEADS, position=position)(Tokens(x))


@pytest.mark.parametrize("kind", ["table", "log_cpb", "irpe"])
def test_relative_positions_are_added_to_the_scores(kind):
    mixer = drawn(SelfAttention(DIM, HEADS, position=kind, grid_side=3))
    x = torch.randn(2, 12, DIM, dtype=torch.double)
    q = mixer.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)[0] / math.sqrt(DIM // HEADS)
    added = mixer.relative.scores(q, (3, 4))
    assert added.abs().min() > 0
    assert torch.allclose(mixer(Tokens(x, (3, 4))), plain(mixer, x, added), atol=1e-12)


def test_with_equal_scores_a_table_makes_a_normalised_convolution_with_its_exponentials():
    """CoAtNet's reading of relative attention: away from the border, softmax of the table is a kernel."""
    side = 7
    mixer = drawn(SelfAttention(DIM, HEADS, position="table", grid_side=side))
    with torch.no_grad():
        mixer.qkv.weight[: 2 * DIM], mixer.qkv.bias[: 2 * DIM] = 0, 0
        mixer.relative.table.fill_(-1000)  # all but 3 x 3 is out of reach
        kernel = torch.randn(3, 3, HEADS, dtype=torch.double)
        table = mixer.relative.table.view(2 * side - 1, 2 * side - 1, HEADS)
        table[side - 2 : side + 1, side - 2 : side + 1] = kernel.flip(0, 1)
    x = torch.randn(1, side, side, DIM, dtype=torch.double)
    values = mixer.qkv(x)[..., 2 * DIM :].permute(0, 3, 1, 2)
    weights = kernel.flatten(0, 1).softmax(0).T.repeat_interleave(DIM // HEADS, 0).view(DIM, 1, 3, 3)
    wanted = mixer.proj(F.conv2d(values, weights, groups=DIM).permute(0, 2, 3, 1))
    assert torch.allclose(mixer(x)[:, 1:-1, 1:-1], wanted, atol=1e-12)


def test_the_continuous_bias_is_one_function_of_the_way_for_all_sizes():
    bias = drawn(ContinuousBias(HEADS, 4))
    small, large = bias.of_grid((4, 4)), bias.of_grid((6, 9)).view(HEADS, 6, 9, 6, 9)
    assert 0 < large.min() < large.max() < 16
    assert torch.allclose(large[:, :4, :4, :4, :4].reshape(small.shape), small, atol=1e-12)
    assert torch.allclose(large[:, 1:5, 2:6, 1:5, 2:6].reshape(small.shape), small, atol=1e-12)


def test_tables_are_resized():
    bias = TableBias(HEADS, 3).double()
    with torch.no_grad():
        bias.table.fill_(0.7)
    assert torch.allclose(bias.scores(torch.empty(0), (5, 2)), torch.full((HEADS, 10, 10), 0.7).double())


def test_kinds_of_ways_are_those_of_the_paper():
    bias = ContextualBias(12)
    assert bias.lookup_table_weight.shape == (1, 12, 49)
    rows = (bias.kinds((30, 1)) // 7 - 3)[0]
    assert rows[:3].tolist() == [0, -1, -2]  # exact up to 1.9, then rounded
    assert rows[-1] == -3
    assert (rows.diff() <= 0).all()
    kinds = bias.kinds((4, 5))
    assert torch.equal(kinds + kinds.T, torch.full((20, 20), 48))  # the way back is the other side of the middle
    with torch.no_grad():
        bias.lookup_table_weight.normal_()
        q = torch.randn(2, 3, 20, 12)
        scores = bias.scores(q, (4, 5))
        for i, j in ((0, 0), (3, 17), (19, 2)):
            assert torch.allclose(scores[:, :, i, j], q[:, :, i] @ bias.lookup_table_weight[0, :, kinds[i, j]])


def test_a_convolution_that_sees_nothing_adds_no_position():
    x = torch.randn(1, 3, 4, DIM, dtype=torch.double)
    for position, name in (("peg", "place.conv"), ("lepe", "lepe")):
        mixer = drawn(SelfAttention(DIM, HEADS, position=position))
        with torch.no_grad():
            for parameter in mixer.get_submodule(name).parameters():
                parameter.zero_()
        assert torch.allclose(mixer(x).flatten(1, 2), plain(mixer, x.flatten(1, 2)), atol=1e-12)
    mixer = drawn(SelfAttention(DIM, HEADS, position="lepe"))

    def near(v):
        return mixer.lepe(v.transpose(-2, -1).reshape(1, DIM, 3, 4)).flatten(2).transpose(1, 2)

    assert torch.allclose(mixer(x).flatten(1, 2), plain(mixer, x.flatten(1, 2), value=near), atol=1e-12)


def test_lengths_of_queries_and_keys_do_not_count_for_cosines():
    mixer = drawn(SelfAttention(DIM, HEADS, cosine=True, position="log_cpb"))
    x = torch.randn(2, 3, 4, DIM, dtype=torch.double)
    before = mixer(x)
    with torch.no_grad():
        for factor, part in ((5.0, slice(0, DIM)), (0.3, slice(DIM, 2 * DIM))):
            mixer.qkv.weight[part] *= factor
            mixer.qkv.bias[part] *= factor
    assert torch.allclose(mixer(x), before, atol=1e-10)


def test_talking_heads_are_those_of_cait():
    cait = pytest.importorskip("timm.models.cait")
    mixer, reference = drawn(TalkingHeads(DIM, HEADS)), cait.TalkingHeadAttn(DIM, HEADS, qkv_bias=True).double().eval()
    reference.load_state_dict(mixer.state_dict())
    x = torch.randn(2, 7, DIM, dtype=torch.double)
    assert torch.allclose(mixer(Tokens(x)), reference(x), atol=1e-12)


def test_heads_that_do_not_talk_are_attention():
    torch.manual_seed(0)
    mixer, attention = TalkingHeads(DIM, HEADS), SelfAttention(DIM, HEADS)
    attention.load_state_dict(mixer.state_dict(), strict=False)
    x = torch.randn(2, 3, 5, DIM)
    assert torch.allclose(mixer(x), attention(x), atol=1e-6)


def test_a_refinement_that_adds_nothing_leaves_maps_as_they_are():
    mixer = drawn(RefinedAttention(DIM, HEADS))
    x = torch.randn(2, 3, 5, DIM, dtype=torch.double)
    with torch.no_grad():
        for norm in (mixer.DLA.bn3, mixer.adapt_bn):
            norm.weight.fill_(math.sqrt(1 + norm.eps))
            norm.bias.zero_()
        mixer.DLA.bn3.weight.zero_()
    assert torch.allclose(mixer(x).flatten(1, 2), plain(mixer, x.flatten(1, 2)), atol=1e-12)
    assert torch.allclose(mixer.map_and_values(Tokens.of_map(x))[0].sum(-1), torch.ones(()).double(), atol=1e-12)


def test_convolving_maps_is_attending_to_correlated_values():
    """(A * K) V = A (K corr V), with a kernel along what is looked at and zeros beyond the map."""
    torch.manual_seed(0)
    A, V, kernel = torch.rand(5, 9).double(), torch.randn(9, 4).double(), torch.randn(3).double()
    refine = RefinedAttention(4, 1, expansion=1).DLA.double().eval()
    with torch.no_grad():
        for norm in (refine.bn1, refine.bn2, refine.bn3):  # which then change nothing
            norm.weight.fill_(math.sqrt(1 + norm.eps))
        refine.conv_exp.weight.fill_(1)
        refine.conv_pro.weight.fill_(1)
        refine.depth_sep_conv.weight.zero_()
        refine.depth_sep_conv.weight[0, 0, 1] = kernel.abs()  # positive, so that no activation cuts
        convolved = refine(A[None, None])[0, 0]
    correlated = sum(
        F.pad(V, (0, 0, 1, 1))[2 - step : 2 - step + len(V)] * kernel.abs()[step] for step in range(3)
    )  # A at j + step - 1 counts for j, so V at j counts for what is looked at from there
    assert torch.allclose(convolved @ V, A @ correlated, atol=1e-12)


def test_class_attention_is_that_of_cait_and_leaves_patches_alone():
    cait = pytest.importorskip("timm.models.cait")
    mixer, reference = drawn(ClassAttention(DIM, HEADS)), cait.ClassAttn(DIM, HEADS, qkv_bias=True).double().eval()
    reference.load_state_dict(mixer.state_dict())
    x = torch.randn(2, 13, DIM, dtype=torch.double)
    output = mixer(Tokens(x, (3, 4), 1))
    assert torch.allclose(output[:, :1], reference(x), atol=1e-12)
    assert torch.equal(output[:, 1:], torch.zeros(2, 12, DIM).double())
    assert torch.equal(mixer.pool(Tokens(x, (3, 4), 1)), output[:, 0])


def test_pooling_by_class_attention_takes_sets():
    mixer = drawn(ClassAttention(DIM, HEADS))
    x = torch.randn(2, 12, DIM, dtype=torch.double)
    pooled = mixer.pool(Tokens(x, (3, 4)))
    assert torch.allclose(mixer.pool(Tokens(x[:, torch.randperm(12)])), pooled, atol=1e-12)
    assert torch.allclose(mixer(x.unflatten(1, (3, 4))), pooled[:, None, None].expand(-1, 3, 4, -1), atol=1e-12)
    twice, weight = torch.cat([x, x[:, -1:]], dim=1), torch.ones(2, 12).double()
    weight[:, -1] = 2
    assert torch.allclose(mixer.pool(Tokens(x, weight_BN=weight)), mixer.pool(Tokens(twice)), atol=1e-12)
    assert mixer.pool(Tokens(x[:, :1])).shape == (2, DIM)


@pytest.mark.parametrize("pretrained", [None, 3])
def test_cosine_windows_are_those_of_swin_v2(pretrained):
    swin = pytest.importorskip("timm.models.swin_transformer_v2")
    mixer = drawn(CosineWindowAttention(DIM, HEADS, 4, pretrained_window_size=pretrained))
    reference = swin.WindowAttention(DIM, (4, 4), HEADS, pretrained_window_size=(pretrained or 0,) * 2).double().eval()
    loaded = reference.load_state_dict(mixer.state_dict(), strict=False)
    assert not loaded.unexpected_keys
    reference.relative_coords_table = reference.relative_coords_table.double()
    windows = torch.randn(3, 16, DIM, dtype=torch.double)
    wanted = reference(windows).view(3, 4, 4, DIM)
    assert torch.allclose(mixer(windows.view(3, 4, 4, DIM)), wanted, atol=1e-6)  # its table is of float32


def test_lengths_of_queries_and_keys_do_not_count_in_cosine_windows():
    mixer = drawn(CosineWindowAttention(DIM, HEADS, 4, shifted=True))
    x = torch.randn(2, 8, 12, DIM, dtype=torch.double)
    before = mixer(x)
    with torch.no_grad():
        mixer.qkv.weight[:DIM] *= 7
        mixer.q_bias *= 7
        mixer.qkv.weight[DIM : 2 * DIM] *= 0.2
    assert torch.allclose(mixer(x), before, atol=1e-10)


def test_semantic_tokens_are_means_of_positions():
    mixer = drawn(SemanticTokens(DIM, num_tokens=3, token_dim=10))
    x = torch.randn(2, 30, DIM, dtype=torch.double)
    tokens, values = mixer.tokenizer(Tokens(x)), mixer.tokenizer.v(x)
    assert (tokens >= values.amin(1, keepdim=True)).all()
    assert (tokens <= values.amax(1, keepdim=True)).all()
    same = torch.ones(1, 5, 6, 1).double() * torch.randn(DIM, dtype=torch.double)
    wanted = mixer.tokenizer.v(same[:, 0, :1]).expand(-1, 3, -1)
    assert torch.allclose(mixer.tokenizer(Tokens.of_map(same)), wanted, atol=1e-12)


@pytest.mark.parametrize("recurrent", [False, True])
def test_semantic_tokens_see_a_set(recurrent):
    mixer = drawn(SemanticTokens(DIM, 4, recurrent=recurrent))
    x, order = torch.randn(2, 30, DIM, dtype=torch.double), torch.randperm(30)
    assert torch.allclose(mixer.semantic(Tokens(x)), mixer.semantic(Tokens(x[:, order])), atol=1e-12)
    assert torch.allclose(mixer(Tokens(x))[:, order], mixer(Tokens(x[:, order])), atol=1e-12)
    merged, weight = Tokens(torch.cat([x, x[:, -1:]], 1)), torch.ones(2, 30).double()
    weight[:, -1] = 2
    assert torch.allclose(mixer(merged)[:, :30], mixer(Tokens(x, weight_BN=weight)), atol=1e-12)
    with torch.no_grad():
        mixer.proj.weight.zero_()
        mixer.proj.bias.zero_()
    assert torch.equal(mixer(Tokens(x)), torch.zeros_like(x))


def test_semantic_tokens_are_the_formulas():
    mixer = drawn(SemanticTokens(DIM, 4, token_dim=9))
    x = torch.randn(1, 12, DIM, dtype=torch.double)
    T = mixer.tokenizer.filters(x).softmax(1).transpose(1, 2) @ mixer.tokenizer.v(x)
    tr = mixer.transformer
    T = T + (tr.k(T) @ tr.q(T).transpose(1, 2) / 3).softmax(-1) @ T
    T = T + tr.fc2(tr.fc1(T).relu())
    wanted = mixer.proj((mixer.q(x) @ mixer.k(T).transpose(1, 2) / 3).softmax(-1) @ T)
    assert torch.allclose(mixer(Tokens(x)), wanted, atol=1e-12)


def test_resized_tokens_are_those_of_the_official_code(shared, fill):
    stored = np.load(shared("fixtures/encoders/hrnas_transformer__small.npz"))
    mixer = ResizedTokens(16, num_tokens=6, antialias=False).eval()
    renamed = {"input_norm": "input_proj.bn", "reverse_norm": "reverse_proj.bn", "in_proj_weight": "qkv.weight"}
    state = {}
    for key, shape in zip(stored["keys"].tolist(), stored["shapes"].tolist(), strict=True):
        own = key.replace("out_proj", "proj").replace("linear", "fc")
        own = own.replace("self_attn.", "").replace("multihead_attn.", "")
        for official, ours in renamed.items():
            own = own.replace(official, ours)
        if "num_batches" not in key:
            values = fill.fill_array(key, tuple(json_list(shape)), int(stored["seed"]))
            state[own] = torch.from_numpy(np.asarray(values)).view(mixer.state_dict()[own].shape)
    mixer.load_state_dict(state, strict=False)
    assert {key for key in mixer.state_dict() if "num_batches" not in key} == {*state}
    x = torch.from_numpy(stored["input"])
    found = x + mixer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    assert (found - torch.from_numpy(stored["output"])).abs().max() <= 1e-5 * np.abs(stored["output"]).max()


def json_list(shape) -> list[int]:
    """A shape that is stored as text."""
    import json

    return json.loads(shape) if isinstance(shape, str) else list(shape)


def test_resized_tokens_take_any_size_at_one_cost():
    mixer = drawn(ResizedTokens(DIM, 4, side=3))
    for size in ((1, 1), (2, 9), (40, 7)):
        assert mixer(torch.randn(1, *size, DIM).double()).shape == (1, *size, DIM)
    with torch.no_grad():
        mixer.reverse_proj.bn.weight.zero_()
        mixer.reverse_proj.bn.bias.zero_()
    assert not mixer(torch.randn(1, 5, 5, DIM).double()).any()
    places = standard_places(5, 8)
    assert torch.allclose(places.mean((0, 1)), torch.zeros(2), atol=1e-6)
    assert torch.allclose(places.std((0, 1), correction=0), torch.ones(2), atol=1e-6)
    assert not standard_places(1, 1).any()


def test_random_mixing_takes_means_by_numbers_that_are_not_learned():
    mixer = RandomMixing(DIM, grid_px=5)
    assert not list(mixer.parameters())
    assert torch.allclose(mixer.random_matrix.sum(1), torch.ones(25))
    assert (mixer.random_matrix > 0).all()
    assert [*mixer.state_dict()] == ["random_matrix"]
    constant = torch.randn(DIM).expand(2, 10, 5, DIM)
    assert torch.allclose(mixer(constant), constant, atol=1e-6)
    x = torch.randn(1, 5, 5, DIM)
    assert torch.allclose(mixer(x).flatten(1, 2), mixer.random_matrix @ x.flatten(1, 2), atol=1e-6)

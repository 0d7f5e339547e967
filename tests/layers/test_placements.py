"""Where norms stand, closed forms of the constants, and that any branch keeps its scale under Sub-LN."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from restore.layers.block import MetaFormerBlock
from restore.layers.build import build_placement
from restore.layers.ffn import MLP
from restore.layers.mixers.attention.full import SelfAttention
from restore.layers.mixers.convolution.local import SeparableConvolution
from restore.registry import PLACEMENTS

DIM = 24


def block(placement, *, mixer=None, feed_forward=None, **options) -> MetaFormerBlock:
    torch.manual_seed(0)
    built = MetaFormerBlock(
        DIM,
        mixer or SelfAttention(DIM, 2),
        feed_forward or MLP(DIM, 2),
        placement=placement,
        layer_scale=0.7,
        **options,
    )
    with torch.no_grad():
        for norm in (built.norm1, built.norm2):
            norm.weight.uniform_(0.5, 2)
            norm.bias.normal_()
    return built


def formulas(b: MetaFormerBlock, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Each placement written out, for a block of any of them."""
    alpha = (2 * b.placement.num_blocks) ** 0.25

    def f1(y):
        return 0.7 * b.mixer(y)

    def f2(y):
        return 0.7 * b.ffn(y)

    n1, n2 = b.norm1, b.norm2
    middle = x + f1(n1(x))
    pre = middle + f2(n2(middle))
    middle = n1(x + f1(x))
    post = n2(middle + f2(middle))
    middle = n1(alpha * x + f1(x))
    deep = n2(alpha * middle + f2(middle))
    middle = x + 0.7 * n1(b.mixer(x))
    res_post = middle + 0.7 * n2(b.ffn(middle))
    parallel = x + f1(n1(x)) + f2(n2(x))
    return {"pre": pre, "sub-ln": pre, "post": post, "deepnorm": deep, "res-post": res_post, "parallel": parallel}


@pytest.mark.parametrize("name", PLACEMENTS.names())
def test_a_block_is_its_formula(name):
    built = block(name, index=3, num_blocks=7)
    x = torch.randn(2, 3, 5, DIM)
    assert torch.allclose(built(x), formulas(built, x)[name], atol=1e-5)


@pytest.mark.parametrize("name", PLACEMENTS.names())
def test_branches_joined_are_the_block(name):
    built = block(name, num_blocks=4)
    x = torch.randn(2, 3, 5, DIM)
    first = built.join(0, x, built.branch(0, x))
    both = built.join(1, first, built.branch(1, x if name == "parallel" else first))
    assert torch.equal(both, built(x))


@pytest.mark.parametrize("name", ["pre", "res-post", "sub-ln", "parallel"])
def test_the_residual_is_the_stream_itself(name):
    built = block(name)
    x = torch.randn(2, 3, 5, DIM)
    assert torch.equal(built.join(0, x, built.branch(0, x)), x + built.branch(0, x))


def test_branches_make_a_body_that_can_be_run_backwards():
    built = block("pre").double()
    first, second = torch.randn(2, 2, 3, 5, DIM, dtype=torch.double)
    with torch.no_grad():
        one = first + built.branch(0, second)
        two = second + built.branch(1, one)
        back = two - built.branch(1, one)
        assert torch.allclose(back, second, atol=1e-12)
        assert torch.allclose(one - built.branch(0, back), first, atol=1e-12)


def test_parallel_has_the_parameters_of_pre():
    shapes = [{key: value.shape for key, value in block(name).state_dict().items()} for name in ("pre", "parallel")]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("num_blocks", "alpha", "beta"), [(12, 2.2134, 0.3195), (100, 3.7606, 0.1880), (1, 2**0.25, 8**-0.25)]
)
def test_deepnorm_constants(num_blocks, alpha, beta):
    placement = build_placement("deepnorm", 0, num_blocks)
    assert placement.alpha == pytest.approx(alpha, abs=5e-5)
    assert placement.gain == pytest.approx(beta, abs=5e-5)


@pytest.mark.parametrize(("num_blocks", "gain"), [(12, 1.7827), (24, 1.9675), (1, math.sqrt(math.log(2)))])
def test_sub_ln_constants(num_blocks, gain):
    assert build_placement("sub-ln", 0, num_blocks).gain == pytest.approx(gain, abs=5e-5)


@pytest.mark.parametrize("name", ["deepnorm", "sub-ln"])
def test_weights_are_drawn_by_depth(name):
    dim, N = 192, 12
    torch.manual_seed(0)
    built = MetaFormerBlock(dim, {"type": "attention", "num_heads": 3}, "mlp", placement=name, num_blocks=N)
    gain = {"deepnorm": (8 * N) ** -0.25, "sub-ln": math.sqrt(math.log(2 * N))}[name]
    queries, keys, values = built.mixer.qkv.weight.chunk(3)
    expected = {
        "queries": (queries, 1, dim + dim),
        "keys": (keys, 1, dim + dim),
        "values": (values, gain, dim + dim),
        "projection": (built.mixer.proj.weight, gain, dim + dim),
        "fc1": (built.ffn.fc1.weight, gain, 5 * dim),
        "fc2": (built.ffn.fc2.weight, gain, 5 * dim),
    }
    for what, (weight, times, fans) in expected.items():
        assert weight.std().item() == pytest.approx(times * math.sqrt(2 / fans), rel=0.02), what


@pytest.mark.parametrize("name", ["pre", "post", "res-post", "parallel"])
def test_other_placements_leave_weights_alone(name):
    torch.manual_seed(0)
    mixer, feed_forward = SelfAttention(DIM, 2), MLP(DIM, 2)
    before = [p.clone() for p in (*mixer.parameters(), *feed_forward.parameters())]
    MetaFormerBlock(DIM, mixer, feed_forward, placement=name, num_blocks=12)
    assert all(map(torch.equal, before, (*mixer.parameters(), *feed_forward.parameters())))


def test_linear_maps_are_views_of_every_weight_but_depth_wise_ones():
    mixer = SeparableConvolution(DIM, 3)
    assert [tuple(weight.shape) for weight, _ in mixer.linear_maps()] == [(2 * DIM, DIM), (DIM, 2 * DIM)]
    attention = SelfAttention(DIM, 2)
    assert [of_values for _, of_values in attention.linear_maps()] == [False, False, True, True]
    assert all(weight.data_ptr() for weight, _ in attention.linear_maps())
    next(attention.linear_maps())[0].data.fill_(3)
    assert (attention.qkv.weight[:DIM] == 3).all()


def test_sub_ln_stands_before_both_output_projections():
    built = block("sub-ln", feed_forward=MLP(DIM, 2, activation="relu"))
    plain = block("pre", feed_forward=MLP(DIM, 2, activation="relu"))
    extra = sum(p.numel() for p in built.parameters()) - sum(p.numel() for p in plain.parameters())
    assert extra == 2 * DIM + 2 * built.ffn.inner_dim
    assert [key for key in built.state_dict() if "inner" in key] == [
        "mixer.inner_norm.weight",
        "mixer.inner_norm.bias",
        "ffn.inner_norm.weight",
        "ffn.inner_norm.bias",
    ]
    x = torch.randn(2, 3, 5, DIM)
    nn.init.zeros_(built.mixer.qkv.bias)
    nn.init.zeros_(built.ffn.fc1.bias)
    with torch.no_grad():
        for norm in (built.mixer.inner_norm, built.ffn.inner_norm):
            norm.eps = 0.0
        before = built.branch(0, x), built.branch(1, x)
        built.mixer.qkv.weight[2 * DIM :] *= 5  # values
        built.ffn.fc1.weight *= 5
        after = built.branch(0, x), built.branch(1, x)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(before, after, strict=True))


def first_step(placement: str, num_blocks: int) -> float:
    """Relative change of the output of a pile of blocks when their matrices make one step of gradient descent."""
    torch.manual_seed(0)
    body = nn.Sequential()
    for index in range(num_blocks):
        mixer, feed_forward = SelfAttention(DIM, 2), MLP(DIM, 4)
        options = {"placement": placement, "index": index, "num_blocks": num_blocks}
        body.append(MetaFormerBlock(DIM, mixer, feed_forward, **options))
        for branch in (mixer, feed_forward) if placement != "deepnorm" else ():
            for weight, _ in branch.linear_maps():
                nn.init.xavier_normal_(weight)
            for bias in branch.linear_biases():
                nn.init.zeros_(bias)
    x, target = torch.randn(2, 2, 8, 4, DIM)
    before = body(x)
    (before * target).mean().backward()
    with torch.no_grad():
        for weight in body.parameters():
            if weight.ndim > 1:
                weight -= 0.1 * weight.grad
        return ((body(x) - before).norm() / before.norm()).item()


def test_the_first_step_of_deepnorm_is_the_same_at_any_depth():
    shallow, deep = first_step("deepnorm", 6), first_step("deepnorm", 48)
    assert deep == pytest.approx(shallow, rel=0.25)
    assert first_step("post", 6) > 10 * shallow
    assert first_step("pre", 48) > 10 * first_step("pre", 6)


@pytest.mark.parametrize(("index", "num_blocks"), [(2, 2), (-1, 3)])
def test_blocks_are_counted_from_0(index, num_blocks):
    with pytest.raises(ValueError, match=f"block {index} of {num_blocks}: blocks are counted from 0"):
        build_placement("pre", index, num_blocks)

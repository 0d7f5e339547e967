"""Layer norm by the shared library gives what torch's operator gives, forward and backward."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.compiled import library, norm
from restore.layers.compiled.norm import compiled_layer_norm
from restore.layers.layer_norm import LayerNorm

BEST = library._library.processor
PROCESSORS = [1] if BEST == 1 else range(2, BEST + 1)


@pytest.fixture(params=PROCESSORS or [0], ids=lambda index: library.PROCESSORS[index], autouse=True)
def processor(request, monkeypatch):
    """Each kind of code that this processor can run, for maps of any size."""
    if library._library.functions is None:
        pytest.skip(f"layer norm is not compiled: {library._library.reason}")
    monkeypatch.setattr(library, "_library", library._library._replace(processor=request.param))
    monkeypatch.setattr(norm, "FEWEST_NUMBERS", 1)


def given(shape, dtype=torch.float32, affine=True):
    torch.manual_seed(sum(shape))
    x = torch.randn(shape).mul(3).add(1).to(dtype).requires_grad_()
    weight, bias = (torch.randn(shape[-1]).requires_grad_() if affine else None for _ in range(2))
    return x, weight, bias, torch.randn(shape).to(dtype)


def results(function, x, weight, bias, gradient):
    """What comes out, and the gradients of what went in."""
    wanted = [each for each in (x, weight, bias) if each is not None]
    out = function(x, weight, bias)
    return [out, *torch.autograd.grad(out, wanted, gradient)]


def in_float64(x, weight, bias, gradient):
    doubled = [None if each is None else each.detach().double().requires_grad_() for each in (x, weight, bias)]
    return results(lambda *all_: F.layer_norm(all_[0], x.shape[-1:], *all_[1:]), *doubled, gradient.double())


def error(one, other):
    return float((one.double() - other).detach().abs().max() / other.detach().abs().max().clamp(min=1e-3))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("channels", [2, 3, 4, 7, 8, 15, 16, 17, 31, 33, 60, 64, 65, 96, 180, 513])
def test_float32_is_the_formula_forward_and_backward(channels, affine):
    problem = given((2, 5, 7, channels), affine=affine)
    ours = results(lambda *all_: compiled_layer_norm(*all_, 1e-5), *problem)
    assert ours[0].shape == problem[0].shape
    assert max(map(error, ours, in_float64(*problem))) < 3e-6


@pytest.mark.parametrize("channels", [3, 16, 60, 180])
def test_bfloat16_is_not_further_from_the_formula_than_the_operator(channels):
    problem = given((3, 11, 13, channels), torch.bfloat16)
    exact = in_float64(*problem)
    ours = results(lambda *all_: compiled_layer_norm(*all_, 1e-5), *problem)
    theirs = results(lambda x, *affine: F.layer_norm(x, x.shape[-1:], *affine), *problem)
    assert [each.dtype for each in ours] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    for one, other, formula in zip(ours, theirs, exact, strict=True):
        assert error(one, formula) <= error(other, formula) + 1e-6


def test_only_the_gradients_that_are_wanted():
    x, weight, bias, gradient = given((4, 5, 6))
    (of_bias,) = torch.autograd.grad(compiled_layer_norm(x.detach(), weight, bias, 1e-5), bias, gradient)
    assert error(of_bias, gradient.double().sum((0, 1))) < 1e-6
    out = compiled_layer_norm(x, weight.detach(), bias.detach(), 1e-5)
    assert error(torch.autograd.grad(out, x, gradient)[0], in_float64(x, weight, bias, gradient)[1]) < 1e-6


def test_channels_that_lie_apart():
    x_BCHW, gradient_BHWC = torch.randn(3, 4, 6, 5, requires_grad=True), torch.randn(3, 6, 5, 4)
    x_BHWC = x_BCHW.permute(0, 2, 3, 1)
    ours = results(lambda *_: compiled_layer_norm(x_BHWC, None, None, 1e-5), x_BCHW, None, None, gradient_BHWC)
    out, of_x = in_float64(x_BHWC, None, None, gradient_BHWC)
    assert error(ours[0], out) < 3e-6
    assert error(ours[1], of_x.permute(0, 3, 1, 2)) < 3e-6


def test_the_same_numbers_with_any_number_of_threads():
    problem = given((1, 40, 50, 20))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(results(lambda *all_: compiled_layer_norm(*all_, 1e-5), *problem))
    finally:
        torch.set_num_threads(before)
    for one, two, three in zip(*found, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_rows_of_one_value_and_what_is_not_a_number():
    x = torch.zeros(3, 20)
    x[1], x[2, 7] = 5.0, float("nan")
    out = compiled_layer_norm(x, None, None, 1e-5)
    assert torch.equal(out[:2], torch.zeros(2, 20))
    assert out[2].isnan().all()


def test_the_module_is_torchs():
    module, x = LayerNorm(20, eps=1e-3), torch.randn(4, 6, 20)
    nn.init.normal_(module.weight)
    plain = nn.LayerNorm(20, eps=1e-3)
    plain.load_state_dict(module.state_dict())
    assert isinstance(module, nn.LayerNorm)
    torch.testing.assert_close(module(x), plain(x))
    assert not torch.equal(module(x), plain(x))  # by another way


def test_torch_computes_what_does_not_suit(monkeypatch):
    x, weight = torch.randn(4, 8), torch.ones(8)
    assert compiled_layer_norm(x, weight, None, 1e-5) is not None
    assert compiled_layer_norm(x.double(), weight.double(), None, 1e-5) is None
    assert compiled_layer_norm(x.half(), weight.half(), None, 1e-5) is None
    assert compiled_layer_norm(x.bfloat16(), weight.bfloat16(), None, 1e-5) is None
    assert compiled_layer_norm(x.to("meta"), weight.to("meta"), None, 1e-5) is None
    with library.switched_off():
        assert compiled_layer_norm(x, weight, None, 1e-5) is None
    monkeypatch.setattr(norm, "FEWEST_NUMBERS", 33)
    assert compiled_layer_norm(x, weight, None, 1e-5) is None


def test_no_rows():
    assert compiled_layer_norm(torch.zeros(0, 8), None, None, 1e-5) is None


def test_gradients_of_gradients_are_refused():
    x, weight, bias, gradient = given((3, 8))
    (of_x,) = torch.autograd.grad(
        compiled_layer_norm(x, weight, bias, 1e-5), x, gradient.requires_grad_(), create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        of_x.sum().backward()


def test_a_library_of_older_code_is_left_alone(tmp_path):
    source, built = tmp_path / "old.c", tmp_path / "old.so"
    source.write_text("int restore_processor(void) { return 4; }", encoding="utf-8")
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", built, source], check=True)
    assert "other sources" in library._load(built, "").reason


def test_weights_that_are_one_number():
    x, _, _, gradient = given((3, 5, 20))
    weight = torch.full((1,), 2.0).expand(20)
    ours = results(lambda x, *_: compiled_layer_norm(x, weight, None, 1e-5), x, None, None, gradient)
    theirs = results(lambda x, *_: F.layer_norm(x, (20,), weight), x, None, None, gradient)
    torch.testing.assert_close(ours, theirs)


def test_other_defaults_of_torch_change_nothing():
    x, weight, bias, gradient = given((3, 5, 20))
    wanted = results(lambda *all_: compiled_layer_norm(*all_, 1e-5), x, weight, bias, gradient)
    torch.set_default_dtype(torch.double)
    try:
        with torch.device("meta"):
            found = results(lambda *all_: compiled_layer_norm(*all_, 1e-5), x, weight, bias, gradient)
    finally:
        torch.set_default_dtype(torch.float)
    assert all(torch.equal(one, other) for one, other in zip(wanted, found, strict=True))


@torch.no_grad()
def test_derivatives_forward_and_of_transforms_are_torchs():
    module, x, direction = LayerNorm(20), torch.randn(4, 20), torch.randn(4, 20)
    plain = nn.LayerNorm(20)
    for transform in (
        lambda function: torch.func.jvp(function, (x,), (direction,))[1],
        lambda function: torch.func.grad(lambda x: function(x).square().sum())(x),
        lambda function: torch.func.vmap(function)(x),
    ):
        torch.testing.assert_close(transform(module), transform(plain))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, direction)
        tangents = [torch.autograd.forward_ad.unpack_dual(each(dual)).tangent for each in (module, plain)]
    torch.testing.assert_close(*tangents)

"""The shared library gives what torch's operators give; with no library these tests are skipped."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from restore.layers.compiled import library
from restore.layers.compiled.attention import compiled_attention, suits_compiled_attention
from restore.layers.window import attend_in_windows, window_attention, window_plan

CPU = torch.device("cpu")
BEST = library._library.processor
PROCESSORS = [1] if BEST == 1 else range(2, BEST + 1)

needs_library = pytest.mark.skipif(
    library._library.functions is None, reason=f"attention is not compiled: {library._library.reason}"
)


@pytest.fixture(params=PROCESSORS or [0], ids=lambda index: library.PROCESSORS[index])
def processor(request, monkeypatch):
    """Each kind of code that this processor can run."""
    if library._library.functions is None:
        pytest.skip(f"attention is not compiled: {library._library.reason}")
    monkeypatch.setattr(library, "_library", library._library._replace(processor=request.param))


def formula(qkv_TC, num_heads, bias_hNN, masks_KNN, counts, num_tokens, scale, order=None):
    """The definition, in the precision of its arguments."""
    rows = qkv_TC if order is None else qkv_TC[order]
    q, k, v = rows.unflatten(-1, (3, num_heads, -1)).unflatten(0, (-1, num_tokens)).permute(2, 0, 3, 1, 4)
    scores = q @ k.mT * scale
    if bias_hNN is not None:
        scores = scores + bias_hNN
    if masks_KNN is not None:
        scores = scores + masks_KNN.repeat_interleave(torch.tensor(counts), 0)[:, None]
    mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2).flatten(0, 1)
    return mixed if order is None else torch.empty_like(mixed).index_copy(0, order, mixed)


def problem(num_tokens, dim, num_heads=2, counts=(2, 0, 3), biased=True, masked=True, ordered=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    random = [num_heads, num_tokens, num_tokens]
    tokens = sum(counts) * num_tokens
    qkv = torch.randn(tokens, 3 * num_heads * dim, generator=generator, dtype=torch.double)
    bias = torch.randn(random, generator=generator, dtype=torch.double) if biased else None
    hidden = torch.rand(len(counts), num_tokens, num_tokens, generator=generator) > 0.7
    hidden[0] = False
    hidden[:, range(num_tokens), range(num_tokens)] = False
    masks = hidden.double() * -1000 if masked else None
    order = torch.randperm(tokens, generator=generator) if ordered else None
    return qkv, num_heads, bias, masks, counts, num_tokens, 1 / math.sqrt(dim), order


def with_gradients(function, arguments, dtype, towards):
    """The output, and the gradients of `qkv` and the bias."""
    qkv, num_heads, bias, masks, *rest = arguments
    inputs = [each.to(dtype).requires_grad_() for each in (qkv, bias) if each is not None]
    masks = None if masks is None else masks.to(torch.float32 if dtype == torch.bfloat16 else dtype)
    output = function(inputs[0] * 1, num_heads, inputs[1] if bias is not None else None, masks, *rest)
    return [output, *torch.autograd.grad(output, inputs, towards.to(output.dtype))]


def error(found, exact):
    return ((found.double() - exact).abs().max() / exact.abs().max().clamp(min=1e-30)).item()


TOKENS_AND_DIMS = [
    *((64, dim) for dim in (1, 5, 10, 15, 16, 30, 32, 33, 64)),
    *((tokens, 10) for tokens in (2, 15, 16, 17, 36, 49, 144, 256, 289)),
    (49, 30),
    (144, 32),
    (256, 16),
]


@pytest.mark.parametrize(("num_tokens", "dim"), TOKENS_AND_DIMS)
def test_float32_is_the_formula_forward_and_backward(processor, num_tokens, dim):
    arguments = problem(num_tokens, dim)
    towards = torch.randn(len(arguments[0]), 2 * dim, dtype=torch.double)
    ours = with_gradients(compiled_attention, arguments, torch.float32, towards)
    exact = with_gradients(formula, arguments, torch.double, towards)
    for found, expected in zip(ours, exact, strict=True):
        assert found.dtype == torch.float32
        assert error(found, expected) < 3e-6


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_with_and_without_bias_masks_and_order(processor, biased, masked, ordered):
    arguments = problem(20, 6, num_heads=3, biased=biased, masked=masked, ordered=ordered)
    towards = torch.randn(len(arguments[0]), 18, dtype=torch.double)
    ours = with_gradients(compiled_attention, arguments, torch.float32, towards)
    exact = with_gradients(formula, arguments, torch.double, towards)
    assert len(ours) == 2 + biased
    for found, expected in zip(ours, exact, strict=True):
        assert error(found, expected) < 2e-6


@pytest.mark.parametrize(("num_tokens", "dim"), [(64, 10), (49, 30), (144, 5), (64, 32), (256, 15)])
def test_bfloat16_is_not_further_from_the_formula_than_the_operators(processor, num_tokens, dim):
    qkv, num_heads, bias, masks, *rest = problem(num_tokens, dim, counts=(3, 2), seed=1)
    qkv, bias = qkv.bfloat16().double(), bias.bfloat16().double()  # what both are given, exactly
    towards = torch.randn(len(qkv), num_heads * dim).bfloat16().double()
    arguments = (qkv, num_heads, bias, masks, *rest)
    exact = with_gradients(formula, arguments, torch.double, towards)
    ours = with_gradients(compiled_attention, arguments, torch.bfloat16, towards)
    theirs = with_gradients(as_operators, arguments, torch.bfloat16, towards)
    for found, other, expected in zip(ours, theirs, exact, strict=True):
        assert found.dtype == torch.bfloat16
        assert (found.double() - expected).norm() <= 1.001 * (other.double() - expected).norm()


def as_operators(qkv_TC, num_heads, bias_hNN, masks_KNN, counts, num_tokens, scale, order=None):
    from restore.layers.explicit_attention import explicit_attention

    assert order is None
    bias_KhNN = (masks_KNN[:, None] + bias_hNN).to(qkv_TC.dtype)
    qkv_WNC = qkv_TC.unflatten(0, (-1, num_tokens))
    return explicit_attention(qkv_WNC, num_heads, bias_KhNN, counts, scale).flatten(0, 1)


@needs_library
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reads_rows_that_are_parts_of_others(dtype):
    qkv, *rest = problem(16, 6, counts=(2,), masked=False)
    wide = torch.randn(len(qkv), 3 * 12 + 7).to(dtype)
    wide[:, 3:-4] = qkv
    spread = torch.stack([qkv, qkv], dim=-1).to(dtype)[..., 0]
    expected = compiled_attention(qkv.to(dtype), *rest)
    assert torch.equal(compiled_attention(wide[:, 3:-4], *rest), expected)
    assert torch.equal(compiled_attention(spread, *rest), expected)
    towards = torch.randn(len(qkv), 12).to(dtype)
    narrow = torch.cat([towards, towards], 1)[:, :12]
    inputs = [each.to(dtype).requires_grad_() for each in (qkv, rest[1])]
    output = compiled_attention(inputs[0], rest[0], inputs[1], *rest[2:])
    first, second = (torch.autograd.grad(output, inputs, each, retain_graph=True) for each in (towards, narrow))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@needs_library
@pytest.mark.parametrize("counts", [(0,), (0, 0)])
def test_no_windows(counts):
    arguments = problem(4, 2, counts=counts)
    output, of_qkv, of_bias = with_gradients(compiled_attention, arguments, torch.float32, torch.zeros(0, 4))
    assert output.shape == (0, 4)
    assert of_qkv.shape == (0, 12)
    assert not of_bias.any()


def test_large_and_masked_scores(processor):
    """Weights that are exactly 1 and 0, and rows of which only one token can be seen."""
    qkv, num_heads, bias, masks, *rest = problem(16, 4, counts=(1, 1))
    bias[:] = 0
    masks[:] = -1000.0
    masks[:, range(16), range(16)] = 0
    output = compiled_attention(1e-3 * qkv.float(), num_heads, bias.float(), masks.float(), *rest)
    assert torch.equal(output, 1e-3 * qkv.float()[:, 16:])  # each token sees itself alone
    far = compiled_attention(1e4 * qkv.float(), num_heads, None, None, *rest)
    exact = formula(1e4 * qkv, num_heads, None, None, *rest)
    assert error(far, exact) < 2e-6


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_stays_so_in_its_window(processor, value):
    qkv, *rest = problem(16, 4, counts=(2,), masked=False)
    qkv = qkv.float()
    qkv[3, 0] = value
    output = compiled_attention(qkv, rest[0], rest[1].float(), *rest[2:])
    assert output[3, :4].isnan().all()
    assert output[16:].isfinite().all()


@needs_library
def test_the_same_numbers_every_time_and_with_any_number_of_threads():
    arguments = problem(49, 6, counts=(5, 4), seed=2)
    towards = torch.randn(len(arguments[0]), 12)
    before = torch.get_num_threads()
    try:
        found = {}
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            runs = [with_gradients(compiled_attention, arguments, torch.float32, towards) for _ in range(3)]
            assert all(torch.equal(*pair) for run in runs[1:] for pair in zip(run, runs[0], strict=True))
            found[threads] = runs[0]
    finally:
        torch.set_num_threads(before)
    for threads in (2, 3):
        assert torch.equal(found[threads][0], found[1][0])
        assert torch.equal(found[threads][1], found[1][1])
        assert torch.allclose(found[threads][2], found[1][2], rtol=1e-5, atol=1e-5)


@needs_library
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # the check's own
def test_operators_are_declared_as_torch_wants_them():
    qkv, num_heads, bias, masks, counts, num_tokens, scale, order = problem(9, 4, ordered=True)
    arguments = (qkv.float().requires_grad_(), num_heads, bias.float().requires_grad_(), masks.float(), order)
    torch.library.opcheck(torch.ops.restore.window_attention, (*arguments, list(counts), num_tokens, scale))


@needs_library
@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_maps_are_the_same_by_both_ways(dtype, learns):
    torch.manual_seed(0)
    plan = window_plan(2, 16, 24, (8, 8), (4, 4), CPU)
    x = torch.randn(2, 16, 24, 20, dtype=dtype, requires_grad=learns)
    qkv, bias = nn.Linear(20, 60, dtype=dtype), torch.randn(2, 64, 64, requires_grad=learns)
    towards = torch.randn(x.shape).to(dtype)

    def run():
        output = attend_in_windows(x, qkv, 2, bias, plan)
        return [output, *(torch.autograd.grad(output, (x, bias, *qkv.parameters()), towards) if learns else ())]

    with torch.set_grad_enabled(learns):
        ours = run()
        with library.switched_off():
            theirs = run()
    for one, other in zip(ours, theirs, strict=True):
        assert error(one, other.double()) < (3e-6 if dtype == torch.float32 else 0.02)


@needs_library
@pytest.mark.parametrize("learns", [False, True])
def test_compiles(learns):
    torch.manual_seed(0)
    plan = window_plan(1, 8, 8, (4, 4), (2, 2), CPU)
    qkv, bias = torch.randn(4, 16, 24, requires_grad=learns), torch.randn(2, 16, 16)
    compiled = torch.compile(lambda given: window_attention(given, 2, bias, plan), backend="aot_eager", fullgraph=True)
    expected = window_attention(qkv, 2, bias, plan)
    found = compiled(qkv)
    assert torch.equal(found, expected)
    if learns:
        one, other = (torch.autograd.grad(each.sum(), qkv)[0] for each in (found, expected))
        assert torch.equal(one, other)


@needs_library
def test_is_for_the_processor_and_its_precisions_only():
    assert suits_compiled_attention(torch.zeros(1))
    assert not suits_compiled_attention(torch.zeros(1, dtype=torch.double))
    assert not suits_compiled_attention(torch.zeros(1, dtype=torch.half))
    assert not suits_compiled_attention(torch.zeros(1, device="meta"))
    with library.switched_off():
        assert not suits_compiled_attention(torch.zeros(1))


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [("0", "switched off"), ("sse9", "none of 0, 1, neon"), ("", "not built"), ("avx2", "not built")],
)
def test_why_it_is_not_used(wanted, reason, tmp_path):
    assert reason in library._load(tmp_path / "none.so", wanted).reason


def test_a_file_that_is_no_library_is_reported(tmp_path):
    (tmp_path / "broken.so").write_text("no library")
    assert "cannot be loaded" in library._load(tmp_path / "broken.so", "").reason


@needs_library
def test_a_processor_is_chosen_by_name_and_never_beyond_what_there_is():
    name = library.PROCESSORS[PROCESSORS[0]]
    assert library._load(library.PATH, name).processor == PROCESSORS[0]
    assert library._load(library.PATH, "1").processor == BEST


@needs_library
def test_pairs_of_bfloat16_are_preferred_on_amd_processors_alone():
    functions, pairs = library._library.functions, library.PROCESSORS.index("avx512_bf16")
    most, preferred = functions.restore_processor(), functions.restore_preferred()
    info = Path("/proc/cpuinfo")
    is_amd = info.is_file() and "AuthenticAMD" in info.read_text()
    assert preferred == (pairs - 1 if most == pairs and not is_amd else most)


@needs_library
def test_a_library_of_other_sources_is_not_taken(monkeypatch):
    monkeypatch.setattr(library.ctypes, "CDLL", lambda path: object())
    assert "built of other sources" in library._load(library.PATH, "").reason


@needs_library
def test_threads_are_those_that_torch_has(tmp_path):
    """Calls from Python's threads at once give what they give one after the other; no second pool is loaded."""
    script = tmp_path / "script.py"
    script.write_text(
        "import concurrent.futures, pathlib, torch\n"
        "from restore.layers.compiled.attention import compiled_attention\n"
        "torch.set_num_threads(2)\n"
        "qkv = torch.randn(64 * 20, 36)\n"
        "run = lambda _: compiled_attention(qkv, 2, None, None, (20,), 64, 0.4)\n"
        "expected = run(0)\n"
        "with concurrent.futures.ThreadPoolExecutor(4) as pool:\n"
        "    assert all(torch.equal(each, expected) for each in pool.map(run, range(40)))\n"
        "maps = pathlib.Path('/proc/self/maps')\n"
        "lines = maps.read_text().splitlines() if maps.exists() else []\n"
        "print(len({line.split()[-1] for line in lines if 'libgomp' in line}))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 1

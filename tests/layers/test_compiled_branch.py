"""Whole branches by the shared library give what their parts give one after the other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from restore.layers.compiled import library
from restore.layers.compiled.branch import compiled_mlp_branch, compiled_window_branch
from restore.layers.position_bias import RelativePositionBias
from restore.layers.window import join_windows, split_windows, window_attention, window_plan
from restore.networks.swinir import SwinIR
from restore.networks.uformer import Uformer

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("every_processor")


class Block(nn.Module):
    def __init__(self, channels, hidden, bias=True):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.first, self.second = nn.Linear(channels, hidden, bias=bias), nn.Linear(channels, channels, bias=bias)
        self.last = nn.Linear(hidden, channels, bias=bias)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=channels**-0.5)
        self.eval()

    def fed(self, x):
        return x + self.last(F.gelu(self.first(self.norm(x))))

    def attended(self, x, heads, bias, plan, scale, table):
        windows = split_windows(self.norm(x), plan)
        mixed = window_attention(self.first(windows if table is None else windows + table), heads, bias, plan, scale)
        return x + join_windows(self.second(mixed), plan, x.shape)


def error(found, exact):
    return ((found.double() - exact).abs().max() / exact.abs().max()).item()


SHAPES = [(60, 120, 1000), (180, 360, 65), (5, 7, 3), (16, 64, 64), (33, 100, 129), (32, 1, 1), (64, 3, 0)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("channels", "hidden", "tokens"), SHAPES)
@torch.no_grad()
def test_mlp(channels, hidden, tokens, bias):
    torch.manual_seed(0)
    block = Block(channels, hidden, bias)
    x = 3 * torch.randn(tokens, 2 * channels)[:, :channels] + 10  # rows of wider ones
    found = compiled_mlp_branch(block, x, block.norm, block.first, block.last)
    assert found.shape == x.shape
    if tokens:
        assert error(found, block.double().fed(x.double())) < 1e-6


@torch.no_grad()
def test_gelu_from_far_below_to_far_above():
    block = Block(1, 1)
    for each, value in ((block.norm.weight, 0.0), (block.norm.bias, 1.0), (block.first.bias, 0.0)):
        each.fill_(value)
    block.last.weight.fill_(1.0)
    block.last.bias.fill_(0.0)
    for value in (*torch.linspace(-8, 8, 641).tolist(), -1e4, -100.0, -20.0, 20.0, 1e4):
        block.first.weight.fill_(value)
        found = compiled_mlp_branch(block, torch.zeros(1, 1), block.norm, block.first, block.last).item()
        assert found == pytest.approx(F.gelu(torch.tensor(value).double()).item(), rel=2e-7, abs=1.5e-7)


@pytest.mark.parametrize("table", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(
    ("channels", "heads", "window", "shift", "size"),
    [
        (60, 6, (8, 8), (4, 4), (2, 16, 24)),
        (30, 1, (7, 7), (0, 0), (1, 14, 7)),
        (16, 1, (6, 24), (3, 12), (1, 24, 24)),
        (180, 6, (8, 8), (4, 4), (1, 8, 8)),
    ],
)
@torch.no_grad()
def test_windows(channels, heads, window, shift, size, biased, table):
    torch.manual_seed(0)
    block, N = Block(channels, 3 * channels), window[0] * window[1]
    plan = window_plan(*size, window, shift, CPU)
    x = torch.randn(*size, channels)
    bias = torch.randn(heads, N, N) if biased else None
    more = torch.randn(N, channels) if table else None
    masks = None if plan.masks is None else plan.masks.flatten(0, 1)
    found = compiled_window_branch(
        block, x, block.norm, block.first, block.second, heads, bias, masks, plan.counts, N, 0.3, plan.order, more
    )
    tables = [None if each is None else each.double() for each in (bias, more)]
    exact = block.double().attended(x.double(), heads, tables[0], plan, 0.3, tables[1])
    assert error(found, exact) < 2e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(2, 16, 24), (1, 8, 8)])
@pytest.mark.parametrize(("channels", "heads"), [(60, 6), (36, 1), (180, 6), (16, 1)])
@torch.no_grad()
def test_bfloat16_is_not_further_from_the_formula_than_the_parts(channels, heads, size, dtype):
    torch.manual_seed(0)
    block, bias = Block(channels, 3 * channels), torch.randn(heads, 64, 64)
    x = torch.randn(*size, channels).to(dtype)
    plan = window_plan(*size, (8, 8), (4, 4), CPU)
    parts, masks = (block.norm, block.first, block.second), plan.masks.flatten(0, 1)
    with torch.autocast("cpu", torch.bfloat16):
        fed = compiled_mlp_branch(block, x, block.norm, block.first, block.last)
        tables = (heads, bias, masks, plan.counts, 64, 0.3, plan.order)
        attended = compiled_window_branch(block, x, *parts, *tables)
        with library.switched_off():
            by_parts = [block.fed(x), block.attended(x, heads, bias, plan, 0.3, None)]
    exact = block.double()
    exact = [exact.fed(x.double()), exact.attended(x.double(), heads, bias.double(), plan, 0.3, None)]
    for found, other, expected in zip((fed, attended), by_parts, exact, strict=True):
        assert found.dtype == dtype
        assert (found.double() - expected).norm() <= 1.02 * (other.double() - expected).norm()


@torch.no_grad()
def test_any_number_of_threads_gives_the_same():
    torch.manual_seed(0)
    block, before = Block(12, 36), torch.get_num_threads()
    plan = window_plan(2, 16, 24, (4, 4), (2, 2), CPU)
    x, masks = torch.randn(2, 16, 24, 12), plan.masks.flatten(0, 1)
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            parts = (block.norm, block.first, block.second)
            rest = (3, None, masks, plan.counts, 16, 0.5, plan.order)
            found.append(compiled_window_branch(block, x, *parts, *rest))
            found.append(compiled_mlp_branch(block, found[-1], block.norm, block.first, block.last))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(each, found[index % 2]) for index, each in enumerate(found))


NETWORKS = {
    "SwinIR": lambda: SwinIR(embed_dim=12, depths=(2, 2), num_heads=(2, 3), window_size=4, img_size=16, upscale=1),
    "Uformer": lambda: Uformer(embed_dim=8, modulator=True, cross_modulator=True, win_size=4, img_size=64),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name):
    torch.manual_seed(0)
    network, x = NETWORKS[name]().eval(), torch.rand(1, 3, 64, 64)
    for module in network.modules():
        if isinstance(module, RelativePositionBias):
            nn.init.normal_(getattr(module, module.table_name))
    with torch.inference_mode():
        whole = network(x)
        with library.switched_off():
            parts = network(x)
    assert not torch.equal(whole, parts)
    assert error(whole, parts.double()) < 3e-6


@torch.no_grad()
def test_what_has_to_be_seen_is_computed_part_by_part():
    block, x = Block(4, 8), torch.randn(3, 4)
    parts = (block.norm, block.first, block.last)
    assert compiled_mlp_branch(block, x, *parts) is not None
    with torch.enable_grad():
        assert compiled_mlp_branch(block, x, *parts) is None
    assert compiled_mlp_branch(block, x.half(), *parts) is None
    assert compiled_mlp_branch(block, x, nn.GroupNorm(1, 4), *parts[1:]) is None
    assert compiled_mlp_branch(block.train(), x, *parts) is None
    hook = block.eval().first.register_forward_hook(lambda *_: None)
    assert compiled_mlp_branch(block, x, *parts) is None
    hook.remove()
    assert compiled_mlp_branch(block, x, *parts) is not None
    nn.utils.parametrizations.weight_norm(block.first)
    assert compiled_mlp_branch(block, x, *parts) is None
    assert compiled_mlp_branch(block.bfloat16(), x, *parts) is None


@pytest.mark.parametrize("name", NETWORKS)
def test_a_counter_of_operations_sees_all_of_a_network(name):
    def counted():
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network(x)
        return counter.get_total_flops()

    network = NETWORKS[name]().eval().requires_grad_(False)  # torch's counter stumbles over views of what learns
    x = torch.rand(1, 3, 64, 64)
    seen = counted()
    with library.switched_off():
        assert seen == counted()

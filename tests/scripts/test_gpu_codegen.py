"""What torch.compile would run on a graphics card, made without one: Triton's source, from fake tensors.

It uses private parts of torch 2.14, as there is no other way to the source without a card.
"""

from __future__ import annotations

import importlib
import types
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import pytest
import torch

from restore.layers import window
from restore.registry import NETWORKS

BENCH = Path(__file__).parents[2] / "scripts" / "bench"
CARD = types.SimpleNamespace(
    name="none",
    major=9,
    minor=0,
    multi_processor_count=132,
    total_memory=80 << 30,
    warp_size=32,
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    shared_memory_per_block=49152,
    shared_memory_per_block_optin=232448,
    L2_cache_size=50 << 20,
    is_integrated=0,
)


def generated(network: torch.nn.Module, image: tuple[int, ...]) -> str:
    """The program that torch.compile writes for a network on a card of this kind."""
    from torch._dynamo.device_interface import CudaInterface
    from torch._inductor.compile_fx import _recursive_post_grad_passes, fake_tensor_prop
    from torch._inductor.debug import DebugContext
    from torch._inductor.decomposition import select_decomp_table
    from torch._inductor.graph import GraphLowering
    from torch._inductor.virtualized import V
    from torch._subclasses import FakeTensorMode
    from torch.func import functional_call
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import ShapeEnv
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    answers = {"get_device_properties": CARD, "current_device": 0, "get_compute_capability": 90}
    with ExitStack() as stack:
        for place in (torch.cuda, CudaInterface, CudaInterface.Worker):
            for name, answer in answers.items():
                if hasattr(place, name):
                    told = staticmethod(lambda *_, answer=answer, **__: answer)
                    stack.enter_context(mock.patch.object(place, name, told))
        stack.enter_context(mock.patch("torch.cuda.get_device_capability", return_value=(9, 0)))
        stack.enter_context(mock.patch("torch.cuda.device_count", return_value=1))
        stack.enter_context(mock.patch("torch._inductor.scheduler.has_triton", return_value=True))
        target = types.SimpleNamespace(get_current_target=lambda: GPUTarget("cuda", 90, 32), get_current_device=int)
        stack.enter_context(mock.patch.object(driver, "_active", target))
        mode = stack.enter_context(FakeTensorMode(shape_env=ShapeEnv()))
        stack.enter_context(torch.no_grad())
        named = [*network.named_parameters(), *network.named_buffers()]
        state = {key: torch.empty(value.shape, dtype=value.dtype, device="cuda") for key, value in named}
        x_BCHW = torch.empty(image, device="cuda")
        traced = make_fx(lambda state, x: functional_call(network, state, (x,)), select_decomp_table())(state, x_BCHW)
        inputs = [*state.values(), x_BCHW]
        fake_tensor_prop(traced, inputs, True)
        stack.enter_context(V.set_fake_mode(mode))
        _recursive_post_grad_passes(traced, is_inference=True)
        traced.recompile()
        graph = GraphLowering(traced, example_inputs=inputs, shape_env=mode.shape_env, is_inference=True)
        with V.set_graph_handler(graph), V.set_debug_handler(DebugContext()):
            graph.run(*inputs)
            return graph.codegen()[0].value


@pytest.mark.slow
@pytest.mark.skipif(not torch.__version__.startswith("2.14."), reason="torch's private parts are those of 2.14 here")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card, for which scripts/bench/gpu.py compiles")
@pytest.mark.parametrize("name", ["SwinIR", "RepConvSR"])
def test_kernels_for_a_card_that_is_not_there(monkeypatch, name):
    """They are of Triton alone: nothing of the processor's library, and nothing of C++, is in the program."""
    pytest.importorskip("triton")
    monkeypatch.syspath_prepend(str(BENCH))
    small = importlib.import_module("gpu").SMALL
    network = NETWORKS.build({"type": name, **small[name]}).eval()
    try:
        program = generated(network, (1, 3, 32, 32))
    finally:
        window._cached_plan.cache_clear()
    compile(program, name, "exec")
    assert program.count("@triton.jit") > 5
    assert "restore.window_attention" not in program
    assert "async_compile.cpp" not in program

"""What can be checked of the code for graphics cards without one: shapes, devices, and the script that wants one."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.func import functional_call

from restore.layers import window
from restore.registry import NETWORKS

BENCH = Path(__file__).parents[2] / "scripts" / "bench"
SIZES = [(1, 1), (33, 24)]


@pytest.fixture(scope="module")
def gpu():
    sys.path.insert(0, str(BENCH))
    yield importlib.import_module("gpu")
    sys.path.remove(str(BENCH))


@pytest.fixture
def fresh_plans():
    """A function that forgets the plans of windows, which lie on devices that are not there; called at the end, too."""
    yield window._cached_plan.cache_clear
    window._cached_plan.cache_clear()


def test_every_network_is_checked(gpu):
    wrappers = {"Supernet"}  # of networks that are in the list
    assert set(gpu.SMALL) == {name for name in NETWORKS if not name.startswith("Test")} - wrappers


def test_networks_on_no_device(gpu, fresh_plans):
    """Shapes alone, on torch's device `meta`: nothing looks at values, or makes a tensor elsewhere."""
    for name, options in gpu.SMALL.items():
        with torch.device("meta"):
            network = NETWORKS.build({"type": name, **options}).eval()
            for size in SIZES:
                result = network(torch.empty(2, network.spec.in_channels, *size))
                wanted = (2, network.spec.out_channels, *(side * network.spec.scale for side in size))
                assert (name, tuple(result.shape), result.device.type) == (name, wanted, "meta")


@pytest.mark.skipif(torch.__version__ < (2, 7), reason="torch 2.6 asks the driver about a card of fake tensors")
def test_networks_on_a_card_that_is_not_there(gpu, fresh_plans):
    """Fake tensors, which know shape, type and device: a tensor that was left on the processor is an error there."""
    for name, options in gpu.SMALL.items():
        network = NETWORKS.build({"type": name, **options}).eval()
        fresh_plans()  # each mode has its own fake tensors
        with FakeTensorMode(), torch.no_grad():
            state = {
                key: torch.empty(value.shape, dtype=value.dtype, device="cuda")
                for key, value in [*network.named_parameters(), *network.named_buffers()]
            }
            for dtype in (torch.float32, torch.bfloat16):
                values = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
                image = torch.empty(1, network.spec.in_channels, 33, 24, device="cuda", dtype=dtype)
                result = functional_call(network, values, (image,))
                assert (name, result.device.type, result.shape[-1]) == (name, "cuda", 24 * network.spec.scale)


@pytest.mark.slow
def test_the_rehearsal_of_the_script(tmp_path):
    """`gpu.py` on the processor, from end to end; a network that disagrees would end it with 1."""
    command = [
        sys.executable,
        str(BENCH / "gpu.py"),
        "--device",
        "cpu",
        "--quick",
        "--json",
        str(tmp_path / "gpu.json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("agreeing, UNetRestorer, bf16", "taking, SwinIR-light x4, fp16", "learning, SwinIR-light x4, bf16"):
        assert part in done.stdout
    assert (tmp_path / "gpu.json").is_file()


@pytest.mark.slow
def test_the_script_sees_a_network_that_disagrees(gpu, monkeypatch):
    """Here the device computes something else: another form of the network stands in."""
    arguments = type("Arguments", (), {"quick": True})
    monkeypatch.setattr(gpu, "SMALL", {"RLFN": gpu.SMALL["RLFN"]})
    moved = torch.nn.Module.to

    def broken(self, *args, **kwargs):
        with torch.no_grad():
            next(self.parameters()).mul_(1.01)
        return moved(self, *args, **kwargs)

    monkeypatch.setattr(torch.nn.Module, "to", broken)
    rows = list(gpu.agreeing(torch.device("cpu"), arguments, float("inf")))
    assert [row["ends"] for row in rows if row["precision"] in ("fp32", "gradient")] == ["WRONG", "WRONG"]

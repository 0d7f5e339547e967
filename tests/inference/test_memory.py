"""Free memory, and what a network takes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from restore.inference import memory
from restore.inference.memory import (
    bytes_per_pixel,
    free_bytes,
    is_out_of_memory,
    peak_resident_bytes,
    release_cached,
    resident_bytes,
)

CPU = torch.device("cpu")


def test_free_bytes_is_the_least_of_machine_and_container(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 100\n")
    assert memory._cgroup_bytes(tmp_path) == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._cgroup_bytes(tmp_path) is None
    monkeypatch.setattr(memory, "kept_bytes", lambda: 0)
    for machine, container, least in ((5, 3, 3), (3, 5, 3), (5, None, 5)):
        monkeypatch.setattr(memory.psutil, "virtual_memory", lambda value=machine: SimpleNamespace(available=value))
        monkeypatch.setattr(memory, "_cgroup_bytes", lambda value=container: value)
        assert free_bytes(CPU) == least
    monkeypatch.setattr(memory, "kept_bytes", lambda: 7)
    assert free_bytes(CPU) == 5 + 7


def test_free_bytes_here_is_plausible():
    assert 1 << 20 < free_bytes(CPU) < 1 << 45


def test_bytes_per_pixel_grows_with_the_widest_layer():
    probe = torch.zeros(1, 3, 32, 32)
    narrow, wide = (nn.Sequential(nn.Conv2d(3, width, 1), nn.Conv2d(width, 3, 1)) for width in (8, 64))
    assert bytes_per_pixel(narrow, narrow, probe) == memory.ALIVE_AT_ONCE * 8 * 4
    assert bytes_per_pixel(wide, wide, probe) == memory.ALIVE_AT_ONCE * 64 * 4
    assert not wide[0]._forward_hooks


def test_what_running_out_looks_like():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("x"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."))
    assert not is_out_of_memory(RuntimeError("size mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_the_host_really_says_so():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_what_this_process_holds():
    assert 1 << 24 < resident_bytes() < 1 << 40
    assert resident_bytes() * 0.9 < peak_resident_bytes() < 1 << 40


@pytest.mark.parametrize("system", ["windows", "macos", "neither"])
def test_the_peak_on_other_systems(monkeypatch, tmp_path, system):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "none")
    if system == "windows":
        monkeypatch.setattr(memory.psutil.Process, "memory_info", lambda self: SimpleNamespace(rss=5, peak_wset=9))
        assert peak_resident_bytes() == 9
    elif system == "macos":
        in_kib = peak_resident_bytes()
        monkeypatch.setattr(memory.sys, "platform", "darwin")
        assert peak_resident_bytes() == in_kib // 1024
    else:
        monkeypatch.setitem(memory.sys.modules, "resource", None)
        assert peak_resident_bytes() == pytest.approx(resident_bytes(), rel=0.5)


class _Device:
    """What torch has for a device of another kind."""

    def __init__(self, **numbers):
        for name, value in numbers.items():
            setattr(self, name, lambda *_, value=value: value)


def test_other_devices_tell_by_themselves(monkeypatch):
    device = SimpleNamespace(type="npu")
    own = _Device(mem_get_info=(100, 200), memory_reserved=30, memory_allocated=10, empty_cache=None)
    monkeypatch.setattr(torch, "get_device_module", lambda device: own)
    assert free_bytes(device) == 120
    release_cached(device)
    monkeypatch.setattr(torch, "get_device_module", lambda device: _Device())
    assert free_bytes(device) == memory.UNKNOWN_BYTES

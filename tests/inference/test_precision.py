"""Devices, precisions and what "auto" stands for."""

from __future__ import annotations

import pytest
import torch

from restore.errors import OptionsError
from restore.inference import Restorer, precision
from restore.inference.precision import arithmetic, has_fast_bf16, resolve_device, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "fast"),
    [("fpu avx2", False), ("fpu avx512_bf16", True), ("amx_bf16 amx_tile", True), ("asimd bf16", True)],
)
def test_processors(tmp_path, monkeypatch, flags, fast):
    name = "Features" if "asimd" in flags else "flags"
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{name}\t\t: {flags}\n\nprocessor\t: 1\n")
    read = precision._cpu_flags
    monkeypatch.setattr(precision, "_cpu_flags", lambda: read(tmp_path / "cpuinfo"))
    assert has_fast_bf16(CPU) is fast
    assert resolve_precision("auto", CPU) is (torch.bfloat16 if fast else torch.float32)
    assert resolve_precision("auto", CPU, ("fp32", "fp16")) is torch.float32


@pytest.mark.parametrize(("generation", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_cuda_generations(monkeypatch, generation, fast):
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: generation)
    assert has_fast_bf16(torch.device("cuda", 0)) is fast


def test_fp16_only_where_the_network_survives_it():
    assert resolve_precision("fp16", CPU, ("fp32", "fp16")) is torch.float16
    with pytest.raises(OptionsError, match="overflow"):
        resolve_precision("fp16", CPU)
    with pytest.raises(OptionsError, match="must be auto or one of fp32"):
        resolve_precision("half", CPU)


def sees(monkeypatch, kind, count=1):
    """Let torch see an accelerator of this kind, or none."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: kind is not None)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: kind and torch.device(kind))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count if kind else 0)


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu", None])
def test_devices(monkeypatch, kind):
    sees(monkeypatch, kind, 2)
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto") == torch.device(kind or "cpu")
    if kind:
        assert resolve_device(kind) == torch.device(kind)
        assert resolve_device(f"{kind}:1") == torch.device(kind, 1)
    for device in {"cuda", "mps", "xpu", "npu", "toaster", "meta", f"{kind}:2", "cuda:7"} - {kind}:
        with pytest.raises(OptionsError, match=f"device is '{device}': torch sees cpu") as error:
            resolve_device(device)
        assert len(str(error.value).splitlines()) == 1
        assert (f"{kind}:1" in str(error.value)) == (kind is not None)


def test_arithmetic():
    weight = torch.rand(8, 8)
    with arithmetic(CPU, torch.bfloat16):
        assert (weight @ weight).dtype is torch.bfloat16
    with arithmetic(CPU, torch.float32):
        assert (weight @ weight).dtype is torch.float32


def test_bf16_restores_nearly_the_same(deep):
    x = torch.rand(1, 3, 40, 40)
    network = deep(depth=4)
    exact, rough = (Restorer(network, device="cpu", precision=name)(x) for name in ("fp32", "bf16"))
    assert rough.dtype is torch.float32
    assert 0 < (exact - rough).abs().max() < 0.02


@pytest.mark.gpu
def test_cuda_restores_the_same(deep):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x = torch.rand(1, 3, 100, 90)
    network = deep(depth=4)
    host = Restorer(network, device="cpu", tile=48, tile_overlap=16)(x)
    device = Restorer(network, device="cuda", precision="fp32", tile=48, tile_overlap=16)(x)
    torch.testing.assert_close(device, host, rtol=0, atol=2e-3)  # TF32 convolutions

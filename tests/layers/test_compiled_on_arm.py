"""The compiled library's code for 64-bit Arm, under emulation."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64")),
    reason="needs gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user",
)
def test_it_computes_what_loops_in_double_compute():
    run = subprocess.run(["bash", "scripts/check_kernels.sh", "arm"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "processor 1 of at most 1" in run.stdout
    assert len(run.stdout.splitlines()) == 1 + 2 * 6  # the processor; each kind of case in both types of numbers

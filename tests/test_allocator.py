from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from restore.allocator import kept_bytes, zeros_apart

MIB = 1 << 20
SCRIPT = textwrap.dedent(
    """
    import resource, sys
    import numpy as np
    from restore.allocator import give_back_memory, keep_freed_memory, kept_bytes

    if sys.argv[1] == "restorer":
        import torch
        from restore.inference import Restorer
        from restore.networks.spec import ImageSpec
        Restorer(torch.nn.Identity(), spec=ImageSpec(), device="cpu")
    elif sys.argv[1] != "leave":
        assert keep_freed_memory() == (sys.argv[1] != "forbidden")
    np.ones(200 << 17).sum()  # 200 MiB
    kept = kept_bytes()
    if sys.argv[1] == "give back":
        assert give_back_memory()
        kept = kept_bytes()
        assert int(open("/proc/self/statm").read().split()[1]) * 4096 < 150 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(200 << 17).sum()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, kept)
    """
)


def faults_and_kept(mode, **environment):
    command, variables = [sys.executable, "-c", SCRIPT, mode], {**os.environ, **environment}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=variables).stdout
    return [int(number) for number in printed.split()]


GLIBC = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="for glibc's allocator")


@GLIBC
@pytest.mark.parametrize("mode", ["keep", "restorer"])
def test_memory_that_was_freed_is_used_again(mode):
    if not kept_bytes():
        pytest.skip("this C library does not tell what it keeps")
    faults, kept = faults_and_kept(mode)
    faults_otherwise, kept_otherwise = faults_and_kept("leave")
    assert 4 * faults < faults_otherwise  # at least one for each huge page of 2 MiB
    assert kept > 190 * MIB
    assert kept_otherwise < 50 * MIB


@GLIBC
@pytest.mark.parametrize(("mode", "environment"), [("give back", {}), ("forbidden", {"RESTORE_KEEP_MEMORY": "0"})])
def test_ways_out(mode, environment):
    if not kept_bytes():
        pytest.skip("this C library does not tell what it keeps")
    faults, _ = faults_and_kept(mode, **environment)
    assert faults > 4 * faults_and_kept("keep")[0]


@pytest.mark.parametrize("shape", [(3, 1000, 7), (), (0, 5)])
def test_memory_apart_is_zero_and_writable(shape):
    array = zeros_apart(shape, np.uint16)
    assert (array.shape, array.dtype) == (shape, np.uint16)
    assert not array.any()
    array[...] = 7
    assert (array == 7).all()

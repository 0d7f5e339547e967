from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from restore.allocator import kept_bytes

MIB = 1 << 20
SCRIPT = textwrap.dedent(
    """
    import resource, sys
    import numpy as np
    from restore.allocator import keep_freed_memory, kept_bytes

    if sys.argv[1] == "keep":
        assert keep_freed_memory()
    np.ones(200 << 17).sum()  # 200 MiB
    kept = kept_bytes()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(200 << 17).sum()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, kept)
    """
)


def faults_and_kept(mode):
    printed = subprocess.run([sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True).stdout
    return [int(number) for number in printed.split()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="for glibc's allocator")
def test_memory_that_was_freed_is_used_again():
    if not kept_bytes():
        pytest.skip("this C library does not tell what it keeps")
    faults, kept = faults_and_kept("keep")
    faults_otherwise, kept_otherwise = faults_and_kept("leave")
    assert 4 * faults < faults_otherwise  # at least one for each huge page of 2 MiB
    assert kept > 190 * MIB
    assert kept_otherwise < 50 * MIB

"""Threads that wait for work sleep soon, where the environment does not say otherwise."""

import os
import subprocess
import sys

import pytest

from restore.waiting import SPINS, sleep_while_waiting

CODE = """
from restore.waiting import sleep_while_waiting
print(sleep_while_waiting())
import torch
print(sleep_while_waiting())
"""
FREE = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}


def said(**environment: str) -> tuple[str, str]:
    """What the code prints, and what OpenMP says that it goes by."""
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=FREE | {"OMP_DISPLAY_ENV": "verbose"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, done.stderr


def test_it_is_what_openmp_goes_by():
    printed, shown = said()
    assert printed.split() == ["True", "False"]
    if "GOMP_SPINCOUNT" not in shown:
        pytest.skip("torch's OpenMP is not GNU's")
    assert f"GOMP_SPINCOUNT = '{SPINS}'" in shown


@pytest.mark.parametrize(("variable", "value"), [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "7")])
def test_the_environment_goes_first(variable, value):
    printed, shown = said(**{variable: value})
    assert printed.split() == ["False", "False"]
    assert f"GOMP_SPINCOUNT = '{SPINS}'" not in shown


def test_it_is_too_late_once_torch_is_there():
    import torch  # noqa: F401

    before = dict(os.environ)
    assert not sleep_while_waiting()
    assert dict(os.environ) == before

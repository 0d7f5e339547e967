"""Paths shared by the tests; what needs the reference data skips where it is absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("RESTORE_TEST_DATA", ROOT.parent / "shared"))


def _shared(relative: str) -> Path:
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"the reference data {relative} is not here (set RESTORE_TEST_DATA to its folder)")
    return path


@pytest.fixture(scope="session")
def shared():
    """A function: the path of something in the reference data, or a skip that says what is missing."""
    return _shared


@pytest.fixture(scope="session")
def fill(shared):
    """The module that fills networks with the deterministic weights of the fixtures."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("fixture_fill", shared("fixtures/fill.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_collection_modifyitems(config, items):
    """Leave slow tests out unless `-m` asks for them or they are named."""
    if config.option.markexpr or any("::" in argument for argument in config.args):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]

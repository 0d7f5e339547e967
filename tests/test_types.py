"""Which folders mypy is strict with (`test_imports.py` runs it), and that users get the types."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parent.parent
STRICT = {
    "restore.allocator",
    "restore.analysis.*",
    "restore.assembly.*",
    "restore.cli",
    "restore.commands.*",
    "restore.downloads",
    "restore.encoders.*",
    "restore.errors",
    "restore.files",
    "restore.inference.*",
    "restore.jobs",
    "restore.layers.*",
    "restore.locks",
    "restore.losses.*",
    "restore.metrics.*",
    "restore.nested",
    "restore.networks.*",
    "restore.options.*",
    "restore.packaged",
    "restore.plugins",
    "restore.quality.*",
    "restore.registry",
    "restore.reports.*",
    "restore.serving.*",
    "restore.signature",
    "restore.terminal",
    "restore.workers",
    "restore.zoo.*",
    "typed_usage",
}
"""What has been strict once stays so: add to it what is added to `[[tool.mypy.overrides]]`."""


def test_the_list_of_strict_folders_only_grows():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    (strict,) = [each for each in settings["overrides"] if each.get("disallow_untyped_defs")]
    assert not strict["ignore_errors"]
    assert set(strict["module"]) == STRICT, "name new ones in STRICT above as well; none may leave"
    for module in STRICT - {"typed_usage"}:
        path = ROOT / module.removesuffix(".*").replace(".", "/")
        assert path.is_dir() if module.endswith(".*") else path.with_suffix(".py").is_file()


def test_the_marker_of_typed_packages_is_installed():
    assert (ROOT / "restore" / "py.typed").is_file()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "py.typed" in settings["package-data"]["restore"]

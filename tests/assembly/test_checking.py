"""`restore data check` on every shipped option file, where the data are not: one line for all that is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from restore.cli import main
from restore.options import load

OPTIONS = Path(__file__).parents[2] / "options"
FILES = {path.stem: path for path in sorted(OPTIONS.glob("*.yml"))}
BENCHMARKS = {path.stem: path for path in sorted((OPTIONS / "benchmarks").glob("*.yml"))}  # which name no network
HERE = ("swinir_x4",)  # the demo's photographs come with a package


def roots(options):
    """The folders that the datasets of an option file name."""
    for dataset in options.datasets.values():
        for block in (dataset.block, *dataset.block.get("tasks", {}).values()):
            for key in ("dataroot", "dataroot_gt", "dataroot_lq"):
                given = block.get(key, [])
                yield from [given] if isinstance(given, str) else given


@pytest.mark.parametrize("name", [*FILES, *BENCHMARKS])
def test_every_folder_that_is_missing_is_named_in_one_line(name, empty_place, capsys):
    path = str(FILES.get(name) or BENCHMARKS[name])
    changes = ["path.pretrain_network_g=any.pth"] if name in BENCHMARKS else []
    code = main(["data", "check", "-opt", path, "--set", *changes, "num_gpu=0"])
    *lines, last = capsys.readouterr().err.splitlines()
    missing = {root for root in roots(load(path, changes, check_components=False)) if root.lower() != "none"}
    assert bool(code) is bool(missing) is (name not in HERE)
    for root in missing:
        assert any(f"the folder {root} does not exist" in line for line in lines), root
    assert all(re.match(r"(dataset '[^']+'|[\w ()-]+): .* does not exist", line) for line in lines), lines
    if missing:
        assert last == f"0 samples read, {len(lines)} problem{'s' if len(lines) > 1 else ''}"

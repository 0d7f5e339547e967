"""The built wheel works without the checkout: installed elsewhere, called from an empty folder."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILT = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"
COMMANDS = [
    ["--version"],
    ["options", "explain", "swinir_x4", "--changed"],
    ["options", "check", "swinir_x4", "train_swinir_light_x4"],
    ["models"],
    ["data", "list"],
]


def _build(kind: str, folder: Path, *, compiled: bool = False) -> Path:
    """A wheel or sdist of a copy of what git tracks, so that nothing is left in the checkout."""
    version = importlib.metadata.version("setuptools")
    if int(version.partition(".")[0]) < 77:
        pytest.skip(f"setuptools is {version}, and pyproject.toml asks for 77, which pip would fetch")
    source = folder / "source"
    if not source.exists():
        tracked = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if tracked.returncode:
            pytest.skip("not a git checkout")
        for name in filter(None, tracked.stdout.split("\0")):
            if (ROOT / name).is_file():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                (source / name).write_bytes((ROOT / name).read_bytes())
    environment = os.environ | {"RESTORE_COMPILED": "1" if compiled else "0"}
    done = subprocess.run(
        [sys.executable, "-c", BUILT, f"build_{kind}", str(folder)],
        cwd=source,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return _build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs `python -m restore` with the wheel alone, in an empty folder."""
    site, empty = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("empty")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environment = os.environ | {"PYTHONPATH": str(site)}

    def call(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-P" if sys.version_info >= (3, 11) else "-B", "-m", "restore", *arguments],
            cwd=empty, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0 or arguments[0] == "doctor", f"{done.stdout}\n{done.stderr}"
        return done.stdout

    call.site = site
    return call


def test_wheel_holds_what_the_package_uses(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = [*(ROOT / "options").rglob("*.yml"), *(ROOT / "datasets").glob("*.yml")]
    missing = [path for path in expected if f"restore/packaged_files/{path.relative_to(ROOT).as_posix()}" not in names]
    assert not missing
    assert "restore/py.typed" in names
    assert "restore/zoo/weights/swinir_light_x4.safetensors" in names
    assert not [name for name in names if name.startswith(("tests/", "scripts/", "options/"))]


def test_sdist_holds_what_a_wheel_is_built_from(tmp_path):
    import tarfile

    sdist = _build("sdist", tmp_path)
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.py", "pyproject.toml", "options/swinir_x4.yml", "datasets/demo.yml", "README.md"} <= names


def test_commands_from_an_empty_folder(installed):
    for command in COMMANDS:
        installed(*command)  # fails by its exit code


def test_the_package_is_the_installed_one(installed):
    assert str(installed.site) in installed("doctor", "--json")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32" or not shutil.which("cc"), reason="needs a C compiler")
def test_a_wheel_of_one_platform_holds_the_compiled_library(tmp_path):
    wheel = _build("wheel", tmp_path, compiled=True)
    with zipfile.ZipFile(wheel) as archive:
        libraries = {"restore/layers/compiled/source/attention.so", "restore/images/source/pixels.so"}
        assert libraries <= set(archive.namelist())


@pytest.mark.slow
def test_demo_from_an_empty_folder(installed):
    assert "bicubic" in installed("demo").lower()

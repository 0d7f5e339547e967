"""The site is built without a warning, its commands run, its notebook too."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = ("tasks", "migration", "engines")
NEEDED = ("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers.python", "mkdocs_jupyter")


def _commands():
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", (DOCS / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL):
            yield from (line.partition("#")[0].strip() for line in block.splitlines() if line.strip())


COMMANDS = list(_commands())


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    from restore.images import resize_pixels, write_image

    folder = tmp_path_factory.mktemp("docs")
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    write_image(folder / "photos/cat.png", resize_pixels(coarse, size=(24, 32)))
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command, workspace):
    program, *words = shlex.split(command)
    assert program == "restore"
    if "score" in words:  # of images that are no smaller than the metric's blocks
        words[words.index("photos")] = str(_large(workspace))
    for engine in {"onnxruntime", "openvino"}.intersection(words):
        pytest.importorskip(engine)
    if {"export", "onnxruntime", "openvino"}.intersection(words):
        pytest.importorskip("onnxscript")
    done = subprocess.run(
        [sys.executable, "-m", "restore", *words], cwd=workspace, capture_output=True, text=True, env=_environment()
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def _large(folder):
    from restore.images import resize_pixels, write_image

    coarse = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    write_image(folder / "large/dog.png", resize_pixels(coarse, size=(192, 256)))
    return folder / "large"


def _environment():
    import os

    return os.environ | {"PYTHONPATH": str(ROOT)}


def test_the_site_is_built_without_a_warning(tmp_path):
    for name in NEEDED:
        pytest.importorskip(name, reason="the extra docs is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=_environment(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    options = (tmp_path / "site/reference/options.html").read_text(encoding="utf-8")
    python = (tmp_path / "site/reference/python.html").read_text(encoding="utf-8")
    assert "val_freq" in options
    assert "tile_overlap" in python
    assert python.count("doc-object") > 20
    for page in (tmp_path / "site").rglob("*.html"):
        assert "nothing:here" not in page.read_text(encoding="utf-8"), page


@pytest.fixture
def pages():
    sys.path.insert(0, str(ROOT / "scripts"))
    yield importlib.import_module("docs_pages")
    sys.path.remove(str(ROOT / "scripts"))


def test_the_options_are_all_there(pages):
    from restore.options import Options

    text = pages.options_page()
    assert [name for name in Options.model_fields if f"| `{name}` |" not in text] == []
    assert "| `scale` | `whole number` | `1` |" in text
    assert "| `network_g` | `block or null` | `null` |" in text
    assert "## `runtime`" in text


@pytest.mark.parametrize(
    ("source", "text", "made"),
    [
        ("README.md", "[how](docs/blind.md#a)", "[how](blind.md#a)"),
        ("README.md", "![x](docs/images/a.png)", "![x](images/a.png)"),
        ("README.md", "[options/](options/README.md)", "[options/](option_files.md)"),
        ("README.md", "see [中文](README.zh.md).", "see 中文."),
        ("docs/sweep.md", "[a](../options/README.md)", "[a](option_files.md)"),
        ("docs/sweep.md", "[a](../restore/cli.py)", "a"),
        ("docs/reference/python.md", "[a](../blind.md)", "[a](../blind.md)"),
        ("docs/sweep.md", "[a](https://example.org/x) and [b](#c)", "[a](https://example.org/x) and [b](#c)"),
    ],
)
def test_links_hold_on_the_site(pages, source, text, made):
    assert pages.linked(text, ROOT / source) == made


def test_there_is_a_how_to_for_every_task():
    from restore.zoo import list_cards

    text = (DOCS / "tasks.md").read_text(encoding="utf-8")
    assert [task for task in {card.task for card in list_cards()} - {"quality"} if f"--task {task}" not in text] == []
    assert "--task photo" in text


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(DOCS / "notebook.ipynb", as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert any("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))

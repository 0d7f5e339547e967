"""The import contract, the start-up budgets, the linter and the types: what keeps the package in shape."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_layers():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(linter), "--config", "pyproject.toml"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["lint", "format"])
def test_ruff(command):
    done = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.2.0",
    reason="the types are checked against newer libraries: before NumPy 2.2 an array's type needs arguments",
)
@pytest.mark.timeout(900)  # half a minute of work on the first run, a few seconds afterwards
def test_mypy():
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("code", ["import restore", "import restore.cli; restore.cli._top_parser().format_help()"])
def test_start_up_imports_nothing_heavy(code):
    heavy = "{'torch', 'numpy', 'cv2', 'pydantic', 'timm', 'rich', 'yaml'}"
    assert _python(f"import sys; {code}; print(sorted({heavy} & set(sys.modules)))").strip() == "[]"


def test_a_run_imports_what_it_needs_alone(tmp_path):
    heavy = "{'scipy', 'triton', 'timm', 'torchvision', 'tensorboard', 'skimage', 'matplotlib', 'spandrel', 'pyiqa'}"
    code = (
        "import sys, numpy, torch; from restore.images import write_image; before = set(sys.modules); "
        f"from restore.cli import main; write_image(r'{tmp_path}/in.png', numpy.zeros((8, 8, 3), numpy.uint8)); "
        f"code = main(['run', '-q', '-m', 'fast_x2', '-i', r'{tmp_path}/in.png', '-o', r'{tmp_path}/out']); "
        f"print(code, sorted({heavy} & (set(sys.modules) - before)))"
    )
    assert _python(code).splitlines()[-1] == "0 []"


def test_scores_of_8_bit_files_need_no_torch(tmp_path):
    """Which takes longer to import than a hundred pairs take."""
    code = (
        "import sys, numpy; from restore.images import compiled, write_image; from restore.cli import main; "
        "noise = numpy.random.default_rng(0).integers(256, size=(2, 16, 16, 3), dtype=numpy.uint8); "
        f"write_image(r'{tmp_path}/a/x.png', noise[0]); write_image(r'{tmp_path}/b/x.png', noise[1]); "
        "metrics = 'psnr,ssim' if compiled._library else 'psnr'; "
        f"code = main(['score', '-q', '-r', r'{tmp_path}/a', '-g', r'{tmp_path}/b', '-o', r'{tmp_path}/out', "
        "'--metrics', metrics]); print(code, 'torch' in sys.modules)"
    )
    assert _python(code).splitlines()[-1] == "0 False"


@pytest.mark.parametrize(
    ("kind", "name", "others"),
    [
        ("METRICS", "psnr", "metrics.natural"),
        ("SCHEDULERS", "MultiStepRestartLR", "training.trainer"),
        ("OPTIMIZERS", "AdamW", "training.trainer"),
        ("DATASETS", "PairedImageDataset", "data.realesrgan"),
        ("MIXERS", "shifted_window", "layers.mixers.graph"),
        ("ENCODERS", "cpvt_tiny", "encoders.timm"),
    ],
)
def test_a_name_is_found_without_importing_all_others(kind, name, others):
    code = (
        f"import sys, restore.registry as r; print(callable(r.{kind}.get('{name}')), 'restore.{others}' in sys.modules)"
    )
    assert _python(code).strip() == "True False"

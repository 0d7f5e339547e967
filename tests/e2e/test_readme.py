"""Every command of the README runs, in a folder with a few small photographs; trainings are cut short, and the demo has
one photograph."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import restore.options
from restore.cli import main

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.partition("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
SCRIPTS = {command for command in COMMANDS if command.startswith("bash scripts/")}
SHORTENED = {  # what makes a command small enough for a test; nothing else is changed
    "train.py": ["train.total_iter=2", "network_g.num_feat=8", "network_g.num_block=1", "datasets.train.gt_size=32",
                 "datasets.train.batch_size_per_gpu=1"],
    "python example": ["train.total_iter=2", "network_g.depths=[1]", "network_g.num_heads=[2]",
                       "network_g.embed_dim=12", "datasets.train.gt_size=64", "datasets.train.batch_size_per_gpu=1"],
}  # fmt: skip


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    from restore.images import resize_pixels, write_image

    folder = tmp_path_factory.mktemp("readme")
    for name in ("restore", "options", "docs"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "datasets", folder / "datasets", ignore=shutil.ignore_patterns("train", "benchmark"))
    demo = folder / "datasets/demo.yml"
    lines = demo.read_text(encoding="utf-8").splitlines()
    demo.write_text("\n".join(line for line in lines if "file:" not in line or "cat" in line), encoding="utf-8")
    rng = np.random.default_rng(0)

    def photograph(height, width):
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        return resize_pixels(coarse, size=(height, width))

    write_image(folder / "photos/cat.png", photograph(96, 120))
    write_image(folder / "photos/trip/dog.jpg", photograph(64, 80))
    write_image(folder / "restored/cat.png", photograph(192, 240))
    write_image(folder / "frames/00001.png", photograph(24, 32))
    for name in ("photos", "bsds400"):
        write_image(folder / f"datasets/train/{name}/one.png", photograph(200, 240))
    reference = photograph(64, 80)
    write_image(folder / "datasets/benchmark/Set5/HR/bird.png", reference)
    reduced = resize_pixels(reference, scale=1 / 4)
    write_image(folder / "datasets/benchmark/Set5/LR_bicubic/X4/birdx4.png", reduced)
    return folder


def test_setup_scripts_stand_first():
    assert COMMANDS[:2] == ["bash scripts/demo.sh", "bash scripts/test.sh"]
    for command in SCRIPTS:
        subprocess.run(["bash", "-n", str(ROOT / command.split()[1])], check=True)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in SCRIPTS])
def test_command(command, workspace, request, monkeypatch):
    words = shlex.split(command)
    if {".mp4", ".mkv"} & {Path(word).suffix for word in words}:
        request.getfixturevalue("make_clip")(workspace / "clip.mp4", 2, (24, 32))
    if words[0] == "restore":
        monkeypatch.chdir(workspace)
        assert main(words[1:]) == 0
        return
    assert words[0] == "python"
    for part, settings in SHORTENED.items():
        if part in command:
            words += ["--set", *settings]
    done = subprocess.run([sys.executable, *words[1:]], cwd=workspace, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_python_example(workspace, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {"image": np.zeros((8, 9, 3), np.uint8)}
    monkeypatch.chdir(workspace)
    load = restore.options.load
    monkeypatch.setattr(
        "restore.options.load",
        lambda file, overrides: load(file, [*overrides, *SHORTENED["python example"]], is_train=True),
    )
    exec(code, names)
    assert names["upscaled"].shape == (32, 36, 3)
    assert names["network"].upscale == 4


def test_links_and_files_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target

"""Networks of a user's own file, in option files, on the command line and in Python."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

import restore
from restore.cli import main
from restore.errors import OptionsError
from restore.images import read_image, write_image
from restore.options import load
from restore.registry import NETWORKS

CONTRIBUTING = Path(__file__).parent.parent / "CONTRIBUTING.md"


def plugin_code(name):
    """The network of CONTRIBUTING.md under another name, as registering it is for good."""
    (code,) = re.findall(r"```python\n(.*?class Shallow.*?)```", CONTRIBUTING.read_text(encoding="utf-8"), re.DOTALL)
    return code.replace("Shallow", name)


def options_of(folder, name, plugins):
    rng = np.random.default_rng(0)
    for number in range(2):
        write_image(folder / "gt" / f"{number}.png", rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    file = folder / "train.yml"
    file.write_text(
        textwrap.dedent(
            f"""
            name: own
            plugins: {plugins}
            scale: 2
            num_gpu: 0
            manual_seed: 0
            datasets:
              train: {{name: a, type: DownsampledImageDataset, dataroot_gt: {folder / "gt"}, gt_size: 16,
                      batch_size_per_gpu: 2, num_worker_per_gpu: 0}}
            network_g: {{type: {name}, width: 4}}
            path: {{experiments_root: {folder / "run"}}}
            train:
              total_iter: 2
              optim_g: {{type: Adam, lr: 1e-3}}
              pixel_opt: {{type: L1Loss}}
            logger: {{print_freq: 1, save_checkpoint_freq: 2, use_tb_logger: false}}
            """
        )
    )
    return file


def test_a_network_of_ones_own_is_trained_and_run(tmp_path, one_thread, capsys):
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "own.py").write_text(plugin_code("OfMyOwn"))
    file = options_of(tmp_path, "OfMyOwn", "nets/own.py")
    options = load(file)
    assert options.plugins == [str(tmp_path / "nets" / "own.py")]  # also after the working directory has changed
    assert main(["options", "check", str(file)]) == 0
    assert main(["train", "-opt", str(file)]) == 0
    weights = tmp_path / "run" / "own" / "models" / "net_g_2.pth"
    arguments = ["-m", str(weights), "-i", str(tmp_path / "gt"), "-o", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["run", *arguments, "--plugin", str(tmp_path / "nets" / "own.py")]) == 0
    assert read_image(tmp_path / "out" / "0.png").pixels.shape == (48, 48, 3)
    torch.save(torch.load(weights, weights_only=True)["params"], tmp_path / "bare.pth")
    assert restore.load_model(tmp_path / "bare.pth", device="cpu").scale == 2  # told from its keys


def test_a_plugin_is_run_once_and_by_any_path_to_it(tmp_path, monkeypatch):
    (tmp_path / "once.py").write_text("import builtins\nbuiltins.times_run = getattr(builtins, 'times_run', 0) + 1\n")
    monkeypatch.chdir(tmp_path)
    for path in ("once.py", "./once.py", tmp_path / "once.py"):
        restore.load_plugin(path)
    import builtins

    assert builtins.times_run == 1
    del builtins.times_run


def test_several_plugins_and_those_of_a_file_that_is_extended(tmp_path):
    for name in ("FirstOfTwo", "SecondOfTwo"):
        (tmp_path / f"{name}.py").write_text(plugin_code(name))
    base = options_of(tmp_path, "SecondOfTwo", "[FirstOfTwo.py, SecondOfTwo.py]")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "mine.yml").write_text("extends: ../train.yml\nnetwork_g: {type: FirstOfTwo}\n")
    assert len(load(tmp_path / "deeper" / "mine.yml").plugins) == 2
    assert {"FirstOfTwo", "SecondOfTwo"} <= set(NETWORKS.names())
    assert load(base).network_g["type"] == "SecondOfTwo"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("x = (", r"line 1: SyntaxError"),
        ("x = 1\ny = x / 0", r"line 2: ZeroDivisionError: division by zero"),
        ("import a_module_that_is_not_there", r"line 1: ModuleNotFoundError"),
        ("from restore.registry import NETWORKS\n\n@NETWORKS.add('SwinIR')\nclass X: pass", r"SwinIR' is registered"),
        (None, r"is not a Python file that exists"),
    ],
)
def test_a_plugin_that_fails_is_named_with_file_and_line(tmp_path, code, says, capsys):
    if code is not None:
        (tmp_path / "bad.py").write_text(code)
    file = options_of(tmp_path, "SwinIR", "bad.py")
    with pytest.raises(OptionsError, match=f"(?s)train.yml:3: plugins: .*bad.py.*{says}"):
        load(file)
    assert main(["models", "--plugin", str(tmp_path / "bad.py")]) == 2
    assert re.search(says, capsys.readouterr().err)


def test_plugins_that_are_no_names(tmp_path):
    with pytest.raises(OptionsError, match="plugins"):
        load(options_of(tmp_path, "SwinIR", "{a: b}"))

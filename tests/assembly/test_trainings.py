"""What a training refuses before it begins, and the scripts that start it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from restore.assembly.trainings import train
from restore.errors import OptionsError
from restore.options import load

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("letter", ["t", "teacher", "d"])
def test_every_network_that_learns_needs_an_optimizer(letter):
    path, network = ROOT / "options/train_swinir_light_x2.yml", f"network_{letter}={{type: SRVGGNetCompact}}"
    if letter == "d":
        network = "network_d={type: UNetDiscriminatorSN, num_in_ch: 3}"
    with pytest.raises(OptionsError, match=rf"train\.optim_{letter}: missing: network_{letter} needs an optimizer"):
        load(path, [network])


@pytest.mark.parametrize("name", ["train", "test"])
def test_scripts_change_the_path_only_when_they_run(name):
    code = f"import sys; before = list(sys.path); import restore.{name}; assert sys.path == before"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    done = subprocess.run([sys.executable, ROOT / f"restore/{name}.py", "--help"], capture_output=True, text=True)
    assert f"usage: restore {name}" in done.stdout


def test_options_of_a_test_are_no_training(empty_place):
    with pytest.raises(OptionsError, match="train: missing: these options are for a test"):
        train(load(ROOT / "options/test_edt_t_x2.yml"))
    with pytest.raises(OptionsError, match="train: missing: these options are for a test"):
        train(load(ROOT / "options/train_swinir_light_x2.yml", is_train=False))

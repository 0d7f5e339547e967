"""`restore blend`: weights between those of two networks."""

from __future__ import annotations

import pytest
import torch

import restore
from restore.cli import main
from restore.networks.repconv import RepConvSR
from restore.zoo import load_network


@pytest.fixture
def two(tmp_path):
    paths = []
    for seed in range(2):
        torch.manual_seed(seed)
        paths.append(tmp_path / f"{seed}.pth")
        torch.save(RepConvSR(num_feat=8, num_block=1, expansion=0).state_dict(), paths[-1])
    return paths


@pytest.mark.parametrize("alpha", [0, 0.25, 1])
def test_weights_are_weighted_means(two, tmp_path, alpha):
    output = tmp_path / "between.pth"
    assert main(["blend", *map(str, two), "--alpha", str(alpha), "-o", str(output)]) == 0
    first, second, between = (load_network(path).state_dict() for path in (*two, output))
    for key, value in between.items():
        torch.testing.assert_close(value, (1 - alpha) * first[key] + alpha * second[key])
    assert restore.load_model(output, device="cpu").scale == 4


def test_what_cannot_be_blended_is_refused(two, tmp_path, capsys):
    torch.save(RepConvSR(num_feat=12, num_block=1, expansion=0).state_dict(), tmp_path / "wide.pth")
    output = ["-o", str(tmp_path / "x.pth")]
    assert main(["blend", str(two[0]), str(tmp_path / "wide.pth"), *output]) == 2
    assert "only weights of the same network" in capsys.readouterr().err
    assert main(["blend", "swinir_light_x2", str(two[0]), *output]) == 2
    assert "'swinir_light_x2' is SwinIR" in capsys.readouterr().err
    assert main(["blend", *map(str, two), "--alpha", "1.5", *output]) == 2
    assert "between 0 and 1" in capsys.readouterr().err
    assert main(["blend", *map(str, two), "-o", str(two[0])]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["blend", *map(str, two), "-o", str(tmp_path / "x.png")]) == 2
    assert not (tmp_path / "x.pth").exists()

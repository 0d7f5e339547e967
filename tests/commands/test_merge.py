"""`restore run --merge`, and `runtime.merge` of restorers and judges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml

from restore import build_model, registry
from restore.cli import main
from restore.images import read_image, write_image
from restore.quality.loading import save_quality

BLOCK = {"type": "MetaFormerRestorer", "mixers": ["attention"], "embed_dim": 12, "depths": [2], "drop_path_rate": 0.0}


@pytest.fixture
def place(tmp_path):
    torch.manual_seed(0)
    restorer = build_model(BLOCK)
    for parameter in restorer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.save({"params": restorer.state_dict(), "network": BLOCK}, tmp_path / "net.pth")
    write_image(tmp_path / "in.png", np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8))
    return tmp_path


def restored(place, *more):
    output = place / "out.png"
    output.unlink(missing_ok=True)
    options = write_options(place, {"network_g": BLOCK, "model_type": "SRModel", "scale": 1, "name": "merge"})
    arguments = ["test", "-opt", options, "--input", place / "in.png", "--output", output, *more]
    assert main([str(each) for each in arguments]) == 0
    return read_image(output).pixels


def write_options(place, options):
    path = place / "options.yml"
    path.write_text(yaml.safe_dump({"path": {"pretrain_network_g": str(place / "net.pth")}, **options}))
    return path


def test_a_restorer_with_merged_tokens(place, capsys):
    plain = restored(place)
    assert np.array_equal(restored(place, "--set", "runtime.merge=tome:0"), plain)
    assert not np.array_equal(restored(place, "--set", "runtime.merge=tome:0.5"), plain)
    assert not np.array_equal(restored(place, "--set", "runtime.merge=cluster:4x4:blocks"), plain)


@pytest.mark.parametrize("how", ["tome:0.3", "cluster:8x8"])
def test_the_command_says_where_there_is_nothing_to_merge(place, weights, how, capsys):
    arguments = ["run", "-m", weights, "-i", place / "in.png", "-o", place / "out.png", "--merge", how]
    assert main([str(each) for each in arguments]) == 2
    said = capsys.readouterr().err
    assert f"merge is '{how}', but SwinIR has no attention of all tokens" in " ".join(said.split())


def test_the_command_says_what_it_reads(place, weights, capsys):
    arguments = ["run", "-m", weights, "-i", place / "in.png", "-o", place / "out.png", "--merge", "tomes"]
    assert main([str(each) for each in arguments]) == 2
    assert "tome:SHARE" in capsys.readouterr().err


def test_a_judge_with_merged_tokens(place):
    encoder = {"type": "cpvt", "embed_dim": 12, "depth": 2, "num_heads": 2, "patch_size": 8, "out_indices": [1]}
    block = {"type": "TRIQ", "encoder": encoder, "num_layers": 1}
    torch.manual_seed(0)
    save_quality(registry.QUALITY.build(block), block, place / "net.safetensors", dtype=torch.float32)
    found = []
    for how in ("~", "tome:0", "tome:0.5:blocks"):
        data = {"type": "SyntheticQualityDataset", "dataroot_gt": str(place), "num_levels": 2, "between": True}
        options = write_options(
            place,
            {
                "name": "judge",
                "model_type": "QualityModel",
                "datasets": {"test": {"name": "t", **data}},
                "path": {"pretrain_network_g": str(place / "net.safetensors"), "results_root": str(place / "results")},
            },
        )
        assert main(["test", "-opt", str(options), "--set", f"runtime.merge={how}"]) == 0
        (scores,) = place.glob("results/**/scores.csv")
        found.append(scores.read_text())
    assert found[0] == found[1] != found[2]

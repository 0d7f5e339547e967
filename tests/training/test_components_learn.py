"""Option files that train networks of many kinds of components do train, through the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from restore.cli import main
from restore.images import write_image

OPTIONS = Path(__file__).parents[2] / "options"
SMALL = {  # the encoders of the files, made small; as they are, they take half a minute each
    "cvt_13": "{type: cvt, dims: [8, 12, 12], depths: [1, 1, 1]}",
    "cyclemlp_b1": "{type: cyclemlp, dims: [8, 8, 16, 16], depths: [1, 1, 1, 1]}",
    "gfnet_h_tiny": "{type: gfnet_h, dims: [8, 8, 16, 16], depths: [1, 1, 1, 1]}",
    "pyramid_vig_tiny": "{type: pyramid_vig, img_size: 64, dims: [8, 8, 16, 16], depths: [1, 1, 1, 1]}",
    "hornet_tiny": "{type: hornet, base_dim: 16, depths: [1, 1, 1, 1]}",
    "cct_7_3x1": "{type: cct, embed_dim: 16, depth: 2, num_heads: 2}",
    "conv2former_nano": "{type: conv2former, dims: [8, 8, 16, 16], depths: [1, 1, 1, 1]}",
    "context_cluster_tiny": "{type: context_cluster, dims: [8, 8, 16, 16], depths: [1, 1, 1, 1]}",
}
UNETS, JUDGES = [*SMALL][:5], [*SMALL][5:]
MIXERS = ["cosine_window", "outlook", "linformer", "global_filter", "spatial_mlp", "knn_graph"]
FEW = {
    "num_gpu": "0",
    "train.total_iter": "3",
    "datasets.train.batch_size_per_gpu": "2",
    "datasets.train.num_worker_per_gpu": "0",
    "datasets.train.cache": "none",
    "logger.use_tb_logger": "false",
    "logger.print_freq": "1",
    "logger.save_checkpoint_freq": "3",
    "train.warmup_iter": "-1",
    "datasets.val": "~",
}


@pytest.fixture
def learn(tmp_path, one_thread, capsys):
    """A function that trains by an option file for three iterations, and gives the weights before and after."""
    random = np.random.default_rng(0)
    for number in range(2):
        coarse = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        write_image(tmp_path / "gt" / f"{number}.png", coarse.repeat(8, 0).repeat(8, 1))

    def run(name, **changes):
        options = FEW | {"path.experiments_root": tmp_path / "experiments"} | changes
        options["datasets.train.dataroot_gt"] = tmp_path / "gt"
        pairs = [part for key, value in options.items() for part in ("--set", f"{key}={value}")]
        assert main(["train", "-opt", str(OPTIONS / f"{name}.yml"), *pairs]) == 0
        (saved,) = (tmp_path / "experiments").glob("*/models/net_g_latest.pth")
        (log,) = (tmp_path / "experiments").glob("*/*.log")
        assert "iter 3/3" in log.read_text()
        weights = torch.load(saved, weights_only=True)["params"]
        assert all(value.isfinite().all() for value in weights.values())
        return weights

    return run


def sizes(names):
    """Each as its file has it, which is slow, and small."""
    return [
        *(pytest.param(name, {"network_g.encoder": SMALL[name]}, id=f"{name}-small") for name in names),
        *(pytest.param(name, {}, id=name, marks=pytest.mark.slow) for name in names),
    ]


@pytest.mark.parametrize(("encoder", "small"), sizes(UNETS))
def test_u_nets_learn_on_encoders_of_every_kind(encoder, small, learn):
    weights = learn(
        f"train_unet_{encoder}_denoise",
        **small,
        **{"datasets.train.gt_size": 64, "network_g.width": 8, "network_g.max_width": 32, "network_g.depth": 1},
    )
    assert any(key.startswith("encoder.") for key in weights)


@pytest.mark.parametrize("network", ["triq", "iqt"])
@pytest.mark.parametrize(("encoder", "small"), sizes(JUDGES))
def test_judges_learn_on_encoders_of_several_kinds(network, encoder, small, learn):
    learn(f"train_{network}_{encoder}_synthetic", **small, **{"datasets.train.crop_px": 64})


@pytest.mark.parametrize("mixer", MIXERS)
def test_metaformer_learns_with_mixers_of_every_kind(mixer, learn):
    learn(
        f"train_metaformer_{mixer}_x4",
        **{
            "datasets.train.gt_size": 64,
            "network_g.depths": "[2]",
            "train.optim_g": "{type: AdamW, lr: 1.0e-3}",
        },
    )

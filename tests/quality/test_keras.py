from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from restore.errors import CheckpointError
from restore.networks.checkpoint import load_weights
from restore.quality import build_quality
from restore.quality.keras import read_keras

h5py = pytest.importorskip("h5py")


def keras_layers(model) -> dict[str, np.ndarray]:
    """The weights of a model of ours as Keras lays them out, with the biases that its convolutions have."""
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    arrays = {}

    def convolution(theirs, ours, norm):
        bias = np.random.RandomState(len(arrays)).rand(len(state[f"{ours}.weight"])).astype(np.float32)
        arrays[f"{theirs}_conv/{theirs}_conv/kernel:0"] = state[f"{ours}.weight"].transpose(2, 3, 1, 0)
        arrays[f"{theirs}_conv/{theirs}_conv/bias:0"] = bias
        fields = {"weight": "gamma", "bias": "beta", "running_var": "moving_variance"}
        for mine, field in fields.items():
            arrays[f"{theirs}_bn/{theirs}_bn/{field}:0"] = state[f"{norm}.{mine}"]
        arrays[f"{theirs}_bn/{theirs}_bn/moving_mean:0"] = state[f"{norm}.running_mean"] + bias

    convolution("conv1", "encoder.model.conv1", "encoder.model.bn1")
    for stage, count in ((2, 3), (3, 4), (4, 6), (5, 3)):
        for block in range(1, count + 1):
            place, name = f"encoder.model.layer{stage - 1}.{block - 1}", f"conv{stage}_block{block}"
            for number in (1, 2, 3):
                convolution(f"{name}_{number}", f"{place}.conv{number}", f"{place}.bn{number}")
            if block == 1:
                convolution(f"{name}_0", f"{place}.downsample.0", f"{place}.downsample.1")
    root = "tri_q_image_quality_transformer/tri_q_image_quality_transformer"
    arrays[f"{root}/pos_emb:0"] = state["transformer.position_table"]
    arrays[f"{root}/quality_emb:0"] = state["transformer.quality_token"]
    arrays[f"{root}/conv2d/kernel:0"] = state["transformer.projection.weight"].transpose(2, 3, 1, 0)
    arrays[f"{root}/conv2d/bias:0"] = state["transformer.projection.bias"]
    dense = []
    for block in range(2):
        suffix = f"_{block}" if block else ""
        place = f"{root}/transformer_block{suffix}"
        for ours in ("W_Q", "W_K", "W_V", "linear"):
            dense.append((f"{place}/multi_head_attention{suffix}", f"layers.{block}.self_attn.{ours}"))
        for ours in ("conv1", "conv2"):
            dense.append((f"{place}/sequential{suffix}", f"layers.{block}.pos_ffn.{ours}"))
        for norm in (1, 2):
            number = 2 * block + norm - 1
            folder = f"{place}/layer_normalization{f'_{number}' if number else ''}"
            arrays[f"{folder}/gamma:0"] = state[f"transformer.layers.{block}.layer_norm{norm}.weight"]
            arrays[f"{folder}/beta:0"] = state[f"transformer.layers.{block}.layer_norm{norm}.bias"]
    dense += [(f"{root}/sequential_2", "head.0"), (f"{root}/sequential_2", "head.3")]
    for number, (place, ours) in enumerate(dense):
        weight = state[f"transformer.{ours}.weight"]
        arrays[f"{place}/dense{f'_{number}' if number else ''}/kernel:0"] = weight.reshape(weight.shape[:2]).T
        arrays[f"{place}/dense{f'_{number}' if number else ''}/bias:0"] = state[f"transformer.{ours}.bias"]
    return arrays


@pytest.fixture(scope="module")
def published():
    torch.manual_seed(0)
    model = build_quality({"type": "TRIQ", "positions": "truncate"}).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def test_a_keras_file_of_the_published_layout_gives_the_same_scores(published, tmp_path):
    with h5py.File(tmp_path / "TRIQ.h5", "w") as file:
        for path, array in keras_layers(published).items():
            file[path] = array
    model = build_quality({"type": "TRIQ", "positions": "truncate"})
    load_weights(model, read_keras(tmp_path / "TRIQ.h5"))
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.judge(images), published.judge(images), atol=1e-5, rtol=0)
    assert model(images).std() > 1e-4


def test_other_files_are_refused(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["dense/kernel:0"] = np.zeros((2, 2))
    with pytest.raises(CheckpointError, match="not a TRIQ with a ResNet-50"):
        read_keras(tmp_path / "other.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(CheckpointError, match="not an HDF5 file"):
        read_keras(tmp_path / "text.h5")
    with pytest.raises(CheckpointError, match="no such weights file"):
        read_keras(tmp_path / "none.h5")

"""Which networks are trained in channels-last memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from training_runs import run

from restore.layers.layout import lay_out
from restore.registry import NETWORKS

EDSR = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 2}
SWINIR = {"type": "SwinIR", "upscale": 2, "embed_dim": 60, "depths": [2], "num_heads": [6], "window_size": 8}


def is_channels_last(network):
    weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d) and min(m.weight.shape) > 1]
    return all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


@pytest.mark.parametrize(
    ("block", "device", "wanted", "expected"),
    [
        (EDSR, "cpu", None, True),
        (EDSR, "cuda", None, False),
        (EDSR, "cpu", False, False),
        (SWINIR, "cpu", None, False),
        (SWINIR, "cpu", True, True),
    ],
)
def test_convolutional_networks_on_the_processor_unless_told(block, device, wanted, expected):
    network = NETWORKS.build({**block, "upsampler": "pixelshuffledirect"} if block is SWINIR else block)
    strides = [buffer.stride() for buffer in network.buffers()]
    x = torch.rand(1, 3, 16, 16)
    before = network.eval()(x)
    assert lay_out(network, torch.device(device), wanted) is expected
    assert is_channels_last(network) is expected
    assert [buffer.stride() for buffer in network.buffers()] == strides  # processes exchange them as they are
    torch.testing.assert_close(network(x), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wanted", [None, False])
def test_validations_leave_the_layout_of_what_they_look_at(option_file, tmp_path, wanted, monkeypatch):
    laid_out = []
    monkeypatch.setattr(
        "restore.inference.restorer.lay_out",
        lambda network, device, last: laid_out.append(last) or lay_out(network, device, last),
    )
    block = ["network_g={type: EDSR, num_in_ch: 3, num_out_ch: 3, num_feat: 8, num_block: 1, upscale: 2}"]
    run(option_file, *block, f"train.channels_last={'null' if wanted is None else 'false'}", "train.total_iter=3")
    assert laid_out
    assert not any(last is None or last for last in laid_out)

"""U-Nets around encoders as ONNX files, which take images of any size."""

from __future__ import annotations

import pytest
import torch

from restore.encoders.miniatures import miniatures, with_pyramid
from restore.inference.export import export_network
from restore.networks.unet import UNetRestorer


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["convnext", "vit"])
def test_a_u_net_around_it_is_exported(name, tmp_path):
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library)
    torch.manual_seed(0)
    (block,) = miniatures([name]).values()
    network = UNetRestorer(with_pyramid(block, 16), width=8, max_width=16, depth=1).eval()
    assert max(export_network(network, tmp_path / "network.onnx").values()) < 1e-5

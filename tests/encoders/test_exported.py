"""U-Nets around encoders, exported: one file takes images of every size."""

from __future__ import annotations

import pytest
import torch

from restore.encoders.miniatures import MINIATURES, miniatures, with_pyramid
from restore.inference.export import CHECKED, CHECKED_SMALL, LARGE, export_network
from restore.layers.exportable import FixedSizeError
from restore.layers.folding import fold
from restore.networks.unet import UNetRestorer

OF_ONE_SIZE = {"coatnet", "levit", "tnt"}
CHOOSES = {"vig"}
"""Rounding may choose other neighbours, whose values differ."""


def u_net(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    (block,) = miniatures([name]).values()
    return UNetRestorer(with_pyramid(block, 16), width=8, max_width=16, depth=1).eval()


# of each kind: frequencies, a table and its size, class tokens, halvings that round up, means of parts, neighbours
@pytest.mark.parametrize("name", ["gfnet_h", "cpvt", "repopt_vgg", "context_cluster", "vig", "flexivit"])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@torch.no_grad()
def test_what_is_traced_at_one_size_holds_for_others(name):
    network = fold(u_net(name))
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    traced = torch.jit.trace(lambda image: network(image), (torch.rand(2, 3, 41, 58),), check_trace=False)
    for size in ((1, 24, 40), (2, 33, 17), (1, 99, 70), (1, 1, 1)):
        image = torch.rand(size[0], 3, *size[1:])
        torch.testing.assert_close(traced(image), network(image), atol=1e-3 if name in CHOOSES else 1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", sorted(MINIATURES))
def test_a_u_net_around_it_is_exported(name, tmp_path):
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library)
    if name in OF_ONE_SIZE:
        with pytest.raises(FixedSizeError, match="made anew for each"):
            export_network(u_net(name), tmp_path / "network.onnx")
        return
    differences = export_network(u_net(name), tmp_path / "network.onnx")
    assert {*CHECKED, *CHECKED_SMALL} - {LARGE} <= {*differences}
    assert max(differences.values()) < 1e-4

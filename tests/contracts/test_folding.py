"""Every registered network, quality model and discriminator equals itself folded.

Encoders, mixers, feed-forward networks, norms, positions and blocks are held to the same in their own tests.
"""

from __future__ import annotations

import pytest
import torch

from restore.registry import DISCRIMINATORS, NETWORKS, QUALITY

WINDOWS = {"embed_dim": 12, "depths": [2], "num_heads": [2]}
SMALL = {
    "SwinIR": {**WINDOWS, "upscale": 2, "upsampler": "pixelshuffle", "window_size": 4},
    "Uformer": {"embed_dim": 4, "depths": [1] * 9, "num_heads": [1] * 9, "modulator": True, "cross_modulator": True},
    "EDT": {"num_feat": 4, "embed_dim": 12, "depths": [2], "num_heads": [6], "scales": [2], "img_size": 24},
    "IPT": {"n_feats": 4, "num_heads": 12, "num_layers": 1, "patch_size": 12, "scale": [2]},
    "MetaFormerRestorer": {
        "mixers": [{"type": "window", "num_heads": 2}, {"type": "gated_conv"}],
        "embed_dim": 12,
        "depths": [2],
        "layer_scale": 0.3,
    },
    "UNetRestorer": {"encoder": {"type": "conv_pyramid", "widths": [4, 8]}, "width": 8, "depth": 1},
    "MSRResNet": {"num_feat": 4, "num_block": 1},
    "EDSR": {"num_feat": 4, "num_block": 1},
    "RCAN": {"num_feat": 4, "num_group": 1, "num_block": 1, "squeeze_factor": 2},
    "RRDBNet": {"num_feat": 4, "num_block": 1, "num_grow_ch": 2},
    "SRVGGNetCompact": {"num_feat": 4, "num_conv": 2},
    "RepConvSR": {"num_feat": 4, "num_block": 1},
    "VGGStyleDiscriminator": {"num_feat": 2},
    "UNetDiscriminatorSN": {"num_feat": 2},
    "DUnet": {"num_feat": 4},
}
"""Arguments that make a network small; one without an entry is tested as it is."""
IMAGE = {"VGGStyleDiscriminator": (128, 128), "DUnet": (16, 24)}


@pytest.mark.parametrize("name", [*NETWORKS.names(), *DISCRIMINATORS.names()])
def test_networks(name, assert_folds):
    if name == "DUnet":
        pytest.importorskip("spandrel")
    torch.manual_seed(0)
    registry = NETWORKS if name in NETWORKS else DISCRIMINATORS
    network = registry.build({"type": name, **SMALL.get(name, getattr(registry.get(name), "example", {}))})
    channels = network.spec.in_channels if name in NETWORKS else 3
    assert_folds(network, torch.rand(1, channels, *IMAGE.get(name, (16, 21))))


@pytest.mark.parametrize(("name", "encoder"), [*((name, "conv_pyramid") for name in QUALITY), ("TRIQ", "resnet50_v1")])
def test_quality_models(name, encoder, assert_folds):
    torch.manual_seed(0)
    model = QUALITY.build({"type": name, "encoder": encoder})
    images = [torch.rand(1, 3, 64, 96) for _ in range(1 + model.needs_reference)]
    assert_folds(model, *images)

"""What a network is a pile of."""

from __future__ import annotations

import pytest

from restore.layers.repeated import repeated_blocks
from restore.registry import NETWORKS

EDT = {"type": "EDT", "num_feat": 4, "embed_dim": 12, "depths": [2, 1], "num_heads": [2, 2], "noise_levels": [25]}
STRIPES = {"type": "stripe", "window_size": [2, 4], "num_heads": 2}


@pytest.mark.parametrize(
    ("network", "blocks"),
    [
        ({"type": "SwinIR", "depths": [2, 3], "num_heads": [2, 2], "embed_dim": 8, "upscale": 1}, ["_Block"] * 5),
        (EDT, ["Block"] * 3 + ["HeadLevel"] * 2 + ["SkipLevel"] * 2),  # not the two kinds of windows in each block
        ({"type": "MetaFormerRestorer", "embed_dim": 8, "depths": [2, 2], "mixers": STRIPES}, ["MetaFormerBlock"] * 4),
        ({"type": "RCAN", "num_feat": 8, "num_group": 2, "num_block": 3, "squeeze_factor": 2}, ["_AttentionBlock"] * 6),
        ({"type": "SRVGGNetCompact", "num_feat": 8, "num_conv": 2}, ["SRVGGNetCompact"]),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_a_network_is_a_pile_of_its_largest_repetitions(network, blocks):
    built = NETWORKS.build(network)
    assert sorted(type(block).__name__ for block in repeated_blocks(built)) == sorted(blocks)

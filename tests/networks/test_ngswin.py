"""NGswin: its published weights, and what windows see of their neighbours."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from network_tester import NetworkTester, counts

from restore.networks.checkpoint import load_weights
from restore.networks.ngswin import NGswin
from restore.zoo import load_network

SMALL = {"type": "NGswin", "embed_dim": 16, "dec_dim": 16, "depths": [1, 2, 1], "num_heads": [2, 2, 2],
         "dec_depths": 2, "dec_num_heads": 2, "window_size": 4}  # fmt: skip


class TestNGswin(NetworkTester):
    variants: ClassVar[dict[str, dict]] = {
        "x2": SMALL,
        "x3_wide": {**SMALL, "ngrams": [3, 2, 2, 1], "head_dim": 6, "dec_head_dim": 4, "target_mode": "light_x3"},
    }


def test_size():
    assert counts(NGswin)[0] == 998_384


@pytest.mark.parametrize(("options", "message"), [
    ({"depths": [2, 2]}, "have three numbers"),
    ({"embed_dim": 24, "dec_dim": 24}, "a multiple of 16"),
    ({"in_chans": 1}, "img_norm is known for 3 only"),
])  # fmt: skip
def test_impossible_configurations_say_why(options, message):
    with pytest.raises(ValueError, match=message):
        NGswin(**options)


@pytest.mark.parametrize(("is_after", "wanted"), [(True, [0, 1, 2, 3, 1, 2]), (False, [1, 2, 0, 1, 2, 3])])
def test_neighbours_at_the_edge(is_after, wanted):
    """Three windows in a row of four: what comes after the last are the two before it, in their order."""
    context = NGswin(ngrams=[3, 2, 2, 2]).encoder_layer1.blocks[0].ngram_window_partition.ngram_context
    assert context._neighbours(4, is_after, torch.device("cpu")).tolist() == wanted
    assert all(0 <= index < 1 for index in context._neighbours(1, is_after, torch.device("cpu")))


def test_published_weights(shared):
    """Keys as published; those that official trainings add are taken, whatever they are."""
    network = load_network(shared("weights/ngswin_x2.pth"))
    state = torch.load(shared("weights/ngswin_x2.pth"), weights_only=True)
    assert network.state_dict().keys() == state.keys()
    load_weights(NGswin(), {**state, "encoder_layer1.blocks.1.attn_mask": torch.zeros(64, 64, 64)})

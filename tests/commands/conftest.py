"""A network small enough for the command line to be tested with."""

from __future__ import annotations

import logging

import pytest
import torch

TINY = {
    "type": "SwinIR",
    "upscale": 2,
    "img_size": 16,
    "window_size": 8,
    "embed_dim": 12,
    "depths": [2],
    "num_heads": [2],
    "mlp_ratio": 2,
    "upsampler": "pixelshuffledirect",
}


@pytest.fixture(autouse=True)
def _fresh_logging():
    """The command line sets up logging for its process; here that is the process of all tests."""
    handlers = logging.root.handlers[:]
    yield
    logging.root.handlers[:] = handlers


@pytest.fixture(scope="session")
def tiny_block():
    """The option block of a tiny SwinIR x2."""
    return TINY


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A weights file of a tiny SwinIR x2."""
    from restore.zoo import build_model

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save({"params": build_model(TINY).state_dict()}, path)
    return path

"""A process group of this process alone."""

from __future__ import annotations

import pytest
import torch
from torch import distributed


@pytest.fixture
def process_group():
    """Some features work among processes only; one is enough to try them."""
    if not hasattr(torch.cpu.Stream, "record_event"):
        pytest.skip(f"torch {torch.__version__} splits no network on the processor")
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()

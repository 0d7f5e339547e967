"""Evaluation mode for as long as it is wanted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

__all__ = ["evaluating"]


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; a module that was in training goes back to it."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        if training:
            module.train()

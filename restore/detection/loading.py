"""Detectors with their weights, from files that say what they hold."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from restore.detection.base import Detector
from restore.networks.described import load_described, save_described, shipped_path
from restore.registry import DETECTORS

__all__ = ["load_detector", "save_detector"]

_BLOCK = "detector"


@functools.lru_cache(maxsize=4)
def load_detector(name_or_path: str | Path = "defects_small", *, device: str | torch.device = "cpu") -> Detector:
    """A detector with its weights, in evaluation mode and frozen; the same object for the same arguments.

    Args:
        name_or_path: a shipped detector, or a file of a training or of `save_detector`.
        device: where to put it.

    Raises:
        MissingError: no shipped detector has that name.
        CheckpointError: the file cannot be read, or does not say which detector it holds.
    """
    path = shipped_path(name_or_path, _BLOCK, DETECTORS.kind)
    detector: Detector = load_described(DETECTORS, path, _BLOCK)
    return detector.eval().requires_grad_(False).to(device)


def save_detector(
    detector: Detector, block: Mapping[str, Any], path: str | Path, *, dtype: torch.dtype = torch.float16
) -> str:
    """Write a detector's weights and its block to a safetensors file; returns the file's SHA-256."""
    return save_described(detector, block, path, _BLOCK, dtype=dtype)

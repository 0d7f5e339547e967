"""Quality models from option blocks, and with their weights from files that say what they hold.

A weights file of a quality model carries its option block, in the header of a safetensors file (`quality`) or as
training writes it, so that a name or a path is enough to use it as a metric or as a loss.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from restore.errors import OptionsError, Problem
from restore.networks.described import load_described, save_described, shipped_path
from restore.quality.base import QualityModel
from restore.registry import ENCODERS, QUALITY

__all__ = ["build_quality", "load_quality", "save_quality"]

_BLOCK = "quality"


def build_quality(block: Mapping[str, Any], *, path: str = "") -> QualityModel:
    """A quality model from its option block: `{"type": "IQT", "encoder": "convnext_atto"}`.

    Raises:
        OptionsError: with every mistake in the block.
    """
    return QUALITY.build(block, path=path)


@functools.lru_cache(maxsize=8)
def load_quality(
    name_or_path: str | Path, *, device: str | torch.device = "cpu", patch_px: int | None = None
) -> QualityModel:
    """A quality model with its weights, in evaluation mode and frozen; the same object for the same arguments.

    Args:
        name_or_path: a shipped model (`iqt_small`, `triq_small`), or a file of a training or of `save_quality`.
        device: where to put it.
        patch_px: side of the patches of an encoder that takes any (flexivit); None: as the file says.

    Raises:
        MissingError: no shipped model has that name.
        OptionsError: `patch_px`, and the encoder takes patches of one size.
        CheckpointError: the file cannot be read, or does not say which model it holds.
    """
    path = shipped_path(name_or_path, _BLOCK, QUALITY.kind)
    advice = (
        "Build the model with build_quality, load the weights into it and write them with "
        "restore.quality.loading.save_quality."
    )
    changed = None if patch_px is None else functools.partial(_with_patches, patch_px=patch_px)
    model: QualityModel = load_described(QUALITY, path, _BLOCK, advice=advice, changed=changed)
    return model.eval().requires_grad_(False).to(device)


def save_quality(
    model: QualityModel, block: Mapping[str, Any], path: str | Path, *, dtype: torch.dtype = torch.float16
) -> str:
    """Write a model's weights and its block to a safetensors file; returns the file's SHA-256."""
    return save_described(model, block, path, _BLOCK, dtype=dtype)


def _with_patches(block: Mapping[str, Any], patch_px: int) -> dict[str, Any]:
    """The block with patches of another size."""
    given = block.get("encoder")
    encoder = {"type": given} if isinstance(given, str) else dict(given or {})
    kind = str(encoder.get("type"))
    takes_any = kind in ENCODERS and "patch_sizes" in inspect.signature(ENCODERS.get(kind)).parameters
    if not takes_any:
        message = f"{block['type']} with the encoder '{kind}' has patches of one size; flexivit takes any."
        raise OptionsError([Problem("patch_px", message)])
    return {**block, "encoder": {**encoder, "patch_size": patch_px}}

"""Quality models from option blocks, and with their weights from files that say what they hold.

A weights file of a quality model carries its option block, in the header of a safetensors file (`quality`) or as
training writes it, so that a name or a path is enough to use it as a metric or as a loss.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from restore.errors import CheckpointError, MissingError, nearest
from restore.files import expanded, sha256_of
from restore.networks.bounded import build_as_stored
from restore.networks.checkpoint import read_weights
from restore.networks.reading import read_header
from restore.quality.base import QualityModel
from restore.registry import QUALITY

__all__ = ["build_quality", "load_quality", "save_quality"]

_SHIPPED = Path(__file__).parent.parent / "zoo" / "weights"
_BLOCK = "quality"


def build_quality(block: Mapping[str, Any], *, path: str = "") -> QualityModel:
    """A quality model from its option block: `{"type": "IQT", "encoder": "convnext_atto"}`.

    Raises:
        OptionsError: with every mistake in the block.
    """
    return QUALITY.build(block, path=path)


@functools.lru_cache(maxsize=8)
def load_quality(name_or_path: str | Path, *, device: str | torch.device = "cpu") -> QualityModel:
    """A quality model with its weights, in evaluation mode and frozen; the same object for the same arguments.

    Args:
        name_or_path: a shipped model (`iqt_small`, `triq_small`), or a file of a training or of `save_quality`.
        device: where to put it.

    Raises:
        MissingError: no shipped model has that name.
        CheckpointError: the file cannot be read, or does not say which model it holds.
    """
    path = _path_of(name_or_path)
    state, block = read_weights(path)
    block = _read_block(path) or block
    name = block.get("type") if block else "nothing"
    if block is None or not isinstance(name, str) or name not in QUALITY.names():
        raise CheckpointError(
            f"{path}: does not say which quality model it holds (of its kind it says: {name}). Build the model with "
            "build_quality, load the weights into it and write them with restore.quality.loading.save_quality."
        )
    state = {key: value.float() for key, value in state.items()}
    model: QualityModel = build_as_stored(QUALITY, block, state, source=str(path))
    return model.eval().requires_grad_(False).to(device)


def save_quality(
    model: QualityModel, block: Mapping[str, Any], path: str | Path, *, dtype: torch.dtype = torch.float16
) -> str:
    """Write a model's weights and its block to a safetensors file; returns the file's SHA-256."""
    from safetensors.torch import save_file

    state = {
        key: (value.to(dtype) if value.is_floating_point() else value).contiguous()
        for key, value in model.state_dict().items()
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, metadata={_BLOCK: json.dumps(block)})
    return sha256_of(path)


def _path_of(name_or_path: str | Path) -> Path:
    path = expanded(name_or_path)
    if path.suffix:
        return path
    shipped = _SHIPPED / f"{name_or_path}.safetensors"
    if not shipped.is_file():
        known = [each.stem for each in sorted(_SHIPPED.glob("*.safetensors")) if _read_block(each)]
        raise MissingError(
            f"there is no shipped quality model '{name_or_path}'.{nearest(str(name_or_path), known)} "
            f"Known: {', '.join(known) or 'none'}; or give a file."
        )
    return shipped


def _read_block(path: Path) -> dict[str, Any] | None:
    try:
        block = json.loads(read_header(path).get(_BLOCK, "null"))
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path}: damaged: its header does not say which quality model it holds.") from None
    return block if isinstance(block, dict) else None

"""Weights files that say which network they hold: its option block stands in the header, or as training writes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from restore.errors import CheckpointError, MissingError, nearest
from restore.files import expanded, sha256_of
from restore.networks.bounded import build_as_stored
from restore.networks.checkpoint import read_weights
from restore.networks.reading import read_header
from restore.registry import Registry

__all__ = ["block_in_header", "load_described", "save_described", "shipped_path"]

_SHIPPED = Path(__file__).parent.parent / "zoo" / "weights"


def load_described(
    registry: Registry,
    path: Path,
    entry: str,
    *,
    advice: str = "",
    changed: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
) -> Any:
    """The network of a registry that a file says it holds, with its weights.

    Args:
        registry: of networks of its kind.
        path: the file.
        entry: of the header, under which the block stands.
        advice: what to do with a file that does not say.
        changed: another block for the same weights; None: as the file says.

    Raises:
        CheckpointError: the file cannot be read, or does not say which network of the registry it holds.
    """
    state, block = read_weights(path)
    block = block_in_header(path, entry) or block
    name = block.get("type") if block else "nothing"
    if block is None or not isinstance(name, str) or name not in registry.names():
        raise CheckpointError(
            f"{path}: does not say which {registry.kind} it holds (of its kind it says: {name}). {advice}".rstrip()
        )
    if changed is not None:
        block = dict(changed(block))
    state = {key: value.float() for key, value in state.items()}
    return build_as_stored(registry, block, state, source=str(path))


def save_described(
    network: nn.Module, block: Mapping[str, Any], path: str | Path, entry: str, *, dtype: torch.dtype = torch.float16
) -> str:
    """Write a network's weights and its block to a safetensors file; returns the file's SHA-256."""
    from safetensors.torch import save_file

    state = {
        key: (value.to(dtype) if value.is_floating_point() else value).contiguous()
        for key, value in network.state_dict().items()
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, metadata={entry: json.dumps(block)})
    return sha256_of(path)


def block_in_header(path: Path, entry: str) -> dict[str, Any] | None:
    """The block under an entry of the header of a safetensors file; None where there is none.

    Raises:
        CheckpointError: what stands there cannot be read.
    """
    try:
        block = json.loads(read_header(path).get(entry, "null"))
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path}: damaged: its header does not say which {entry} model it holds.") from None
    return block if isinstance(block, dict) else None


def shipped_path(name_or_path: str | Path, entry: str, kind: str) -> Path:
    """The file that is meant: a path as it is, or a shipped model whose header has this entry.

    Raises:
        MissingError: no shipped model of the kind has that name.
    """
    path = expanded(name_or_path)
    if path.suffix:
        return path
    shipped = _SHIPPED / f"{name_or_path}.safetensors"
    if not shipped.is_file():
        known = [each.stem for each in sorted(_SHIPPED.glob("*.safetensors")) if block_in_header(each, entry)]
        raise MissingError(
            f"there is no shipped {kind} '{name_or_path}'.{nearest(str(name_or_path), known)} "
            f"Known: {', '.join(known) or 'none'}; or give a file."
        )
    return shipped

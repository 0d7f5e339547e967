"""Weights for other programs: everything that a strict reader wants, in one safetensors file that says what it is.

spandrel, and with it chaiNNer and ComfyUI, reads weights strictly: entries that follow from the arguments of a network,
left out elsewhere, have to be there. They are whole numbers and take one byte each; masks are those of the smallest
training patch, which decides nothing else.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from restore.errors import CheckpointError
from restore.files import atomic_write
from restore.networks.base import Network
from restore.networks.checkpoint import load_weights
from restore.registry import NETWORKS
from restore.zoo.load import load_network, network_block

__all__ = ["architecture_of", "portable_state", "write_portable"]

PATCHES = {"SwinIR": ("ape", "window_size"), "EDT": (None, "window_size")}
"""Networks whose `img_size` decides the size of their masks alone, unless the option that is named is on."""


def portable_state(
    source: str | Path, *, key: str | None = None, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    """The state dict of a model with all that a strict reader wants.

    Args:
        source: a model's name or address, or a weights file.
        key: entry of the file that holds the weights; None finds it.
        dtype: of its floating-point weights.
    """
    state = _with_small_masks(source, key).state_dict()
    return {name: _compact(value, dtype) for name, value in state.items()}


def write_portable(
    source: str | Path,
    path: Path,
    *,
    key: str | None = None,
    dtype: torch.dtype = torch.float32,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a model as safetensors, whose header says architecture, scale and what else is given.

    Raises:
        OutputError: the file cannot be written.
    """
    from safetensors.torch import save

    network = load_network(source, key=key)
    said = {"format": "pt", "architecture": architecture_of(network), "scale": network.spec.scale, **(metadata or {})}
    with contextlib.suppress(CheckpointError):  # one of spandrel's, told from its keys
        said["network"] = network_block(source)
    header = {key: value if isinstance(value, str) else json.dumps(value) for key, value in said.items()}
    with atomic_write(path) as file:
        file.write(save(portable_state(source, key=key, dtype=dtype), metadata=header))


def architecture_of(network: Network) -> str:
    """The name of a network's architecture: its type here, or the name that spandrel has for it."""
    foreign = getattr(network, "architecture", None)
    return str(foreign.id) if foreign is not None else type(network).__name__


def _with_small_masks(source: str | Path, key: str | None) -> nn.Module:
    network = load_network(source, key=key)
    try:
        block = network_block(source, key=key)
    except CheckpointError:
        return network
    off, window = PATCHES.get(block["type"], (None, ""))
    if block["type"] not in PATCHES or (off and block.get(off)) or "img_size" not in block:
        return network
    other: nn.Module = NETWORKS.build({**block, "img_size": 2 * block[window]})
    load_weights(other, network.state_dict(), source=str(source))
    return other


def _compact(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Whole numbers in a byte, where they fit, and weights in `dtype`."""
    value = value.detach().cpu().contiguous()
    if value.is_floating_point():
        derived = value.ndim > 1 and bool(((value == 0) | (value == -100)).all()) and bool((value == -100).any())
        return value.to(torch.int8 if derived else dtype)
    if value.dtype is torch.int64 and 0 <= int(value.min()) <= int(value.max()) <= 255:
        return value.to(torch.uint8)
    return value

"""Networks whose weights, gradients and optimizer states are split among the processes (FSDP2).

Each process keeps one slice of every parameter; a block's parameters are whole only while the block computes. What is
saved is whole all the same, so a checkpoint does not tell how it was made: it can be resumed with any number of
processes, split or not.

Whatever asks for whole tensors here talks to the other processes: all of them must ask, in the same order.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn

from restore.errors import TrainingError
from restore.layers.repeated import repeated_blocks

__all__ = ["is_sharded", "is_split", "local", "shard", "split_like", "unsharded", "whole"]


def shard(network: nn.Module) -> None:
    """Split the parameters of `network` in place, block by block; optimizers must be built afterwards.

    Raises:
        TrainingError: this torch has no FSDP2, or none for the processor.
    """
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError:
        raise TrainingError(
            f"dist_params.strategy is fsdp, which needs torch 2.6 or newer; this is {torch.__version__}. Use ddp."
        ) from None
    kind = next(network.parameters()).device.type
    if kind == "cpu" and not hasattr(torch.cpu.Stream, "record_event"):
        raise TrainingError(
            f"dist_params.strategy is fsdp, which torch {torch.__version__} does not do on the processor. "
            "Use ddp, or a newer torch."
        )
    # Results that are views, such as cropped images, must not be changed in place: torch warns, nobody here does so.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view", category=UserWarning)
    mesh = distributed.init_device_mesh(kind, (distributed.get_world_size(),))
    for module in dict.fromkeys([*repeated_blocks(network), network]):
        fully_shard(module, mesh=mesh, reshard_after_forward=True)


def is_sharded(network: nn.Module) -> bool:
    """Whether `shard` was applied to it."""
    return hasattr(network, "set_requires_gradient_sync")


@contextlib.contextmanager
def unsharded(network: nn.Module) -> Iterator[None]:
    """Keep every parameter whole inside: forward passes need no other process then, and may differ in number."""
    units = [module for module in network.modules() if hasattr(module, "set_reshard_after_forward")]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            unit.reshard()
            unit.set_reshard_after_forward(True, recurse=False)


def local(tensor: Tensor) -> Tensor:
    """The slice of this process, sharing memory with `tensor`; an ordinary tensor as it is."""
    return tensor.to_local() if is_split(tensor) else tensor


def whole(state: Any, *, keep: bool = True) -> Any:
    """A copy of nested mappings and lists with every tensor whole; those that were split are put on the processor.

    Args:
        state: a state dict of a network or an optimizer.
        keep: whether this process wants the result; it takes part in the exchange either way.
    """
    if isinstance(state, Mapping):
        return {key: whole(value, keep=keep) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(whole(value, keep=keep) for value in state)
    if not is_split(state):
        return state
    full = state.full_tensor()
    return full.cpu() if keep else None


def split_like(value: Any, example: Tensor) -> Any:
    """`value`, split as `example` is if it is a whole tensor of the same shape; else as it is."""
    if not (is_split(example) and isinstance(value, Tensor) and value.shape == example.shape):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(example.device), example.device_mesh, example.placements)


def is_split(value: Any) -> bool:
    """Whether a value is a tensor of which this process holds a slice."""
    return hasattr(value, "full_tensor")

"""Networks for weights that come from anywhere: built no further than the weights could fill them.

What a weights file says of its network, and what its keys seem to say, is a claim: a few bytes may name ten million
blocks. The network is first built without memory, on the meta device, and its shapes are compared with the weights;
whatever has far more parameters than the file has tensors is given up on the way. Nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from restore.errors import CheckpointError, OptionsError, RestoreError
from restore.networks.base import State
from restore.networks.checkpoint import load_weights, require_fit
from restore.registry import Registry

__all__ = ["build_as_stored", "no_larger_than", "require_sane"]

MOST_VALUES, LARGEST_NUMBER, DEEPEST, LONGEST_TEXT = 5000, 1 << 16, 20, 1000
"""Of an option block: more is no network."""
TIMES, MORE = 64, 8000
"""Parts that are made while a network is built, at most, as multiples of its tensors: encoders are tried out first."""


def build_as_stored(registry: Registry, block: Mapping[str, Any], state: State, *, source: str) -> Any:
    """The network of an option block, with the weights that it came with.

    Args:
        registry: of networks or of quality models.
        block: what the weights file says, or its keys tell.
        state: the weights.
        source: the file, for messages.

    Raises:
        CheckpointError: the block is none, or the weights do not fit it.
    """
    require_sane(block, source)

    def build() -> nn.Module:
        network: nn.Module = registry.build(block, path="network")
        return network

    from restore.encoders.timm.weights import without_pretrained

    with no_larger_than(state, source), without_pretrained():
        shape = None
        try:
            with torch.device("meta"):
                shape = build()
        except Exception as error:
            if "meta" not in str(error):
                raise
            # it looks at values, which meta tensors have none of
        if shape is not None:
            require_fit(shape, state, source)
        network = build()
    load_weights(network, state, source=source)
    return network


@contextlib.contextmanager
def no_larger_than(state: State, source: str) -> Iterator[None]:
    """Inside, a network for these weights is built; one that has far more parts, or that cannot be built, is refused.

    Raises:
        CheckpointError: it is refused; names the source.
    """
    most, num, here = TIMES * len(state) + MORE, 0, threading.get_ident()

    def count(module: nn.Module, name: str, part: Any) -> None:
        nonlocal num
        num += threading.get_ident() == here
        if num > most:
            raise _TooLarge

    hooks: list[Any] = [
        register_module_module_registration_hook(count),
        register_module_parameter_registration_hook(count),
    ]
    try:
        yield
    except _TooLarge:
        raise CheckpointError(
            f"{source}: the network that the file names has more than {most:,} parts; it holds {len(state):,} tensors."
        ) from None
    except OptionsError as error:
        raise CheckpointError(f"{source}: the network that the file names cannot be built here.\n  {error}") from None
    except RestoreError:
        raise
    except Exception as error:  # whatever such arguments make of a network
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise CheckpointError(
            f"{source}: the network that the file names cannot be built here ({type(error).__name__}: {reason})."
        ) from error
    finally:
        for hook in hooks:
            hook.remove()


class _TooLarge(BaseException):
    """Not an `Exception`, so that no part of a network takes it for a refusal of its own."""


def require_sane(block: Mapping[str, Any], source: str) -> None:
    """Refuse what no option block is: endless, deep, with numbers that no network has, or other than plain values.

    Raises:
        CheckpointError: names the file and the entry.
    """
    num = 0
    left: list[tuple[Any, int, Any]] = [(block, 0, "")]
    while left:
        value, depth, name = left.pop()
        num += 1
        below: list[tuple[Any, Any]] = []
        if isinstance(value, Mapping):
            below = [(item, key) for key, item in value.items()]
        elif isinstance(value, (list, tuple)):
            below = [(item, name) for item in value]
        is_key = isinstance(name, str) and len(name) <= LONGEST_TEXT
        is_plain = value is None or isinstance(value, (str, bool, int, float, Mapping, list, tuple))
        is_small = not isinstance(value, (int, float)) or abs(value) <= LARGEST_NUMBER or name == "seed"
        is_short = not isinstance(value, str) or len(value) <= LONGEST_TEXT
        if not (is_key and is_plain and is_small and is_short and depth <= DEEPEST and num + len(below) <= MOST_VALUES):
            where = f" ({ascii(name)[:60]})" if name else ""
            raise CheckpointError(f"{source}: the block that should name its network is none{where}.")
        left += [(item, depth + 1, key) for item, key in below]

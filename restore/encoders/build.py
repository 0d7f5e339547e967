"""Encoders from option blocks, held to the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from restore.encoders.base import Encoder
from restore.registry import ENCODERS

__all__ = ["build_encoder"]


def build_encoder(
    block: str | Mapping[str, Any], *, path: str = "encoder", maps_only: bool = False, **supplied: Any
) -> Encoder:
    """An encoder from a name or a `{type: NAME, argument: value}` block.

    Args:
        block: a registered name, or one of timm's (`convnext_atto`, `swin_tiny_patch4_window7_224`, ...).
        path: where the block stands in the option file, for messages.
        maps_only: remove what no map depends on, as `Encoder.prune_to_maps` does.
        supplied: arguments that the caller gives itself, such as `in_chans`.

    Raises:
        OptionsError: neither ours nor timm's, or every option that the encoder does not have.
        TypeError: what is registered under the name is not an encoder.
    """
    encoder = ENCODERS.build(block, path=path, **supplied)
    kind = type(encoder).__name__
    if not isinstance(encoder, Encoder):
        raise TypeError(f"{kind} is registered as an encoder but does not derive from Encoder")
    if "out_indices" not in vars(encoder):
        raise TypeError(f"{kind}.__init__ does not call super().__init__(in_chans, channels=..., strides=..., ...)")
    if "blocks" in encoder._modules:
        raise TypeError(f"{kind} has a module called blocks, which is a method of encoders: call it stack")
    wanted = {**supplied, **({} if isinstance(block, str) else block)}.get("out_indices")
    if wanted is not None and encoder.out_indices != tuple(index % encoder.num_maps for index in wanted):
        raise TypeError(f"{kind}.__init__ does not give out_indices to super().__init__")
    if maps_only:
        encoder.prune_to_maps()
    return encoder

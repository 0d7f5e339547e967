"""Weights that are NaN, infinite or integers: a network would make senseless images of them, without an error."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from restore.errors import CheckpointError

__all__ = ["require_finite", "require_fractions"]

_MOST_LISTED = 8


def require_fractions(state: Mapping[str, torch.Tensor], source: str) -> None:
    """Refuse tensors of integers where the network has fractions, as quantised files hold without their scales.

    Args:
        state: the weights by name, those alone that are fractions in the network.
        source: what to call them in the message.

    Raises:
        CheckpointError: names the first of them and its type.
    """
    whole = [name for name, value in state.items() if not value.is_floating_point() and value.numel() > 1]
    if whole:
        raise CheckpointError(
            f"{source}: {len(whole)} of {len(state)} tensors hold whole numbers ({whole[0]}: "
            f"{str(state[whole[0]].dtype).removeprefix('torch.')}) where the network has fractions: quantised weights "
            "are not read here. Take the file in float32 or float16."
        )


def require_finite(state: Mapping[str, torch.Tensor], source: str) -> None:
    """Refuse weights of which one is NaN or infinite; attention masks, which hold 0 and -inf, are none.

    Args:
        state: the weights by name, of any dtype.
        source: what to call them in the message.

    Raises:
        CheckpointError: names the tensors.
    """
    wrong = [name for name, value in state.items() if not _is_finite(value)]
    if wrong:
        named = ", ".join(wrong[:_MOST_LISTED]) + (" ..." if len(wrong) > _MOST_LISTED else "")
        raise CheckpointError(
            f"{source}: {len(wrong)} of {len(state)} tensors are not finite (they hold NaN or infinity): {named}. "
            "The training that wrote them has diverged, or a conversion overflowed: take an earlier checkpoint."
        )


def _is_finite(value: torch.Tensor) -> bool:
    if value.is_meta or not (value.is_floating_point() or value.is_complex()):
        return True
    value = getattr(value, "to_local", lambda: value)()  # of what is shared among processes, this one's part
    value = value.float() if value.is_floating_point() and value.itemsize == 1 else value
    if bool(torch.isfinite(value).all()):
        return True
    return value.ndim > 1 and bool(((value == 0) | (value == -torch.inf)).all())

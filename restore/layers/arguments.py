"""What constructors ask of the numbers they are given, before torch stumbles over them."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["require_exact", "require_odd", "require_positive"]


def require_positive(**arguments: float | Sequence[float]) -> None:
    """Refuse sizes and counts, alone or in a list, that are not above zero.

    Raises:
        ValueError: the message names every argument that has such a number.
    """
    wrong = [
        f"{name} is {list(value) if isinstance(value, Sequence) else value}"
        for name, value in arguments.items()
        if any(not number > 0 for number in (value if isinstance(value, Sequence) else (value,)))
    ]
    if wrong:
        raise ValueError(f"{', '.join(wrong)}: must be greater than 0")


def require_odd(**arguments: int) -> None:
    """Refuse sides of kernels that are not odd, or not above zero.

    Raises:
        ValueError: the message names every such argument.
    """
    wrong = [f"{name} is {value}" for name, value in arguments.items() if value < 1 or value % 2 == 0]
    if wrong:
        raise ValueError(f"{', '.join(wrong)}: must be odd and greater than 0")


def require_exact(name: str, size: int, stride: int, padding: int) -> None:
    """Refuse a convolution or a pooling that does not make a map `stride` times smaller of one that this divides.

    Raises:
        ValueError: the message gives its numbers, and what they have to be.
    """
    require_positive(**{f"{name}_size": size, f"{name}_stride": stride})
    if not 0 <= 2 * padding < size <= 2 * padding + stride:
        raise ValueError(
            f"{name}: size {size}, stride {stride} and padding {padding} do not make a map {stride} times smaller: "
            "the size must be more than twice the padding, by no more than the stride"
        )

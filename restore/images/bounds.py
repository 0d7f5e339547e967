"""How much a file may claim: checked before anything is decoded, so that a few bytes cannot ask for all memory."""

from __future__ import annotations

__all__ = ["MAX_BYTES", "MAX_PIXELS", "check_claim"]

MAX_PIXELS = 1 << 30
MAX_BYTES = 1 << 33


def check_claim(height: int, width: int, pixel_bytes: float, held_bytes: int, most_per_byte: int) -> None:
    """Refuse a file that claims more than is read, or more than its bytes can hold.

    Args:
        height, width: of the image.
        pixel_bytes: of one decoded pixel, all channels.
        held_bytes: those that are there to be decoded.
        most_per_byte: decoded bytes that one of them can stand for, at the most.

    Raises:
        ValueError: the message says what is claimed and what is allowed.
    """
    if min(height, width) < 1:
        raise ValueError(f"it claims {height}x{width} pixels: there is nothing to read")
    if height * width > MAX_PIXELS:
        raise ValueError(f"it claims {height}x{width} pixels; at most {MAX_PIXELS} are read")
    claimed = int(height * width * pixel_bytes)
    if claimed > MAX_BYTES:
        raise ValueError(
            f"it claims {height}x{width} pixels of {pixel_bytes:g} bytes; at most {MAX_BYTES} bytes are read"
        )
    if claimed > held_bytes * most_per_byte:
        raise ValueError(
            f"the file is truncated (it claims {claimed} bytes of pixels, which its {held_bytes} bytes cannot hold)"
        )

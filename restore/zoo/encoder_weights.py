"""Where weights of encoders are offered: a short card for each, in `encoder_weights.yml`.

Cards of models that restore (`restore.zoo.card`) name a file that is loaded by their name; weights of encoders are
downloaded from their authors, and loaded by `restore.encoders.load_published`.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pydantic

__all__ = ["EncoderWeights", "list_encoder_weights"]

FILE = Path(__file__).parent / "encoder_weights.yml"


class EncoderWeights(pydantic.BaseModel, extra="forbid"):
    """Weights of the variants of an encoder."""

    page: str = pydantic.Field(description="Where they are offered.")
    licence: str = pydantic.Field(description="Of the repository.")
    variants: list[str] = pydantic.Field([], description="Those that are offered, where not all are.")
    arguments: dict[str, Any] = pydantic.Field({}, description="What the encoder has to be built with besides.")
    note: str = ""

    def __str__(self) -> str:
        """In a line."""
        arguments = ", ".join(f"{key}: {str(value).lower()}" for key, value in self.arguments.items())
        parts = [
            f"{self.page} ({self.licence})",
            f"of {', '.join(self.variants)}" if self.variants else "",
            f"with {arguments}" if arguments else "",
            self.note,
        ]
        return "; ".join(filter(None, parts))


@functools.cache
def list_encoder_weights() -> dict[str, EncoderWeights]:
    """By the name of the encoder."""
    import yaml

    cards = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {name: EncoderWeights(**card) for name, card in cards.items()}

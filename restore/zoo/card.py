"""Model cards: one YAML document for each model, beside the package's weights.

A card says what the model is for, how to build it, where its weights are, what they were trained on, under which
licence, and which figures were measured with which command. Related cards may share a file (`---` between them).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic

from restore.errors import OptionsError, Problem, nearest
from restore.signature import validate

__all__ = ["Card", "find_card", "list_cards"]

FOLDER = Path(__file__).parent


class Figure(pydantic.BaseModel, extra="forbid"):
    """One measured or published figure."""

    dataset: str
    protocol: str = ""
    psnr: float | None = None
    ssim: float | None = None
    psnr_b: float | None = None
    bicubic_psnr: float | None = None
    lpips: float | None = None
    bicubic_lpips: float | None = None
    ap50: float | None = None
    srcc: float | None = None
    plcc: float | None = None
    source: str = pydantic.Field(description="The command that prints it, or the publication.")


class Card(pydantic.BaseModel, extra="forbid"):
    """A model that is found by its name."""

    name: str
    task: str = pydantic.Field(description="sr, denoise, jpeg, derain, deblur, quality or defects.")
    summary: str
    network: dict[str, Any] | None = pydantic.Field(None, description="`network_g`; by default told from the keys.")
    weights: str = pydantic.Field(description="Name of the weights file.")
    url: str | None = pydantic.Field(None, description="Where the weights can be downloaded.")
    mirrors: list[str] = pydantic.Field([], description="Further addresses of the same file.")
    page: str | None = pydantic.Field(None, description="Where they are offered, if there is no address to load from.")
    scale: int = pydantic.Field(1, description="Output pixels per input pixel.")
    sigma: float | None = pydantic.Field(None, description="Noise level it was trained for; none for blind denoisers.")
    quality: int | None = pydantic.Field(None, description="JPEG quality it was trained for; none for blind ones.")
    grey: bool = pydantic.Field(False, description="Whether it restores grey images only.")
    drawn: bool = pydantic.Field(False, description="For drawings, such as anime, and not for photographs.")
    real: bool = pydantic.Field(False, description="For photographs from real life, at the cost of fidelity.")
    size_bytes: int | None = None
    sha256: str | None = pydantic.Field(
        None, description="None where nobody vouches for one: see `restore.zoo.download`."
    )
    licence: str = "Apache-2.0"
    trained_on: str = ""
    training: str = ""
    figures: list[Figure] = []

    @property
    def restores(self) -> bool:
        """Whether it makes an image of an image, instead of judging it."""
        return self.task not in ("quality", "defects")

    @property
    def path(self) -> Path | None:
        """Where the shipped weights lie, or None when they are not part of the package."""
        path = FOLDER / "weights" / self.weights
        return path if path.is_file() else None


@functools.cache
def list_cards() -> tuple[Card, ...]:
    """Every card of the package, sorted by name."""
    return tuple(sorted((_read(*document) for document in _documents()), key=lambda card: card.name))


def _documents() -> Iterator[tuple[str, str]]:
    """The text of every card, with the name of its file."""
    for path in sorted((FOLDER / "cards").glob("*.yml")):
        for text in path.read_text(encoding="utf-8").split("\n---\n"):
            yield text, path.name


def _read(text: str, file: str) -> Card:
    import yaml

    values = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    problems, card = validate(Card, values, owner="model card")
    if problems:
        raise OptionsError([Problem(p.path, p.message, file=file) for p in problems])
    found: Card = card
    return found


@functools.cache
def find_card(name: str) -> Card:
    """The card of that name; no other is read.

    Raises:
        OptionsError: no such model; the message gives the nearest name and the list.
    """
    for text, file in _documents():
        if f"\nname: {name}\n" in f"\n{text}":
            return _read(text, file)
    cards = {card.name: card for card in list_cards()}
    if name not in cards:
        near = nearest(name, cards, most=3)
        raise OptionsError(f"unknown model '{name}'.{near} `restore models` lists the {len(cards)} that are known.")
    return cards[name]

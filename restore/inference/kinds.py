"""The kinds of things that a `Restorer` takes, and gives back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

import torch
from PIL.Image import Image as PillowImage

from restore.images import Image, read_image
from restore.images.pillow import from_pillow, to_pillow

__all__ = ["grouped", "name_of", "taken", "through_stream"]

Item = TypeVar("Item")


def taken(thing: Any) -> tuple[Any, Callable[[Any], Any]]:
    """What is restored of a thing, and what makes the result one of its kind; the result of a path is an `Image`.

    Raises:
        ImageError: a file that cannot be read, or a Pillow image of a mode that is not supported.
    """
    if isinstance(thing, (str, os.PathLike)):
        return read_image(os.fspath(thing)), _itself
    if isinstance(thing, PillowImage):
        return from_pillow(thing), partial(to_pillow, like=thing)
    return thing, _itself


def through_stream(things: Iterable[Any], stream: Callable[[Iterator[Any]], Iterable[Any]]) -> list[Any]:
    """Things of any kind through a stream of what is restored, each given back as its own kind."""
    ways_back = []

    def drawn() -> Iterator[Any]:
        for thing in things:
            image, given_back = taken(thing)
            ways_back.append(given_back)
            yield image

    return [ways_back[number](result) for number, result in enumerate(stream(drawn()))]


def grouped(
    items: Iterable[Item], image_of: Callable[[Item], object], group_size: Callable[[int, int], int]
) -> Iterator[list[Item]]:
    """Consecutive items whose images are alike, at most `group_size(H, W)` together."""
    group: list[Item] = []
    for item in items:
        image = image_of(item)
        if group and _kind(image) != _kind(image_of(group[0])):
            yield group
            group = []
        group.append(item)
        if len(group) >= group_size(*_size(image)):
            yield group
            group = []
    if group:
        yield group


def _itself(image: Image) -> Image:
    return image


def _size(image: Any) -> tuple[int, int]:
    """(H, W) of an image or of a batch."""
    height, width = image.shape[-2:] if isinstance(image, torch.Tensor) else getattr(image, "pixels", image).shape[:2]
    return height, width


def name_of(image: Image) -> str:
    """What to call an image in messages."""
    return f"'{image.path}'" if image.path else "the image"


def _kind(image: Any) -> tuple[Any, ...]:
    """What images that go through a network together have in common."""
    pixels = getattr(image, "pixels", image)
    return (type(image), pixels.shape, pixels.dtype)

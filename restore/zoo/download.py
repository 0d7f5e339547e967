"""Weights files of the zoo: shipped, in a folder of the user's, or downloaded once.

    RESTORE_WEIGHTS=~/weights               a folder that holds the files, for machines without a network
    RESTORE_WEIGHTS=https://mirror/weights  an address that serves them under their own names

Downloads go to the cache folder (`$RESTORE_CACHE`). A file is compared with the size and checksum on its card. Where
nobody publishes one, a warning says so, and the checksum of the first file that is seen is recorded in the cache folder
and compared from then on, also when the file is downloaded again.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import time
from pathlib import Path

from restore.data.storage.cache import cache_folder
from restore.downloads import download
from restore.errors import CheckpointError, DataError, MissingError, OutputError
from restore.files import atomic_write, expanded, sha256_of
from restore.zoo.card import Card

__all__ = ["Place", "address", "fetch_weights", "local_weights", "place_of", "recorded_checksum"]

SECONDS_BETWEEN_NOTES = 10
logger = logging.getLogger(__name__)


class Place(enum.IntEnum):
    """Where the weights of a model are, the nearest first."""

    SHIPPED = enum.auto()
    ON_DISK = enum.auto()
    DOWNLOADABLE = enum.auto()
    BY_HAND = enum.auto()


def place_of(card: Card) -> Place:
    """Where the weights of a card are now."""
    if card.path is not None:
        return Place.SHIPPED
    if local_weights(card) is not None:
        return Place.ON_DISK
    return Place.DOWNLOADABLE if address(card) else Place.BY_HAND


def local_weights(card: Card) -> Path | None:
    """The weights of a card where they lie on this machine, or None."""
    if card.path is not None:
        return card.path
    folders = [weights_folder()]
    chosen = os.environ.get("RESTORE_WEIGHTS", "")
    if chosen and not _is_address(chosen):
        folders.insert(0, expanded(chosen))
    return next((folder / card.weights for folder in folders if (folder / card.weights).is_file()), None)


def weights_folder() -> Path:
    """Where downloaded weights are kept."""
    return cache_folder() / "weights"


def address(card: Card) -> str | None:
    """Where the weights of a card can be downloaded: the mirror in RESTORE_WEIGHTS, else the card's own address."""
    chosen = os.environ.get("RESTORE_WEIGHTS", "")
    is_of_zoo = "/" not in card.weights  # and not found by its address
    return f"{chosen.rstrip('/')}/{card.weights}" if is_of_zoo and _is_address(chosen) else card.url


def recorded_checksum(card: Card) -> str | None:
    """The SHA-256 of the first weights file of a card that was seen on this machine; for cards that give none."""
    record = _record(card)
    return record.read_text("utf-8").split()[0] if card.sha256 is None and record.is_file() else None


def fetch_weights(card: Card) -> Path:
    """The weights file of a card, downloaded if it is not here.

    Raises:
        MissingError: it could not be downloaded; the message names the address and the folder to put it in by hand.
        CheckpointError: size or checksum are not those of the card, or of the first file that was seen.
    """
    path = local_weights(card)
    if path is not None:
        if path != card.path:  # what the package carries is not checked at each start
            _verify(path, card)
        return path
    url = address(card)
    if url is None:
        raise MissingError(f"the weights of '{card.name}' have no address to load from. {_by_hand(card)}")
    path = weights_folder() / card.weights
    size = f"{card.size_bytes / 1e6:.1f} MB" if card.size_bytes else "of unknown size"
    logger.info("downloading %s (%s) to %s", url, size, path)
    expected = card.sha256 or recorded_checksum(card)
    try:
        digest = _from_any([url, *card.mirrors], path, expected, card.size_bytes)
    except MissingError as error:
        raise MissingError(f"the weights of '{card.name}' are not here. {error} {_by_hand(card)}") from None
    except DataError as error:
        raise CheckpointError(f"the weights of '{card.name}': {error} {_whose(card)}") from None
    if expected is None:
        _vouch(card, digest)
    return path


def _from_any(urls: list[str], path: Path, sha256: str | None, size_bytes: int | None) -> str:
    """Load a file from the first address that has it; its SHA-256."""
    for url in urls[:-1]:
        try:
            return download(url, path, sha256=sha256, size_bytes=size_bytes, on_progress=_Notes())
        except (MissingError, DataError) as error:
            logger.info("%s The next address is tried.", error)
    return download(urls[-1], path, sha256=sha256, size_bytes=size_bytes, on_progress=_Notes())


class _Notes:
    """Tells now and then how far a download is."""

    def __init__(self) -> None:
        self._latest = time.monotonic()

    def __call__(self, num_bytes: int, total: int | None) -> None:
        if time.monotonic() - self._latest > SECONDS_BETWEEN_NOTES:
            self._latest = time.monotonic()
            of_all = f" of {total / 1e6:.1f}" if total else ""
            logger.info("%.1f%s MB", num_bytes / 1e6, of_all)


def _verify(path: Path, card: Card) -> None:
    size = path.stat().st_size
    if card.size_bytes is not None and size != card.size_bytes:
        raise CheckpointError(
            f"{path}: {size} bytes, but '{card.name}' has {card.size_bytes}. Remove it to load it anew."
        )
    expected, digest = card.sha256 or recorded_checksum(card), sha256_of(path)
    if expected is None:
        _vouch(card, digest)
    elif digest != expected:
        raise CheckpointError(
            f"{path}: its SHA-256 is {digest} instead of {expected}. {_whose(card)} Remove the file to load it anew."
        )


def _vouch(card: Card, digest: str) -> None:
    """Warn that nobody else does, and record the checksum."""
    record = _record(card)
    with contextlib.suppress(OutputError), atomic_write(record) as file:
        file.write(f"{digest}  {card.weights}\n".encode())
    logger.warning(
        "warning: nobody publishes a checksum for %s, so it could not be verified. Its SHA-256, %s, is recorded in %s "
        "and compared from now on.",
        card.weights,
        digest,
        record,
    )


def _whose(card: Card) -> str:
    """What a file was compared with."""
    if card.sha256 or not recorded_checksum(card):
        return f"{'Its publisher or the address' if ':' in card.name else 'Its card'} says so."
    return f"That is of the first file seen here, recorded in {_record(card)}: remove the record to accept another."


def _record(card: Card) -> Path:
    return weights_folder() / f"{card.weights}.sha256"


def _by_hand(card: Card) -> str:
    where = card.url or address(card) or card.page
    found = f"Get {card.weights} from {where}" if where else f"Get {card.weights}"
    chosen = os.environ.get("RESTORE_WEIGHTS", "")
    named = ""
    if chosen and not _is_address(chosen):
        named = f" (it names '{chosen}'{'' if expanded(chosen).is_dir() else ', which is not a folder'})"
    return f"{found} and put it in {weights_folder()}, or in a folder that RESTORE_WEIGHTS names{named}."


def _is_address(text: str) -> bool:
    return text.startswith(("http://", "https://"))

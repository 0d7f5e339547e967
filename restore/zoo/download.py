"""Weights files of the zoo: shipped, in a folder of the user's, or downloaded once.

    RESTORE_WEIGHTS=~/weights               a folder that holds the files, for machines without a network
    RESTORE_WEIGHTS=https://mirror/weights  an address that serves them under their own names

Downloads go to the cache folder (`$RESTORE_CACHE`), continue where they were interrupted, and take their name when they
are whole. A file is compared with the size and checksum on its card; where the authors publish none, the checksum of
the first download is recorded beside the file and compared from then on.
"""

from __future__ import annotations

import enum
import http.client
import logging
import os
import urllib.error
import urllib.request
from pathlib import Path

from restore.data.cache import cache_folder
from restore.errors import CheckpointError, MissingError
from restore.files import atomic_write, sha256_of
from restore.zoo.card import Card

__all__ = ["Place", "address", "fetch_weights", "local_weights", "place_of"]

BLOCK_BYTES = 1 << 20
TIMEOUT_S = 30
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
        folders.insert(0, Path(chosen).expanduser())
    return next((folder / card.weights for folder in folders if (folder / card.weights).is_file()), None)


def weights_folder() -> Path:
    """Where downloaded weights are kept."""
    return cache_folder() / "weights"


def address(card: Card) -> str | None:
    """Where the weights of a card can be downloaded: the mirror in RESTORE_WEIGHTS, else the card's own address."""
    chosen = os.environ.get("RESTORE_WEIGHTS", "")
    return f"{chosen.rstrip('/')}/{card.weights}" if _is_address(chosen) else card.url


def fetch_weights(card: Card) -> Path:
    """The weights file of a card, downloaded if it is not here.

    Raises:
        MissingError: it cannot be had; the message names the address and the folder to put it in by hand.
        CheckpointError: size or checksum are not those of the card, or of the first download.
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
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    size = f"{card.size_bytes / 1e6:.1f} MB" if card.size_bytes else "of unknown size"
    logger.info("downloading %s (%s) to %s", url, size, path)
    try:
        _download(url, partial)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise MissingError(
            f"the weights of '{card.name}' could not be loaded from {url} ({reason}). {_by_hand(card)}"
        ) from None
    try:
        _verify(partial, card)
    except CheckpointError:
        partial.unlink()
        raise
    digest = sha256_of(partial)
    if card.sha256 is None:
        logger.info("nobody vouches for its checksum; recorded for later: SHA-256 %s", digest)
    with atomic_write(_record(path)) as file:
        file.write(digest.encode())
    partial.replace(path)
    return path


def _download(url: str, partial: Path) -> None:
    """Load `url` into `partial`, continuing what is there if the server can."""
    start = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:  # it was whole already, or is another file
            partial.unlink()
            return _download(url, partial)
        raise
    with response:
        continued = response.status == http.client.PARTIAL_CONTENT
        expected = response.headers.get("Content-Length")
        with partial.open("ab" if continued else "wb") as file:
            before = file.tell()
            while block := response.read(BLOCK_BYTES):
                file.write(block)
            loaded = file.tell() - before
            file.flush()
            os.fsync(file.fileno())
    if expected is not None and loaded < int(expected):
        raise ConnectionError(f"the connection broke after {loaded} of {expected} bytes; the same command continues")
    return None


def _verify(path: Path, card: Card) -> None:
    size = path.stat().st_size
    if card.size_bytes is not None and size != card.size_bytes:
        raise CheckpointError(
            f"{path}: {size} bytes, but '{card.name}' has {card.size_bytes}. Remove it to load it anew."
        )
    record = _record(path)
    recorded = record.read_text().strip() if record.is_file() else None
    expected, whose = (card.sha256, "its card") if card.sha256 else (recorded, "the first download")
    if expected is not None and sha256_of(path) != expected:
        raise CheckpointError(f"{path}: its SHA-256 is not that of {whose}. Remove it to load it anew.")


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _by_hand(card: Card) -> str:
    where = address(card) or card.page
    found = f"Get {card.weights} from {where}" if where else f"Get {card.weights}"
    return f"{found} and put it in {weights_folder()}, or in a folder that RESTORE_WEIGHTS names."


def _is_address(text: str) -> bool:
    return text.startswith(("http://", "https://"))

"""Downloads the archive of a part whose card names its address and checksum, and unpacks it."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from restore.data.cards import Part
from restore.errors import DataError, MissingError, OutputError
from restore.files import atomic_write, sha256_of

__all__ = ["download_part"]

_CHUNK = 1 << 20


def download_part(
    part: Part,
    folder: Path,
    *,
    on_start: Callable[[int], None] = lambda num_bytes: None,
    on_bytes: Callable[[int], None] = lambda num_bytes: None,
) -> None:
    """Get the archive of a part, check it, and unpack it in `folder`. An archive that is there is not loaded again.

    Args:
        part: one that is `downloadable`.
        folder: the dataset's folder; made if missing.
        on_start: called with the number of bytes that will come, if the server tells.
        on_bytes: called with the number of bytes that came.

    Raises:
        MissingError: the address does not answer.
        DataError: the bytes are not those that the card describes, or no zip file.
        OutputError: the folder cannot be written.
    """
    archive = folder / part.archive
    if not archive.is_file():
        _load(part, archive, on_start, on_bytes)
    elif sha256_of(archive) != part.sha256:
        raise DataError(f"{archive} is damaged (its checksum is not the card's): remove it and run the command again.")
    _unpack(archive, folder)


def _load(part: Part, archive: Path, on_start: Callable[[int], None], on_bytes: Callable[[int], None]) -> None:
    digest = hashlib.sha256()
    answer = _tried(part.url, lambda: urllib.request.urlopen(part.url, timeout=60))
    with answer, atomic_write(archive) as file:
        if length := answer.headers.get("Content-Length"):
            on_start(int(length))
        while chunk := _tried(part.url, lambda: answer.read(_CHUNK)):
            digest.update(chunk)
            file.write(chunk)
            on_bytes(len(chunk))
        if digest.hexdigest() != part.sha256:
            raise DataError(f"{part.url} gave other bytes than the card describes (sha256 {digest.hexdigest()}).")


def _tried(url: str, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except OSError as error:
        raise MissingError(f"{url} cannot be had: {getattr(error, 'reason', error)}.") from error


def _unpack(archive: Path, folder: Path) -> None:
    """Every top folder of the archive appears whole or not at all; `zipfile` keeps members inside the target."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking.") as temporary:
        try:
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(temporary)
        except zipfile.BadZipFile as error:
            raise DataError(f"{archive} is no zip file: {error}") from error
        for path in Path(temporary).iterdir():
            target = folder / path.name
            if target.exists():
                raise OutputError(f"{target} exists: move it away, or complete it by hand from {archive}.")
            shutil.move(path, target)

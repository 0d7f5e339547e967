"""Gets the archive of a part whose card names its address and checksum, and unpacks it."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from restore.data.preparation.cards import Part
from restore.downloads import download
from restore.errors import DataError, OutputError
from restore.files import scratch_folder, sha256_of

__all__ = ["download_part"]


def download_part(
    part: Part, folder: Path, *, on_progress: Callable[[int, int | None], None] = lambda num_bytes, total: None
) -> None:
    """Get the archive of a part, check it, and unpack it in `folder`. An archive that is there is not loaded again.

    Args:
        part: one that is `downloadable`.
        folder: the dataset's folder; made if missing.
        on_progress: called with how many bytes are here, and with how many there are, if the server tells.

    Raises:
        MissingError: the address does not answer.
        DataError: the bytes are not those that the card describes, or no zip file.
        OutputError: the folder cannot be written.
    """
    archive = folder / part.archive
    if not archive.is_file():
        download(part.url, archive, sha256=part.sha256, on_progress=on_progress)
    elif sha256_of(archive) != part.sha256:
        raise DataError(f"{archive} is damaged (its checksum is not the card's): remove it and run the command again.")
    _unpack(archive, folder)


def _unpack(archive: Path, folder: Path) -> None:
    """Every top folder of the archive appears whole or not at all; `zipfile` keeps members inside the target."""
    with scratch_folder(folder) as scratch:
        unpacked = scratch / "unpacked"
        unpacked.mkdir()
        try:
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(unpacked)
        except zipfile.BadZipFile as error:
            raise DataError(f"{archive} is not a zip file: {error}") from error
        for path in unpacked.iterdir():
            target = folder / path.name
            if target.exists():
                raise OutputError(f"{target} exists: move it away, or complete it by hand from {archive}.")
            shutil.move(path, target)

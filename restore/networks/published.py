"""Weights that torchvision publishes: where they are on this machine, or from where they are downloaded.

They are looked for, in this order: at an explicit path (a file, or a folder that holds one), in the folder that the
environment variable RESTORE_WEIGHTS names, in torch's cache; and then they are downloaded into that cache and checked.
Where none of that works, `MissingError` says which file to put where.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from restore.downloads import download_checked
from restore.errors import DataError, MissingError, OutputError
from restore.files import expanded

__all__ = ["WEIGHTS_FOLDER", "find_weights"]

WEIGHTS_FOLDER = "RESTORE_WEIGHTS"
_MIRROR = "https://download.pytorch.org/models/"


def find_weights(names: tuple[str, ...], path: str | Path | None = None) -> Path:
    """The first of `names` that is found; `names[0]` is downloaded when none is.

    Raises:
        MissingError: not found, and the download failed.
    """
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    if path is not None:
        given = expanded(path)
        found = _first_file([given, *(given / name for name in names)])
        if found is None:
            raise MissingError(f"no weights at {given}. Give the file {' or '.join(names)}, or a folder that holds it.")
        return found
    folders = [expanded(os.environ[WEIGHTS_FOLDER])] if os.environ.get(WEIGHTS_FOLDER) else []
    found = _first_file([folder / name for folder in (*folders, cache) for name in names])
    return found or _download(names[0], cache)


def _first_file(candidates: list[Path]) -> Path | None:
    return next((path for path in candidates if path.is_file()), None)


def _download(name: str, cache: Path) -> Path:
    try:
        return download_checked(_MIRROR + name, cache)
    except (MissingError, DataError, OutputError) as error:
        raise MissingError(
            f"the weights {name} are not on this machine and cannot be downloaded ({str(error).rstrip('.')}). Get "
            f"{_MIRROR}{name} and put it into {cache}, or into the folder that the environment variable "
            f"{WEIGHTS_FOLDER} names."
        ) from error

"""Decoded images in one memory-mapped file: what is cropped from them costs a few page reads, not a whole decode.

A pack is `HASH.bin`, the pixels of all images one after another, and `HASH.json`, where each of them lies. The hash
covers path, size and modification time of every file, so a changed folder makes a new pack. It is written once, under
a temporary name, by the first of the processes that want it; all workers and processes share its pages. A file that
cannot be decoded leaves a gap, and is named in a warning.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from restore.data.storage.cache import cache_folder
from restore.errors import ImageError
from restore.files import atomic_write, encoded, expanded
from restore.locks import reserved

__all__ = ["Pack", "pack_images"]

log = logging.getLogger(__name__)

_VERSION = 1


class Pack:
    """The images of a pack, opened when the first one is asked for.

    Args:
        path: the `.json` file; the pixels are beside it.
    """

    def __init__(self, path: Path):
        self._pixels_path = path.with_suffix(".bin")
        self._entries = json.loads(path.read_text(encoding="utf-8"))["images"]
        self._pixels: np.memmap | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> np.ndarray | None:
        """A read-only view of image `index`, (H, W) or (H, W, C): slicing it reads only the pages of the slice.

        None where the file could not be decoded.
        """
        if self._entries[index] is None:
            return None
        if self._pixels is None:
            self._pixels = np.memmap(self._pixels_path, np.uint8, "r")
        offset, shape, dtype = self._entries[index]
        return np.ndarray(shape, dtype, buffer=self._pixels, offset=offset)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_pixels": None}


def pack_images(
    paths: Sequence[Path], read: Callable[[int], np.ndarray], folder: str | os.PathLike | None = None
) -> Pack:
    """The pack of `paths`, made now unless it exists.

    Args:
        paths: the files, for the hash.
        read: decodes file number i; called from several threads.
        folder: where packs are kept; by default with the other caches.
    """
    root = expanded(folder) if folder else cache_folder() / "packs"
    path = root / f"{_fingerprint(paths)}.json"
    if not path.exists():
        with reserved(path, wait=True):
            if not path.exists():
                log.info("decoding %d images once into %s", len(paths), path.with_suffix(".bin"))
                _write(path, len(paths), read)
    return Pack(path)


def _write(path: Path, count: int, read: Callable[[int], np.ndarray]) -> None:
    entries: list[tuple | None] = []
    offset = 0

    def decoded(index: int) -> np.ndarray | None:
        try:
            return read(index)
        except ImageError as error:
            log.warning("left out: %s", error)
            return None

    with atomic_write(path.with_suffix(".bin")) as file, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, count, 32):  # decode ahead by a bounded number of images
            for pixels in pool.map(decoded, range(start, min(start + 32, count))):
                if pixels is None:
                    entries.append(None)
                    continue
                file.write(np.ascontiguousarray(pixels).data)
                entries.append((offset, pixels.shape, pixels.dtype.str))
                offset += pixels.nbytes
    with atomic_write(path) as file:  # last: it says that the pixels are whole
        file.write(json.dumps({"images": entries}).encode())


def _fingerprint(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256(str(_VERSION).encode())
    for path in paths:
        facts = path.stat() if path.exists() else os.stat_result([0] * 10)  # a link that leads nowhere
        digest.update(encoded(f"{path.absolute()}\0{facts.st_size}\0{facts.st_mtime_ns}\n"))
    return digest.hexdigest()[:24]

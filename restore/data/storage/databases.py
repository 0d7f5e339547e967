"""Images in lmdb databases, in BasicSR's layout, which both sides read and write.

NAME.lmdb/data.mdb         key: the file name without extension; value: the bytes of a PNG file
NAME.lmdb/meta_info.txt    a line for each image: `0001.png (480,480,3) 1` (height, width, channels, level)

The path of an image in a database is NAME.lmdb/KEY.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from restore.data.complaints import complain
from restore.errors import DataError, OutputError, RestoreError
from restore.files import expanded, scratch_folder
from restore.images import Image, PngRows, decode_image, open_rows, read_image, read_size
from restore.locks import reserved

__all__ = ["DatabaseSource", "paired_databases", "stored_image", "stored_size", "unusable_key", "write_database"]

_LINE = re.compile(r"(?P<key>\S+?)(\.\w+)? \((?P<height>\d+),(?P<width>\d+),\d+\)( \d+)?")
_ROOM = 1.2  # the map of a new database, over the bytes that are written at once


class DatabaseSource:
    """The images of a database, decoded as they are read.

    Args:
        path: folder that ends in `.lmdb`.
        keys: the images to take, in order; by default all that `meta_info.txt` lists.

    Raises:
        DataError: it is no such database.
    """

    def __init__(self, path: str | Path, keys: Sequence[str] | None = None):
        self.path = expanded(path)
        self.keys = list(keys) if keys is not None else read_keys(self.path)
        _check_whole(self.path)

    def __len__(self) -> int:
        return len(self.keys)

    def paths(self) -> list[Path]:
        """The path of every image."""
        return [self.path / key for key in self.keys]

    def name(self, index: int) -> str:
        """The path of image `index`."""
        return str(self.path / self.keys[index])

    def read(self, index: int) -> np.ndarray:
        """Decode image `index`.

        Raises:
            DataError: the database has no such key.
            ImageError: the bytes are no image.
        """
        return stored_image(self.path / self.keys[index]).pixels

    def view(self, index: int) -> np.ndarray | PngRows:
        """Image `index`, decoded as far as it is cut out; raises as `read`, or later."""
        path = self.path / self.keys[index]
        return open_rows(_stored_bytes(path), path)


def stored_image(path: Path) -> Image:
    """The image in a file, or that of a database.

    Raises:
        DataError: the database has no such key.
        ImageError: this is not an image.
    """
    if not _is_in_database(path):
        return read_image(path, unit=True)
    return decode_image(_stored_bytes(path), path)


def _stored_bytes(path: Path) -> bytes:
    with _damage_named(path.parent), _environment(path.parent).begin(buffers=True) as transaction:
        value = transaction.get(path.name.encode("ascii"))
        if value is None:
            raise DataError(f"{path.parent}: meta_info.txt lists '{path.name}', the database does not hold it.")
        return bytes(value)


def stored_size(path: Path) -> tuple[int, int]:
    """Height and width of an image in a file, from its header, or in a database, from its listing."""
    if not _is_in_database(path):
        return read_size(path)
    return _sizes(path.parent, (path.parent / "meta_info.txt").stat().st_mtime_ns)[path.name]


def _is_in_database(path: Path) -> bool:
    return path.parent.suffix == ".lmdb" and not path.suffix


@functools.lru_cache(maxsize=8)
def _sizes(path: Path, changed_ns: int) -> dict[str, tuple[int, int]]:
    return _read_listing(path)


_opened: dict[Path, Any] = {}
_opening = threading.Lock()


def _environment(path: Path) -> Any:
    """The open database, once in each process, as lmdb demands."""
    import lmdb

    with _opening:
        if path not in _opened:
            _opened[path] = lmdb.open(str(path), readonly=True, lock=False, readahead=False, meminit=False)
        return _opened[path]


def _check_whole(path: Path) -> None:
    """Refuse a database that was cut short: whoever reads past its end is killed by the system, not told.

    Raises:
        DataError: it is damaged, or shorter than it says.
    """
    import lmdb

    if path in _opened:  # and was looked at before
        return
    with _damage_named(path), lmdb.open(str(path), readonly=True, lock=False, meminit=False) as environment:
        needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    size = (path / "data.mdb").stat().st_size
    if size < needed:
        raise DataError(
            f"{path}: data.mdb is truncated: {size:,} of {needed:,} bytes are there. Copy it again, or make it again "
            "with `restore data lmdb`."
        )


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """What lmdb says of a damaged database becomes one message."""
    import lmdb

    try:
        yield
    except lmdb.Error as error:
        raise DataError(
            f"{path}: damaged, or not an lmdb ({error}). Copy it again, or make it again with `restore data lmdb`."
        ) from error


def _close_inherited() -> None:
    """A forked process opens databases anew: those of its parent are not to be used in it."""
    global _opening
    _opening = threading.Lock()
    while _opened:
        _opened.popitem()[1].close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


def read_keys(path: Path) -> list[str]:
    """The keys that a database lists, in its order.

    Raises:
        DataError: no database, or a line that cannot be understood.
    """
    return list(_read_listing(path))


def _read_listing(path: Path) -> dict[str, tuple[int, int]]:
    """Height and width by key."""
    if path.suffix != ".lmdb":
        raise DataError(f"{path}: the folder of an lmdb ends in '.lmdb'. Make one with `restore data lmdb`.")
    listing = path / "meta_info.txt"
    if not listing.is_file() or not (path / "data.mdb").is_file():
        raise DataError(f"{path}: not an lmdb with data.mdb and meta_info.txt. Make one with `restore data lmdb`.")
    sizes = {}
    for number, line in enumerate(listing.read_text(encoding="ascii", errors="replace").splitlines(), start=1):
        found = _LINE.fullmatch(line.strip())
        if not found:
            raise DataError(
                f"{listing}, line {number}: expected `KEY.png (HEIGHT,WIDTH,CHANNELS) LEVEL`, got '{line}'."
            )
        sizes[found["key"]] = int(found["height"]), int(found["width"])
    if not sizes:
        raise DataError(f"{listing} lists no image.")
    return sizes


def paired_databases(dataset: str, gt: str | Path, lq: str | Path) -> tuple[DatabaseSource, DatabaseSource]:
    """The references and inputs of two databases with the same keys.

    Raises:
        DataError: a key stands in one of them alone; the message names some of each side.
    """
    references, inputs = DatabaseSource(gt), DatabaseSource(lq)
    sides = (references, inputs), (inputs, references)
    alone = {source.path: sorted(set(source.keys) - set(other.keys)) for source, other in sides}
    if any(alone.values()):
        parts = [f"{len(keys)} only in {path} ({_some(keys)})" for path, keys in alone.items() if keys]
        files = [path / key for path, keys in alone.items() for key in keys]
        each = [f"dataset '{dataset}': {file} has no counterpart in the other database." for file in files]
        complain(f"dataset '{dataset}': the databases have different keys: {'; '.join(parts)}.", each, files)
        references = DatabaseSource(gt, [key for key in references.keys if key not in set(alone[references.path])])
    return references, DatabaseSource(lq, references.keys)


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:5]) + (" ..." if len(keys) > 5 else "")


def write_database(
    images: Iterable[tuple[str, Callable[[], np.ndarray]]],
    path: str | Path,
    *,
    level: int = 1,
    num_workers: int = 4,
    at_once: int = 64,
    on_progress: Callable[[], None] = lambda: None,
    on_error: Callable[[str, RestoreError], None] | None = None,
) -> int:
    """Write a new database; returns how many images it holds.

    Args:
        images: keys and functions that read (H, W[, C]) pixels.
        path: folder that ends in `.lmdb` and does not exist.
        level: PNG compression, 0 to 9.
        num_workers: threads that encode.
        at_once: images in one transaction.
        on_progress: called after each image.
        on_error: called with the key of an image that cannot be read or stored, which is left out; by default its error
            is raised.

    Raises:
        OutputError: the folder exists or has the wrong ending, or the disk is full; nothing is left of the database.
        DataError: a key is not plain ASCII, holds a dot (readers cut there), or comes twice; or all are left out.
    """
    path = expanded(path)
    if path.suffix != ".lmdb":
        raise OutputError(f"{path}: the folder of an lmdb must end in '.lmdb'.")
    images = list(images)
    _check_keys([key for key, _ in images])
    with reserved(path), scratch_folder(path.parent) as folder:
        if path.exists():
            raise OutputError(f"{path} exists: choose another name, or remove it.")
        unfinished = folder / path.name
        unfinished.mkdir()

        def encode(item: tuple[str, Callable[[], np.ndarray]]) -> tuple[str, bytes, str] | None:
            try:
                return _encoded(*item, level)
            except RestoreError as error:
                if on_error is None:
                    raise
                on_error(item[0], error)
                return None

        with ThreadPoolExecutor(num_workers) as pool:
            groups = [images[start : start + at_once] for start in range(0, len(images), at_once)]
            with _disk_errors(path):
                count = _fill(unfinished, groups, lambda group: pool.map(encode, group), on_progress)
        if not count:
            raise DataError(f"no image can be stored: {path} is not written.")
        unfinished.rename(path)
    return count


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """A full disk, as lmdb and the system report it, becomes one message."""
    import lmdb

    try:
        yield
    except (lmdb.Error, OSError) as error:
        free = shutil.disk_usage(path.parent).free
        raise OutputError(
            f"cannot write '{path}': the disk is full or broken ({free / 2**20:,.1f} MiB are free; {error}). "
            "Nothing was kept; free some space and run the same command again."
        ) from error


def _fill(path: Path, groups: list, encode: Callable, on_progress: Callable[[], None]) -> int:
    """Write the database that lies at `path`, one transaction for each group of images; returns how many it holds.

    Nobody else knows of it yet, so there is no lock file, which is a memory map: on a full disk, writing there kills.
    """
    import lmdb

    count, settings = 0, {"map_size": 2**24, "lock": False}
    with lmdb.open(str(path), **settings) as environment, (path / "meta_info.txt").open("w") as listing:
        for group in groups:
            encoded = []
            for item in encode(group):
                encoded += [item] if item is not None else []
                on_progress()
            count += len(encoded)
            _grow(environment, sum(len(data) for _, data, _ in encoded))
            with environment.begin(write=True) as transaction:
                for key, data, line in encoded:
                    transaction.put(key.encode("ascii"), data)
                    listing.write(line)
    return count


def _encoded(key: str, read: Callable[[], np.ndarray], level: int) -> tuple[str, bytes, str]:
    """Key, PNG bytes and line of `meta_info.txt` of an image."""
    import cv2

    pixels = read()
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels == 2 or pixels.dtype == np.float32:
        raise DataError(
            f"'{key}' has {channels} channels of {pixels.dtype}: BasicSR's lmdb holds grey, RGB and RGBA PNG."
        )
    to_bgr = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    stored = cv2.cvtColor(pixels, to_bgr[channels]) if channels in to_bgr else pixels
    done, data = cv2.imencode(".png", stored, [cv2.IMWRITE_PNG_COMPRESSION, level])
    assert done, "cv2 encodes 8 and 16 bit PNG of one, three or four channels"
    return key, data.tobytes(), f"{key}.png ({pixels.shape[0]},{pixels.shape[1]},{channels}) {level}\n"


def _grow(environment: object, num_bytes: int) -> None:
    """Make room for `num_bytes` more."""
    facts = environment.info()
    used = (facts["last_pgno"] + 1) * environment.stat()["psize"]
    needed = int(used + _ROOM * num_bytes) + 2**22
    if needed > facts["map_size"]:
        environment.set_mapsize(max(needed, 2 * facts["map_size"]))


def unusable_key(key: str) -> str:
    """Why a name cannot be that of an image in a database; empty if it can."""
    if key and key.isascii() and "." not in key:
        return ""
    return f"the name '{key}' cannot be an lmdb key: plain ASCII without dots. Rename the file."


def _check_keys(keys: Sequence[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if reason := unusable_key(key):
            raise DataError(reason)
        if key in seen:
            raise DataError(f"the key '{key}' comes twice: file names must differ in more than extension and folder.")
        seen.add(key)

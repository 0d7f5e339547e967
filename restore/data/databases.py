"""Images in lmdb databases, in BasicSR's layout, which both sides read and write.

NAME.lmdb/data.mdb, lock.mdb     key: the file name without extension; value: the bytes of a PNG file
NAME.lmdb/meta_info.txt          a line for each image: `0001.png (480,480,3) 1` (height, width, channels, level)
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from restore.errors import DataError, OutputError

__all__ = ["DatabaseSource", "paired_databases", "write_database"]

_LINE = re.compile(r"(?P<key>\S+?)(\.\w+)? \(\d+,\d+,\d+\)( \d+)?")
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
        self.path = Path(path).expanduser()
        self.keys = list(keys) if keys is not None else read_keys(self.path)
        self._environment = None  # opened in the process that reads

    def __len__(self) -> int:
        return len(self.keys)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_environment": None}

    def name(self, index: int) -> str:
        """`NAME.lmdb/KEY` of image `index`."""
        return str(self.path / self.keys[index])

    def read(self, index: int) -> np.ndarray:
        """Decode image `index`.

        Raises:
            DataError: the database has no such key.
            ImageError: the bytes are no image.
        """
        import lmdb

        from restore.images import decode_image

        if self._environment is None:
            self._environment = lmdb.open(str(self.path), readonly=True, lock=False, readahead=False, meminit=False)
        with self._environment.begin(buffers=True) as transaction:
            value = transaction.get(self.keys[index].encode("ascii"))
            if value is None:
                raise DataError(
                    f"{self.path}: meta_info.txt lists '{self.keys[index]}', the database does not hold it."
                )
            return decode_image(bytes(value), self.name(index)).pixels


def read_keys(path: Path) -> list[str]:
    """The keys that a database lists, in its order.

    Raises:
        DataError: no database, or a line that cannot be understood.
    """
    if path.suffix != ".lmdb":
        raise DataError(f"{path}: the folder of an lmdb ends in '.lmdb'. Make one with `restore data lmdb`.")
    listing = path / "meta_info.txt"
    if not listing.is_file() or not (path / "data.mdb").is_file():
        raise DataError(f"{path}: not an lmdb with data.mdb and meta_info.txt. Make one with `restore data lmdb`.")
    keys = []
    for number, line in enumerate(listing.read_text(encoding="ascii").splitlines(), start=1):
        found = _LINE.fullmatch(line.strip())
        if not found:
            raise DataError(
                f"{listing}, line {number}: expected `KEY.png (HEIGHT,WIDTH,CHANNELS) LEVEL`, got '{line}'."
            )
        keys.append(found["key"])
    if not keys:
        raise DataError(f"{listing} lists no image.")
    return keys


def paired_databases(dataset: str, gt: str | Path, lq: str | Path) -> tuple[DatabaseSource, DatabaseSource]:
    """The references and inputs of two databases with the same keys.

    Raises:
        DataError: a key stands in one of them alone; the message names some of each side.
    """
    references, inputs = DatabaseSource(gt), DatabaseSource(lq)
    alone = [sorted(set(one.keys) - set(other.keys)) for one, other in ((references, inputs), (inputs, references))]
    if any(alone):
        parts = [
            f"{len(keys)} only in {source.path} ({', '.join(keys[:5])})"
            for keys, source in zip(alone, (references, inputs), strict=True)
            if keys
        ]
        raise DataError(f"dataset '{dataset}': the databases have different keys: {'; '.join(parts)}.")
    return references, DatabaseSource(lq, references.keys)


def write_database(
    images: Iterable[tuple[str, Callable[[], np.ndarray]]],
    path: str | Path,
    *,
    level: int = 1,
    num_workers: int = 4,
    at_once: int = 64,
    on_progress: Callable[[], None] = lambda: None,
) -> int:
    """Write a new database; returns how many images it holds.

    Args:
        images: keys and functions that read (H, W[, C]) pixels.
        path: folder that ends in `.lmdb` and does not exist.
        level: PNG compression, 0 to 9.
        num_workers: threads that encode.
        at_once: images in one transaction.
        on_progress: called after each image.

    Raises:
        OutputError: the folder exists, or has the wrong ending.
        DataError: a key is not plain ASCII, holds a dot (readers cut there), or comes twice.
    """
    path = Path(path).expanduser()
    if path.suffix != ".lmdb":
        raise OutputError(f"{path}: the folder of an lmdb must end in '.lmdb'.")
    if path.exists():
        raise OutputError(f"{path} exists: choose another name, or remove it.")
    images = list(images)
    _check_keys([key for key, _ in images])
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.") as folder:
        unfinished = Path(folder) / path.name
        unfinished.mkdir()
        with ThreadPoolExecutor(num_workers) as pool:
            groups = [images[start : start + at_once] for start in range(0, len(images), at_once)]
            _fill(unfinished, groups, lambda group: pool.map(lambda item: _encoded(*item, level), group), on_progress)
        unfinished.rename(path)
    return len(images)


def _fill(path: Path, groups: list, encode: Callable, on_progress: Callable[[], None]) -> None:
    """Write the database that lies at `path`, one transaction for each group of images."""
    import lmdb

    with lmdb.open(str(path), map_size=2**24) as environment, (path / "meta_info.txt").open("w") as listing:
        for group in groups:
            encoded = []
            for item in encode(group):
                encoded.append(item)
                on_progress()
            _grow(environment, sum(len(data) for _, data, _ in encoded))
            with environment.begin(write=True) as transaction:
                for key, data, line in encoded:
                    transaction.put(key.encode("ascii"), data)
                    listing.write(line)


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


def _check_keys(keys: Sequence[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if not key.isascii() or "." in key or not key:
            raise DataError(f"the name '{key}' cannot be an lmdb key: plain ASCII without dots. Rename the file.")
        if key in seen:
            raise DataError(f"the key '{key}' comes twice: file names must differ in more than extension and folder.")
        seen.add(key)

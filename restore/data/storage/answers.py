"""What a network answered, kept on disk, so that it need not be asked again: by this run, a resumed one, or another.

    FOLDER/NETWORK/about.json     which network it was
    FOLDER/NETWORK/0.sqlite       answers, one file for each process that asked

An answer is found by its question: a digest of the very values that the network was given. The same image, crop and
augmentation are the same question, and whatever is changed in the data is another one. So answers are never stale, and
folders can be copied and merged. What was written is whole after a crash.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sqlite3
import struct
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restore.errors import DataError, OutputError

__all__ = ["AnswerCache", "decoded", "encoded", "question_of"]

log = logging.getLogger(__name__)

Answers = dict[str, Tensor]

_DTYPES = ("uint8", "float16", "float32")
_TABLE = "CREATE TABLE IF NOT EXISTS answers (question TEXT, part TEXT, value BLOB, PRIMARY KEY (question, part))"
_READ = "SELECT value FROM answers WHERE question = ? AND part = ?"
_WRITE = "INSERT OR IGNORE INTO answers VALUES (?, ?, ?)"
_PATIENCE_S = 60.0


class AnswerCache:
    """The answers of one network.

    Each process opens the files for itself, also one that was forked with this object in hand.

    Args:
        folder: where the answers of any number of networks are.
        network: what tells this one from all others, in words that can stand in a file name: a digest of its weights.
        about: for people: the name of the model, where it came from.

    Raises:
        OutputError: the folder cannot be made.
    """

    def __init__(self, folder: Path, network: str, *, about: Mapping[str, Any] | None = None):
        self.folder = Path(folder) / network
        self.write_as(0)
        self._open: dict[Path, sqlite3.Connection] = {}
        self._process = os.getpid()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if about is not None and not (self.folder / "about.json").exists():
                (self.folder / "about.json").write_text(json.dumps(dict(about), indent=1), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"answers cannot be kept in {self.folder}: {error.strerror}.") from error

    def write_as(self, process: int) -> None:
        """Write into the file of the process with this number, from here on."""
        self.own = self.folder / f"{process}.sqlite"

    def __len__(self) -> int:
        """How many questions have answers."""
        questions: set[str] = set()
        for connection in self._connections():
            questions |= {row[0] for row in connection.execute("SELECT DISTINCT question FROM answers")}
        return len(questions)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # connections stay in their process

    def find(self, question: str, parts: Collection[str]) -> Answers | None:
        """The parts of an answer; None if one of them is not known.

        Raises:
            DataError: a file is damaged; names it.
        """
        found: Answers = {}
        for part in parts:
            value = self._value(question, part)
            if value is None:
                return None
            found[part] = decoded(value)
        return found

    def keep(self, answers: Mapping[str, Answers]) -> None:
        """Write answers by their questions, all of them or none.

        Raises:
            OutputError: they cannot be written.
        """
        rows = [(question, part, encoded(value)) for question, each in answers.items() for part, value in each.items()]
        try:
            connection = self._connection(self.own)
            with connection:
                connection.execute(_TABLE)
                connection.executemany(_WRITE, rows)
        except sqlite3.Error as error:
            raise OutputError(f"answers cannot be kept in {self.own}: {error}.") from error

    def _value(self, question: str, part: str) -> bytes | None:
        for connection in self._connections():
            row = connection.execute(_READ, (question, part)).fetchone()
            if row is not None:
                return row[0]
        return None

    def _connections(self) -> Sequence[sqlite3.Connection]:
        """Every file that is there now, this process's own first."""
        others = sorted(path for path in self.folder.glob("*.sqlite") if path != self.own)
        paths = [*([self.own] if self.own.exists() else []), *others]
        try:
            return [connection for path in paths if _has_table(connection := self._connection(path))]
        except sqlite3.Error as error:
            raise DataError(f"{self.folder} holds a file that is damaged or of another kind: {error}.") from error

    def _connection(self, path: Path) -> sqlite3.Connection:
        if self._process != os.getpid():  # forked
            self._process, self._open = os.getpid(), {}
        if path not in self._open:
            self._open[path] = sqlite3.connect(path, timeout=_PATIENCE_S, check_same_thread=False)
        return self._open[path]


def question_of(inputs: Sequence[np.ndarray]) -> str:
    """A digest of what a network is given: 32 hexadecimal digits of BLAKE2b over shapes, types and values."""
    digest = hashlib.blake2b(digest_size=16)
    for values in inputs:
        digest.update(f"{values.dtype.str}{values.shape}".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def encoded(value: Tensor) -> bytes:
    """A tensor as bytes: kind and shape, then zlib of the differences along its last axis, lowest bytes first.

    Raises:
        DataError: it is not of uint8, float16 or float32.
    """
    array = np.ascontiguousarray(value.detach().cpu().numpy())
    if str(array.dtype) not in _DTYPES:
        raise DataError(f"answers of {array.dtype} cannot be kept; allowed: {', '.join(_DTYPES)}.")
    words = array.view(f"<u{array.itemsize}")
    words = np.diff(words, axis=-1, prepend=words.dtype.type(0))
    planes = np.ascontiguousarray(words).reshape(-1).view(np.uint8).reshape(array.size, array.itemsize).T
    header = struct.pack(f"<BB{value.ndim}I", _DTYPES.index(str(array.dtype)), value.ndim, *value.shape)
    return header + zlib.compress(planes.tobytes(), level=1)


def decoded(content: bytes) -> Tensor:
    """The tensor that `encoded` made these bytes of, bit for bit."""
    kind, ndim = struct.unpack_from("<BB", content)
    shape = struct.unpack_from(f"<{ndim}I", content, 2)
    dtype = np.dtype(_DTYPES[kind])
    planes = np.frombuffer(zlib.decompress(content[2 + 4 * ndim :]), np.uint8)
    planes = planes.reshape(dtype.itemsize, len(planes) // dtype.itemsize)
    words = np.ascontiguousarray(planes.T).reshape(-1).view(f"<u{dtype.itemsize}").reshape(shape or (1,))
    words = np.cumsum(words, axis=-1, dtype=words.dtype)
    return torch.from_numpy(words.view(dtype).reshape(shape))


def _has_table(connection: sqlite3.Connection) -> bool:
    with contextlib.closing(connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'answers'")) as found:
        return found.fetchone() is not None

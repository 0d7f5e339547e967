"""The files that `torch.save` writes: a zip archive, or before PyTorch 1.6 a row of pickles.

Sizes are compared before anything is made of them, and so are the checksums of the archive, which `torch.load` does not
look at. What the pickles in them say is taken by `restore.networks.pickled`, and nothing of it is run.
"""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from restore.networks.pickled import PickleReader
from restore.networks.pickled_values import DamagedError

__all__ = ["read_stored"]

MOST_UNPACKED = 8  # times the size of the file; torch.save does not compress
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read_stored(path: Path) -> tuple[Any, list[str]]:
    """What a file of `torch.save` holds, and the names of what stand-ins stand for, tensors aside.

    Raises:
        DamagedError: it is cut off, changed, or no such file; or it stands for far more than it holds.
    """
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
        file.seek(0)
        try:
            return _read_zip(file, path.stat().st_size) if is_zip else _read_row(file, path.stat().st_size)
        except DamagedError:
            raise
        except OSError as error:
            raise DamagedError(str(error.strerror or error)) from error
        except Exception as error:  # whatever a damaged file makes of the readers
            raise DamagedError(f"its content makes no sense ({type(error).__name__})") from error


def _read_zip(file: BinaryIO, size: int) -> tuple[Any, list[str]]:
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        raise DamagedError("cut off: the end of the zip archive is missing") from None
    members = {member.filename: member for member in archive.infolist()}
    main = next((name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")), None)
    if main is None:
        raise DamagedError(f"a zip archive of something else ({', '.join(list(members)[:3])[:100] or 'empty'})")
    root = main.removesuffix("data.pkl")
    if any(name.startswith(f"{root}code/") for name in members):
        raise DamagedError("a TorchScript program, which is not run here: save the state dict (`model.state_dict()`)")
    held = sum(member.file_size for member in members.values())
    if held > MOST_UNPACKED * size:
        raise DamagedError(f"it would unpack to {held:,} bytes from {size:,}")

    def record(name: str) -> bytes:
        member = members.get(f"{root}{name}")
        if member is None:
            raise DamagedError(f"the part {name} is missing")
        if not member.CRC:  # PyTorch can be told to write none
            member.CRC = None  # type: ignore[assignment]
        try:
            with archive.open(member) as stream:
                content = stream.read()
        except (zipfile.BadZipFile, EOFError) as error:
            raise DamagedError(f"the part {name} has changed ({error})") from None
        if len(content) != member.file_size:
            raise DamagedError(f"cut off in the part {name}")
        return content

    if f"{root}byteorder" in members and record("byteorder") == b"big":
        raise DamagedError("written on a machine of the other byte order")
    reader = PickleReader(held, lambda key, dtype, num: record(f"data/{key}") if num else b"")
    return reader.read(io.BytesIO(record("data.pkl"))), reader.foreign()


def _read_row(file: BinaryIO, size: int) -> tuple[Any, list[str]]:
    """A magic number, the protocol, facts about the machine, the content, the names of the storages, and these."""
    sizes: dict[str, int] = {}

    def no_bytes(key: str, dtype: torch.dtype, num: int) -> None:
        sizes[key] = dtype.itemsize

    reader = PickleReader(size, no_bytes)
    content = reader.read(file)
    if content != _MAGIC:
        return content, reader.foreign()  # a plain pickle
    if reader.read(file) != _PROTOCOL or not reader.read(file).get("little_endian", True):
        raise DamagedError("of a version or a machine that cannot be read here")
    start = file.tell()
    reader.read(file)
    stored: dict[str, bytes] = {}
    for key in reader.read(file):
        (num,) = struct.unpack("<q", file.read(8))
        if not 0 <= num * sizes[key] <= size - file.tell():
            raise DamagedError("cut off: weights are missing at its end")
        stored[key] = file.read(num * sizes[key])
    file.seek(start)
    reader = PickleReader(size, lambda key, dtype, num: stored[key])
    return reader.read(file), reader.foreign()

"""Submitted files, read without ever writing one: from a zip, member by member into memory, or from a folder.

A zip may come from anybody. It is refused, with every reason at once, before a byte of it is unpacked: paths that are
absolute or lead outside, sub-folders, links, encrypted or doubled members, names that some systems cannot tell apart,
too many files, sizes that no submission has. Members are read to their declared size and no further, so what a member
unpacks to is bounded too. Nothing is extracted to the disk, so there is nowhere to escape to.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from restore.errors import DataError
from restore.files import atomic_write

__all__ = ["Limits", "Package", "open_package", "refuse", "write_zip"]

SHOWN = 8
_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Limits:
    """What is more than a submission ever has.

    Attributes:
        files: number of members.
        file_bytes: of one unpacked member.
        total_bytes: of all of them.
        ratio: unpacked to packed size, of members above `small_bytes`.
        small_bytes: members up to this size may have any ratio.
    """

    files: int = 4096
    file_bytes: int = 2 << 30
    total_bytes: int = 16 << 30
    ratio: float = 250.0
    small_bytes: int = 1 << 20


class Package:
    """Files by name, of a submission that has passed the checks of its container.

    Attributes:
        source: the zip or folder.
        sizes: bytes of each file by name.
    """

    def __init__(self, source: Path, sizes: Mapping[str, int], read: Callable[[str], bytes]):
        self.source = source
        self.sizes = dict(sizes)
        self._read = read

    @property
    def names(self) -> set[str]:
        """Names of all files."""
        return set(self.sizes)

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            DataError: it is damaged.
        """
        return self._read(name)

    def text(self, name: str) -> str:
        """A text file.

        Raises:
            DataError: damaged, or not UTF-8.
        """
        try:
            return self.read(name).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise DataError(f"{name} is not a text file in UTF-8.") from None


@contextmanager
def open_package(path: str | Path, limits: Limits | None = None) -> Iterator[Package]:
    """Open a submission: a zip, a folder, or a folder that holds nothing but one zip.

    Raises:
        DataError: it is none of these, or is not what a submission may be; with every reason.
    """
    path, limits = Path(path), limits or Limits()
    if path.is_dir():
        inside = list(_scan(path, limits))
        if len(inside) == 1 and inside[0].name.lower().endswith(".zip") and inside[0].is_file(follow_symlinks=False):
            path = Path(inside[0].path)
        else:
            yield _folder(path, inside, limits)
            return
    if not path.is_file():
        raise DataError(f"there is no submission at '{path}': give a zip or a folder.")
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"'{path}' is not a readable zip: {error}.") from error
    with archive:
        yield _zip(path, archive, limits)


def write_zip(path: str | Path, files: Mapping[str, Path | bytes]) -> None:
    """Write a flat zip; it appears whole or not at all. PNG is stored as it is, everything else is compressed.

    The zip of the same files has the same bytes, whenever it is written.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, content in sorted(files.items()):
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            packed = name.endswith((".png", ".mat"))
            member.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            archive.writestr(member, content if isinstance(content, bytes) else content.read_bytes())


def refuse(what: str, problems: Iterable[str]) -> None:
    """Raise a `DataError` with these problems, the first ones in words; nothing if there are none."""
    problems = list(problems)
    if problems:
        shown = "".join(f"\n  - {problem}" for problem in problems[:SHOWN])
        more = f"\n  - and {len(problems) - SHOWN} more." if len(problems) > SHOWN else ""
        raise DataError(f"{what}:{shown}{more}")


def _zip(path: Path, archive: zipfile.ZipFile, limits: Limits) -> Package:
    members = archive.infolist()
    where = f"'{path.name}' is refused"
    if len(members) > limits.files:
        raise DataError(f"{where}: it holds {len(members):,} files; a submission has {limits.files:,} at most.")
    refuse(where, [*_member_problems(members, limits), *_name_problems(member.orig_filename for member in members)])
    sizes = {member.filename: member.file_size for member in members}

    def read(name: str) -> bytes:
        try:
            with archive.open(name) as file:
                content = file.read(sizes[name] + 1)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
            raise DataError(f"{name} cannot be unpacked: {error}.") from error
        except Exception as error:  # zlib, lzma and bz2 have errors of their own
            raise DataError(f"{name} cannot be unpacked: {error}.") from error
        if len(content) != sizes[name]:
            raise DataError(f"{name} unpacks to another size than the zip declares.")
        return content

    return Package(path, sizes, read)


def _member_problems(members: list[zipfile.ZipInfo], limits: Limits) -> Iterator[str]:
    total = sum(member.file_size for member in members)
    if total > limits.total_bytes:
        yield f"it unpacks to {total / 2**30:,.1f} GiB; at most {limits.total_bytes / 2**30:,.0f} GiB are read"
    for member in members:
        name = _shown(member.orig_filename)
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            yield f"{name} is a link or a device, not a file"
        if member.flag_bits & 0x1:
            yield f"{name} is encrypted"
        if member.file_size > limits.file_bytes:
            yield f"{name} unpacks to {member.file_size / 2**30:,.1f} GiB"
        elif member.file_size > limits.small_bytes and member.file_size > limits.ratio * max(member.compress_size, 1):
            yield f"{name} unpacks to {member.file_size // max(member.compress_size, 1):,} times its size: a zip bomb"


def _name_problems(names: Iterable[str]) -> Iterator[str]:
    names = list(names)
    for name in names:
        problem = _name_problem(name)
        if problem:
            yield f"{_shown(name)} {problem}"
    for name, count in Counter(name.casefold() for name in names).items():
        if count > 1:
            yield f"{_shown(name)} is there {count} times (upper and lower case count as one)"


def _name_problem(name: str) -> str:
    parts = re.split(r"[/\\]", name)
    if not name or _CONTROL.search(name):
        return "is not a name of a file"
    if name[0] in "/\\" or _DRIVE.match(name):
        return "is an absolute path"
    if ".." in parts:
        return "leads outside ('..')"
    if parts[0] == "__MACOSX":
        return "was added by macOS: zip the files with `zip -X`"
    if len(parts) > 1:
        return "lies in a folder: the zip must be flat, so select the files, not the folder that they are in"
    return ""


def _scan(folder: Path, limits: Limits) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if number >= limits.files:
                raise DataError(f"'{folder}' is refused: it holds more than {limits.files:,} files.")
            yield entry


def _folder(folder: Path, entries: list[os.DirEntry[str]], limits: Limits) -> Package:
    problems, sizes = [], {}
    for entry in entries:
        if not entry.is_file(follow_symlinks=False):
            problems.append(f"{_shown(entry.name)} is a folder, a link or a device: submissions are flat")
            continue
        sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
        if sizes[entry.name] > limits.file_bytes:
            problems.append(f"{_shown(entry.name)} has {sizes[entry.name] / 2**30:,.1f} GiB")
    refuse(f"'{folder}' is refused", problems)

    def read(name: str) -> bytes:
        try:
            return (folder / name).read_bytes()
        except OSError as error:
            raise DataError(f"{name} cannot be read: {error.strerror or error}.") from error

    return Package(folder, sizes, read)


def _shown(name: str) -> str:
    """A name fit for a terminal."""
    text = name if len(name) <= 80 else f"{name[:60]}...{name[-12:]}"
    return f"'{text.encode('unicode_escape').decode()}'"

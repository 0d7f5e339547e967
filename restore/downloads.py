"""Downloads that go on where they were interrupted, and that are whole, checked and named, or not there.

    digest = download("https://example.org/net.pth", folder / "net.pth", sha256="51bd...")

While a file is on its way, its bytes are in `NAME.part`. Only one process writes there; others wait for it. What the
server says to tell this file from a later one of the same name (RFC 9110, If-Range) is in `NAME.part.version`: the rest
of another file is never put behind the beginning of this one.

A server is not trusted: an answer that makes no sense is one message, no more bytes are taken than it or the caller
says there are, and one that sends a few bytes now and then is given up.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from restore.errors import DataError, MissingError, OutputError
from restore.files import sha256_of
from restore.locks import reserved

__all__ = ["download", "download_checked", "read_json"]

BLOCK_BYTES = 1 << 20
TIMEOUT_S = 30  # until bytes come
ANSWER_S = 120  # until an answer has begun
PATIENCE_S, SLOWEST = 600, 20_000  # a download may take so long, and a second more for each so many bytes
MOST_BYTES = 1 << 40  # where nobody says how many there are
MOST_JSON_BYTES = 64 << 20
Progress = Callable[[int, int | None], None]
HEADERS = {"User-Agent": "restore-toolkit"}  # some servers turn urllib's own name away


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    size_bytes: int | None = None,
    on_progress: Progress = lambda num_bytes, total: None,
) -> str:
    """Load `url` into `path`, and check it; a connection that breaks is taken up again for as long as bytes come.

    Args:
        url: http, https or file.
        path: the file; its folder is made.
        sha256: its checksum or the beginning of it, if known.
        size_bytes: its size, if known.
        on_progress: called with how many bytes are here, and with how many there are, or None if nobody tells.

    Returns:
        The file's SHA-256.

    Raises:
        MissingError: the address does not answer, or not with a file. What came is kept for the next call.
        DataError: these are other bytes than `sha256` or `size_bytes` say; they are discarded.
        OutputError: the file cannot be written.
    """
    partial = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with reserved(path, wait=True), _opened(partial) as file:
            version = _Version(partial)
            if path.is_file():  # by another process, while this one waited
                partial.unlink(missing_ok=True)
                return sha256_of(path)
            before, clock = -1, _Clock(url)
            while not _is_whole(url, file, version, sha256, size_bytes, on_progress, clock):
                loaded = file.tell()
                if loaded <= before:
                    raise MissingError(f"{url} was cut off after {loaded} bytes: run the command again to continue.")
                before = loaded
            file.flush()
            os.fsync(file.fileno())
            digest = sha256_of(partial)
            _check(url, digest, file.tell(), sha256, size_bytes, partial)
            version.forget()
            if os.name == "nt":  # where a file that is open cannot be renamed
                file.close()
            partial.replace(path)
            return digest
    except OSError as error:
        raise OutputError(f"cannot write '{partial}': {error.strerror or error}") from error


def download_checked(url: str, folder: Path) -> Path:
    """The file at an address in a folder, loaded unless it is there.

    As PyTorch publishes them, the names of files (`alexnet-owt-7be5be79.pth`) end in the beginning of their SHA-256,
    which is compared.

    Raises:
        MissingError, DataError, OutputError: see `download`.
    """
    path = folder / url.rpartition("/")[2]
    if not path.is_file():
        beginning = re.search(r"-([0-9a-f]{8,64})$", path.stem)
        download(url, path, sha256=beginning[1] if beginning else None)
    return path


def read_json(url: str, *, why: Mapping[int, str] | None = None) -> Any:
    """What a server says about files, as plain values.

    Args:
        url: http, https or file.
        why: what some status codes mean there.

    Raises:
        MissingError: it does not answer, or not with JSON.
    """
    try:
        with _asked(url, HEADERS | {"Accept": "application/json"}, why or {}) as response:
            clock, data = _Clock(url), bytearray()
            while block := _block(response):
                data += block
                if len(data) > MOST_JSON_BYTES:
                    raise MissingError(f"{url} sends more than {MOST_JSON_BYTES >> 20} MiB of JSON.")
                clock.require_progress(len(block))
        if block is None:
            raise MissingError(f"{url} was cut off after {len(data)} bytes: run the command again.")
        return json.loads(data)
    except (ValueError, RecursionError):
        raise MissingError(f"could not read {url}: the answer is no JSON.") from None


def _is_whole(
    url: str,
    file: BinaryIO,
    version: _Version,
    sha256: str | None,
    size_bytes: int | None,
    on_progress: Progress,
    clock: _Clock,
) -> bool:
    """Ask for what is missing of a file, and write it; whether it is all there now."""
    start = file.seek(0, os.SEEK_END)
    if size_bytes is not None and start == size_bytes:
        return True
    known = version.read()
    if start and not known and sha256 is None:  # nothing would tell that the rest is of another file
        start = file.truncate(0)
    asked = {"Range": f"bytes={start}-", **({"If-Range": known} if known else {})} if start else {}
    response = _asked(url, HEADERS | asked, {}, in_vain=http.client.REQUESTED_RANGE_NOT_SATISFIABLE if start else None)
    if response is None:
        file.truncate(0)
        file.seek(0)
        version.forget()
        return False
    with response:
        if response.headers.get_content_type() == "text/html":
            raise MissingError(f"could not download {url}: the response is a web page, not the file.")
        start, total = _extent(url, response, start)
        if size_bytes is not None and total not in (None, size_bytes):
            raise DataError(f"{url} offers {total} bytes, and the file has {size_bytes}: it is another file.")
        file.truncate(start)
        file.seek(start)
        version.write(response)
        on_progress(start, total)
        most = min(known for known in (size_bytes, total, MOST_BYTES) if known is not None)
        while block := _block(response):
            if file.tell() + len(block) > most:
                _discard(file, version)
                raise DataError(f"{url} sends more than the {most} bytes that there should be: they are discarded.")
            file.write(block)
            on_progress(file.tell(), total)
            clock.require_progress(len(block))
    return block is not None and (total is None or file.tell() >= total)


def _asked(url: str, headers: dict[str, str], why: Mapping[int, str], in_vain: int | None = None) -> Any:
    """The beginning of an answer; None where its status is `in_vain`.

    Raises:
        MissingError: there is none, or its status says that there is no file.
    """
    try:
        return _answer(url, headers)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == in_vain:
            return None
        reason = why.get(error.code) or f"the server answered {error.code} {_line(error.reason)}"
        raise MissingError(f"could not download {url}: {reason}.") from None
    except MissingError:
        raise
    except ValueError as error:
        raise MissingError(f"could not download {url!a}: it is not an address ({_line(error)}).") from None
    except (OSError, http.client.HTTPException) as error:
        cause, shown = getattr(error, "reason", None) or error, url if url.isprintable() else ascii(url)
        raise MissingError(
            f"could not download {shown}: no response ({_line(cause)}). Is this machine offline?"
        ) from None


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows where a server sends on to, but not from https to something that can be changed on its way."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.full_url.lower().startswith("https:") and not newurl.lower().startswith("https:"):
            raise MissingError(f"{req.full_url} sends on to {_line(newurl)}, which is not https: it is not followed.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _answer(url: str, headers: dict[str, str]) -> Any:
    """The beginning of an answer; the limit of each read does not bound how long that takes.

    Raises:
        MissingError: it takes too long.
        OSError, ValueError, http.client.HTTPException: there is none, or this is not an address.
    """
    if not re.match(r"(https?|file)://", url, re.IGNORECASE):
        raise ValueError("http://, https:// and file:// are known")
    found: list[Any] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, headers=headers)
            found.append(urllib.request.build_opener(_SafeRedirects).open(request, timeout=TIMEOUT_S))
        except Exception as error:  # raised below, in the thread that asks
            found.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_S)
    if not found:
        raise MissingError(f"could not download {url}: no answer within {ANSWER_S} seconds.")
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


class _Clock:
    """Gives up a download that comes too slowly."""

    def __init__(self, url: str):
        self._url, self._until = url, time.monotonic() + PATIENCE_S

    def require_progress(self, num_bytes: int) -> None:
        """Count bytes that have come.

        Raises:
            MissingError: they came too late.
        """
        self._until += num_bytes / SLOWEST
        if time.monotonic() > self._until:
            raise MissingError(
                f"{self._url} sends fewer than {SLOWEST} bytes a second: run the command again to continue."
            )


def _extent(url: str, response: Any, asked: int) -> tuple[int, int | None]:
    """Where the bytes of an answer begin in the file, and how many the file has, if the server tells.

    Raises:
        MissingError: what it tells makes no sense.
    """

    def number(name: str, text: str | None) -> int | None:
        if text is None or re.fullmatch(r"[0-9]{1,18}", text.strip(), re.ASCII):
            return None if text is None else int(text)
        shown = ascii(response.headers.get(name))[:80]
        raise MissingError(f"could not download {url}: the server's answer makes no sense ({name}: {shown}).")

    length = number("Content-Length", response.headers.get("Content-Length"))
    if response.status != http.client.PARTIAL_CONTENT:
        return 0, length
    extent, _, of_all = response.headers.get("Content-Range", f"bytes {asked}-/*").removeprefix("bytes ").partition("/")
    start = number("Content-Range", extent.partition("-")[0]) or 0
    total = None if of_all.strip() in ("*", "") else number("Content-Range", of_all)
    if start > asked:
        raise MissingError(f"the server was asked for bytes from {asked} on and sends those from {start} on.")
    return start, total if total is not None else start + length if length is not None else None


def _block(response: Any) -> bytes | None:
    """The next bytes that come; none at the end, None where the connection breaks."""
    try:
        block: bytes = response.read1(BLOCK_BYTES)
    except (OSError, ValueError, http.client.HTTPException):
        return None
    return block


def _line(reason: Any) -> str:
    """What a server or a library says, on one line."""
    text = " ".join(str(reason).split())
    return text if text.isprintable() and len(text) <= 200 else ascii(text)[:200]


def _discard(file: BinaryIO, version: _Version) -> None:
    file.truncate(0)
    version.forget()


def _check(url: str, digest: str, size: int, sha256: str | None, size_bytes: int | None, partial: Path) -> None:
    problem = None
    if size_bytes is not None and size != size_bytes:
        problem = f"{size} bytes instead of {size_bytes}"
    elif sha256 is not None and not digest.startswith(sha256):
        problem = f"bytes of SHA-256 {digest} instead of {sha256}"
    if problem:
        _Version(partial).forget()
        partial.unlink()
        raise DataError(f"{url} gave {problem}: they are discarded.")


@dataclass(frozen=True)
class _Version:
    """What the server said to tell the bytes in a partial file from those of a later version."""

    partial: Path

    @property
    def _path(self) -> Path:
        return self.partial.with_name(f"{self.partial.name}.version")

    def read(self) -> str:
        return self._path.read_text("utf-8", errors="replace") if self._path.is_file() else ""

    def write(self, response: Any) -> None:
        tag = response.headers.get("ETag", "")
        mark = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")  # weak tags do not count
        if mark != self.read():
            self._path.write_text(mark, "utf-8")

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file to go on with it; one that is empty in the end is removed."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+b")
    try:
        yield file
    finally:
        file.close()
        with contextlib.suppress(FileNotFoundError):
            if not path.stat().st_size:
                path.unlink()

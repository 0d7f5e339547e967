"""Reads weights files safely, and says in plain words what one is that holds no weights.

What is in a file decides how it is read, not its ending: a zip archive or a row of pickles as `torch.save` writes them
(`.pth`, `.pt`, `.ckpt`, `.bin`; nothing in them is run, see `restore.networks.pickled`), or safetensors.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from restore.errors import CheckpointError, nearest
from restore.files import expanded
from restore.networks.pickled_values import DamagedError
from restore.networks.stored import read_stored

__all__ = ["read_checkpoint", "read_header"]

log = logging.getLogger(__name__)

_LARGEST_HEADER = 100 << 20  # of safetensors, as its own readers have it
_BEGINNINGS = {
    b"version https://git-lfs.github.com": "a pointer of git LFS, not the file that it stands for: run `git lfs pull`, "
    "or download the file itself",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras writes it",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
    b"GGUF": "a GGUF file",
    b"\x1f\x8b": "packed with gzip: unpack it",
    b"BZh": "packed with bzip2: unpack it",
    b"\xfd7zXZ": "packed with xz: unpack it",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
    b"Rar!": "a RAR archive: unpack it",
    b"\x93NUMPY": "an array of numpy",
    b"%PDF": "a PDF document",
}


def read_checkpoint(path: str | Path) -> Any:
    """The content of a weights file: plain values, tensors, and a `StandIn` for everything else that it names.

    Raises:
        CheckpointError: missing, damaged, or something else.
    """
    path = expanded(path)
    try:
        if path.is_dir():
            raise CheckpointError(f"{path}: a folder, not a weights file. Name a file in it.")
        if not path.is_file():
            close = nearest(path.name, [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else [])
            raise CheckpointError(f"{path}: no such weights file.{close}")
        with path.open("rb") as file:
            beginning = file.read(4096)
        if _is_safetensors(beginning):
            return _read_safetensors(path)
        _require_pickle(beginning)
        content, foreign = read_stored(path)
    except DamagedError as error:
        raise CheckpointError(f"{path}: damaged, or not a weights file ({error}).") from None
    except (OSError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: cannot be read ({_first_line(error)}).") from None
    if foreign:
        shown = ", ".join(map(ascii, foreign[:6])) + (" ..." if len(foreign) > 6 else "")
        log.warning("%s: it also names %s; this is left out, and nothing of it was run.", path, shown)
    return content


def read_header(path: str | Path) -> dict[str, str]:
    """What the header of a safetensors file says beside its tensors; empty for other files.

    Raises:
        CheckpointError: it cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        beginning = file.read(9)
        if not _is_safetensors(beginning):
            return {}
        file.seek(8)
        text = file.read(int.from_bytes(beginning[:8], "little"))
    try:
        found = json.loads(text).get("__metadata__")
        return {str(key): str(value) for key, value in (found or {}).items()}
    except (ValueError, AttributeError, RecursionError):
        raise CheckpointError(f"{path}: damaged: its header cannot be read.") from None


def _is_safetensors(beginning: bytes) -> bool:
    """The size of the header in eight bytes, then the header, in JSON."""
    return len(beginning) > 8 and beginning[8:9] == b"{" and int.from_bytes(beginning[:8], "little") <= _LARGEST_HEADER


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with path.open("rb") as file:
        needed = 8 + int.from_bytes(file.read(8), "little")
    if path.stat().st_size < needed:
        raise DamagedError("cut off in its header")
    try:
        return load_file(path)
    except (SafetensorError, KeyError) as error:
        is_cut = "incomplete" in str(error).lower() or "overflow" in str(error).lower()
        raise DamagedError(
            "cut off, or of another length than its header says" if is_cut else _first_line(error)
        ) from None


def _require_pickle(beginning: bytes) -> None:
    """Refuse what is plainly something else."""
    if not beginning:
        raise DamagedError("empty")
    if beginning.startswith(b"PK") or (beginning[:1] == b"\x80" and beginning[1:2] in map(bytes, ([2], [3], [4], [5]))):
        return
    text = beginning.lstrip(b"\xef\xbb\xbf \t\r\n")
    for start, what in _BEGINNINGS.items():
        if beginning.startswith(start):
            raise DamagedError(what)
    if text[:1] == b"<":
        raise DamagedError("a web page, not the file: download it anew, logged in if the page asks for that")
    if not beginning.strip(b"\0"):
        raise DamagedError("nothing but zeros")
    if beginning[257:262] == b"ustar":
        raise DamagedError("a tar archive: unpack it")
    if beginning[:1] in b"({[" or beginning.isascii():
        raise DamagedError(f"a text, which begins with {beginning[:40].decode('ascii', 'replace')!r}")
    raise DamagedError("it begins as no file of torch.save or safetensors does")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

"""OpenModelDB (openmodeldb.info): published models with sizes, checksums and licences; searching it, and its cards.

The list of all models is loaded into the cache folder, and again after a week; RESTORE_OPENMODELDB names another one,
as an address or a path.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pydantic

from restore.data.storage.cache import cache_folder
from restore.downloads import read_json
from restore.errors import MissingError, OptionsError, nearest
from restore.files import atomic_write, expanded
from restore.zoo.card import Card

__all__ = ["Entry", "entries", "find_entry", "search"]

SITE = "https://openmodeldb.info"
KEPT_S = 7 * 24 * 3600
NO_FILES = (
    "drive.google.com",
    "mega.nz",
    "mediafire.com",
    "1drv.ms",
    "onedrive.live.com",
    "icedrive.net",
    "dropbox.com",
)
"""Hosts whose addresses lead to pages, not to files."""

logger = logging.getLogger(__name__)


class _Resource(pydantic.BaseModel):
    platform: str
    type: str
    size: int | None = None
    sha256: str | None = pydantic.Field(None, pattern="^[0-9a-fA-F]{64}$")
    urls: list[str] = []


class Entry(pydantic.BaseModel):
    """A model of OpenModelDB, as its JSON describes it (`src/lib/schema.ts` of its repository)."""

    id: str = ""
    name: str
    author: str | list[str] = ""
    license: str | None = None
    tags: list[str] = []
    description: str = ""
    date: str = ""
    architecture: str = ""
    scale: int = 1
    resources: list[_Resource] = []

    @property
    def address(self) -> str:
        """What `-m` takes."""
        return f"omdb:{self.id}"

    @property
    def licence(self) -> str:
        """The licence, or that none is stated."""
        return self.license or "not stated"

    @property
    def size_bytes(self) -> int | None:
        """Of the weights for PyTorch, where it is known."""
        return next((each.size for each in self._weights()), None)

    def card(self, place: Callable[[str, str], str]) -> Card:
        """The model as one of the zoo.

        Args:
            place: from the address and the name of the file to where its weights are kept.

        Raises:
            OptionsError: it has no weights for PyTorch.
        """
        weights = self._weights()
        if not weights:
            kinds = ", ".join(sorted({each.platform for each in self.resources})) or "nothing"
            raise OptionsError(f"{self.address} has no weights for PyTorch: {kinds} is there.")
        chosen = max(weights, key=lambda each: bool(_files(each.urls)))
        urls = _files(chosen.urls)
        suffix = chosen.type if chosen.type in ("pth", "safetensors", "pt", "ckpt") else "pth"
        author = self.author if isinstance(self.author, str) else ", ".join(self.author)
        about = f"{self.name} by {author} ({self.architecture} x{self.scale})"
        return Card.model_validate(
            {
                "name": self.address,
                "task": "sr" if self.scale > 1 else "unknown",
                "summary": f"{about}. {_first_line(self.description)}".strip(),
                "weights": place(self.address, f"{self.id}.{suffix}"),
                "url": urls[0] if urls else None,
                "mirrors": urls[1:],
                "page": f"{SITE}/models/{self.id}",
                "scale": self.scale,
                "size_bytes": chosen.size,
                "sha256": chosen.sha256.lower() if chosen.sha256 else None,
                "licence": self.licence,
            }
        )

    def _weights(self) -> list[_Resource]:
        return [each for each in self.resources if each.platform == "pytorch"]


def entries() -> dict[str, Entry]:
    """Every model by its id; what is not described as the site describes models is left out.

    Raises:
        MissingError: the list is not here and could not be loaded.
    """
    found = {}
    for name, described in _list().items():
        try:
            found[name] = Entry.model_validate({**described, "id": name})
        except (pydantic.ValidationError, TypeError):
            logger.debug("OpenModelDB: %s is not understood", name)
    return found


def find_entry(name: str) -> Entry:
    """A model by its id, or by the name that the site shows, whatever the case and the spaces.

    Raises:
        OptionsError: there is none; the message names the nearest.
    """
    known = entries()
    if name in known:
        return known[name]
    alike = [each for each in known.values() if _plain(name) in (_plain(each.id), _plain(each.name))]
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise OptionsError(f"'{name}' may be {' or '.join(each.address for each in alike)}: name one.")
    near = nearest(name, known, most=3)
    raise OptionsError(f"OpenModelDB has no model '{name}'.{near} `restore models search WORD` looks for one.")


def search(
    words: Sequence[str], *, scale: int | None = None, architecture: str | None = None, licence: str | None = None
) -> list[Entry]:
    """Models with all these words in name, author, architecture, tags or description: named so first, then new ones.

    Args:
        words: in any order and case.
        scale: output pixels per input pixel.
        architecture: a part of its name.
        licence: a part of its name.
    """
    wanted = [word.lower() for word in words]

    def fits(each: Entry) -> bool:
        authors = [each.author] if isinstance(each.author, str) else each.author
        text = " ".join([each.id, each.name, *authors, each.architecture, *each.tags, each.description]).lower()
        return (
            all(word in text for word in wanted)
            and scale in (None, each.scale)
            and (architecture or "").lower() in each.architecture.lower()
            and (licence or "").lower() in each.licence.lower()
        )

    found = sorted(filter(fits, entries().values()), key=lambda each: each.date, reverse=True)
    return sorted(found, key=lambda each: not all(word in f"{each.id} {each.name}".lower() for word in wanted))


def _list() -> dict[str, Any]:
    chosen = os.environ.get("RESTORE_OPENMODELDB", "")
    if chosen and not re.match(r"(https?|file)://", chosen, re.IGNORECASE):
        return _checked(_read(expanded(chosen)), chosen)
    url = chosen or f"{SITE}/api/v1/models.json"
    kept = cache_folder() / "openmodeldb.json"
    if not chosen and kept.is_file() and time.time() - kept.stat().st_mtime < KEPT_S:
        return _checked(_read(kept), str(kept))
    try:
        found = _checked(read_json(url), url)
    except MissingError as error:
        if chosen or not kept.is_file():
            raise
        logger.info(
            "%s The list of %s is used.", error, time.strftime("%d %B %Y", time.localtime(kept.stat().st_mtime))
        )
        return _checked(_read(kept), str(kept))
    if not chosen:
        with atomic_write(kept) as file:
            file.write(json.dumps(found).encode())
    return found


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise MissingError(f"{path} is no list of OpenModelDB: {error}.") from None


def _checked(found: Any, source: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise MissingError(f"{source} is no list of OpenModelDB: it holds a {type(found).__name__}.")
    return found


def _files(urls: Sequence[str]) -> list[str]:
    """The addresses that lead to a file."""
    hosts = {url: urlsplit(url).hostname or "" for url in urls if re.match(r"https?://", url, re.IGNORECASE)}
    return [url for url, host in hosts.items() if not any(host == no or host.endswith(f".{no}") for no in NO_FILES)]


def _first_line(text: str) -> str:
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text.strip().partition("\n")[0])[:200]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())

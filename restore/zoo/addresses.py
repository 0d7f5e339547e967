"""Models by address: whatever is published becomes a `Card`, and is loaded, checked and kept as those of the zoo are.

    hf:owner/name             the weights file of a repository of the Hugging Face hub; /FILE says which, @REVISION when
    https://host/net.pth      a file; #sha256=HEX says which bytes it has
    omdb:4x-Name              a model of OpenModelDB

The hub and OpenModelDB tell size, checksum and licence. Where nobody tells a checksum, that of the first file seen is
recorded and compared from then on (`restore.zoo.download`). What was found out about an address is kept beside its
file, so that a network is needed once; a file of the hub stays at the commit of that day. Its licence is always said.

HF_ENDPOINT names another hub. What needs a login is fetched by hand and named by its path.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from restore.downloads import read_json
from restore.errors import MissingError, OptionsError
from restore.files import atomic_write
from restore.zoo.card import Card, find_card
from restore.zoo.download import local_weights, weights_folder

if TYPE_CHECKING:
    from restore.zoo.hub import File, Repository

__all__ = ["SUFFIXES", "card_of", "is_address"]

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
"""Endings of weights files, the preferred one first."""

HUB = "https://huggingface.co"
NOT_STATED = "not stated"
NAMED = 10  # files of a repository, in a message
_ADDRESS = re.compile(r"(hf|omdb|https?):", re.IGNORECASE)
_HF = re.compile(r"([\w.-]+)/([\w.-]+)(?:@([\w.-]+))?(?:/(.+))?", re.ASCII)
_HF_PAGE = re.compile(r"/([\w.-]+)/([\w.-]+)/(?:blob|resolve)/([\w.-]+)/(.+)", re.ASCII)
logger = logging.getLogger(__name__)


def is_address(name: object) -> bool:
    """Whether a model is named by its address."""
    return isinstance(name, str) and _ADDRESS.match(name) is not None


def card_of(name: str) -> Card:
    """The card of a model of the zoo, or that of an address, whose licence is said.

    Raises:
        OptionsError: no such model, or this is no address of one; the message says what is.
        MissingError: nobody answers there, and nothing was kept.
    """
    if not is_address(name):
        return find_card(name)
    address, sha256 = _without_checksum(name.strip())
    card = _kept(address)
    if card is None:
        card = _found(address)
        with atomic_write(weights_folder() / card.weights.rpartition("/")[0] / "card.json") as file:
            file.write(card.model_dump_json(indent=2).encode())
    if sha256:
        if card.sha256 not in (None, sha256):
            raise OptionsError(f"{name}: its publisher says that the SHA-256 is {card.sha256}.")
        card = card.model_copy(update={"sha256": sha256})
    _say_licence(card)
    return card


@functools.cache
def _told() -> set[str]:
    """Addresses whose licence was said by this process."""
    return set()


def _say_licence(card: Card) -> None:
    if card.name in _told():
        return
    _told().add(card.name)
    logger.info("%s: licence %s%s", card.name, card.licence, f" ({card.page})" if card.page else "")
    if re.search(r"\bNC\b|non-?commercial", card.licence, re.IGNORECASE):
        logger.warning("warning: %s is for non-commercial use.", card.name)


def _without_checksum(address: str) -> tuple[str, str | None]:
    address, mark, fragment = address.partition("#")
    if not mark:
        return address, None
    found = re.fullmatch(r"sha256=([0-9a-f]{64})", fragment, re.IGNORECASE | re.ASCII)
    if found is None:
        raise OptionsError(f"'#{fragment}' is no checksum: write {address}#sha256= and 64 hexadecimal digits.")
    return address, found[1].lower()


def _folder(address: str) -> str:
    """Name of the folder of an address among the weights."""
    return hashlib.sha256(address.encode()).hexdigest()[:16]


def _weights(address: str, file: str) -> str:
    """Where the weights of an address are kept, in the folder of all weights."""
    plain = re.sub(r"[^A-Za-z0-9._+-]", "_", unquote(file).rpartition("/")[2])[-100:].lstrip(".")
    return f"{_folder(address)}/{plain or 'weights'}"


def _kept(address: str) -> Card | None:
    """What was found out before, as long as the weights are here."""
    path = weights_folder() / _folder(address) / "card.json"
    try:
        card = Card.model_validate(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError):
        return None
    return card if local_weights(card) is not None or not address.lower().startswith(("hf:", "omdb:")) else None


def _found(address: str) -> Card:
    scheme, _, rest = address.partition(":")
    if scheme.lower() == "omdb":
        from restore.zoo.openmodeldb import find_entry

        return find_entry(rest).card(_weights)
    if scheme.lower() == "hf":
        return _of_hub(address, rest)
    return _of_url(address)


def _of_url(address: str) -> Card:
    parts = urlsplit(address)
    if not parts.hostname:
        raise OptionsError(f"{address!a} names no host: write https://HOST/FILE.")
    if parts.username or parts.password:
        raise OptionsError("an address that holds a password is not taken: it would be logged and kept.")
    if parts.hostname in ("huggingface.co", "hf.co") and (page := _HF_PAGE.fullmatch(parts.path)):
        owner, name, revision, file = page.groups()
        rest = f"{owner}/{name}@{revision}/{unquote(file)}"
        return _of_hub(address, rest)
    url = address
    if parts.hostname == "github.com":
        url = re.sub(r"(github\.com/[^/]+/[^/]+)/blob/", r"\1/raw/", address)
    return Card.model_validate(
        {
            "name": address,
            "task": "unknown",
            "summary": f"a file of {parts.hostname}",
            "weights": _weights(address, parts.path),
            "url": url,
            "licence": f"{NOT_STATED}: ask those who published it",
        }
    )


def _of_hub(address: str, rest: str) -> Card:
    """The weights of a repository of the hub, at the commit that it has now."""
    found = _HF.fullmatch(rest)
    if found is None:
        raise OptionsError(f"'{address}' is no address of the hub: write hf:OWNER/NAME or hf:OWNER/NAME/FILE.")
    owner, name, revision, file = found.groups()
    hub = os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUB
    at = f"/revision/{revision}" if revision else ""
    answer = read_json(
        f"{hub}/api/models/{owner}/{name}{at}?blobs=true",
        why={401: "there is no such model, or it needs a login: fetch its file by hand and name it by its path",
             403: "it needs a login: fetch its file by hand and name it by its path",
             404: "there is no such model or revision"},
    )  # fmt: skip
    from restore.zoo.hub import Repository

    try:
        repository = Repository.model_validate(answer)
    except ValueError:
        raise MissingError(f"{address}: the hub's answer makes no sense.") from None
    chosen = _chosen(address, file, repository.siblings)
    return Card.model_validate(
        {
            "name": address,
            "task": "unknown",
            "summary": f"{owner}/{name} of the hub, commit {repository.sha[:12]}",
            "weights": _weights(address, chosen.rfilename),
            "url": f"{hub}/{owner}/{name}/resolve/{repository.sha}/{quote(chosen.rfilename)}",
            "page": f"{hub}/{owner}/{name}",
            "size_bytes": chosen.size,
            "sha256": chosen.lfs.sha256 if chosen.lfs else None,
            "licence": _licence(repository),
        }
    )


def _chosen(address: str, file: str | None, files: list[File]) -> File:
    """The file that is meant: the one that is named, or the one weights file of the best kind."""
    by_name = {each.rfilename: each for each in files}
    weights = [name for name in by_name if name.lower().endswith(SUFFIXES)]
    listed = ", ".join(sorted(weights)[:NAMED]) + (f" and {len(weights) - NAMED} more" if len(weights) > NAMED else "")
    if file is not None:
        if file not in by_name:
            raise OptionsError(f"{address}: there is no such file. Weights there: {listed or 'none'}.")
        return by_name[file]
    for suffix in SUFFIXES:
        of_kind = [name for name in weights if name.lower().endswith(suffix)]
        if len(of_kind) == 1:
            return by_name[of_kind[0]]
        if of_kind:
            break
    if not weights:
        raise OptionsError(f"{address} holds no weights file ({', '.join(SUFFIXES)}).")
    raise OptionsError(f"{address} holds {len(weights)} weights files: name one, as {address}/FILE: {listed}.")


def _licence(repository: Repository) -> str:
    told = repository.cardData or {}
    licence = told.get("license_name") if told.get("license") == "other" else told.get("license")
    if licence is None:
        licence = next((tag.partition(":")[2] for tag in repository.tags if tag.startswith("license:")), NOT_STATED)
    return ", ".join(map(str, licence)) if isinstance(licence, list) else str(licence)

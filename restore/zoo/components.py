"""What components are and where they come from: said once, in their docstrings, and read from there.

    describe("mixer", "outlook")        # VOLO, Yuan et al. 2021, arXiv 2106.13112, github.com/sail-sg/volo, Apache-2.0

The docstring of the component, or else that of its module, names the paper as `Author et al. 2021, arXiv 2106.13112`
and official code as `github.com/owner/name (licence)`; the first of each counts. Where one docstring is for several
components, a line or a row of a table that begins with the component's name is for it alone. "whose keys are kept" says
that files of the official code load, and that its outputs were compared; "Checked against ..." says so otherwise. Where
weights of encoders are offered, `encoder_weights.yml` says.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from restore.registry import Registry
from restore.zoo.encoder_weights import list_encoder_weights
from restore.zoo.load import KINDS

__all__ = ["Component", "describe", "find_components", "list_components"]

_YEAR = r"\b(?:19|20)\d\d\b"
_ARXIV = r"arXiv (\d{4}\.\d{4,5})"
_AUTHORS = (
    r"[A-Z][\w-]+(?: et al\.| & [A-Z][\w-]+|(?:, [A-Z][\w-]+(?: [A-Z][\w-]+)?)+(?=,? [\"\d]))"
    r"|[A-Z][a-z][\w-]+(?= \d{4})"
)
_LICENCE = r"Apache[\w.-]*|MIT|Clear BSD|BSD[\w-]*|CC[\w.-]*|no licence"
_KEYS_KEPT = (
    r"keys (?:and its facts )?are kept|[kK]eys are those of|official keys|state-dict keys|keys and shapes agree"
    r"|published weights load"
)


@dataclass(frozen=True)
class Component:
    """What is known about something that can be built by name.

    Attributes:
        kind: "encoder", "mixer", ...
        name: what option files say.
        aliases: further names.
        variants: names of the same with other arguments.
        about: what it is, in a line.
        paper: who wrote it and when; empty where there is none.
        arxiv: number of the paper.
        year: of the paper.
        code: address of the official code.
        licence: of that code.
        weights: whose weights for it can be had; empty where nobody's.
        offered: where these are offered, under which licence and with which arguments; for encoders.
        checked: what it was compared with.
        text: its documentation, arguments included.
    """

    kind: str
    name: str
    aliases: tuple[str, ...]
    variants: tuple[str, ...]
    about: str
    paper: str
    arxiv: str | None
    year: int | None
    code: str | None
    licence: str | None
    weights: str
    offered: str
    checked: str
    text: str


def list_components(kind: str) -> list[Component]:
    """Every component of a kind, variants aside, by name."""
    registry = KINDS[kind]
    variants = {variant for name in registry for variant in registry.variants(name)}
    return [describe(kind, name) for name in registry if name not in variants]


def find_components(name: str) -> list[Component]:
    """The components of that name, of every kind; one encoder and one mixer may share it."""
    return [describe(kind, name) for kind, registry in KINDS.items() if name in registry]


def describe(kind: str, name: str) -> Component:
    """What the docstrings say of a component.

    Raises:
        OptionsError: there is none of this name.
    """
    registry = KINDS[kind]
    component = registry.get(name)
    family = _family(registry, name)
    own, shared = _texts(component)
    row = next(filter(None, (_row(text, each) for each in (name, family) for text in (own, shared))), "")
    of_timm, in_table = _is_timm(component), "|" in row
    texts = [row] if of_timm else [" ".join(text.split()) for text in (row, own, shared) if text]
    paper, arxiv, year = next(filter(lambda found: found[2], map(_paper, texts)), ("", None, None))
    code, licence = next(filter(lambda found: found[0], map(_code, texts[:1] if in_table else texts)), (None, None))
    kept = any(re.search(_KEYS_KEPT, text) for text in texts)
    card = list_encoder_weights().get(family) if kind == "encoder" and not of_timm else None
    published = card is not None if kind == "encoder" else kept and code and kind != "mixer"
    said = next((found[1] for text in texts if (found := re.search(r"Checked against ([^.]+)\.", text))), None)
    return Component(
        kind=kind,
        name=name,
        aliases=tuple(registry.aliases(name)),
        variants=registry.variants(name),
        about=row.split(",")[0] if of_timm and row else _about(row, shared if kind == "encoder" and shared else own),
        paper=paper,
        arxiv=arxiv,
        year=year,
        code=code,
        licence=licence,
        weights="timm" if of_timm else "of the official code" if published else "",
        offered=str(card or ""),
        checked=said or ("timm" if of_timm else "the official code" if kept and code else ""),
        text=own,
    )


def _texts(component: Callable[..., Any]) -> tuple[str, str]:
    """The docstrings of a component and of what stands around it."""
    target = component.func if isinstance(component, functools.partial) else component
    shared = sys.modules[target.__module__]
    if _is_timm(component):
        from restore.encoders.timm import names

        shared = names
    own, around = (inspect.getdoc(each) or "" for each in (target, shared))
    return own, around


def _is_timm(component: Callable[..., Any]) -> bool:
    target = component.func if isinstance(component, functools.partial) else component
    return target.__module__ == "restore.encoders.timm.encoder"


def _family(registry: Registry, name: str) -> str:
    """What a variant is one of."""
    return next((each for each in registry if name in registry.variants(each)), name)


def _row(text: str, name: str) -> str:
    """The line, or the row of a table, that is for this name alone."""
    rows = re.findall(rf"^\s*(?:\| |- )?`?{re.escape(name)}`?(?: \||:|  )\s*(.+)$", text, re.MULTILINE)
    return next((row for row in rows if re.search(rf"{_ARXIV}|et al", row)), "")


def _about(row: str, text: str) -> str:
    line = row.split("|")[0] if "|" in row else text.partition("\n\n")[0]
    return " ".join(line.split()).rstrip(". ")


def _paper(text: str) -> tuple[str, str | None, int | None]:
    """Authors with the year, number and year of the first paper that a text names."""
    number = re.search(_ARXIV, text)
    if number is None:
        named = re.search(rf"({_AUTHORS}),? (?:[A-Z][\w ]*)?({_YEAR})", text)
        return (f"{_short(named[1])} {named[2]}", None, int(named[2])) if named else ("", None, None)
    before = re.split(r"(?<=[a-z\d)])\. (?=[A-Z])|[;|] ", text[: number.start()])[-1]
    years, authors = re.findall(_YEAR, before), re.findall(_AUTHORS, before)
    year = int(years[-1]) if years else 2000 + int(number[1][:2])
    return f"{_short(authors[-1])} {year}" if authors else str(year), number[1], year


def _short(authors: str) -> str:
    """Liang, Cao, Sun: Liang et al."""
    return f"{authors.split(',')[0]} et al." if "," in authors else authors.strip()


def _code(text: str) -> tuple[str | None, str | None]:
    """Address and licence of the first code that a text names."""
    match = re.search(r"github\.com/[\w.-]+/[\w-]+(?:\.[\w-]+)*(?:[^(.;]{0,40}\(([^)]*)\))?", text)
    if match is None:
        return None, None
    licence = re.search(_LICENCE, match[1] or "")
    return match[0].split()[0].rstrip(","), licence[0].strip() if licence else None


def fields_of(component: Component) -> Iterator[tuple[str, str]]:
    """What a page shows, label and text, without what is empty."""
    paper = ", ".join(filter(None, (component.paper, component.arxiv and f"arXiv {component.arxiv}")))
    code = ", ".join(filter(None, (component.code, component.licence)))
    shown = {
        "kind": component.kind,
        "what it is": component.about,
        "further names": ", ".join(component.aliases),
        "variants": ", ".join(component.variants),
        "paper": paper,
        "official code": code,
        "weights": ", ".join(filter(None, (component.weights, component.offered))) or "none",
        "checked against": component.checked or f"the contract of its kind ({component.kind})",
    }
    yield from ((label, text) for label, text in shown.items() if text)

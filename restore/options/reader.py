"""Reads YAML as option files need it: plain data only, YAML 1.2 numbers, no duplicate keys, and every line known.

What differs from PyYAML's own safe loader: `2e-4` is a number (YAML 1.1 takes it for text), `yes`, `on` and dates are
text (a field that wants true or false takes them as well), keys are always text, text that begins with `~/` is a path
in the home folder, and a key that stands twice is an error.
BasicSR's `!!float 2e-4` is accepted; a tag that would build anything but plain data is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from restore.bounded_yaml import BoundedLoader, TooMuchError
from restore.errors import OptionsError, Problem
from restore.options.tree import Origin, Place, Tree

__all__ = ["read_text", "read_value"]

_TAG = "tag:yaml.org,2002:"
_LONGEST_TEXT, _LONGEST_NUMBER = 4096, 100


def read_text(text: str, file: str) -> Tree:
    """The values of a YAML document with the line of each.

    Raises:
        OptionsError: with every mistake: syntax, a tag or alias that is not allowed, a key that stands twice.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
    except TooMuchError as error:
        raise OptionsError([Problem("", f"{error.problem}.", error.line, file)]) from None
    except yaml.YAMLError as error:
        raise OptionsError([_syntax_problem(error, text, file)]) from None
    if node is None:
        raise OptionsError([Problem("", "the file is empty: an option file holds `key: value` lines.", None, file)])
    if not isinstance(node, yaml.MappingNode):
        raise OptionsError([Problem("", "an option file holds `key: value` lines, not a list or one value.", 1, file)])
    builder = _Builder(file)
    values = builder.build(node, ())
    builder.origins[()] = Origin(file)
    if builder.problems:
        raise OptionsError(sorted(builder.problems, key=lambda problem: problem.line or 0))
    return Tree(values, builder.origins)


def read_value(text: str, where: str) -> Any:
    """One value as on the right of a colon; `where` names it in messages.

    Anything but a list, a block, quoted or tagged text is one scalar, so colons, hashes and the template of a file name
    such as {}x4 need no quotes.
    """
    text = text.strip()
    builder = _Builder(where)
    try:
        if not text.startswith(("[", "{", '"', "'", "!!")) or re.match(r"\{\}.", text):
            value = builder.scalar(yaml.ScalarNode(_plain_tag(text), text), ())
        else:
            node = yaml.compose(text, Loader=_Loader)
            assert node is not None  # there is text that begins a value
            value = builder.build(node, ())
    except yaml.YAMLError as error:
        raise OptionsError([Problem("", f"not a value in YAML: {_reason(error)}.", None, where)]) from None
    if builder.problems:
        raise OptionsError([Problem("", builder.problems[0].message, None, where)])
    return value


class _Loader(BoundedLoader):
    """Composes nodes; resolves plain scalars as the core schema of YAML 1.2 does."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - PyYAML's own name and type


_PLAIN = {
    "null": re.compile(r"~|null|Null|NULL|"),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int": re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    "float": re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
    "merge": re.compile(r"<<"),
}
for _name, _pattern in _PLAIN.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern.pattern})$"), None)


def _plain_tag(text: str) -> str:
    return _TAG + next((name for name, pattern in _PLAIN.items() if pattern.fullmatch(text)), "str")


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(text)
    number = int(text.replace("_", ""), 0 if text[:2].lower() in ("0x", "0o") else 10)
    if abs(number) >= 1 << 64:
        raise ValueError(text)
    return number


def _float(text: str) -> float:
    return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))


def _truth(text: str) -> bool:
    return {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}[text.lower()]


def _is_text(text: str) -> bool:
    return len(text) <= _LONGEST_TEXT and "\0" not in text and not re.search("[\ud800-\udfff]", text)


def _text(text: str) -> str:
    if not _is_text(text):
        raise ValueError(text)
    return str(Path.home() / text[2:]) if text.startswith("~/") else text


_SCALARS: dict[str, Callable[[str], Any]] = {
    "null": lambda _: None,
    "bool": _truth,
    "int": _integer,
    "float": _float,
    "str": _text,
    "merge": _text,
}


class _Builder:
    """Turns nodes into plain values, noting the line of each and every mistake."""

    def __init__(self, file: str):
        self.file = file
        self.origins: dict[Place, Origin] = {}
        self.problems: list[Problem] = []

    def build(self, node: yaml.Node, place: Place) -> Any:
        self.origins.setdefault(place, Origin(self.file, _line(node)))
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, place)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        assert isinstance(node, yaml.SequenceNode)
        return self._sequence(node, place)

    def scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        name = node.tag.removeprefix(_TAG)
        if name not in _SCALARS:
            self._refuse_tag(node, place)
            return None
        try:
            return _SCALARS[name](node.value)
        except (ValueError, KeyError):
            self._complain(node, place, _refusal(name, node.value))
            return None

    def _sequence(self, node: yaml.SequenceNode, place: Place) -> list[Any]:
        if node.tag != f"{_TAG}seq":
            self._refuse_tag(node, place)
        return [self.build(item, (*place, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        if node.tag != f"{_TAG}map":
            self._refuse_tag(node, place)
        inherited: dict[str, Any] = {}
        own: dict[str, Any] = {}
        lines: dict[str, int | None] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                inherited |= self._merged(value_node, place)
            elif not isinstance(key_node, yaml.ScalarNode):
                self._complain(key_node, place, "a key must be text, not a list or block.")
            else:
                key, line = key_node.value, _line(key_node)
                if not _is_text(key):
                    self._complain(key_node, place, _refusal("str", key))
                    continue
                if key in own:
                    self._complain(
                        key_node, (*place, key), f"this key stands twice: also in line {lines[key]}. Keep one."
                    )
                    continue
                if key in inherited:
                    self._forget((*place, key))
                self.origins[(*place, key)] = Origin(self.file, line)
                own[key], lines[key] = self.build(value_node, (*place, key)), line
        return {**inherited, **own}

    def _merged(self, node: yaml.Node, place: Place) -> dict[str, Any]:
        """The keys that `<<: *alias` brings in; of several aliases the first wins."""
        blocks = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for block in reversed(blocks):
            if isinstance(block, yaml.MappingNode):
                merged |= self.build(block, place) or {}
            else:
                self._complain(node, place, "`<<` merges blocks: give it an alias such as *base.")
        return merged

    def _forget(self, place: Place) -> None:
        for other in [other for other in self.origins if other[: len(place)] == place]:
            del self.origins[other]

    def _refuse_tag(self, node: yaml.Node, place: Place) -> None:
        tag = node.tag.replace(_TAG, "!!")
        self._complain(node, place, f"the tag {tag} is refused: an option file holds plain values only.")

    def _complain(self, node: yaml.Node, place: Place, message: str) -> None:
        self.problems.append(Problem(".".join(map(str, place)), message, _line(node), self.file))


def _refusal(name: str, text: str) -> str:
    shown = f"{ascii(text[:40])[1:-1]}..." if len(text) > 40 else ascii(text)[1:-1]
    if name == "int" and len(text) > 19:
        return f"'{shown}' is a number of {len(text):,} digits: no option takes it."
    if name in ("str", "merge") and len(text) > _LONGEST_TEXT:
        return f"'{shown}' is a text of {len(text):,} characters; {_LONGEST_TEXT:,} are allowed."
    if name in ("str", "merge"):
        return f"'{shown}' holds a character that no text has (NUL, or half of a pair)."
    return f"'{shown}' is not what the tag !!{name} says."


def _line(node: Any) -> int | None:
    return node.start_mark.line + 1 if node.start_mark else None


def _reason(error: yaml.YAMLError) -> str:
    return getattr(error, "problem", None) or str(error).splitlines()[0]


def _syntax_problem(error: yaml.YAMLError, text: str, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return Problem("", f"not valid YAML: {_reason(error)}.", None, file)
    lines = text.splitlines()
    shown = lines[mark.line] if mark.line < len(lines) else ""
    advice = _advice(shown, _reason(error), mark.column)
    pointer = f"\n    {shown}\n    {' ' * mark.column}^" if shown else ""
    return Problem(
        "", f"not valid YAML at column {mark.column + 1}: {_reason(error)}.{advice}{pointer}", mark.line + 1, file
    )


def _advice(shown: str, reason: str, column: int) -> str:
    if "\t" in shown[: column + 1]:
        return " Indent with spaces, not tabs."
    if "mapping values are not allowed" in reason:
        return " Is this line indented too far, or does a text with a colon need quotes?"
    if "expected <block end>" in reason:
        return " Entries of one block must begin in the same column."
    if "could not find expected ':'" in reason:
        return " Write `key: value`, with a space after the colon."
    return ""

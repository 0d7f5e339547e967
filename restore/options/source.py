"""From an option file to one tree of values: the files it extends below it, the overrides of the command line above.

`extends: other.yml` (or a list of files, the later over the earlier) names files relative to the one it stands in.
Blocks are merged key by key; everything else is replaced. Two things follow from what the values mean:

- a component block that names another `type` starts anew, since the arguments belonged to the other component
  (a dataset block keeps its entries: most of them describe files and loading);
- null (`~`) replaces what was inherited, and a block that is null is the same as no block: `perceptual_opt: ~` removes
  an inherited loss, `val_2: ~` an inherited dataset.

An override is an assignment: `--set network_g.type=EDSR` changes this one value, and `--set 'network_g={type: EDSR}'`
the whole block. BasicSR's `--force_yml network_g:type=EDSR` means the same. Overrides apply in the order given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restore.errors import OptionsError, Problem, nearest
from restore.files import expanded, path_problem, text_of
from restore.options.reader import read_text, read_value
from restore.options.tree import Origin, Tree
from restore.packaged import option_files

__all__ = ["Override", "files_of", "read"]

_MOST_FILES, _LARGEST_BYTES, _MOST_SHOWN = 100, 256 << 10, 200


@dataclass(frozen=True)
class Override:
    """One `a.b=value` (or `a:b=value`) of the command line.

    Attributes:
        text: the assignment as it was written.
        flag: the argument that it followed, for messages.
    """

    text: str
    flag: str = "--set"

    def __str__(self) -> str:
        text = (
            self.text if len(self.text) <= _MOST_SHOWN and self.text.isprintable() else ascii(self.text)[1:_MOST_SHOWN]
        )
        return f"{self.flag} {text}"

    def apply(self, tree: Tree) -> None:
        """Set the value in `tree`.

        Raises:
            OptionsError: this is not an assignment, its value is not YAML, or its path leads through a plain value.
        """
        path, equals, text = self.text.partition("=")
        keys = tuple(re.split(r"[.:]", path.strip()))
        if not equals or not all(keys):
            raise OptionsError([Problem("", "write it as key=value or block.key=value.", None, str(self))])
        try:
            tree.assign(keys, self._value(text), {keys: Origin(str(self))})
        except OptionsError as error:
            raise OptionsError([Problem(p.path, p.message, None, str(self)) for p in error.problems]) from None

    def _value(self, text: str) -> Any:
        is_null = self.flag == "--force_yml" and text.strip().lower() == "none"
        return None if is_null else read_value(text, str(self))


def read(path: str | Path, overrides: Iterable[Override | str] = ()) -> Tree:
    """The values of an option file with everything it extends and all overrides.

    Args:
        path: a file, or the name of one that comes with the package (`swinir_x4`, `benchmarks/sr_x4`).
        overrides: assignments, applied in order.

    Raises:
        OptionsError: a file is missing or not valid YAML, files go in a circle, or an override is malformed.
    """
    tree = _read_file(_place_of(path), (), iter(range(_MOST_FILES)))
    problems: list[Problem] = []
    for override in overrides:
        try:
            (Override(override) if isinstance(override, str) else override).apply(tree)
        except OptionsError as error:
            problems += error.problems
    if problems:
        raise OptionsError(problems)
    return tree


def files_of(path: Path) -> list[Path]:
    """An option file and all files that it extends, each once.

    Raises:
        OptionsError: one is missing or not valid YAML.
    """
    found: list[Path] = []
    left = [path.resolve()]
    while left and len(found) < _MOST_FILES:
        file = left.pop(0)
        if file in found:
            continue
        found.append(file)
        bases = read_text(_text_of(file), str(file)).values.get("extends")
        left += [
            (file.parent / base).resolve()
            for base in (bases if isinstance(bases, list) else [bases])
            if isinstance(base, str)
        ]
    return found


def _place_of(path: str | Path) -> Path:
    """The file of this path, or the one that comes with the package under this name (`swinir_x4`)."""
    path = expanded(path)
    if path.suffix or path.is_file():
        return path
    return option_files().get(path.as_posix(), path)


def _read_file(path: Path, chain: tuple[Path, ...], left: Iterator[int]) -> Tree:
    if next(left, None) is None:
        message = f"with what it extends, this is more than {_MOST_FILES} files: no option file needs that."
        raise OptionsError([Problem("extends", message, None, str(chain[0]))])
    tree = read_text(_text_of(path), str(path))
    bases = tree.values.pop("extends", None)
    where = tree.origins.pop(("extends",), None)
    below = Tree({}, {})
    for base in bases if isinstance(bases, list) else [bases] if bases is not None else []:
        below.merge(_read_base(path, base, (*chain, path), where, left))
    below.merge(tree)
    return below


def _read_base(path: Path, base: Any, chain: tuple[Path, ...], where: Origin | None, left: Iterator[int]) -> Tree:
    line = where.line if where else None
    if not isinstance(base, str):
        raise OptionsError(
            [
                Problem(
                    "extends",
                    f"expected the name of an option file or a list of them; given: {base!r}.",
                    line,
                    str(path),
                )
            ]
        )
    if problem := path_problem(base):
        raise OptionsError(
            [Problem("extends", f"'{base[:40]}...' is not the name of a file: {problem}.", line, str(path))]
        )
    target = path.parent / expanded(base)
    ancestors = [file.resolve() for file in chain]
    if target.resolve() in ancestors:
        circle = " -> ".join(file.name for file in (*chain[ancestors.index(target.resolve()) :], target))
        raise OptionsError(
            [Problem("extends", f"these files extend each other in a circle: {circle}.", line, str(path))]
        )
    if not target.is_file():
        raise OptionsError([Problem("extends", _missing(target), line, str(path))])
    return _read_file(target, chain, left)


def _text_of(path: Path) -> str:
    if not path.is_file():
        raise OptionsError([Problem("", _missing(path))])
    try:
        if (size := path.stat().st_size) > _LARGEST_BYTES:
            message = f"this file has {size:,} bytes, and an option file {_LARGEST_BYTES:,} at most."
            raise OptionsError([Problem("", message, None, str(path))])
        return text_of(path)
    except UnicodeDecodeError as error:
        message = (
            f"not a text file in {error.encoding.upper()}: byte {error.start} is {error.object[error.start]:#04x}."
        )
        raise OptionsError([Problem("", message, None, str(path))]) from None
    except OSError as error:
        raise OptionsError([Problem("", f"cannot be read: {error.strerror}.", None, str(path))]) from None


def _missing(path: Path) -> str:
    """Says that a file is not there, and which one might be meant."""
    if path.is_dir():
        found = sorted(entry.name for entry in path.glob("*.y*ml"))
        return f"{path} is a folder, not an option file.{_listing('It holds', found)}"
    if not path.suffix and path.parent == Path():
        hint = nearest(path.name, option_files())
        return f"no such file, and no option file of the package has that name: {path}.{hint}"
    if not path.parent.is_dir():
        existing = next(folder for folder in path.parents if folder.is_dir())
        wanted = path.relative_to(existing).parts[0]
        hint = nearest(wanted, (entry.name for entry in existing.iterdir() if entry.is_dir()))
        return f"no such file: {path}. There is no folder '{wanted}' in {existing}.{hint}"
    beside = sorted(entry.name for entry in path.parent.glob("*.y*ml") if entry.is_file())
    return f"no such file: {path}.{nearest(path.name, beside)}{_listing('Option files there:', beside)}"


def _listing(lead: str, names: list[str], most: int = 8) -> str:
    if not names:
        return ""
    return f" {lead} {', '.join(names[:most])}{' ...' if len(names) > most else ''}."

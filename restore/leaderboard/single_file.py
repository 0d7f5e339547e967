"""One self-contained file from a network's source: the definitions that it needs, and nothing of this package.

The definitions are found by following names from the class, through the modules of this package, and written out in
an order in which each module comes after those that it uses. Comments and layout stay as they are; what registers a
class under a name falls away, and so do the methods that deal with other weights files, and compiled code. Networks
that pick their parts by name from a registry when they are built have no fixed set of definitions, and are refused.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import inspect
from collections.abc import Iterator
from types import FunctionType, ModuleType

from restore.errors import OptionsError

__all__ = ["inline"]

PACKAGE = "restore"
REGISTRIES = "restore.registry"
COMPILED = "restore.layers.compiled"
NOT_COMPILED = """def {name}(*_: object, **__: object) -> None:
    \"\"\"Compiled code, which is not here: None lets the caller compute with torch's operators.\"\"\"


"""
_LEFT_OUT = ("recognise", "branch", "own_branch")


def inline(component: type, *others: type | FunctionType) -> str:
    """Source that defines `component` and other classes and functions, importing nothing of this package.

    Raises:
        OptionsError: it needs something that cannot be written into one file.
    """
    collected = _Collector(component.__name__)
    for each in (component, *others):
        collected.visit(each.__module__, each.__name__)
    return collected.text()


class _Collector:
    """The definitions found so far, by module, and the imports of other libraries."""

    def __init__(self, owner: str):
        self._owner = owner
        self._needed: dict[str, set[str]] = {}
        self._uses: dict[str, set[str]] = {}
        self._imports: dict[str, str] = {}
        self._renamed: dict[str, str] = {}
        self._stand_ins: set[str] = set()
        self._defined: dict[str, str] = {}

    def visit(self, module: str, name: str) -> None:
        """Take up a name of a module, and everything that its definition uses."""
        if name in self._needed.get(module, ()):
            return
        source = _Source.of(module)
        node = source.definitions.get(name)
        if node is None:
            raise OptionsError(f"{self._owner} uses {module}.{name}, whose definition cannot be found.")
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            self._import(module, node, name)
            return
        if self._defined.setdefault(name, module) != module:
            raise OptionsError(f"{self._owner} uses two different '{name}', of {module} and {self._defined[name]}.")
        self._needed.setdefault(module, set()).add(name)
        self._uses.setdefault(module, set())
        for used in _names_in(node):
            if used in source.definitions:
                self.visit(module, used)

    def text(self) -> str:
        """Imports, then the definitions in order."""
        order = graphlib.TopologicalSorter(self._uses).static_order()
        bodies = [_Source.of(module).segment(self._needed[module]) for module in order]
        aliases = "".join(f"{name} = {original}\n" for name, original in sorted(self._renamed.items()))
        imports = sorted(set(self._imports.values()), key=lambda line: (line.startswith("from"), line))
        stand_ins = [NOT_COMPILED.format(name=name) for name in sorted(self._stand_ins)]
        return "\n".join([*imports, "", "", *stand_ins, *bodies]) + aliases

    def _import(self, module: str, node: ast.Import | ast.ImportFrom, name: str) -> None:
        alias = next(alias for alias in node.names if (alias.asname or alias.name.split(".")[0]) == name)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            if node.module == REGISTRIES:
                raise OptionsError(
                    f"{self._owner} picks its parts by name ({name}) when it is built, so it cannot be written as one "
                    "file."
                )
            if (node.module or "").startswith(f"{COMPILED}."):
                self._stand_ins.add(name)
                return
            source = _module_of(node.module, alias.name)
            self.visit(source, alias.name)
            self._uses.setdefault(module, set()).add(source)
            if alias.asname:
                self._renamed[alias.asname] = alias.name
            return
        line = ast.unparse(type(node)(**{**dict(ast.iter_fields(node)), "names": [alias]}))
        if self._imports.setdefault(name, line) != line:
            raise OptionsError(f"{self._owner} uses '{name}' for two different imports: {line}, {self._imports[name]}.")


class _Source:
    """A module as text and as definitions by name."""

    def __init__(self, module: ModuleType):
        self._text = inspect.getsource(module)
        self._lines = self._text.splitlines()
        self.definitions: dict[str, ast.stmt] = {}
        for node in ast.parse(self._text).body:
            for name in _bound(node):
                self.definitions[name] = node

    @classmethod
    @functools.lru_cache(maxsize=64)
    def of(cls, module: str) -> _Source:
        """The source of a module by its dotted name."""
        return cls(importlib.import_module(module))

    def segment(self, names: set[str]) -> str:
        """The text of these definitions in the order of the module, with the strings that document constants."""
        nodes = sorted({self.definitions[name] for name in names}, key=lambda node: node.lineno)
        return "".join(f"{self._text_of(node)}\n\n\n" for node in nodes)

    def _text_of(self, node: ast.stmt) -> str:
        kept = [decorator for decorator in getattr(node, "decorator_list", []) if not _registers(decorator)]
        lines = [f"@{ast.unparse(decorator)}" for decorator in kept]
        first = node.lineno
        for left_out in _left_out(node):
            start = min(part.lineno for part in (left_out, *left_out.decorator_list))
            lines += self._lines[first - 1 : start - 2]  # the line before it is empty
            first = left_out.end_lineno + 1
        return "\n".join([*lines, *self._lines[first - 1 : node.end_lineno]])


def _bound(node: ast.stmt) -> Iterator[str]:
    """The names that a statement at the top of a module defines."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in ast.walk(node) if isinstance(target, ast.Name) and _is_stored(target))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id
    elif isinstance(node, (ast.Import, ast.ImportFrom)) and getattr(node, "module", None) != "__future__":
        yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)


def _is_stored(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def _names_in(node: ast.stmt) -> Iterator[str]:
    """The names that a definition uses, but for those in parts that fall away."""
    falling = {id(child) for part in (*_registering(node), *_left_out(node)) for child in ast.walk(part)}
    for child in ast.walk(node):
        if isinstance(child, ast.Name) and id(child) not in falling:
            yield child.id


def _registering(node: ast.stmt) -> list[ast.expr]:
    return [decorator for decorator in getattr(node, "decorator_list", []) if _registers(decorator)]


def _registers(decorator: ast.expr) -> bool:
    """`@NETWORKS.add(...)`."""
    return (
        isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute) and decorator.func.attr == "add"
    )


def _left_out(node: ast.stmt) -> list[ast.FunctionDef]:
    """The methods of a class that a single file has no use for."""
    body = node.body if isinstance(node, ast.ClassDef) else []
    return [each for each in body if isinstance(each, ast.FunctionDef) and each.name in _LEFT_OUT]


def _module_of(module: str, name: str) -> str:
    """Where a name that a package passes on is defined."""
    value = getattr(importlib.import_module(module), name)
    defined = getattr(value, "__module__", module)
    return defined if defined.split(".")[0] == PACKAGE and defined != module and inspect.isclass(value) else module

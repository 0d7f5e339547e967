"""Components by name. A component is configured by its own signature: there is no second schema to keep in step.

    @NETWORKS.add()                      # or add("SwinIR", "swinir_alias")
    class SwinIR(nn.Module):
        def __init__(self, upscale: int = 2, depths: Sequence[int] = (6, 6, 6, 6)): ...

    NETWORKS.build({"type": "SwinIR", "upscale": 4})
    OPTIMIZERS.build({"type": "AdamW", "lr": "2e-4"}, parameters)  # what the caller passes is not configurable
    METRICS.bind({"type": "psnr", "border_px": 4})  # a function with its keyword-only arguments set

A registry imports its package when it is first asked, so naming components costs nothing at start-up.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from restore.errors import OptionsError, Problem, RestoreError, nearest
from restore.signature import signature_model, validate

__all__ = [
    "DATASETS",
    "DEGRADATIONS",
    "ENCODERS",
    "LOSSES",
    "METRICS",
    "MIXERS",
    "NETWORKS",
    "OBJECTIVES",
    "OPTIMIZERS",
    "QUALITY",
    "SCHEDULERS",
    "Registry",
]

Component = TypeVar("Component", bound=Callable[..., Any])


class Registry:
    """Maps names to classes or functions, checks option blocks against their signatures and builds them.

    Args:
        kind: what the components are, for messages ("network").
        package: dotted name of the package whose modules register themselves; imported when first needed.
    """

    def __init__(self, kind: str, package: str | None = None):
        self.kind = kind
        self._package = package
        self._components: dict[str, Callable[..., Any]] = {}
        self._aliases: dict[str, str] = {}
        self._families: dict[str, Callable[[str], Callable[..., Any]]] = {}

    def add(self, *names: str, **fixed: Any) -> Callable[[Component], Component]:
        """Decorator: register under `names[0]` (default: the object's own name); further names are aliases.

        `fixed` presets arguments, so that one class can stand under several configurations.

        Raises:
            ValueError: the name is taken by something else.
        """

        def register(component: Component) -> Component:
            name, *aliases = names or (component.__name__,)
            for key in (name, *aliases):
                if key in self._components or key in self._aliases:
                    raise ValueError(f"the {self.kind} '{key}' is registered already")
            self._components[name] = functools.partial(component, **fixed) if fixed else component
            self._aliases.update(dict.fromkeys(aliases, name))
            return component

        return register

    def add_family(self, prefix: str) -> Callable[[Component], Component]:
        """Decorator: a function that makes the component `prefix:NAME` from NAME (another library's list).

        It is asked for every name, and must give the same object for the same one.
        """

        def register(resolve: Component) -> Component:
            self._families[prefix] = resolve
            return resolve

        return register

    def names(self) -> list[str]:
        """Every registered name (without aliases), sorted."""
        self._load()
        return sorted(self._components, key=str.lower)

    def aliases(self, name: str) -> list[str]:
        """Further names of the component registered under `name`."""
        self._load()
        return [alias for alias, target in self._aliases.items() if target == name]

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._components or name in self._aliases or self._family(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def get(self, name: str, path: str = "type") -> Callable[..., Any]:
        """The component itself.

        Raises:
            OptionsError: no such name; the message gives the nearest one and the list.
        """
        self._load()
        key = self._aliases.get(name, name)
        if key in self._components:
            return self._components[key]
        resolve = self._family(name)
        if resolve is None:
            raise OptionsError([Problem(path, self._unknown(name))])
        return resolve(name.partition(":")[2])

    def check(
        self, block: Mapping[str, Any], path: str = "", *supplied: str, keyword_only: bool = False
    ) -> list[Problem]:
        """Every mistake in a `{type: NAME, argument: value}` block; an empty list when it is right.

        `supplied` names the arguments that the caller will pass itself; `keyword_only` is for functions (see `bind`).
        """
        try:
            self._validated(block, path, supplied, keyword_only)
        except OptionsError as error:
            return error.problems
        return []

    def build(self, block: Mapping[str, Any], *args: Any, path: str = "", **supplied: Any) -> Any:
        """Build the component that `block` describes; `args` come before, `supplied` beside the configured arguments.

        Raises:
            OptionsError: with every mistake in the block, or the reason why its arguments do not go together.
        """
        component = self.get(block["type"], f"{path}.type") if isinstance(block.get("type"), str) else None
        first = list(inspect.signature(component).parameters)[: len(args)] if component and args else []
        component, arguments = self._validated(block, path, (*first, *supplied), False)
        try:
            return component(*args, **supplied, **arguments)
        except RestoreError:
            raise
        except ValueError as error:  # each argument is right, but not with the others
            raise OptionsError([Problem(path, f"{block['type']}: {error}.")]) from error

    def bind(self, block: Mapping[str, Any], path: str = "") -> Callable[..., Any]:
        """A function with the keyword-only arguments of `block` set and checked."""
        component, arguments = self._validated(block, path, (), True)
        return functools.partial(component, **arguments)

    def _load(self) -> None:
        package, self._package = self._package, None
        if package:
            module = importlib.import_module(package)
            for info in pkgutil.walk_packages(module.__path__, f"{package}."):
                importlib.import_module(info.name)

    def _family(self, name: object) -> Callable[[str], Callable[..., Any]] | None:
        prefix, colon, _ = name.partition(":") if isinstance(name, str) else ("", "", "")
        return self._families.get(prefix) if colon else None

    def _unknown(self, name: object) -> str:
        suggestion = nearest(str(name), [*self._components, *self._aliases])
        return f"unknown {self.kind} '{name}'.{suggestion} Known: {', '.join(self.names())}."

    def _validated(
        self, block: Mapping[str, Any], path: str, supplied: tuple[str, ...], keyword_only: bool
    ) -> tuple[Callable[..., Any], dict[str, Any]]:
        dot = f"{path}." if path else ""
        if not isinstance(block, Mapping) or not isinstance(block.get("type"), str):
            self._load()
            raise OptionsError(
                [Problem(f"{dot}type", f"missing: the name of a {self.kind}. Known: {', '.join(self)}.")]
            )
        component = self.get(block["type"], f"{dot}type")
        arguments = {key: value for key, value in block.items() if key != "type"}
        model = signature_model(component, supplied, keyword_only)
        problems, validated = validate(model, arguments, path, owner=block["type"])
        if problems:
            raise OptionsError(problems)
        return component, {key: getattr(validated, key) for key in arguments}


NETWORKS = Registry("network", "restore.networks")
ENCODERS = Registry("encoder", "restore.encoders")
MIXERS = Registry("mixer", "restore.layers")
METRICS = Registry("metric", "restore.metrics")
LOSSES = Registry("loss", "restore.losses")
QUALITY = Registry("quality model", "restore.quality")
DEGRADATIONS = Registry("degradation", "restore.degradations")
DATASETS = Registry("dataset", "restore.data")
OBJECTIVES = Registry("model_type", "restore.training")
OPTIMIZERS = Registry("optimizer", "restore.training")
SCHEDULERS = Registry("scheduler", "restore.training")

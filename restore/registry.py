"""Components by name. A component is configured by its own signature: there is no second schema to keep in step.

    @NETWORKS.add()                      # or add("SwinIR", "swinir_alias")
    class SwinIR(nn.Module): ...         # def __init__(self, upscale: int = 2, depths: Sequence[int] = (6, 6, 6, 6))

    @ENCODERS.add("cpvt", variants={"tiny": {"embed_dim": 192}, "small": {"embed_dim": 384}})   # and cpvt_tiny, ...

    NETWORKS.build({"type": "SwinIR", "upscale": 4})
    OPTIMIZERS.build({"type": "AdamW", "lr": "2e-4"}, parameters)  # what the caller passes is not configurable
    METRICS.bind({"type": "psnr", "border_px": 4})  # a function with its keyword-only arguments set

An argument that is itself a component is annotated with one of the options at the end (`mixer: MixerOption`), and is
checked together with the block that holds it, at any depth (see `restore.nested`).

A registry imports its package when it is first asked, so naming components costs nothing at start-up.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import itertools
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

from restore.errors import OptionsError, Problem, nearest
from restore.nested import Nested, name_or_block, nested_components
from restore.signature import annotations_of, checked_arguments, refusals_named

_FEW = 8  # modules, to look for a name in before all are imported

Component = TypeVar("Component", bound=Callable[..., Any])


class Fallback(Protocol):
    """Where a registry looks for a name that it does not have itself: another registry, or a library's models."""

    def __contains__(self, name: object) -> bool: ...

    def get(self, name: Any, path: str = "type") -> Callable[..., Any]:
        """The component of a name that is in here, the same object every time."""

    def groups(self) -> Iterator[tuple[list[str], Callable[..., Any]]]:
        """Every name, in groups that have one signature, and a component of each group."""

    def listing(self) -> str:
        """The names, or what they are if they are many, for messages."""


class Registry:
    """Maps names to classes or functions, checks option blocks against their signatures and builds them.

    Args:
        kind: what the components are, for messages ("network").
        package: dotted name of the package whose modules register themselves; imported when first needed. Components
            of other packages of ours are refused: they would be known or not depending on what was imported before.
    """

    def __init__(self, kind: str, package: str | None = None):
        self.kind, self._package = kind, package
        self._components: dict[str, Callable[..., Any]] = {}
        self._aliases: dict[str, str] = {}
        self._variants: dict[str, tuple[str, ...]] = {}
        self._families: dict[str, Callable[[str], Callable[..., Any]]] = {}
        self._fallbacks: list[Fallback] = []
        self._suggest: Callable[[str, Iterable[str]], str] = nearest
        self._sources: list[Callable[[], object]] = [functools.partial(_import_all, package)] if package else []

    def add(
        self,
        *names: str,
        variants: Mapping[str, Mapping[str, Any] | Callable[..., Any]] | None = None,
        **fixed: Any,
    ) -> Callable[[Component], Component]:
        """Decorator: register under `names[0]` (default: the object's own name); further names are aliases.

        `fixed` presets arguments, and so does each of the `variants` (or is a component itself), which are registered
        as `NAME_VARIANT` beside NAME. A name that is taken is a ValueError.
        """
        if not all(isinstance(name, str) for name in names):
            raise TypeError("add is called before it decorates: write add(), or add(NAME)")

        def register(component: Component) -> Component:
            name, *aliases = names or (component.__name__,)
            module = getattr(component, "__module__", None) or ""
            if self._package and module.startswith("restore.") and not f"{module}.".startswith(f"{self._package}."):
                raise ValueError(f"the {self.kind} '{name}' stands in {module}, but is looked for in {self._package}")
            presets = {name: fixed} | {f"{name}_{variant}": preset for variant, preset in (variants or {}).items()}
            for key in (*presets, *aliases):
                if key in self._components or key in self._aliases:
                    raise ValueError(f"the {self.kind} '{key}' is registered already: {component!r} needs another name")
            for key, preset in presets.items():
                if callable(preset):
                    self._components[key] = preset
                else:
                    preset = {**fixed, **preset}
                    self._components[key] = functools.partial(component, **preset) if preset else component
            self._variants[name] = tuple(presets)[1:]
            self._aliases.update(dict.fromkeys(aliases, name))
            return component

        return register

    def add_family(self, prefix: str) -> Callable[[Component], Component]:
        """Decorator: a function that gives the component `prefix:NAME` for NAME, the same object every time."""

        def register(resolve: Component) -> Component:
            self._families[prefix] = resolve
            return resolve

        return register

    def add_source(self, load: Callable[[], object]) -> Callable[[], object]:
        """Decorator: a function that registers more, called once a name is not found, or all names are wanted."""
        self._sources.append(load)
        return load

    def add_fallback(self, fallback: Fallback) -> None:
        """Look there for names that are not registered here."""
        self._fallbacks.append(fallback)

    def suggest_with(self, suggest: Callable[[str, Iterable[str]], str]) -> None:
        """For an unknown name, a function of it and of all names that says in a sentence which one was meant."""
        self._suggest = suggest

    def names(self) -> list[str]:
        """Every registered name (without aliases, and without those of fallbacks), sorted."""
        self._load()
        return sorted(self._components, key=str.lower)

    def aliases(self, name: str) -> list[str]:
        """Further names of the component registered under `name`."""
        self._load(name)
        return [alias for alias, target in self._aliases.items() if target == name]

    def variants(self, name: str) -> tuple[str, ...]:
        """The names of the variants of the component registered under `name`, in the order of its module."""
        self._load(name)
        return self._variants.get(name, ())

    def groups(self) -> Iterator[tuple[list[str], Callable[..., Any]]]:
        """The names, aliases and variants of each component, then the groups of fallbacks; each name once."""
        self._load()
        grouped = {variant for variants in self._variants.values() for variant in variants}
        for name in sorted(self._components.keys() - grouped, key=str.lower):
            yield [name, *self.aliases(name), *self.variants(name)], self._components[name]
        for fallback in self._fallbacks:
            for names, component in fallback.groups():
                if left := [name for name in names if not self._knows(name)]:
                    yield left, component

    def prefixes(self) -> list[str]:
        """The prefixes of families: `pyiqa` for names such as `pyiqa:musiq`."""
        self._load()
        return sorted(self._families)

    def listing(self) -> str:
        """Every registered name but those of variants, and what fallbacks have."""
        variants = {variant for variants in self._variants.values() for variant in variants}
        own = [name for name in self if name not in variants]
        also = ["variants of these"] if variants else []
        return ", ".join([*own, *also, *(fallback.listing() for fallback in self._fallbacks)])

    def __contains__(self, name: object) -> bool:
        self._load(name)
        return self._knows(name) or any(name in fallback for fallback in self._fallbacks)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def get(self, name: Any, path: str = "type") -> Callable[..., Any]:
        """The component itself; a name that is not there is an OptionsError with the nearest one and the list."""
        if name not in self:
            hint = self._suggest(str(name), itertools.chain.from_iterable(names for names, _ in self.groups()))
            wrong = f"unknown {self.kind} '{name}'.{hint}" if name else f"missing: the name of the {self.kind}."
            raise OptionsError([Problem(path, f"{wrong} Known: {self.listing()}.")])
        name = str(name)
        if not self._knows(name):
            return next(fallback for fallback in self._fallbacks if name in fallback).get(name, path)
        prefix, _, inner = name.partition(":")
        component = self._components.get(self._aliases.get(name, name))
        if component is not None:
            return component
        try:
            return self._families[prefix](inner)
        except OptionsError as error:
            raise OptionsError([Problem(path, problem.message) for problem in error.problems]) from None

    def check(self, block: Any, path: str = "", *supplied: str, keyword_only: bool = False) -> list[Problem]:
        """Every mistake in a name or block, and in the components that it holds.

        Args:
            block: a component's name, or `{type: NAME, argument: value}`.
            path: dotted path of the block.
            supplied: arguments that the caller will pass itself.
            keyword_only: whether the caller will `bind` it.
        """
        try:
            self._resolved(block, path, supplied, keyword_only)
        except OptionsError as error:
            return error.problems
        return []

    def build(self, block: OptionBlock, *args: Any, path: str = "", **supplied: Any) -> Any:
        """Build what a name or block describes; `args` come before, `supplied` beside the configured arguments.

        Raises:
            OptionsError: with every mistake in the block and in the components that it holds, or what the component
                itself refuses.
        """
        component, arguments = self._resolved(block, path, tuple(supplied), num_before=len(args))
        with refusals_named(block if isinstance(block, str) else block["type"], path):
            return component(*args, **supplied, **arguments)

    def bind(self, block: OptionBlock, path: str = "") -> Callable[..., Any]:
        """A function with the keyword-only arguments of `block` set and checked."""
        component, arguments = self._resolved(block, path, keyword_only=True)
        return functools.partial(component, **arguments)

    def _resolved(
        self, block: Any, path: str, supplied: tuple[str, ...] = (), keyword_only: bool = False, num_before: int = 0
    ) -> tuple[Callable[..., Any], dict[str, Any]]:
        """The component that a block names and the arguments that it gives, or an OptionsError with every mistake."""
        if isinstance(block, str):
            component, block = self.get(block, path or "type"), {"type": block}
        elif isinstance(block, Mapping):
            component = self.get(block.get("type"), _below(path, "type"))
        else:
            raise OptionsError([Problem(path, f"expected {name_or_block(self.kind)}; given: {block!r}.")])
        first = list(inspect.signature(component).parameters)[:num_before] if num_before else []
        problems, arguments = checked_arguments(component, block, path, (*first, *supplied), keyword_only)
        annotations = annotations_of(component)
        for name in arguments.keys() & annotations.keys():
            for place, value, nested in nested_components(annotations[name], arguments[name], _below(path, name)):
                problems += nested.check(value, place)
        if problems:
            own = len(path) + 1 if path else 0
            raise OptionsError(sorted(problems, key=lambda problem: _order(block, problem.path[own:].split("."))))
        return component, arguments

    def _load(self, until: object = None) -> None:
        """Import modules that may define `until`, then call the sources, one by one, until that name is known."""
        if self._sources and self._package and isinstance(until, str) and not self._knows(until):
            for module in _likely_modules(self._package, until):
                if self._knows(until):
                    return
                importlib.import_module(module)
        while self._sources and not self._knows(until):
            source = self._sources[0]
            source()
            self._sources = [other for other in self._sources if other is not source]

    def _knows(self, name: object) -> bool:
        prefix, colon, _ = str(name).partition(":")
        return str(name) in self._components or str(name) in self._aliases or bool(colon and prefix in self._families)


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _order(values: Any, parts: list[str]) -> list[int]:
    """Sorts places below `values` as they are written; what is missing comes first."""
    order = []
    for part in parts:
        entries = dict(values) if isinstance(values, Mapping) else dict(enumerate(values)) if _is_list(values) else {}
        index, values = next(((i, entries[key]) for i, key in enumerate(entries) if str(key) == part), (-1, None))
        order.append(index)
    return order


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _likely_modules(package: str, name: str) -> Iterator[str]:
    """The modules of a package in which a name may be defined, the likeliest first: to be imported before all are.

    First the one that is called so, then those whose text holds the name: after `class` or `def`, or in a call of a
    decorator; in quotes, also among other names; as a word. A variant may stand under the name before its last `_`, one
    of a family before `:`. Without texts, as in a frozen program, there are none.
    """
    if name.isidentifier() and importlib.util.find_spec(f"{package}.{name.lower()}"):
        yield f"{package}.{name.lower()}"
    texts = _texts(package)
    for wanted in dict.fromkeys((name.partition(":")[0], name.rpartition("_")[0])):
        if not wanted:
            continue
        word = re.escape(wanted)
        for pattern in (
            rf"^(?:class|def) {word}\b|^@.*[\"']{word}[\"']",
            rf"[\"'](?:[\w ]* )?{word}[ \"']",
            rf"\b{word}\b",
        ):
            found = [module for module, text in texts.items() if re.search(pattern, text, re.MULTILINE)]
            yield from found if len(found) <= _FEW else ()


@functools.lru_cache(maxsize=1)
def _texts(package: str) -> dict[str, str]:
    """The texts of the modules of a package, by dotted name; the package is not imported."""
    spec = importlib.util.find_spec(package)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    return {
        ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__"): path.read_text(
            encoding="utf-8"
        )
        for folder in folders
        for path in sorted(folder.rglob("*.py"))
    }


def _import_all(package: str) -> None:
    module = importlib.import_module(package)
    for info in pkgutil.walk_packages(module.__path__, f"{package}."):
        importlib.import_module(info.name)


NETWORKS = Registry("network", "restore.networks")
ENCODERS = Registry("encoder", "restore.encoders")
MIXERS = Registry("mixer", "restore.layers")
METRICS = Registry("metric", "restore.metrics")
LOSSES = Registry("loss", "restore.losses")
QUALITY = Registry("quality model", "restore.quality")
DETECTORS = Registry("detector", "restore.detection")
DEGRADATIONS = Registry("degradation", "restore.degradations")
DATASETS = Registry("dataset", "restore.data")
OBJECTIVES = Registry("model_type", "restore.training")
OPTIMIZERS = Registry("optimizer", "restore.training")
SCHEDULERS = Registry("scheduler", "restore.training")
DISCRIMINATORS = Registry("discriminator", "restore.networks")
NORMS = Registry("norm", "restore.layers")
FEED_FORWARDS = Registry("feed-forward network", "restore.layers")
POSITIONS = Registry("position", "restore.layers")
PLACEMENTS = Registry("placement", "restore.layers")

OptionBlock = str | Mapping[str, Any]  # a component's name, or a `{type: NAME, argument: value}` block
NetworkOption = Annotated[OptionBlock, Nested(NETWORKS)]
EncoderOption = Annotated[OptionBlock, Nested(ENCODERS, "in_chans")]
MixerOption = Annotated[OptionBlock, Nested(MIXERS, "dim")]
FeedForwardOption = Annotated[OptionBlock, Nested(FEED_FORWARDS, "dim", "index", "num_blocks")]
NormOption = Annotated[OptionBlock, Nested(NORMS, "dim")]
PositionOption = Annotated[OptionBlock, Nested(POSITIONS, "dim")]
PlacementOption = Annotated[OptionBlock, Nested(PLACEMENTS, "index", "num_blocks")]
LossOption = Annotated[OptionBlock, Nested(LOSSES)]
DatasetOption = Annotated[OptionBlock, Nested(DATASETS, "name")]

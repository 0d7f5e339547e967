"""Components by name. A component is configured by its own signature: there is no second schema to keep in step.

    @NETWORKS.add()                      # or add("SwinIR", "swinir_alias")
    class SwinIR(nn.Module): ...         # def __init__(self, upscale: int = 2, depths: Sequence[int] = (6, 6, 6, 6))

    @ENCODERS.add("cpvt", variants={"tiny": {"embed_dim": 192}, "small": {"embed_dim": 384}})   # and cpvt_tiny, ...

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
from typing import Annotated, Any, TypeVar

from restore.errors import OptionsError, Problem, nearest
from restore.signature import refusals_named, validated_arguments

Component = TypeVar("Component", bound=Callable[..., Any])


class Registry:
    """Maps names to classes or functions, checks option blocks against their signatures and builds them.

    Args:
        kind: what the components are, for messages ("network").
        package: dotted name of the package whose modules register themselves; imported when first needed.
    """

    def __init__(self, kind: str, package: str | None = None):
        self.kind = kind
        self._components: dict[str, Callable[..., Any]] = {}
        self._aliases: dict[str, str] = {}
        self._variants: dict[str, tuple[str, ...]] = {}
        self._families: dict[str, Callable[[str], Callable[..., Any]]] = {}
        self._sources: list[Callable[[], object]] = [functools.partial(_import_all, package)] if package else []

    def add(
        self, *names: str, variants: Mapping[str, Mapping[str, Any]] | None = None, **fixed: Any
    ) -> Callable[[Component], Component]:
        """Decorator: register under `names[0]` (default: the object's own name); further names are aliases.

        `fixed` presets arguments, and so does each of the `variants`, which are registered as `NAME_VARIANT` beside
        NAME. A name that is taken is a ValueError.
        """
        if not all(isinstance(name, str) for name in names):
            raise TypeError("add is called before it decorates: write add(), or add(NAME)")

        def register(component: Component) -> Component:
            name, *aliases = names or (component.__name__,)
            presets = {f"{name}_{variant}": {**fixed, **preset} for variant, preset in (variants or {}).items()}
            for key in (name, *aliases, *presets):
                if key in self._components or key in self._aliases:
                    raise ValueError(f"the {self.kind} '{key}' is registered already: {component!r} needs another name")
            for key, preset in ((name, fixed), *presets.items()):
                self._components[key] = functools.partial(component, **preset) if preset else component
            self._variants[name] = tuple(presets)
            self._aliases.update(dict.fromkeys(aliases, name))
            return component

        return register

    def add_family(self, prefix: str) -> Callable[[Component], Component]:
        """Decorator: a function that gives the component `prefix:NAME` for NAME, the same object every time."""
        return lambda resolve: self._families.setdefault(prefix, resolve)

    def add_source(self, load: Callable[[], object]) -> Callable[[], object]:
        """Decorator: a function that registers more, called once a name is not found, or all names are wanted."""
        self._sources.append(load)
        return load

    def names(self) -> list[str]:
        """Every registered name (without aliases), sorted."""
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

    def __contains__(self, name: object) -> bool:
        self._load(name)
        return self._knows(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def get(self, name: Any, path: str = "type") -> Callable[..., Any]:
        """The component itself; a name that is not there is an OptionsError with the nearest one and the list."""
        if name not in self:
            hint = nearest(str(name), [*self._components, *self._aliases])
            wrong = f"unknown {self.kind} '{name}'.{hint}" if name else f"missing: the name of the {self.kind}."
            raise OptionsError([Problem(path, f"{wrong} Known: {', '.join(self)}.")])
        prefix, _, inner = name.partition(":")
        return self._components.get(self._aliases.get(name, name)) or self._families[prefix](inner)

    def check(self, block: Mapping, path: str = "", *supplied: str, keyword_only: bool = False) -> list[Problem]:
        """Every mistake in a block; the caller will pass `supplied` itself, and `bind` it where `keyword_only`."""
        try:
            validated_arguments(self._component(block, path), block, path, supplied, keyword_only)
        except OptionsError as error:
            return error.problems
        return []

    def build(self, block: Mapping[str, Any], *args: Any, path: str = "", **supplied: Any) -> Any:
        """Build what `block` describes; `args` come before, `supplied` beside the configured arguments."""
        component = self._component(block, path)
        first = list(inspect.signature(component).parameters)[: len(args)] if args else []
        arguments = validated_arguments(component, block, path, (*first, *supplied))
        with refusals_named(block["type"], path):
            return component(*args, **supplied, **arguments)

    def bind(self, block: Mapping[str, Any], path: str = "") -> Callable[..., Any]:
        """A function with the keyword-only arguments of `block` set and checked."""
        component = self._component(block, path)
        return functools.partial(component, **validated_arguments(component, block, path, keyword_only=True))

    def _component(self, block: Mapping[str, Any], path: str) -> Callable[..., Any]:
        return self.get(block.get("type") if isinstance(block, Mapping) else None, f"{path}.type" if path else "type")

    def _load(self, until: object = None) -> None:
        """Call the sources, one after the other, until the name `until` is known."""
        while self._sources and not self._knows(until):
            source = self._sources[0]
            source()
            self._sources = [other for other in self._sources if other is not source]

    def _knows(self, name: object) -> bool:
        prefix, colon, _ = str(name).partition(":")
        return str(name) in self._components or str(name) in self._aliases or bool(colon and prefix in self._families)


class Nested:
    """In an `Annotated` argument: the argument is itself a component, or a list or mapping of components.

    Args:
        registry: where its name is looked up.
        supplied: arguments of the nested component that its owner passes, so that option files cannot.
    """

    def __init__(self, registry: Registry, *supplied: str):
        self.registry, self.supplied = registry, supplied

    def __repr__(self) -> str:
        return f"Nested({self.registry.kind})"


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
FeedForwardOption = Annotated[OptionBlock, Nested(FEED_FORWARDS, "dim")]
NormOption = Annotated[OptionBlock, Nested(NORMS, "dim")]
PositionOption = Annotated[OptionBlock, Nested(POSITIONS, "dim")]
PlacementOption = Annotated[OptionBlock, Nested(PLACEMENTS, "index", "num_blocks")]
LossOption = Annotated[OptionBlock, Nested(LOSSES)]

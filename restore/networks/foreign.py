"""Networks of other families, through spandrel (MIT), which has the code of some forty architectures.

Some more are in spandrel_extra_arches, whose architectures have licences of their own, for research only in part:
Restormer, SRFormer, MPRNet, MIRNet-v2, M3SNet (`pip install 'restore-toolkit[foreign-extra]'`).

    network_g: {type: HAT, upscale: 4, embed_dim: 96, depths: [6, 6, 6, 6], num_heads: [6, 6, 6, 6], window_size: 16}

They are configured and trained by name, like any network here; a weights file is recognised by its keys. Where we have
a network of the same name, ours is taken. Arguments, defaults and keys of the state dict are those of spandrel's class:
the published ones, without arguments that only training reads but `use_checkpoint`. spandrel is optional: `pip install
'restore-toolkit[foreign]'`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from restore.errors import CheckpointError, MissingError
from restore.layers.finite import require_finite
from restore.layers.padding import pad_to_multiple
from restore.networks.base import Network
from restore.networks.bounded import no_larger_than
from restore.networks.local_pooling import pool_locally
from restore.networks.spec import ImageSpec
from restore.registry import NETWORKS

__all__ = ["ForeignNetwork", "SpandrelNames", "load_foreign"]

INSTALL = "pip install 'restore-toolkit[foreign]'"
PACKAGES = ("spandrel", "spandrel_extra_arches")
PADS_AGAIN = ("CRAFT",)
"""Networks whose code adds a mirrored window to every image, also to one that fits already."""
NOT_BY_NAME = (
    *("AuraSR", "GFPGAN", "LaMa", "MMRealSR", "RestoreFormer"),
    *("AdaCode", "CodeFormer", "DDColor", "FeMaSR", "MAT"),
)
"""Families that cannot be trained from pairs of images alone."""
RENAMED = {"Generator": "SwiftSRGAN"}
"""Classes whose own names say nothing."""


class ForeignNetwork(Network):
    """Base of networks whose layers are spandrel's: (B, C, H, W) in [0, 1], any H x W, to (B, C, H*s, W*s).

    Each has spandrel's class as its second base, so its keys are the published ones.

    Attributes:
        architecture: spandrel's `Architecture`, which tells from a state dict what images a network takes.
        original: spandrel's class.
        use_checkpoint: whether training computes activations again in the backward pass, as the published argument of
            this name says.
    """

    architecture: ClassVar[Any]
    original: ClassVar[Any]
    use_checkpoint: bool = False

    def _follow(self, descriptor: Any) -> None:
        """Treat images as spandrel's descriptor of such a network says."""
        self._call: Callable[[Any, torch.Tensor], torch.Tensor] = descriptor._call_fn
        size = descriptor.size_requirements
        self._fitted: torch.Size | None = None
        halves = (("bf16", descriptor.supports_bfloat16), ("fp16", descriptor.supports_half))
        self._spec = ImageSpec(
            scale=descriptor.scale,
            in_channels=descriptor.input_channels,
            out_channels=descriptor.output_channels,
            size_multiple=max(1, size.multiple_of),
            min_size=max(1, size.minimum),
            precisions=("fp32", *(name for name, survives in halves if survives)),
        )
        if type(self).__name__ in PADS_AGAIN:
            self.get_submodule("conv_first").register_forward_pre_hook(self._as_fitted)

    def _as_fitted(self, _: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        """Take back what CRAFT's code pads, as its inference script does.

        Behind our own padding that costs time and quality: an image of 64 x 64 px would be restored as one of 80 x 80,
        and Set5 x4 would have 32.39 dB instead of 32.40.
        """
        assert self._fitted is not None, "set by `forward`"
        height, width = self._fitted
        return (inputs[0][:, :, :height, :width],)

    @property
    def spec(self) -> ImageSpec:
        """What images the network takes and gives."""
        return self._spec

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) in [0, 1] to (B, C, H*s, W*s), not clamped."""
        height, width = x_BCHW.shape[2:]
        multiple, least, scale = self._spec.size_multiple, self._spec.min_size, self._spec.scale
        if min(height, width) < least:
            multiple *= -(-least // multiple)
        x_BCHW = pad_to_multiple(x_BCHW, multiple)
        self._fitted = x_BCHW.shape[2:]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of code that is not ours
            y_BCHW = self._call(_Original(self), x_BCHW)
        return y_BCHW[:, :, : height * scale, : width * scale]


class _Original:
    """A network as its own code knows it: called, it does what that code does."""

    def __init__(self, network: ForeignNetwork):
        self._network = network

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def __call__(self, x_BCHW: torch.Tensor) -> Any:
        return self._network.original.forward(self._network, x_BCHW)


def load_foreign(state: Mapping[str, torch.Tensor], *, source: str = "weights") -> ForeignNetwork | None:
    """The network with these weights, or None if spandrel does not know them either.

    Raises:
        MissingError: spandrel is not installed.
        CheckpointError: the weights are for something that does not turn one image into one (in-painting, faces), or
            not finite.
    """
    require_finite(state, source)
    try:
        import spandrel
    except ImportError:
        raise MissingError("spandrel, which knows some forty other families, is not installed") from None
    if importlib.util.find_spec("spandrel_extra_arches") is not None:
        importlib.import_module("spandrel_extra_arches").install(ignore_duplicates=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of code that is not ours
        try:
            with no_larger_than(state, source):
                if not _is_buildable(spandrel, state):
                    return None
                descriptor = spandrel.ModelLoader("cpu").load_from_state_dict(dict(state))
        except (spandrel.UnsupportedModelError, CheckpointError):
            return None
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        raise CheckpointError(f"{source}: {descriptor.architecture.name} does not make an image from one image alone.")
    network: Any = descriptor.model
    network.__class__ = _kind(type(network), descriptor.architecture)
    network._follow(descriptor)
    return network.eval()


def _is_buildable(spandrel: Any, state: Mapping[str, torch.Tensor]) -> bool:
    """Whether the network that spandrel tells from the keys has the shapes of the weights, found out without memory."""
    shapes = {name: value.to("meta") for name, value in state.items()}
    try:
        with torch.device("meta"):
            spandrel.ModelLoader("meta").load_from_state_dict(shapes)
    except NotImplementedError:  # it looks at values, which meta tensors have none of
        pass
    except RuntimeError as error:
        return "meta" in str(error)
    return True


_KINDS: dict[Any, type[ForeignNetwork]] = {}


def _kind(original: Any, architecture: Any) -> type[ForeignNetwork]:
    """spandrel's class with our interface; the same class every time."""
    if original in _KINDS:
        return _KINDS[original]
    parameters = [each for each in inspect.signature(original).parameters.values() if _is_plain(each)]
    if recomputes := all(each.name != "use_checkpoint" for each in parameters):
        parameters.append(inspect.Parameter("use_checkpoint", inspect.Parameter.KEYWORD_ONLY, default=False))

    def construct(self: ForeignNetwork, **arguments: Any) -> None:
        wanted = arguments.pop("use_checkpoint", False) if recomputes else False
        with warnings.catch_warnings(), _refusals():
            warnings.simplefilter("ignore")  # of code that is not ours
            original.__init__(self, **arguments)
            self._follow(architecture.load({key: value.detach() for key, value in self.state_dict().items()}))
        if recomputes:
            self.use_checkpoint = wanted

    signature = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD), *parameters]
    construct.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    construct.__annotations__ = {each.name: _annotation(each.default) for each in parameters}
    name = RENAMED.get(original.__name__, original.__name__)
    members = {"__init__": construct, "__module__": __name__, "architecture": architecture, "original": original}
    about = f"{name}, whose layers are those of spandrel {_version()}."
    _KINDS[original] = type(name, (ForeignNetwork, original), {**members, "__doc__": about})
    return _KINDS[original]


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What code that checks nothing says to arguments that contradict each other, as a ValueError."""
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError) as error:
        if "meta tensor" in str(error):
            raise  # it looks at values, and is being made without any
        raise ValueError(f"these arguments do not fit together ({type(error).__name__}: {error})") from error


def _is_plain(parameter: inspect.Parameter) -> bool:
    """Whether an argument can stand in an option file; a class or a function cannot."""
    return parameter.default is parameter.empty or not callable(parameter.default)


def _annotation(default: Any) -> Any:
    """What an argument takes, told from its default."""
    if isinstance(default, bool):
        return bool
    if isinstance(default, int):
        return int | float  # a ratio of 2, say
    if isinstance(default, (float, str)):
        return type(default)
    return Sequence[Any] if isinstance(default, (list, tuple)) else Any


def _version() -> str:
    import spandrel

    return spandrel.__version__


@functools.cache
def _kinds() -> Mapping[str, type[ForeignNetwork]]:
    """Every network of spandrel that can be trained, by name; none where it is not installed."""
    found = {kind.__name__: kind for package in PACKAGES for kind in _kinds_of(package)}
    if "NAFNet" in found:
        found["NAFNetLocal"] = _pooling_locally(found["NAFNet"])
    return found


def _kinds_of(package: str) -> Iterator[type[ForeignNetwork]]:
    if importlib.util.find_spec(package) is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of code that is not ours
        import spandrel

        families = importlib.import_module(f"{package}.architectures")
        for info in pkgutil.iter_modules(families.__path__):
            if not info.name.startswith("_") and info.name not in NOT_BY_NAME:
                module = importlib.import_module(f"{families.__name__}.{info.name}")
                own = [each for each in vars(module).values() if inspect.isclass(each)]
                own = [each for each in own if f"{each.__module__}.".startswith(f"{module.__name__}.")]
                architecture = next(each for each in own if issubclass(each, spandrel.Architecture))()
                yield from (_kind(each, architecture) for each in own if issubclass(each, nn.Module))


def _pooling_locally(kind: type[ForeignNetwork]) -> type[ForeignNetwork]:
    """NAFNet as its repository tests it on images larger than the patches of its training."""
    construct: Any = kind.__init__

    def construct_locally(self: ForeignNetwork, train_size: Sequence[int] = (1, 3, 256, 256), **arguments: Any) -> None:
        construct(self, **arguments)
        pool_locally(self, train_size)

    parameters = [*construct.__signature__.parameters.values()]
    size = inspect.Parameter("train_size", inspect.Parameter.KEYWORD_ONLY, default=(1, 3, 256, 256))
    construct_locally.__signature__ = inspect.Signature([*parameters, size])  # type: ignore[attr-defined]
    construct_locally.__annotations__ = construct.__annotations__ | {"train_size": Sequence[int]}
    members = {"__init__": construct_locally, "__module__": __name__, "__doc__": f"{kind.__doc__} It pools locally."}
    return type("NAFNetLocal", (kind,), members)


class SpandrelNames:
    """Names of spandrel's networks, for those that are not ours."""

    def __contains__(self, name: object) -> bool:
        return name in _kinds()

    def get(self, name: Any, path: str = "type") -> Callable[..., Network]:
        """The class of a name that is in here."""
        return _kinds()[str(name)]

    def groups(self) -> Iterator[tuple[list[str], Callable[..., Network]]]:
        """Each name by itself: they take different arguments."""
        yield from (([name], kind) for name, kind in _kinds().items())

    def listing(self) -> str:
        """The names that are not ours, or how to get them."""
        own = set(NETWORKS.names())
        names = [name for name in _kinds() if name not in own]
        return f"of spandrel: {', '.join(names)}" if names else f"some thirty more with spandrel ({INSTALL})"


NETWORKS.add_fallback(SpandrelNames())

"""Weights files: read them safely, find the weights in them, tell which network they are for, and load them.

Accepted are `.pth`, `.pt`, `.ckpt` (read with `weights_only=True`, so that no code in them runs) and `.safetensors`; in
them a bare state dict or one under `params_ema`, `params`, `state_dict`, `model_state_dict`, `model` or `net`, with
or without the `module.` prefix of a parallel wrapper. Files that our training wrote also hold the option block of their
network (`network`), which says what keys and shapes cannot: attention heads, value ranges, mixers, encoders.
"""

from __future__ import annotations

import difflib
import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from restore.errors import CheckpointError, nearest
from restore.layers.finite import require_finite
from restore.networks.base import Network, State
from restore.registry import NETWORKS, QUALITY, Registry

__all__ = [
    "NETWORK_BLOCK",
    "digest_of",
    "infer",
    "load_weights",
    "network_classes",
    "read_checkpoint",
    "read_state_dict",
    "read_weights",
    "without_foreign_prefix",
]

WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "_orig_mod.")
NETWORK_BLOCK = "network"


@runtime_checkable
class _Deriving(Protocol):
    """A module some of whose entries in the state dict follow from its arguments; see `Network.derived_keys`."""

    derived_keys: tuple[str, ...]


def read_checkpoint(path: str | Path) -> Any:
    """The content of a weights file.

    Raises:
        CheckpointError: missing, truncated, or a pickle that holds more than tensors (nothing in it is executed).
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise CheckpointError(f"{path}: a folder, not a weights file. Name a file in it.")
    if not path.is_file():
        close = nearest(path.name, [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else [])
        raise CheckpointError(f"{path}: no such weights file.{close}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        _require_beginning(path)
        with warnings.catch_warnings():  # what torch has to say of odd pickles ends in one of the errors below
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error).lower() or "unsupported" in str(error).lower():
            found = re.search(r"GLOBAL (\S+)", str(error))
            what = f"({found[1]}) " if found else ""
            raise CheckpointError(
                f"{path}: refused. The file is a pickle that holds more than tensors {what}and reading it could run "
                "code; nothing was executed. If you trust its source, save the state dict alone (`model.state_dict()`) "
                "or a .safetensors file with the program that wrote it."
            ) from None
        raise CheckpointError(f"{path}: not a readable weights file ({_first_line(error)}).") from None
    except (RuntimeError, EOFError, ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: damaged, or not a weights file ({_first_line(error)}).") from None


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged, or not a safetensors file ({_first_line(error)}).") from None


def _require_beginning(path: Path) -> None:
    """Refuse what is plainly something else, of which torch would say strange things."""
    with path.open("rb") as file:
        if not file.read(2).startswith((b"PK", b"\x80")):  # a zip archive, or a pickle of protocol 2 and later
            raise ValueError("it does not begin as a file that torch.save wrote")


def read_state_dict(path: str | Path, key: str | None = None) -> dict[str, torch.Tensor]:
    """The state dict in a weights file, without wrappers and prefixes; see `read_weights`."""
    return read_weights(path, key)[0]


def read_weights(path: str | Path, key: str | None = None) -> tuple[dict[str, torch.Tensor], dict[str, Any] | None]:
    """The state dict in a weights file, without wrappers and prefixes, and the option block of its network, if it says.

    Args:
        key: entry that holds the weights (`params`, `params_ema`, ...); None finds it, preferring averaged weights.

    Raises:
        CheckpointError: unreadable, no weights inside, or no such key (the message lists those that exist).
    """
    content = read_checkpoint(path)
    state = unwrap(content, key)
    if state is None:
        found = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        wanted = f"the key '{key}'" if key else "weights"
        raise CheckpointError(f"{path}: does not hold {wanted}. It holds: {found[:300]}.")
    block = content.get(NETWORK_BLOCK)
    return state, dict(block) if isinstance(block, Mapping) and isinstance(block.get("type"), str) else None


def unwrap(content: Any, key: str | None = None) -> dict[str, torch.Tensor] | None:
    """The state dict inside `content`, or None. With a `key` that is missing, `params` serves (as in BasicSR)."""
    if not isinstance(content, Mapping):
        return None
    for wrapper in (key, "params") if key else WRAPPERS:
        if isinstance(content.get(wrapper), Mapping) and content[wrapper]:
            inner = content[wrapper]
            return _tensors(inner) or unwrap(inner)
    if content and all(isinstance(value, torch.Tensor) for value in content.values()):
        return _tensors(content)
    return None


def _tensors(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {_bare(name): value for name, value in state.items() if isinstance(value, torch.Tensor)}


def _bare(name: str) -> str:
    """The name without the prefixes of wrappers, however many there are."""
    for prefix in PREFIXES:
        if name.startswith(prefix):
            return _bare(name.removeprefix(prefix))
    return name


def load_weights(network: nn.Module, state: State, *, source: str = "weights", strict: bool = True) -> list[str]:
    """Load `state` into `network`; returns the names that were left out (always empty when strict).

    Args:
        source: what to call the weights in messages, usually the path.
        strict: False skips tensors that are missing, extra or of another size, as BasicSR's `strict_load_g: false`.

    Raises:
        CheckpointError: which keys do not fit, and what the weights seem to be; or which are not finite.
    """
    own = network.state_dict()
    if isinstance(network, Network):
        state = network.own_branch(state)
    derived = _derived(network, {*own, *state})
    missing = [name for name in own if name not in state and name not in derived]
    extra = [name for name in state if name not in own and name not in derived]
    sizes = [
        name for name, value in state.items() if name in own and name not in derived and own[name].shape != value.shape
    ]
    if strict and (missing or extra or sizes):
        raise CheckpointError(_mismatch(network, state, own, source, missing, extra, sizes))
    skipped = {*extra, *sizes}
    require_finite({name: value for name, value in state.items() if name in own and name not in skipped}, source)
    network.load_state_dict({name: value for name, value in state.items() if name not in skipped}, strict=False)
    return sorted({*missing, *skipped})


def _derived(network: nn.Module, names: Iterable[str]) -> set[str]:
    """Those of the names of entries that follow from the arguments of the network, or of a part of it."""
    owners = [
        (f"{prefix}." if prefix else "", module.derived_keys)
        for prefix, module in network.named_modules()
        if isinstance(module, _Deriving) and module.derived_keys
    ]
    return {
        name
        for name in names
        if any(name.startswith(prefix) and name.rpartition(".")[2] in keys for prefix, keys in owners)
    }


def digest_of(network: nn.Module) -> str:
    """SHA-256 of the names and values of all weights, in hexadecimal digits; the same on every device."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def infer(state: State, *, source: str = "weights") -> dict[str, Any]:
    """The option block (`type` and arguments) of the network that `state` belongs to, told from its keys.

    Raises:
        CheckpointError: none of our networks; the message names the nearest one.
    """
    block = _told(state)
    if block is None:
        known = ", ".join(network_classes())
        raise CheckpointError(
            f"{source}: the keys belong to none of our networks ({known}). {_nearest_family(state)}"
            f"First keys: {', '.join(list(state)[:4])}."
        )
    return block


def without_foreign_prefix(state: State) -> State:
    """The weights under our names, where all of them have one more word in front (`net_g.`, `params_ema.`)."""
    if len({name.partition(".")[0] for name in state}) != 1:
        return state
    inner = {name.partition(".")[2]: value for name, value in state.items()}
    return inner if _told(state) is None and _told(inner) is not None else state


def network_classes(registry: Registry = NETWORKS) -> dict[str, type[Network]]:
    """Every network of a registry by its name."""
    components = {name: registry.get(name) for name in registry}
    return {name: each for name, each in components.items() if isinstance(each, type) and issubclass(each, Network)}


def _told(state: State) -> dict[str, Any] | None:
    for name, network in network_classes().items():
        try:
            arguments = network.recognise(state)
        except (ArithmeticError, LookupError, ValueError):  # a relative that lacks keys, or has others
            continue
        if arguments is not None:
            return {"type": name, **arguments}
    return None


def _nearest_family(state: State) -> str:
    """A sentence that names the network whose keys are most alike, numbers aside; nothing if none is."""
    for name, network in (network_classes() | network_classes(QUALITY)).items():
        if network.telltale in state:
            return (
                f"They seem to be of {name}, whose parts no key tells: say in an option file what `network_g` is, or "
                f"load a file that our training wrote, which holds it. "
            )
    shares = {}
    for name, network in network_classes().items():
        if not network.telltale:
            with torch.device("meta"):
                shares[name] = _likeness(state, network(**network.example).state_dict())
    best = max(shares, key=shares.__getitem__)
    return f"Nearest: {best}, {shares[best]:.0%} of the names are alike. " if shares[best] >= 0.2 else ""


def _likeness(state: State, other: State) -> float:
    """Common names over all names, in [0, 1], with every number in a name taken as the same."""
    ours, theirs = ({re.sub(r"\d+", "#", key) for key in keys} for keys in (state, other))
    return len(ours & theirs) / max(1, len(ours | theirs))


def describe(state: State, network: str = "") -> str:
    """In a few words, what the weights seem to be; with all arguments where that is the class called `network`."""
    try:
        block = infer(state)
    except CheckpointError:
        return f"an unknown network ({len(state)} tensors, first {next(iter(state), 'none')})"
    usual = ("upscale", "embed_dim", "depths", "upsampler", "scale")
    shown = {key: value for key, value in block.items() if key in usual or (block["type"] == network and key != "type")}
    return f"{block['type']}({', '.join(f'{key}={value!r}' for key, value in shown.items())})"


_MOST_LISTED = 8  # tensors of each kind of mismatch


def _mismatch(
    network: nn.Module,
    state: State,
    own: State,
    source: str,
    missing: Sequence[str],
    extra: Sequence[str],
    sizes: Sequence[str],
) -> str:
    kind, most = type(network).__name__, _MOST_LISTED
    lines = [f"{source}: made for another network than {kind}. It seems to be {describe(state, kind)}."]
    if sizes:
        shown = [f"{name} {tuple(state[name].shape)}, wanted {tuple(own[name].shape)}" for name in sizes[:most]]
        lines.append(f"{len(sizes)} of another size: {'; '.join(shown)}{' ...' if len(sizes) > most else ''}.")
    for what, names in (("missing", missing), ("unexpected", extra)):
        if names:
            lines.append(f"{len(names)} {what}: {', '.join(names[:most])}{' ...' if len(names) > most else ''}.")
    if missing and extra and difflib.get_close_matches(missing[0], extra, 1, 0.8):
        lines.append("The names are alike: was the file written by another version or with a wrapper?")
    return "\n  ".join(lines)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

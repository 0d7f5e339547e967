"""Weights files: find the weights in them, tell which network they are for, and load them.

What a file holds is searched for the group of tensors that fits a network: a bare state dict, or one under whatever
names wrappers and trainings give it (`params_ema`, `state_dict`, `generator`, a `checkpoint` with one of these in it, a
network that was saved whole), with or without prefixes (`module.`, `netG.`). Files that our training wrote also hold
the option block of their network (`network`), which says what keys and shapes cannot: attention heads, value ranges,
mixers, encoders.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from restore.errors import CheckpointError
from restore.layers.finite import require_finite, require_fractions
from restore.networks.base import Network, State
from restore.networks.pickled_values import StandIn
from restore.networks.reading import read_checkpoint, read_header
from restore.registry import DETECTORS, NETWORKS, QUALITY, Registry

__all__ = [
    "NETWORK_BLOCK",
    "digest_of",
    "fits_into",
    "infer",
    "load_weights",
    "network_classes",
    "read_state_dict",
    "read_weights",
    "require_fit",
]

WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model", "net")
GENERATORS = ("g_ema", "net_g_ema", "generator_ema", "ema", "model_ema", "net_g", "netg", "generator", "gen", "g")
"""What trainings with a discriminator call the network that restores: groups, or prefixes of names."""
PREFIXES = ("module.", "_orig_mod.")
EXTRAS = ("total_ops", "total_params")
"""Counters that a profiler (thop) leaves beside the weights."""
NETWORK_BLOCK = "network"
MOST_GROUPS, MOST_TENSORS, LONGEST_NAME, LARGEST_INDEX = 1000, 20_000, 256, 1000

Fits = Callable[[State], bool]


def read_state_dict(path: str | Path, key: str | None = None, fits: Fits | None = None) -> dict[str, torch.Tensor]:
    """The state dict in a weights file, without wrappers and prefixes; see `read_weights`."""
    return read_weights(path, key, fits)[0]


def read_weights(
    path: str | Path, key: str | None = None, fits: Fits | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, Any] | None]:
    """The state dict in a weights file, without wrappers and prefixes, and the option block of its network, if it says.

    Args:
        key: entry that holds the weights (`params`, `params_ema`, ...); None finds it, preferring averaged weights.
        fits: whether a group of tensors is the one that is wanted; None for one that a network of ours is told from.

    Raises:
        CheckpointError: unreadable, no weights inside, no such key (the message lists those that exist), or tensors
            that are not plain ones.
    """
    content = read_checkpoint(path)
    block = content.get(NETWORK_BLOCK) if isinstance(content, Mapping) else None
    if not isinstance(block, Mapping):
        block = _block_in_header(path)
    block = dict(block) if isinstance(block, Mapping) and isinstance(block.get("type"), str) else None
    if block is not None and fits is None:
        fits = bool  # it says itself what it is
    state = unwrap(content, key, fits)
    if state is None and isinstance(content, (Mapping, list, tuple)) and not content:
        raise CheckpointError(f"{path}: empty: it holds no weights.")
    if state is None:
        found = ", ".join(map(_shown, content)) if isinstance(content, Mapping) else type(content).__name__
        wanted = f"the key '{key}'" if key else "weights"
        whole = f", an object of {content.name}, which is not made here" if isinstance(content, StandIn) else ""
        raise CheckpointError(f"{path}: does not hold {wanted}. It holds: {found[:300] or 'nothing'}{whole}.")
    _require_plain(state, str(path))
    return state, block


def _block_in_header(path: str | Path) -> Any:
    """The option block that the header of a safetensors file holds as JSON, or None."""
    try:
        return json.loads(read_header(path).get(NETWORK_BLOCK, "null"))
    except (ValueError, RecursionError):  # another program's word of that name
        return None


def unwrap(content: Any, key: str | None = None, fits: Fits | None = None) -> dict[str, torch.Tensor] | None:
    """The state dict inside `content`, or None. With a `key` that is missing, `params` serves (as in BasicSR)."""
    if key and isinstance(content, Mapping):
        present = next((name for name in (key, "params") if content.get(name)), None)
        if present is None and key != "params":
            return None
        content = content[present] if present else content
    groups = sorted(_groups(content), key=lambda group: [_rank(name) for name in group[0]] or [_rank("")])
    for _, state in groups:
        for each in _below_prefixes(state):
            if (fits or _is_told)(each):
                return each
    likely = (
        state for place, state in groups if all(name in WRAPPERS for name in place) or any("." in n for n in state)
    )
    return next(likely, None)


def fits_into(network: nn.Module) -> Fits:
    """Whether a group of tensors holds everything that a network has."""
    own = network.state_dict()
    wanted = own.keys() - _derived(network, own)
    return lambda state: wanted <= state.keys()


def _groups(content: Any) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every mapping that holds tensors by their names, with the keys that lead to it."""
    seen: set[int] = set()
    left: list[tuple[tuple[str, ...], Any]] = [((), content)]
    while left and len(seen) < MOST_GROUPS:
        place, value = left.pop(0)
        if id(value) in seen:
            continue
        seen.add(id(value))
        value = _of_whole_network(value) if isinstance(value, StandIn) else value
        if not isinstance(value, Mapping):
            continue
        named = {name: each for name, each in value.items() if isinstance(name, str)}
        left += [((*place, name), each) for name, each in named.items() if isinstance(each, (Mapping, StandIn))]
        own = {_bare(name): each for name, each in named.items() if _is_tensor(each) and not name.endswith(EXTRAS)}
        if own:
            yield place, own


def _rank(name: str) -> int:
    """What is looked at first: usual wrappers, names of generators, the bare content, anything else."""
    usual = (*WRAPPERS, *GENERATORS, "")
    return usual.index(name.lower()) if name.lower() in usual else len(usual)


def _below_prefixes(state: State, most: int = 3) -> Iterator[dict[str, torch.Tensor]]:
    """The tensors themselves, then those below a prefix that all of them have, or that names a generator."""
    yield dict(state)
    first = sorted({name.partition(".")[0] for name in state if "." in name}, key=_rank)
    for prefix in first if most else ():
        if len(first) == 1 or prefix.lower() in (*WRAPPERS, *GENERATORS):
            inner = {name.partition(".")[2]: each for name, each in state.items() if name.startswith(f"{prefix}.")}
            yield from _below_prefixes(inner, most - 1)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) or (isinstance(value, StandIn) and value.tensor_kind is not None)


def _of_whole_network(whole: StandIn) -> dict[str, Any]:
    """The state dict of a network that was saved whole; empty for anything else. Modules may hold themselves."""
    found: dict[str, Any] = {}
    left: list[tuple[str, Any]] = [("", whole)]
    while left and len(found) + len(left) <= MOST_TENSORS and len(left[0][0]) <= LONGEST_NAME:
        prefix, module = left.pop(0)
        inside = module.state if isinstance(module, StandIn) and isinstance(module.state, Mapping) else {}
        gone = inside.get("_non_persistent_buffers_set")
        gone = gone if isinstance(gone, set) else ()
        for kind in ("_parameters", "_buffers", "_modules"):
            for name, each in (inside.get(kind) or {}).items() if isinstance(inside.get(kind), Mapping) else ():
                if kind == "_modules":
                    left.append((f"{prefix}{name}.", each))
                elif name not in gone:
                    found[f"{prefix}{name}"] = each
    return found


def _require_plain(state: Mapping[str, Any], source: str) -> None:
    """Refuse names that are none, and tensors that are not simply values in a row."""
    if len(state) > MOST_TENSORS:
        raise CheckpointError(f"{source}: it holds {len(state):,} tensors; networks have {MOST_TENSORS:,} at most.")
    strange = next((name for name in state if len(name) > LONGEST_NAME or not name.isprintable()), None)
    if strange is not None:
        raise CheckpointError(f"{source}: damaged: {_shown(strange)} is not the name of a tensor.")
    odd = {name: "complex" if isinstance(each, torch.Tensor) else each.tensor_kind for name, each in state.items()}
    odd = {name: kind for name, kind in odd.items() if kind != "complex" or state[name].is_complex()}
    if odd:
        name, kind = next(iter(odd.items()))
        raise CheckpointError(
            f"{source}: tensors that are {kind} cannot be loaded ({len(odd)} of {len(state)}: {name}, ...). Load the "
            "network where it was saved, and save its state dict with plain tensors."
        )


def _shown(name: Any) -> str:
    text = ascii(name) if isinstance(name, (str, int, float)) else type(name).__name__
    return text.strip("'") if len(text) <= 60 else f"{text[:57]}..."


def _bare(name: str) -> str:
    """The name without the prefixes of wrappers, however many there are."""
    return re.sub(f"^({'|'.join(map(re.escape, PREFIXES))})+", "", name)


def load_weights(network: nn.Module, state: State, *, source: str = "weights", strict: bool = True) -> list[str]:
    """Load `state` into `network`; returns the names that were left out (always empty when strict).

    Args:
        source: what to call the weights in messages, usually the path.
        strict: False skips tensors that are missing, extra or of another size, as BasicSR's `strict_load_g: false`.

    Raises:
        CheckpointError: which keys do not fit, and what the weights seem to be; or which are not finite.
    """
    own, state = network.state_dict(), _own_branch(network, state)
    missing, extra, sizes = _differences(network, state, own)
    if strict and (missing or extra or sizes):
        raise CheckpointError(_mismatch(network, state, own, source, missing, extra, sizes))
    skipped = {*extra, *sizes}
    weights = {name for name, value in own.items() if value.is_floating_point()} - skipped - _derived(network, own)
    require_fractions({name: value for name, value in state.items() if name in weights}, source)
    require_finite({name: value for name, value in state.items() if name in own and name not in skipped}, source)
    network.load_state_dict({name: value for name, value in state.items() if name not in skipped}, strict=False)
    return sorted({*missing, *skipped})


def require_fit(network: nn.Module, state: State, source: str) -> None:
    """Refuse weights that are not those of `network`; values are not looked at, so it may be on the meta device.

    Raises:
        CheckpointError: which keys do not fit, and what the weights seem to be.
    """
    own, state = network.state_dict(), _own_branch(network, state)
    differences = _differences(network, state, own)
    if any(differences):
        raise CheckpointError(_mismatch(network, state, own, source, *differences))


def _own_branch(network: nn.Module, state: State) -> State:
    return network.own_branch(state) if isinstance(network, Network) else state


def _differences(network: nn.Module, state: State, own: State) -> tuple[list[str], list[str], list[str]]:
    """The names that are missing, those that nobody wants, and those of tensors of another size."""
    derived = _derived(network, {*own, *state})
    missing = [name for name in own if name not in state and name not in derived]
    extra = [name for name in state if name not in own and name not in derived]
    sizes = [
        name for name, value in state.items() if name in own and name not in derived and own[name].shape != value.shape
    ]
    return missing, extra, sizes


def _derived(network: nn.Module, names: Iterable[str]) -> set[str]:
    """Those of the names of entries that follow from the arguments of the network, or of a part of it."""
    owners: dict[str, list[str]] = {}  # of each key, the prefixes of the modules that have it
    for prefix, module in network.named_modules():
        for key in getattr(module, "derived_keys", ()):
            owners.setdefault(key, []).append(f"{prefix}." if prefix else "")
    return {name for name in names if name.startswith(tuple(owners.get(name.rpartition(".")[2], ())))}


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


def network_classes(registry: Registry = NETWORKS) -> dict[str, type[Network]]:
    """Every network of a registry by its name."""
    components = {name: registry.get(name) for name in registry}
    return {name: each for name, each in components.items() if isinstance(each, type) and issubclass(each, Network)}


def _is_told(state: State) -> bool:
    return _told(state) is not None


def _told(state: State) -> dict[str, Any] | None:
    if len(state) > MOST_TENSORS or not all(map(_may_be_ours, state.items())):
        return None
    for name, network in network_classes().items():
        try:
            arguments = network.recognise(state)
        except (ArithmeticError, LookupError, ValueError):  # a relative that lacks keys, or has others
            continue
        if arguments is not None:
            return {"type": name, **arguments}
    return None


def _may_be_ours(item: tuple[str, Any]) -> bool:
    """Whether a tensor is one, whose name counts no further than networks do."""
    numbers = re.findall(r"\d+", item[0])
    return isinstance(item[1], torch.Tensor) and all(len(each) < 9 and int(each) <= LARGEST_INDEX for each in numbers)


def _nearest_family(state: State) -> str:
    """A sentence that names the network whose keys are most alike, numbers aside; nothing if none is."""
    for name, network in (network_classes() | network_classes(QUALITY) | network_classes(DETECTORS)).items():
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

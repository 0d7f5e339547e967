"""From a model's name, a weights file or an option block to something that restores images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore import registry
from restore.detection import Detector
from restore.errors import CheckpointError, MissingError, OptionsError, nearest
from restore.files import expanded
from restore.inference import Restorer
from restore.networks.bounded import build_as_stored, require_sane
from restore.networks.branches import branch_weights
from restore.networks.checkpoint import infer, load_weights, read_state_dict, read_weights
from restore.networks.foreign import load_foreign
from restore.zoo.addresses import SUFFIXES, card_of, is_address
from restore.zoo.card import list_cards
from restore.zoo.download import address, fetch_weights

if TYPE_CHECKING:
    import torch
    from torch import nn

    from restore.networks import Network

__all__ = [
    "as_restorer",
    "build_model",
    "list_models",
    "load_model",
    "load_network",
    "network_block",
    "weights_file",
    "weights_path",
    "without_downloads",
]

KINDS = {
    "network": registry.NETWORKS,
    "discriminator": registry.DISCRIMINATORS,
    "encoder": registry.ENCODERS,
    "mixer": registry.MIXERS,
    "quality": registry.QUALITY,
    "detector": registry.DETECTORS,
    "metric": registry.METRICS,
    "loss": registry.LOSSES,
    "norm": registry.NORMS,
    "feed_forward": registry.FEED_FORWARDS,
    "position": registry.POSITIONS,
    "placement": registry.PLACEMENTS,
}


def build_model(block: Mapping[str, Any]) -> nn.Module:
    """A network from its option block, with the published keyword names: `{"type": "SwinIR", "upscale": 4, ...}`.

    Raises:
        OptionsError: with every mistake in the block at once.
    """
    return registry.NETWORKS.build(block)


def load_network(
    name_or_path: str | Path, *, key: str | None = None, task: str | int | None = None, sigma: float | None = None
) -> Network:
    """A network with its weights, in evaluation mode: a model by its name or address, or a weights file.

    Args:
        key: entry of the file that holds the weights (`params`, `params_ema`, ...); None finds it.
        task: of weights for several tasks, the one to take, by name (`sr_x2`) or number: a network of it alone comes.
        sigma: level of the noise, on the 0-255 scale, for a network that is told it (FFDNet).

    Raises:
        OptionsError: neither a known model nor a weights file; no such task; a network that is not told the noise.
        CheckpointError: the file cannot be read, or no network is known whose weights it holds; the message names the
            nearest of ours, and says if spandrel, which knows many more, is missing.
    """
    network = _loaded(name_or_path, key, task)
    if sigma is not None:
        network.expect_noise(sigma)
    return network


def _loaded(name_or_path: str | Path, key: str | None, task: str | int | None) -> Network:
    """The network with its weights, in evaluation mode."""
    if _is_file(name_or_path):
        path = expanded(name_or_path)
        state, block = read_weights(path, key)
        if block is None:
            return _recognised(state, str(path), task).eval()
        return _described(state, block, str(path), task).eval()
    card = card_of(str(name_or_path))
    path = fetch_weights(card)
    state = read_state_dict(path, key)
    if card.network is None:
        return _recognised(state, str(path), task).eval()
    weights = _of_task(state, task, str(path))
    kind = {"quality": registry.QUALITY, "defects": registry.DETECTORS}.get(card.task, registry.NETWORKS)
    network: Network = kind.build(card.network)
    load_weights(network, weights, source=str(path))
    return network.eval()


def network_block(name_or_path: str | Path, *, key: str | None = None, task: str | int | None = None) -> dict[str, Any]:
    """The option block of the network that `load_network` gives for these arguments.

    Raises:
        OptionsError: neither a known model nor a weights file; no such task.
        CheckpointError: the file cannot be read, or its network is none of ours and has no block.
    """
    block = None if _is_file(name_or_path) else card_of(str(name_or_path)).network
    if block is None:
        path = weights_file(name_or_path)
        state, block = read_weights(path, key)
        if block is not None:
            require_sane(block, str(path))
        if block is None or task is not None:
            told = infer(_of_task(state, task, str(path)), source=str(path))
            block = {**(block or {}), **told}
    return without_downloads(block)


def _recognised(state: Mapping[str, torch.Tensor], source: str, task: str | int | None) -> Network:
    """The network that the weights belong to: one of ours, or else one of spandrel's."""
    state = _of_task(state, task, source)
    try:
        network: Network = build_as_stored(registry.NETWORKS, infer(state, source=source), state, source=source)
        return network
    except ValueError as ours:  # unknown keys, or a fork that keeps most of them
        try:
            foreign = load_foreign(state, source=source)
        except MissingError as missing:
            raise CheckpointError(f"{ours}\n  {missing}: pip install spandrel") from None
        if foreign is None:
            raise CheckpointError(f"{ours}\n  spandrel does not know it either.") from None
        return foreign


def _described(
    state: Mapping[str, torch.Tensor], block: Mapping[str, Any], source: str, task: str | int | None
) -> Network:
    """The network whose option block stands beside its weights; of several tasks, that of one."""
    if task is not None:
        own = branch_weights(state, task, source=source)
        whole = infer(state)
        block = {**block, **{key: value for key, value in infer(own).items() if value != whole[key]}}
        state = own
    if block["type"] in registry.QUALITY:
        raise CheckpointError(f"{source}: holds the weights of {block['type']}, which judges images and restores none.")
    if block["type"] in registry.DETECTORS:
        raise CheckpointError(f"{source}: holds the weights of {block['type']}, which finds things and restores none.")
    if block["type"] in registry.DISCRIMINATORS:
        raise CheckpointError(
            f"{source}: holds the weights of {block['type']}, a discriminator: it restores no images."
        )
    network: Network = build_as_stored(registry.NETWORKS, block, state, source=source)
    return network


def without_downloads(block: Any) -> Any:
    """The block with `pretrained: false` wherever it says more: the weights of every part are in the file."""
    if isinstance(block, Mapping):
        return {key: key != "pretrained" and without_downloads(value) for key, value in block.items()}
    return [without_downloads(value) for value in block] if isinstance(block, list) else block


def _of_task(state: Mapping[str, torch.Tensor], task: str | int | None, source: str) -> Mapping[str, torch.Tensor]:
    """The weights of one task, where one is asked for."""
    return state if task is None else branch_weights(state, task, source=source)


def load_model(
    name_or_path: str | Path,
    *,
    key: str | None = None,
    task: str | int | None = None,
    sigma: float | None = None,
    engine: str = "torch",
    **runtime: Any,
) -> Restorer:
    """A `Restorer` for a model (`"swinir_light_x4"`), an address (`"hf:owner/name"`) or a weights file (`"net_g.pth"`).

    Args:
        key: entry of the file that holds the weights; None finds it.
        task: of weights for several tasks, the one to restore with, by name (`sr_x2`) or number.
        sigma: level of the noise, on the 0-255 scale, for a network that is told it (FFDNet).
        engine: torch, onnxruntime or openvino; see `restore.inference.engines`.
        runtime: arguments of `Restorer`: device, precision, tile, ...; of another engine, `provider` too.

    Raises:
        OptionsError: a model that judges images instead of restoring them; weights for several tasks and none named;
            or as `load_network`.
        CheckpointError: as `load_network`.
    """
    network = load_network(name_or_path, key=key, task=task, sigma=sigma)
    return as_restorer(network, str(name_or_path), engine=engine, **runtime)


def as_restorer(network: Network, name: str, *, engine: str = "torch", **runtime: Any) -> Restorer:
    """A `Restorer` that runs `network`, which messages call `name`, by an engine.

    Raises:
        OptionsError: the network has several tasks, or judges images instead of restoring them.
    """
    tasks = network.tasks
    if len(tasks) > 1:
        raise OptionsError(
            f"'{name}' holds weights for {len(tasks)} tasks: {', '.join(tasks)}. Name the one to restore with: "
            "`task` here, --model-task on the command line, path.pretrain_task_g in an option file."
        )
    if isinstance(network, Detector):
        raise OptionsError(
            f"'{name}' finds defects and restores nothing. Use it with restore defects -m {name}, or "
            f"restore.detection.load_detector('{name}')."
        )
    if not network.spec.out_channels:
        raise OptionsError(
            f"'{name}' judges images and restores none. Use it as a metric "
            f"(restore.metrics.iqt or triq), or restore.quality.load_quality('{name}')."
        )
    if engine == "torch":
        return Restorer(network, **runtime)
    from restore.inference.engines import engine_restorer

    return engine_restorer(network, engine, **runtime)


def weights_path(name: str) -> Path:
    """Where the weights of a model of the zoo lie; downloaded if they are not on this machine.

    Raises:
        MissingError: they could not be found or downloaded; the message says from where, and where to put them.
        CheckpointError: the file is not the one that the card means.
    """
    return fetch_weights(card_of(name))


def weights_file(name_or_path: str | Path) -> Path:
    """The weights file that is meant: a path as it is, or a model of the zoo by name.

    Raises:
        OptionsError: neither a known model nor a weights file.
        CheckpointError: there is no such file.
        MissingError: the model is known, but its weights could not be found or downloaded.
    """
    return expanded(name_or_path) if _is_file(name_or_path) else weights_path(str(name_or_path))


def list_models(kind: str = "model") -> list[str]:
    """Names that can be used: `model` (with weights), or what can be built: network, encoder, mixer, quality, ...

    Raises:
        OptionsError: unknown kind.
    """
    if kind == "model":
        return [card.name for card in list_cards()]
    if kind not in KINDS:
        raise OptionsError(f"unknown kind '{kind}'.{nearest(kind, KINDS)} Known: model, {', '.join(KINDS)}.")
    return KINDS[kind].names()


def _is_file(name_or_path: str | Path) -> bool:
    """Whether a file is meant: there is one, or it is called as one; a model of the zoo goes before one of its name."""
    if is_address(name_or_path):
        return False
    path = expanded(name_or_path)
    if not isinstance(name_or_path, Path) and path.suffix not in SUFFIXES:
        return path.exists() and name_or_path not in list_models()
    if not path.exists():
        raise CheckpointError(f"{path}: no such weights file.{_published(path.name)}")
    return True


def _published(file_name: str) -> str:
    """Whose weights have the name of a file that is not here, and where they are."""
    card = next((card for card in list_cards() if card.weights == file_name), None)
    if card is None:
        return ""
    where = address(card)
    loaded = f"and it is loaded from {where}" if where else "whose file is carried by this package"
    return f" The model '{card.name}' has weights of this name: write {card.name} in place of the path, {loaded}."

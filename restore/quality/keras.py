"""The published weights of TRIQ, a Keras .h5 file, as a state dict of ours.

    model = build_quality({"type": "TRIQ", "positions": "truncate"})
    load_weights(model, read_keras("TRIQ.h5"))

Keras numbers the layers of a process as they are made (`dense_7`), so the layers are told apart by their kind and their
order, which is fixed: for each block query, key, value, output and the two of the feed-forward network, then the head.
The convolutions of the ResNet have biases there; they become part of the means of the norms that follow.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from restore.errors import CheckpointError, MissingError
from restore.files import expanded

__all__ = ["read_keras"]

Arrays = dict[str, np.ndarray]
_BLOCKS = {2: 3, 3: 4, 4: 6, 5: 3}  # residual blocks in each stage of ResNet-50
_FIELDS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
_ATTENTION = ("self_attn.W_Q", "self_attn.W_K", "self_attn.W_V", "self_attn.linear", "pos_ffn.conv1", "pos_ffn.conv2")


def read_keras(path: str | Path) -> dict[str, torch.Tensor]:
    """The state dict of `TRIQ` with `resnet50_v1` from a Keras weights file.

    Raises:
        MissingError: h5py is not installed.
        CheckpointError: the file cannot be read, or does not hold a TRIQ with a ResNet-50.
    """
    arrays = _read(expanded(path))
    try:
        state = {**_resnet(arrays), **_transformer(arrays)}
    except (KeyError, IndexError) as error:
        raise CheckpointError(f"{path}: not a TRIQ with a ResNet-50; there is no {error}.") from None
    return {key: torch.from_numpy(np.array(array, np.float32)) for key, array in state.items()}


def _read(path: Path) -> Arrays:
    """Every array of the file by its path, without the `:0` at the end."""
    try:
        import h5py
    except ImportError:
        raise MissingError("reading Keras weights needs h5py: pip install restore-toolkit[keras]") from None
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file.")
    arrays: Arrays = {}

    def collect(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name.split(":")[0]] = item[()]

    try:
        with h5py.File(path) as file:
            file.visititems(collect)
    except OSError as error:
        raise CheckpointError(f"{path}: damaged, or not an HDF5 file ({error}).") from None
    return arrays


def _resnet(arrays: Arrays) -> Arrays:
    """Keras' ResNet-50: `conv1_conv`, `conv1_bn`, `conv3_block2_1_conv`, ...; the shortcut is number 0."""
    state = _convolution(arrays, "conv1", "model.conv1", "model.bn1")
    for stage, count in _BLOCKS.items():
        for block in range(1, count + 1):
            ours = f"model.layer{stage - 1}.{block - 1}"
            theirs = f"conv{stage}_block{block}"
            for number in (1, 2, 3):
                state |= _convolution(arrays, f"{theirs}_{number}", f"{ours}.conv{number}", f"{ours}.bn{number}")
            if block == 1:
                state |= _convolution(arrays, f"{theirs}_0", f"{ours}.downsample.0", f"{ours}.downsample.1")
    return {f"encoder.{key}": array for key, array in state.items()}


def _convolution(arrays: Arrays, theirs: str, convolution: str, norm: str) -> Arrays:
    """A convolution (HWIO there, OIHW here) and its norm."""
    state = {f"{norm}.{ours}": _named(arrays, f"{theirs}_bn", field) for field, ours in _FIELDS.items()}
    state[f"{convolution}.weight"] = _named(arrays, f"{theirs}_conv", "kernel").transpose(3, 2, 0, 1)
    state[f"{norm}.running_mean"] = state[f"{norm}.running_mean"] - _named(arrays, f"{theirs}_conv", "bias")
    state[f"{norm}.num_batches_tracked"] = np.zeros((), np.int64)
    return state


def _named(arrays: Arrays, layer: str, field: str) -> np.ndarray:
    """The array `field` of the layer of that name, wherever in the file it stands."""
    for path, array in arrays.items():
        parts = path.split("/")
        if parts[-1] == field and parts[-2:-1] == [layer]:
            return array
    raise KeyError(f"{layer}/{field}")


def _transformer(arrays: Arrays) -> Arrays:
    """Everything behind the ResNet."""
    inner = {path: array for path, array in arrays.items() if not re.search(r"conv\d_(block\d+_\d_)?(conv|bn)/", path)}
    dense = _layers(inner, "dense", ("kernel", "bias"))
    norms = _layers(inner, "layer_normalization", ("gamma", "beta"))
    if len(dense) < 8 or (len(dense) - 2) % len(_ATTENTION) or len(norms) * 3 != len(dense) - 2:
        raise KeyError(f"transformer made of {len(dense)} dense layers and {len(norms)} norms")
    fields = ("kernel", "bias")
    projection = (_layers(inner, "feature_proj_conv", fields) or _layers(inner, "conv2d", fields))[0]
    state = {
        "position_table": _ending(inner, "pos_emb"),
        "quality_token": _ending(inner, "quality_emb"),
        "projection.weight": projection["kernel"].transpose(3, 2, 0, 1),
        "projection.bias": projection["bias"],
    }
    for index, layer in enumerate(dense[:-2]):
        block, place = divmod(index, len(_ATTENTION))
        name = f"layers.{block}.{_ATTENTION[place]}"
        weight = layer["kernel"].T
        state[f"{name}.weight"] = weight[..., None] if "conv" in name else weight
        state[f"{name}.bias"] = layer["bias"]
    for index, norm in enumerate(norms):
        name = f"layers.{index // 2}.layer_norm{index % 2 + 1}"
        state |= {f"{name}.weight": norm["gamma"], f"{name}.bias": norm["beta"]}
    for name, layer in zip(("head.0", "head.3"), dense[-2:], strict=True):
        state |= {f"{name}.weight": layer["kernel"].T, f"{name}.bias": layer["bias"]}
    return {f"transformer.{key}": array for key, array in state.items()}


def _layers(arrays: Arrays, kind: str, fields: tuple[str, ...]) -> list[Arrays]:
    """The layers of a kind (`dense`, `dense_1`, `dense_10`, ...) in the order of their numbers."""
    found: dict[tuple[int, str], Arrays] = {}
    for path, array in arrays.items():
        *folders, field = path.split("/")
        match = re.fullmatch(rf"{kind}(?:_(\d+))?", folders[-1]) if folders else None
        if match and field in fields:
            found.setdefault((int(match[1] or 0), "/".join(folders)), {})[field] = array
    return [found[key] for key in sorted(found)]


def _ending(arrays: Arrays, field: str) -> np.ndarray:
    for path, array in arrays.items():
        if path.split("/")[-1] == field:
            return array
    raise KeyError(field)

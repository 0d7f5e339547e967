"""What repositories that grew out of BasicSR write in their option files, and what says the same here.

Only messages are made of it: a key or name that is not known here is answered with what to write in its place. One that
becomes known leaves this table's reach.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import replace

from restore.errors import Problem
from restore.options.redux.keys import SIGNS, home_of
from restore.registry import DATASETS, DISCRIMINATORS, LOSSES, METRICS, NETWORKS, OBJECTIVES, Registry

__all__ = ["explained"]

_PRECISION = "Write train.precision: bf16 (or fp16), and for a test runtime.precision."
_TILES = "Leave it out: images are cut into tiles by the free memory. To choose a side, write runtime.tile: 256."
_MIXING = "Write train.mixing_augs: {mixup: true, cutmix: 0.5, cutblur: 0.5}, with those that are wanted."
_REDUX = "{}It is a key of traiNNer-redux, whose option files are read whole, and are told by one of {}."
_IN_DATASET = "It belongs to the dataset: write it in datasets.train, of type RealESRGANDataset."

_LIIF_DATASET = (
    "Write datasets.{key}: {{type: DownsampledImageDataset, dataroot_gt: FOLDER, ...}}, and a scale at the top."
)
_ONE_SCALE = "Leave it out: a network here is of one scale, `scale`; val.metrics says how its results are measured."

_KEYS = {
    "train.use_amp": _PRECISION,
    "datasets.*.noise": "Write type: GaussianNoiseDataset and sigma, with dataroot_gt alone: the noise is added here.",
    "datasets.*.use_mixup": _MIXING,
    "datasets.*.use_cutmix": _MIXING,
    "datasets.*.use_channelshuffle": f"Leave it out: colours are not shuffled here. {_MIXING}",
    **{
        f"{key}{round_}": _IN_DATASET
        for key in ("blur_kernel_size", "kernel_list", "kernel_prob", "sinc_prob", "blur_sigma", "beta?_range")
        for round_ in ("", "2")
    },
    "final_sinc_prob": _IN_DATASET,
    **{f"{key}_dataset": _LIIF_DATASET.format(key=key) for key in ("train", "val", "test")},
    **dict.fromkeys(("eval_type", "scale_min", "scale_max"), _ONE_SCALE),
    "eval_bsize": _TILES,
    "data_norm": "Leave it out: every network brings its input to the range that it wants.",
    "model": "Write network_g: {type: NAME, argument: value, ...}.",
    "optimizer": "Write train.optim_g: {type: Adam, lr: 1e-4}.",
    "epoch_max": "Write train.total_iter: the length of a training is counted in iterations.",
    "multi_step_lr": "Write train.scheduler: {type: MultiStepLR, milestones: [250000], gamma: 0.5}, in iterations.",
    "epoch_val": "Write val.val_freq, in iterations.",
    "epoch_save": "Write logger.save_checkpoint_freq, in iterations.",
    "resume": "Write path.resume_state: FILE, or go on with --auto_resume.",
    "network_?.use_pa": "Leave it out: the published code of PLKSR does not take it either.",
    "network_?.use_checkpoint": "Write train.activation_checkpointing: true.",
}
"""What to write, by the dotted path of a key; wildcards as in file names."""

_REGISTRIES: dict[str, Registry] = {
    each.kind: each for each in (DATASETS, DISCRIMINATORS, LOSSES, METRICS, NETWORKS, OBJECTIVES)
}
_NAMES = {
    (OBJECTIVES.kind, r"\w*IRv?\d*Model"): "Write SRModel",
    (DISCRIMINATORS.kind, "unet"): "Write UNetDiscriminatorSN",
    (NETWORKS.kind, "esrgan|ESRGAN"): "Write RRDBNet",
    (NETWORKS.kind, "compact"): "Write SRVGGNetCompact",
    (DATASETS.kind, r"PairedImageDADataset|ImageNetPaired\w+"): "Write PairedImageDataset",
    (DATASETS.kind, "DownsampleImageDataset"): "Write DownsampledImageDataset",
    (LOSSES.kind, "CharbonnierLossColor"): "Write CharbonnierLoss",
}
"""What to write, by the kind of a component and a regular expression of its name."""

_UNKNOWN_NAME = re.compile(r"unknown (?P<kind>[\w ]+) '(?P<name>[^']*)'\.")


def explained(problem: Problem) -> Problem:
    """A mistake as it is or, where another repository writes so, with what to write here."""
    if problem.message.startswith("unknown option"):
        instead = next((text for key, text in _KEYS.items() if fnmatch.fnmatchcase(problem.path, key)), None)
        if instead is None and (home := home_of(problem.path)) is not None:
            instead = _REDUX.format(f"Here it is {home}. " if home else "", ", ".join(SIGNS))
        return replace(problem, message=f"unknown option. {instead}") if instead else problem
    found = _UNKNOWN_NAME.match(problem.message)
    if found and found["kind"] in _REGISTRIES and (instead := _named(found["kind"], found["name"])):
        return replace(problem, message=f"{found[0]} {instead}.")
    return problem


def _named(kind: str, name: str) -> str | None:
    """What to write for the name of a component; None where nothing is known of it."""
    registry = _REGISTRIES[kind]
    for (its_kind, pattern), instead in _NAMES.items():
        if kind == its_kind and re.fullmatch(pattern, name):
            return instead
    known = {each.lower(): each for each in dict.fromkeys(each for names, _ in registry.groups() for each in names)}
    if name.lower() in known:
        return f"Write {known[name.lower()]}"
    if kind == METRICS.kind and (inner := name.removeprefix("calculate_")) != name:
        return f"Write {known[inner.lower()]}" if inner.lower() in known else _of_pyiqa(inner)
    base, _, size = name.partition("_")
    if kind == NETWORKS.kind and size and base.lower() in known:
        return f"Write {known[base.lower()]}: what makes it '{size}' are its arguments"
    return None


def _of_pyiqa(name: str) -> str:
    usual = {"topiq": "topiq_fr", "maniqa": "maniqa", "clipiqa": "clipiqa", "musiq": "musiq"}
    return f"Write pyiqa:{usual.get(name, name)} (pip install 'restore-toolkit[iqa]')"

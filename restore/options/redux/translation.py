"""Applies the tables: a tree of traiNNer-redux's values becomes one of ours, in place."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from restore.errors import Problem, nearest
from restore.options.absent import family_of
from restore.options.redux import keys, names
from restore.options.redux.editing import Editor, is_number, is_one_of
from restore.options.redux.networks import NETWORKS, Preset
from restore.options.tree import Tree

__all__ = ["translate"]

_log = logging.getLogger(__name__)

_EXAMPLE = "{type: charbonnierloss, loss_weight: 1.0}"
_AROUND_PX = 32  # what a patch has around it while it is degraded
_OLDER_LOSSES = "pixel mssim ms_ssim_l1 perceptual contextual dists topiq ldl hsluv gan color luma avg bicubic"
_MODELS = {
    (False, False): "SRModel",
    (False, True): "SRGANModel",
    (True, False): "RealESRNetModel",
    (True, True): "RealESRGANModel",
}
"""By whether images are degraded on the device, and whether a loss is adversarial."""


def translate(tree: Tree) -> list[Problem]:
    """Rewrite the values of a file of traiNNer-redux into ours, and leave any other file as it is.

    Returns:
        What cannot be had here, each with its file and line; the values of these are left out.
    """
    sign = next((sign for sign in keys.SIGNS if tree.value(tuple(sign.split("."))) is not None), None)
    if sign is None:
        return []
    _log.info("%s: read as an option file of traiNNer-redux, for it has %s", tree.origins[()], sign)
    edit = Editor(tree)
    if edit.get("scale") is None:
        edit.complain("scale", "missing: how many times larger the output is, such as 4.")
    degrades = edit.flag("high_order_degradation")
    _apply_tables(edit, degrades)
    _datasets(edit)
    if degrades:
        _degradation(edit)
    if isinstance(edit.get("train"), dict):
        _training(edit, degrades)
    _arithmetic(edit)
    _validation(edit)
    _networks(edit)
    for path, value in keys.DEFAULTS.items():
        if isinstance(edit.get(path.rpartition(".")[0]), dict):
            edit.give(path, value)
    return edit.problems


def _apply_tables(edit: Editor, degrades: bool) -> None:
    """Keys that have other names or values, or none."""
    if not degrades:  # nothing reads them there either
        of_dataset = [f"datasets.*.{key}" for key in keys.DEGRADATION_OF_DATASET]
        for path in edit.matching([*keys.DEGRADATION, *keys.OF_DEGRADATION, *of_dataset]):
            edit.take(path)
    for pattern, allowed in keys.ONLY.items():
        for path in edit.matching([pattern]):
            value = edit.take(path)
            if not is_one_of(value, allowed.values):
                edit.complain(path, f"{value!r} cannot be had here. {allowed.otherwise}")
    for pattern, (quiet, remark) in keys.REMARKS.items():
        for path in edit.matching([pattern]):
            if not is_one_of(edit.take(path), quiet):
                _say(edit, path, f"no effect here: {remark}")
    for path in edit.matching(keys.UNREAD):
        edit.take(path)
    for path, to in keys.MOVED.items():
        edit.move(path, to)


def _datasets(edit: Editor) -> None:
    scale = edit.get("scale")
    for key in edit.blocks("datasets"):
        at = f"datasets.{key}"
        edit.rename(f"{at}.type", names.DATASETS)
        if edit.get(f"{at}.dataset_enlarge_ratio") == "auto":
            edit.take(f"{at}.dataset_enlarge_ratio")  # there are no epochs here that could be too short
        root = edit.get(f"{at}.dataroot_gt") or edit.get(f"{at}.dataroot_lq")
        if isinstance(listing := edit.get(f"{at}.meta_info"), str) and isinstance(root, list):
            edit.put(f"{at}.meta_info", [listing] * len(root))  # one list for all folders
        if edit.get(f"{at}.type") != "RealESRGANDataset":
            edit.move(f"{at}.meta_info", f"{at}.meta_info_file")
        side = edit.take(f"{at}.lq_size")
        if side is None:
            continue
        if edit.get(f"{at}.gt_size") is not None:
            edit.complain(f"{at}.lq_size", "gt_size is there as well: remove one of the two.")
        elif not isinstance(side, int) or side < 1:
            edit.complain(f"{at}.lq_size", f"must be a whole number of pixels, such as 64; given: {side!r}.")
        elif isinstance(scale, int):
            edit.give(f"{at}.gt_size", side * scale, of=f"{at}.lq_size")


def _degradation(edit: Editor) -> None:
    """What is drawn to degrade images; nothing is sharpened."""
    for path, value in keys.DEGRADATION.items():
        edit.give(keys.MOVED.get(path, path), value)
    for target in keys.SHARPENED:
        edit.give(target, False)
    for path in edit.matching(["resize_mode_list*"]):
        if isinstance(given := edit.get(path), list):
            edit.put(path, [names.INTERPOLATIONS.get(str(each), each) for each in given])
    if not isinstance(edit.get("datasets.train"), dict):
        return
    for path, value in keys.DEGRADATION_OF_DATASET.items():
        edit.give(f"datasets.train.{path}", value)
    if edit.take("datasets.train.dataroot_lq") is not None:
        _say(edit, "datasets.train.dataroot_lq", "no effect, as there: inputs are made of dataroot_gt")
    side, scale = edit.get("datasets.train.gt_size"), edit.get("scale")
    if isinstance(side, int) and isinstance(scale, int) and scale > 0:
        edit.give("datasets.train.crop_pad_size", -(-(side + _AROUND_PX) // scale) * scale)


def _training(edit: Editor, degrades: bool) -> None:
    if edit.flag("train.grad_clip"):
        edit.give("train.clip_norm", edit.get("train.grad_clip_max_norm", 100.0), of="train.grad_clip")
    for path in ("train.grad_clip", "train.grad_clip_max_norm", "train.eco"):
        edit.take(path)
    for key in ("optim_g", "optim_d"):
        edit.rename(f"train.{key}.type", names.OPTIMIZERS)
    edit.rename("train.scheduler.type", names.SCHEDULERS)
    schedule = edit.get("train.scheduler.type")
    if isinstance(schedule, str) and schedule not in names.SCHEDULERS.values():
        known = ", ".join(names.SCHEDULERS.values())
        edit.complain("train.scheduler.type", f"'{schedule}' cannot be had here: it was torch's. Write one of {known}.")
        edit.take("train.scheduler")
    if is_number(warm := edit.get("train.warmup_iter")) and warm > 0:
        remark = "the first iteration of a warm-up had the full rate there; here the rate rises from the first on"
        _say(edit, "train.warmup_iter", remark)
    adversarial = "ganloss" in _losses(edit)
    edit.give("model_type", _MODELS[degrades, adversarial])
    for path in ("network_d", "train.optim_d"):
        if not adversarial and edit.take(path) is not None:
            _say(edit, path, "no effect without a ganloss, as there")


def _losses(edit: Editor) -> dict[str, str]:
    """Put each loss where it belongs; returns the paths of those that count, by their names."""
    counted: dict[str, str] = {}
    for path, block in list(_weighted(edit)):
        name = block["type"].lower()
        if name in counted:
            edit.complain(path, f"'{name}' is at {counted[name]}, too, and only the last one counted there: keep one.")
        elif (loss := names.LOSSES.get(name)) is None:
            edit.complain(f"{path}.type", _no_such_loss(block["type"]))
        else:
            _put_loss(edit, path, loss, block)
        counted.setdefault(name, path)
    return counted


def _weighted(edit: Editor) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The losses that count, taken out of the list or, without one, from under the keys of older files."""
    listed = edit.take("train.losses")
    if listed is None:
        older = [f"train.{name}_opt" for name in _OLDER_LOSSES.split()]
        found = [(path, edit.take(path)) for path in older if _is_theirs(edit.get(path))]
    elif isinstance(listed, list):
        found = [(f"train.losses.{number}", block) for number, block in enumerate(listed)]
    else:
        found = []
        edit.complain("train.losses", f"must be a list of blocks, such as {_EXAMPLE}; given: {listed!r}.")
    for path, block in found:
        if not isinstance(block, Mapping) or not isinstance(block.get("type"), str):
            edit.complain(path, f"must be a block such as {_EXAMPLE}; given: {block!r}.")
        elif not is_number(weight := block.get("loss_weight")):
            edit.complain(f"{path}.loss_weight", f"must be a number, the factor of the loss; given: {weight!r}.")
        elif weight is not None and weight < 0:
            message = "a weight below 0 compared with the enlarged input there. Here a weight is 0 or more."
            edit.complain(f"{path}.loss_weight", f"{weight}: {message}")
        elif weight:
            yield path, block


def _put_loss(edit: Editor, path: str, loss: names.Loss, block: Mapping[str, Any]) -> None:
    arguments = {**loss.defaults, **block}
    for key, meant in loss.fixed.items():
        if key in arguments and not is_one_of(given := arguments.pop(key), [meant]):
            edit.complain(f"{path}.{key}", f"{given!r} cannot be had here. Leave it out, which means {meant!r}.")
    arguments = {loss.renamed.get(key, key): value for key, value in arguments.items() if key != "type"}
    edit.give(f"train.{loss.key}", {"type": loss.type, **arguments}, of=path, renamed=loss.renamed)


def _is_theirs(block: Any) -> bool:
    """Whether the block of a loss under a key that both schemas have is theirs, by its name."""
    name = block.get("type") if isinstance(block, Mapping) else None
    return isinstance(name, str) and name.lower() in {*names.LOSSES, *names.NO_SUCH}


def _no_such_loss(name: str) -> str:
    if instead := names.NO_SUCH.get(name.lower()):
        return f"'{name}' is not here. {instead}; or give it the weight 0."
    known = ", ".join(names.LOSSES)
    return f"unknown loss '{name}'.{nearest(name.lower(), (*names.LOSSES, *names.NO_SUCH))} Known: {known}."


def _arithmetic(edit: Editor) -> None:
    """`use_amp` and `use_compile`, which hold for training and for whole images alike."""
    preset = _preset(edit.get("network_g"))
    mixed, compiles = edit.flag("use_amp"), edit.flag("use_compile")
    bf16, channels_last = edit.flag("amp_bf16"), edit.flag("use_channels_last", default=True)
    if compiles and edit.get("compile_mode", "") != "default":
        _say(edit, "compile_mode", "no effect here: networks are compiled block by block, in torch's default mode")
    precision = "bf16" if bf16 or (preset is not None and not preset.fp16) else "fp16"
    if mixed and precision == "bf16" and not bf16:
        _say(edit, "use_amp", "bfloat16 is taken, for the network may overflow in float16")
    for section in ("train", "runtime") if isinstance(edit.get("train"), dict) else ("runtime",):
        if mixed:
            edit.give(f"{section}.precision", precision, of="use_amp")
            edit.give(f"{section}.channels_last", channels_last, of="use_channels_last")
        if compiles:
            edit.give(f"{section}.compile", True, of="use_compile")
    for key in ("use_amp", "amp_bf16", "use_channels_last", "use_compile", "compile_mode"):
        edit.take(key)


def _validation(edit: Editor) -> None:
    if not isinstance(edit.get("val"), dict):
        return
    if not edit.flag("val.val_enabled"):
        edit.take("val.val_freq")
    if not edit.flag("val.metrics_enabled"):
        edit.take("val.metrics")
    for key in edit.blocks("val.metrics"):
        edit.rename(f"val.metrics.{key}.type", names.METRICS)
    tile = edit.get("val.tile_size", 0)
    edit.give("runtime.tile", tile or None, of="val.tile_size")
    if tile:
        edit.give("runtime.tile_overlap", edit.get("val.tile_overlap", 0), of="val.tile_overlap")
    for key in ("val_enabled", "metrics_enabled", "tile_size", "tile_overlap"):
        edit.take(f"val.{key}")


def _networks(edit: Editor) -> None:
    """Names that stand for arguments; a network that is not here keeps its name, which says so."""
    edit.rename("network_d.type", names.DISCRIMINATORS)
    block = edit.get("network_g")
    preset = _preset(block)
    if preset is None:
        name = edit.get("network_g.type")
        if isinstance(name, str) and family_of(name.lower()):
            edit.put("network_g.type", name.lower())
        return
    scale, arguments = edit.get("scale"), dict(preset.arguments)
    for name, value in block.items():
        if name in preset.fixed:
            if not is_one_of(value, preset.fixed[name]):
                edit.complain(f"network_g.{name}", f"{value!r} cannot be had here. Write {preset.fixed[name][0]!r}.")
        elif name not in ("type", "scale"):  # the scale at the top counts
            written = preset.values.get(name, {})
            arguments[preset.renamed.get(name, name)] = written.get(value, value) if isinstance(value, str) else value
    scales = tuple(preset.by_scale) or preset.scales
    if scales and scale is not None and scale not in scales:
        known = ", ".join(map(str, scales))
        edit.complain("scale", f"'{block['type']}' is of scale {known} here; given: {scale!r}.")
    kind = preset.by_scale.get(scale, next(iter(preset.by_scale.values()))) if preset.by_scale else preset.type
    own_scale = {preset.scale: scale} if preset.scale and scale is not None else {}
    edit.give(
        "network_g", {"type": kind, **arguments, **own_scale}, of="network_g", renamed=preset.renamed, instead=True
    )


def _preset(block: Any) -> Preset | None:
    """The preset that the block of a network names, in any case."""
    name = block.get("type") if isinstance(block, Mapping) else None
    return NETWORKS.get(name.lower()) if isinstance(name, str) else None


def _say(edit: Editor, path: str, remark: str) -> None:
    _log.info("%s: %s: %s.", edit.origin(path), path, remark)

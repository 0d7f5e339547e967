"""`load`: from a file and overrides to `Options`, or to an error that names every mistake at once."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from restore.errors import OptionsError, Problem
from restore.files import expanded
from restore.options import components
from restore.options.absent import family_of, family_of_key
from restore.options.foreign import explained
from restore.options.redux import translate
from restore.options.rules import broken_rules, schedule_problems
from restore.options.schema import Options, fitted
from restore.options.source import Override, read
from restore.options.tree import Tree
from restore.plugins import load_plugin
from restore.signature import validate

__all__ = ["load", "load_datasets", "resolve"]

_log = logging.getLogger(__name__)


def load(
    path: str | Path,
    overrides: Iterable[Override | str] = (),
    *,
    is_train: bool | None = None,
    debug: bool = False,
    resumes: bool = False,
    check_components: bool = True,
) -> Options:
    """Read, resolve and check an option file.

    Args:
        path: the file, in BasicSR's schema; what it `extends` is read as well.
        overrides: assignments such as `train.ema_decay=0.999`, applied in order.
        is_train: whether it is for training; by default, whether it has a dataset called train.
        debug: put `debug_` before the name, which makes a training short (see `restore train --help`).
        resumes: whether it goes on from a state, as it does with `path.resume_state`: then its schedule may be over.
        check_components: also check component blocks against the components' own arguments, which imports them.

    Raises:
        OptionsError: with every mistake, each with its path, file and line.
    """
    overrides = [Override(item) if isinstance(item, str) else item for item in overrides]
    return resolve(
        read(path, overrides), is_train=is_train, debug=debug, resumes=resumes, check_components=check_components
    )


def load_datasets(path: str | Path, overrides: Iterable[Override | str] = ()) -> Options:
    """The options of a file or of a part of one: for a look at its datasets, the rest need not be there, or right.

    Raises:
        OptionsError: the datasets have mistakes.
    """
    overrides = [Override(item) if isinstance(item, str) else item for item in overrides]
    try:
        return resolve(read(path, overrides), check_components=False)
    except OptionsError as error:
        try:
            tree = read(path, overrides)
            translate(tree)  # what cannot be had is told with `error`
            options = resolve(_part_of_datasets(tree, Path(path)), check_components=False, is_part=True)
        except OptionsError:
            raise error from None
        _log.warning("its datasets are checked, but as an option file of a run it has mistakes:\n%s", error)
        return options


def _part_of_datasets(tree: Tree, path: Path) -> Tree:
    """The values that say of what datasets are, and what they are made for."""
    values = {key: value for key, value in tree.values.items() if key not in ("train", "val", "logger", "network_d")}
    datasets = values.get("datasets")
    if isinstance(datasets, Mapping) and "name" not in values:
        unfinished = [key for key, block in datasets.items() if isinstance(block, Mapping) and "type" not in block]
        for key in unfinished:
            _log.warning("datasets.%s has no type: it is for files that extend this one, and is not checked", key)
        values["datasets"] = {key: block for key, block in datasets.items() if key not in unfinished}
    tree.values = {"name": path.stem, **values}
    return tree


def resolve(
    tree: Tree,
    *,
    is_train: bool | None = None,
    debug: bool = False,
    resumes: bool = False,
    check_components: bool = True,
    is_part: bool = False,
) -> Options:
    """The options that a tree of values stands for; see `load`.

    `is_part`: what a run needs beside its datasets may be missing.
    """
    foreign = translate(tree)
    if check_components:
        _load_plugins(tree)
    if is_train is None:
        datasets = tree.values.get("datasets")
        is_train = isinstance(datasets, Mapping) and datasets.get("train") is not None
    absent = components.absent(tree.values)
    values, problems = _without_keys_of_absent(_without_strays(tree.values), set(absent.values()))
    options: Options | None
    mistakes, options = validate(fitted(Options, values), values)
    problems += foreign + mistakes + components.check(values, absent, arguments=check_components)
    if options is not None:
        problems += broken_rules(options, is_train, is_part=is_part)
        if is_train and options.train and (late := schedule_problems(options.train)):
            if resumes or options.path.resume_state:
                _log.warning("%s: %s", late[0].path, late[0].message)
            else:
                problems += late
        if is_train and check_components and not problems:
            problems = components.training_problems(options) + components.objective_problems(options)
    if problems or options is None:
        raise OptionsError(_in_order([tree.located(explained(problem)) for problem in problems], tree))
    options._is_train = is_train
    options._header = _header(tree)
    if debug and not options.name.startswith("debug"):
        options.name = f"debug_{options.name}"
    if is_train and "debug" in options.name:
        _shorten(options)
    _say_what_has_no_effect(tree)
    return options


def _load_plugins(tree: Tree) -> None:
    """Run the Python files under `plugins`, and write down where they are.

    Raises:
        OptionsError: one is missing or fails.
    """
    given = tree.values.get("plugins")
    names = given if isinstance(given, list) else [given] if given else []
    if not all(isinstance(name, str) for name in names):
        return  # the schema says what is wrong
    origin = tree.origin(("plugins",))
    folder = Path() if origin is None or origin.file.startswith("--") else Path(origin.file).parent
    files = [str((folder / expanded(name)).resolve()) for name in names]
    for file in files:
        try:
            load_plugin(file)
        except OptionsError as error:
            problem = Problem("plugins", str(error))
            raise OptionsError([tree.located(problem)]) from error
    if files:
        tree.values["plugins"] = files


def _without_strays(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with the keys put right that stand at the top of files, where BasicSR does not look or only logs."""
    stray = {key: values[key] for key in ("save_img", "suffix") if key in values}
    values = {key: value for key, value in values.items() if key not in (*stray, *_READ_BY_NOBODY)}
    if stray and isinstance(values.get("val") or {}, Mapping):
        values["val"] = stray | (values.get("val") or {})
    return values


def _without_keys_of_absent(values: Mapping[str, Any], absent: set[str]) -> tuple[dict[str, Any], list[Problem]]:
    """`values` without the keys that only absent components read; mistakes unless such a component is named as well."""
    families = {family_of(name) for name in absent}
    values, problems = dict(values), []
    for section in ("train", "val"):
        given = values.get(section)
        block: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
        foreign = {key: family for key in block if (family := family_of_key(key)) is not None}
        for key, family in foreign.items():
            if family not in families:
                message = f"only components that are not part of this package read it: {family.reason}. Remove it."
                problems.append(Problem(f"{section}.{key}", message))
        if foreign:
            values[section] = {key: value for key, value in block.items() if key not in foreign}
    return values, problems


def _in_order(problems: Iterable[Problem], tree: Tree) -> list[Problem]:
    """As they stand in the main file, then in those it extends, then on the command line; each once."""
    main = tree.origins[()].file

    def rank(problem: Problem) -> tuple[bool, bool, str, int, str]:
        return problem.file != main, problem.line is None, problem.file or "", problem.line or 0, problem.path

    return sorted(dict.fromkeys(problems), key=rank)


def _header(tree: Tree) -> str:
    overrides = dict.fromkeys(origin.file for origin in tree.origins.values() if origin.file.startswith("--"))
    return "\n".join(["resolved from " + tree.origins[()].file, *overrides])


def _shorten(options: Options) -> None:
    """What BasicSR does to a training whose name holds `debug`: everything happens within a few iterations."""
    options.val.val_freq = options.val.val_freq and 8
    options.logger.print_freq = 1
    options.logger.save_checkpoint_freq = 8
    options.logger.use_tb_logger = False
    options.logger.wandb.project = None


_READ_BY_NOBODY = ("crop_border", "print_network")
_NO_EFFECT = {
    "crop_border": "every metric has its own",
    "print_network": "`restore models network` describes networks",
    "datasets.*.use_shuffle": "training data is always shuffled, other data never",
    "val.window_size": "every network knows the multiple it needs; runtime.padding changes how it is reached",
    "val.use_chop": "runtime.tile: auto fits tiles to the free memory",
    "val.patchwise_testing": "runtime.tile: auto fits tiles to the free memory",
    "val.rgb2bgr": "images are RGB everywhere",
    "val.use_image": "metrics that want rounded images round them",
    "val.crop_size_h_ratio": "runtime.tile: auto fits tiles to the free memory",
    "val.crop_size_w_ratio": "runtime.tile: auto fits tiles to the free memory",
}


def _say_what_has_no_effect(tree: Tree) -> None:
    for place, origin in tree.origins.items():
        path = ".".join(map(str, place))
        note = next((text for pattern, text in _NO_EFFECT.items() if fnmatch.fnmatch(path, pattern)), None)
        if note:
            _log.info("%s: %s has no effect here: %s.", origin, path, note)

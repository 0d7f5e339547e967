"""The same small network trained with one component after the other, to compare what they are worth and cost.

An interrupted sweep goes on where it was, also inside a training. Option files say everything about a training but what
is compared: the mixers of a network that has the argument `mixers`, where one that has a shifted form takes turns with
it, or the encoder of a network that has one. Encoders are small ones of their families; for a network that restores,
those of one stride stand in a pyramid.
"""

from __future__ import annotations

import inspect
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from restore.assembly.networks import as_network, build_network, chosen_device, given_by
from restore.assembly.trainings import options_in, train
from restore.encoders.miniatures import miniatures, with_pyramid
from restore.errors import DataError, OptionsError, Problem, RestoreError, nearest
from restore.evaluation.environment import machine
from restore.evaluation.sweeps import MEASURES, Sweep, bounded_memory, is_clocked, measured, render
from restore.inference.memory import is_out_of_memory
from restore.locks import reserved
from restore.options import Options, load
from restore.options.components import slot_of
from restore.registry import MIXERS
from restore.training.history import HISTORY, read_history

__all__ = ["PAGE", "RECORD", "bodies", "sweep"]

RECORD, PAGE = "sweep.json", "sweep.html"
_SHIFTED = "shifted_"
_PYRAMID_WIDTH = 64

log = logging.getLogger(__name__)


def bodies(names: Sequence[str] | None = None) -> dict[str, list[str]]:
    """The mixers of each body, by name: all that are registered, or some.

    Raises:
        OptionsError: a name that is not registered.
    """
    known = MIXERS.names()
    for name in names or ():
        if name not in known:
            raise OptionsError(f"unknown mixer '{name}'.{nearest(name, known)} Known: {', '.join(known)}.")
    chosen = names or [name for name in known if name.removeprefix(_SHIFTED) not in known or _SHIFTED not in name]
    return {name: [name, *([_SHIFTED + name] if _SHIFTED + name in known else [])] for name in chosen}


def sweep(
    files: Sequence[str | Path],
    output: Path,
    *,
    mixers: Sequence[str] | None = None,
    encoders: Sequence[str] | None = None,
    num_seeds: int = 3,
    iterations: int | None = None,
    remeasure: bool = False,
    measure: bool = True,
    overrides: Sequence[Any] = (),
    say: Callable[[str], None] = log.info,
) -> int:
    """Train and measure; returns the exit code: 0 done, 1 some could not be trained, 130 interrupted.

    Args:
        files: option files of trainings of a network with the argument `mixers` or `encoder`, and a validation that
            gives a PSNR or SRCC.
        output: folder of the record, the page and the trainings.
        mixers: by name; None for all.
        encoders: by name; None for all families in miniature.
        num_seeds: trainings of each.
        iterations: of each training; None for what the files say.
        remeasure: measure time and memory again, also of what was done before.
        measure: measure time and memory of what has not been measured yet; without, only what can be counted is.
        overrides: assignments for all option files.
        say: is told what happens.

    Raises:
        OptionsError: mistakes in the option files, or an unknown mixer or encoder.
        DataError: the folder holds a sweep with other settings, or a training gives neither PSNR nor SRCC.
        OutputError: another process sweeps into this folder.
    """
    bases = {base.name: (file, base) for file in files for base in [load(file, overrides, is_train=True)]}
    tasks = {name: (file, _compared(base, mixers, encoders)) for name, (file, base) in bases.items()}
    settings: dict[str, Any] = {"iterations": iterations}
    for name, (_, base) in bases.items():
        settings[name] = base.digest("path", "logger")
    with reserved(output):
        record = Sweep.opened(output / RECORD, settings, machine())
        trials = list(_trials(tasks, num_seeds, output, iterations, overrides))
        left = [each for each in trials if record.trial(each[0].name, each[1], each[2]) is None]
        say(f"{len(trials)} trainings, {len(trials) - len(left)} done before")
        if remeasure:
            record.costs.clear()
        begun, failed = time.monotonic(), 0
        for number, (options, name, seed) in enumerate(left, 1):
            trial: dict[str, Any] = {"task": options.name, "name": name, "seed": seed}
            since = time.monotonic()
            try:
                with bounded_memory(chosen_device(options)):
                    code = train(options)
                if code != 0:
                    return 130
                quality, value = _last(options)
                trial |= {quality: value, "seconds": time.monotonic() - since}
                _measure(record, options, name, clock=measure)
            except (RestoreError, RuntimeError, MemoryError) as error:
                if not isinstance(error, RestoreError) and not is_out_of_memory(error):
                    raise
                trial["error"] = str(error).partition("\n")[0]
                failed += 1
            record.keep(trial)
            _write(record, output)
            each = (time.monotonic() - begun) / number
            found = f"failed: {trial['error']}" if "error" in trial else f"{quality.upper()} {value:.3f}"
            minutes = each * (len(left) - number) / 60
            say(f"{options.name} {name} seed {seed}: {found}; {len(left) - number} left, {minutes:.0f} min")
        for options, name, seed in trials:
            if record.trial(options.name, name, seed) is not None and _measure(record, options, name, clock=measure):
                say(f"{options.name} {name}: measured again")
                _write(record, output)
        return 1 if failed else 0


def _write(record: Sweep, output: Path) -> None:
    """The record and its page."""
    record.save(output / RECORD)
    (output / PAGE).write_text(render(record, output.name), encoding="utf-8")


def _compared(
    base: Options, mixers: Sequence[str] | None, encoders: Sequence[str] | None
) -> dict[str, tuple[str, Any]]:
    """What a task is trained with, by name: the argument of its network, and its value.

    Raises:
        OptionsError: an unknown name, or a network without such an argument.
    """
    slot, block = slot_of("network_g", base.model_type), base.network_g
    assert slot is not None
    assert block is not None
    arguments = inspect.signature(slot.registry.get(block["type"])).parameters
    if "mixers" in arguments:
        return {name: ("mixers", pair) for name, pair in bodies(mixers).items()}
    if "encoder" in arguments:
        found = miniatures(encoders)
        if given_by(base) != "opinions":
            found = {name: with_pyramid(each, _PYRAMID_WIDTH) for name, each in found.items()}
        return {name: ("encoder", each) for name, each in found.items()}
    message = f"{block['type']} has neither the argument `mixers` nor `encoder`: there is nothing to compare."
    raise OptionsError([Problem("network_g.type", message)])


def _trials(
    tasks: Mapping[str, tuple[str | Path, Mapping[str, tuple[str, Any]]]],
    num_seeds: int,
    output: Path,
    iterations: int | None,
    overrides: Sequence[Any],
) -> Iterator[tuple[Options, str, int]]:
    """Seed by seed, so that there is something to see of every component early on."""
    for seed in range(num_seeds):
        for task, (file, compared) in tasks.items():
            for name, (argument, value) in compared.items():
                place = output / "runs" / task / name / str(seed)
                own = [f"network_g.{argument}={json.dumps(value)}", f"manual_seed={seed}"]
                yield options_in(place, file, [*overrides, *own], iterations), name, seed


def _measure(record: Sweep, options: Options, name: str, *, clock: bool) -> bool:
    """Keep what a body costs, where that is not known yet; returns whether it was not."""
    costs = record.costs.setdefault(options.name, {})
    if name in costs and (is_clocked(costs[name]) or not clock):
        return False
    network = as_network(build_network(options))
    costs[name] = measured(network, network.spec.in_channels, chosen_device(options), clock=clock)
    return True


def _last(options: Options) -> tuple[str, float]:
    """What the last validation measured, and its value."""
    rows = read_history(options.paths.experiments_root / HISTORY)
    keys = [(row, key, key.rpartition("/")[2]) for row in rows.values() for key in row if "/" in key]
    values = [(measure, float(row[key])) for row, key, measure in keys if measure in MEASURES]
    if not values:
        raise DataError(
            f"{options.name}: the training gave neither PSNR nor SRCC. It needs a dataset `val` and such a metric."
        )
    return values[-1]

"""The same small body trained with one mixer after the other, to compare what they are worth and what they cost.

An interrupted sweep goes on where it was, also inside a training. Option files say everything about a training but the
mixers; a mixer that has a shifted form takes turns with it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from restore.assembly.networks import as_network, build_network, chosen_device
from restore.assembly.trainings import train
from restore.errors import DataError, OptionsError, RestoreError, nearest
from restore.evaluation.environment import machine
from restore.evaluation.sweeps import Sweep, bounded_memory, measured, render
from restore.inference.memory import is_out_of_memory
from restore.options import Options, load
from restore.registry import MIXERS
from restore.training.history import HISTORY, read_history

__all__ = ["PAGE", "RECORD", "bodies", "sweep"]

RECORD, PAGE = "sweep.json", "sweep.html"
_SHIFTED = "shifted_"

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
    num_seeds: int = 3,
    iterations: int | None = None,
    remeasure: bool = False,
    overrides: Sequence[Any] = (),
    say: Callable[[str], None] = log.info,
) -> int:
    """Train and measure; returns the exit code: 0 done, 1 some could not be trained, 130 interrupted.

    Args:
        files: option files of trainings of a network with the argument `mixers`, and a validation that gives a PSNR.
        output: folder of the record, the page and the trainings.
        mixers: by name; None for all.
        num_seeds: trainings of each.
        iterations: of each training; None for what the files say.
        remeasure: measure time and memory again, also of what was done before.
        overrides: assignments for all option files.
        say: is told what happens.

    Raises:
        OptionsError: mistakes in the option files, or an unknown mixer.
        DataError: the folder holds a sweep with other settings, or a training gives no PSNR.
    """
    chosen = bodies(mixers)
    tasks = {base.name: file for file in files for base in [load(file, overrides, is_train=True)]}
    settings: dict[str, Any] = {"iterations": iterations}
    for name, file in tasks.items():
        dump = load(file, overrides, is_train=True).dump()
        settings[name] = hashlib.sha256(dump.encode()).hexdigest()[:12]
    record = Sweep.opened(output / RECORD, settings, machine())
    trials = list(_trials(tasks, chosen, num_seeds, output, iterations, overrides))
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
            trial |= {"psnr": _psnr(options), "seconds": time.monotonic() - since}
            _measure(record, options, name)
        except (RestoreError, RuntimeError, MemoryError) as error:
            if not isinstance(error, RestoreError) and not is_out_of_memory(error):
                raise
            trial["error"] = str(error).partition("\n")[0]
            failed += 1
        record.keep(trial)
        _write(record, output)
        each = (time.monotonic() - begun) / number
        found = f"{trial['psnr']:.3f} dB" if "psnr" in trial else f"failed: {trial['error']}"
        minutes = each * (len(left) - number) / 60
        say(f"{options.name} {name} seed {seed}: {found}; {len(left) - number} left, {minutes:.0f} min")
    for options, name, seed in trials:
        if record.trial(options.name, name, seed) is not None and _measure(record, options, name):
            say(f"{options.name} {name}: measured again")
            _write(record, output)
    return 1 if failed else 0


def _write(record: Sweep, output: Path) -> None:
    """The record and its page."""
    record.save(output / RECORD)
    (output / PAGE).write_text(render(record, output.name), encoding="utf-8")


def _trials(
    tasks: Mapping[str, str | Path],
    chosen: dict[str, list[str]],
    num_seeds: int,
    output: Path,
    iterations: int | None,
    overrides: Sequence[Any],
) -> Iterator[tuple[Options, str, int]]:
    """Seed by seed, so that there is something to see of every mixer early on."""
    for seed in range(num_seeds):
        for task, file in tasks.items():
            for name, mixers in chosen.items():
                place = output / "runs" / task / name / str(seed)
                own = [
                    f"network_g.mixers={json.dumps(mixers)}",
                    f"manual_seed={seed}",
                    f"path.experiments_root={place}",
                ]
                if iterations is not None:
                    own += [f"train.total_iter={iterations}", f"train.scheduler.periods=[{iterations}]"]
                options = load(file, [*overrides, *own], is_train=True)
                options._auto_resume = True
                yield options, name, seed


def _measure(record: Sweep, options: Options, name: str) -> bool:
    """Keep what a body costs, where that is not known yet; returns whether it was not."""
    costs = record.costs.setdefault(options.name, {})
    if name in costs:
        return False
    network = as_network(build_network(options))
    costs[name] = measured(network, network.spec.in_channels, chosen_device(options))
    return True


def _psnr(options: Options) -> float:
    """Of the last validation."""
    rows = read_history(options.paths.experiments_root / HISTORY)
    values = [row[key] for row in rows.values() for key in row if key.endswith("/psnr")]
    if not values:
        raise DataError(f"{options.name}: the training gave no PSNR. It needs a dataset `val` and the metric psnr.")
    return float(values[-1])

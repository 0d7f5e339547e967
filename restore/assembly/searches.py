"""The best network of a space under a bound, as an option file with weights that a training goes on from.

The option file is that of a training, with a section `search`. First a supernet is trained, or all mixers side by side;
then networks are measured and compared; what is found is written beside a copy of the option file. Each part goes on
where it was interrupted. Another bound, in the same folder, begins with what is there.
"""

from __future__ import annotations

import json
import logging
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from restore.analysis.cost import count_parameters
from restore.assembly.networks import chosen_device, shape_of_network
from restore.assembly.search_options import (
    comparison_of,
    read_search,
    supernet_of,
    training_options,
    weights_of_training,
)
from restore.assembly.trainings import train
from restore.errors import DataError, OptionsError
from restore.evaluation.environment import machine
from restore.evaluation.searches import (
    Evolution,
    LatencyPredictor,
    Search,
    evolve,
    measure_round,
    rank_correlation,
    render,
)
from restore.files import atomic_write, encoded
from restore.locks import reserved
from restore.networks.checkpoint import NETWORK_BLOCK
from restore.networks.elastic import Choice, Space, Supernet, num_parameters
from restore.networks.elastic.pruning import importances, pruned
from restore.networks.elastic.space import AXES
from restore.networks.metaformer import MetaFormerRestorer
from restore.options import Options, load
from restore.options.schema.search import SearchOptions
from restore.registry import NETWORKS
from restore.training.checkpoints import save_file

__all__ = ["PAGE", "RECORD", "Bound", "search"]

RECORD, PAGE = "search.json", "search.html"
_HELD_OUT = 5  # every so many networks that are measured, one is left out to see how well the others predict it
_FINALISTS = 10
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bound:
    """What a network may cost.

    Attributes:
        parameters: at most; None for any number.
        milliseconds: at most, for an image of `search.image_px`; None for any.
    """

    parameters: int | None = None
    milliseconds: float | None = None

    def __str__(self) -> str:
        parts = [] if self.milliseconds is None else [f"{self.milliseconds:g}ms"]
        return "_".join([*parts, *([] if self.parameters is None else [f"{self.parameters}params"])])


@dataclass(frozen=True)
class Found:
    """A network that keeps a bound.

    Attributes:
        block: its option block.
        state: its weights.
        score: what it reaches with them.
    """

    block: dict[str, Any]
    state: dict[str, torch.Tensor]
    score: float


@dataclass
class _Run:
    """What the parts of a search have in common."""

    file: str | Path
    overrides: Sequence[Any]
    options: Options
    how: SearchOptions
    space: Space
    output: Path
    record: Search
    bound: Bound
    channels: int
    seed: int
    say: Callable[[str], None]

    def save(self, predictor: LatencyPredictor | None = None) -> None:
        """The record and its page."""
        self.record.save(self.output / RECORD)
        predicted = [predictor(tuple(each)) for each in self.record.measured] if predictor else None
        (self.output / PAGE).write_text(render(self.record, self.options.name, predicted), encoding="utf-8")


def search(
    file: str | Path,
    output: Path,
    bound: Bound,
    *,
    iterations: int | None = None,
    overrides: Sequence[Any] = (),
    say: Callable[[str], None] = log.info,
) -> int:
    """Search; returns the exit code: 0 done, 130 interrupted, and the same command goes on.

    Args:
        file: option file of a training with a section `search` and a dataset `val`.
        output: folder of everything that is written.
        bound: what the network may cost.
        iterations: of the supernet's training; None for what the file says.
        overrides: assignments for the option file.
        say: is told what happens.

    Raises:
        OptionsError: mistakes in the option file, or a bound that no network keeps.
        DataError: the folder holds a search with other settings, or there is nothing to compare networks on.
    """
    options, how, space = read_search(file, overrides)
    training = training_options(file, overrides, output, iterations)
    smallest = num_parameters(space, space.smallest())
    if how.means == "evolution" and bound.parameters is not None and smallest > bound.parameters:
        raise OptionsError(
            f"--params {bound.parameters:,}: the smallest network of search.space has {smallest:,} parameters. Allow "
            "more, or give smaller values to choose from."
        )
    measuring = {"image_px": how.image_px, "num_measured": how.num_measured}
    comparing = {"crop_px": how.crop_px, "max_images": how.max_images}
    learning = {"sampling": how.sampling, "num_drawn": how.num_drawn, "path_weight": how.path_weight}
    settings = {"training": training.digest("path", "search"), "means": how.means, **learning, **measuring, **comparing}
    output.mkdir(parents=True, exist_ok=True)
    with reserved(output):
        record = Search.opened(output / RECORD, settings, machine())
        record.save(output / RECORD)  # from here on, the folder is for these settings
        seed = options.manual_seed or 0
        shape = shape_of_network(options)
        channels = shape.spec.in_channels if shape is not None else 3
        run = _Run(file, overrides, options, how, space, output, record, bound, channels, seed, say)
        code = _trained(training, say)
        known = (output / f"{bound}.pth").is_file() and record.found.get(str(bound), {}).get("how") == how.resolved()
        if code == 0 and known:
            say(f"found before: {output / str(bound)}.yml and .pth")
        elif code == 0:
            (_pruned if how.means == "paths" else _evolved)(run, training)
    return code


def _trained(training: Options, say: Callable[[str], None]) -> int:
    """Train, unless that was done before; returns the exit code."""
    if weights_of_training(training).is_file():
        say(f"trained before: {weights_of_training(training)}")
        return 0
    return train(training)


def _evolved(run: _Run, training: Options) -> None:
    """Measure, evolve, and write what is found."""
    supernet, space, record, bound = supernet_of(training), run.space, run.record, run.bound
    assert isinstance(supernet, Supernet)
    predictor = _predictor(run, supernet) if bound.milliseconds is not None else None
    measure, comparison = comparison_of(run.options, supernet)

    def score(choice: Choice) -> float:
        key = space.key(choice)
        if key not in record.scores:
            record.scores[key] = comparison(supernet.network_of(choice))
        return record.scores[key]

    def fits(choice: Choice) -> bool:
        if bound.parameters is not None and num_parameters(space, choice) > bound.parameters:
            return False
        return predictor is None or bound.milliseconds is None or predictor(choice) <= bound.milliseconds

    def after(generation: int, ranked: list[tuple[Choice, float]]) -> None:
        record.save(run.output / RECORD)
        run.say(f"generation {generation}: {len(ranked)} networks, the best {measure} {ranked[0][1]:.3f}")

    how = Evolution(run.how.generations, run.how.population, run.how.parents, run.how.mutation)
    try:
        with torch.no_grad():
            ranked = evolve(space, score, fits, how, seed=run.seed, after=after)
            choice = _first_within(run, supernet, [each for each, _ in ranked])
            own = space.choice_of(space.network)
            own_score = None if own is None else score(own)
    finally:
        record.save(run.output / RECORD)
    found = Found(space.block(choice), supernet.weights_of(choice), record.scores[space.key(choice)])
    costs = [predictor(each) if predictor else num_parameters(space, each) for each, _ in ranked]
    _write(
        run,
        found,
        own_score,
        measure,
        {
            "choice": list(choice),
            "best": [{"cost": cost, "score": value} for cost, (_, value) in zip(costs, ranked, strict=True)],
            "unit": "ms, predicted" if predictor else "parameters",
        },
    )
    run.save(predictor)


def _predictor(run: _Run, supernet: Supernet) -> LatencyPredictor:
    """Measure what was not measured yet, and learn from it."""
    record, how = run.record, run.how
    if not record.measured:
        generator = random.Random(run.seed)
        drawn: dict[str, list[int]] = {}
        for _ in range(50 * how.num_measured):
            choice = run.space.drawn(generator)
            drawn.setdefault(run.space.key(choice), list(choice))
            if len(drawn) == how.num_measured:
                break
        record.measured = list(drawn.values())
    choices = [tuple(each) for each in record.measured]
    for number in range(len(record.rounds), how.rounds):
        record.rounds.append(_round(run, [partial(supernet.network_of, each) for each in choices], number))
        record.save(run.output / RECORD)
        run.say(f"{len(choices)} networks measured, {number + 1} of {how.rounds} times")
    milliseconds = record.milliseconds()
    left = [number for number in range(len(choices)) if number % _HELD_OUT]
    out = [number for number in range(len(choices)) if number % _HELD_OUT == 0]
    if len(out) > 2:
        part = LatencyPredictor(run.space, how.image_px, [choices[n] for n in left], [milliseconds[n] for n in left])
        record.correlation = rank_correlation([part(choices[n]) for n in out], [milliseconds[n] for n in out])
        run.say(f"milliseconds of {len(out)} others are predicted with a rank correlation of {record.correlation:.3f}")
    return LatencyPredictor(run.space, how.image_px, choices, milliseconds)


def _first_within(run: _Run, supernet: Supernet, ranked: Sequence[Choice]) -> Choice:
    """The best network that keeps the milliseconds also when it is measured."""
    if run.bound.milliseconds is None:
        return ranked[0]
    for start in range(0, len(ranked), _FINALISTS):
        group = ranked[start : start + _FINALISTS]
        medians = _medians(run, [partial(supernet.network_of, each) for each in group])
        for choice, measured in zip(group, medians, strict=True):
            if measured <= run.bound.milliseconds:
                return choice
        run.say(
            f"none of {len(group)} networks keeps {run.bound.milliseconds:g} ms when it is measured; looking further"
        )
    raise DataError(
        f"no network that was predicted to take {run.bound.milliseconds:g} ms does so when it is measured: is the "
        "machine busier than before? Allow more, or measure again in another folder."
    )


def _pruned(run: _Run, training: Options) -> None:
    """Leave the paths that count for least out, one after the other, until the bound is kept; write what is left."""
    network, bound = supernet_of(training), run.bound
    assert isinstance(network, MetaFormerRestorer)
    assert training.network_g is not None
    measure, comparison = comparison_of(run.options, network)
    sizes = importances(network)
    kept = [[number for at, number in sizes if at == place] for place in range(len(training.network_g["mixers"]))]
    while True:
        block, state = pruned(network, training.network_g, kept)
        candidate = _loaded(block, state)
        milliseconds = None if bound.milliseconds is None else _medians(run, [lambda it=candidate: it])[0]  # type: ignore[misc]
        over = (bound.parameters is not None and count_parameters(candidate) > bound.parameters) or (
            bound.milliseconds is not None and milliseconds is not None and milliseconds > bound.milliseconds
        )
        if not over:
            break
        several = {at: size for at, size in sizes.items() if len(kept[at[0]]) > 1 and at[1] in kept[at[0]]}
        if not several:
            costs = f"{count_parameters(candidate):,} parameters" + (f", {milliseconds:.2f} ms" if milliseconds else "")
            raise DataError(f"with one mixer at each place it still takes more than the bound ({costs}): allow more.")
        place, number = min(several, key=lambda at: several[at])
        kept[place].remove(number)
        run.say(f"left out at place {place}: {training.network_g['mixers'][place]['mixers'][number]}")
    _write(run, Found(block, state, comparison(candidate.to(chosen_device(training)))), None, measure, {})
    run.save()


def _loaded(block: dict[str, Any], state: dict[str, torch.Tensor]) -> MetaFormerRestorer:
    network: MetaFormerRestorer = NETWORKS.build(block, path="network_g")
    network.load_state_dict(state)
    return network.eval()


def _round(run: _Run, networks: Sequence[Callable[[], nn.Module]], number: int) -> list[float]:
    """Milliseconds of each network, once."""
    return measure_round(networks, run.channels, run.how.image_px, run.seed + number, chosen_device(run.options))


def _medians(run: _Run, networks: Sequence[Callable[[], nn.Module]]) -> list[float]:
    """Milliseconds of each network, the median over rounds in which all have their turn."""
    rounds = [_round(run, networks, number) for number in range(run.how.rounds)]
    return [statistics.median(each) for each in zip(*rounds, strict=True)]


def _write(run: _Run, found: Found, own_score: float | None, measure: str, more: dict[str, Any]) -> None:
    """The option file, the weights and the entry of the record for what was found under a bound."""
    label, own = str(run.bound), run.space.network
    weights = (run.output / f"{label}.pth").absolute()
    save_file({"params": found.state, NETWORK_BLOCK: found.block}, weights)
    changes = [
        f"network_g={json.dumps(found.block)}",
        f"path.pretrain_network_g={weights}",
        "path.param_key_g=params",
        f"name={run.options.name}_{label}",
        "search=~",
    ]
    with atomic_write(run.output / f"{label}.yml") as stream:
        stream.write(encoded(load(run.file, [*run.overrides, *changes], is_train=True).dump()))
    networks = [_loaded(found.block, found.state), NETWORKS.build(own, path="network_g").eval()]
    milliseconds: list[float | None] = [None, None]
    if run.bound.milliseconds is not None:
        device = chosen_device(run.options)
        milliseconds = [*_medians(run, [partial(_same, each.to(device)) for each in networks])]
    rows = {
        name: {"score": value, "parameters": count_parameters(network), "ms": ms, "text": _text(block)}
        for name, value, network, ms, block in zip(
            ("found", "own"), (found.score, own_score), networks, milliseconds, (found.block, own), strict=True
        )
    }
    run.record.found[label] = {**rows, "measure": measure, "how": run.how.resolved(), "network_g": found.block, **more}
    took = "" if milliseconds[0] is None else f", {milliseconds[0]:.2f} ms"
    run.say(
        f"found {_text(found.block)}: {measure} {found.score:.3f}, {rows['found']['parameters']:,} parameters{took}"
    )
    run.say(f"{run.output / label}.yml and .pth: restore train -opt goes on from there")


def _same(network: nn.Module) -> nn.Module:
    return network


def _text(block: dict[str, Any]) -> str:
    """What the network is, in one line."""
    return ", ".join(f"{name} {json.dumps(block[name])}" for name in AXES if name in block).replace('"', "")

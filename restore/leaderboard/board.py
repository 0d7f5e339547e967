"""A local leaderboard: runs as JSON lines, the organisers' results.json beside them, and their ranks."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from restore.errors import DataError, OutputError
from restore.leaderboard.formulas import eligible, score_esr
from restore.leaderboard.organisers import read_results
from restore.leaderboard.tracks import TRACKS, Track, find_track

__all__ = ["Entry", "Ranked", "add_entry", "load_entries", "rank"]


@dataclass(frozen=True)
class Entry:
    """One run.

    Attributes:
        name: of the model.
        track: name of the track.
        scores: figures by name: psnr, ssim, main, perceptual, psnr_test ...
        cost: runtime_ms, params_m, flops_g, activations_m, num_conv, memory_mib, as far as they are known.
        dataset: what it was measured on.
        date: when, as YYYY-MM-DD.
        source: file that it was read from; empty for runs of one's own.
    """

    name: str
    track: str
    scores: dict[str, float]
    cost: dict[str, float] = field(default_factory=dict)
    dataset: str = ""
    date: str = ""
    source: str = ""


@dataclass(frozen=True)
class Ranked:
    """An entry with its place.

    Attributes:
        place: from 1 on; entries with equal figures share it. None where the figure is missing or too low to count.
        value: the figure that it is ranked by.
        note: why it has no place.
    """

    entry: Entry
    place: int | None
    value: float | None
    note: str = ""


def add_entry(board: str | Path, entry: Entry) -> None:
    """Append a run to a leaderboard; the file is made if it is not there.

    Raises:
        OutputError: it cannot be written.
    """
    path = Path(board)
    entry = entry if entry.date else Entry(**{**asdict(entry), "date": datetime.date.today().isoformat()})
    line = json.dumps({key: value for key, value in asdict(entry).items() if value})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror or error}") from error


def load_entries(paths: Iterable[str | Path], *, track: str = "esr") -> list[Entry]:
    """The entries of leaderboards (.jsonl) and of the organisers' files (.json), in this order.

    Args:
        track: what the models of organisers' files took part in; the files do not say.

    Raises:
        DataError: a file is neither.
    """
    entries: list[Entry] = []
    for path in map(Path, paths):
        if path.suffix == ".json":
            entries += [_organisers(model, entry, track, path) for model, entry in read_results(path).items()]
        else:
            entries += _lines(path)
    return entries


def rank(entries: Sequence[Entry], *, year: int = 2025) -> dict[Track, list[Ranked]]:
    """The entries of each track, best first; those without a place come last.

    Args:
        year: whose formula and limits rank efficient SR.
    """
    ranked = {}
    for track in TRACKS.values():
        judged = [_judge(entry, track, year) for entry in entries if entry.track == track.name]
        if judged:
            ranked[track] = _placed(judged, track)
    return ranked


def _judge(entry: Entry, track: Track, year: int) -> Ranked:
    if track.name != "esr":
        value = entry.scores.get(track.score, entry.scores.get(f"{track.score}_test"))
        return Ranked(entry, None, value, "" if value is not None else f"no {track.score}")
    needed = ("runtime_ms", "flops_g", "params_m")
    if any(not entry.cost.get(key) for key in needed):
        return Ranked(entry, None, None, "cost not measured")
    value = score_esr(*(entry.cost[key] for key in needed), year=year)
    psnr = {"valid": entry.scores.get("psnr"), "test": entry.scores.get("psnr_test")}
    known = {split: figure for split, figure in psnr.items() if figure is not None}
    return Ranked(entry, None, value, "" if eligible(known, year) else f"PSNR below the limit of {year}")


def _placed(judged: list[Ranked], track: Track) -> list[Ranked]:
    sign = -1 if track.higher_is_better else 1
    counted = sorted((item for item in judged if item.value is not None and not item.note), key=_by_value(sign))
    rest = [item for item in judged if item not in counted]
    rest.sort(key=lambda item: -item.entry.scores.get("psnr", -math.inf))
    values = [item.value for item in counted]
    return [Ranked(item.entry, values.index(item.value) + 1, item.value) for item in counted] + rest


def _by_value(sign: int) -> Any:
    return lambda item: sign * item.value


def _organisers(model: str, entry: Mapping[str, Any], track: str, path: Path) -> Entry:
    splits = [split for split in ("valid", "test") if f"{split}_ave_psnr" in entry]
    keys = {"valid": "psnr", "test": "psnr_test"}
    runtimes = [entry[f"{split}_ave_runtime"] for split in splits]
    return Entry(
        name=model,
        track=find_track(track).name,
        scores={keys[split]: entry[f"{split}_ave_psnr"] for split in splits},
        cost={
            "runtime_ms": sum(runtimes) / len(runtimes),
            "params_m": entry["num_parameters"],
            "flops_g": entry["flops"],
            "activations_m": entry["activations"],
            "num_conv": entry["num_conv"],
            "memory_mib": entry[f"{splits[0]}_memory"],
        },
        dataset=" and ".join(splits),
        source=path.name,
    )


def _lines(path: Path) -> list[Entry]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read '{path}': {getattr(error, 'strerror', None) or error}.") from error
    entries = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = Entry(**json.loads(line))
            if "memory_mb" in entry.cost:  # as boards called it that are older than this name
                entry.cost["memory_mib"] = entry.cost.pop("memory_mb")
            find_track(entry.track)
            if not all(isinstance(value, (int, float)) for value in {**entry.scores, **entry.cost}.values()):
                raise TypeError("scores and cost are numbers")
        except (ValueError, TypeError) as error:
            raise DataError(f"'{path}', line {number} is not a leaderboard entry: {error}.") from error
        entries.append(entry)
    return entries

"""`restore leaderboard`: score submissions as the organisers do, and keep a table of runs.

restore leaderboard score sr_x4 INPUT OUTPUT          INPUT/res and INPUT/ref, as on CodaLab and Codabench
restore leaderboard score esr INPUT OUTPUT --year 2025 --cost results.json
restore leaderboard table board.jsonl results.json -o leaderboard.html
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from restore.commands.arguments import add_json
from restore.errors import OptionsError
from restore.terminal import tell_json

if TYPE_CHECKING:
    from restore.leaderboard.scoring import Scores

__all__ = ["add_arguments", "run"]

TRACK_NAMES = ("sr_x4", "esr", "denoise50", "perceptual_iqa", "sidd", "dnd")
COSTS = ("runtime_ms", "flops_g", "params_m")
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the two actions and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    scoring = actions.add_parser("score", help="score INPUT/res against INPUT/ref into OUTPUT/scores.txt and .json")
    scoring.add_argument("track", choices=TRACK_NAMES, help="by whose rules")
    scoring.add_argument("input", type=Path, help="folder with res (the submission or its zip) and ref (references)")
    scoring.add_argument("output", type=Path, help="folder of the scores")
    scoring.add_argument("--protocol", help="another protocol than the track's, such as ntire_sr25_eval")
    scoring.add_argument("--perceptual", action="store_true", help="also the perceptual score of SR x4 (needs pyiqa)")
    scoring.add_argument("--year", type=int, help="of efficient SR: also its score, from what the network costs")
    scoring.add_argument("--cost", type=Path, metavar="RESULTS_JSON", help="what the network costs, measured before")
    scoring.add_argument("--runtime-ms", type=float, help="milliseconds per image, instead of those in --cost")
    scoring.add_argument("--flops-g", type=float, help="multiply-adds at 256x256 in 10^9, instead of those in --cost")
    scoring.add_argument("--params-m", type=float, help="parameters in 10^6, instead of those in --cost")
    scoring.add_argument("--split", choices=("valid", "test"), default="valid", help="which set of efficient SR it is")
    scoring.add_argument("--board", type=Path, help="add the scores to this local leaderboard (.jsonl)")
    scoring.add_argument("--name", default="submission", help="name of the run on the leaderboard")
    table = actions.add_parser("table", help="render leaderboards and organisers' results.json as a page and Markdown")
    table.add_argument("files", nargs="+", type=Path, metavar="FILE", help="board.jsonl or results.json")
    table.add_argument("-o", "--output", type=Path, default=Path("leaderboard.html"), help="the page; .md beside it")
    table.add_argument("--year", type=int, default=2025, help="whose formula ranks efficient SR")
    table.add_argument("--track", choices=TRACK_NAMES, default="esr", help="of the models in results.json files")
    for action in (scoring, table):
        add_json(action, "lines" if action is scoring else "nothing, beside the page")
    table.add_argument("--title", default="Leaderboard", help="heading of the page")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked; returns the exit code."""
    return {"score": _score, "table": _table}[arguments.action](arguments)


def _score(arguments: argparse.Namespace) -> int:
    from restore.leaderboard.scoring import Scorer, figure, score_program
    from restore.leaderboard.tracks import find_track

    track = find_track(arguments.track)
    if arguments.year is not None and track.name != "esr":
        raise OptionsError("--year belongs to the track esr.")
    named = [name for name in ("cost", *COSTS) if getattr(arguments, name) is not None]
    if named and arguments.year is None and arguments.board is None:
        raise OptionsError(f"--{named[0].replace('_', '-')} has no effect without --year (of esr) or --board.")
    if arguments.perceptual and track.name != "sr_x4":
        raise OptionsError("--perceptual belongs to the track sr_x4.")
    scorer = Scorer(
        track, arguments.protocol, arguments.perceptual, arguments.year, _cost(arguments) or None, arguments.split
    )
    scores = score_program(scorer, arguments.input, arguments.output)
    if arguments.json:
        tell_json(scores.values)
    for name, value in scores.values.items():
        logger.info("%s: %s", name, figure(value))
    if arguments.board:
        _add(arguments, scores)
    return 0


def _add(arguments: argparse.Namespace, scores: Scores) -> None:
    from restore.leaderboard.board import Entry, add_entry

    wanted = ("main", "srcc", "plcc", "perceptual", "psnr", "ssim")
    values = {name: scores.values[name] for name in wanted if name in scores.values}
    if arguments.split == "test" and "psnr" in values:
        values["psnr_test"] = values.pop("psnr")
    add_entry(arguments.board, Entry(arguments.name, arguments.track, values, _cost(arguments), arguments.split))


def _cost(arguments: argparse.Namespace) -> dict[str, float]:
    """What the network costs: from a results.json with one model, and from the arguments, which win."""
    from restore.leaderboard.board import load_entries

    found: dict[str, float] = {}
    if arguments.cost:
        entries = load_entries([arguments.cost])
        if len(entries) != 1:
            raise OptionsError(f"'{arguments.cost}' holds {len(entries)} models; --cost takes a file with one.")
        found = dict(entries[0].cost)
    given = {name: getattr(arguments, name) for name in COSTS}
    return found | {name: value for name, value in given.items() if value is not None}


def _table(arguments: argparse.Namespace) -> int:
    from restore.files import atomic_write
    from restore.leaderboard.board import load_entries, rank
    from restore.leaderboard.page import render_html, render_markdown

    board = rank(load_entries(arguments.files, track=arguments.track), year=arguments.year)
    pages = {
        arguments.output: render_html(board, year=arguments.year, title=arguments.title),
        arguments.output.with_suffix(".md"): render_markdown(board, year=arguments.year),
    }
    for path, text in pages.items():
        with atomic_write(path) as file:
            file.write(text.encode())
        logger.info("wrote %s", path)
    if arguments.json:
        tell_json({track.name: [asdict(each) for each in ranked] for track, ranked in board.items()})
    return 0

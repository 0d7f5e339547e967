"""Which network of a space is best under a bound: measured, predicted, evolved, kept and drawn."""

from restore.evaluation.searches.evolution import Evolution, evolve
from restore.evaluation.searches.latency import LatencyPredictor, measure_round, rank_correlation
from restore.evaluation.searches.page import render
from restore.evaluation.searches.results import Search
from restore.evaluation.searches.scoring import Comparison

__all__ = [
    "Comparison",
    "Evolution",
    "LatencyPredictor",
    "Search",
    "evolve",
    "measure_round",
    "rank_correlation",
    "render",
]

"""Scoring: measure images that are there already, against references or by themselves."""

from restore.evaluation.scoring.pairs import Matching, match
from restore.evaluation.scoring.results import ImageScore, Scores
from restore.evaluation.scoring.run import score
from restore.evaluation.scoring.settings import Settings, settings

__all__ = ["ImageScore", "Matching", "Scores", "Settings", "match", "score", "settings"]

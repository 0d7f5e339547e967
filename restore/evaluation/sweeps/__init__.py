"""What a sweep over components found: kept as it grows, and drawn as quality against cost."""

from restore.evaluation.sweeps.measuring import SIDES, bounded_memory, is_clocked, measured
from restore.evaluation.sweeps.page import render
from restore.evaluation.sweeps.results import MEASURES, Sweep

__all__ = ["MEASURES", "SIDES", "Sweep", "bounded_memory", "is_clocked", "measured", "render"]

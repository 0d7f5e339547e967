"""Several models on the same images: who took how long, and a page with a slider between any two results."""

from restore.evaluation.comparing.run import Compared, Comparison, compare

__all__ = ["Compared", "Comparison", "compare"]

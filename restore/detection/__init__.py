"""Detectors: what is where in an image, such as the defects of a photograph.

detector = load_detector("defects_small")
findings = restore.inference.finding.find(detector, pixels)       # (kind, box, score) each, the surest first
"""

from restore.detection.base import KINDS, Detector, Finding
from restore.detection.loading import load_detector

__all__ = ["KINDS", "Detector", "Finding", "load_detector"]

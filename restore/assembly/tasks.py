"""What a network can learn, by name, and which dataset makes its inputs where there are only good images."""

from __future__ import annotations

from typing import Any

__all__ = ["TASKS", "inputs_of"]

TASKS = {
    "sr": "to enlarge",
    "denoise": "to remove Gaussian noise",
    "jpeg": "to remove JPEG artefacts",
    "deblur": "to remove blur",
    "derain": "to remove rain",
}
"""What each is for."""


def inputs_of(task: str, *, sigma: float = 50, quality: int = 10) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The type and options of the dataset in training and in validation; None for a task that is learned from pairs.

    Args:
        task: one of `TASKS`.
        sigma: largest level of noise in training, for denoise; half of it is validated on.
        quality: lowest JPEG quality in training, for jpeg; twice as much is validated on.
    """
    if task == "sr":
        return {"type": "DownsampledImageDataset"}, {"type": "DownsampledImageDataset"}
    if task == "denoise":
        kind = {"type": "GaussianNoiseDataset"}
        return {**kind, "sigma_type": "random", "sigma_range": [0, sigma]}, {**kind, "sigma_test": sigma / 2}
    if task == "jpeg":
        kind = {"type": "DegradedImageDataset", "recipe": "jpeg"}
        validated = min(95, 2 * quality)
        return {**kind, "variables": {"quality": [quality, 90]}}, {**kind, "variables": {"quality": validated}}
    return None

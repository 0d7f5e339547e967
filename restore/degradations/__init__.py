"""Degradation synthesis: operators on (B, C, H, W) tensors in [0, 1], and pipelines of them as YAML.

    from restore.degradations import load_pipeline, sample_seed

    pipeline = load_pipeline("realesrgan", scale=4)
    pairs = pipeline(gt_BCHW, seeds=[sample_seed(0, index) for index in range(len(gt_BCHW))])
    pairs["lq"], pairs["gt"], pairs["parameters"]

The names below are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

_LAZY = {
    "Label": "labels",
    "PairPool": "pairs",
    "Pipeline": "recipe.pipeline",
    "crop_pairs": "pairs",
    "list_pipelines": "recipe.pipeline",
    "load_pipeline": "recipe.pipeline",
    "parse_pipeline": "recipe.pipeline",
    "pasted": "labels",
    "pipeline_from_options": "recipe.basicsr",
    "sample_seed": "recipe.draw",
}

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

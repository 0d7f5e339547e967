"""Prints the table of docs/encoders.md: every encoder of ours with its variants, parameters, strides and source.

    python scripts/encoder_table.py

Parameters are those of a classifier with 1000 classes, in millions, counted without allocating them.
"""

from __future__ import annotations

import inspect
import re
import sys

import torch

from restore.encoders import Classifier, build_encoder
from restore.registry import ENCODERS

SKIPPED = ("timm", "pyramid")


def main() -> None:
    """Print one row for each family."""
    print("| name | what it is | strides | variants: millions of parameters | source |")
    print("|---|---|---|---|---|")
    for family in ENCODERS:
        component = ENCODERS.get(family)
        component = getattr(component, "func", component)
        if family in SKIPPED or any(family in ENCODERS.variants(other) for other in ENCODERS):
            continue
        module = inspect.getdoc(sys.modules[component.__module__]) or ""
        variants = ENCODERS.variants(family) or (family,)
        counted = [f"`{name.removeprefix(family + '_')}` {millions(name):.1f}" for name in variants]
        arxiv = ", ".join(dict.fromkeys(re.findall(r"arXiv (\d{4}\.\d{4,5})", module)))
        with torch.device("meta"):
            strides = sorted({*build_encoder(variants[0]).strides})
        about = module.partition("\n")[0].rstrip(".")
        print(f"| `{family}` | {about} | {', '.join(map(str, strides))} | {', '.join(counted)} | {arxiv} |")


def millions(name: str) -> float:
    """Parameters of a classifier with 1000 classes."""
    with torch.device("meta"):
        return sum(p.numel() for p in Classifier(build_encoder(name), 1000).parameters()) / 1e6


if __name__ == "__main__":
    main()

"""docs/encoders.md lists every encoder of ours with all its variants, and the numbers are those of the networks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from restore.encoders import Classifier, build_encoder
from restore.registry import ENCODERS
from restore.zoo.components import describe

TEXT = (Path(__file__).parents[2] / "docs" / "encoders.md").read_text(encoding="utf-8")
ROWS = {
    line.split("`")[1]: line for line in TEXT.partition("## Published weights")[0].splitlines() if line[:3] == "| `"
}


def families() -> list[str]:
    found = []
    for family in ENCODERS:
        component = ENCODERS.get(family)
        module = getattr(component, "func", component).__module__
        variant = any(family in ENCODERS.variants(other) for other in ENCODERS)
        if not variant and module.startswith("restore.encoders.") and not module.startswith("restore.encoders.timm"):
            found.append(family)
    return [family for family in found if family != "pyramid"]  # which is made of another


def test_every_encoder_has_a_row():
    assert ROWS.keys() == {*families()}


def test_weights_are_offered_where_there_are_some():
    assert [describe("encoder", name).weights for name in ("mini_deit", "hr_nas", "visual_transformer")] == [
        "of the official code", "", ""
    ]  # fmt: skip


@pytest.mark.parametrize("family", ROWS)
def test_the_row_is_true(family):
    variants = ENCODERS.variants(family) or (family,)
    listed = dict(re.findall(r"`(\w+)` (\d+\.\d)", ROWS[family].split("|")[4]))
    assert [*listed] == [name.removeprefix(f"{family}_") for name in variants]
    with torch.device("meta"):
        encoder = build_encoder(variants[0])
        count = sum(each.numel() for each in Classifier(encoder, 1000).parameters())
    assert listed[variants[0].removeprefix(f"{family}_")] == f"{count / 1e6:.1f}"
    strides = ", ".join(str(stride) for stride in sorted({*encoder.strides}))
    assert ROWS[family].split("|")[3].strip() == strides

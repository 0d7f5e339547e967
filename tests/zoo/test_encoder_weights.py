"""Cards of weights of encoders: names, variants and arguments are those of the encoders, and the page lists them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from restore.registry import ENCODERS
from restore.zoo.components import describe
from restore.zoo.encoder_weights import list_encoder_weights

PAGE = Path("docs/encoders.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", list_encoder_weights())
def test_the_encoder_is_there_and_takes_the_arguments(name):
    card, known = list_encoder_weights()[name], ENCODERS.variants(name)
    variants = [f"{name}_{variant}" for variant in card.variants]
    assert {*variants} <= {*known}
    with torch.device("meta"):
        ENCODERS.build({"type": next(iter(variants or known)), **card.arguments})
    assert card.page in PAGE.partition("## Published weights")[2]
    assert f"| `{name}` |" in PAGE.partition("## Published weights")[2]


def test_a_component_says_where_its_weights_are():
    found = describe("encoder", "t2t_vit_14")
    assert found.weights == "of the official code"
    assert "yitu-opensource/T2T-ViT (Clear BSD); with width_scale: true" in found.offered
    assert {describe("encoder", name).weights for name in ("afno", "amixer", "hr_nas", "cpvt")} == {""}
    assert describe("encoder", "swin").weights == "timm"

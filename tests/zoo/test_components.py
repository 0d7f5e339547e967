"""What docstrings say of components, and that they say it of every one."""

from __future__ import annotations

import sys

import pytest

from restore.registry import ENCODERS
from restore.zoo.components import _code, _paper, describe, fields_of, find_components, list_components
from restore.zoo.load import KINDS

OURS = {"conv_pyramid", "timm", "none"}  # of no paper


@pytest.mark.parametrize("kind", ["encoder", "mixer", "feed_forward", "placement", "norm", "position", "network"])
def test_every_name_has_a_paper_and_a_year(kind):
    found = [each for each in list_components(kind) if _is_ours(kind, each.name)]
    variants = {variant for name in KINDS[kind] for variant in KINDS[kind].variants(name)}
    ours = [name for name in KINDS[kind] if name not in variants and _is_ours(kind, name)]
    assert [each.name for each in found] == ours
    assert [each.name for each in found if not each.year and each.name not in OURS] == []
    assert [each.name for each in found if each.code and not each.licence] == []
    assert [each.name for each in found if not each.about] == []
    assert all(1980 < each.year < 2100 and str(each.year) in each.paper for each in found if each.year)


def _is_ours(kind, name):
    """Whether it is part of the package; other tests load plugins."""
    component = KINDS[kind].get(name)
    return getattr(component, "func", component).__module__.startswith("restore.")


def test_variants_are_described_as_their_family():
    family, variant = describe("encoder", "hornet"), describe("encoder", "hornet_tiny")
    assert (variant.paper, variant.code, variant.about) == (family.paper, family.code, family.about)
    assert "hornet_tiny" in family.variants
    assert describe("encoder", "cait_s24").arxiv == describe("encoder", "cait").arxiv == "2103.17239"


def test_encoders_whose_keys_are_kept_are_compared_with_official_code():
    from sampling import encoders
    from test_convolution import PARAMETERS

    blocks = [*encoders().values(), *PARAMETERS]
    compared = {block if isinstance(block, str) else block["type"] for block in blocks}
    modules = {_module(name) for name in compared}
    claimed = [each.name for each in list_components("encoder") if each.checked == "the official code"]
    assert len(claimed) > 15
    assert [name for name in claimed if _module(name) not in modules] == []


def _module(name: str) -> str:
    component = ENCODERS.get(name)
    return getattr(component, "func", component).__module__


@pytest.mark.parametrize(
    ("kind", "name", "paper", "arxiv", "code", "licence"),
    [
        ("mixer", "outlook", "Yuan et al. 2021", "2106.13112", "github.com/sail-sg/volo", "Apache-2.0"),
        ("mixer", "attention", "Vaswani et al. 2017", "1706.03762", None, None),
        ("mixer", "adaptive_mixing", "Rao et al. 2022", None, "github.com/raoyongming/AMixer", "MIT"),
        ("mixer", "gated_conv", "Yu & Wang 2024", "2405.07992", None, None),
        ("mixer", "refined", "Zhou et al. 2021", "2106.03714", "github.com/zhoudaquan/Refiner_ViT", "no licence"),
        ("feed_forward", "light", "Mehta et al. 2020", "2008.00623", "github.com/sacmehta/delight", "MIT"),
        ("feed_forward", "grn_mlp", "Woo et al. 2023", "2301.00808", None, None),
        ("feed_forward", "mlp", "Vaswani et al. 2017", "1706.03762", None, None),
        ("feed_forward", "glu", "Shazeer 2020", "2002.05202", None, None),
        ("placement", "sub-ln", "Wang et al. 2022", "2210.06423", None, None),
        ("placement", "pre", "Wang et al. 2019", "1906.01787", None, None),
        ("encoder", "cpvt", "Chu et al. 2021", "2102.10882", None, None),
        ("encoder", "swin", "Liu et al. 2021", "2103.14030", "github.com/microsoft/Swin-Transformer", "MIT"),
        ("encoder", "coatnet", "Dai et al. 2021", "2106.04803", None, None),
        ("encoder", "t2t_vit", "Yuan et al. 2021", "2101.11986", "github.com/yitu-opensource/T2T-ViT", "Clear BSD"),
        ("network", "SwinIR", "Liang et al. 2021", "2108.10257", "github.com/JingyunLiang/SwinIR", "Apache-2.0"),
        ("network", "RCAN", "Zhang et al. 2018", "1807.02758", "github.com/XPixelGroup/BasicSR", "Apache-2.0"),
        ("norm", "rms", "Zhang & Sennrich 2019", "1910.07467", None, None),
    ],
)
def test_what_is_known(kind, name, paper, arxiv, code, licence):
    found = describe(kind, name)
    assert (found.paper, found.arxiv, found.code, found.licence) == (paper, arxiv, code, licence)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("A net. Smith et al. 2020, arXiv 2001.00001.", ("Smith et al. 2020", "2001.00001", 2020)),
        ("Of old. X. Smith & Jones 1999, then arXiv 2005.00001", ("Smith & Jones 1999", "2005.00001", 1999)),
        ("No author: arXiv 1905.11111", ("2019", "1905.11111", 2019)),
        ("First, Second, Third 2021 (arXiv 2105.1234)", ("First et al. 2021", "2105.1234", 2021)),
        ("Net, Lu et al., ECCV 2022, page 7.", ("Lu et al. 2022", None, 2022)),
        ("Lu et al. 2022, arXiv 2203.00001; Ma et al. 2023, arXiv 2301.00001", ("Lu et al. 2022", "2203.00001", 2022)),
        ("Nothing of 2020.", ("", None, None)),
    ],
)
def test_papers_are_read(text, wanted):
    assert _paper(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Official code: github.com/me/it (MIT), whose", ("github.com/me/it", "MIT")),
        ("github.com/me/it-2.0 (folder, Apache-2.0)", ("github.com/me/it-2.0", "Apache-2.0")),
        ("github.com/me/it. (MIT is elsewhere)", ("github.com/me/it", None)),
        ("github.com/me/it (no licence: only facts)", ("github.com/me/it", "no licence")),
        ("somewhere else (MIT)", (None, None)),
    ],
)
def test_code_is_read(text, wanted):
    assert _code(text) == wanted


def test_a_name_may_be_of_several_kinds():
    assert {each.kind for each in find_components("afno")} == {"encoder", "mixer"}
    assert {each.kind for each in find_components("group")} == {"norm", "feed_forward"}
    assert find_components("nothing of this name") == []
    assert dict(fields_of(describe("position", "none")))["checked against"] == "the contract of its kind (position)"
    assert "restore.zoo" in sys.modules

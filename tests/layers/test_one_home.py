"""What many networks need is written once: nobody defines a second window partition, drop path or relative position."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import restore

ROOT = Path(restore.__file__).parent
HOMES = {  # what a definition looks like, whatever it is called, and where alone it may stand
    "windows": (
        r"(?<!ngram_)window_partition|window_reverse|def \w*(split|join|cut|merge)_windows",
        {"layers/window.py"},
    ),
    "tiles of a map": (
        r"(view|reshape)\([^)]*// (\w+(\[\d\])?), \2, [^)]*// (\w+(\[\d\])?), \4[,)]",
        {"layers/padding.py", "degradations/operators/jpeg.py"},  # the latter's are the blocks of JPEG
    ),
    "drop path": (r"bernoulli|class \w*(DropPath|StochasticDepth)|def \w*drop_path\(", {"layers/residual.py"}),
    "layer scale": (r"class \w*LayerScale", {"layers/residual.py"}),
    "index of relative positions": (
        r"def \w*relative_position_index|- 1\) \* \(2 \* \w+(\[\d\])? - 1\) \+",
        {"layers/position_bias.py"},
    ),
    "patches": (r"class \w*(PatchEmbed|Patchif)|add_module\(\"proj\", nn\.Conv2d", {"encoders/token/class_token.py"}),
}


@pytest.mark.parametrize("what", HOMES)
def test_it_is_defined_in_one_place(what):
    pattern, homes = HOMES[what]
    found = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if re.search(pattern, path.read_text(encoding="utf-8"))
    }
    assert found == homes


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("windows", "def window_partition(x, window_size):"),
        ("windows", "def _cut_windows(x_BHWC, side):"),
        ("tiles of a map", "x = x.view(B, H // ws, ws, W // ws, ws, C)"),
        ("tiles of a map", "x.reshape(b, c, h // size[0], size[0], w // size[1], size[1])"),
        ("drop path", "mask = x.new_empty(shape).bernoulli_(keep)"),
        ("drop path", "class MyDropPath(nn.Module):"),
        ("layer scale", "class _LayerScale(nn.Module):"),
        ("index of relative positions", "index = (dy + h - 1) * (2 * w - 1) + dx"),
        ("patches", "class PatchEmbedding(nn.Module):"),
    ],
)
def test_second_definitions_are_seen(what, line):
    assert re.search(HOMES[what][0], line)

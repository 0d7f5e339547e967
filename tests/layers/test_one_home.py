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
    "patches": (
        r"class \w*(PatchEmbed|Patchif)"
        r"|nn\.Conv2d\([^()]*, (?!1,)([\w ]+), (?:stride=)?\2[,)](?![^()]*groups=)",  # grouped ones are pooling
        {"layers/patches.py"},
    ),
    "parts of timm": (r"from timm\.(models\.)?layers|timm\.layers\.", set()),
}


def files_that_define(what: str, root: Path) -> set[str]:
    """Paths below a folder of modules."""
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(HOMES[what][0], path.read_text(encoding="utf-8"))
    }


@pytest.mark.parametrize("what", HOMES)
def test_it_is_defined_in_one_place(what):
    assert files_that_define(what, ROOT) == HOMES[what][1]


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
        ("patches", "self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, patch_size)"),
        ("patches", "stem = nn.Conv2d(in_chans, dim, 4, stride=4)"),
        ("patches", "nn.Conv2d(widths[i], widths[i + 1], 2 if i else 4, 2 if i else 4)"),
        ("patches", "nn.Conv2d(before, after, 2, 2, bias=False)"),
        ("parts of timm", "from timm.layers import DropPath"),
        ("parts of timm", "scale = timm.layers.LayerScale(dim)"),
    ],
)
def test_second_definitions_are_seen(what, line, tmp_path):
    """A module that is planted among the encoders is found."""
    planted = tmp_path / "encoders" / "token" / "planted.py"
    planted.parent.mkdir(parents=True)
    planted.write_text(f"from torch import nn\n\n{line}\n", encoding="utf-8")
    assert files_that_define(what, tmp_path) == {"encoders/token/planted.py"}

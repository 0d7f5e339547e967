"""Contact sheets."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from restore.reports import sheet
from restore.reports.sheet import CELL_PX, Cell, picture_sheet


def test_cells_stand_in_rows_with_their_pixels():
    grey, red = np.full((4, 4), 77, np.uint8), np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    pixels = picture_sheet([Cell("a", "one · two", grey), Cell("b", "", red), Cell("c", "x" * 20, red)], columns=2)
    assert (pixels == 77).all(axis=2).sum() == CELL_PX**2
    assert (pixels == (200, 0, 0)).all(axis=2).sum() == 2 * CELL_PX**2
    assert pixels.shape[1] < 3 * CELL_PX < pixels.shape[1] + CELL_PX
    assert tuple(pixels[0, 0]) == sheet.PAPER


def test_a_caption_that_is_too_long_is_cut_and_says_so():
    captions = []
    draw = type("Draw", (), {"textlength": staticmethod(lambda text, font: 10 * len(text))})
    for count in (2, 9):
        captions.append(sheet._wrapped(" · ".join(["noise 12.5"] * count), draw, None))
    assert captions[0] == ["noise 12.5 · noise 12.5"]
    assert len(captions[1]) == 2
    assert captions[1][1].endswith(" ...")


def test_colours_are_those_of_the_pages():
    style = (Path(sheet.__file__).parent / "page/style.css").read_text()
    for name, colour in (("paper", sheet.PAPER), ("ink", sheet.INK), ("soft", sheet.SOFT)):
        light = re.search(rf"--{name}: light-dark\(#(\w{{6}})", style)[1]
        assert tuple(bytes.fromhex(light)) == colour

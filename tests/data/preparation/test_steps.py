"""Published datasets: cards held against folders, inputs, sub-images and databases made from them."""

from __future__ import annotations

import argparse
import hashlib
import zipfile

import numpy as np
import pytest

from restore.commands import prepare_dataset
from restore.data.preparation.archives import download_part
from restore.data.preparation.cards import list_cards, read_card
from restore.data.preparation.holdings import take_stock
from restore.data.preparation.steps import Cutting, cut_images, make_inputs
from restore.data.storage.databases import DatabaseSource
from restore.errors import DataError, OptionsError, OutputError
from restore.images import read_image, resize_pixels, write_image

CARD = """
name: Tiny
source: https://example.org/tiny
licence: CC0
parts:
  - {name: HR, folders: [HR], names: [0001..0003], archive: HR.zip}
"""


@pytest.fixture
def card(tmp_path):
    path = tmp_path / "tiny.yml"
    path.write_text(CARD)
    return path


def fill(folder, names, size=(33, 26), suffix=".png"):
    noise = np.random.default_rng(0)
    for name in names:
        write_image(folder / f"{name}{suffix}", noise.integers(0, 256, (*size, 3), np.uint8))


def prepare(name, root, *options):
    parser = argparse.ArgumentParser()
    prepare_dataset.add_arguments(parser)
    parser.add_argument("--workers", type=int, default=2)
    return prepare_dataset.run(parser.parse_args([str(name), "--root", str(root), *options]))


def test_every_card_says_where_and_on_which_terms():
    cards = {card.name: card for card in list_cards()}
    assert {"Set5", "DIV2K", "SIDD", "GoPro", "RealBlur-J", "Rain100L", "DPDD", "TID2013", "SPAQ"} <= set(cards)
    assert all(card.task and card.licence and (card.source or card.package) for card in cards.values())
    assert cards["DIV2K"].num_images == 900
    assert cards["DIV2K"].parts[1].expected_names[::99] == ["0801", "0900"]
    assert read_card("KonIQ_10K").num_images == 10073
    assert cards["LIVE"].num_images == 29 + 982
    assert "authors' pages" in cards["GoPro"].verified
    with pytest.raises(DataError, match="Did you mean 'urban100'"):
        read_card("urbn100")


def test_everything_is_made_and_not_again(card, tmp_path, capsys):
    fill(tmp_path / "tiny" / "HR", ["0001", "0002", "0003"])
    options = ["--scales", "2", "3", "--subimages", "--size", "12", "--step", "6", "--lmdb"]
    assert prepare(card, tmp_path, *options) == 0
    folder = tmp_path / "tiny"
    pixels = read_image(folder / "HR/0002.png").pixels
    made = folder / "LR_bicubic/X2/0002x2.png"
    assert np.array_equal(read_image(made).pixels, resize_pixels(pixels[:32, :26], size=(16, 13)))
    references, inputs = DatabaseSource(folder / "HR_sub.lmdb"), DatabaseSource(folder / "LR_bicubic_X3_sub.lmdb")
    assert references.keys == inputs.keys
    assert len(references) == 3 * 4 * 3  # 30x24 cropped, four rows and three columns of pieces
    piece = resize_pixels(pixels[:33, :24], size=(11, 8))[2:6, 2:6]  # the second row and column
    assert np.array_equal(inputs.read(inputs.keys.index("0002_s005")), piece)
    assert np.array_equal(references.read(references.keys.index("0002_s005")), pixels[6:18, 6:18])
    stamp = made.stat().st_mtime_ns
    assert prepare(card, tmp_path, *options) == 0
    assert made.stat().st_mtime_ns == stamp
    assert "(there before)" in capsys.readouterr().out
    with pytest.raises(OutputError, match="holds pieces cut with"):
        prepare(card, tmp_path, "--subimages", "--size", "24", "--step", "12")


def test_what_is_missing_is_said_exactly(card, tmp_path, capsys):
    assert prepare(card, tmp_path, "--scales", "2") == 1
    said = capsys.readouterr().err
    assert "HR is missing: 3 files at" in said
    assert "published as HR.zip" in said
    assert "https://example.org/tiny (licence: CC0)" in said
    assert "Verified of this card: nothing" in said
    assert "nothing was made" in said
    (tmp_path / "HR.zip").touch()
    assert "still packed" in take_stock(read_card(card), tmp_path)[0].problems[0]
    fill(tmp_path / "Tiny" / "HR", ["0001", "0009"])
    (tmp_path / "Tiny" / "HR" / "0003.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    assert prepare(card, tmp_path, "--scales", "2", "--partial") == 1
    said = capsys.readouterr().err
    assert "lacks 1 of 3 files" in said
    assert ": 0002\n" in said
    assert "do not belong" in said
    assert "unreadable file" in said
    made = sorted(path.name for path in (tmp_path / "Tiny/LR_bicubic/X2").iterdir())
    assert made == ["0001x2.png", "0009x2.png"]


def test_pairs_counts_and_sizes(tmp_path):
    path = tmp_path / "p.yml"
    path.write_text(
        "{name: P, source: 'https://x', inputs: rain, parts: ["
        "{name: HR, files: '*/sharp/*.png', count: 3, size_px: [26, 33]},"
        "{name: blur, role: inputs, files: '*/blur/*.png', pairs_with: HR}]}"
    )
    fill(tmp_path / "P/a/sharp", ["1"])
    fill(tmp_path / "P/b/sharp", ["1"], size=(8, 8))
    fill(tmp_path / "P/a/blur", ["1", "2"])
    sharp, blur = take_stock(read_card(path), tmp_path)
    assert list(sharp.files) == ["a_1", "b_1"]
    assert "has 2 files" in sharp.problems[0]
    assert "8x8, not 26x33" in sharp.problems[1]
    assert blur.problems[0].endswith(": a_2")
    assert blur.problems[1].endswith(": b_1")
    with pytest.raises(OptionsError, match="not made by reduction: rain"):
        prepare(path, tmp_path, "--scales", "2")


def test_a_changed_reference_makes_its_input_again(tmp_path):
    fill(tmp_path / "HR", ["a"])
    files = {"a": tmp_path / "HR/a.png"}
    made = make_inputs(files, tmp_path / "LR", 2)["a"]
    write_image(files["a"], np.full((4, 4), 9, np.uint8))
    assert (read_image(make_inputs(files, tmp_path / "LR", 2)["a"]).pixels == 9).all()
    assert made == tmp_path / "LR/ax2.png"
    assert list(cut_images(files, tmp_path / "cut", size=3, step=1)) == [f"a_s{n:03d}" for n in range(1, 5)]


def test_sizes_that_do_not_divide():
    with pytest.raises(OptionsError, match="--size is 480: it must be a positive multiple of the scale 7"):
        Cutting(480, 240, (7,))


def test_download_is_checked_and_unpacked(tmp_path):
    published = tmp_path / "server.zip"
    with zipfile.ZipFile(published, "w") as packed:
        packed.writestr("HR/0001.txt", "x")
    part = read_card_part(tmp_path, published, hashlib.sha256(published.read_bytes()).hexdigest())
    download_part(part, tmp_path / "Tiny")
    assert (tmp_path / "Tiny/HR/0001.txt").read_text() == "x"
    with pytest.raises(DataError, match="gave bytes of SHA-256"):
        download_part(read_card_part(tmp_path, published, "0" * 64), tmp_path / "Other")
    assert not list((tmp_path / "Other").iterdir())


def read_card_part(folder, published, sha256):
    path = folder / "download.yml"
    extra = f", url: '{published.as_uri()}', sha256: '{sha256}'}}"
    path.write_text(CARD.replace("archive: HR.zip}", "archive: HR.zip" + extra))
    return read_card(path).parts[0]

"""Which file belongs to which."""

from __future__ import annotations

import numpy as np
import pytest

from restore.data.complaints import gathering
from restore.data.pairs import Pair, list_pairs
from restore.errors import DataError
from restore.images import write_image


@pytest.fixture
def folder(tmp_path):
    """A function that makes a folder with these images."""

    def make(name, *files):
        for file in files:
            write_image(tmp_path / name / file, np.zeros((2, 2, 3), np.uint8))
        (tmp_path / name).mkdir(exist_ok=True)
        return tmp_path / name

    return make


def test_pairs_by_template_whatever_the_extension(folder):
    gt, lq = folder("HR", "baby.png", "bird.jpg"), folder("LR", "birdx4.png", "babyx4.png")
    assert list_pairs("Set5", gt, lq, filename_tmpl="{}x4") == [
        Pair("babyx4", gt / "baby.png", lq / "babyx4.png"),
        Pair("birdx4", gt / "bird.jpg", lq / "birdx4.png"),
    ]


def test_same_extension_wins(folder):
    gt, lq = folder("HR", "a.png"), folder("LR", "a.png", "a.jpg")
    assert list_pairs("x", gt, lq) == [Pair("a", gt / "a.png", lq / "a.png")]


def test_two_counterparts_are_an_error(folder):
    with pytest.raises(DataError, match=r"a\.png has two counterparts, .*a\.bmp and .*a\.jpg"):
        list_pairs("x", folder("HR", "a.png"), folder("LR", "a.bmp", "a.jpg"))


def test_halves(folder):
    root = folder("HR", "b.png", "a.png", ".hidden.png")
    assert list_pairs("x", root) == [Pair("a", gt=root / "a.png"), Pair("b", gt=root / "b.png")]
    assert list_pairs("x", None, root) == [Pair("a", lq=root / "a.png"), Pair("b", lq=root / "b.png")]


def test_counts_and_the_file_without_counterpart_are_named(folder):
    gt, lq = folder("HR", "a.png", "b.png"), folder("LR", "a.png")
    with pytest.raises(DataError, match=r"dataset 'Set5' \(2 GT and 1 LQ images\): .*HR/b\.png has no .*LR/b\.png"):
        list_pairs("Set5", gt, lq)
    with pytest.raises(DataError, match=r"dataset 'Set5' \(1 GT and 2 LQ images\): .*HR/b\.png has no counterpart"):
        list_pairs("Set5", lq, gt)


def test_list_of_files(folder, tmp_path):
    gt, lq = folder("HR", "one/a.png", "one/b.png"), folder("LR", "a.png", "b.png", "c.png")
    listing = tmp_path / "meta.txt"
    listing.write_text("one/b.png (2,2,3)\n\n")
    assert list_pairs("x", gt, lq, meta_info_file=listing) == [Pair("b", gt / "one/b.png", lq / "b.png")]
    listing.write_text("one/b.png\none/z.png 3\n")
    with pytest.raises(DataError, match=r"one/z\.png does not exist \(.*meta\.txt, line 2\)"):
        list_pairs("x", gt, lq, meta_info_file=listing)


def test_folders_that_cannot_serve(folder, tmp_path):
    with pytest.raises(DataError, match=r"dataset 'x': the folder .*nowhere does not exist. Check dataroot_gt"):
        list_pairs("x", tmp_path / "nowhere")
    folder("empty/inside", "a.png")
    with pytest.raises(DataError, match=r"no image in the folder .*empty \(dataroot_lq\).*sub-folders inside"):
        list_pairs("x", None, tmp_path / "empty")
    with pytest.raises(DataError, match="give dataroot_gt, dataroot_lq or both"):
        list_pairs("x")


@pytest.mark.parametrize(
    ("gt", "lq", "template"),
    [
        ("{:04d}_HR", "{:04d}_HRx4", "{}x4"),
        ("{:04d}", "lr_{:04d}", "lr_{}"),
        ("im{}", "im{}_noisy.", "{}_noisy."),
        ("{:04d}_HR", "{:04d}_LR", None),
        ("a{}", "b{}", None),
    ],
)
def test_names_that_differ_by_an_ending_suggest_the_template(tmp_path, gt, lq, template):
    for number in range(1, 6):
        for name, pattern in (("gt", gt), ("lq", lq)):
            write_image(tmp_path / name / f"{pattern.format(number)}.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DataError) as caught:
        list_pairs("set", tmp_path / "gt", tmp_path / "lq")
    told = f"write filename_tmpl: '{template}'" if template else "Check dataroot_gt"
    assert told in str(caught.value)
    assert ("write filename_tmpl" in str(caught.value)) == (template is not None)
    with gathering() as gathered:
        list_pairs("set", tmp_path / "gt", tmp_path / "lq")
    assert len(gathered.messages) == 10
    assert all((told in message) == (template is not None) for message in gathered.messages)
    if template:
        assert len(list_pairs("set", tmp_path / "gt", tmp_path / "lq", filename_tmpl=template)) == 5


def test_a_template_where_names_are_the_same(tmp_path):
    for folder in ("gt", "lq"):
        write_image(tmp_path / folder / "a.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DataError, match=r"write filename_tmpl: '\{\}'"):
        list_pairs("set", tmp_path / "gt", tmp_path / "lq", filename_tmpl="{}x4")


@pytest.mark.parametrize("line", ["my photo.png", "my photo.png (4,4,3)", "sub folder/my  photo.png 1 2"])
def test_a_name_with_spaces_in_a_list_says_so(tmp_path, line):
    name = line.split(" (")[0].removesuffix(" 1 2")
    write_image(tmp_path / "gt" / name, np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "list.txt").write_text(f"{line}\n")
    with pytest.raises(DataError) as caught:
        list_pairs("set", tmp_path / "gt", meta_info_file=tmp_path / "list.txt")
    assert f"'{name}' has spaces: rename the file" in str(caught.value)

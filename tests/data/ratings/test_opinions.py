from __future__ import annotations

import zipfile

import numpy as np
import pytest
from scipy.io import savemat

from restore.data.ratings.opinions import BEYOND, FORMATS, NARROW, SCALES, distribution_about, read_opinions
from restore.data.ratings.published import READERS, read_list
from restore.errors import DataError, OptionsError
from restore.images import write_image


def picture(path, size=(6, 8)):
    write_image(path, np.full((*size, 3), 90, np.uint8))


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def workbook(path, rows):
    """An .xlsx file with a first sheet that says nothing and a second one with `rows`, the texts shared."""
    texts = sorted({str(value) for row in rows for value in row if isinstance(value, str)})

    def cell(value, column, row):
        place = f"{chr(65 + column)}{row}"
        return (
            f'<c r="{place}" t="s"><v>{texts.index(value)}</v></c>'
            if isinstance(value, str)
            else f'<c r="{place}"><v>{value}</v></c>'
        )

    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    body = "".join(
        f'<row r="{number}">{"".join(cell(value, column, number) for column, value in enumerate(row))}</row>'
        for number, row in enumerate(rows, start=1)
    )
    shared = "".join(f"<si><t>{text}</t></si>" for text in texts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("xl/sharedStrings.xml", f"<sst {space}>{shared}</sst>")
        book.writestr("xl/worksheets/sheet1.xml", f"<worksheet {space}><sheetData/></worksheet>")
        book.writestr("xl/worksheets/sheet2.xml", f"<worksheet {space}><sheetData>{body}</sheetData></worksheet>")


def tid2013(root):
    write(root / "mos_with_names.txt", "4.5 I01_01_1.bmp\n0.9 i01_02_5.bmp\n")
    write(root / "mos_std.txt", "0.9\n1.8\n")
    picture(root / "reference_images" / "I01.BMP")
    for name in ("i01_01_1.bmp", "I01_02_5.BMP"):
        picture(root / "distorted_images" / name)


def kadid10k(root):
    write(root / "dmos.csv", "dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,3.0,0.25\nI01_01_02.png,I01.png,1.4,1\n")
    for name in ("I01", "I01_01_01", "I01_01_02"):
        picture(root / "images" / f"{name}.png")


def koniq10k(root):
    header = '"image_name","c1","c2","c3","c4","c5","c_total","MOS","SD","MOS_zscore"\n'
    lines = '"1.jpg",0,0,50,50,0,100,3.0,0.5,60\n"2.jpg",9,1,0,0,0,10,1.4,0.3,10\n'
    write(root / "koniq10k_scores_and_distributions.csv", header + lines)
    for name in ("1.jpg", "2.jpg"):
        picture(root / "512x384" / name)


def live(root):
    references = np.empty((1, 982), object)
    references[:] = [[np.array(["a.bmp"])] * 982]
    copies = np.ones((1, 982))
    copies[0, [0, 227]] = 0
    values = np.zeros((1, 982))
    values[0, [0, 227]] = 50, 90
    savemat(root / "dmos.mat", {"dmos": values, "orgs": copies})
    savemat(root / "refnames_all.mat", {"refnames_all": references})
    for name in ("refimgs/a.bmp", "jp2k/img1.bmp", "jpeg/img1.bmp"):
        picture(root / name)


def live_itw(root):
    names = np.empty((9, 1), object)
    names[:, 0] = [np.array([f"{number}.bmp"]) for number in range(9)]
    (root / "Data").mkdir()
    savemat(root / "Data" / "AllImages_release.mat", {"AllImages_release": names})
    savemat(root / "Data" / "AllMOS_release.mat", {"AllMOS_release": [[1.0] * 7 + [50, 10]]})
    savemat(root / "Data" / "AllStdDev_release.mat", {"AllStdDev_release": [[20.0] * 9]})
    for name in ("7.bmp", "8.bmp"):
        picture(root / "Images" / name)


def csiq(root):
    header = ["image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"]
    rows = [["a title"], header, [1600, 1, "noise", 1, 0.1, 0.5], ["lake", 4, "jpeg 2000", 3, 0.1, 0.9]]
    workbook(root / "csiq.DMOS.xlsx", rows)
    for name in ("src_imgs/1600", "src_imgs/lake", "dst_imgs/AWGN/1600.AWGN.1", "dst_imgs/jpeg2000/lake.jpeg2000.3"):
        picture(root / f"{name}.png")


def pipal(root):
    write(root / "Train_Label" / "A0001.txt", "A0001_00_00.bmp,1375.0\nA0001_00_01.bmp,995\n")
    picture(root / "Train_Ref" / "A0001.bmp")
    picture(root / "Distortion_1" / "A0001_00_00.bmp")
    picture(root / "Distortion_3" / "A0001_00_01.bmp")


def spaq(root):
    rows = [["Image name", "MOS", "Brightness"], ["1.jpg", 50, 3], ["2.jpg", 10.0, 3]]
    workbook(root / "Annotations" / "MOS and Image attribute scores.xlsx", rows)
    for name in ("1.jpg", "2.jpg"):
        picture(root / "TestImage" / name)


MAKERS = [csiq, kadid10k, koniq10k, live, live_itw, pipal, spaq, tid2013]


def test_every_format_has_a_reader():
    assert sorted(FORMATS) == sorted(READERS) == [maker.__name__ for maker in MAKERS]


@pytest.mark.parametrize("maker", MAKERS)
def test_originals(maker, tmp_path):
    maker(tmp_path)
    opinions = read_opinions(maker.__name__, tmp_path)
    assert [round(each.opinion, 6) for each in opinions] == [0.5, 0.1]  # the makers write the middle and a tenth
    assert all(each.image.is_file() for each in opinions)
    for each in opinions:
        assert each.distribution.sum() == pytest.approx(1)
        assert (each.reference is not None) == FORMATS[maker.__name__].has_reference
        assert each.distribution.argmax() == (2 if each.opinion == 0.5 else 0)


@pytest.mark.parametrize(
    ("name", "format", "count"),
    [
        ("TID2013", "tid2013", 3000),
        ("KADID-10k", "kadid10k", 10125),
        ("KonIQ-10k", "koniq10k", 10073),
        ("LIVE", "live", 779),
        ("CSIQ", "csiq", 866),
        ("PIPAL", "pipal", 23200),
    ],
)
def test_lists(name, format, count, shared):
    ratings = list(read_list(shared(f"data/iqa/lists/{name}.txt")))
    assert len(ratings) == count
    scale = FORMATS[format]
    opinions = [(rating.value - scale.worst) / (scale.best - scale.worst) for rating in ratings]
    assert min(opinions) > -0.13
    assert max(opinions) < 1.03
    assert all((rating.reference is not None) == scale.has_reference for rating in ratings)


def test_a_list_beside_the_images_or_above_them(tmp_path):
    kadid10k(tmp_path / "KADID-10k")
    listing = tmp_path / "list.txt"
    write(
        listing,
        "dis_img_path,dis_type,ref_img_path,score\nKADID-10k/images/I01_01_01.png,x,KADID-10k/images/I01.png,2\n",
    )
    for root in (tmp_path, tmp_path / "KADID-10k"):
        (opinion,) = read_opinions("kadid10k", root, listing=listing, unlabelled="ignore")
        assert opinion.image == tmp_path / "KADID-10k/images/I01_01_01.png"
        assert opinion.scene.endswith("i01")


def test_mistakes_are_named(tmp_path):
    kadid10k(tmp_path)
    with pytest.raises(OptionsError, match=r"unknown quality dataset format 'kadid'.*kadid10k"):
        read_opinions("kadid", tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_opinions("kadid10k", tmp_path / "none")
    with pytest.raises(DataError, match=r"mos_with_names.txt: no such file"):
        read_opinions("tid2013", tmp_path)
    picture(tmp_path / "images" / "stranger.png")
    with pytest.raises(DataError, match=r"1 images have no rating.*stranger.png.*unlabelled: ignore"):
        read_opinions("kadid10k", tmp_path)
    (tmp_path / "images" / "I01_01_02.png").unlink()
    with pytest.raises(DataError, match=r"1 of 3 files that have ratings are not in .*I01_01_02.png"):
        read_opinions("kadid10k", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dis_img_path,score\na.png,good\n", "rating of a.png is 'good', which is not a number"),
        ("image,score\na.png,3\n", "no column dis_img_path. It has: image, score"),
        ("dis_img_path,score\na.png\n", "line 2: 2 columns are expected"),
        ("dis_img_path,score\na.png,nan\n", "rating of a.png is nan"),
        ("dis_img_path,score\n", "there are no ratings"),
    ],
)
def test_damaged_lists(text, message, tmp_path):
    write(tmp_path / "list.txt", text)
    with pytest.raises(DataError, match=message):
        read_opinions("koniq10k", tmp_path, listing=tmp_path / "list.txt")


def test_the_distribution_has_the_mean_of_the_opinion():
    for opinion in (0.3, 0.5, 0.7):
        shares = distribution_about(opinion, 0.6)
        assert shares.sum() == pytest.approx(1)
        assert shares @ np.arange(1, 6) == pytest.approx(1 + 4 * opinion, abs=0.05)


@pytest.mark.parametrize("given", [*SCALES, (900, 1850), (0, 50), (-1, 1)], ids=str)
@pytest.mark.parametrize("format", FORMATS)
def test_ratings_on_another_scale_are_refused_with_a_question(tmp_path, format, given):
    """Unless they could be the dataset's own: those of 1 to 5 among 0 to 9."""
    low, high = given
    values = np.concatenate([given, np.random.default_rng(len(format)).uniform(low, high, 38)])
    for index in range(40):
        picture(tmp_path / f"{index}.png")
    lines = [f"{index}.png,x,{value},0.png" for index, value in enumerate(values)]
    write(tmp_path / "list.txt", "\n".join(["dis_img_path,dis_type,score,ref_img_path", *lines]))
    own = sorted((FORMATS[format].worst, FORMATS[format].best))
    span = own[1] - own[0]
    fits = own[0] <= low and high <= own[1] + BEYOND * span and high > own[0] + NARROW * span
    if fits:
        assert len(read_opinions(format, tmp_path, listing=tmp_path / "list.txt")) == 40
        return
    with pytest.raises(DataError) as caught:
        read_opinions(format, tmp_path, listing=tmp_path / "list.txt")
    said = str(caught.value)
    ends = [high, low] if FORMATS[format].worst > FORMATS[format].best else [low, high]
    assert (
        f"are from {values.min():g} to {values.max():g}, and should be from {FORMATS[format].worst:g} (worst)" in said
    )
    assert "? If so, write rating_scale: [" in said
    if given in SCALES:
        assert f"rating_scale: [{ends[0]}, {ends[1]}]" in said
    opinions = read_opinions(format, tmp_path, listing=tmp_path / "list.txt", rating_scale=ends)
    assert all(0 <= each.opinion <= 1 for each in opinions)
    assert opinions[0].opinion == (ends[0] != low)


@pytest.mark.parametrize("reader", ["own file", "list"])
def test_koniq_with_scores_up_to_a_hundred(tmp_path, reader):
    koniq10k(tmp_path)
    table = tmp_path / "koniq10k_scores_and_distributions.csv"
    listing = None
    if reader == "own file":
        table.write_text(table.read_text().replace(",3.0,", ",60.0,").replace(",1.4,", ",12.0,"))
    else:
        listing = tmp_path / "list.txt"
        write(listing, "dis_img_path,score\n512x384/1.jpg,60\n512x384/2.jpg,12\n")
    with pytest.raises(DataError, match=r"from 12 to 60, and should be from 1 .* Are these ratings from 0 to 100\?"):
        read_opinions("koniq10k", tmp_path, listing=listing)
    found = read_opinions("koniq10k", tmp_path, listing=listing, rating_scale=[0, 100])
    assert [each.opinion for each in found] == [0.6, 0.12]

"""The files in which quality datasets publish their ratings: one reader for each, and one for plain lists.

A reader takes the dataset's folder and yields `Rating`s on the dataset's own scale.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from restore.data.ratings.tables import Rating, number, require_columns, rows
from restore.data.storage.matfile import read_mat
from restore.errors import DataError
from restore.files import text_of

__all__ = ["READERS", "read_list"]


def read_list(path: Path) -> Iterator[Rating]:
    """A list with a header: `dis_img_path,dis_type,ref_img_path,score`, without `ref_img_path` where there is none."""
    for row in rows(path):
        require_columns(row, ("dis_img_path", "score"), path)
        image = row["dis_img_path"]
        value = number(row["score"], path, image)
        yield Rating(image, value, reference=row.get("ref_img_path"), kind=row.get("dis_type", ""))


def _tid2013(root: Path) -> Iterator[Rating]:
    """mos_with_names.txt: "5.51429 I01_01_1.bmp"; image i01_04_2 shows scene 1 with distortion 4 at level 2."""
    path = root / "mos_with_names.txt"
    deviations = _lines(root / "mos_std.txt") if (root / "mos_std.txt").is_file() else None
    for index, line in enumerate(_lines(path)):
        value, name = _fields(line, 2, path)
        reference, kind, _ = name.split("_")
        yield Rating(
            f"distorted_images/{name}",
            number(value, path, name),
            reference=f"reference_images/{reference}.bmp",
            kind=kind,
            deviation=number(deviations[index], path, name) if deviations else None,
        )


def _kadid10k(root: Path) -> Iterator[Rating]:
    """dmos.csv: dist_img,ref_img,dmos,var; its "dmos" rises with quality, from 1 to 5."""
    path = root / "dmos.csv"
    for row in rows(path):
        require_columns(row, ("dist_img", "ref_img", "dmos"), path)
        image = row["dist_img"]
        variance = number(row["var"], path, image) if row.get("var") else None
        yield Rating(
            f"images/{image}",
            number(row["dmos"], path, image),
            reference=f"images/{row['ref_img']}",
            kind=image.split("_")[1],
            deviation=variance**0.5 if variance is not None else None,
        )


def _koniq10k(root: Path) -> Iterator[Rating]:
    """koniq10k_scores_and_distributions.csv: image_name, votes for five levels, MOS; 1024x768 or else 512x384."""
    path = root / "koniq10k_scores_and_distributions.csv"
    folder = next((name for name in ("1024x768", "512x384") if (root / name).is_dir()), "1024x768")
    for row in rows(path):
        require_columns(row, ("image_name", "MOS", "c1", "c2", "c3", "c4", "c5"), path)
        image = row["image_name"]
        votes = tuple(number(row[f"c{level}"], path, image) for level in range(1, 6))
        yield Rating(f"{folder}/{image}", number(row["MOS"], path, image), votes=votes)


_LIVE_PARTS = (("jp2k", 227), ("jpeg", 233), ("wn", 174), ("gblur", 174), ("fastfading", 174))


def _live(root: Path) -> Iterator[Rating]:
    """dmos_realigned.mat or dmos.mat, and refnames_all.mat: five folders in a row, undistorted copies left out."""
    realigned = (root / "dmos_realigned.mat").is_file()
    table = _matlab(root / ("dmos_realigned.mat" if realigned else "dmos.mat"))
    values = table["dmos_new" if realigned else "dmos"].reshape(-1)
    copies = table["orgs"].reshape(-1)
    references = [str(cell[0]) for cell in _matlab(root / "refnames_all.mat")["refnames_all"].reshape(-1)]
    images = [(kind, place) for kind, count in _LIVE_PARTS for place in range(1, count + 1)]
    if not len(images) == len(values) == len(references):
        raise DataError(f"{root}: LIVE has {len(images)} images; there are {len(values)} values for them.")
    for (kind, place), value, copy, reference in zip(images, values, copies, references, strict=True):
        if not copy:
            yield Rating(f"{kind}/img{place}.bmp", float(value), reference=f"refimgs/{reference}", kind=kind)


def _live_itw(root: Path) -> Iterator[Rating]:
    """Data/AllMOS_release.mat, AllStdDev_release.mat and AllImages_release.mat; the first seven were for practice."""
    names, values, deviations = (
        _matlab(root / "Data" / f"{key}.mat")[key].reshape(-1)
        for key in ("AllImages_release", "AllMOS_release", "AllStdDev_release")
    )
    for cell, value, deviation in list(zip(names, values, deviations, strict=True))[7:]:
        yield Rating(f"Images/{cell[0]}", float(value), deviation=float(deviation))


_CSIQ_NAMES = {
    "noise": ("awgn", "AWGN"),
    "blur": ("blur", "BLUR"),
    "contrast": ("contrast", "contrast"),
    "fnoise": ("fnoise", "fnoise"),
    "jpeg": ("jpeg", "JPEG"),
    "jpeg 2000": ("jpeg2000", "jpeg2000"),
}


def _csiq(root: Path) -> Iterator[Rating]:
    """csiq.DMOS.xlsx: image, dst_type, dst_lev, dmos_std, dmos."""
    path = root / "csiq.DMOS.xlsx"
    for row in _sheet(path, ("image", "dst_type", "dst_lev", "dmos_std", "dmos")):
        scene, kind = _whole(row["image"]), row["dst_type"].lower()
        if kind not in _CSIQ_NAMES:
            raise DataError(f"{path}: unknown distortion '{kind}'. Known: {', '.join(_CSIQ_NAMES)}.")
        folder, ending = _CSIQ_NAMES[kind]
        image = f"dst_imgs/{folder}/{scene}.{ending}.{_whole(row['dst_lev'])}.png"
        value, deviation = (number(row[key], path, image) for key in ("dmos", "dmos_std"))
        yield Rating(image, value, reference=f"src_imgs/{scene}.png", kind=kind, deviation=deviation)


def _pipal(root: Path) -> Iterator[Rating]:
    """Train_Label/A0001.txt: "A0001_00_00.bmp,1520.06"; images in Distortion_1 to 4, or Train_Dist, or Train_Dis."""
    labels = sorted((root / "Train_Label").glob("*.txt"))
    if not labels:
        raise DataError(f"{root / 'Train_Label'}: no label files.")
    folders = sorted(path for pattern in ("Distortion_*", "Train_Dis*") for path in root.glob(pattern))
    places = {path.name: path.parent.name for folder in folders for path in folder.iterdir()}
    for path in labels:
        for line in _lines(path):
            image, value = _fields(line, 2, path, ",")
            yield Rating(
                f"{places.get(image, 'Distortion_1')}/{image}",
                number(value, path, image),
                reference=f"Train_Ref/{image.split('_')[0]}.bmp",
                kind=image.split("_")[1],
            )


def _spaq(root: Path) -> Iterator[Rating]:
    """Annotations/MOS and Image attribute scores.xlsx: "Image name", "MOS"; images in TestImage."""
    path = root / "Annotations" / "MOS and Image attribute scores.xlsx"
    for row in _sheet(path, ("Image name", "MOS")):
        yield Rating(f"TestImage/{row['Image name']}", number(row["MOS"], path, row["Image name"]))


READERS: dict[str, Callable[[Path], Iterator[Rating]]] = {
    "csiq": _csiq,
    "kadid10k": _kadid10k,
    "koniq10k": _koniq10k,
    "live": _live,
    "live_itw": _live_itw,
    "pipal": _pipal,
    "spaq": _spaq,
    "tid2013": _tid2013,
}
"""For each format: from the dataset's folder to its ratings."""


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    return [line.strip() for line in text_of(path).splitlines() if line.strip()]


def _fields(line: str, count: int, path: Path, separator: str | None = None) -> list[str]:
    fields = [field.strip() for field in line.split(separator)]
    if len(fields) != count:
        raise DataError(f"{path}: '{line}' has {len(fields)} fields; {count} are expected.")
    return fields


def _whole(text: str) -> str:
    """A cell that is a whole number in the sheet without the ".0" that some programs add."""
    return re.sub(r"\.0+$", "", text)


def _matlab(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    return read_mat(path.read_bytes(), str(path))


_CELLS = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def _sheet(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The rows below the first header, on any sheet of an .xlsx file, that has all the columns."""
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    try:
        with zipfile.ZipFile(path) as book:
            shared = _shared_texts(book)
            sheets = sorted(name for name in book.namelist() if re.fullmatch(r"xl/worksheets/\w+\.xml", name))
            tables = [list(_cells(book.read(name), shared)) for name in sheets]
    except (zipfile.BadZipFile, ElementTree.ParseError) as error:
        raise DataError(f"{path}: not a readable .xlsx file ({error}).") from None
    for table in tables:
        for number_of_row, row in enumerate(table):
            places = {text.strip(): place for place, text in row.items()}
            if set(columns) <= set(places):
                for below in table[number_of_row + 1 :]:
                    if all(places[column] in below for column in columns):
                        yield {column: below[places[column]].strip() for column in columns}
                return
    raise DataError(f"{path}: no sheet has the columns {', '.join(columns)}.")


def _shared_texts(book: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in book.namelist():
        return []
    root = ElementTree.fromstring(book.read("xl/sharedStrings.xml"))
    return ["".join(part.text or "" for part in item.iter(f"{_CELLS}t")) for item in root.iter(f"{_CELLS}si")]


def _cells(content: bytes, shared: list[str]) -> Iterator[dict[str, str]]:
    """Each row as {column letters: text}."""
    for row in ElementTree.fromstring(content).iter(f"{_CELLS}row"):
        found = {}
        for cell in row.iter(f"{_CELLS}c"):
            text = "".join(part.text or "" for part in cell.iter() if part.tag in (f"{_CELLS}v", f"{_CELLS}t"))
            if text:
                letters = re.sub(r"\d", "", cell.get("r", ""))
                found[letters] = shared[int(text)] if cell.get("t") == "s" else text
        yield found

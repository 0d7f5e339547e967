"""lmdb databases in BasicSR's layout, written and read."""

from __future__ import annotations

from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

from restore.cli import main
from restore.data.loading import training_loader
from restore.data.sampling import Draw, PatchStage, StreamSampler
from restore.data.storage.databases import DatabaseSource, stored_image, write_database
from restore.errors import DataError, OutputError
from restore.images import list_images, read_image, write_image
from restore.registry import DATASETS


def database(folder, path, **options):
    files = list_images(folder)
    write_database([(file.stem, lambda file=file: read_image(file).pixels) for file in files], path, **options)
    return path


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint8), (3, np.uint16), (4, np.uint8)])
def test_what_is_written_is_read(images, tmp_path, channels, dtype):
    folder = images("gt", count=5, channels=channels, dtype=dtype)
    source = DatabaseSource(database(folder, tmp_path / "gt.lmdb", at_once=2))
    for index, file in enumerate(list_images(folder)):
        np.testing.assert_array_equal(source.read(index), read_image(file).pixels)
        assert source.name(index).endswith(f"gt.lmdb/{file.stem}")


def test_the_layout_is_that_of_basicsr(images, tmp_path):
    folder = images("gt", count=2, size=(20, 30))
    path = database(folder, tmp_path / "gt.lmdb", level=3)
    assert (path / "meta_info.txt").read_text() == "00.png (20,30,3) 3\n01.png (20,30,3) 3\n"
    with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin() as transaction:
        stored = cv2.imdecode(np.frombuffer(transaction.get(b"01"), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(stored[..., ::-1], read_image(folder / "01.png").pixels)


def test_a_database_larger_than_its_first_map(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (600, 700, 3), dtype=np.uint8)
    path = tmp_path / "large.lmdb"
    assert write_database([(f"{n:03d}", lambda: noise) for n in range(20)], path, at_once=4) == 20
    assert (path / "data.mdb").stat().st_size > 2**24
    np.testing.assert_array_equal(DatabaseSource(path).read(19), noise)


def test_datasets_read_databases(images, tmp_path):
    gt = database(images("gt", size=(32, 32)), tmp_path / "gt.lmdb")
    lq = database(images("lq", size=(16, 16)), tmp_path / "lq.lmdb")
    block = {"dataroot_gt": str(gt), "io_backend": {"type": "lmdb"}, "gt_size": 16}
    paired = DATASETS.build({"type": "PairedImageDataset", "dataroot_lq": str(lq), **block}, scale=2)
    assert paired[Draw(2, 0, 0)]["lq"].shape == (8, 8, 3)
    assert len(DATASETS.build({"type": "DownsampledImageDataset", **block}, scale=2)) == 3
    loader = training_loader(paired, StreamSampler(3, [PatchStage(2)], total_iter=1), num_workers=1)
    (batch,) = loader  # in a process that was forked from one with the databases open
    assert batch["lq"].shape == (2, 3, 8, 8)
    assert [Path(path).name for path in paired[1].values() if isinstance(path, str)] == ["01", "01"]


def test_several_databases_are_read_as_one(images, tmp_path, caplog):
    roots = {
        side: [
            str(database(images(f"{side}{n}", count=2 + n, size=size), tmp_path / f"{side}{n}.lmdb")) for n in (0, 1)
        ]
        for side, size in (("gt", (32, 32)), ("lq", (16, 16)))
    }
    block = {"io_backend": {"type": "lmdb"}, "gt_size": 16, "meta_info_file": "list.txt"}
    paired = DATASETS.build(
        {"type": "PairedImageDataset", "dataroot_gt": roots["gt"], "dataroot_lq": roots["lq"], **block}, scale=2
    )
    assert len(paired) == len(paired.pairs) == 5
    assert "list.txt is not read" in caplog.text
    for index, pair in enumerate(paired.pairs):
        sample = paired[index]
        assert (sample["gt_path"], sample["lq_path"]) == (str(pair.gt), str(pair.lq))
        np.testing.assert_array_equal(sample["lq"], stored_image(pair.lq).pixels)
    assert paired[2]["lq_path"].endswith("lq1.lmdb/00")
    with pytest.raises(IndexError):
        paired.gt.read(5)
    single = DATASETS.build({"type": "SingleImageDataset", "dataroot_lq": roots["lq"], "io_backend": {"type": "lmdb"}})
    assert [single[index]["lq_path"] for index in range(5)] == [str(pair.lq) for pair in paired.pairs]


@pytest.mark.parametrize(("damage", "message"), [("truncate", "data.mdb is truncated: 9,000 of"), ("junk", "damaged")])
def test_a_damaged_database_is_refused_before_it_kills(images, tmp_path, damage, message):
    """Reading past the end of a mapped file ends the process."""
    path = database(images("gt"), tmp_path / "gt.lmdb")
    data = (path / "data.mdb").read_bytes()
    (path / "data.mdb").write_bytes(data[:9000] if damage == "truncate" else b"junk" * len(data))
    with pytest.raises(DataError, match=message):
        DatabaseSource(path)


def test_a_database_needs_its_backend(images, tmp_path):
    path = str(database(images("gt"), tmp_path / "gt.lmdb"))
    with pytest.raises(DataError, match=r"It is an lmdb: set io_backend: \{type: lmdb\}"):
        DATASETS.build({"type": "DownsampledImageDataset", "dataroot_gt": path}, scale=2)


def test_keys_that_differ_are_named(images, tmp_path):
    gt = database(images("gt", count=3), tmp_path / "gt.lmdb")
    lq = database(images("lq", count=3, tmpl="x{}"), tmp_path / "lq.lmdb")
    block = {"type": "PairedImageDataset", "dataroot_gt": str(gt), "dataroot_lq": str(lq)}
    with pytest.raises(DataError, match=r"3 only in .*gt\.lmdb \(00, 01, 02\); 3 only in .*lq\.lmdb \(x00"):
        DATASETS.build({**block, "io_backend": {"type": "lmdb"}})


def test_what_is_no_database(images, tmp_path):
    with pytest.raises(DataError, match=r"ends in '\.lmdb'"):
        DatabaseSource(images("gt"))
    (tmp_path / "x.lmdb").mkdir()
    with pytest.raises(DataError, match=r"not an lmdb with data\.mdb and meta_info\.txt"):
        DatabaseSource(tmp_path / "x.lmdb")
    path = database(images("gt"), tmp_path / "y.lmdb")
    (path / "meta_info.txt").write_text("00.png 20 30 3\n")
    with pytest.raises(DataError, match="line 1: expected"):
        DatabaseSource(path)
    (path / "meta_info.txt").write_text("77.png (20,30,3) 1\n")
    with pytest.raises(DataError, match="lists '77'"):
        DatabaseSource(path).read(0)


def test_nothing_is_left_of_a_database_that_failed(images, tmp_path):
    def broken():
        raise DataError("no such image")

    with pytest.raises(DataError, match="no such image"):
        write_database([("a", broken)], tmp_path / "out" / "x.lmdb")
    assert not (tmp_path / "out").exists()
    path = database(images("gt"), tmp_path / "y.lmdb")
    with pytest.raises(OutputError, match="exists"):
        database(tmp_path / "gt", path)
    for key, message in (("a.b", "without dots"), ("ä", "plain ASCII")):
        with pytest.raises(DataError, match=message):
            write_database([(key, broken)], tmp_path / "z.lmdb")
    with pytest.raises(DataError, match="'a' comes twice"):
        write_database([("a", broken), ("a", broken)], tmp_path / "z.lmdb")


@pytest.mark.parametrize("limit", [2**10, 2**18])  # not even the first page fits; the first transaction does
def test_a_full_disk_leaves_a_message_and_nothing_else(tmp_path, limit):
    resource = pytest.importorskip("resource")
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    images = [(f"{number:02d}", lambda: noise) for number in range(30)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OutputError, match=r"x\.lmdb': the disk is full .* MiB are free.* run the same"):
            write_database(images, tmp_path / "out" / "x.lmdb", at_once=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "out").exists()


def test_no_lock_file_is_mapped(images, tmp_path):
    """On a full disk the kernel kills who writes into a mapped file."""
    path = database(images("gt"), tmp_path / "gt.lmdb")
    assert {file.name for file in path.iterdir()} == {"data.mdb", "meta_info.txt"}


def test_the_commands(images, tmp_path, capsys):
    folder = images("gt", count=2, size=(30, 50), tmpl="{}x2")
    pieces = str(tmp_path / "pieces")
    assert (
        main(["data", "subimages", "-i", str(folder), "-o", pieces, "--size", "20", "--step", "10", "--remove", "x2"])
        == 0
    )
    assert "2 images cut into 16 pieces in" in capsys.readouterr().err
    assert [path.name for path in list_images(pieces)[:2]] == ["00_s001.png", "00_s002.png"]
    whole = read_image(folder / "00x2.png").pixels
    np.testing.assert_array_equal(read_image(tmp_path / "pieces" / "00_s006.png").pixels, whole[10:30, 10:30])
    assert main(["data", "lmdb", "-i", pieces, "-o", str(tmp_path / "p.lmdb")]) == 0
    assert len(DatabaseSource(tmp_path / "p.lmdb")) == 16


@pytest.mark.parametrize("others", [0, 3])
def test_files_of_one_key_are_all_named_and_the_others_stored(images, tmp_path, capsys, others):
    images("in/a", count=1 + others)
    images("in/b", count=1)
    images("in/c", count=1)
    code = main(["data", "lmdb", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "x.lmdb"), "--recursive"])
    said = capsys.readouterr().err
    assert said.count("would have one key of the database") == 1
    assert all(f"in/{folder}/00.png'" in said for folder in "abc")
    if not others:
        assert code == 2
        assert "no image can be stored" in said
        assert not list(tmp_path.glob("x*"))
        return
    assert code == 1
    assert DatabaseSource(tmp_path / "x.lmdb").keys == ["01", "02", "03"]


def test_sub_images_never_fall_among_their_images(tmp_path, capsys):
    write_image(tmp_path / "a.png", np.zeros((30, 30, 3), np.uint8))
    assert main(["data", "subimages", "-i", str(tmp_path), "-o", str(tmp_path), "--size", "20", "--step", "10"]) == 2
    assert "choose another folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_sub_images_are_not_cut_again(images, tmp_path):
    folder = images("in", count=1, size=(30, 30))
    cut = ["data", "subimages", "-i", str(folder), "-o", str(folder / "pieces"), "--recursive"]
    for _ in range(2):
        assert main([*cut, "--size", "20", "--step", "10"]) == 0
        assert [path.name for path in list_images(folder / "pieces")] == [f"00_s00{n}.png" for n in (1, 2, 3, 4)]


def test_sub_images_of_two_images_never_share_a_name(images, tmp_path, capsys):
    images("in/a", count=1)
    images("in/b", count=2, tmpl="{}x2")
    cut = ["data", "subimages", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--recursive"]
    assert main([*cut, "--remove", "x2"]) == 1
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert all(
        words in said for words in ("would have pieces of the same names", "1 images cut into 1 pieces", "2 failed")
    )
    assert [path.name for path in list_images(tmp_path / "out")] == ["01_s001.png"]
    assert main(cut) == 0


def test_sub_images_of_what_can_be_read(images, tmp_path, capsys):
    folder = images("in", count=3, size=(30, 30))
    (folder / "01.png").write_bytes((folder / "01.png").read_bytes()[:70])
    (folder / "zz.png").write_text("no image")
    cut = ["data", "subimages", "-i", str(folder), "-o", str(tmp_path / "out"), "--size", "20", "--step", "10"]
    assert main(cut) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert all(words in said for words in ("01.png", "zz.png", "2 images cut into 8 pieces", "2 failed"))
    assert len(list_images(tmp_path / "out")) == 8


@pytest.mark.parametrize("option", ["--size", "--step", "--workers"])
def test_sub_images_need_positive_numbers(tmp_path, capsys, option):
    with pytest.raises(SystemExit, match="2"):
        main(["data", "subimages", "-i", str(tmp_path), "-o", "out", option, "0"])
    assert f"argument {option}: '0' is not a whole number of at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("length", "starts"), [(480, [0]), (300, [0]), (481, [0, 1]), (720, [0, 240]), (1000, [0, 240, 480, 520])]
)
def test_pieces_reach_the_edge(length, starts):
    from restore.data.preparation.subimages import pieces

    assert [piece.left for piece in pieces(480, length)] == starts
    assert [piece.left for piece in pieces(480, length, threshold=40)] == [s for s in starts if s not in (1, 520)]

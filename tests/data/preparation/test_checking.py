"""`restore data check` names everything that is wrong with the datasets of an option file."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from restore.cli import main
from restore.data.preparation.checking import check_dataset
from restore.images import write_image

CHECKED = """
name: x
scale: 2
network_g: {{type: SwinIR, upscale: 2}}
datasets:
  train: {{name: one, type: PairedImageDataset, dataroot_gt: {root}/gt, dataroot_lq: {root}/lq, gt_size: 16,
           batch_size_per_gpu: 1}}
  val: {{name: two, type: PairedImageDataset, dataroot_gt: {root}/gt, dataroot_lq: {root}/nowhere}}
train: {{total_iter: 1, optim_g: {{type: Adam, lr: 1e-3}}, pixel_opt: {{type: L1Loss}}}}
"""


@pytest.fixture
def check(tmp_path, capsys):
    """A function: the exit code of a check, and what it says."""
    (tmp_path / "train.yml").write_text(CHECKED.format(root=tmp_path))

    def run(*changes):
        code = main(["data", "check", "-opt", str(tmp_path / "train.yml"), "--set", *changes, "num_gpu=0"])
        return code, capsys.readouterr().err

    return run


def test_check_names_everything_that_is_wrong(images, tmp_path, check):
    gt, lq = images("gt", count=6, size=(32, 32)), images("lq", count=6, size=(16, 16))
    (gt / "01.png").write_bytes(b"no image")
    (lq / "01.png").write_bytes(b"")
    images("lq", count=1, size=(15, 16))
    write_image(gt / "02.png", np.zeros((33, 32, 3), np.uint8))  # one row more is for validation alone
    write_image(gt / "03.png", np.zeros((8, 8, 3), np.uint8))
    write_image(lq / "03.png", np.zeros((4, 4, 3), np.uint8))
    code, said = check()
    assert code == 1
    assert "gt/01.png': the file is not" in said
    assert "lq/01.png': the file is empty" in said  # both of a pair
    assert "gt/00.png is 32x32, which is not 2 times" in said
    assert "gt/02.png is 32x33, which is not 2 times" in said
    assert "lq/03.png is 4x4, smaller than the patch of 8x8" in said
    assert "nowhere does not exist" in said
    assert "6 samples read, 6 problems" in said
    assert "12 samples read" in check(f"datasets.val.dataroot_lq={lq}")[1]


def test_check_opens_what_has_no_counterpart(images, tmp_path, check):
    gt, lq = images("gt", count=9, size=(32, 32)), images("lq", count=9, size=(16, 16))
    for number in range(7):
        (lq / f"{number:02d}.png").unlink()
    (gt / "03.png").write_bytes(b"no image")
    (gt / "08.png").write_bytes(b"no image")
    code, said = check("datasets.val=~")
    assert code == 1
    assert said.count("has no counterpart.") == 7  # not five and two more
    assert "gt/03.png'" in said
    assert "gt/08.png'" in said
    assert "2 samples read, 9 problems" in said


def test_check_names_every_missing_line_and_key(images, tmp_path, check):
    gt, lq = images("gt", count=4, size=(32, 32)), images("lq", count=4, size=(16, 16))
    (tmp_path / "list.txt").write_text("00.png (32,32,3)\n09.png\n\n08.png\n")
    said = check("datasets.val=~", f"datasets.train.meta_info_file={tmp_path}/list.txt")[1]
    assert "09.png does not exist" in said
    assert "08.png does not exist" in said
    assert "line 4" in said
    assert "1 samples read, 2 problems" in said
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe0")
    assert "is not text in UTF-8" in check("datasets.val=~", f"datasets.train.meta_info_file={tmp_path}/list.txt")[1]
    (gt / "00.png").unlink()
    (lq / "03.png").unlink()
    roots = {side: tmp_path / f"{side}.lmdb" for side in ("gt", "lq")}
    for side, path in roots.items():
        main(["data", "lmdb", "-i", str(tmp_path / side), "-o", str(path)])
    changes = [f"datasets.train.dataroot_{side}={path}" for side, path in roots.items()]
    said = check("datasets.val=~", "datasets.train.io_backend.type=lmdb", *changes)[1]
    assert "gt.lmdb/03 has no counterpart" in said
    assert "lq.lmdb/00 has no counterpart" in said
    assert "2 samples read, 2 problems" in said


def test_an_interrupted_check_says_what_it_found(images, tmp_path, monkeypatch, check):
    gt, lq = images("gt", count=3, size=(32, 32)), images("lq", count=3, size=(16, 16))
    (gt / "00.png").write_bytes(b"no image")
    real = check_dataset

    def interrupted(*args, **options):
        yield from itertools.islice(real(*args, **options), 1)
        raise KeyboardInterrupt

    monkeypatch.setattr("restore.assembly.checking.check_dataset", interrupted)
    code, said = check(f"datasets.val.dataroot_lq={lq}")
    assert code == 130
    assert "gt/00.png'" in said
    assert "of 6 samples read, 1 problem" in said

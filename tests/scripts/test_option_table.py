"""The table of option files trains what it says it trains."""

from __future__ import annotations

import runpy
from pathlib import Path

import yaml

TABLE = runpy.run_path(str(Path(__file__).parents[2] / "scripts/option_table.py"))
OPTIONS = {
    "name": "tiny", "model_type": "SRModel", "scale": 2,
    "datasets": {"train": {
        "name": "set", "type": "PairedImageDataset", "dataroot_gt": "there", "dataroot_lq": "there",
        "meta_info_file": "list.txt", "filename_tmpl": "{}x2", "gt_size": 256,
        "batch_size_per_gpu": 16}},
    "network_g": {
        "type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 4, "num_block": 9, "upscale": 2},
    "train": {"optim_g": {"type": "Adam", "lr": 1e-4}, "total_iter": 500000, "pixel_opt": {"type": "L1Loss"}},
}  # fmt: skip


def test_the_first_of_each_kind_is_trained(tmp_path):
    for name in ("a.yml", "b.yml"):
        (tmp_path / name).write_text(yaml.safe_dump(OPTIONS))
    rows = TABLE["trained"](tmp_path, [(Path("a.yml"), "loads"), (Path("b.yml"), "loads"), (Path("c.yml"), "x: no")])
    (_, first), *others = rows
    assert first.startswith("loads, builds, trains: 0.")
    assert len(first.split(": ")[1].split(", ")) == 3
    assert others == [(Path("b.yml"), TABLE["AS_ANOTHER"]), (Path("c.yml"), "x: no")]


def test_files_of_a_kind_that_trains_count_as_training():
    given = [(Path("fork/a.yml"), "loads"), (Path("fork/b.yml"), "loads"), (Path("fork/t.yml"), "x: no"),
             (Path("fork/t.yml"), "y: no"), (Path("other/t.yml"), "x: no")]  # fmt: skip
    rows = [(given[0][0], TABLE["LOADS"] + ", builds, trains: 1"), (given[1][0], TABLE["AS_ANOTHER"]), *given[2:]]
    assert TABLE["counted"](rows) == [("fork", "3", "2", "2", "1: x: no"), ("other", "1", "0", "0", "1: x: no")]


def test_what_stops_a_training_is_the_row():
    options = {**OPTIONS, "network_g": {**OPTIONS["network_g"], "num_fear": 4}}
    assert "network_g.num_fear: unknown option" in TABLE["training"](options)


def test_stages_are_shortened_and_nothing_else():
    network = {"type": "HAT", "depths": [6, 6], "num_heads": [6, 6], "middle_blk_num": 12, "window_size": 16}
    found = TABLE["shortened"]({**OPTIONS, "network_g": network}, 2)
    wanted = {"type": "HAT", "depths": [2, 2], "num_heads": [6, 6], "middle_blk_num": 2, "window_size": 16}
    assert found["network_g"] == wanted
    assert found["train"]["optim_g"] == OPTIONS["train"]["optim_g"]

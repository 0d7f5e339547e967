"""Folders of images: failures on the way, and threads around the network."""

from __future__ import annotations

import errno
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from restore.errors import OutputError
from restore.images import read_image, write_image
from restore.inference import Restorer, folder
from restore.inference.folder import restore_files
from restore.inference.pipeline import WriteBehind, read_ahead
from restore.jobs import finished_jobs, plan_jobs


def photo(path: Path, shape=(12, 10, 3), dtype=np.uint8, seed=0):
    values = np.random.default_rng(seed).random(shape)
    scale = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    write_image(path, (values * scale).astype(dtype))
    return path


def test_every_kind_keeps_its_depth_and_channels(tmp_path, enlarge):
    kinds = {
        "a.png": ((9, 8), np.uint8),
        "b.png": ((9, 8, 2), np.uint16),
        "c.png": ((9, 8, 4), np.uint8),
        "d.tif": ((9, 8, 3), np.float32),
        "e/f.png": ((9, 8, 3), np.uint16),
    }
    for seed, (name, (shape, dtype)) in enumerate(kinds.items()):
        photo(tmp_path / "in" / name, shape, dtype, seed)
    jobs = plan_jobs(tmp_path / "in", tmp_path / "out", recursive=True)
    outcomes = list(restore_files(jobs, Restorer(enlarge(2), device="cpu")))
    assert [outcome.error for outcome in outcomes] == [None] * 5
    for name, (shape, dtype) in kinds.items():
        restored = read_image(tmp_path / "out" / name).pixels
        assert restored.dtype == dtype
        assert restored.shape == (18, 16, *shape[2:])


def test_one_bad_file_does_not_stop_the_others(tmp_path, enlarge):
    for seed in range(6):
        photo(tmp_path / "in" / f"{seed}.png", seed=seed)
    whole = (tmp_path / "in" / "3.png").read_bytes()
    (tmp_path / "in" / "3.png").write_bytes(whole[: len(whole) // 2])
    jobs = plan_jobs(tmp_path / "in", tmp_path / "out")
    outcomes = {o.job.source.name: o.error for o in restore_files(jobs, Restorer(enlarge(2), device="cpu"))}
    assert len(outcomes) == 6
    assert [name for name, error in outcomes.items() if error] == ["3.png"]
    assert "3.png" in outcomes["3.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{i}.png" for i in (0, 1, 2, 4, 5)]
    assert [job.source.name for job in jobs if job not in finished_jobs(jobs)] == ["3.png"]


def test_one_image_that_fails_takes_none_of_its_batch(tmp_path, enlarge):
    class Picky(enlarge):
        def forward(self, x):
            if (x == 0).all((1, 2, 3)).any():
                raise ValueError("I do not like black")
            return super().forward(x)

    for seed in range(4):
        photo(tmp_path / "in" / f"{seed}.png", seed=seed)
    write_image(tmp_path / "in" / "2.png", np.zeros((12, 10, 3), np.uint8))
    network = Picky(2)
    outcomes = list(restore_files(plan_jobs(tmp_path / "in", tmp_path / "out"), Restorer(network, device="cpu")))
    failed = [outcome for outcome in outcomes if outcome.error]
    assert [outcome.job.source.name for outcome in failed] == ["2.png"]
    assert "I do not like black" in failed[0].error
    assert len(finished_jobs(outcome.job for outcome in outcomes)) == 3


def test_a_full_disk_stops_everything(tmp_path, enlarge, monkeypatch):
    def full(path, image, **options):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise OutputError(f"cannot write '{path}': {error.strerror}") from error

    for seed in range(20):
        photo(tmp_path / "in" / f"{seed:02}.png", seed=seed)
    monkeypatch.setattr(folder, "write_image", full)
    network = enlarge(2)
    restorer = Restorer(network, device="cpu")
    monkeypatch.setattr(restorer, "group_size", lambda height, width: 1)
    with pytest.raises(OutputError, match="No space left"):
        list(restore_files(plan_jobs(tmp_path / "in", tmp_path / "out"), restorer))
    assert len(network.seen) < 20


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_large_results_are_written_as_they_are_finished(tmp_path, tile_signed, monkeypatch, suffix):
    """Pixel by pixel as when they are held, with several rows of tiles, alpha where the format has it, and progress."""
    photo(tmp_path / "in" / "a.png", (150, 60, 3 if suffix == ".jpg" else 4))
    photo(tmp_path / "in" / "b.png", (12, 10, 3))
    restorer = Restorer(tile_signed(2), device="cpu", tile=40, tile_overlap=8)
    shares = []
    for name, bound in (("held", folder.HELD_BYTES), ("rows", 150 * 60 * 4)):
        monkeypatch.setattr(folder, "HELD_BYTES", bound)
        jobs = plan_jobs(tmp_path / "in", tmp_path / name, ext=suffix.removeprefix("."))
        outcomes = list(restore_files(jobs, restorer, on_progress=lambda job, share: shares.append((job, share))))
        assert [outcome.error for outcome in outcomes] == [None, None]
    assert shares[-2][1] == 1.0
    for name in ("a", "b"):
        held, rows = (read_image(tmp_path / how / f"{name}{suffix}").pixels for how in ("held", "rows"))
        np.testing.assert_array_equal(held, rows)


def test_a_large_image_that_fails_halfway_leaves_nothing(tmp_path, enlarge, monkeypatch):
    class Tiring(enlarge):
        def forward(self, x):
            if len(self.seen) == 3:
                self.seen.append("the one that failed")
                raise ValueError("I am tired")
            return super().forward(x)

    for seed in range(3):
        photo(tmp_path / "in" / f"{seed}.png", (60, 10, 3), seed=seed)
    monkeypatch.setattr(folder, "HELD_BYTES", 1)
    restorer = Restorer(Tiring(2), device="cpu", tile=20, tile_overlap=4, tile_batch=1)
    monkeypatch.setattr(restorer, "group_size", lambda height, width: 1)
    outcomes = list(restore_files(plan_jobs(tmp_path / "in", tmp_path / "out"), restorer))
    assert [outcome.error is None for outcome in outcomes] == [False, True, True]
    assert "'" + str(tmp_path / "in" / "0.png") + "': ValueError: I am tired" in outcomes[0].error
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.png", "2.png"]


def test_a_disk_that_fills_halfway_stops_everything(tmp_path, enlarge, monkeypatch):
    def full(self, rows):
        raise OSError(errno.ENOSPC, "No space left on device")

    photo(tmp_path / "in" / "a.png", (60, 10, 3))
    monkeypatch.setattr(folder, "HELD_BYTES", 1)
    monkeypatch.setattr("restore.images.png.Encoder.write", full)
    with pytest.raises(OutputError, match=r"cannot write .*a.png.*No space left"):
        list(restore_files(plan_jobs(tmp_path / "in", tmp_path / "out"), Restorer(enlarge(2), device="cpu")))
    assert list((tmp_path / "out").iterdir()) == []


def test_output_folder_that_cannot_be_made(tmp_path, enlarge):
    photo(tmp_path / "in" / "a.png")
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(OutputError, match="cannot make the folder"):
        list(restore_files(plan_jobs(tmp_path / "in", tmp_path / "out"), Restorer(enlarge(2), device="cpu")))


def test_read_ahead_keeps_order_and_depth():
    started = []

    def read(number):
        started.append(number)
        time.sleep(0.001 * (5 - number % 5))
        if number == 4:
            raise ValueError(number)
        return number * 10

    with ThreadPoolExecutor(2) as pool:
        results = read_ahead(range(10), read, pool, depth=2)
        first = next(results)
        assert (first[0], first[1].result()) == (0, 0)
        assert max(started) <= 3
        rest = list(results)
    assert [item for item, _ in rest] == list(range(1, 10))
    assert [item for item, future in rest if future.exception()] == [4]


def test_write_behind_lets_the_caller_go_on():
    gate = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        writes = WriteBehind(pool, depth=2)
        writes.put("a", gate.wait)
        writes.put("b", lambda: None)
        assert list(writes.finished()) == []  # not done, and within the depth: nobody waits
        gate.set()
        assert [item for item, _ in writes.finished(all_of_them=True)] == ["a", "b"]

"""Which image becomes which file: names, numbers, lists, refusals, and results of an earlier run."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from restore.errors import DataError, OptionsError, OutputError
from restore.images import write_image
from restore.jobs import Job, find_images, left_out, plan_jobs


def photo(path: Path, shape=(12, 10, 3), dtype=np.uint8, seed=0):
    values = np.random.default_rng(seed).random(shape)
    scale = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    write_image(path, (values * scale).astype(dtype))
    return path


def names(jobs, root):
    return {job.source.name: str(job.target.relative_to(root)) for job in jobs}


def frames(folder, numbers):
    for number in numbers:
        photo(folder / f"{number:05}.png")
    return folder


def test_names(tmp_path):
    for name in ("a.png", "b.jpg", "c.TIFF", "d.webp", "sub/e.bmp"):
        photo(tmp_path / "in" / name)
    out = tmp_path / "out"
    assert names(plan_jobs(tmp_path / "in", out), out) == {
        "a.png": "a.png",
        "b.jpg": "b.png",
        "c.TIFF": "c.TIFF",
        "d.webp": "d.png",
    }
    jobs = plan_jobs(tmp_path / "in", out, recursive=True, suffix="_x4", ext="jpg")
    assert names(jobs, out)["e.bmp"] == "sub/e_x4.jpg"
    assert names(jobs, out)["a.png"] == "a_x4.jpg"


def test_one_image(tmp_path):
    source = photo(tmp_path / "a.jpg")
    assert plan_jobs(source, tmp_path / "out") == [Job(source, tmp_path / "out" / "a.png")]
    assert plan_jobs(source, tmp_path / "b.tif") == [Job(source, tmp_path / "b.tif")]


def test_two_inputs_do_not_become_one_output(tmp_path):
    for name in ("a.jpg", "a.png", "b.jpg"):
        photo(tmp_path / "in" / name)
    jobs = plan_jobs(tmp_path / "in", tmp_path / "out")
    assert names(jobs, tmp_path / "out") == {"a.jpg": "a.jpg.png", "a.png": "a.png.png", "b.jpg": "b.png"}
    photo(tmp_path / "in" / "a.jpg.png")
    with pytest.raises(OutputError, match="several inputs would become one output"):
        plan_jobs(tmp_path / "in", tmp_path / "out")


def test_inputs_are_never_overwritten(tmp_path):
    source = photo(tmp_path / "in" / "a.png")
    with pytest.raises(OutputError, match="never overwritten"):
        plan_jobs(tmp_path / "in", tmp_path / "in")
    with pytest.raises(OutputError, match="never overwritten"):
        plan_jobs(source, source)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(OutputError, match="never overwritten"):
        plan_jobs(tmp_path / "in", tmp_path / "link")
    (tmp_path / "hard").mkdir()
    os.link(source, tmp_path / "hard" / "a.png")
    with pytest.raises(OutputError, match="never overwritten"):
        plan_jobs(tmp_path / "in", tmp_path / "hard")
    assert plan_jobs(tmp_path / "in", tmp_path / "in", suffix="_x2")[0].target == tmp_path / "in" / "a_x2.png"


def test_results_inside_the_input_folder_are_no_inputs(tmp_path):
    source = photo(tmp_path / "a.png")
    photo(tmp_path / "out" / "sub" / "a.png")
    (tmp_path / "out" / "log.txt").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for output in ("out", "link", "out/%05d.png", "out/sub/../"):
        assert [job.source for job in plan_jobs(tmp_path, tmp_path / output, recursive=True)] == [source]
        assert left_out(tmp_path, tmp_path / output, recursive=True) == []
    assert len(plan_jobs(tmp_path, tmp_path / "outside", recursive=True)) == 2


def test_nothing_to_do_is_an_error(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        plan_jobs(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(DataError, match=r"no image.*--recursive"):
        plan_jobs(tmp_path, tmp_path / "out")
    photo(tmp_path / "a.png")
    with pytest.raises(OptionsError, match=r"ext is 'jpgg'.*Did you mean"):
        plan_jobs(tmp_path, tmp_path / "out", ext="jpgg")


def test_patterns_in_and_out_keep_numbers(tmp_path):
    frames(tmp_path / "in", [3, 4, 10])
    jobs = plan_jobs(tmp_path / "in/%05d.png", tmp_path / "out/f_%03d.tif")
    assert [job.target.name for job in jobs] == ["f_003.tif", "f_004.tif", "f_010.tif"]
    jobs = plan_jobs(tmp_path / "in/%05d.png", tmp_path / "out")
    assert [job.target.name for job in jobs] == ["00003.png", "00004.png", "00010.png"]
    jobs = plan_jobs(tmp_path / "in", tmp_path / "out/%d.png")
    assert [(job.source.name, job.target.name) for job in jobs][2] == ("00010.png", "3.png")
    with pytest.raises(OutputError, match="never overwritten"):
        plan_jobs(tmp_path / "in/%05d.png", tmp_path / "in/%05d.png")


def test_lists_of_files(tmp_path, monkeypatch):
    frames(tmp_path / "a", [1])
    frames(tmp_path / "b", [2])
    paths = [tmp_path / "a/00001.png", tmp_path / "b/00002.png", tmp_path / "gone.png"]
    expected = [Job(path, tmp_path / "out" / path.name) for path in paths]
    assert plan_jobs(paths, tmp_path / "out") == expected
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("a/00001.png\n\nb/00002.png\ngone.png\n")
    assert [job.target for job in plan_jobs("list.txt", tmp_path / "out")] == [job.target for job in expected]
    found = [image.path for image in find_images("list.txt")]
    assert found == [
        Path("a/00001.png"),
        Path("b/00002.png"),
        Path("gone.png"),
    ]
    for content, words in ((b"", "lists no image"), (b"\xff\xfe\x00", "not text")):
        Path("list.txt").write_bytes(content)
        with pytest.raises(DataError, match=words):
            plan_jobs("list.txt", "out")


def test_what_is_no_image_can_be_named(tmp_path):
    frames(tmp_path, [1])
    for name in ("notes.txt", "sub/clip.mp4", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert [path.name for path in left_out(tmp_path)] == ["notes.txt"]
    assert [path.name for path in left_out(tmp_path, recursive=True)] == ["notes.txt", "clip.mp4"]
    assert left_out([tmp_path / "notes.txt"]) == []

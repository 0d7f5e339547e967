"""Which image becomes which file: names, numbers, lists, refusals, and results of an earlier run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from restore import jobs
from restore.errors import DataError, OptionsError, OutputError
from restore.images import formats, write_image
from restore.jobs import Job, find_images, finished_jobs, left_out, plan_jobs


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
    planned = plan_jobs(tmp_path / "in", out, recursive=True, suffix="_x4", ext="jpg")
    assert names(planned, out)["e.bmp"] == "sub/e_x4.jpg"
    assert names(planned, out)["a.png"] == "a_x4.jpg"


def test_one_image(tmp_path):
    source = photo(tmp_path / "a.jpg")
    assert plan_jobs(source, tmp_path / "out") == [Job(source, tmp_path / "out" / "a.png")]
    assert plan_jobs(source, tmp_path / "b.tif") == [Job(source, tmp_path / "b.tif")]


def test_two_inputs_do_not_become_one_output(tmp_path):
    for name in ("a.jpg", "a.png", "b.jpg"):
        photo(tmp_path / "in" / name)
    planned = plan_jobs(tmp_path / "in", tmp_path / "out")
    assert names(planned, tmp_path / "out") == {"a.jpg": "a.jpg.png", "a.png": "a.png.png", "b.jpg": "b.png"}
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
    planned = plan_jobs(tmp_path / "in/%05d.png", tmp_path / "out/f_%03d.tif")
    assert [job.target.name for job in planned] == ["f_003.tif", "f_004.tif", "f_010.tif"]
    planned = plan_jobs(tmp_path / "in/%05d.png", tmp_path / "out")
    assert [job.target.name for job in planned] == ["00003.png", "00004.png", "00010.png"]
    planned = plan_jobs(tmp_path / "in", tmp_path / "out/%d.png")
    assert [(job.source.name, job.target.name) for job in planned][2] == ("00010.png", "3.png")
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


def test_a_list_in_any_encoding(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames(tmp_path, [1, 2])
    photo(tmp_path / "größe.png")
    text = "00001.png\r\ngröße.png\r\n00002.png\r\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"):
        Path("list.txt").write_bytes(text.encode(encoding))
        assert [str(image.path) for image in find_images("list.txt")] == ["00001.png", "größe.png", "00002.png"]
    Path("list.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="not text in UTF-8 or UTF-16"):
        find_images("list.txt")
    if sys.platform == "linux":  # where names are bytes
        Path("größe.png".encode("latin-1").decode("utf-8", "surrogateescape")).write_bytes(b"")
        assert len(find_images("list.txt")) == 3


def test_names_that_begin_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("~x.png", "~", "home/a.png"):
        photo(Path(name)) if name.endswith(".png") else Path(name).mkdir()
    assert plan_jobs("~x.png", "~out.d") == [Job(Path("~x.png"), Path("~out.d/~x.png"))]
    assert plan_jobs(["~x.png"], "~no-such-user/o.png") == [Job(Path("~x.png"), Path("~no-such-user/o.png"))]
    Path("list.txt").write_text("~x.png\n~/a.png\n")
    assert [image.path for image in find_images("list.txt")] == [Path("~x.png"), tmp_path / "home/a.png"]


@pytest.mark.parametrize("name", ["b.heic", "o7.gif", "o.xyz", "c.mp4", "c.jp2", "c.J2K", "a.b.svg", "%05d.gif"])
def test_a_file_that_is_not_written(tmp_path, name):
    source = photo(tmp_path / "in" / "a.png")
    for given in (source, source.parent, [source], str(source.parent / "*.png")):
        with pytest.raises(OptionsError, match=r"(is not written|images; end).*png|end the name with .png"):
            plan_jobs(given, tmp_path / name)
        assert len(plan_jobs(given, f"{tmp_path / name}/")) == 1
    if "%" not in name:
        (tmp_path / name).mkdir()
        assert plan_jobs(source, tmp_path / name)[0].target == tmp_path / name / "a.png"


@pytest.mark.parametrize("name", ["results", "results.v2", "x4.0", "2024.11.30", "run.1", "out.experiment"])
def test_names_of_folders(tmp_path, name):
    source = photo(tmp_path / "a.png")
    assert plan_jobs(source, tmp_path / name)[0].target == tmp_path / name / "a.png"


def test_one_file_for_several_images(tmp_path):
    frames(tmp_path / "in", [1])
    for given in (tmp_path / "in", [tmp_path / "in"]):
        with pytest.raises(OptionsError, match="name of one file"):
            plan_jobs(given, tmp_path / "both.png")
    frames(tmp_path / "in", [2])
    for given in (str(tmp_path / "in/*.png"), tmp_path / "in/%05d.png", list((tmp_path / "in").iterdir())):
        with pytest.raises(OptionsError, match="name of one file"):
            plan_jobs(given, tmp_path / "both.png")
    assert plan_jobs(str(tmp_path / "in/*1.png"), tmp_path / "one.tif")[0].target == tmp_path / "one.tif"


def test_patterns_as_shells_have_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("ph/a.png", "ph/b.jpg", "ph/c[1].png", "ph/sub/d.png"):
        photo(Path(name))
    Path("ph/notes.txt").write_text("")

    def found(*given, **options):
        return [str(image.path) for image in find_images(list(given) if len(given) > 1 else given[0], **options)]

    assert found("ph/*.png") == ["ph/a.png", "ph/c[1].png"]
    assert found("ph/[ab].*") == ["ph/a.png", "ph/b.jpg"]
    assert found("ph/c[1].png") == ["ph/c[1].png"]
    assert found("ph/**/?.png") == ["ph/a.png", "ph/sub/d.png"]
    assert found("ph/*") == ["ph/a.png", "ph/b.jpg", "ph/c[1].png", "ph/sub/d.png"]
    assert found("ph/a.png", str(tmp_path / "ph/a.png"), "ph/../ph/a.png") == ["ph/a.png"]
    assert found("ph/*.png", "ph/a.png", "ph") == ["ph/a.png", "ph/c[1].png", "ph/b.jpg"]
    with pytest.raises(DataError, match=r"ph/\*\.gif' does not exist"):
        find_images("ph/*.gif")


def test_several_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("x/a.png", "y/a.png", "y/sub/b.png", "z/x/a.png", "c.png"):
        photo(Path(name))

    def targets(*sources, **options):
        return [str(job.target) for job in plan_jobs(list(sources), "out", **options)]

    assert targets("x", "y") == ["out/x/a.png", "out/y/a.png"]
    assert targets("x", "y", recursive=True) == ["out/x/a.png", "out/y/a.png", "out/y/sub/b.png"]
    assert targets("x", "z/x", "c.png") == ["out/x/a.png", "out/x_2/a.png", "out/c.png"]
    assert targets("x/../y", str(tmp_path / "x")) == ["out/y/a.png", "out/x/a.png"]
    assert targets("x") == ["out/a.png"]
    monkeypatch.chdir(tmp_path / "y")
    assert targets(".", "../x") == ["out/y/a.png", "out/x/a.png"]
    assert [str(job.target) for job in plan_jobs("../?", "out")] == ["out/x/a.png", "out/y/a.png"]


@pytest.mark.parametrize("tells_case", [True, False])
def test_names_that_differ_in_case_only(tmp_path, monkeypatch, tells_case):
    paths = [photo(tmp_path / "in" / name) for name in ("A.png", "a.png", "b.jpg", "B.PNG")]
    if len(list((tmp_path / "in").iterdir())) < 4:
        pytest.skip("this file system has no such names")
    monkeypatch.setattr(jobs, "_tells_case", lambda folder: tells_case)
    planned = names(plan_jobs(paths, tmp_path / "out"), tmp_path / "out")
    if tells_case:
        assert planned == {"A.png": "A.png", "a.png": "a.png", "b.jpg": "b.png", "B.PNG": "B.PNG"}
    else:
        assert len({target.lower() for target in planned.values()}) == 4
        assert planned["A.png"] != planned["a.png"]


def test_the_file_system_is_asked_about_case(tmp_path):
    (tmp_path / "a").mkdir()
    assert jobs._tells_case(tmp_path / "no" / "such") == (not (tmp_path / "A").exists())
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_results_beside_the_originals(tmp_path):
    folder = tmp_path / "photos"
    sources = [photo(folder / name) for name in ("a.png", "b.jpg", "b.png", "sub/c.webp")]

    def planned():
        return plan_jobs(folder, folder, suffix="_x2", recursive=True)

    first = planned()
    assert [job.target.name for job in first] == ["a_x2.png", "b_x2.jpg.png", "b_x2.png.png", "c_x2.png"]
    assert not finished_jobs(first)
    for job in first[:3]:
        photo(job.target)
    again = planned()
    assert [job.source for job in again] == sources
    assert [job.target for job in again] == [job.target for job in first]
    assert [job.kept for job in again] == [True, True, True, False]
    assert finished_jobs(again, resume=False) == finished_jobs(again) == again[:3]
    (tmp_path / "link").symlink_to(folder)
    assert [job.kept for job in plan_jobs(folder, tmp_path / "link", suffix="_x2", recursive=True)][:3] == [True] * 3
    shell = [str(path) for path in sorted(folder.glob("*.*"))]
    assert [job.source for job in plan_jobs(shell, folder, suffix="_x2")] == sources[:3]
    assert plan_jobs(folder, tmp_path / "out", suffix="_x4", recursive=True)[0].kept is False
    assert len(plan_jobs(folder, tmp_path / "out", suffix="_x2", recursive=True)) == 7


def test_results_among_the_inputs_need_names_of_their_own(tmp_path):
    photo(tmp_path / "a.jpg")
    with pytest.raises(OutputError, match=r"never overwritten.*--suffix"):
        plan_jobs(tmp_path, tmp_path)


def test_formats_that_are_not_read_here_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "_is_installed", lambda module: False)
    formats.readable_suffixes.cache_clear()
    try:
        (tmp_path / "a.heic").write_bytes(b"")
        with pytest.raises(DataError, match=r"formats that are not read here: \.heic \(pip install 'restore-toolkit"):
            find_images(tmp_path)
        assert [image.path.name for image in find_images(str(tmp_path / "*.heic"))] == ["a.heic"]
    finally:
        formats.readable_suffixes.cache_clear()

"""Numbered images as input and output, and lists of files."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from restore.errors import DataError, ImageError, OptionsError, OutputError
from restore.images import read_image, write_image
from restore.images.numbering import Numbering
from restore.inference import Restorer
from restore.jobs import Job, find_images, left_out, plan_jobs


def frames(folder, numbers=range(1, 8), shape=(24, 32, 3), dtype=np.uint8):
    white = np.iinfo(dtype).max
    for number in numbers:
        pixels = np.full(shape, number * (white // 16), dtype)
        write_image(folder / f"{number:05}.png", pixels)
    return folder


def test_names_and_numbers(tmp_path, caplog):
    names = Numbering(tmp_path / "100%_%03d_x.png".replace("%_", "_"))
    assert names.path(7).name == "100_007_x.png"
    assert Numbering("%d.png").path(12) == Path("12.png")
    frames(tmp_path, [3, 4, 8, 9])
    (tmp_path / "5.png").write_bytes(b"has no leading zeros")
    with caplog.at_level(logging.WARNING):
        assert list(Numbering(tmp_path / "%05d.png").find()) == [3, 4, 8, 9]
    assert "number 5 and 2 more is missing" in caplog.text
    with pytest.raises(DataError, match=r"there is no file .*frame_0001\.png"):
        Numbering(tmp_path / "frame_%04d.png").find()
    for wrong, words in (("%d_%d.png", "one placeholder"), ("%05d", "ending|numbered files are images")):
        with pytest.raises(OptionsError, match=words):
            Numbering(tmp_path / wrong)
    (tmp_path / "50%done.png").write_bytes(b"")
    assert not Numbering.is_one(tmp_path / "50%done.png")


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
    assert find_images("list.txt") == [Path("a/00001.png"), Path("b/00002.png"), Path("gone.png")]
    for content, words in ((b"", "lists no image"), (b"\xff\xfe\x00", "no text")):
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


def test_images_become_a_video(tmp_path, enlarge):
    pytest.importorskip("av", reason="video needs PyAV")
    from restore.inference.video import ImageSequence, VideoFile, plan_encoding, restore_to_video

    folder = frames(tmp_path / "in", dtype=np.uint16)
    source = ImageSequence(find_images(folder), Fraction(30000, 1001))
    encoding = plan_encoding(source.clip, 2, ".mp4")
    outcome = restore_to_video(source, tmp_path / "out.mp4", Restorer(enlarge(2), device="cpu"), encoding)
    assert (outcome.num_frames, outcome.problems) == (7, ())
    video = VideoFile(tmp_path / "out.mp4")
    assert (video.clip.rate, video.clip.pixel_format) == (Fraction(30000, 1001), "yuv420p10le")
    restored = list(video.frames())
    assert [round(frame.pixels.mean() / 4095) for frame in restored] == list(range(1, 8))
    assert [frame.pts * video.clip.time_base for frame in restored] == [Fraction(1001 * n, 30000) for n in range(7)]


def test_frames_have_to_be_alike_and_readable(tmp_path, enlarge):
    pytest.importorskip("av", reason="video needs PyAV")
    from restore.inference.video import ImageSequence, plan_encoding, restore_to_video

    folder = frames(tmp_path / "in")
    restorer = Restorer(enlarge(2), device="cpu")

    def restore():
        source = ImageSequence(find_images(folder), Fraction(25))
        encoding = plan_encoding(source.clip, 2, ".mp4")
        return restore_to_video(source, tmp_path / "out.mp4", restorer, encoding, segment_frames=2)

    frames(folder, [6], (20, 32, 3))
    with pytest.raises(ImageError, match=r"00006.png' is 32x20.*32x24"):
        restore()
    (folder / "00006.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    with pytest.raises(ImageError, match=r"00006.png"):
        restore()
    assert not (tmp_path / "out.mp4").exists()


def test_a_video_becomes_images_and_goes_on(tmp_path, make_clip, enlarge):
    from restore.inference.video import VideoFile, restore_to_images

    source = VideoFile(make_clip(tmp_path / "in.mp4", 6))
    names = Numbering(tmp_path / "out/%03d.png")
    network = enlarge(2)
    restorer = Restorer(network, device="cpu")
    restorer.group_size = lambda height, width: 2
    outcome = restore_to_images(source, lambda number: names.path(number + 1), restorer)
    assert (outcome.num_frames, outcome.num_kept) == (6, 0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{number:03}.png" for number in range(1, 7)]
    original = [frame.pixels for frame in source.frames()]
    assert (read_image(names.path(4)).pixels == original[3].repeat(2, 0).repeat(2, 1)).all()
    names.path(5).unlink()
    network.seen.clear()
    outcome = restore_to_images(source, lambda number: names.path(number + 1), restorer, resume=True)
    assert (outcome.num_frames, outcome.num_kept) == (6, 4)
    assert sum(shape[0] for shape in network.seen) == 2

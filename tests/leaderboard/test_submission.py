from __future__ import annotations

import json
import os
import re
import zipfile

import numpy as np
import pytest
import torch

from restore.errors import DataError, OptionsError, OutputError
from restore.images import read_image, write_image
from restore.leaderboard.archive import open_package, write_zip
from restore.leaderboard.readme import Readme
from restore.leaderboard.submission import ZIP, Author, identity_of, run_task, runtime_of, submit
from restore.leaderboard.tasks import ImageTask, OpinionTask, reference_of
from restore.leaderboard.tracks import TRACKS
from restore.leaderboard.work import WorkFolder
from restore.networks.checkpoint import digest_of
from restore.registry import METRICS

CPU = torch.device("cpu")


@pytest.fixture
def make(challenge, tmp_path, restorer, sr_x4):
    """A function: submits the challenge; the restorer may be given, to see what it was asked."""

    def submitted(model=None, author=None, output=tmp_path / "out"):
        model = model or restorer()
        task = ImageTask(sr_x4, model, challenge / "lr", output / "images")
        work = WorkFolder(output, identity_of(sr_x4, digest_of(model.network), {}, (challenge / "lr").iterdir()))
        author = author or Author("Repeat", description="repeats pixels")
        return submit(task, work, sr_x4, author, device=CPU, network=model.network, remarks=["a remark"])

    return submitted


def test_a_zip_as_the_organisers_want_it(make, challenge):
    submission = make()
    with zipfile.ZipFile(submission.zip) as made:
        assert made.namelist() == ["0901x4.png", "0902x4.png", "0903x4.png", "readme.txt"]
        readme = made.read("readme.txt").decode()
    with open_package(submission.zip) as package:
        for name in package.names - {"readme.txt"}:
            header = package.read(name)[16:26]
            assert header == (32).to_bytes(4, "big") + (24).to_bytes(4, "big") + bytes([8, 2])
    pattern = (
        r"runtime per image \[s\] : \d\S*\nCPU\[1\] / GPU\[0\] : 1\n"
        r"Extra Data \[1\] / No Extra Data \[0\] : 0\nOther description : Repeat\. repeats pixels\. a remark\..+\n"
    )
    assert re.fullmatch(pattern, readme, re.S)
    assert "without the first image" in readme
    lr, hr = (
        read_image(path).pixels for path in (challenge / "lr/0901x4.png", submission.zip.parent / "images/0901x4.png")
    )
    assert np.array_equal(lr.repeat(4, 0).repeat(4, 1), hr)


def test_what_is_measured(make):
    submission = make()
    runtime, cost = submission.runtime, submission.complexity
    assert runtime.num_images == 3
    assert 0 < runtime.network_s <= runtime.io_s
    assert runtime.mean_s == runtime.io_s  # image SR counts reading and writing
    assert runtime.without_first_s > 0
    assert (cost.num_conv, cost.params_m * 1e6) == (1, 9)
    record = json.loads((submission.zip.parent / "submission.json").read_text())
    assert record["sha256"] == submission.sha256
    assert record["num_files"] == 4


def test_runtime_as_the_track_defines_it():
    records = {
        "a": {"network_s": 10.0, "io_s": 20.0, "peak_mib": 5.0, "first": True},
        "b": {"network_s": 1.0, "io_s": 4.0, "peak_mib": 7.0, "first": False},
        "c": {"network_s": 3.0, "io_s": 6.0, "peak_mib": 6.0, "first": False},
    }
    esr, sr = runtime_of(records, TRACKS["esr"]), runtime_of(records, TRACKS["sr_x4"])
    assert (esr.mean_s, esr.without_first_s, esr.peak_mib) == (14 / 3, 2.0, 7.0)
    assert (sr.mean_s, sr.without_first_s) == (10.0, 5.0)
    assert runtime_of({"a": records["a"]}, TRACKS["esr"]).without_first_s is None


def test_interrupted_and_gone_on_with(make, restorer, tmp_path):
    interrupted = restorer()
    forward = interrupted.network.forward

    def twice(x_BCHW):
        if interrupted.network.calls == 2:
            raise KeyboardInterrupt
        return forward(x_BCHW)

    interrupted.network.forward = twice
    with pytest.raises(KeyboardInterrupt):
        make(interrupted)
    assert not (tmp_path / "out" / ZIP).exists()
    assert len(list((tmp_path / "out/images").glob("*.png"))) == 2
    again = restorer()
    submission = make(again)
    assert again.network.calls == 2  # the one image that was missing, and the count of its cost
    assert sum(json.loads(line)["first"] for line in (tmp_path / "out/progress.jsonl").read_text().splitlines()) == 2
    whole = make(output=tmp_path / "whole")
    with zipfile.ZipFile(submission.zip) as one, zipfile.ZipFile(whole.zip) as other:
        assert all(one.read(name) == other.read(name) for name in one.namelist() if name.endswith("png"))


def test_lost_results_and_cut_lines_are_done_again(make, restorer, tmp_path):
    make()
    (tmp_path / "out/images/0902x4.png").unlink()
    progress = tmp_path / "out/progress.jsonl"
    progress.write_text(progress.read_text()[:-20])
    again = restorer()
    make(again)
    assert again.network.calls == 3
    assert {json.loads(line)["name"] for line in progress.read_text().splitlines()} == {
        "0901x4.png",
        "0902x4.png",
        "0903x4.png",
    }


def test_a_failed_image_leaves_no_zip_and_spoils_no_other(make, challenge, tmp_path):
    make()
    (tmp_path / "out" / "images" / "0901x4.png").unlink()
    (tmp_path / "out" / "progress.jsonl").unlink()
    picture = challenge / "lr/0902x4.png"
    stamp, content = picture.stat(), bytearray(picture.read_bytes())
    content[60] ^= 255
    picture.write_bytes(content)
    os.utime(picture, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(DataError, match=r"1 of 3 items failed, so there is no submission[\s\S]*0902x4.png.*damaged"):
        make()
    assert not (tmp_path / "out" / ZIP).exists()
    assert (tmp_path / "out/images/0901x4.png").is_file()


def test_another_run_does_not_slip_in(make, restorer, challenge, tmp_path, noise):
    make()
    other = restorer()
    other.network.conv.weight.data.mul_(0.5)
    with pytest.raises(OutputError, match="holds a submission of something else: model differ"):
        make(other)
    write_image(challenge / "lr/0901x4.png", noise(6, 8, 3))
    with pytest.raises(OutputError, match="something else: inputs differ"):
        make()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds other files"):
        make(output=tmp_path / "full")


def test_its_own_check_finds_what_others_would(make, challenge, restorer, sr_x4, tmp_path, noise):
    submission = make()
    task = ImageTask(sr_x4, restorer(), challenge / "lr", tmp_path / "again")
    with open_package(submission.zip) as package:
        assert list(task.problems(package)) == []
        files = {name: package.read(name) for name in package.names}
    write_image(tmp_path / "small.png", noise(24, 30, 3))
    spoiled = {
        "1 of 4 files are missing: 0903x4.png": {**files, "0903x4.png": None},
        "files are missing: readme.txt": {**files, "readme.txt": None},
        "1 files do not belong there: .DS_Store": {**files, ".DS_Store": b""},
        "0902x4.png is 30x24 .* expected: 32x24": {**files, "0902x4.png": (tmp_path / "small.png").read_bytes()},
        "readme.txt: line 2": {**files, "readme.txt": b"runtime per image [s] : 1\n"},
    }
    for message, content in spoiled.items():
        write_zip(tmp_path / "spoiled.zip", {name: data for name, data in content.items() if data is not None})
        with open_package(tmp_path / "spoiled.zip") as package:
            assert re.search(message, "\n".join(task.problems(package)))


def test_not_ready_is_not_called_ready(make, monkeypatch, tmp_path):
    monkeypatch.setattr(Readme, "__str__", lambda _: "runtime: fast")
    with pytest.raises(DataError, match=r"the submission is not ready[\s\S]*line 1 should be"):
        make()
    assert [path.name for path in (tmp_path / "out").glob("*.zip")] == []


def test_inputs_that_the_track_does_not_take(challenge, restorer, sr_x4, tmp_path, noise):
    with pytest.raises(DataError, match="enlarges 4 times, the model 2 times"):
        ImageTask(sr_x4, restorer(2), challenge / "lr", tmp_path / "out")
    with pytest.raises(DataError, match=r"are not the set 'test' of sr_x4 \(100 images\)[\s\S]*0904x4.png is missing"):
        ImageTask(sr_x4, restorer(), challenge / "lr", tmp_path / "out", split="test")
    with pytest.raises(OptionsError, match=r"has no list 'trial'\. Known: valid, test"):
        ImageTask(sr_x4, restorer(), challenge / "lr", tmp_path / "out", split="trial")
    write_image(challenge / "lr/0902x4.png", noise(6, 8))
    task = ImageTask(sr_x4, restorer(), challenge / "lr", tmp_path / "out")
    with pytest.raises(DataError, match="1 channels of uint8: the track takes RGB of 8 bit"):
        task.do("0902x4.png")


def test_official_sets():
    assert TRACKS["sr_x4"].split("valid") >= {"0801x4.png", "0900x4.png"}
    assert TRACKS["sr_x4"].split("test") >= {"0901x4.png", "1000x4.png"}
    assert len(TRACKS["esr"].split("valid")) == 200
    assert TRACKS["esr"].split("valid") >= {"000001x4.png", "000100x4.png", "0801x4.png", "0900x4.png"}
    assert "0901.png" in TRACKS["esr"].split("test2022")
    assert TRACKS["denoise50"].split("test") >= {"0901.png", "1000.png"}


@pytest.fixture
def iqa(tmp_path):
    """1,650 distorted images of 25 references, as in the validation of 2022; the images are links to two files."""
    folder = tmp_path / "iqa"
    for name, grey in (("Ref/A0000", 10), ("Dis/A0000_00_00", 12)):
        write_image(folder / f"{name}.bmp", np.full((4, 4, 3), grey, np.uint8))
    for reference in range(25):
        (folder / f"Ref/A{reference:04}.bmp").exists() or (folder / f"Ref/A{reference:04}.bmp").hardlink_to(
            folder / "Ref/A0000.bmp"
        )
        for number in range(66):
            path = folder / f"Dis/A{reference:04}_{number // 10:02}_{number % 10:02}.bmp"
            path.exists() or path.hardlink_to(folder / "Dis/A0000_00_00.bmp")
    return folder


def test_a_submission_that_an_older_version_began_goes_on(tmp_path):
    WorkFolder(tmp_path, {})
    (tmp_path / "progress.jsonl").write_text(
        '{"name": "a.png", "network_s": 1, "io_s": 2, "peak_mb": 5, "first": true}\n'
    )
    records = WorkFolder(tmp_path, {}).records
    assert runtime_of(records, TRACKS["esr"]).peak_mib == 5


def test_opinions_have_exactly_a_line_for_each_image(iqa, tmp_path):
    track = TRACKS["perceptual_iqa"]
    metric = METRICS.bind({"type": "psnr"})
    task = OpinionTask(metric, iqa / "Dis", iqa / "Ref")
    work = WorkFolder(tmp_path / "out", {})
    for number, name in enumerate(task.names[:1620]):  # done before an interruption
        work.add(name, {"network_s": 0.1, "io_s": 0.1, "peak_mib": 1.0, "first": False, "score": number / 7})
    submission = submit(task, work, track, Author("PSNR"), device=CPU)
    assert submission.names == ["output.txt", "readme.txt"]
    with open_package(submission.zip) as package:
        lines = package.text("output.txt").splitlines()
        Readme.parse(package.text("readme.txt"))
    assert len(lines) == 1650
    assert lines == sorted(lines)
    assert all(re.fullmatch(r"A\d{4}_\d\d_\d\d\.bmp,\d+\.\d{6}", line) for line in lines)
    lines[3] = lines[2]
    write_zip(tmp_path / "bad.zip", {"output.txt": "\n".join(lines[:-1]).encode(), "readme.txt": b"x"})
    with open_package(tmp_path / "bad.zip") as package, pytest.raises(DataError, match="is there twice"):
        list(task.problems(package))
    write_zip(tmp_path / "bad.zip", {"output.txt": b"A0000_00_00.bmp,1.0", "readme.txt": b"x"})
    with open_package(tmp_path / "bad.zip") as package:
        assert "1649 images have no line" in "\n".join(task.problems(package))


def test_opinions_that_cannot_be_submitted(iqa, tmp_path):
    psnr = METRICS.bind({"type": "psnr"})
    with pytest.raises(DataError, match="give their folder with --reference"):
        OpinionTask(psnr, iqa / "Dis")
    (iqa / "Ref/A0007.bmp").unlink()
    with pytest.raises(DataError, match=r"references are missing[\s\S]*of A0007_00_00.bmp"):
        OpinionTask(psnr, iqa / "Dis", iqa / "Ref")
    same = OpinionTask(psnr, iqa / "Dis", iqa / "Dis")
    with pytest.raises(DataError, match="its score is inf, which no server takes"):
        same.do("A0000_00_00.bmp")


def test_higher_is_better_in_what_is_submitted(tmp_path, noise):
    for name in ("a", "b"):
        write_image(tmp_path / f"{name}.png", noise(96, 96, 3))
    task = OpinionTask(METRICS.bind({"type": "gmsd"}), tmp_path, tmp_path)
    work = WorkFolder(tmp_path / "out", {})
    run_task(task, work, CPU)
    assert all(record["score"] <= 0 for record in work.records.values())


def test_references_of_pipal(tmp_path):
    known = {"A0001": tmp_path / "A0001.bmp", "plain": tmp_path / "plain.png"}
    assert reference_of("A0001_10_03.bmp", known) == known["A0001"]
    assert reference_of("plain.png", known) == known["plain"]
    assert reference_of("A0002_00_00.bmp", known) is None

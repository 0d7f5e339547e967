"""`restore run` with videos: exit codes, messages, and going on after a kill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from restore.cli import main
from restore.images import list_images, read_image, write_image

av = pytest.importorskip("av", reason="video needs PyAV")
ROOT = Path(__file__).parents[2]


def restore_run(weights, source, output, *more):
    arguments = ["run", "-m", weights, "-i", source, "-o", output, "--device", "cpu", *more]
    return main([str(argument) for argument in arguments])


def count(path):
    with av.open(str(path)) as file:
        return sum(1 for _ in file.decode(video=0))


def test_video_to_video_to_images_to_video(tmp_path, weights, make_clip, capsys):
    clip = make_clip(tmp_path / "in.mp4", 5, (24, 32))
    assert restore_run(weights, clip, tmp_path / "out.mkv", "--codec", "hevc", "--crf", "30") == 0
    assert "5 frames restored" in capsys.readouterr().err
    assert restore_run("none is needed", clip, tmp_path / "out.mkv", "--resume") == 0
    assert restore_run(weights, tmp_path / "out.mkv", tmp_path / "frames") == 0
    assert [path.name for path in list_images(tmp_path / "frames")] == [f"out_{n:06}.png" for n in range(1, 6)]
    assert read_image(tmp_path / "frames/out_000001.png").pixels.shape == (96, 128, 3)
    assert restore_run(weights, tmp_path / "frames/out_%06d.png", tmp_path / "back.mp4", "--fps", "12.5") == 0
    with av.open(str(tmp_path / "back.mp4")) as file:
        assert file.streams.video[0].average_rate == 12.5
    assert count(tmp_path / "back.mp4") == 5


def test_a_video_that_is_cut_off_is_exit_code_1(tmp_path, weights, make_clip, capsys):
    clip = make_clip(tmp_path / "in.mp4", 40, (24, 32), sound=None)
    data = clip.read_bytes()
    frames = data.index(b"mdat")  # the end of the head
    clip.write_bytes(data[: frames + (len(data) - frames) * 7 // 10])
    assert restore_run(weights, clip, tmp_path / "out.mp4") == 1
    assert "are missing" in capsys.readouterr().err
    assert 10 < count(tmp_path / "out.mp4") < 40


WRONG = {
    "output": (["in.mp4"], "out/clip.mp5", [], "Did you mean '.mp4'"),
    "no video": (["text.mp4"], "out/o.mp4", [], "is not a video"),
    "itself": (["in.mp4"], "in.mp4", [], "never overwritten"),
    "several": (["in.mp4", "text.mp4"], "out/o.mp4", [], "one video at a time"),
    "rate": (["in.mp4"], "out/o.mp4", ["--fps", "25"], "keeps its own times"),
    "codec of images": (["in.mp4"], "out", ["--codec", "h264"], "--codec is for videos"),
    "segments": (["in.mp4"], "out/o.mp4", ["--segment-frames", "0"], "--segment-frames is 0"),
    "engine": (["in.mp4"], "out/o.mp4", ["--engine", "ray"], "on one machine"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_message_and_exit_code_2(tmp_path, weights, make_clip, capsys, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "in.mp4", 2, (24, 32))
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "out").mkdir()
    sources, target, options, words = WRONG[case]
    assert main(["run", "-m", str(weights), "-i", *sources, "-o", target, *options]) == 2
    said = capsys.readouterr().err
    assert said.count("error:") == 1
    assert words in said
    assert not list((tmp_path / "out").iterdir())


def test_a_killed_run_goes_on_where_it_stood(tmp_path, weights, make_clip, capsys):
    clip = make_clip(tmp_path / "in.mp4", 60, (48, 64))
    target, parts = tmp_path / "out.mp4", tmp_path / "out.mp4.parts"
    arguments = ["-m", weights, "-i", clip, "-o", target, "--device", "cpu", "--segment-frames", "8"]
    process = subprocess.Popen(
        [sys.executable, "-m", "restore.cli", "run", *map(str, arguments)], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not (parts / "00001.npz").exists():
        time.sleep(0.002)
    process.kill()
    process.wait()
    num_finished = len(list(parts.glob("*.npz")))
    assert num_finished >= 2
    assert not target.exists()
    assert restore_run(weights, clip, target, "--segment-frames", "8") == 0
    assert f"{60 - 8 * num_finished} frames restored" in (said := capsys.readouterr().err)
    assert f"{8 * num_finished} done before" in said
    assert count(target) == 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_a_gif_is_a_clip_where_it_moves(tmp_path, weights, capsys, caplog):
    pictures = [PillowImage.new("RGB", (16, 12), (value, 0, 0)) for value in (250, 100, 20)]
    pictures[0].save(tmp_path / "still.gif")
    pictures[0].save(tmp_path / "moving.gif", save_all=True, append_images=pictures[1:], duration=80)
    pictures[1].save(tmp_path / "100%d.gif", save_all=True, append_images=pictures[2:], duration=80)
    out = tmp_path / "out"
    for name in ("still", "moving", "100%d"):
        assert restore_run(weights, tmp_path / f"{name}.gif", out) == 0
    frames = [f"moving_{n:06}.png" for n in (1, 2, 3)]
    assert [path.name for path in list_images(out)] == [*(f"100%d_{n:06}.png" for n in (1, 2)), *frames, "still.png"]
    assert restore_run(weights, tmp_path / "still.gif", tmp_path / "one.png") == 0
    assert restore_run(weights, tmp_path / "moving.gif", tmp_path / "one.png") == 2
    assert restore_run(weights, tmp_path, tmp_path / "folder") == 0
    assert "moving.gif' holds 3 frames or pages: only the first is read" in caplog.text
    assert {"moving.png", "still.png"} < {path.name for path in list_images(tmp_path / "folder")}
    (tmp_path / "broken.gif").write_bytes((tmp_path / "still.gif").read_bytes()[:9])
    assert restore_run(weights, tmp_path / "broken.gif", tmp_path / "folder") == 2
    assert "broken.gif" in capsys.readouterr().err


def test_a_clip_whose_frames_are_not_finite_leaves_no_video(tmp_path, weights, make_clip, capsys, monkeypatch):
    from restore.inference import Restorer

    clip = make_clip(tmp_path / "in.mp4", 3, (24, 32))
    run = Restorer._through_network
    monkeypatch.setattr(Restorer, "_through_network", lambda *given: run(*given) * float("nan"))
    for target in ("out.mp4", "frames"):
        assert restore_run(weights, clip, tmp_path / target) == 2
        assert "not finite" in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()
    assert not list(tmp_path.rglob("*.png"))


def test_frames_that_the_images_cannot_hold(tmp_path, weights, make_clip, capsys):
    deep = make_clip(tmp_path / "deep.mkv", 2, (24, 32), codec="ffv1", pix_fmt="yuv420p10le", sound=None)
    target = tmp_path / "frames/%03d.jpg"
    assert restore_run(weights, deep, target) == 2
    assert "JPEG cannot hold uint16 samples" in (said := capsys.readouterr().err)
    assert "--depth 8" in said
    assert restore_run(weights, deep, target, "--depth", "8") == 0
    assert len(list_images(tmp_path / "frames")) == 2
    assert restore_run(weights, deep, tmp_path / "o.mkv", "--depth", "8") == 2
    assert "--pixel-format" in capsys.readouterr().err


def test_bits_that_a_video_does_not_keep_are_said(tmp_path, weights, caplog):
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 65536, (24, 32), np.uint16)
        write_image(tmp_path / "grey" / f"{number}.png", pixels)
    assert restore_run(weights, tmp_path / "grey", tmp_path / "o.mp4") == 0
    assert "libx264 keeps 10 of the frames' 16 bits, as yuv420p10le; --codec ffv1" in caplog.text
    caplog.clear()
    assert restore_run(weights, str(tmp_path / "grey" / "*.png"), tmp_path / "o.mkv", "--codec", "ffv1") == 0
    assert "bits" not in [record for record in caplog.records if record.levelname == "WARNING"]
    with av.open(str(tmp_path / "o.mkv")) as file:
        assert file.streams.video[0].codec_context.pix_fmt == "gray16le"


@pytest.mark.parametrize("target", ["out.mp4", "frames"])
def test_an_interrupted_clip_says_how_far_it_came(tmp_path, weights, make_clip, capsys, monkeypatch, target):
    clip = make_clip(tmp_path / "in.mp4", 12, (24, 32))
    from restore.inference import Restorer

    batch, seen = Restorer.batch, []

    def interrupted(restorer, images):
        seen.extend(images)
        if len(seen) > 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(restorer, images)

    monkeypatch.setattr(Restorer, "group_size", lambda restorer, height, width: 2)
    monkeypatch.setattr(Restorer, "batch", interrupted)
    assert restore_run(weights, clip, tmp_path / target, "--segment-frames", "2") == 130
    said = capsys.readouterr().err
    assert re.search(r"[4-6] of 12 frames done: the same command", said), said
    monkeypatch.setattr(Restorer, "batch", batch)
    assert restore_run(weights, clip, tmp_path / target, "--segment-frames", "2", "--resume") == 0
    assert re.search("[1-6] done before", capsys.readouterr().err)


@pytest.mark.parametrize(("options", "size"), [(["--outscale", "1.5"], (48, 36)), (["--size", "40x30"], (40, 30))])
def test_clips_of_another_size(tmp_path, weights, make_clip, options, size):
    clip = make_clip(tmp_path / "in.mp4", 4, (24, 32))
    assert restore_run(weights, clip, tmp_path / "out.mp4", *options) == 0
    with av.open(str(tmp_path / "out.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height) == size
    assert count(tmp_path / "out.mp4") == 4
    assert restore_run(weights, clip, tmp_path / "frames", *options) == 0
    assert {read_image(path).pixels.shape for path in list_images(tmp_path / "frames")} == {(*size[::-1], 3)}


def test_json_of_a_clip(tmp_path, weights, make_clip, capsys):
    clip = make_clip(tmp_path / "in.mp4", 4, (24, 32))
    for expected in ({"num_frames": 4, "num_kept": 0}, {"done_before": True}):
        assert restore_run(weights, clip, tmp_path / "out.mp4", "--json", "--resume") == 0
        assert expected.items() <= json.loads(capsys.readouterr().out).items()

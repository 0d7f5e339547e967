"""`restore run` from the command line: exit codes, messages, resuming, and what a killed process leaves behind."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from restore.cli import main
from restore.commands.restoring import run_jobs
from restore.errors import OptionsError
from restore.images import Image, list_images, read_image, write_image
from restore.jobs import Job

ROOT = Path(__file__).parents[2]


def photos(folder, count=3, shape=(16, 14, 3)):
    for seed in range(count):
        write_image(folder / f"{seed:02}.png", np.random.default_rng(seed).integers(0, 256, shape, np.uint8))
    return folder


def restore_run(weights, source, output, *more):
    arguments = ["run", "-m", weights, "-i", source, "-o", output, "--device", "cpu", *more]
    return main([str(argument) for argument in arguments])


def test_folder(tmp_path, weights, capsys):
    photos(tmp_path / "in")
    photos(tmp_path / "in" / "sub", 1)
    assert restore_run(weights, tmp_path / "in", tmp_path / "out", "--recursive", "--suffix", "_x2") == 0
    assert "4 restored" in capsys.readouterr().err
    results = list_images(tmp_path / "out", recursive=True)
    assert [str(path.relative_to(tmp_path / "out")) for path in results] == [
        "00_x2.png",
        "01_x2.png",
        "02_x2.png",
        "sub/00_x2.png",
    ]
    assert read_image(results[0]).pixels.shape == (32, 28, 3)


def test_resume_does_what_is_missing(tmp_path, weights, capsys):
    photos(tmp_path / "in")
    assert restore_run(weights, tmp_path / "in", tmp_path / "out") == 0
    kept = tmp_path / "out" / "00.png"
    before = kept.stat().st_mtime_ns
    (tmp_path / "out" / "01.png").unlink()
    capsys.readouterr()
    assert restore_run(weights, tmp_path / "in", tmp_path / "out", "--resume") == 0
    assert "1 restored" in (said := capsys.readouterr().err)
    assert "2 done before" in said
    assert kept.stat().st_mtime_ns == before
    assert restore_run("no such model is needed", tmp_path / "in", tmp_path / "out", "--resume") == 0


def test_a_bad_file_among_good_ones_is_exit_code_1(tmp_path, weights, capsys):
    photos(tmp_path / "in")
    (tmp_path / "in" / "01.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    assert restore_run(weights, tmp_path / "in", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "01.png" in said
    assert "2 restored" in said
    assert "1 failed" in said
    assert len(list_images(tmp_path / "out")) == 2


def wrong(case, tmp_path, weights):
    """Arguments that are wrong in one way each, and words of the message."""
    source = photos(tmp_path / "in", 1)
    image, out = source / "00.png", tmp_path / "out"
    if case == "truncated image":
        image.write_bytes(image.read_bytes()[:200])
        return (weights, image, out), "00.png"
    if case == "empty folder":
        (tmp_path / "empty").mkdir()
        return (weights, tmp_path / "empty", out), "no image"
    if case == "output is not a folder":
        out.write_text("")
        return (weights, source, out), "out"
    return {
        "unknown model": (("swinir_light", source, out), "unknown model"),
        "missing input": ((weights, tmp_path / "nowhere", out), "does not exist"),
        "over the input": ((weights, source, source), "never overwritten"),
        "format": ((weights, source, out, "--ext", "gif"), "ext is 'gif'"),
        "quality": ((weights, source, out, "--quality", "0"), "--quality is 0"),
        "precision": ((weights, source, out, "--precision", "fp8"), "precision is 'fp8'"),
        "device": ((weights, source, out, "--device", "cuda:77"), "cuda:77"),
    }[case]


@pytest.mark.parametrize(
    "case",
    [
        "truncated image",
        "empty folder",
        "output is not a folder",
        "unknown model",
        "missing input",
        "over the input",
        "format",
        "quality",
        "precision",
        "device",
    ],
)
def test_wrong_input_is_one_message_and_exit_code_2(tmp_path, weights, capsys, case):
    arguments, words = wrong(case, tmp_path, weights)
    assert restore_run(*arguments) == 2
    said = capsys.readouterr().err
    assert said.count("error:") == 1
    assert words in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("out/*"))


def test_interruption_is_exit_code_130_and_keeps_what_is_done(tmp_path, weights, capsys, monkeypatch):
    from restore.inference import Restorer

    photos(tmp_path / "in", 4)
    restore = Restorer.__call__
    calls = []

    def interrupted(self, image, **options):
        calls.extend([image] if isinstance(image, Image) else [])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return restore(self, image, **options)

    monkeypatch.setattr(Restorer, "__call__", interrupted)
    monkeypatch.setattr(Restorer, "group_size", lambda self, height, width: 1)
    assert restore_run(weights, tmp_path / "in", tmp_path / "out") == 130
    assert "interrupted" in capsys.readouterr().err
    assert [path.name for path in list_images(tmp_path / "out")] == ["00.png", "01.png"]


def test_what_cannot_begin_says_why_and_no_more(tmp_path, capsys):
    def engine(jobs, *, on_progress):
        raise OptionsError("--workers is 9")
        yield

    with pytest.raises(OptionsError):
        run_jobs([Job(tmp_path / "a.png", tmp_path / "b.png")] * 2, engine)
    assert capsys.readouterr().err == ""


def test_kill_leaves_no_half_written_image_and_resume_completes(tmp_path, weights):
    source = photos(tmp_path / "in", 12, (60, 50, 3))
    out = tmp_path / "out"
    arguments = ["run", "-m", weights, "-i", source, "-o", out, "--device", "cpu", "--resume"]
    command = [sys.executable, "-m", "restore.cli", *map(str, arguments)]
    chance = random.Random(0)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(out.glob("*.png")):
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.02))
    process.kill()
    process.wait()
    for path in out.glob("*.png"):
        assert read_image(path).pixels.shape == (120, 100, 3)
    (out / f".{0:032x}.tmp").write_bytes(b"what a kill in the middle of a write would leave")
    (out / "05.png").unlink(missing_ok=True)  # so that there is something to do even if the kill came late
    assert restore_run(weights, source, out, "--resume") == 0
    assert sorted(path.name for path in out.iterdir()) == [f"{number:02}.png" for number in range(12)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scale", "2"], "--scale chooses a model for --task"),
        (["--sigma", "25"], "sigma is 25, but SwinIR is not told how strong the noise is"),
        (["--jpeg-quality", "10"], "--jpeg-quality chooses a model for --task"),
        (["--suffix", "a/b"], "part of file names"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, weights, capsys, arguments, message):
    photos(tmp_path / "in", 1)
    assert restore_run(weights, tmp_path / "in", tmp_path / "out", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tile", "0"], "'0' is not a whole number of at least 1, nor auto or none"),
        (["--tile-batch", "none"], "'none' is not a whole number of at least 1, nor auto"),
        (["-i", ""], "argument -i/--input: it is empty"),
        (["-m", ""], "argument -m/--model: it is empty"),
    ],
)
def test_values_of_the_wrong_kind(tmp_path, weights, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        restore_run(weights, tmp_path, tmp_path / "out", *arguments)
    assert message in capsys.readouterr().err


def test_a_link_that_leads_nowhere_is_named(tmp_path, weights, capsys):
    photos(tmp_path / "in")
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert restore_run(weights, tmp_path / "in", tmp_path / "out") == 1
    assert "gone.png" in capsys.readouterr().err


def said_of(capsys):
    return capsys.readouterr().err


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp"])
def test_what_a_format_cannot_hold_is_known_before_the_work(tmp_path, weights, capsys, monkeypatch, ending):
    from restore.inference import Restorer

    calls = []
    monkeypatch.setattr(Restorer, "_through_network", lambda *_: calls.append(1))
    tall = {"webp": 8192, "jpg": 32751, "png": 500_001}.get(ending)
    arrays = {
        "float": np.zeros((4, 5, 3), np.float32),
        "deep": np.zeros((4, 5, 3), np.uint16) if ending != "png" else None,
        "alpha": np.zeros((4, 5, 4), np.uint8) if ending == "jpg" else None,
        "tall": np.zeros((tall, 1), np.uint8) if tall else None,
    }
    for name, pixels in arrays.items():
        if pixels is not None:
            write_image(tmp_path / "in" / f"{name}.tif", pixels)
    expected = sum(pixels is not None for pixels in arrays.values())
    assert restore_run(weights, tmp_path / "in", tmp_path / "out", "--ext", ending) == 1
    said = " ".join(said_of(capsys).split())
    assert f"{expected} failed" in said
    assert ("--alpha flatten" in said) == (ending == "jpg")
    assert not calls
    assert not list((tmp_path / "out").iterdir())


def test_ways_to_8_bits_and_to_opaque_images(tmp_path, weights):
    rng = np.random.default_rng(0)
    write_image(tmp_path / "in" / "deep.png", rng.integers(0, 65536, (8, 9, 4), np.uint16))
    write_image(tmp_path / "in" / "float.tif", rng.random((8, 9, 4), np.float32))
    ways = ("--depth", "8", "--alpha", "flatten")
    assert restore_run(weights, tmp_path / "in", tmp_path / "out", "--ext", "jpg", *ways) == 0
    for name in ("deep.jpg", "float.jpg"):
        pixels = read_image(tmp_path / "out" / name).pixels
        assert (pixels.dtype, pixels.shape) == (np.uint8, (16, 18, 3))
    photos(tmp_path / "small", 1)
    for option, depth in (("16", np.uint16), ("float", np.float32)):
        assert restore_run(weights, tmp_path / "small", tmp_path / option, "--depth", option, "--ext", "tif") == 0
        assert read_image(tmp_path / option / "00.tif").pixels.dtype == depth


def test_float_images_beyond_0_and_1(tmp_path, weights, capsys):
    rng = np.random.default_rng(0)
    bright = (rng.random((8, 9, 3), np.float32) * 255).astype(np.float32)
    write_image(tmp_path / "in" / "bright.tif", bright)
    write_image(tmp_path / "in" / "signed.tif", bright / np.float32(127.5) - 1)
    write_image(tmp_path / "in" / "unit.tif", bright / np.float32(255))
    broken = bright / np.float32(255)
    broken[3, 3, 0] = np.nan
    write_image(tmp_path / "in" / "broken.tif", broken)
    assert restore_run(weights, tmp_path / "in", tmp_path / "out") == 1
    said = " ".join(said_of(capsys).split())
    assert "3 failed" in said
    assert [path.name for path in list_images(tmp_path / "out")] == ["unit.tif"]
    assert restore_run(weights, tmp_path / "in" / "bright.tif", tmp_path / "out", "--input-range", "0,255") == 0
    assert restore_run(weights, tmp_path / "in" / "signed.tif", tmp_path / "out", "--input-range", "-1,1") == 0
    names = ("unit.tif", "bright.tif", "signed.tif")
    unit, bright, signed = (read_image(tmp_path / "out" / name).pixels for name in names)
    np.testing.assert_allclose(bright / 255, unit, atol=1e-4)
    np.testing.assert_allclose((signed + 1) / 2, unit, atol=1e-4)
    assert restore_run(weights, tmp_path / "in" / "broken.tif", tmp_path / "out", "--fill-nan") == 0
    for wrong in ("0", "1,0", "0,nan", "a,b", "0,1,2"):
        try:
            code = restore_run(weights, tmp_path / "in", tmp_path / "out", "--input-range", wrong)
        except SystemExit as error:  # of argparse
            code = error.code
        assert code == 2


def test_a_result_that_is_not_finite_is_a_failed_image(tmp_path, weights, capsys, monkeypatch):
    from restore.inference import Restorer

    run = Restorer._through_network

    def poisoned(self, dtype, x_BCHW):
        y_BCHW = run(self, dtype, x_BCHW)
        return y_BCHW.masked_fill((x_BCHW.mean((1, 2, 3)) > 0.9)[:, None, None, None], float("nan"))

    monkeypatch.setattr(Restorer, "_through_network", poisoned)
    photos(tmp_path / "in", 2)
    write_image(tmp_path / "in" / "white.png", np.full((16, 14, 3), 255, np.uint8))  # goes through with the others
    assert restore_run(weights, tmp_path / "in", tmp_path / "out") == 1
    said = " ".join(said_of(capsys).split())
    assert "2 restored" in said
    assert "white.png" in said
    assert "not finite" in said
    assert [path.name for path in list_images(tmp_path / "out")] == ["00.png", "01.png"]


def test_several_folders_and_quoted_patterns(tmp_path, weights):
    photos(tmp_path / "x", 1)
    photos(tmp_path / "y", 2)
    pattern = str(tmp_path / "y" / "*1.png")
    folders = [str(tmp_path / name) for name in ("x", "y")]
    assert main(["run", "-m", str(weights), "-i", *folders, "-o", str(tmp_path / "o")]) == 0
    assert [str(path.relative_to(tmp_path / "o")) for path in list_images(tmp_path / "o", recursive=True)] == [
        "x/00.png",
        "y/00.png",
        "y/01.png",
    ]
    assert restore_run(weights, pattern, tmp_path / "one.png") == 0


def test_results_beside_the_originals_are_known_again(tmp_path, weights, capsys, caplog):
    photos(tmp_path / "in", 2)
    for more in ([], ["--resume"], []):
        assert restore_run(weights, tmp_path / "in", tmp_path / "in", "--suffix", "_x2", *more) == 0
    assert [path.name for path in list_images(tmp_path / "in")] == ["00.png", "00_x2.png", "01.png", "01_x2.png"]
    assert "lie among the inputs and stay as they are: 2" in caplog.text
    photos(tmp_path / "in", 3)
    assert restore_run(weights, tmp_path / "in", tmp_path / "in", "--suffix", "_x2") == 0
    assert "1 restored" in said_of(capsys)
    assert len(list_images(tmp_path / "in")) == 6


def test_what_is_not_read_here_is_named(tmp_path, weights, caplog, monkeypatch):
    from restore.images import formats

    monkeypatch.setattr(formats, "_is_installed", lambda module: False)
    formats.readable_suffixes.cache_clear()
    try:
        photos(tmp_path, 1)
        (tmp_path / "phone.heic").write_bytes(b"")
        (tmp_path / "notes.md").write_bytes(b"")
        assert restore_run(weights, tmp_path, tmp_path / "out") == 0
    finally:
        formats.readable_suffixes.cache_clear()
    assert "left out: phone.heic: formats that are not read here: .heic (pip install" in caplog.text
    assert "no images, left out: notes.md" in caplog.text


@pytest.mark.parametrize(
    ("options", "size"), [(["--outscale", "3"], (48, 42)), (["--size", "30x20"], (20, 30)), (["--size", "x8"], (8, 7))]
)
def test_results_of_another_size(tmp_path, weights, options, size):
    write_image(tmp_path / "in" / "deep.png", np.random.default_rng(0).integers(0, 65536, (16, 14, 4), np.uint16))
    photos(tmp_path / "in", 1)
    assert restore_run(weights, tmp_path / "in", tmp_path / "out", *options) == 0
    for name, kind in (("00.png", ((*size, 3), np.uint8)), ("deep.png", ((*size, 4), np.uint16))):
        pixels = read_image(tmp_path / "out" / name).pixels
        assert (pixels.shape, pixels.dtype) == kind


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--outscale", "0"], "outscale is 0"),
        (["--size", "1920"], "must be WIDTHxHEIGHT"),
        (["--size", "5x5", "--outscale", "2"], "not allowed with"),
    ],
)
def test_wrong_sizes_are_known_before_the_work(tmp_path, weights, capsys, options, words):
    photos(tmp_path / "in", 1)
    try:
        code = restore_run(weights, tmp_path / "in", tmp_path / "out", *options)
    except SystemExit as error:  # of argparse
        code = error.code
    assert code == 2
    assert words in said_of(capsys)
    assert not (tmp_path / "out").exists()

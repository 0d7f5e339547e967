"""Scoring folders: which files meet, what is written, what is kept for the next run, and what each bad file is told."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from restore.cli import main
from restore.errors import DataError, MissingError, OptionsError
from restore.evaluation.records import MetricRecord
from restore.evaluation.scoring import ImageScore, match, score, settings
from restore.evaluation.scoring import run as run_module
from restore.evaluation.scoring.distribution import distribution
from restore.evaluation.scoring.pairs import scale_in_names
from restore.evaluation.scoring.terminal import show
from restore.images import write_image
from restore.metrics import PROTOCOLS, metric, psnr, ssim
from restore.registry import METRICS


@pytest.fixture
def folders(tmp_path, noise):
    """A function: write `{name: pixels}` into the folders of restored images and of references."""

    def make(restored, references=None):
        for kind, images in (("restored", restored), ("reference", references or {})):
            (tmp_path / kind).mkdir(exist_ok=True)
            for name, pixels in images.items():
                write_image(tmp_path / kind / name, noise(16, 20, 3) if pixels is None else pixels)
        return tmp_path / "restored", tmp_path / "reference"

    return make


def names(matching):
    return {pair.lq.name: pair.gt.name for pair in matching.pairs}


def unmatched(matching):
    return {path.name: reason for path, reason in matching.unmatched.items()}


@pytest.mark.parametrize("ending", ["", "_x4", "x4", "_SwinIR", "_x4_001_run", "x2_SwinIR"])
def test_endings_that_belong_to_a_reference(folders, ending):
    roots = folders(
        {f"baby{ending}.png": None, f"babyface{ending}.png": None}, {"baby.bmp": None, "babyface.png": None}
    )
    assert names(match(*roots)) == {f"baby{ending}.png": "baby.bmp", f"babyface{ending}.png": "babyface.png"}


def test_longest_reference_wins_and_numbers_are_no_endings(folders):
    references = {"img.png": None, "img_1.png": None, "img_10.png": None}
    found = match(*folders({"img_1_x4.png": None, "img_10x4.png": None, "img_2.png": None}, references))
    assert names(found) == {"img_1_x4.png": "img_1.png", "img_10x4.png": "img_10.png"}
    assert unmatched(found) == {"img_2.png": "no reference has this name", "img.png": "no restored image has this name"}


def test_exact_name_goes_before_an_ending_and_two_endings_are_refused(folders):
    found = match(
        *folders({"a.png": None, "a_x4.png": None, "b_x2.png": None, "b_x4.png": None}, {"a.png": None, "b.png": None})
    )
    assert names(found) == {"a.png": "a.png"}
    assert set(unmatched(found)) == {"a_x4.png", "b_x2.png", "b_x4.png"}
    assert "b_x4.png has the same reference" in unmatched(found)["b_x2.png"]


def test_sub_folders_and_single_files(folders):
    restored, reference = folders({"u/a_x4.png": None, "v/a_x4.png": None}, {"u/a.png": None, "v/a.png": None})
    found = match(restored, reference, recursive=True)
    assert [(pair.name, pair.gt.parent.name) for pair in found.pairs] == [("u/a_x4.png", "u"), ("v/a_x4.png", "v")]
    found = match(restored / "u/a_x4.png", reference / "v/a.png")
    assert names(found) == {"a_x4.png": "a.png"}


def test_nothing_in_common(folders):
    with pytest.raises(DataError, match=r"no image of .*restored has a reference.*a\.png.*no reference"):
        match(*folders({"a.png": None}, {"b.png": None}))


@pytest.mark.parametrize(("restored", "scale"), [("a_x4.png", 4), ("ax2.png", 2), ("a_x3_run.png", 3), ("a.png", None)])
def test_scale_in_names(folders, restored, scale):
    assert scale_in_names(match(*folders({restored: None}, {"a.png": None}))) == scale


def test_protocol_reaches_the_metrics_it_speaks_of():
    chosen = settings(["psnr", "ssim", "lpips"], "swinir_sr", scale=4)
    assert chosen.blocks["psnr"] == {"type": "psnr", **PROTOCOLS["swinir_sr"].arguments(4)}
    assert chosen.blocks["lpips"] == {"type": "lpips"}
    assert chosen.prepared["ssim"] == "Y, border scale px, 8 bit (here: 4 px)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["psnr"], "swinir_sr"), "add --scale"),
        ((["psnr"], "swinir"), "unknown protocol 'swinir'. Did you mean"),
        ((["pnsr", "ssmi"], None), r"'pnsr'.*'psnr'(?s:.*)'ssmi'"),
        ((["fid"], None), "whole sets of images"),
        (([], None), "at least one"),
    ],
)
def test_wrong_settings(arguments, message):
    with pytest.raises(OptionsError, match=message):
        settings(*arguments)
    with pytest.raises(OptionsError, match=r"psnr compares with a reference.*niqe"):
        settings(["psnr", "niqe"], has_reference=False)


def test_values_and_files(tmp_path, folders, noise):
    pixels = {name: noise(20, 24, 3) for name in "abc"}
    restored, reference = folders(
        {"a_x2.png": pixels["a"], "b_x2.png": pixels["b"]}, {"a.png": pixels["c"], "b.png": pixels["b"]}
    )
    output = tmp_path / "out"
    command = ["score", "-r", str(restored), "-g", str(reference), "--protocol", "swinir_sr", "-o", str(output)]
    assert main(command) == 0
    expected = PROTOCOLS["swinir_sr"].arguments(2)
    rows = list(csv.DictReader((output / "scores.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == ["a_x2.png", "b_x2.png"]
    assert float(rows[0]["psnr"]) == psnr(pixels["a"], pixels["c"], **expected)
    assert float(rows[0]["ssim"]) == ssim(pixels["a"], pixels["c"], **expected)
    assert float(rows[1]["psnr"]) == math.inf
    written = json.loads((output / "scores.json").read_text())
    assert (written["complete"], written["protocol"], written["scale"]) == (True, "swinir_sr", 2)
    summary = written["summary"]["psnr"]
    assert summary["finite_mean"] == float(rows[0]["psnr"])
    assert (summary["count"], summary["num_infinite"], summary["mean"]) == (2, 1, "inf")
    assert (summary["worst"], summary["best"]) == ("a_x2.png", "b_x2.png")
    page = (output / "report.html").read_text()
    assert page.count('class="layer"') == 4
    assert "1 identical pair (∞) not drawn" in page
    assert 'src="http' not in page


def test_each_bad_file_is_told_what_is_wrong(tmp_path, folders, noise, capsys):
    good, floats = noise(16, 20, 3), np.full((16, 20, 3), 0.5, np.float32)
    broken = floats.copy()
    broken[3, 4, 0] = np.nan
    images = {"good.png": good, "size.png": good, "grey.png": good, "small.png": good[:8], "text.png": good}
    bad = {"size.png": good[1:], "grey.png": good[..., 0], "lonely.png": good}
    references = {**images, "good.png": good[::-1].copy(), "nan.tif": floats, "other.png": good}
    restored, reference = folders({**images, **bad}, references)
    import tifffile

    tifffile.imwrite(restored / "nan.tif", broken, photometric="rgb")
    (restored / "text.png").write_text("no image")
    assert main(["score", "-r", str(restored), "-g", str(reference), "-o", str(tmp_path / "out")]) == 1
    written = json.loads((tmp_path / "out/scores.json").read_text())
    errors = {image["name"]: image["errors"] for image in written["images"]}
    assert errors.pop("good.png") == {}
    assert "differ in size: restored 15x20, reference 16x20" in errors["size.png"]["psnr"]
    assert "Both must be grey or both RGB" in errors["grey.png"]["ssim"]
    assert list(errors["small.png"]) == ["ssim"]
    assert "at least 11x11" in errors["small.png"]["ssim"]
    assert "text.png" in errors["text.png"][""]
    assert "holds 1 values that are not finite" in errors["nan.tif"][""]
    assert {key.rpartition("/")[2] for key in written["unmatched"]} == {"lonely.png", "other.png"}
    shown = "".join(capsys.readouterr().out.split())  # lines break where the folder's name is long
    assert "lonely.png:noreferencehasthisname" in shown
    assert "size.png:psnr,ssim:theimagesdifferinsize" in shown


@pytest.fixture
def counted(monkeypatch):
    """The names of the images that are really measured."""
    measured = []
    original = run_module.measure_all

    def counting(tasks, blocks, **options):
        measured.append([(task.pair.name, task.labels) for task in tasks])
        return original(tasks, blocks, **options)

    monkeypatch.setattr(run_module, "measure_all", counting)
    return measured


def test_unchanged_files_are_skipped(tmp_path, folders, noise, counted):
    roots = folders({"a.png": None, "b.png": None}, {"a.png": None, "b.png": None})

    def again(*metrics, **options):
        return score(match(*roots), settings(metrics), tmp_path / "out", **options)

    first = again("psnr")
    journal = tmp_path / "out/scores.jsonl"
    journal.write_text(journal.read_text() + '{"files": [["torn')
    assert [image.values for image in again("psnr").images] == [image.values for image in first.images]
    again("psnr", "ssim")
    write_image(roots[0] / "a.png", noise(16, 20, 3))
    again("ssim", "psnr")
    again("ssim", fresh=True)
    assert counted == [
        [("a.png", ("psnr",)), ("b.png", ("psnr",))],
        [],
        [("a.png", ("ssim",)), ("b.png", ("ssim",))],
        [("a.png", ("ssim", "psnr"))],
        [("a.png", ("ssim",)), ("b.png", ("ssim",))],
    ]
    again("ssim")
    assert len(journal.read_text().splitlines()) == 2


def test_other_metrics_of_the_same_folder_stay(tmp_path, folders, counted):
    names = [f"{letter}.png" for letter in "abc"]
    restored, reference = folders(dict.fromkeys(names), dict.fromkeys(names))
    out = tmp_path / "out"

    def written():
        found = json.loads((out / "scores.json").read_text())
        rows = list(csv.DictReader((out / "scores.csv").read_text().splitlines()))
        for row, image in zip(rows, found["images"], strict=True):
            assert {label for label in found["metrics"] if row.get(label)} == set(image["values"])
        return {label: [image["values"].get(label) for image in found["images"]] for label in found["metrics"]}

    score(match(restored, reference), settings(["psnr"]), out)
    first = written()
    score(match(restored), settings(["niqe"], has_reference=False), out)  # 16 x 20 pixels are too few for it
    assert written()["psnr"] == first["psnr"]
    score(match(restored), settings(["brisque"], has_reference=False), out)
    second = written()
    assert second["psnr"] == first["psnr"]
    assert next(iter(second)) == "brisque"
    score(match(restored, reference), settings(["psnr", "ssim"], "swinir_sr", scale=2), out)
    third = written()
    assert third["psnr (plain)"] == first["psnr"]
    assert third["brisque"] == second["brisque"]
    assert third["psnr"] != first["psnr"]
    score(match(restored, reference), settings(["psnr"]), out, fresh=True)
    fourth = written()
    assert fourth["psnr"] == first["psnr"]
    assert set(fourth) == {"psnr", "brisque", *(label for label in fourth if label.startswith(("psnr (", "ssim")))}
    assert "brisque" in (out / "report.html").read_text().lower()


def test_what_a_few_images_have_is_not_shown_of_all(tmp_path, folders):
    restored, reference = folders({"a.png": None}, {"a.png": None})
    score(match(restored, reference), settings(["psnr"]), tmp_path / "out")
    more = {f"{name}.png": None for name in "bcd"}
    folders(more, more)
    found = score(match(restored, reference), settings(["ssim"]), tmp_path / "out")
    assert [*found.metrics] == ["ssim"]


def test_an_interruption_of_other_metrics_keeps_the_first(tmp_path, folders, monkeypatch):
    names = {f"{letter}.png": None for letter in "abc"}
    restored, reference = folders(names, names)
    score(match(restored, reference), settings(["psnr"]), tmp_path / "out")

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(run_module, "measure_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score(match(restored, reference), settings(["ssim"]), tmp_path / "out")
    found = json.loads((tmp_path / "out/scores.json").read_text())
    assert not found["complete"]
    assert [len(image["values"]) for image in found["images"]] == [1, 1, 1]


def test_the_mean_without_identical_images_is_over_the_same_images(tmp_path, folders, noise, capsys):
    same = noise(16, 20, 3)
    images = {"a.png": same, "b.png": None, "c.png": None}
    restored, reference = folders(images, images)
    found = score(match(restored, reference), settings(["ssim", "psnr"]), tmp_path / "out")
    assert found.identical == {"a.png"}
    for label in ("psnr", "ssim"):
        values = [image.values[label] for image in found.images if image.name != "a.png"]
        assert found.summary(label).finite_mean == pytest.approx(sum(values) / 2)
    assert found.summary("psnr").mean == math.inf
    assert found.summary("ssim").mean > found.summary("ssim").finite_mean
    show(found)
    assert "mean without 1 identical" in capsys.readouterr().out
    assert "without 1 identical" in (tmp_path / "out/report.html").read_text()


def test_interruption_keeps_what_is_done(tmp_path, folders, monkeypatch, counted):
    roots = folders({f"{name}.png": None for name in "abc"}, {f"{name}.png": None for name in "abc"})
    original = run_module.measure_all

    def interrupted(*arguments, **options):
        yield next(iter(original(*arguments, **options)))
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "measure_all", interrupted)
    command = ["score", "-r", str(roots[0]), "-g", str(roots[1]), "--metrics", "psnr", "-o", str(tmp_path / "out")]
    assert main(command) == 130
    written = json.loads((tmp_path / "out/scores.json").read_text())
    assert (written["complete"], [image["name"] for image in written["images"]]) == (False, ["a.png"])
    assert "Incomplete" in (tmp_path / "out/report.html").read_text()
    monkeypatch.setattr(run_module, "measure_all", original)
    assert main(command) == 0
    assert [image["reused"] for image in json.loads((tmp_path / "out/scores.json").read_text())["images"]] == [
        True,
        False,
        False,
    ]


def test_missing_weights_do_not_stop_the_others(tmp_path, folders, capsys):
    @metric("without_weights", higher_is_better=False)
    def without_weights(restored, reference):
        raise MissingError("get the file x.pth")

    try:
        roots = folders({"a.png": None, "b.png": None}, {"a.png": None, "b.png": None})
        command = ["score", "-r", str(roots[0]), "-g", str(roots[1]), "-o", str(tmp_path / "out")]
        assert main([*command, "--metrics", "without_weights,psnr"]) == 1
        assert "WITHOUT_WEIGHTS is missing: get the file x.pth" in capsys.readouterr().out.replace(
            "without_weights", "WITHOUT_WEIGHTS"
        )
        rows = list(csv.DictReader((tmp_path / "out/scores.csv").read_text().splitlines()))
        assert all(float(row["psnr"]) > 0 and "without_weights" not in row for row in rows)
    finally:
        del METRICS._components["without_weights"]


def test_several_processes_give_the_same(tmp_path, folders):
    images = {f"{name}.png": None for name in "abcde"}
    roots = folders(images, images)
    alone, together = (score(match(*roots), settings(["psnr"]), tmp_path / f"out{n}", num_workers=n) for n in (1, 2))
    assert [image.values for image in alone.images] == [image.values for image in together.images]
    assert together.complete


def test_no_reference_and_alpha(tmp_path, folders, noise, photo_like):
    restored, _ = folders({"a.png": photo_like, "b.png": np.dstack([photo_like, photo_like[..., 0]])})
    assert main(["score", "-r", str(restored), "-o", str(tmp_path / "out")]) == 0
    a, b = json.loads((tmp_path / "out/scores.json").read_text())["images"]
    assert a["values"] == b["values"]
    assert b["note"] == "the alpha channel of b.png is left out"
    assert b["note"] in (tmp_path / "out/report.html").read_text()


@pytest.fixture
def photo_like(noise):
    """Smooth texture of 96x192 px, just enough for NIQE."""
    import cv2

    return cv2.GaussianBlur(noise(96, 192, 3), (0, 0), 1.5)


def test_protocols_are_listed(capsys):
    assert main(["score", "--protocols"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in PROTOCOLS)


@pytest.mark.parametrize("options", [[], ["-r", "nowhere"]])
def test_wrong_command_lines(options, capsys):
    assert main(["score", *options]) == 2
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--workers", "0"], ["--scale", "-1"]])
def test_wrong_numbers(option, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["score", "-r", "x", *option])
    assert "is not a whole number of at least 1" in capsys.readouterr().err


def test_names_are_shown_as_they_are(tmp_path, folders, capsys):
    called = ["a[bold].png", "b:smile:.png", "c[b].png"]
    restored, _ = folders(dict.fromkeys(called))
    pair = ["-r", str(restored / called[0]), "-g", str(restored / called[1])]
    assert main(["score", *pair, "-o", str(tmp_path / "[red]"), "--workers", "1"]) == 0
    shown = capsys.readouterr().out
    assert f"{called[0]} (1 image)" in shown
    assert shown.count(called[0]) == 2
    assert main(["score", "-r", str(restored), "-g", str(restored), "-o", str(tmp_path / "all")]) == 0
    shown = capsys.readouterr().out
    assert "(3 images)" in shown
    assert all(name in shown for name in called)


def test_the_distribution_is_of_finite_values():
    images = [ImageScore(str(value), "", values={"psnr": value}) for value in [*np.linspace(27.3, 31.9, 30), math.inf]]
    anchors = {image.name: f"row-{number}" for number, image in enumerate(images)}
    plot = distribution(images, "psnr", MetricRecord("psnr", unit="dB"), anchors)
    assert plot.chart.count("<circle") == 30
    assert 'href="#row-29"' in plot.chart
    assert ": 27.30</title>" in plot.chart
    assert plot.num_infinite == 1
    assert distribution(images[-1:], "psnr", MetricRecord("psnr"), anchors) is None


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_on_a_device_the_values_are_the_same(tmp_path, folders, noise, depth):
    pixels = [(noise(20, 24, 3).astype(float) / 255 * np.iinfo(depth).max).astype(depth) for _ in "ab"]
    found = match(*folders({"a.png": pixels[0]}, {"a.png": pixels[1]}))
    chosen = settings(["psnr", "ssim"])
    plain = score(found, chosen, tmp_path / "plain")
    on_device = score(found, chosen, tmp_path / "device", device="cpu:0")
    assert on_device.images[0].values == pytest.approx(plain.images[0].values, rel=1e-12)


def test_a_device_that_is_not_there(folders, capsys):
    restored, reference = folders({"a.png": None}, {"a.png": None})
    assert main(["score", "-r", str(restored), "-g", str(reference), "--device", "cdua"]) == 2
    assert "device is 'cdua'" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted on Linux alone")
def test_processes_are_forked_where_nothing_else_runs():
    code = """
import threading
from restore.evaluation.processes import context, stay_single_threaded
stay_single_threaded()
import restore.evaluation.scoring
print(context("restore.evaluation.scoring.measuring").get_start_method())
halt = threading.Event()
threading.Thread(target=halt.wait).start()
print(context("restore.evaluation.scoring.measuring").get_start_method())
halt.set()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["fork", "forkserver"]


def test_a_reference_is_read_where_a_metric_compares_with_it(tmp_path, folders):
    restored, reference = folders(dict.fromkeys(["a.png", "b.png"]), dict.fromkeys(["a.png", "b.png"]))
    (reference / "a.png").write_bytes(b"no image")
    alone = score(match(restored, reference), settings(["brisque"]), tmp_path / "alone")
    assert all(image.values and not image.errors for image in alone.images)
    assert (tmp_path / "alone" / "report.html").is_file()
    both = score(match(restored, reference), settings(["brisque", "psnr"]), tmp_path / "both")
    assert [bool(image.errors) for image in both.images] == [True, False]

"""The evaluation loop: what it measures, what it writes, and what it keeps when it is cut short."""

from __future__ import annotations

import csv
import json
import logging
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from restore.data.datasets import DownsampledImageDataset
from restore.data.noise import GaussianNoiseDataset
from restore.data.storage.databases import write_database
from restore.errors import DataError, ImageError, MissingError, OptionsError, OutputError
from restore.evaluation import evaluate
from restore.images import read_image, resize, resize_pixels, to_pixels, to_tensor, write_image
from restore.locks import reserved
from restore.metrics import bind_metrics, metric, psnr
from restore.registry import DATASETS, METRICS

PSNR = bind_metrics({"psnr": {"type": "psnr", "border_px": 2}})


def repeated(pixels, scale=2):
    return pixels.repeat(scale, 0).repeat(scale, 1)


def read_json(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("first", [True, False])
def test_an_image_whose_result_is_not_finite_is_named(tmp_path, restorer, dataset, noise, first):
    model, white = restorer(), np.full((8, 10, 3), 255, np.uint8)
    model.network.register_forward_hook(lambda module, args, result: result * (torch.nan if args[0].min() > 0.9 else 1))
    images = {"a": noise(8, 10, 3), "b": noise(8, 10, 3), "a" if first else "b": white}
    pairs = dataset("Set", {name: (repeated(pixels), pixels) for name, pixels in images.items()})
    with pytest.raises(ImageError, match=rf"dataset 'Set', image '{'a' if first else 'b'}': .*not finite"):
        evaluate(model, [pairs], PSNR, name="run", results_root=tmp_path)


def test_paired_dataset(tmp_path, restorer, dataset, noise):
    gt, lq = noise(16, 20, 3), noise(8, 10, 3)
    pairs = dataset("Set", {"a": (gt, lq), "b": (repeated(lq), lq)})
    results = evaluate(restorer(), [pairs], PSNR, name="run", results_root=tmp_path, options="name: run\n")
    folder = tmp_path / "run"

    assert np.array_equal(read_image(folder / "visualization/Set/a_run.png").pixels, repeated(lq))
    a, b = results.datasets[0].images
    bicubic = to_pixels(resize(to_tensor(lq), scale=2))
    assert a.restored["psnr"] == pytest.approx(psnr(repeated(lq), gt, border_px=2), abs=1e-9)
    assert a.baseline["psnr"] == pytest.approx(psnr(bicubic, gt, border_px=2), abs=1e-9)
    assert b.restored["psnr"] == np.inf
    assert a.milliseconds > 0
    assert (a.size, a.input_size) == ((16, 20), (8, 10))

    written = read_json(folder)
    assert written["complete"] is True
    assert written["datasets"]["Set"]["images"][0]["restored"]["psnr"] == a.restored["psnr"]
    assert written["datasets"]["Set"]["images"][1]["restored"]["psnr"] == "inf"
    assert written["environment"]["network"] == "Nearest"
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == ["a", "b"]
    assert float(rows[0]["psnr_bicubic"]) == a.baseline["psnr"]
    assert (folder / "options.yml").read_text() == "name: run\n"
    (log,) = folder.glob("test_run_*.log")
    assert "Set: 2 images" in log.read_text()


def test_inputs_are_made_from_references(tmp_path, restorer, noise):
    gt = noise(17, 22, 3)
    write_image(tmp_path / "gt/a.png", gt)
    dataset = DownsampledImageDataset(str(tmp_path / "gt"), name="S", scale=4)
    results = evaluate(restorer(4), [dataset], PSNR, name="run", results_root=tmp_path)
    image = results.datasets[0].images[0]
    assert (image.input_size, image.size) == ((4, 5), (16, 20))
    lq = resize_pixels(gt[:16, :20], size=(4, 5))
    assert image.restored["psnr"] == pytest.approx(psnr(repeated(lq, 4), gt[:16, :20], border_px=2), abs=1e-9)


@pytest.mark.parametrize("channels", [1, 3])
def test_published_noise_reaches_the_network_neither_clipped_nor_rounded(tmp_path, restorer, channels):
    clean = np.full((40, 50, channels)[: 2 + (channels == 3)], 3, np.uint8)
    write_image(tmp_path / "gt/a.png", clean)
    dataset = GaussianNoiseDataset(str(tmp_path / "gt"), name="S", sigma_test=25, in_ch=channels)
    restorer, seen = restorer(1, channels), []
    restorer.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numpy().copy()))
    results = evaluate(restorer, [dataset], PSNR, name="run", results_root=tmp_path)
    drawn = np.random.RandomState(0).normal(0, 25 / 255, clean.shape)
    expected = clean / 255 + (drawn[..., ::-1] if channels == 3 else drawn)  # in OpenCV's order of channels
    np.testing.assert_allclose(seen[-1], np.atleast_3d(expected).transpose(2, 0, 1)[None], atol=1e-6)
    rounded = np.clip(np.rint(expected * 255), 0, 255).astype(np.uint8)
    image = results.datasets[0].images[0]
    assert image.restored["psnr"] == image.baseline["psnr"] == psnr(rounded, clean, border_px=2)
    assert np.array_equal(read_image(tmp_path / "run/visualization/S/a_run.png").pixels, rounded)


def test_luma_is_rounded_as_published_evaluations_do(tmp_path, restorer, noise):
    colour = noise(16, 24, 3)
    write_image(tmp_path / "gt/a.png", colour)
    options = {"dataroot_gt": str(tmp_path / "gt"), "recipe": "jpeg", "variables": {"quality": 10}, "color": "y"}
    dataset = DATASETS.build({"type": "DegradedImageDataset", **options}, name="S", scale=1)
    evaluate(restorer(1, 1), [dataset], PSNR, name="run", results_root=tmp_path)
    luma = np.rint(colour @ np.array([65.481, 128.553, 24.966]) / 255 + 16).astype(np.uint8)
    coded = cv2.imdecode(cv2.imencode(".jpg", luma, [cv2.IMWRITE_JPEG_QUALITY, 10])[1], cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(read_image(tmp_path / "run/visualization/S/a_run.png").pixels, coded)


def test_without_references_only_the_images(tmp_path, restorer, dataset, noise):
    results = evaluate(
        restorer(), [dataset("S", {"a": (None, noise(5, 6, 3))})], PSNR, name="run", results_root=tmp_path
    )
    image = results.datasets[0].images[0]
    assert image.restored == image.baseline == {}
    assert not results.datasets[0].has_reference
    assert read_json(tmp_path / "run")["datasets"]["S"]["mean"]["psnr"]["restored"] is None
    assert "nothing to compare" not in (tmp_path / "run/metrics.csv").read_text()


def test_baseline_of_a_network_that_keeps_the_size_is_the_input(tmp_path, restorer, dataset, noise):
    gt, lq = noise(9, 9, 3), noise(9, 9, 3)
    results = evaluate(restorer(1), [dataset("S", {"a": (gt, lq)})], PSNR, name="run", results_root=tmp_path)
    image = results.datasets[0].images[0]
    assert results.baseline == "input"
    assert image.baseline["psnr"] == image.restored["psnr"] == pytest.approx(psnr(lq, gt, border_px=2))
    with pytest.raises(DataError, match=r"has no inputs.*Give dataroot_lq"):
        evaluate(restorer(1), [dataset("T", {"a": (gt, None)})], PSNR, name="run", results_root=tmp_path)
    reduced = DownsampledImageDataset(str(tmp_path / "S/gt"), name="T")
    with pytest.raises(DataError, match=r"at scale 1 none are made\. Give dataroot_lq"):
        evaluate(restorer(1), [reduced], PSNR, name="run", results_root=tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_meet_in_the_networks_channels(tmp_path, restorer, dataset, noise, channels):
    pairs = dataset("S", {"colour": (noise(12, 12, 3), noise(6, 6, 3)), "grey": (noise(12, 12), noise(6, 6))})
    results = evaluate(restorer(2, channels), [pairs], PSNR, name="run", results_root=tmp_path)
    assert len(results.datasets[0].images) == 2
    for name in ("colour", "grey"):
        pixels = read_image(tmp_path / f"run/visualization/S/{name}_run.png").pixels
        assert pixels.shape == ((12, 12) if channels == 1 else (12, 12, 3))


def test_alpha_is_left_out_loudly_and_depth_is_kept(tmp_path, restorer, dataset, noise, caplog):
    pairs = dataset("S", {"a": (noise(12, 12, 4, dtype=np.uint16), noise(6, 6, 4, dtype=np.uint16))})
    evaluate(restorer(), [pairs], PSNR, name="run", results_root=tmp_path)
    pixels = read_image(tmp_path / "run/visualization/S/a_run.png").pixels
    assert (pixels.dtype, pixels.shape) == (np.uint16, (12, 12, 3))
    assert "its alpha channel is left out" in caplog.text


def test_sizes_are_checked_before_anything_is_written(tmp_path, restorer, dataset, noise):
    good, bad = (noise(12, 12, 3), noise(6, 6, 3)), (noise(12, 14, 3), noise(6, 6, 3))
    with pytest.raises(DataError, match=r"dataset 'S': .*gt/b\.png is 14x12, which is not 2 times .*lq/b\.png of 6x6"):
        evaluate(restorer(), [dataset("S", {"a": good, "b": bad})], PSNR, name="run", results_root=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_databases_are_evaluated_as_folders_are(tmp_path, restorer, dataset, noise):
    made = dataset("S", {name: (noise(12, 14, 3), noise(6, 7, 3)) for name in "ab"})
    block = {"type": "PairedImageDataset", "io_backend": {"type": "lmdb"}}
    for kind in ("gt", "lq"):
        files = [getattr(pair, kind) for pair in made.pairs]
        write_database(
            [(path.stem, lambda path=path: read_image(path).pixels) for path in files], tmp_path / f"{kind}.lmdb"
        )
        block[f"dataroot_{kind}"] = str(tmp_path / f"{kind}.lmdb")
    stored = DATASETS.build(block, name="S", scale=2)
    alone = DATASETS.build(
        {"type": "SingleImageDataset", "dataroot_lq": block["dataroot_lq"], "io_backend": {"type": "lmdb"}}, name="T"
    )
    runs = [
        evaluate(restorer(), datasets, PSNR, name=name, results_root=tmp_path)
        for name, datasets in (("folders", [made]), ("databases", [stored, alone]))
    ]
    files, found = ([(image.name, image.size, image.restored) for image in run.datasets[0].images] for run in runs)
    assert files == found
    assert [image.name for image in runs[1].datasets[1].images] == ["a", "b"]
    (tmp_path / "lq.lmdb/meta_info.txt").write_text("a.png (5,7,3) 1\nb.png (6,7,3) 1\n")
    with pytest.raises(DataError, match=r"gt\.lmdb/a is 14x12, which is not 2 times .*lq\.lmdb/a of 7x5"):
        evaluate(restorer(), [stored], PSNR, name="wrong", results_root=tmp_path)


def test_dataset_without_files(tmp_path, restorer, dataset):
    with pytest.raises(DataError, match="dataset 'S': it holds no image"):
        evaluate(restorer(), [dataset("S", {})], PSNR, name="run", results_root=tmp_path)


def test_left_over_pixels_of_a_reference_are_cropped(tmp_path, restorer, dataset, noise):
    gt, lq = noise(13, 13, 3), noise(6, 6, 3)
    results = evaluate(restorer(), [dataset("S", {"a": (gt, lq)})], PSNR, name="run", results_root=tmp_path)
    expected = psnr(repeated(lq), gt[:12, :12], border_px=2)
    assert results.datasets[0].images[0].restored["psnr"] == pytest.approx(expected)


def test_existing_results_are_archived(tmp_path, restorer, dataset, noise):
    pairs = dataset("S", {"a": (None, noise(5, 6, 3))})
    for _ in range(3):
        evaluate(restorer(), [pairs], {}, name="run", results_root=tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(names) == 3
    assert names[0] == "run"
    assert all(name.startswith("run_archived_") for name in names[1:])
    assert all((tmp_path / "out" / name / "results.json").is_file() for name in names)


def test_results_that_are_being_written_are_not_moved_away(tmp_path, restorer, dataset, noise):
    pairs = dataset("Set", {"a": (noise(16, 20, 3), noise(8, 10, 3))})
    (tmp_path / "results/run").mkdir(parents=True)
    with reserved(tmp_path / "results/run"), pytest.raises(OutputError, match="run' is being written"):
        evaluate(restorer(), [pairs], PSNR, name="run", results_root=tmp_path / "results")
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["run"]


def test_suffix_and_no_images(tmp_path, restorer, dataset, noise):
    pairs = dataset("S", {"a": (None, noise(5, 6, 3))})
    evaluate(restorer(), [pairs], {}, name="run", results_root=tmp_path, suffix="x2")
    assert (tmp_path / "run/visualization/S/a_x2.png").is_file()
    results = evaluate(restorer(), [pairs], {}, name="bare", results_root=tmp_path, save_images=False)
    assert not (tmp_path / "bare/visualization").exists()
    assert results.datasets[0].images[0].file is None


def test_interruption_keeps_what_is_done(tmp_path, restorer, dataset, noise):
    class Interrupting(SimpleNamespace):
        calls = 0

        def measuring(self):
            return self

        def __call__(self, pixels):
            self.calls += 1
            if self.calls == 3:  # the warm-up and one image come before
                raise KeyboardInterrupt
            return self.inner(pixels)

    inner = restorer()
    facts = ("spec", "scale", "device", "dtype", "network", "tile", "padding")
    interrupting = Interrupting(inner=inner, **{fact: getattr(inner, fact) for fact in facts})
    pairs = dataset("S", {name: (noise(12, 12, 3), noise(6, 6, 3)) for name in "abc"})
    with pytest.raises(KeyboardInterrupt):
        evaluate(interrupting, [pairs], PSNR, name="run", results_root=tmp_path)
    written = read_json(tmp_path / "run")
    assert (written["complete"], written["stopped_by"]) == (False, "interrupted")
    assert [image["name"] for image in written["datasets"]["S"]["images"]] == ["a"]
    assert (written["datasets"]["S"]["num_images"], written["datasets"]["S"]["num_expected"]) == (1, 3)
    assert [path.name for path in (tmp_path / "run/visualization/S").iterdir()] == ["a_run.png"]
    assert "Incomplete" in (tmp_path / "run/report.html").read_text()


def test_truncated_image_is_named(tmp_path, restorer, dataset, noise):
    pairs = dataset("S", {name: (noise(64, 64, 3), noise(32, 32, 3)) for name in "ab"})
    broken = pairs.pairs[1].lq
    broken.write_bytes(broken.read_bytes()[:1500])
    with pytest.raises(ImageError, match=r"lq/b\.png"):
        evaluate(restorer(), [pairs], PSNR, name="run", results_root=tmp_path)


def test_damaged_image_is_named_and_the_rest_kept(tmp_path, restorer, dataset, noise):
    pairs = dataset("S", {name: (noise(64, 64, 3), noise(32, 32, 3)) for name in "ab"})
    broken = pairs.pairs[1].lq
    data = bytearray(broken.read_bytes())
    data[1500:1510] = bytes(10)
    broken.write_bytes(data)
    with pytest.raises(ImageError, match=r"lq/b\.png"):
        evaluate(restorer(), [pairs], PSNR, name="run", results_root=tmp_path)
    assert "lq/b.png" in read_json(tmp_path / "run")["stopped_by"]
    assert read_json(tmp_path / "run")["datasets"]["S"]["num_images"] == 1


@pytest.fixture
def missing_metric():
    @metric("lacks_weights", higher_is_better=False)
    def lacks_weights(restored, reference, *, depth: int = 1):
        raise MissingError("its weights are not here; put them into the drawer.")

    METRICS.names()
    yield
    del METRICS._components["lacks_weights"]


def test_missing_metric_does_not_stop_the_run(tmp_path, restorer, dataset, noise, missing_metric, caplog):
    pairs = dataset("S", {name: (noise(12, 12, 3), noise(6, 6, 3)) for name in "ab"})
    metrics = {**bind_metrics({"lpips": {"type": "lacks_weights"}}), **PSNR}
    with caplog.at_level(logging.WARNING):
        results = evaluate(restorer(), [pairs], metrics, name="run", results_root=tmp_path)
    assert results.complete
    assert results.metrics["lpips"].missing == "its weights are not here; put them into the drawer."
    assert caplog.text.count("lpips is left out") == 1
    assert "put them into the drawer" in read_json(tmp_path / "run")["metrics"]["lpips"]["missing"]
    assert "lpips" not in (tmp_path / "run/metrics.csv").read_text()
    assert "put them into the drawer" in (tmp_path / "run/report.html").read_text()
    assert set(results.datasets[0].images[0].restored) == {"psnr"}


@pytest.mark.parametrize(
    ("block", "error", "message"),
    [
        ({"type": "psnr", "border_px": -1}, OptionsError, r"val\.metrics\.psnr\.border_px"),
        ({"type": "psnr", "border_px": 6}, ImageError, "nothing is left of 12x12 px inside a border of 6 px"),
        ({"type": "calculate_psnr", "crop_border": 0, "input_order": "CHW"}, ImageError, "channels are measured"),
    ],
)
def test_older_results_stay_where_a_metric_cannot_work(tmp_path, restorer, dataset, noise, block, error, message):
    (tmp_path / "run").mkdir()
    pairs = dataset("S", {"a": (noise(12, 12, 3), noise(6, 6, 3))})
    with pytest.raises(error, match=message):
        evaluate(restorer(), [pairs], bind_metrics({"psnr": block}), name="run", results_root=tmp_path)
    assert not list(tmp_path.glob("run_archived*"))

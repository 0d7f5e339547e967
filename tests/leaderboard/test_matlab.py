from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from restore.errors import DataError
from restore.leaderboard.archive import open_package
from restore.leaderboard.matlab import DndTask, SiddTask, read_blocks
from restore.leaderboard.scoring import Scorer, score
from restore.leaderboard.submission import Author, submit
from restore.leaderboard.tracks import TRACKS
from restore.leaderboard.work import WorkFolder
from restore.metrics import psnr

CPU = torch.device("cpu")


def _submit(task, track, tmp_path, network):
    work = WorkFolder(tmp_path / "out", {})
    return submit(task, work, TRACKS[track], Author("Repeat"), device=CPU, network=network)


@pytest.fixture
def sidd(tmp_path, noise):
    blocks = noise(3, 2, 16, 16, 3)
    savemat(tmp_path / "BenchmarkNoisyBlocksSrgb.mat", {"BenchmarkNoisyBlocksSrgb": blocks})
    return tmp_path / "BenchmarkNoisyBlocksSrgb.mat", blocks


def test_sidd(tmp_path, sidd, restorer):
    path, blocks = sidd
    model = restorer(1)
    submission = _submit(SiddTask(model, path, tmp_path / "out/images", "Repeat"), "sidd", tmp_path, model.network)
    assert submission.names == ["SubmitSrgb.mat"]
    with open_package(submission.zip) as package:
        content = loadmat(io.BytesIO(package.read("SubmitSrgb.mat")))
    cells = content["DenoisedBlocksSrgb"]
    assert cells.shape == (3, 2)
    assert cells[2, 1].dtype == np.uint8
    assert np.array_equal(cells[2, 1], blocks[2, 1])
    seconds = submission.runtime.network_s * 6
    assert content["TimeMPSrgb"].item() == pytest.approx(seconds * 1024 * 1024 / (6 * 16 * 16))
    assert content["OptionalData"]["MethodName"].item().item() == "Repeat"


def test_sidd_is_scored(tmp_path, sidd, restorer, noise):
    path, blocks = sidd
    model = restorer(1)
    submission = _submit(SiddTask(model, path, tmp_path / "out/images"), "sidd", tmp_path, model.network)
    clean = np.clip(blocks.astype(int) + noise(*blocks.shape) % 9, 0, 255).astype(np.uint8)
    (tmp_path / "ref").mkdir()
    savemat(tmp_path / "ref/ValidationGtBlocksSrgb.mat", {"ValidationGtBlocksSrgb": clean})
    values = score(Scorer(TRACKS["sidd"]), submission.zip, tmp_path / "ref").values
    expected = np.mean([psnr(blocks[i, b], clean[i, b]) for i, b in np.ndindex(3, 2)])
    assert values["psnr"] == pytest.approx(expected, abs=1e-9)
    savemat(tmp_path / "ref/ValidationGtBlocksSrgb.mat", {"ValidationGtBlocksSrgb": clean[:2]})
    with pytest.raises(DataError, match="its blocks are"):
        score(Scorer(TRACKS["sidd"]), submission.zip, tmp_path / "ref")


def test_blocks_in_an_array_or_in_cells(tmp_path, sidd):
    _, blocks = sidd
    cells = np.empty((3, 2), dtype=object)
    for place in np.ndindex(3, 2):
        cells[place] = blocks[place]
    for content in (blocks, cells):
        file = io.BytesIO()
        savemat(file, {"DenoisedBlocksSrgb": content})
        assert np.array_equal(read_blocks(file.getvalue(), "x.mat"), blocks)


@pytest.fixture
def dnd(tmp_path, noise):
    """Two images with three crops each, in the layout of the data set (HDF5, as MATLAB writes it)."""
    h5py = pytest.importorskip("h5py")
    images = {number: noise(20, 24, 3).astype(np.float32) / 255 for number in (1, 2)}
    boxes = np.array([[1, 1, 16, 16], [5, 9, 20, 24], [3, 2, 14, 13]], float)  # top, left, bottom, right from 1 on
    (tmp_path / "dnd/images_srgb").mkdir(parents=True)
    with h5py.File(tmp_path / "dnd/info.mat", "w") as file:
        references = []
        for number in images:
            file[f"boxes{number}"] = boxes.T
            references.append(file[f"boxes{number}"].ref)
        file.create_dataset("info/boundingboxes", data=np.array([references], dtype=h5py.ref_dtype))
    for number, image in images.items():
        with h5py.File(tmp_path / f"dnd/images_srgb/{number:04}.mat", "w") as file:
            file["InoisySRGB"] = image.T
    return tmp_path / "dnd", images


def test_dnd(tmp_path, dnd, restorer):
    folder, images = dnd
    model = restorer(1)
    submission = _submit(DndTask(model, folder, tmp_path / "out/images"), "dnd", tmp_path, model.network)
    assert submission.names == ["0001.mat", "0002.mat"]
    with open_package(submission.zip) as package:
        content = loadmat(io.BytesIO(package.read("0002.mat")))
    crops = content["Idenoised"].reshape(-1)
    assert len(crops) == 3
    assert crops[1].dtype == np.float32
    assert np.allclose(crops[1], images[2][4:20, 8:24], atol=1e-6)
    assert content["eval_version"].item() == "1.0"
    assert content["israw"].item() == 0
    (tmp_path / "ref").mkdir()
    for number, image in images.items():
        cells = np.empty(3, dtype=object)
        for k, (rows, columns) in enumerate([((0, 16), (0, 16)), ((4, 20), (8, 24)), ((2, 14), (1, 13))]):
            cells[k] = np.clip(image[slice(*rows), slice(*columns)] + 0.1, 0, 1)
        savemat(tmp_path / f"ref/{number:04}.mat", {"Idenoised": cells})
    values = score(Scorer(TRACKS["dnd"]), submission.zip, tmp_path / "ref").values
    assert 20 <= values["psnr"] < 21


@pytest.mark.parametrize(("rows", "found"), [((0, 24, 3), "no pixels"), ((15, 24, 3), "beyond the 15 x 24 px")])
def test_crops_that_an_image_of_dnd_does_not_have(tmp_path, dnd, restorer, rows, found):
    h5py = pytest.importorskip("h5py")
    with h5py.File(dnd[0] / "images_srgb/0001.mat", "w") as file:
        file["InoisySRGB"] = np.zeros(rows, np.float32).T
    task = DndTask(restorer(1), dnd[0], tmp_path / "out")
    with pytest.raises(DataError, match=found):
        task.do("0001_02")


def test_enlarging_models_do_not_denoise(sidd, restorer, tmp_path):
    with pytest.raises(DataError, match="this track denoises, the model enlarges 4 times"):
        SiddTask(restorer(), sidd[0], tmp_path / "out")


def test_a_benchmark_of_floats_is_refused_before_the_work(sidd, restorer, tmp_path):
    savemat(tmp_path / "float.mat", {"BenchmarkNoisyBlocksSrgb": sidd[1].astype(np.float32) / 255})
    with pytest.raises(DataError, match=r"float\.mat holds float32: the benchmark's blocks are uint8"):
        SiddTask(restorer(1), tmp_path / "float.mat", tmp_path / "out")


VALUES = {"nan": np.nan, "inf": np.inf, "minus inf": -np.inf, "huge": 1e300, "above": 1.01, "below": -0.01}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("track", ["sidd", "dnd"])
def test_no_scorer_takes_values_that_no_image_has(tmp_path, noise, track, value):
    good = noise(2, 1, 16, 16, 3) / 255
    bad = good.copy()
    bad[1, 0, 3, 5, 2] = value
    cells = {}
    for name, blocks in (("ref", good), ("res", bad)):
        (tmp_path / name).mkdir()
        cell = np.empty(2, object)
        cell[:] = list(blocks[:, 0])
        cells[name] = {"sidd": {"DenoisedBlocksSrgb": blocks}, "dnd": {"Idenoised": cell}}[track]
        savemat(tmp_path / name / ("SubmitSrgb.mat" if track == "sidd" else "0001.mat"), cells[name])
    with pytest.raises(DataError, match=r"\.mat.* holds values"):
        score(Scorer(TRACKS[track]), tmp_path / "res", tmp_path / "ref")


def test_types_other_than_those_of_the_references_are_refused(tmp_path, sidd, noise):
    for name, blocks in (("ref", sidd[1]), ("res", sidd[1] / 255)):
        (tmp_path / name).mkdir()
        savemat(tmp_path / name / "SubmitSrgb.mat", {"DenoisedBlocksSrgb": blocks})
    with pytest.raises(DataError, match="its blocks are float64; expected: uint8"):
        score(Scorer(TRACKS["sidd"]), tmp_path / "res", tmp_path / "ref")


def test_a_changed_submission_is_refused_and_the_scorer_lives(tmp_path, sidd, shared):
    (tmp_path / "ref").mkdir()
    (tmp_path / "res").mkdir()
    savemat(tmp_path / "ref/x.mat", {"ValidationGtBlocksSrgb": sidd[1]})
    (tmp_path / "res/SubmitSrgb.mat").write_bytes(shared("cases/hostile/sidd_bus_error.mat").read_bytes())
    with pytest.raises(DataError, match=r"SubmitSrgb\.mat"):
        score(Scorer(TRACKS["sidd"]), tmp_path / "res", tmp_path / "ref")

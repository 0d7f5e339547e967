"""Metrics of other libraries: found by prefix, called like ours, missing files reported."""

from __future__ import annotations

import sys
import types
from urllib.error import URLError

import numpy as np
import pytest
import torch

from restore.errors import ImageError, MissingError, OptionsError
from restore.images import write_image
from restore.metrics import METRICS, traits
from restore.metrics.foreign import _pyiqa_network, pyiqa_metric

CONFIGURATIONS = {
    "near": {"metric_mode": "FR", "lower_better": True},
    "musical": {"metric_mode": "NR"},
    "far": {"metric_mode": "NR"},
}


@pytest.fixture
def fake_pyiqa(monkeypatch):
    """A pyiqa of three metrics, so that the test neither waits for the real one nor downloads."""

    def create_metric(name, device):
        if name == "far":
            raise URLError("no network")
        if name == "near":
            return lambda x, y: (x - y).abs().mean(dim=(1, 2, 3))
        return lambda x: x.mean(dim=(1, 2, 3))[:, None]

    pyiqa = types.ModuleType("pyiqa")
    pyiqa.create_metric = create_metric
    models = types.ModuleType("pyiqa.default_model_configs")
    models.DEFAULT_CONFIGS = CONFIGURATIONS
    monkeypatch.setitem(sys.modules, "pyiqa", pyiqa)
    monkeypatch.setitem(sys.modules, "pyiqa.default_model_configs", models)
    yield
    pyiqa_metric.cache_clear()
    _pyiqa_network.cache_clear()


@pytest.fixture(autouse=True)
def fresh():
    pyiqa_metric.cache_clear()
    _pyiqa_network.cache_clear()


@pytest.mark.usefixtures("fake_pyiqa")
def test_pyiqa_metrics_are_called_like_ours(photo, noisy, caplog):
    near = METRICS.bind({"type": "pyiqa:near", "border_px": 2})
    cut = [image[2:-2, 2:-2].astype(float) / 255 for image in (noisy, photo)]
    assert near(noisy, photo) == pytest.approx(np.abs(cut[0] - cut[1]).mean(), abs=1e-6)
    assert "non-commercial" in caplog.text
    musical = METRICS.get("pyiqa:musical")
    batch = torch.rand(3, 1, 8, 8)
    assert musical(batch).tolist() == pytest.approx(batch.mean(dim=(1, 2, 3)).tolist(), abs=1e-6)
    assert not traits("pyiqa:near").higher_is_better
    assert traits("pyiqa:near").needs_reference
    assert not traits(musical).needs_reference
    assert "non-commercial" in traits(musical).note
    assert "pyiqa:near" in METRICS
    with pytest.raises(ImageError, match="differ in size"):
        near(noisy, photo[1:])


@pytest.mark.usefixtures("fake_pyiqa")
def test_pyiqa_refusals(photo):
    with pytest.raises(OptionsError, match=r"no metric 'musica'. Did you mean 'musical'"):
        METRICS.get("pyiqa:musica")
    with pytest.raises(OptionsError, match="Did you mean 'border_px'"):
        METRICS.bind({"type": "pyiqa:near", "border": 2})
    with pytest.raises(OptionsError, match="unknown metric 'elsewhere:near'"):
        METRICS.get("elsewhere:near")
    with pytest.raises(MissingError, match=r"pyiqa:far needs files.*cannot be downloaded"):
        METRICS.get("pyiqa:far")(photo)


@pytest.mark.parametrize("module", ["pyiqa.default_model_configs", "torch_fidelity"])
def test_an_absent_library_is_named(module, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingError, match="pip install"):
        METRICS.get("pyiqa:musiq") if "pyiqa" in module else METRICS.get("fid")(tmp_path, tmp_path)


def test_sets_are_handed_to_torch_fidelity(monkeypatch, tmp_path):
    asked = []
    library = types.ModuleType("torch_fidelity")
    result = {"frechet_inception_distance": 7.5, "kernel_inception_distance_mean": 0.25}
    library.calculate_metrics = lambda **arguments: asked.append(arguments) or result
    monkeypatch.setitem(sys.modules, "torch_fidelity", library)
    assert METRICS.get("fid")(tmp_path / "a", tmp_path / "b") == 7.5
    assert METRICS.bind({"type": "kid", "subset": 10})(tmp_path / "a", tmp_path / "b") == 0.25
    assert asked[0]["input1"] == str(tmp_path / "a")
    assert asked[0]["fid"]
    assert asked[1]["kid_subset_size"] == 10
    assert traits("fid").of_sets

    def refuse(**arguments):
        raise URLError("no network")

    library.calculate_metrics = refuse
    with pytest.raises(MissingError, match=r"weights-inception-2015-12-05-6726825d\.pth"):
        METRICS.get("fid")(tmp_path, tmp_path)


@pytest.mark.slow
def test_the_real_pyiqa_agrees_where_it_needs_no_weights(photo, noisy):
    pytest.importorskip("pyiqa")
    for name in ("psnr", "ssim", "gmsd"):
        theirs = METRICS.get(f"pyiqa:{name}")
        assert traits(theirs).higher_is_better == traits(name).higher_is_better
        block = {"type": name, "luma": "grey", "y_rounding": "matlab"} if name == "ssim" else {"type": name}
        assert theirs(noisy, photo) == pytest.approx(METRICS.bind(block)(noisy, photo), rel=2e-3)
    batch = torch.from_numpy(np.stack([photo, noisy])).permute(0, 3, 1, 2)
    assert METRICS.get("pyiqa:psnr")(batch, batch.flip(0)).shape == (2,)


@pytest.mark.slow
def test_the_real_torch_fidelity_measures_two_folders(monkeypatch, tmp_path, noisy, photo):
    """With random weights: what is checked is that the library takes our call and that its figures come back."""
    inception = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    torch.manual_seed(0)
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
    monkeypatch.setattr(inception.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
    for name, image in (("a", photo), ("b", noisy)):
        for number in range(4):
            write_image(tmp_path / name / f"{number}.png", np.roll(image, 16 * number, axis=1))
    assert METRICS.get("fid")(tmp_path / "a", tmp_path / "a") == pytest.approx(0, abs=1e-3)
    assert METRICS.get("fid")(tmp_path / "a", tmp_path / "b") > 0
    kid = METRICS.bind({"type": "kid", "subset": 3})
    assert kid(tmp_path / "a", tmp_path / "a") == pytest.approx(0, abs=1e-3)

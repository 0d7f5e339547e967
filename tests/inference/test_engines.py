"""Networks that ONNX Runtime and OpenVINO run, under the `Restorer`."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from restore import build_model
from restore.cli import main
from restore.errors import MissingError, OptionsError
from restore.images import read_image, write_image
from restore.inference import Restorer, engines
from restore.inference.engines import engine_restorer, network_digest

BLOCK = {"type": "RepConvSR", "num_feat": 4, "num_block": 2, "upscale": 2}
OTHERS = ("onnxruntime", "openvino")
GPU = ("TensorrtExecutionProvider", "CUDAExecutionProvider")


@pytest.fixture(params=OTHERS)
def engine(request, monkeypatch, tmp_path):
    for name in ("onnx", "onnxscript", "onnxruntime", request.param):
        pytest.importorskip(name)
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "cache"))
    return request.param


def network(seed=0, **options):
    torch.manual_seed(seed)
    return build_model({**BLOCK, **options}).eval()


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.uint16, 4), (np.float32, 1)])
def test_the_same_image_as_torch_gives(engine, dtype, channels, caplog):
    rng = np.random.default_rng(0)
    white = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    image = (rng.random((61, 83, channels)) * white).astype(dtype).squeeze()
    with caplog.at_level(logging.INFO, "restore"):
        other = engine_restorer(network(), engine, device="cpu", tile=32, tile_overlap=8)
    same = Restorer(network(), device="cpu", precision="fp32", tile=32, tile_overlap=8)
    found, wanted = other(image), same(image)
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    assert np.abs(found.astype(float) - wanted.astype(float)).max() <= max(1e-4 * white, 1)
    assert "differs from torch by at most" in caplog.text


@pytest.mark.parametrize(
    ("engine", "precision"), [("onnxruntime", "fp16"), ("onnxruntime", "int8"), ("openvino", "bf16")]
)
def test_lower_precisions(monkeypatch, tmp_path, caplog, engine, precision):
    for name in ("onnx", "onnxscript", "onnxruntime", engine):
        pytest.importorskip(name)
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path))
    slope = np.tile(np.linspace(0, 255, 48, dtype=np.uint8)[:, None, None], (1, 40, 3))
    other = engine_restorer(network(), engine, device="cpu", precision=precision)
    same = Restorer(network(), device="cpu", precision="fp32")
    assert np.abs(other(slope).astype(int) - same(slope).astype(int)).max() <= (30 if precision == "int8" else 4)


def test_the_file_is_made_once_for_weights_and_options(engine, monkeypatch):
    made = []
    usual = engines.export_network
    monkeypatch.setattr(engines, "export_network", lambda *given, **how: made.append(given[1]) or usual(*given, **how))
    for each in (network(), network(), network(seed=1), network(num_block=1)):
        engine_restorer(each, engine, device="cpu")
    assert len(made) == 3
    made[0].write_bytes(made[0].read_bytes()[:-100])  # what is no longer as it was written is made again
    engine_restorer(network(), engine, device="cpu")
    made[0].with_suffix(".json").write_text("[]")
    engine_restorer(network(), engine, device="cpu")
    assert len(made) == 5


def test_a_digest_tells_weights_structure_and_attributes_apart():
    one = network()
    assert network_digest(one) == network_digest(network())
    changed = network()
    with torch.no_grad():
        next(changed.parameters()).view(-1)[0] += 1e-6
    scaled = network()
    scaled.img_range = 255.0
    assert len({network_digest(each) for each in (one, changed, scaled, network(num_block=1))}) == 4


class _TakesOne(torch.nn.Module):
    spec = network().spec

    def forward(self, x_BCHW):
        assert len(x_BCHW) == 1
        return torch.nn.functional.interpolate(x_BCHW, scale_factor=2)


def test_files_that_take_one_image_get_one():
    exported = engines.EngineNetwork(_TakesOne(), _TakesOne.spec, many=False)
    assert Restorer(exported, device="cpu", tile=16, tile_batch=4)(np.zeros((40, 40, 3), np.uint8)).shape == (80, 80, 3)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"compile": True}, "compile is for networks that torch runs"),
        ({"merge": "tome:0.3"}, "merge is for networks"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
        ({"provider": "cudda"}, "(?i)cudda"),
        ({"device": "cuda:7"}, "has no"),
        ({"tile": "big"}, "tile is 'big'"),
    ],
)
def test_what_an_engine_does_not_do(engine, how, words):
    with pytest.raises(OptionsError, match=words) as told:
        engine_restorer(network(), engine, **{"device": "cpu", **how})
    assert "Traceback" not in str(told.value)


def test_an_engine_that_is_unknown_or_not_installed(monkeypatch, tmp_path):
    with pytest.raises(OptionsError, match="Did you mean 'onnxruntime'"):
        engine_restorer(network(), "onxruntime")
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    monkeypatch.setattr(engines, "_exported", lambda network, precision: (tmp_path / "a.onnx", {}))
    with pytest.raises(MissingError, match=r"restore-toolkit\[export,openvino\]"):
        engine_restorer(network(), "openvino")


@pytest.mark.parametrize(
    ("available", "asked", "device", "chosen"),
    [
        ([*GPU, "CPUExecutionProvider"], None, "auto", "cuda"),
        ([*GPU, "CPUExecutionProvider"], "tensorrt", "auto", "tensorrt"),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], None, "cpu", "cpu"),
        (["CoreMLExecutionProvider", "CPUExecutionProvider"], None, "mps", "coreml"),
        (["DmlExecutionProvider", "CPUExecutionProvider"], None, "auto", "directml"),
        (["OpenVINOExecutionProvider", "CPUExecutionProvider"], None, "auto", "cpu"),
    ],
)  # fmt: skip
def test_providers(available, asked, device, chosen):
    assert engines._provider(available, asked, device) == chosen


def test_the_command(engine, tmp_path, capsys):
    weights = tmp_path / "tiny.pth"
    torch.save({"params": network().state_dict()}, weights)
    rng = np.random.default_rng(1)
    write_image(tmp_path / "in/a.png", rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    arguments = ["run", "-m", str(weights), "-i", str(tmp_path / "in"), "--device", "cpu"]
    assert main([*arguments, "-o", str(tmp_path / "torch"), "--engine", "torch", "--precision", "fp32"]) == 0
    assert main([*arguments, "-o", str(tmp_path / "other"), "--engine", engine]) == 0
    one, other = (read_image(tmp_path / folder / "a.png").pixels.astype(int) for folder in ("torch", "other"))
    assert np.abs(one - other).max() <= 1
    assert main([*arguments, "-o", str(tmp_path / "no"), "--provider", "cpu"]) == 2
    assert "--provider belongs to" in capsys.readouterr().err

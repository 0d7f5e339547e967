from __future__ import annotations

import pytest
import torch
from torch import nn

from restore import build_model
from restore.errors import OptionsError
from restore.inference import export
from restore.inference.export import CHECKED, CHECKED_SMALL, LARGE, ExportError, export_network
from restore.layers.folding import fold
from restore.layers.mixers.graph.neighbours import NeighbourGraph
from restore.networks.base import Network
from restore.networks.repconv import RepConvSR
from restore.networks.spec import ImageSpec
from restore.networks.swinir import SwinIR
from restore.zoo import load_network


@pytest.fixture
def network():
    torch.manual_seed(0)
    options = {"embed_dim": 8, "depths": [2], "num_heads": [2], "window_size": 8, "mlp_ratio": 2}
    return SwinIR(**options, upscale=2, upsampler="pixelshuffledirect").eval()


@pytest.mark.parametrize("suffix", [pytest.param(".pt2", marks=pytest.mark.slow), ".onnx"])
def test_any_height_and_width(network, suffix, tmp_path):
    if suffix == ".onnx":
        for name in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(name)
    path = tmp_path / f"network{suffix}"
    differences = export_network(network, path)
    assert set(differences) == {*CHECKED, *CHECKED_SMALL, *([LARGE] if suffix == ".onnx" else [])}
    assert max(differences.values()) < 1e-5
    if suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

        def run(image):
            return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: image.numpy()})[0])
    else:
        run = torch.export.load(path).module()
    for size in ((1, 30, 43), (1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 2), (4, 2, 9), (1, 7, 1), (5, 8, 16), (3, 9, 8)):
        image = torch.rand(size[0], 3, *size[1:])
        with torch.no_grad():
            assert torch.allclose(run(image), network(image), atol=1e-5), size


def test_what_only_training_needs_is_left_out(tmp_path):
    network = RepConvSR(num_feat=4, num_block=1, upscale=2).eval()
    export_network(network, tmp_path / "network.pt2")
    program = torch.export.load(tmp_path / "network.pt2")
    assert sorted(program.state_dict) == sorted(fold(network).state_dict())
    assert len(program.state_dict) < len(network.state_dict())


class _Counting(SwinIR):
    """Gives something else each time."""

    def forward(self, x_BCHW):
        return super().forward(x_BCHW) + torch.rand(())


@pytest.mark.slow
def test_a_file_that_is_wrong_is_not_kept(network, tmp_path):
    network.__class__ = _Counting
    with pytest.raises(ExportError, match="not written"):
        export_network(network, tmp_path / "network.pt2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [None, "fails", "wrong"])
def test_what_tracing_settles_is_left_to_torch_export(network, tmp_path, monkeypatch, kind):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    usual, programs = export._program, []
    monkeypatch.setattr(export, "_program", lambda *given, **how: programs.append(given) or usual(*given, **how))
    if kind == "fails":
        monkeypatch.setattr(export, "_trace", lambda network: 1 / 0)
    if kind == "wrong":
        other = SwinIR(embed_dim=8, depths=[1], num_heads=[2], window_size=8, upscale=2, upsampler="pixelshuffledirect")
        trace = export._trace
        monkeypatch.setattr(export, "_trace", lambda network: trace(other.eval()))
    assert max(export_network(network, tmp_path / "network.onnx").values()) < 1e-5
    assert len(programs) == (kind is not None)


def test_unknown_format(network, tmp_path):
    with pytest.raises(OptionsError, match=r"the name must end in \.onnx or \.pt2"):
        export_network(network, tmp_path / "network.engine")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_the_shipped_model_at_three_sizes(suffix, tmp_path):
    if suffix == ".onnx":
        for name in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(name)
    differences = export_network(load_network("swinir_light_x4"), tmp_path / f"shipped{suffix}")
    assert {*CHECKED, *CHECKED_SMALL} <= set(differences)
    assert max(differences.values()) < 1e-5


@pytest.mark.parametrize(
    "block",
    [
        {"type": "MetaFormerRestorer", "mixers": ["window", "channel"], "embed_dim": 12, "depths": [2]},
        pytest.param(
            {"type": "UNetRestorer", "encoder": {"type": "conv_pyramid", "widths": [4, 8]}, "width": 8, "depth": 1},
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda block: block["type"],
)
def test_networks_of_parts(block, tmp_path):
    torch.manual_seed(0)
    assert max(export_network(build_model(block), tmp_path / "network.pt2").values()) < 1e-5


ENCODERS = {  # of each build one
    "after_trt_vit": {"dims": [8, 8, 16, 16], "depths": [1, 1, 2, 2], "num_mixed": [0, 0, 1, 1], "num_heads": 2},
    "repopt_vgg": {"depths": [1, 2, 1, 1], "width_factors": [0.125, 0.125, 0.0625, 0.0625]},
    "randformer": {"dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "grids": [None, None, 4, 2]},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ENCODERS)
def test_networks_on_encoders(name, tmp_path):
    torch.manual_seed(0)
    encoder = {"type": name, **ENCODERS[name], "out_indices": [0, 1]}
    network = build_model({"type": "UNetRestorer", "encoder": encoder, "width": 8, "depth": 1})
    assert max(export_network(network, tmp_path / "network.pt2").values()) < 1e-5


class _Guarded(SwinIR):
    """Settles a branch by the size that it is traced with."""

    def forward(self, x_BCHW):
        return super().forward(x_BCHW + 1 if x_BCHW.shape[2] > 40 else x_BCHW)


@pytest.mark.slow
def test_sizes_that_the_file_does_not_take_are_named(network, tmp_path):
    network.__class__ = _Guarded
    with pytest.raises(ExportError, match=r"does not take an image of \d+ x|cannot be exported with free|not written"):
        export_network(network, tmp_path / "network.pt2")
    assert not (tmp_path / "network.pt2").exists()


@pytest.fixture
def needs_onnx():
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)


@pytest.mark.parametrize(("precision", "kind"), [("fp16", "float16"), ("int8", "int8")])
def test_weights_of_lower_precisions(needs_onnx, network, tmp_path, precision, kind):
    import onnx

    differences = export_network(network, tmp_path / "low.onnx", precision=precision)
    assert 0 < max(differences.values()) < (0.01 if precision == "fp16" else 0.5)
    weights = [onnx.numpy_helper.to_array(each) for each in onnx.load(tmp_path / "low.onnx").graph.initializer]
    parameters = sum(parameter.numel() for parameter in network.parameters() if parameter.ndim > 1)
    assert sum(each.size for each in weights if each.dtype.name == kind) > 0.8 * parameters


def test_the_command_measures_what_int8_loses(needs_onnx, tmp_path, caplog):
    from restore.cli import main
    from restore.images import resize_pixels, write_image

    torch.manual_seed(0)
    weights = tmp_path / "tiny.pth"
    torch.save({"params": RepConvSR(num_feat=4, num_block=1, upscale=2).state_dict()}, weights)
    coarse = (torch.rand(6, 8, 3) * 255).byte().numpy()
    write_image(tmp_path / "Three/HR/a.png", resize_pixels(coarse, size=(49, 64)))
    command = ["export", "-m", str(weights), "-o", str(tmp_path / "tiny.onnx"), "--precision", "int8"]
    with caplog.at_level("INFO", "restore"):
        assert main([*command, "--measure", str(tmp_path / "Three/HR")]) == 0
    assert "PSNR on Three: " in caplog.text
    assert "dB lost" in caplog.text
    assert (tmp_path / "tiny.onnx").exists()


@pytest.mark.parametrize(
    ("name", "precision", "words"), [("a.pt2", "fp16", "only ONNX"), ("a.onnx", "int4", "fp32, fp16 or int8")]
)
def test_precisions_that_a_file_does_not_have(needs_onnx, network, tmp_path, name, precision, words):
    with pytest.raises(OptionsError, match=words):
        export_network(network, tmp_path / name, precision=precision)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_does_not_enlarge_is_compared_with_itself(needs_onnx, tmp_path):
    from restore.images import write_image
    from restore.inference.lower import measured_loss

    torch.manual_seed(0)
    network = SwinIR(embed_dim=8, depths=[1], num_heads=[2], window_size=8, upscale=1, upsampler="").eval()
    write_image(tmp_path / "set/a.png", (torch.rand(24, 32, 3) * 255).byte().numpy())
    loss = measured_loss(network, network, tmp_path / "set")
    assert (loss.network, loss.file) == (None, float("inf"))
    assert "own results" in str(loss)


@pytest.mark.parametrize("chooses", [False, True])
def test_a_network_that_chooses_may_meet_an_image_where_rounding_decides(chooses):
    """A file that differs for one image is taken of such a network alone, and one that always differs of none."""

    class Halves(Network):
        def __init__(self):
            super().__init__()
            self.inner = NeighbourGraph(4) if chooses else nn.Identity()

        spec = ImageSpec(1, 3, 3)

        def forward(self, x_BCHW):
            return x_BCHW / 2

    seen = []

    def turned_once(image):
        seen.append(image)
        return image / 2 + (0.01 if len(seen) == 1 else 0)

    assert (export._difference(Halves(), turned_once, (1, 4, 5)) <= export.TOLERANCE) == chooses
    assert len(seen) == 1 + chooses
    assert export._difference(Halves(), lambda image: image / 2 + 0.01, (1, 4, 5)) == pytest.approx(0.01, rel=1e-3)

from __future__ import annotations

import dataclasses
import hashlib
import time
import urllib.error
from http.client import BadStatusLine

import pytest
import timm
import torch

from restore.encoders import build_encoder
from restore.encoders.timm import weights
from restore.errors import MissingError


@pytest.fixture
def nothing_cached(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)


def test_without_a_network_one_line_says_so_at_once(nothing_cached, monkeypatch):
    def no_network(request, timeout):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(weights.urllib.request, "urlopen", no_network)
    start = time.monotonic()
    with pytest.raises(MissingError) as caught:
        build_encoder({"type": "test_vit", "pretrained": True})
    assert time.monotonic() - start < 20
    assert str(caught.value) == (
        "the pretrained weights of 'test_vit' are not on this machine, and https://huggingface.co/timm/"
        "test_vit.r160_in1k does not answer (Name or service not known). Connect, or write pretrained: false."
    )


@pytest.mark.parametrize("error", [BadStatusLine("\x1b[2J" * 300), ValueError("no address"), TimeoutError("slow")])
def test_whatever_a_server_answers_is_one_line(nothing_cached, monkeypatch, error):
    def answer(request, timeout):
        raise error

    monkeypatch.setattr(weights.urllib.request, "urlopen", answer)
    with pytest.raises(MissingError, match="does not answer") as caught:
        build_encoder({"type": "test_vit", "pretrained": True})
    assert len(str(caught.value)) < 500


def test_weights_that_have_an_address_are_downloaded_and_checked(monkeypatch, tmp_path, file_server):
    model = timm.create_model("test_resnet")
    torch.save(model.state_dict(), tmp_path / "x.pth")
    file_server.content = (tmp_path / "x.pth").read_bytes()
    digest = hashlib.sha256(file_server.content).hexdigest()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)

    def config(beginning):
        mine = dataclasses.replace(timm.get_pretrained_cfg("test_resnet"), hf_hub_id=None)
        mine.url = f"{file_server.address}/net-{beginning}.pth"
        return lambda name: mine

    monkeypatch.setattr(timm, "get_pretrained_cfg", config("01234567"))
    with pytest.raises(MissingError, match="they are discarded"):
        weights.create_model("test_resnet", pretrained=True)
    monkeypatch.setattr(timm, "get_pretrained_cfg", config(digest[:8]))
    made = weights.create_model("test_resnet", pretrained=True)
    assert torch.equal(next(made.parameters()), next(model.parameters()))
    assert len(file_server.requests) == 2
    weights.create_model("test_resnet", pretrained=True)
    assert len(file_server.requests) == 2


def test_offline_mode_is_kept(nothing_cached, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(weights.urllib.request, "urlopen", lambda *_, **__: pytest.fail("asked the network"))
    with pytest.raises(MissingError, match="HF_HUB_OFFLINE forbids downloads"):
        build_encoder({"type": "test_vit", "pretrained": True})


def test_models_without_weights_say_so():
    with pytest.raises(MissingError, match=r"no pretrained weights of 'coatnet_0_224'\. Write pretrained: false\."):
        build_encoder({"type": "coatnet_0_224", "pretrained": True})


def test_weights_of_an_earlier_download_need_no_network(monkeypatch, tmp_path):
    from safetensors.torch import save_file

    model = timm.create_model("resnet18")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda repository, file, **_: str(tmp_path / "model.safetensors")
    )
    monkeypatch.setattr(weights.urllib.request, "urlopen", lambda *_, **__: pytest.fail("asked the network"))
    encoder = build_encoder({"type": "resnet18", "pretrained": True, "normalisation": "weights"})
    assert torch.equal(encoder.state_dict()["model.conv1.weight"], model.conv1.weight)
    assert encoder._mean.flatten().tolist() == pytest.approx(list(model.pretrained_cfg["mean"]))


def test_weights_for_a_side_that_the_strides_do_not_divide_are_fitted(monkeypatch, tmp_path):
    """LeViT's are for 224 px; the encoder is made for 256, so that its maps have whole cells."""
    from safetensors.torch import save_file

    arguments = {"embed_dim": (16, 16, 16), "depth": (1, 1, 1), "num_heads": (1, 1, 1)}
    model = timm.create_model("levit_128s", **arguments)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda repository, file, **_: str(tmp_path / "model.safetensors")
    )
    blocks = [{"type": "levit_128s", "pretrained": pretrained, "model_args": arguments} for pretrained in (True, False)]
    trained, plain = (build_encoder(block).state_dict() for block in blocks)
    assert [value.shape for value in trained.values()] == [value.shape for value in plain.values()]
    name = "stages.0.blocks.0.attn.attention_biases"
    table, fitted = model.state_dict()[name].view(14, 14), trained[f"model.model.{name}"].view(16, 16)
    torch.testing.assert_close(fitted[::15, ::15], table[::13, ::13])

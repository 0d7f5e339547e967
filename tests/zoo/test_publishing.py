"""`restore models push`: files that other programs read, and their upload to a server that plays the hub."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open

from restore.cli import main
from restore.zoo import build_model, load_network

_spec = importlib.util.spec_from_file_location("_hub", Path(__file__).with_name("hub.py"))
_hub = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_hub)
SMALL = {"type": "SwinIR", "upscale": 2, "window_size": 8, "embed_dim": 12, "depths": [2], "num_heads": [2],
         "mlp_ratio": 2, "upsampler": "pixelshuffledirect"}  # fmt: skip


@pytest.fixture
def trained(tmp_path):
    torch.manual_seed(0)
    torch.save({"params": build_model(SMALL).state_dict()}, tmp_path / "net.pth")
    return tmp_path / "net.pth"


@pytest.fixture
def results(tmp_path):
    figures = {"psnr": {"restored": 31.5, "baseline": 28.4, "difference": 3.1}, "ssim": {"restored": None}}
    (tmp_path / "results.json").write_text(json.dumps({"datasets": {"Set5": {"mean": figures}}}))
    return tmp_path / "results.json"


def push(trained, folder, *more):
    command = ["models", "push", str(trained), "--name", "my_net", "--licence", "CC-BY-4.0", "-o", str(folder)]
    return main([*command, *map(str, more)])


def test_card_weights_and_entry(trained, results, tmp_path):
    more = ["--author", "Jane Doe", "--data", "my own photographs", "--description", "For roofs.", "--tag", "photo"]
    assert push(trained, tmp_path / "out", *more, "--results", results) == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["2x-my-net.json", "README.md", "my_net.safetensors"]
    _, header, text = (tmp_path / "out/README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(header) == {
        "license": "cc-by-4.0",
        "library_name": "restore-toolkit",
        "pipeline_tag": "image-to-image",
        "tags": ["super-resolution", "swinir", "photo"],
    }
    for words in ("For roofs.", "my own photographs", "CC-BY-4.0", "| Set5 | psnr | 31.5000 | 28.4 |", "scale: 2"):
        assert words in text
    assert "restore run -m my_net.safetensors -i photos -o restored" in text
    entry = json.loads((tmp_path / "out/2x-my-net.json").read_text())
    content = (tmp_path / "out/my_net.safetensors").read_bytes()
    (resource,) = entry.pop("resources")
    assert (resource["size"], resource["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert (entry["architecture"], entry["scale"], entry["license"]) == ("swinir", 2, "CC-BY-4.0")
    with safe_open(tmp_path / "out/my_net.safetensors", "pt") as file:
        said = file.metadata()
    assert (said["architecture"], said["scale"], said["licence"]) == ("SwinIR", "2", "CC-BY-4.0")
    before, after = (load_network(path).state_dict() for path in (trained, tmp_path / "out/my_net.safetensors"))
    assert all(torch.equal(value, after[name]) for name, value in before.items() if "mask" not in name)


def test_the_entry_is_one_that_is_understood_here(trained, tmp_path, monkeypatch):
    from restore.zoo.addresses import card_of

    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "cache"))
    pytest.importorskip("huggingface_hub")
    with _hub.running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        assert push(trained, tmp_path / "out", "--upload", "owner/my_net") == 0
    (entry,) = (tmp_path / "out").glob("*.json")
    (tmp_path / "list.json").write_text(json.dumps({entry.stem: json.loads(entry.read_text())}))
    monkeypatch.setenv("RESTORE_OPENMODELDB", str(tmp_path / "list.json"))
    card = card_of(f"omdb:{entry.stem}")
    assert card.url == "https://huggingface.co/owner/my_net/resolve/main/my_net.safetensors"
    assert (card.scale, card.licence) == (2, "CC-BY-4.0")


@pytest.fixture(autouse=True)
def _nobody(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")


def test_upload(trained, tmp_path, monkeypatch, caplog):
    pytest.importorskip("huggingface_hub")
    caplog.set_level("INFO", "restore")
    with _hub.running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        (tmp_path / "out").mkdir()
        (tmp_path / "out/private.txt").write_text("not meant")
        assert push(trained, tmp_path / "out", "--upload", "owner/my_net") == 0
        assert set(hub.uploads["owner/my_net"]) == {"2x-my-net.json", "README.md", "my_net.safetensors"}
        for name, content in hub.uploads["owner/my_net"].items():
            assert content == (tmp_path / "out" / name).read_bytes()
        assert "hf:owner/my_net" in hub.uploads["owner/my_net"]["README.md"].decode()
        assert f"uploaded to {hub.address}/owner/my_net" in caplog.text


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_hub_that_does_not_take_it_is_one_message(trained, tmp_path, monkeypatch, capsys, status):
    pytest.importorskip("huggingface_hub")
    with _hub.running() as hub:
        hub.answers["/api/repos/create"] = status
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        assert push(trained, tmp_path / "out", "--upload", "owner/my_net") == 2
    said = capsys.readouterr().err
    assert "the hub did not take owner/my_net" in said
    assert said.count("error:") == 1


def test_uploading_without_the_library_says_what_to_install(trained, tmp_path, monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert push(trained, tmp_path / "out", "--upload", "owner/my_net") == 2
    assert "pip install 'restore-toolkit[hub]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--name", "../x"], "is no name of a file"),
        (["--upload", "x"], "must be OWNER/NAME"),
        (["--private"], "belongs to --upload"),
        (["--results", "none.json"], "is no results.json"),
    ],
)
def test_mistakes(trained, tmp_path, more, words, capsys):
    assert push(trained, tmp_path / "out", *more) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# Other programs


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
def test_shipped_weights_open_in_spandrel_and_give_the_same():
    spandrel = pytest.importorskip("spandrel")
    from restore.zoo import list_cards, load_model

    known = [card for card in list_cards() if card.path and card.name.startswith("swinir")]
    assert len(known) == 3
    x_BCHW = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    for card in known:
        descriptor = spandrel.ModelLoader(device="cpu").load_from_file(card.path)
        assert descriptor.architecture.id == "SwinIR"
        assert descriptor.scale == card.scale
        with torch.no_grad():
            theirs = descriptor(x_BCHW)
        ours = load_model(card.name, precision="fp32", device="cpu", tile=None)(x_BCHW)
        torch.testing.assert_close(theirs, ours.clamp(0, 1), rtol=0, atol=1e-5)


def test_every_shipped_file_says_what_it_is():
    from restore.zoo import list_cards

    for card in list_cards():
        if card.path and card.restores:
            with safe_open(card.path, "pt") as file:
                said = file.metadata()
            assert said["architecture"] == card.network["type"]
            assert (said["scale"], said["licence"]) == (str(card.scale), card.licence)

"""Models by address, from a server on this machine that plays the hub, OpenModelDB and hosts that behave badly."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from restore import downloads
from restore.cli import main
from restore.errors import CheckpointError, MissingError, OptionsError
from restore.images import read_image, write_image
from restore.networks.residual import EDSR
from restore.zoo import addresses, load_model, load_network
from restore.zoo.addresses import card_of, is_address
from restore.zoo.download import fetch_weights, recorded_checksum
from restore.zoo.load import network_block, weights_file

_spec = importlib.util.spec_from_file_location("_hub", Path(__file__).with_name("hub.py"))
_hub = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_hub)


def weights(seed=0):
    torch.manual_seed(seed)
    file = io.BytesIO()
    torch.save({"params": EDSR(num_feat=4, num_block=1, upscale=2).state_dict()}, file)
    return file.getvalue()


CONTENT = weights()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RESTORE_WEIGHTS", raising=False)
    addresses._told.cache_clear()
    with _hub.running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("RESTORE_OPENMODELDB", f"{hub.address}/models.json")
        yield hub


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    write_image(path, np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8))
    return path


def entry(hub, **changes):
    resource = {"platform": "pytorch", "type": "pth", "size": len(CONTENT), "sha256": SHA256,
                "urls": [f"{hub.address}/net.pth"], **changes.pop("resource", {})}  # fmt: skip
    return {"name": "My Net", "author": ["jane", "joe"], "license": "CC-BY-NC-SA-4.0", "tags": ["photo"], "scale": 2,
            "description": "For [photos](https://x).\nMore.", "date": "2024-01-02", "architecture": "edsr",
            "size": None, "inputChannels": 3, "outputChannels": 3, "resources": [resource], **changes}  # fmt: skip


def publish_entries(hub, **entries):
    hub.files["/models.json"] = json.dumps({name.replace("_", "-"): each for name, each in entries.items()}).encode()
    hub.files["/net.pth"] = CONTENT


ADDRESSES = {
    "hub": lambda hub: "hf:owner/name",
    "hub, file": lambda hub: "hf:owner/name/deep/net.pth",
    "hub, commit": lambda hub: "hf:owner/name@main/deep/net.pth",
    "web": lambda hub: f"{hub.address}/net.pth",
    "web, checksum": lambda hub: f"{hub.address}/net.pth#sha256={SHA256}",
    "OpenModelDB": lambda hub: "omdb:2x-My-Net",
}


@pytest.fixture(params=ADDRESSES.values(), ids=ADDRESSES)
def address(request, hub):
    hub.publish("owner/name", {"README.md": b"# it", "deep/net.pth": CONTENT})
    publish_entries(hub, **{"2x_My_Net": entry(hub)})
    return request.param(hub)


def test_every_kind_of_address_gives_the_network_and_its_licence(address, hub, photo, tmp_path, caplog):
    caplog.set_level("INFO", "restore")
    assert main(["run", "-m", address, "-i", str(photo), "-o", str(tmp_path / "big.png"), "--device", "cpu"]) == 0
    assert read_image(tmp_path / "big.png").pixels.shape == (16, 18, 3)
    plain = address.partition("#")[0]
    assert any(f"{plain}: licence" in record.getMessage() for record in caplog.records)
    assert weights_file(address).read_bytes() == CONTENT
    assert network_block(address)["type"] == "EDSR"
    told = len(hub.asked)
    assert load_model(address, device="cpu").scale == 2  # again, without asking anybody
    assert len(hub.asked) == told


def test_what_is_here_needs_no_network(address, hub, monkeypatch):
    fetch_weights(card_of(address))
    monkeypatch.setattr(downloads, "_answer", lambda *_: pytest.fail("somebody was asked"))
    assert fetch_weights(card_of(address)).read_bytes() == CONTENT


def test_checksums(address, hub):
    told = card_of(address).sha256
    path = fetch_weights(card_of(address))
    if told is None:
        assert "web" in address or address == f"{hub.address}/net.pth"
        assert recorded_checksum(card_of(address)) == SHA256
    path.write_bytes(weights(1))
    with pytest.raises(CheckpointError, match=r"SHA-256|bytes, but"):
        load_network(address)


def test_changed_bytes_are_refused_wherever_a_checksum_is_known(address, hub):
    for path in list(hub.files):
        if path.endswith("net.pth"):
            hub.files[path] = CONTENT[:-1] + b"!"
    if card_of(address).sha256 is None:
        fetch_weights(card_of(address))  # the first one that is seen is believed, and recorded
        return
    with pytest.raises(CheckpointError, match=r"instead of .*they are discarded.*says so"):
        fetch_weights(card_of(address))
    assert not list((Path(os.environ["RESTORE_CACHE"]) / "weights").rglob("*.pth"))


def test_a_second_download_is_compared_with_the_first(hub, caplog):
    hub.files["/net.pth"] = CONTENT
    address = f"{hub.address}/net.pth"
    path = fetch_weights(card_of(address))
    assert "nobody publishes a checksum" in caplog.text
    path.unlink()
    hub.files["/net.pth"] = weights(1)
    with pytest.raises(CheckpointError, match="first file seen here"):
        fetch_weights(card_of(address))


def test_the_checksum_of_an_address_is_what_counts(hub):
    hub.files["/net.pth"] = CONTENT
    with pytest.raises(CheckpointError, match="the address says so"):
        fetch_weights(card_of(f"{hub.address}/net.pth#sha256={'0' * 64}"))
    hub.publish("owner/name", {"net.pth": CONTENT})
    with pytest.raises(OptionsError, match=f"its publisher says that the SHA-256 is {SHA256}"):
        card_of(f"hf:owner/name#sha256={'0' * 64}")
    assert load_network(f"hf:owner/name#sha256={SHA256.upper()}")


@pytest.mark.parametrize("fragment", ["sha256=12", "sha256=" + "g" * 64, "md5=1", ""])
def test_what_is_no_checksum(hub, fragment):
    with pytest.raises(OptionsError, match="is no checksum"):
        card_of(f"{hub.address}/net.pth#{fragment}")


def behave(hub, how):
    """Let the file be sent in one way; the message of what comes of it."""
    path = f"/owner/name/resolve/{'c' * 40}/net.pth"
    hub.publish("owner/name", {"net.pth": CONTENT})
    if how == "larger than told":
        hub.publish("owner/name", {"net.pth": CONTENT}, size=len(CONTENT) - 5)
        return r"it is another file"
    if how == "wrong checksum":
        hub.repositories["owner/name"]["siblings"][0]["lfs"]["sha256"] = "0" * 64
        return r"instead of 000"
    hub.answers[path] = {"cut": "cut", "slow": "slow", "html": "html", "gone": 404, "broken": 500, "login": 403,
                         "loop": f"-> {hub.address}{path}", "file": "-> file:///etc/passwd",
                         "away": "-> http://127.0.0.1:9/x"}[how]  # fmt: skip
    return {
        "cut": None,
        "slow": "sends fewer than|was cut off",
        "html": "the response is a web page",
        "gone": "404",
        "broken": "500",
        "login": "403",
        "loop": "(?i)redirect|loop",
        "file": "302|redirect|not allowed",
        "away": "no response",
    }[how]


HOWS = (
    "larger than told",
    "wrong checksum",
    "cut",
    "slow",
    "html",
    "gone",
    "broken",
    "login",
    "loop",
    "file",
    "away",
)


@pytest.mark.parametrize("how", HOWS)
def test_bad_servers_are_one_message_and_leave_no_file(hub, how, photo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(downloads, "PATIENCE_S", 0.3)
    message = behave(hub, how)
    command = ["run", "-m", "hf:owner/name", "-i", str(photo), "-o", str(tmp_path / "o.png"), "--device", "cpu"]
    started = time.monotonic()
    if message is None:  # every piece is taken up again where it ended
        assert main(command) == 0
        return
    assert main(command) == 2
    assert time.monotonic() - started < 20
    said = capsys.readouterr().err
    assert said.count("error:") == 1
    with pytest.raises((MissingError, CheckpointError), match=message):
        load_network("hf:owner/name")
    assert not list((Path(os.environ["RESTORE_CACHE"]) / "weights").rglob("*.pth"))


def test_being_sent_on_is_followed(hub):
    hub.publish("owner/name", {"net.pth": CONTENT})
    hub.answers[f"/owner/name/resolve/{'c' * 40}/net.pth"] = f"-> {hub.address}/elsewhere/net.pth?signed=1"
    hub.files["/elsewhere/net.pth"] = CONTENT
    assert load_network("hf:owner/name").upscale == 2


def test_https_is_not_left_for_http():
    handler, request = downloads._SafeRedirects(), downloads.urllib.request.Request("https://a.example/x")
    with pytest.raises(MissingError, match="which is not https: it is not followed"):
        handler.redirect_request(request, None, 302, "", {}, "http://a.example/x")
    assert handler.redirect_request(request, None, 302, "", {}, "https://b.example/x").full_url == "https://b.example/x"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"README.md": b""}, "holds no weights file"),
        ({"a.pth": CONTENT, "b.pth": CONTENT}, r"holds 2 weights files: name one, as hf:owner/name/FILE: a.pth, b.pth"),
        ({f"{n:02}.pth": CONTENT for n in range(12)}, r"09.pth and 2 more"),
    ],
)
def test_a_repository_that_does_not_say_which_file(hub, files, message):
    hub.publish("owner/name", files)
    with pytest.raises(OptionsError, match=message):
        card_of("hf:owner/name")


def test_safetensors_are_preferred_and_files_can_be_named(hub):
    hub.publish("owner/name", {"a.pth": CONTENT, "b.safetensors": b"x", "c.bin": b"y"})
    assert card_of("hf:owner/name").weights.endswith("/b.safetensors")
    assert load_network("hf:owner/name/a.pth")
    with pytest.raises(OptionsError, match=r"there is no such file. Weights there: a.pth, b.safetensors, c.bin"):
        card_of("hf:owner/name/d.pth")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([], "makes no sense"),
        ({}, "makes no sense"),
        ({"sha": "../../x/y"}, "makes no sense"),
        ({"sha": "abc", "siblings": [{"rfilename": 3}]}, "makes no sense"),
        ({"sha": "abc", "siblings": [{"rfilename": "a.pth", "lfs": {"sha256": "short"}}]}, "makes no sense"),
        ({"sha": "abc", "siblings": None}, "makes no sense"),
    ],
)
def test_answers_that_make_no_sense(hub, answer, message):
    hub.repositories["owner/name"] = answer
    with pytest.raises(MissingError, match=message):
        card_of("hf:owner/name")


def test_names_of_files_stay_in_their_folder(hub):
    for file in ("../../../evil.pth", "a/../../evil.pth", "/etc/evil.pth", "..%2f..%2fevil.pth", ".hidden.pth"):
        hub.publish("owner/name", {file: CONTENT})
        card = card_of("hf:owner/name")
        assert card.weights.count("/") == 1
        assert ".." not in card.weights.partition("/")[2].partition("evil")[0].replace("..", "", 0).split("/")
        assert not card.weights.partition("/")[2].startswith(".")
    hub.files["/..%2F..%2Fx.pth"] = CONTENT
    assert ".." not in Path(card_of(f"{hub.address}/..%2F..%2Fx.pth").weights).parts


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ({"cardData": {"license": "mit"}}, "mit"),
        ({"cardData": {"license": "other", "license_name": "my-own"}}, "my-own"),
        ({"cardData": {"license": ["mit", "apache-2.0"]}}, "mit, apache-2.0"),
        ({"tags": ["license:cc-by-nc-4.0"]}, "cc-by-nc-4.0"),
        ({}, "not stated"),
    ],
)
def test_licences_are_shown(hub, answer, shown, caplog, capsys):
    caplog.set_level("INFO", "restore")
    hub.publish("owner/name", {"net.pth": CONTENT}, licence=None)
    hub.repositories["owner/name"] |= answer
    assert card_of("hf:owner/name").licence == shown
    assert f"hf:owner/name: licence {shown}" in caplog.text
    assert ("non-commercial" in caplog.text) == ("nc" in shown)
    assert main(["models", "hf:owner/name"]) == 0
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("hf:owner", OptionsError, "write hf:OWNER/NAME"),
        ("hf:", OptionsError, "write hf:OWNER/NAME"),
        ("hf:a/b c", OptionsError, "write hf:OWNER/NAME"),
        ("hf:no/body", MissingError, "there is no such model, or it needs a login"),
        ("https://", OptionsError, "names no host"),
        ("https://me:secret@host/net.pth", OptionsError, "holds a password"),
        ("omdb:nothing", OptionsError, "OpenModelDB has no model 'nothing'"),
        ("omdb:2x-my-nett", OptionsError, "Did you mean '2x-My-Net'"),
    ],
)
def test_what_is_no_address(hub, address, error, message):
    publish_entries(hub, **{"2x_My_Net": entry(hub)})
    with pytest.raises(error, match=message):
        card_of(address)


def test_pages_of_hosts_are_taken_for_their_files(hub):
    hub.publish("owner/name", {"net.pth": CONTENT})
    assert load_network("https://huggingface.co/owner/name/blob/main/net.pth").upscale == 2
    card = card_of("https://github.com/owner/name/blob/main/net.pth")
    assert card.url == "https://github.com/owner/name/raw/main/net.pth"


@pytest.mark.parametrize(
    "name", ["swinir_light_x4", "a.pth", "C:\\net.pth", "C:/net.pth", "hfx/net.pth", Path("hf:a/b")]
)
def test_other_names_are_no_addresses(name):
    assert not is_address(name)


def test_option_files_take_addresses(hub, tmp_path):
    from restore.options import load

    hub.publish("owner/name", {"net.pth": CONTENT})
    text = (
        "name: x\nmodel_type: SRModel\nscale: 2\ndatasets: {}\n"
        "network_g: {type: EDSR, num_feat: 4, num_block: 1, upscale: 2}\n"
        "path: {pretrain_network_g: 'hf:owner/name'}\n"
    )
    (tmp_path / "x.yml").write_text(text)
    options = load(tmp_path / "x.yml", is_train=False)
    from restore.assembly.networks import named_weights

    assert named_weights(options.path.pretrain_network_g, "path.pretrain_network_g").read_bytes() == CONTENT


# OpenModelDB


def test_entries_become_cards(hub, caplog):
    publish_entries(hub, **{"2x_My_Net": entry(hub)})
    card = card_of("omdb:2x-My-Net")
    assert (card.scale, card.sha256, card.size_bytes) == (2, SHA256, len(CONTENT))
    assert card.summary == "My Net by jane, joe (edsr x2). For photos."
    assert card.licence == "CC-BY-NC-SA-4.0"
    assert "is for non-commercial use" in caplog.text
    assert card_of("omdb:my net") == card.model_copy() or card_of("omdb:my net").sha256 == SHA256


def test_further_addresses_are_tried(hub):
    urls = [
        "https://drive.google.com/file/x",
        f"{hub.address}/gone.pth",
        f"{hub.address}/page",
        f"{hub.address}/net.pth",
    ]
    publish_entries(hub, **{"2x_My_Net": entry(hub, resource={"urls": urls})})
    hub.answers["/page"] = "html"
    hub.files["/page"] = b""
    assert load_network("omdb:2x-My-Net").upscale == 2
    assert [path for path in hub.asked if path != "/models.json"] == ["/gone.pth", "/page", "/net.pth"]


def test_what_is_only_on_a_page_is_fetched_by_hand(hub, tmp_path):
    publish_entries(
        hub, **{"2x_My_Net": entry(hub, resource={"urls": ["https://mega.nz/x", "https://drive.google.com/y"]})}
    )
    with pytest.raises(MissingError, match=r"Get .* from https://openmodeldb.info/models/2x-My-Net and put it in"):
        load_network("omdb:2x-My-Net")
    card = card_of("omdb:2x-My-Net")
    place = Path(os.environ["RESTORE_CACHE"]) / "weights" / card.weights
    place.write_bytes(CONTENT)
    assert load_network("omdb:2x-My-Net").upscale == 2


def test_entries_without_weights_for_pytorch(hub):
    publish_entries(hub, **{"2x_My_Net": entry(hub, resource={"platform": "onnx", "type": "onnx"})})
    with pytest.raises(OptionsError, match="no weights for PyTorch: onnx is there"):
        card_of("omdb:2x-My-Net")


@pytest.mark.parametrize("content", [b"[]", b"nothing", b'"x"', b"[" * 100_000, b"\xff\xfe"])
def test_a_list_that_is_none(hub, content):
    hub.files["/models.json"] = content
    with pytest.raises(MissingError, match=r"no JSON|is no list of OpenModelDB"):
        card_of("omdb:x")


def test_entries_that_are_not_understood_are_left_out(hub, capsys):
    publish_entries(hub, good=entry(hub, name="findme"), bad={"name": 3}, worse=[], none=None)
    assert main(["models", "search", "findme", "--json"]) == 0
    assert [each["model"] for each in json.loads(capsys.readouterr().out)] == ["omdb:good"]


def test_searching(hub, capsys):
    publish_entries(
        hub,
        **{
            "4x_Alpha": entry(hub, name="Alpha", scale=4, date="2020-01-01"),
            "4x_Beta": entry(hub, name="Beta", scale=4, description="after alpha", date="2024-01-01", license=None),
            "2x_Gamma": entry(hub, name="Gamma", architecture="SwinIR"),
        },
    )

    def found(*words):
        code = main(["models", "search", *words, "--json"])
        return code, [each["model"] for each in json.loads(capsys.readouterr().out)]

    assert found("alpha") == (0, ["omdb:4x-Alpha", "omdb:4x-Beta"])
    assert found("ALPHA", "after") == (0, ["omdb:4x-Beta"])
    assert found("gamma", "--architecture", "swin") == (0, ["omdb:2x-Gamma"])
    assert found("alpha", "--licence", "nc") == (0, ["omdb:4x-Alpha"])
    assert found("photo", "--scale", "2")[1][-1] == "omdb:2x-Gamma"
    assert found("nothing at all") == (1, [])
    assert main(["models", "search", "alpha", "--limit", "1"]) == 0
    shown = capsys.readouterr().out
    assert "omdb:4x-Alpha" in shown
    assert "1 more" in shown
    assert found("realesrgan_x4plus")[1][:1] == ["realesrgan_x4plus"]


def test_searching_offline_finds_what_is_here(monkeypatch, capsys, caplog):
    monkeypatch.setenv("RESTORE_OPENMODELDB", "http://127.0.0.1:9/models.json")
    assert main(["models", "search", "anime", "--json"]) == 0
    assert [each["model"] for each in json.loads(capsys.readouterr().out)] == ["realesrgan_x4plus_anime_6b"]
    assert "OpenModelDB is not searched" in caplog.text


def test_the_list_is_kept_for_a_week_and_longer_offline(hub, monkeypatch, caplog):
    from restore.zoo import openmodeldb

    monkeypatch.delenv("RESTORE_OPENMODELDB")
    monkeypatch.setattr(openmodeldb, "SITE", hub.address)
    caplog.set_level("INFO", "restore")
    hub.files["/api/v1/models.json"] = json.dumps({"2x-A": entry(hub)}).encode()
    for _ in range(2):
        assert list(openmodeldb.entries()) == ["2x-A"]
    assert hub.asked == ["/api/v1/models.json"]
    kept = Path(os.environ["RESTORE_CACHE"]) / "openmodeldb.json"
    os.utime(kept, (0, 0))
    assert list(openmodeldb.entries()) == ["2x-A"]
    assert len(hub.asked) == 2
    os.utime(kept, (0, 0))
    hub.answers["/api/v1/models.json"] = 500
    assert list(openmodeldb.entries()) == ["2x-A"]
    assert "The list of 01 January 1970 is used" in caplog.text


def test_a_list_on_disk(hub, tmp_path, monkeypatch):
    from restore.zoo import openmodeldb

    (tmp_path / "list.json").write_text(json.dumps({"2x-A": entry(hub)}))
    monkeypatch.setenv("RESTORE_OPENMODELDB", str(tmp_path / "list.json"))
    assert list(openmodeldb.entries()) == ["2x-A"]

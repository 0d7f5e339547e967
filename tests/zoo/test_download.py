"""Weights that are not part of the package, from a server on this machine."""

from __future__ import annotations

import hashlib
import http.server
import threading

import pytest
import torch

from restore.errors import CheckpointError, MissingError, OptionsError
from restore.networks.residual import EDSR
from restore.zoo import list_cards, load_network
from restore.zoo.card import Card
from restore.zoo.choose import choose_model
from restore.zoo.download import Place, fetch_weights, local_weights, place_of

FILE = "edsr.pth"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `content` under every name; breaks off after `limit` bytes; knows ranges."""

    content = b""
    limit: int | None = None
    requests: list[str | None]

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.requests.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(self.content):
            self.send_error(416)
            return
        body = self.content[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.limit])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    torch.manual_seed(0)
    torch.save({"params": EDSR(num_feat=4, num_block=1).state_dict()}, tmp_path / FILE)
    handler = type("OurHandler", (Handler,), {"content": (tmp_path / FILE).read_bytes(), "requests": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        handler.address = f"http://127.0.0.1:{running.server_port}"
        monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("RESTORE_WEIGHTS", raising=False)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield handler
        running.shutdown()
        thread.join()


def card(server=None, **changes) -> Card:
    url = f"{server.address}/{FILE}" if server else None
    return Card(**{"name": "edsr", "task": "sr", "summary": "", "weights": FILE, "url": url, "scale": 4, **changes})


def test_loaded_once_and_recorded(server, caplog):
    caplog.set_level("INFO", "restore")
    path = fetch_weights(card(server))
    assert "(of unknown size)" in caplog.text
    assert f"recorded for later: SHA-256 {hashlib.sha256(server.content).hexdigest()}" in caplog.text
    assert path.read_bytes() == server.content
    assert fetch_weights(card(server)) == path == local_weights(card(server))
    assert server.requests == [None]
    assert sorted(file.name for file in path.parent.iterdir()) == [FILE, f"{FILE}.sha256"]
    path.write_bytes(server.content[:-1] + b"!")
    with pytest.raises(CheckpointError, match="not that of the first download"):
        fetch_weights(card(server))


def test_a_broken_download_continues(server):
    server.limit = 1000
    with pytest.raises(MissingError, match="the connection broke after 1000 of"):
        fetch_weights(card(server))
    server.limit = None
    assert fetch_weights(card(server)).read_bytes() == server.content
    assert server.requests == [None, "bytes=1000-"]


def test_a_stale_part_is_loaded_anew(server, tmp_path):
    folder = tmp_path / "cache" / "weights"
    folder.mkdir(parents=True)
    (folder / f"{FILE}.part").write_bytes(b"x" * (len(server.content) + 5))
    assert fetch_weights(card(server)).read_bytes() == server.content


@pytest.mark.parametrize(("changes", "message"), [({"sha256": "0" * 64}, "SHA-256"), ({"size_bytes": 7}, "has 7")])
def test_another_file_than_the_card_means(server, changes, message):
    with pytest.raises(CheckpointError, match=message):
        fetch_weights(card(server, **changes))
    assert local_weights(card(server)) is None


def test_mirror_and_folder(server, tmp_path, monkeypatch):
    monkeypatch.setenv("RESTORE_WEIGHTS", server.address + "/mirror/")
    assert fetch_weights(card(url="http://nowhere.invalid/x.pth")).read_bytes() == server.content
    monkeypatch.setenv("RESTORE_WEIGHTS", str(tmp_path))
    assert fetch_weights(card()) == tmp_path / FILE


def test_offline_says_where_to_get_it(server):
    with pytest.raises(
        MissingError, match=r"http://127\.0\.0\.1:9/edsr\.pth.* and put it in .*weights, or in a folder"
    ):
        fetch_weights(card(url="http://127.0.0.1:9/edsr.pth"))
    with pytest.raises(MissingError, match=r"no address to load from\. Get edsr\.pth from https://page"):
        fetch_weights(card(page="https://page"))


def test_a_card_without_a_network_is_recognised(server, monkeypatch):
    monkeypatch.setattr("restore.zoo.load.find_card", lambda name: card(server))
    assert isinstance(load_network("edsr"), EDSR)


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ({"task": "sr", "scale": 4}, "metaformer_light_x4"),  # one that is here
        ({"task": "sr", "scale": 8}, "swinir_classical_x8"),
        ({"task": "jpeg", "quality": 12}, "swinir_color_jpeg10"),
        ({"task": "jpeg", "quality": 40}, "swinir_color_jpeg40"),
        ({"task": "denoise", "sigma": 25}, "swinir_light_color_dn"),  # blind, and here
        ({"task": "denoise"}, "swinir_light_color_dn"),
        ({"task": "deblur"}, "uformer_b_gopro"),
    ],
)
def test_the_model_for_a_task(server, wanted, name):
    assert choose_model(**wanted).name == name


@pytest.fixture
def no_shipped_denoiser(monkeypatch):
    """As if none came with the package."""
    cards = tuple(card for card in list_cards() if card.name != "swinir_light_color_dn")
    monkeypatch.setattr("restore.zoo.choose.list_cards", lambda: cards)


@pytest.mark.usefixtures("no_shipped_denoiser")
def test_the_nearest_noise_level_that_can_be_had_is_taken(server):
    assert choose_model("denoise", sigma=30).name == "swinir_color_dn25"  # IPT's for 30 must be fetched by hand


@pytest.mark.usefixtures("no_shipped_denoiser")
def test_what_is_on_disk_comes_before_what_must_be_fetched(server, tmp_path, monkeypatch):
    assert place_of(choose_model("derain")) is Place.BY_HAND
    monkeypatch.setenv("RESTORE_WEIGHTS", str(tmp_path))
    for name in ("IPT_derain.pt", "IPT_denoise30.pt"):
        (tmp_path / name).write_bytes(b"x")
    assert choose_model("derain").name == "ipt_derain"
    assert choose_model("denoise", sigma=30).name == "ipt_color_dn30"


@pytest.mark.usefixtures("no_shipped_denoiser")
def test_without_a_level_a_blind_model_is_taken(server, tmp_path, monkeypatch):
    with pytest.raises(
        OptionsError, match=r"needs --sigma: there are models for 15, 25, 30, 50\. uformer_b_sidd needs"
    ):
        choose_model("denoise")
    monkeypatch.setenv("RESTORE_WEIGHTS", str(tmp_path))
    (tmp_path / "Uformer_B_SIDD.pth").write_bytes(b"x")
    assert choose_model("denoise").name == "uformer_b_sidd"
    assert choose_model("denoise", sigma=15).name == "swinir_color_dn15"


def test_tasks_that_cannot_be_done(server):
    with pytest.raises(OptionsError, match=r"no model for the task 'denoisse'\. Did you mean 'denoise'"):
        choose_model("denoisse")
    with pytest.raises(OptionsError, match=r"at scale 5: allowed is 2, 3, 4, 8\."):
        choose_model("sr", scale=5)
    with pytest.raises(OptionsError, match=r"needs --jpeg-quality: there are models for 10, 20, 30, 40\."):
        choose_model("jpeg")


def test_every_card_has_weights_to_be_had_somewhere_and_a_licence():
    names = [each.weights for each in list_cards()]
    assert len(set(names)) == len(names)
    for each in list_cards():
        assert each.path or each.url or each.page
        assert each.url is None or each.url.endswith(f"/{each.weights}")
        assert each.sha256 is None or len(each.sha256) == 64
        assert each.licence
        assert all(figure.source for figure in each.figures)

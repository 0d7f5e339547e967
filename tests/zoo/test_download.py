"""Weights that are not part of the package, from a server on this machine."""

from __future__ import annotations

import hashlib

import pytest
import torch

from restore.errors import CheckpointError, MissingError, OptionsError
from restore.networks.residual import EDSR
from restore.zoo import list_cards, load_network
from restore.zoo.card import Card, find_card
from restore.zoo.choose import better_download, choose_model
from restore.zoo.download import Place, fetch_weights, local_weights, place_of, recorded_checksum

FILE = "edsr.pth"


@pytest.fixture
def server(file_server, tmp_path, monkeypatch):
    torch.manual_seed(0)
    torch.save({"params": EDSR(num_feat=4, num_block=1).state_dict()}, tmp_path / FILE)
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RESTORE_WEIGHTS", raising=False)
    file_server.content = (tmp_path / FILE).read_bytes()
    return file_server


def card(server=None, **changes) -> Card:
    url = f"{server.address}/{FILE}" if server else None
    return Card(**{"name": "edsr", "task": "sr", "summary": "", "weights": FILE, "url": url, "scale": 4, **changes})


def test_without_a_checksum_a_warning_and_a_record(server, caplog):
    caplog.set_level("INFO", "restore")
    digest = hashlib.sha256(server.content).hexdigest()
    path = fetch_weights(card(server))
    assert "(of unknown size)" in caplog.text
    (warned,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "nobody publishes a checksum for edsr.pth" in warned
    assert digest in warned
    assert path.read_bytes() == server.content
    assert fetch_weights(card(server)) == path == local_weights(card(server))
    assert server.requests == [None]
    assert sorted(file.name for file in path.parent.iterdir()) == [FILE, f"{FILE}.sha256"]
    assert recorded_checksum(card(server)) == digest
    assert caplog.text.count("nobody publishes") == 1


def test_the_next_download_is_compared_with_the_first(server):
    path = fetch_weights(card(server))
    path.write_bytes(server.content[:-1] + b"!")
    with pytest.raises(CheckpointError, match=r"That is of the first file seen here.* Remove the file to load it anew"):
        fetch_weights(card(server))
    path.unlink()
    server.content = server.content[:-1] + b"!"
    with pytest.raises(CheckpointError, match=r"they are discarded.* remove the record to accept another"):
        fetch_weights(card(server))
    assert local_weights(card(server)) is None
    (path.parent / f"{FILE}.sha256").unlink()
    assert fetch_weights(card(server)).read_bytes() == server.content


def test_a_broken_download_continues(server):
    server.limit, server.headers_sent = 1000, {"ETag": '"1"'}
    assert fetch_weights(card(server)).read_bytes() == server.content
    assert server.requests[:2] == [None, "bytes=1000-"]


@pytest.mark.parametrize(("changes", "message"), [({"sha256": "0" * 64}, "SHA-256"), ({"size_bytes": 7}, "has 7")])
def test_another_file_than_the_card_means(server, changes, message):
    with pytest.raises(CheckpointError, match=message + ".* Its card says so"):
        fetch_weights(card(server, **changes))
    assert local_weights(card(server)) is None


def test_a_file_put_there_by_hand_is_recorded_too(server, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("RESTORE_WEIGHTS", str(tmp_path))
    assert fetch_weights(card()) == tmp_path / FILE
    assert "nobody publishes a checksum" in caplog.text
    (tmp_path / FILE).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="first file seen here"):
        fetch_weights(card())
    with pytest.raises(CheckpointError, match=r"7 bytes, but 'edsr' has 8\."):
        fetch_weights(card(size_bytes=8))


def test_mirror_and_folder(server, tmp_path, monkeypatch):
    monkeypatch.setenv("RESTORE_WEIGHTS", server.address + "/mirror/")
    assert fetch_weights(card(url="http://nowhere.invalid/x.pth")).read_bytes() == server.content
    monkeypatch.setenv("RESTORE_WEIGHTS", str(tmp_path))
    assert fetch_weights(card()) == tmp_path / FILE


def test_offline_says_where_to_get_it(server, tmp_path, monkeypatch):
    with pytest.raises(
        MissingError, match=r"http://127\.0\.0\.1:9/edsr\.pth.* and put it in .*weights, or in a folder"
    ):
        fetch_weights(card(url="http://127.0.0.1:9/edsr.pth"))
    with pytest.raises(MissingError, match=r"no address to load from\. Get edsr\.pth from https://page"):
        fetch_weights(card(page="https://page"))
    monkeypatch.setenv("RESTORE_WEIGHTS", str(tmp_path / "gone"))
    with pytest.raises(MissingError, match=r"RESTORE_WEIGHTS names \(it names '.*gone', which is not a folder\)"):
        fetch_weights(card(page="https://page"))


def test_a_card_without_a_network_is_recognised(server, monkeypatch):
    monkeypatch.setattr("restore.zoo.addresses.find_card", lambda name: card(server))
    assert isinstance(load_network("edsr"), EDSR)


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ({"task": "sr", "scale": 4}, "fast_x4"),  # the best of those that are here
        ({"task": "sr", "scale": 8}, "swinir_classical_x8"),
        ({"task": "photo", "scale": 4}, "photo_x4"),
        ({"task": "photo", "scale": 2}, "swinir_real_x2"),
        ({"task": "jpeg", "quality": 12}, "fast_jpeg"),
        ({"task": "jpeg"}, "fast_jpeg"),
        ({"task": "denoise", "sigma": 25}, "fast_color_dn"),  # blind, and here
        ({"task": "denoise"}, "fast_color_dn"),
        ({"task": "deblur"}, "uformer_b_gopro"),
    ],
)
def test_the_model_for_a_task(server, wanted, name):
    assert choose_model(**wanted).name == name


def test_the_best_of_those_on_this_machine_is_taken(server, tmp_path, monkeypatch):
    shipped = choose_model("sr", scale=4)
    others = [each for each in list_cards() if each.path and (each.task, each.scale, each.real) == ("sr", 4, False)]
    set5 = {each.name: next(f.psnr for f in each.figures if f.dataset == "Set5") for each in others}
    assert set5[shipped.name] == max(set5.values())
    better, gain = better_download(shipped)
    assert (better.name, better.scale) == ("swinir_classical_x4", 4)
    assert "dB more on B100, Set14, Set5" in gain
    assert gain.startswith("68 MB, ")
    monkeypatch.setenv("RESTORE_WEIGHTS", str(tmp_path))
    (tmp_path / better.weights).write_bytes(b"x")
    assert choose_model("sr", scale=4).name == "swinir_classical_x4"
    assert better_download(choose_model("sr", scale=4)) is None


@pytest.mark.parametrize(("behind", "chosen"), [(0.0, "small"), (0.05, "small"), (0.15, "large")])
def test_of_two_that_are_about_as_good_the_smaller_is_taken(behind, chosen):
    shipped = next(each for each in list_cards() if each.name == "fast_color_dn")

    def made(name, size, psnr):
        figures = [each.model_copy(update={"psnr": psnr}) for each in shipped.figures]
        return shipped.model_copy(update={"name": name, "size_bytes": size, "figures": figures})

    cards = [made("large", 9_000_000, 32.0), made("small", 1_000_000, 32.0 - behind), made("worse", 10, 31.0)]
    for among in (cards, cards[::-1]):
        assert choose_model("denoise", among=among).name == chosen


def test_beside_a_model_for_every_level_those_for_the_given_one_are_named(server):
    blind = choose_model("denoise", sigma=25)
    assert (blind.sigma, blind.path is not None) == (None, True)
    better, gain = better_download(blind, sigma=25)
    assert better.name == "swinir_color_dn25"
    assert gain.endswith(" dB more on McMaster, sigma 25")
    assert better_download(blind, sigma=30) is None  # nobody was trained for it
    assert better_download(blind) is None
    better, about = better_download(choose_model("jpeg", quality=10), quality=10)  # without a figure in common
    assert better.name == "swinir_color_jpeg10"
    assert about == "103 MB, SwinIR-M for colour JPEG images of quality 10."


def test_of_models_for_real_life_the_one_that_was_fetched_is_taken(server, tmp_path, monkeypatch):
    better, about = better_download(choose_model("photo", scale=4))
    assert better.real
    assert about == "67 MB, LPIPS 0.36 instead of 0.43 (lower is better)"
    monkeypatch.setenv("RESTORE_WEIGHTS", str(tmp_path))
    (tmp_path / better.weights).write_bytes(b"x")
    assert choose_model("photo", scale=4).name == better.name


@pytest.fixture
def no_shipped_denoiser(monkeypatch):
    """As if none came with the package."""
    cards = tuple(card for card in list_cards() if card.name not in ("swinir_light_color_dn", "fast_color_dn"))
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


@pytest.mark.parametrize(
    ("wanted", "name"),
    [({"task": "denoise", "sigma": 25}, "swinir_color_dn25"), ({"task": "jpeg", "quality": 40}, "swinir_color_jpeg40")],
)
def test_what_was_fetched_for_a_level_comes_before_a_small_blind_one(server, tmp_path, monkeypatch, wanted, name):
    assert choose_model(**wanted).path
    monkeypatch.setenv("RESTORE_WEIGHTS", str(tmp_path))
    (tmp_path / find_card(name).weights).write_bytes(b"x")
    assert choose_model(**wanted).name == name


def test_tasks_that_cannot_be_done(server):
    with pytest.raises(OptionsError, match=r"no model for the task 'denoisse'\. Did you mean 'denoise'"):
        choose_model("denoisse")
    with pytest.raises(OptionsError, match=r"at scale 5: allowed is 2, 3, 4, 8\."):
        choose_model("sr", scale=5)
    published = [each for each in list_cards() if each.path is None]
    with pytest.raises(OptionsError, match=r"needs --jpeg-quality: there are models for 10, 20, 30, 40\."):
        choose_model("jpeg", among=published)


def test_every_card_has_weights_to_be_had_somewhere_and_a_licence():
    names = [each.weights for each in list_cards()]
    assert len(set(names)) == len(names)
    for each in list_cards():
        assert each.path or each.url or each.page
        assert each.url is None or each.url.endswith(f"/{each.weights}")
        assert each.sha256 is None or len(each.sha256) == 64
        assert each.licence
        assert all(figure.source for figure in each.figures)

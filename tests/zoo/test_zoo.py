from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

import restore
from restore.errors import CheckpointError, OptionsError
from restore.networks.checkpoint import read_state_dict
from restore.zoo import find_card, list_cards, list_models, load_network

CARDS = {card.name: card for card in list_cards()}


@pytest.mark.parametrize("name", [name for name, card in CARDS.items() if card.url is card.page is None])
def test_shipped_models_load_and_match_their_cards(name):
    card = CARDS[name]
    assert card.path is not None
    assert hashlib.sha256(card.path.read_bytes()).hexdigest() == card.sha256
    assert card.path.stat().st_size == card.size_bytes
    state = read_state_dict(card.path)
    assert all(torch.isfinite(value).all() for value in state.values())
    load_network(name)


def test_names_and_kinds():
    assert list_models() == [card.name for card in list_cards()]
    assert "SwinIR" in list_models(kind="network")
    with pytest.raises(OptionsError, match="Did you mean 'network'"):
        list_models(kind="networks")


def test_a_card_is_found_without_reading_the_others(monkeypatch):
    cards = list_cards()
    monkeypatch.setattr("restore.zoo.card.list_cards", lambda: ())
    find_card.cache_clear()
    assert [find_card(card.name) for card in cards] == list(cards)


def test_unknown_models_and_files():
    with pytest.raises(OptionsError, match="unknown model 'swinir_lihgt_x4'"):
        find_card("swinir_lihgt_x4")
    with pytest.raises(CheckpointError, match="no such weights file"):
        load_network("nowhere.pth")


def test_files_that_hold_no_weights_say_so(tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("no weights")
    with pytest.raises(CheckpointError, match=r"notes\.txt: damaged, or not a weights file \(a text, which"):
        load_network(str(tmp_path / "notes.txt"))
    with pytest.raises(CheckpointError, match="a folder, not a weights file"):
        load_network(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "swinir_light_x4").write_text("called as a model of the zoo is")
    assert load_network("swinir_light_x4").spec.scale == 4


def test_a_file_of_any_name_is_read(tmp_path):
    network = restore.build_model({"type": "SRVGGNetCompact", "num_feat": 4, "num_conv": 1, "upscale": 2})
    torch.save(network.state_dict(), tmp_path / "net_g.5000")
    assert load_network(str(tmp_path / "net_g.5000")).spec.scale == 2


def test_a_file_loads_without_an_option_file(tmp_path):
    block = {"type": "SwinIR", "embed_dim": 12, "depths": [1], "num_heads": [2], "window_size": 4, "upscale": 2}
    network = restore.build_model({**block, "upsampler": "pixelshuffledirect"})
    torch.save({"params": network.state_dict()}, tmp_path / "x.pth")
    restorer = restore.load_model(tmp_path / "x.pth", device="cpu")
    assert restorer(np.zeros((5, 7, 3), np.uint8)).shape == (10, 14, 3)


def save(path, block, **changes):
    """A file as training writes it; returns the network."""
    torch.manual_seed(0)
    network = restore.build_model(block).eval()
    torch.save({"params": network.state_dict(), "network": block | changes}, path)
    return network


PARTS = {
    "mixers": {"type": "MetaFormerRestorer", "mixers": ["pooling", {"type": "channel", "num_heads": 2}]}
    | {"embed_dim": 8, "depths": [2], "norm": "res-post"},
    "an encoder": {"type": "UNetRestorer", "encoder": {"type": "test_resnet", "pretrained": False}, "width": 8}
    | {"depth": 1},
    "a residual that no key shows": {"type": "Uformer", "embed_dim": 4, "depths": [1] * 9, "num_heads": [1] * 9}
    | {"in_chans": 1, "dd_in": 1, "global_residual": True},
    "heads that no key shows": {"type": "EDT", "num_feat": 4, "embed_dim": 12, "depths": [1], "num_heads": [2]},
}


@pytest.mark.parametrize("parts", PARTS)
def test_a_trained_file_is_restored_with_as_it_was_trained(parts, tmp_path):
    block = PARTS[parts]
    network = save(tmp_path / "net_g_latest.pth", block)
    x = torch.rand(1, network.spec.in_channels, 9, 14)
    with torch.no_grad():
        assert torch.equal(load_network(tmp_path / "net_g_latest.pth")(x), network(x))


def test_nothing_is_downloaded_for_a_trained_file(tmp_path, monkeypatch):
    encoder = {"type": "test_resnet", "pretrained": True}
    block = PARTS["an encoder"]
    network = save(tmp_path / "x.pth", block, encoder=encoder)
    assert load_network(tmp_path / "x.pth").state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize(("task", "tasks"), [("sr_x3", ["sr_x3"]), (2, ["dn_g25"])])
def test_one_task_of_a_trained_file(task, tasks, tmp_path):
    block = {"type": "EDT", "num_feat": 4, "embed_dim": 12, "depths": [1], "num_heads": [2], "scales": [2, 3]}
    network = save(tmp_path / "x.pth", block | {"noise_levels": [25], "img_range": 2.0})
    alone = load_network(tmp_path / "x.pth", task=task)
    x = torch.rand(1, 3, 9, 14)
    with torch.no_grad():
        assert torch.equal(alone(x), network(x, tasks[0]))
    assert alone.tasks == tasks


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"type": "UNetDiscriminatorSN", "num_feat": 4}, "UNetDiscriminatorSN, a discriminator: it restores no images"),
        ({"type": "IQT"}, "IQT, which judges images and restores none"),
        ({"type": "Swinir"}, r"cannot be built here\.\n  network\.type: unknown network .* Did you mean 'SwinIR'"),
        ({"type": "SwinIR", "upscale": 1, "heads": 3}, r"cannot be built here\.\n  network\.heads: unknown option"),
    ],
)
def test_files_of_what_restores_no_images_say_so(block, message, tmp_path):
    torch.save({"params": {"x": torch.zeros(1)}, "network": block}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=message):
        load_network(tmp_path / "x.pth")


def test_public_names_exist():
    assert set(restore.__all__) <= set(dir(restore))
    for name in restore.__all__:
        assert getattr(restore, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        restore.nothing


def test_a_photo_model_says_what_a_published_one_would_bring(tmp_path, monkeypatch, capsys, caplog):
    import numpy as np

    from restore.cli import main
    from restore.images import write_image

    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RESTORE_WEIGHTS", raising=False)
    caplog.set_level("INFO", "restore")
    write_image(tmp_path / "a.png", np.full((8, 8, 3), 90, np.uint8))
    assert main(["run", "--task", "photo", "-i", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png")]) == 0
    (line,) = (record.getMessage() for record in caplog.records if "would be downloaded" in record.getMessage())
    assert line == (
        "realesrgan_x4plus would be downloaded when named with -m: 67 MB, LPIPS 0.36 instead of 0.43 (lower is better)"
    )


def test_drawings_have_their_own_model_and_photographs_do_not_get_it():
    from restore.zoo import find_card
    from restore.zoo.choose import better_download, choose_model

    assert find_card("realesrgan_x4plus_anime_6b").drawn
    for task, scale in (("photo", 4), ("sr", 4)):
        assert not choose_model(task, scale=scale).drawn
        assert not (better_download(choose_model(task, scale=scale)) or (find_card("fast_x4"),))[0].drawn

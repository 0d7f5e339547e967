"""Files of a run: names, atomic writing, rotation, fallback, what BasicSR reads."""

from __future__ import annotations

import pytest
import torch

from restore.errors import CheckpointError, OutputError
from restore.training import checkpoints
from restore.training.checkpoints import CheckpointFolder, read_state, save_file
from restore.training.randomness import restore_generators, seed_generators, snapshot_generators


def state(iteration):
    return {"iter": iteration, "optimizers": [], "schedulers": []}


def saved(folder, *iterations):
    for iteration in iterations:
        folder.save(iteration, {"g": {"params": {"w": torch.tensor([float(iteration)])}}}, state(iteration))


def test_names(tmp_path):
    folder = CheckpointFolder(tmp_path)
    saved(folder, 5)
    folder.save_models("latest", {"g": {"params": {}}, "d": {"params": {}}})
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert names == [
        "models/net_d_latest.pth",
        "models/net_g_5.pth",
        "models/net_g_latest.pth",
        "training_states/5.state",
    ]


def test_only_the_newest_are_kept(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=2)
    folder.save_models("best", {"g": {"params": {}}})
    saved(folder, 5, 10, 100)
    assert folder.iterations() == [10, 100]
    assert sorted(path.name for path in folder.models.iterdir()) == ["net_g_10.pth", "net_g_100.pth", "net_g_best.pth"]


@pytest.mark.parametrize(
    ("which", "kept"),
    [("training_states/10.state", 100), ("models/net_g_10.pth", 100), ("models/net_g_10.pth", None)],
    ids=["state", "network", "no_network"],
)
def test_an_incomplete_newest_state_is_passed_over(tmp_path, caplog, which, kept):
    folder = CheckpointFolder(tmp_path)
    saved(folder, 5, 10)
    path = tmp_path / which
    if kept is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:kept])
    found, content = folder.newest()
    assert (found.name, content["iter"]) == ("5.state", 5)
    assert path.name in caplog.text
    assert "Passed over" in caplog.text


@pytest.mark.parametrize("place", [0.02, 0.5, 0.9])
def test_a_state_with_a_changed_byte_is_passed_over(tmp_path, caplog, place):
    folder = CheckpointFolder(tmp_path)
    content = {"w": torch.arange(5000.0)}
    for iteration in (5, 10):
        folder.save(iteration, {"g": {"params": content}}, {**state(iteration), "restore": content})
    data = bytearray(folder.state_path(10).read_bytes())
    at = data.index(content["w"].numpy().tobytes()) + int(place * 20_000)
    data[at] ^= 0x10
    folder.state_path(10).write_bytes(data)
    assert folder.newest()[0].name == "5.state"
    assert "10.state: damaged" in caplog.text


@pytest.mark.parametrize(
    "wrong", [{"iter": "10"}, {"optimizers": {}}, {"optimizers": [5]}, {"schedulers": None}, {"restore": [1]}]
)
def test_a_state_of_other_kinds_is_passed_over(tmp_path, caplog, wrong):
    folder = CheckpointFolder(tmp_path)
    saved(folder, 5, 10)
    save_file(state(10) | wrong, folder.state_path(10))
    assert folder.newest()[0].name == "5.state"
    assert f"holds under {next(iter(wrong))}" in caplog.text


def test_nothing_to_resume(tmp_path):
    folder = CheckpointFolder(tmp_path)
    assert folder.newest() is None
    saved(folder, 5)
    folder.state_path(5).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no state in .*To start anew, leave out --auto_resume"):
        folder.newest()


def test_a_state_to_resume_from_is_a_state(tmp_path):
    with pytest.raises(CheckpointError, match=r"no such file; a state to resume from is wanted"):
        read_state(tmp_path / "5.state")
    save_file({"params": {}}, tmp_path / "net_g_5.pth")
    with pytest.raises(CheckpointError, match="is not the state of a training: it has no iter, optimizers, schedulers"):
        read_state(tmp_path / "net_g_5.pth")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 64 vs 0")])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch, error):
    path = tmp_path / "5.state"
    save_file({"iter": 5}, path)

    def fail(content, stream):
        stream.write(b"half of it")
        raise error

    monkeypatch.setattr(checkpoints.torch, "save", fail)
    with pytest.raises(OutputError, match=r"cannot write '.*5\.state'"):
        save_file({"iter": 6}, path)
    monkeypatch.undo()
    assert torch.load(path, weights_only=True) == {"iter": 5}
    assert [file.name for file in tmp_path.iterdir()] == ["5.state"]


def test_a_full_disk_is_said_in_words(tmp_path, monkeypatch):
    def fail(content, stream):
        try:
            raise OSError(28, "No space left on device")
        finally:
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    monkeypatch.setattr(checkpoints.torch, "save", fail)
    with pytest.raises(OutputError, match=r"5\.state': No space left on device$"):
        save_file({"iter": 5}, tmp_path / "5.state")


def test_code_in_a_state_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    folder = CheckpointFolder(tmp_path)
    folder.states.mkdir()
    torch.save(state(3) | {"iter": Evil()}, folder.state_path(3))
    with pytest.raises(CheckpointError, match="holds under iter"):
        read_state(folder.state_path(3))
    assert not (tmp_path / "ran").exists()


def test_generators_come_back_to_where_they_were(tmp_path):
    import random

    import numpy as np

    def draw():
        return random.random(), np.random.rand(), torch.rand(2).tolist(), np.random.randn()

    seed_generators(4)
    draw()
    save_file(snapshot_generators(), tmp_path / "generators")
    expected = draw(), draw()
    seed_generators(5)
    restore_generators(torch.load(tmp_path / "generators", weights_only=True))
    assert (draw(), draw()) == expected

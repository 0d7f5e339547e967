"""Answers that are kept: bit for bit, by their questions, through crashes, forks and several writers."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil

import numpy as np
import pytest
import torch

from restore.data.answered import AnsweredDataset
from restore.data.sampling import Draw, PatchStage, StreamSampler
from restore.data.storage.answers import AnswerCache, decoded, encoded, question_of
from restore.errors import DataError, OutputError


@pytest.mark.parametrize(
    "value",
    [
        torch.randint(0, 256, (3, 7, 5), dtype=torch.uint8),
        torch.randn(4, 6, 6).half(),
        torch.randn(2, 3, 3).half().permute(1, 2, 0),
        torch.tensor([float("nan"), float("inf"), -0.0, 1e-30]),
        torch.tensor(0.25),
        torch.zeros(0, 3),
    ],
    ids=["bytes", "halves", "turned", "special", "number", "empty"],
)
def test_values_come_back_bit_by_bit(value):
    again = decoded(encoded(value))
    assert (again.dtype, again.shape) == (value.dtype, value.shape)
    assert again.contiguous().numpy().tobytes() == value.contiguous().numpy().tobytes()
    again += 1  # it can be written to


def test_smooth_images_take_less_than_they_are():
    rows = torch.linspace(0, 1, 96)
    image = (rows[:, None] + rows[None]).mul(0.5).expand(3, -1, -1)
    assert len(encoded((image * 255).to(torch.uint8))) < 0.2 * image.numel()
    assert len(encoded(image.half())) < 0.6 * 2 * image.numel()
    with pytest.raises(DataError, match="answers of int64 cannot be kept; allowed: uint8"):
        encoded(torch.zeros(3, dtype=torch.int64))


def test_questions_are_the_values_themselves():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert question_of([image]) == question_of([image.copy()])
    assert question_of([image[:, ::-1]]) == question_of([np.ascontiguousarray(image[:, ::-1])])
    others = [image[:, ::-1], image.reshape(4, 2, 3), image.astype(np.uint16), image + np.uint8(1)]
    assert len({question_of([each]) for each in (image, *others)}) == 5
    assert question_of([image]) != question_of([image, image])


@pytest.fixture
def cache(tmp_path):
    return AnswerCache(tmp_path / "answers", "net-float32", about={"model": "net"})


def test_what_was_kept_is_found(cache, tmp_path):
    assert cache.find("a", ["answer"]) is None
    cache.keep({"a": {"answer": torch.ones(2), "rounded": torch.zeros(1)}, "b": {"answer": torch.tensor([3.0])}})
    assert torch.equal(cache.find("a", ["answer"])["answer"], torch.ones(2))
    assert set(cache.find("a", ["answer", "rounded"])) == {"answer", "rounded"}
    assert cache.find("b", ["answer", "rounded"]) is None  # one part of it
    assert cache.find("c", ["answer"]) is None
    assert len(cache) == 2
    cache.keep({"a": {"answer": torch.zeros(2)}})
    assert torch.equal(cache.find("a", ["answer"])["answer"], torch.ones(2))  # the first stands
    again = AnswerCache(tmp_path / "answers", "net-float32")
    assert len(again) == 2
    assert AnswerCache(tmp_path / "answers", "other-float32").find("a", ["answer"]) is None
    assert (tmp_path / "answers/net-float32/about.json").read_text().count("net") == 1


def test_processes_write_files_of_their_own_and_read_all(cache, tmp_path):
    other = AnswerCache(tmp_path / "answers", "net-float32")
    other.write_as(1)
    cache.keep({"a": {"answer": torch.ones(1)}})
    other.keep({"b": {"answer": torch.ones(1)}})
    for each in (cache, other):
        assert each.find("a", ["answer"])
        assert each.find("b", ["answer"])
    assert sorted(path.name for path in cache.folder.glob("*.sqlite")) == ["0.sqlite", "1.sqlite"]
    shutil.copytree(cache.folder, tmp_path / "copied/net-float32")
    assert len(AnswerCache(tmp_path / "copied", "net-float32")) == 2


def test_a_process_that_dies_while_it_writes_leaves_what_was_there(cache):
    cache.keep({"a": {"answer": torch.ones(1)}})
    child = os.fork()
    if not child:
        connection = cache._connection(cache.own)
        connection.execute("BEGIN")
        connection.execute("INSERT INTO answers VALUES ('b', 'answer', x'00')")
        os._exit(1)  # as if it was killed
    os.waitpid(child, 0)
    assert cache.find("b", ["answer"]) is None
    cache.keep({"c": {"answer": torch.ones(1)}})
    assert len(AnswerCache(cache.folder.parent, "net-float32")) == 2


def _find(cache, results):
    results.put(cache.find("a", ["answer"]) is not None)


def test_workers_read_what_is_written_after_they_began(cache):
    cache.keep({"x": {"answer": torch.ones(1)}})  # the connection is open in this process
    assert pickle.loads(pickle.dumps(cache)).find("x", ["answer"])  # for a worker that is not forked
    cache.keep({"a": {"answer": torch.ones(1)}})
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    worker = context.Process(target=_find, args=(cache, results))
    worker.start()
    assert results.get()
    worker.join()


def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"answers cannot be kept in .*file"):
        AnswerCache(tmp_path / "file", "net")
    cache = AnswerCache(tmp_path, "net")
    (cache.folder / "3.sqlite").write_text("this is no database, and long enough to be looked at as one" * 9)
    with pytest.raises(DataError, match="holds a file that is damaged"):
        cache.find("a", ["answer"])


class Numbers:
    fields = {"image": "image", "other": "number"}  # noqa: RUF012

    def __len__(self):
        return 4

    def __getitem__(self, draw):
        return {"image": np.full((2, 2, 3), 10 * draw.index + draw.position % 5, np.uint8), "other": draw.index}


def test_samples_come_with_their_answers(cache):
    dataset = AnsweredDataset(Numbers(), cache, ["image", "reference"], ["answer"])
    assert dict(dataset.fields) == {**Numbers.fields, "question": "text", "answer": "answer"}
    sample = dataset[Draw(2, 0, 3)]
    assert sample["answer"] is None
    assert sample["question"] == question_of([np.full((2, 2, 3), 23, np.uint8)])
    cache.keep({sample["question"]: {"answer": torch.tensor([5.0])}})
    assert dataset[Draw(2, 0, 8)]["answer"]["answer"].item() == 5
    assert dataset[Draw(2, 0, 4)]["answer"] is None


def test_a_number_of_crops_comes_again():
    def draws(num_crops, total_iter=12):
        sampler = StreamSampler(4, [PatchStage(2)], total_iter=total_iter, seed=5, num_crops=num_crops)
        return [draw for batch in sampler for draw in batch]

    free, kept = draws(None), draws(2)
    assert [draw.index for draw in free] == [draw.index for draw in kept]  # the order is as ever
    seeds = {(draw.index, draw.position) for draw in kept}
    assert len(seeds) == 2 * 4
    first, second, third = (set(kept[start : start + 4]) for start in (0, 4, 8))
    assert {draw[:3] for draw in third} == {draw[:3] for draw in first}
    assert not {draw[:3] for draw in first} & {draw[:3] for draw in second}
    resumed = StreamSampler(4, [PatchStage(2)], total_iter=12, seed=5, num_crops=2)
    resumed.start_at(7)
    assert [draw for batch in resumed for draw in batch] == kept[14:]

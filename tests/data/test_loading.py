"""Batches: depth on the way, floats on the device, workers, bad images."""

from __future__ import annotations

import itertools
import multiprocessing
import subprocess

import numpy as np
import pytest
import torch

from restore.data.fields import on_device
from restore.data.loading import DeviceLoader, Failure, Guarded, collate, training_loader
from restore.data.sampling import Draw, PatchStage, StreamSampler
from restore.errors import DataError
from restore.registry import DATASETS

CPU = torch.device("cpu")
FIELDS = {"lq": "image", "lq_path": "text"}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_batches_keep_their_depth_until_they_are_on_the_device(dtype):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = (np.random.default_rng(0).random((4, 5, 3)) * top).astype(dtype)
    batch = collate([{"lq": image, "lq_path": "a"}, {"lq": image, "lq_path": "b"}], FIELDS)
    assert batch["lq"].shape == (2, 3, 4, 5)
    assert batch["lq"].element_size() == np.dtype(dtype).itemsize
    moved = on_device(batch, FIELDS, CPU)
    assert moved["lq"].is_contiguous()
    assert moved["lq_path"] == ["a", "b"]
    torch.testing.assert_close(moved["lq"][1], torch.from_numpy(image / np.float32(top)).permute(2, 0, 1))
    assert on_device(batch, FIELDS, CPU, channels_last=True)["lq"].is_contiguous(memory_format=torch.channels_last)


def test_depths_may_mix():
    eight, sixteen = np.full((2, 2, 1), 255, np.uint8), np.full((2, 2, 1), 65535, np.uint16)
    fields = {"lq": "image"}
    batch = on_device(collate([{"lq": eight}, {"lq": sixteen}], fields), fields, CPU)
    assert batch["lq"].unique().tolist() == [1.0]


def test_a_batch_that_cannot_be_made_is_no_bad_image(images):
    class Ragged:
        fields = FIELDS
        groups = None

        def __len__(self):
            return 2

        def __getitem__(self, draw):
            return {"lq": np.zeros((4, 4 + draw.index, 3), np.uint8), "lq_path": str(draw.index)}

    stream = StreamSampler(2, [PatchStage(2)], total_iter=1)
    with pytest.raises(
        DataError, match=r"field 'lq' has different sizes in one batch.*batch_size_per_gpu: 1"
    ) as raised:
        list(DeviceLoader(training_loader(Ragged(), stream), CPU))
    assert "on_bad_image" not in str(raised.value)
    assert isinstance(collate([Failure("bad"), {}], FIELDS), Failure)


def loader(images, workers, **options):
    root = images("gt", count=4)
    dataset = DATASETS.build({"type": "DownsampledImageDataset", "dataroot_gt": str(root), "gt_size": 8}, scale=2)
    stream = StreamSampler(4, [PatchStage(3)], total_iter=4)
    return DeviceLoader(training_loader(dataset, stream, num_workers=workers, **options), CPU)


def test_workers_change_nothing_and_leave_the_global_generators_alone(images):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    alone, helped = list(loader(images, 0)), list(loader(images, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert len(alone) == len(helped) == 4
    for one, other in zip(alone, helped, strict=True):
        assert one["gt_path"] == other["gt_path"]
        assert torch.equal(one["lq"], other["lq"])


def test_a_request_to_end_that_reaches_every_process_leaves_the_workers_to_the_main_one(images):
    batches = iter(loader(images, 1, prefetch_factor=1))
    seen = [next(batches)]
    (worker,) = multiprocessing.active_children()
    subprocess.run(["kill", str(worker.pid)], check=True)  # a process that is not its parent
    seen += itertools.islice(batches, 2)
    assert len(seen) == 3
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_stops_with_its_name(images, tmp_path, workers):
    batches = loader(images, workers)
    (tmp_path / "gt" / "02.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"^cannot read '.*02\.png'") as raised:
        list(batches)
    assert "Traceback" not in str(raised.value)
    assert "on_bad_image: skip" in str(raised.value)


def test_a_bad_image_is_replaced_where_that_is_asked_for(images, tmp_path, caplog):
    batches = loader(images, 0, skip_bad_images=True)
    (tmp_path / "gt" / "02.png").write_bytes(b"")
    names = [name for batch in batches for name in batch["gt_path"]]
    assert len(names) == 12
    assert not any("02.png" in name for name in names)
    assert "skipped: cannot read" in caplog.text


def test_no_usable_image_at_all(images):
    class Bad:
        def __len__(self):
            return 2

        def __getitem__(self, draw):
            raise DataError("bad")

    assert "no image" in Guarded(Bad(), skip=True)[Draw(0, 0, 0)].message


def test_what_stands_in_for_a_bad_image_is_of_its_group():
    class Grouped:
        groups = ("small", "large", "small", "large")

        def __len__(self):
            return 4

        def __getitem__(self, draw):
            if draw.index < 2:
                raise DataError("bad")
            return {"index": draw.index}

    guarded = Guarded(Grouped(), skip=True)
    assert [guarded[Draw(index, 0, 0)]["index"] for index in range(4)] == [2, 3, 2, 3]

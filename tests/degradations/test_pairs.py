"""Cutting and mixing pairs."""

import pytest
import torch

from restore.degradations import PairPool, crop_pairs
from restore.errors import DataError, ImageError


def pairs(start, batch=4):
    number = torch.arange(start, start + batch, dtype=torch.float32).view(-1, 1, 1, 1)
    return {"lq": number.expand(-1, 3, 2, 2).clone(), "gt": number.expand(-1, 3, 4, 4).clone()}


def test_a_patch_is_the_same_place_in_both():
    lq = torch.rand(3, 1, 20, 30)
    gt = lq.repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2)
    lq_patch, gt_patch = crop_pairs(lq, gt, 32, 4, [1, 2, 3])
    assert lq_patch.shape == (3, 1, 8, 8)
    assert torch.equal(gt_patch[..., ::4, ::4], lq_patch)
    assert torch.equal(crop_pairs(lq[1:], gt[1:], 32, 4, [2, 3])[0], lq_patch[1:])


def test_patches_must_fit():
    lq, gt = torch.rand(1, 3, 10, 10), torch.rand(1, 3, 40, 40)
    with pytest.raises(ImageError, match="does not fit"):
        crop_pairs(lq, gt, 44, 4, [0])
    with pytest.raises(ImageError, match="multiple"):
        crop_pairs(lq, gt, 30, 4, [0])


def test_a_pool_mixes_without_losing_or_splitting_pairs():
    pool, generator = PairPool(12), torch.Generator().manual_seed(0)
    for index in range(3):
        given = pairs(4 * index)
        assert torch.equal(pool.exchange(given, generator)["lq"], given["lq"])
    assert len(pool) == 12
    seen, handed_in = [], set(range(12))
    for index in range(3, 40):
        handed_in |= set(range(4 * index, 4 * index + 4))
        batch = pool.exchange(pairs(4 * index), generator)
        assert torch.equal(batch["lq"][:, 0, 0, 0], batch["gt"][:, 0, 0, 0])
        seen += batch["lq"][:, 0, 0, 0].int().tolist()
    assert len(set(seen)) == len(seen)
    kept = set(pool.state_dict()["stored"]["lq"][:, 0, 0, 0].int().tolist())
    assert kept | set(seen) == handed_in


def test_a_pool_goes_on_after_a_restart():
    first, second = PairPool(8), PairPool(8)
    generator = torch.Generator().manual_seed(1)
    for index in range(4):
        first.exchange(pairs(4 * index), generator)
    second.load_state_dict(first.state_dict())
    again = torch.Generator()
    again.set_state(generator.get_state())
    assert torch.equal(first.exchange(pairs(90), generator)["gt"], second.exchange(pairs(90), again)["gt"])


def test_a_pool_refuses_what_does_not_fit():
    pool = PairPool(10)
    with pytest.raises(DataError, match="multiple"):
        pool.exchange(pairs(0), torch.Generator())
    pool = PairPool(8)
    pool.exchange(pairs(0), torch.Generator())
    with pytest.raises(DataError, match="keep their size"):
        pool.exchange({"lq": torch.rand(4, 3, 3, 3), "gt": torch.rand(4, 3, 4, 4)}, torch.Generator())

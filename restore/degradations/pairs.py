"""Pairs of low-quality and sharp patches on their way into training: cutting them out, and mixing batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from restore.degradations.recipe.draw import Draw
from restore.errors import DataError, ImageError

__all__ = ["PairPool", "crop_pairs"]


def crop_pairs(
    lq_BCHW: torch.Tensor, gt_BCHW: torch.Tensor, gt_px: int, scale: int, seeds: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut the same random patch from both images of every pair.

    Args:
        lq_BCHW: low-quality images.
        gt_BCHW: originals, `scale` times larger.
        gt_px: side of the patch of the original, a multiple of the scale.
        scale: of super-resolution.
        seeds: one for each pair.

    Raises:
        ImageError: the patch is larger than the images or no multiple of the scale.
    """
    height, width = gt_BCHW.shape[-2:]
    if gt_px % scale:
        raise ImageError(f"a patch of {gt_px} px is not a multiple of the scale {scale}.")
    if gt_px > min(height, width):
        raise ImageError(f"a patch of {gt_px} px does not fit into an image of {height} x {width} px.")
    lq_px = gt_px // scale
    lq, gt = [], []
    for lq_CHW, gt_CHW, seed in zip(lq_BCHW, gt_BCHW, seeds, strict=True):
        draw = Draw.from_seed(seed)
        top, left = (int(draw.uniform() * (side - lq_px + 1)) for side in lq_CHW.shape[-2:])
        lq.append(lq_CHW[:, top : top + lq_px, left : left + lq_px])
        gt.append(gt_CHW[:, scale * top : scale * top + gt_px, scale * left : scale * left + gt_px])
    return torch.stack(lq), torch.stack(gt)


class PairPool:
    """Real-ESRGAN's training-pair pool: batches are mixed from pairs that were made at different times.

    Until the pool is full, batches pass through and are remembered; from then on each batch takes the places of as many
    random pairs, which come out in its stead.

    Args:
        capacity: number of pairs that are kept, a multiple of the batch size.
    """

    def __init__(self, capacity: int = 180):
        if capacity < 1:
            raise DataError(f"a pool of pairs needs room for at least one; given: {capacity}.")
        self.capacity = capacity
        self._stored: dict[str, torch.Tensor] = {}
        self._num_stored = 0

    def __len__(self) -> int:
        return self._num_stored

    def exchange(self, pairs: Mapping[str, torch.Tensor], generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Hand in a batch and get one back.

        Args:
            pairs: tensors of one batch, such as `lq` and `gt`; of the same sizes at every call.
            generator: a CPU generator that chooses what comes out.

        Raises:
            DataError: the capacity is no multiple of the batch size, or the sizes have changed.
        """
        batch = len(next(iter(pairs.values())))
        if self.capacity % batch:
            raise DataError(f"the pool's capacity {self.capacity} must be a multiple of the batch size {batch}.")
        for name, tensor in pairs.items():
            if name not in self._stored:
                self._stored[name] = tensor.new_empty(self.capacity, *tensor.shape[1:])
            elif self._stored[name].shape[1:] != tensor.shape[1:]:
                kept, given = tuple(self._stored[name].shape[1:]), tuple(tensor.shape[1:])
                raise DataError(f"the pool holds {name} of {kept}; given: {given}. Patches must keep their size.")
        if self._num_stored + batch <= self.capacity:
            places = torch.arange(self._num_stored, self._num_stored + batch)
            self._num_stored += batch
            chosen = {name: tensor.clone() for name, tensor in pairs.items()}
        else:
            places = torch.randperm(self._num_stored, generator=generator)[:batch]
            chosen = {name: self._stored[name][places] for name in pairs}
        for name, tensor in pairs.items():
            self._stored[name][places] = tensor.detach()
        return chosen

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs to go on with the same pairs."""
        return {"stored": {name: tensor[: len(self)].cpu() for name, tensor in self._stored.items()}, "num": len(self)}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device | str = "cpu") -> None:
        """Take over what `state_dict` gave.

        Raises:
            DataError: the state holds more pairs than fit.
        """
        if state["num"] > self.capacity:
            raise DataError(f"the state holds {state['num']} pairs; this pool has room for {self.capacity}.")
        self._num_stored, self._stored = state["num"], {}
        for name, tensor in state["stored"].items():
            self._stored[name] = torch.empty(self.capacity, *tensor.shape[1:], dtype=tensor.dtype, device=device)
            self._stored[name][: state["num"]] = tensor.to(device)

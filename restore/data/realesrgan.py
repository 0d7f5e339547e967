"""The datasets of Real-ESRGAN's option files (Wang et al. 2021, arXiv:2107.10833), by BasicSR's names and options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from restore.data.complaints import complain
from restore.data.datasets import Cache, Color, PairedImageDataset, Roots, Storage  # noqa: F401 - of inherited fields
from restore.data.degraded import SharpImageDataset
from restore.data.fields import Fields
from restore.data.pairs import Pair, listed_lines
from restore.data.sampling import Draw
from restore.registry import DATASETS

__all__ = ["RealESRGANDataset", "RealESRGANPairedDataset"]

Range = list[float]


@DATASETS.add()
@dataclass(eq=False)
class RealESRGANDataset(SharpImageDataset):
    """References that RealESRNetModel and RealESRGANModel degrade on the device; samples are `{"gt", "seed"}`.

    The options of the blur are the objective's business; those that are not given have the published values. A 2 at the
    end of a name stands for the second round.

    Args:
        recipe: another degradation in place of Real-ESRGAN's, by its name or the path of its YAML file.
        variables: values for the variables of that recipe.
        blur_kernel_size: largest side of a kernel, odd.
        kernel_list: kinds of kernels: iso, aniso, generalized_iso, generalized_aniso, plateau_iso, plateau_aniso.
        kernel_prob: probability of each.
        sinc_prob: probability of a sinc kernel in place of all of them.
        blur_sigma: smallest and largest standard deviation, in pixels.
        betag_range: exponents of generalized Gaussian kernels.
        betap_range: exponents of plateau kernels.
        kernel_range: smallest and largest side of a kernel, odd; by default 7 and `blur_kernel_size`.
        final_sinc_prob: probability of the sinc filter at the end.
        final_kernel_range: smallest and largest side of that filter's kernel.
    """

    fields: ClassVar[Fields] = {"gt": "image", "gt_path": "text", "seed": "seed"}

    crop_pad_size: int | None = 400
    recipe: str | None = None
    variables: dict[str, Any] | None = None
    blur_kernel_size: int | None = None
    kernel_list: list[str] | None = None
    kernel_prob: list[float] | None = None
    sinc_prob: float | None = None
    blur_sigma: Range | None = None
    betag_range: Range | None = None
    betap_range: Range | None = None
    kernel_range: list[int] | None = None
    blur_kernel_size2: int | None = None
    kernel_list2: list[str] | None = None
    kernel_prob2: list[float] | None = None
    sinc_prob2: float | None = None
    blur_sigma2: Range | None = None
    betag_range2: Range | None = None
    betap_range2: Range | None = None
    kernel_range2: list[int] | None = None
    final_sinc_prob: float | None = None
    final_kernel_range: list[int] | None = None

    def __getitem__(self, item: int | Draw) -> dict[str, Any]:
        if not isinstance(item, Draw):
            return {"gt": self.channels(self.gt.read(item)), "gt_path": self.gt.name(item)}
        patch, seed = self.sharp_patch(item)
        return {"gt": np.ascontiguousarray(patch), "gt_path": self.gt.name(item.index), "seed": seed}


@DATASETS.add()
@dataclass(eq=False)
class RealESRGANPairedDataset(PairedImageDataset):
    """As `PairedImageDataset`, and a list may name both images.

    Args:
        meta_info: list of pairs, one for each folder; each line is the path of a reference relative to `dataroot_gt`, a
            comma, and the path of its degraded image relative to `dataroot_lq`.
    """

    meta_info: Roots | None = None

    @property
    def lists(self) -> Roots | None:
        """The lists of both images, or of references."""
        return self.meta_info or self.meta_info_file

    def listed(self, gt: Path, lq: Path, listing: Path | None) -> list[Pair]:
        """The pairs of the list, or of the two folders."""
        if listing is None or not self.meta_info:
            return super().listed(gt, lq, listing)
        lines = listed_lines(self.name, listing, "meta_info")
        pairs = [self._pair(gt, lq, line, f"{listing}, line {number}") for number, line in lines.items()]
        return [pair for pair in pairs if pair is not None]

    def _pair(self, gt: Path, lq: Path, line: str, where: str) -> Pair | None:
        names = [name.strip() for name in line.split(",")]
        if len(names) != 2:
            complain(f"dataset '{self.name}': {where}: a line is 'GT, LQ', two paths; this one is '{line}'.")
            return None
        files = gt / names[0], lq / names[1]
        missing = [str(file) for file in files if not file.is_file()]
        if missing:
            there = [file for file in files if file.is_file()]
            complain(f"dataset '{self.name}': {' and '.join(missing)} does not exist ({where}).", files=there)
            return None
        return Pair(files[1].stem, gt=files[0], lq=files[1])

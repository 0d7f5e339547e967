"""Metrics of other libraries: pyiqa's whole list as `pyiqa:NAME`, FID and KID through torch-fidelity.

pyiqa is licensed for non-commercial use (PolyForm Noncommercial and S-Lab); `traits("pyiqa:NAME").note` says so, and
its first use logs it. Nothing of either library is imported before a metric of it is asked for. What has to be
downloaded and cannot be is a `MissingError`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

import torch

from restore.errors import ImageError, MissingError, OptionsError, nearest
from restore.metrics.inputs import Bits, Border, Images, Preparation, White, as_pair, as_score
from restore.metrics.registration import Traits, metric
from restore.registry import METRICS

__all__ = ["fid", "kid", "pyiqa_metric"]

log = logging.getLogger(__name__)

PYIQA_NOTE = "computed by pyiqa, which is licensed for non-commercial use"


@METRICS.add_family("pyiqa")
@functools.cache
def pyiqa_metric(name: str) -> Callable[..., float | torch.Tensor]:
    """The metric `name` of pyiqa as one of ours.

    Raises:
        MissingError: pyiqa is not installed.
        OptionsError: it has no such metric.
    """
    configurations = _library("pyiqa.default_model_configs", "pyiqa").DEFAULT_CONFIGS
    if name not in configurations:
        known = ", ".join(sorted(configurations))
        raise OptionsError(f"pyiqa has no metric '{name}'.{nearest(name, configurations)} Known: {known}.")
    facts = configurations[name]

    def score(
        restored: Images,
        reference: Images | None = None,
        *,
        border_px: Border = 0,
        bits: Bits | None = None,
        data_range: White = 1.0,
    ) -> float | torch.Tensor:
        prepare = Preparation(border_px, bits=bits, data_range=data_range)
        images: tuple[torch.Tensor, ...]
        if facts["metric_mode"] == "FR":
            if reference is None:
                raise ImageError(f"pyiqa:{name} compares with a reference; none is given.")
            images = as_pair(restored, reference, prepare)
        else:
            images = (prepare(restored, "restored"),)
        network = _pyiqa_network(name, images[0].device)
        with torch.no_grad():
            values = network(*(x_BCHW.float().expand(-1, 3, -1, -1) for x_BCHW in images))
        return as_score(torch.as_tensor(values).double().reshape(-1), restored)

    registered: Any = score
    registered.__name__ = f"pyiqa:{name}"
    registered.traits = Traits(
        higher_is_better=not facts.get("lower_better", False),
        needs_reference=facts["metric_mode"] == "FR",
        of_sets=name.startswith(("fid", "inception_score", "msswd_set")),
        note=PYIQA_NOTE,
    )
    return score


@functools.lru_cache(maxsize=8)
def _pyiqa_network(name: str, device: torch.device) -> Any:
    log.warning("pyiqa:%s is %s", name, PYIQA_NOTE)
    pyiqa = _library("pyiqa", "pyiqa")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it downloads
            return pyiqa.create_metric(name, device=device)
    except (URLError, OSError) as error:
        raise MissingError(
            f"pyiqa:{name} needs files that are not on this machine and cannot be downloaded ({error}). Run it once "
            f"where there is a network and copy {Path(torch.hub.get_dir()) / 'pyiqa'} here."
        ) from error


@metric("fid", higher_is_better=False, of_sets=True)
def fid(restored: str | Path, reference: str | Path, *, batch: int = 32) -> float:
    """Fréchet inception distance between two folders of images (Heusel et al. 2017), by torch-fidelity.

    Raises:
        MissingError: torch-fidelity or its network's weights are not here.
    """
    return _between_folders(restored, reference, batch, fid=True)["frechet_inception_distance"]


@metric("kid", higher_is_better=False, of_sets=True)
def kid(restored: str | Path, reference: str | Path, *, batch: int = 32, subset: int = 1000) -> float:
    """Kernel inception distance between two folders of images (Bińkowski et al. 2018), the mean over subsets.

    Raises:
        MissingError: torch-fidelity or its network's weights are not here.
    """
    return _between_folders(restored, reference, batch, kid=True, kid_subset_size=subset)[
        "kernel_inception_distance_mean"
    ]


def _between_folders(restored: str | Path, reference: str | Path, batch: int, **wanted: Any) -> dict[str, float]:
    library = _library("torch_fidelity", "torch-fidelity")
    on_gpu = torch.cuda.is_available()
    try:
        return library.calculate_metrics(
            input1=str(restored),
            input2=str(reference),
            batch_size=batch,
            cuda=on_gpu,
            save_cpu_ram=not on_gpu,  # read images in this process: four others would only share its cores
            verbose=False,
            **wanted,
        )
    except (URLError, OSError) as error:
        raise MissingError(
            f"torch-fidelity needs its Inception weights, which are not on this machine and cannot be downloaded "
            f"({error}). Put weights-inception-2015-12-05-6726825d.pth into "
            f"{Path(torch.hub.get_dir()) / 'checkpoints'}."
        ) from error


def _library(module: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingError(f"this metric needs the package {package}: pip install {package} ({error}).") from error

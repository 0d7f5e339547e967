"""Make the parameter files of restore/metrics/parameters from the published ones.

    python scripts/metric_parameters.py FOLDER

FOLDER holds, unpacked: the wheels of lpips 0.1.4 (lpips/weights/v0.1), DISTS_pytorch 0.1 (DISTS_pytorch/weights.pt)
and pyrtools 1.1.1 (pyrtools/pyramids/filters.py), the source of basicsr 1.4.2 (basicsr/metrics/niqe_pris_params.npz)
and the MATLAB folder of github.com/utlive/BRISQUE (allmodel, allrange). Only the numbers are taken; NOTICE.md beside
the result says whose.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import torch

TARGET = Path(__file__).parent.parent / "restore/metrics/parameters"


def main(folder: Path) -> None:
    TARGET.mkdir(exist_ok=True)
    for name, arrays in {
        "lpips": lpips_heads(folder / "lpips/weights/v0.1"),
        "dists": tensors(folder / "DISTS_pytorch/weights.pt"),
        "niqe": niqe_model(folder / "basicsr/metrics/niqe_pris_params.npz"),
        "vif": pyramid_filters(folder / "pyrtools/pyramids/filters.py"),
        "brisque": brisque_model(folder / "MATLAB"),
    }.items():
        np.savez_compressed(TARGET / f"{name}.npz", **arrays)
        print(name, {key: array.shape for key, array in arrays.items()}, (TARGET / f"{name}.npz").stat().st_size)


def tensors(path: Path) -> dict[str, np.ndarray]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {key: value.detach().numpy().reshape(-1) for key, value in state.items()}


def lpips_heads(folder: Path) -> dict[str, np.ndarray]:
    heads = {}
    for net in ("alex", "squeeze", "vgg"):
        state = tensors(folder / f"{net}.pth")
        heads |= {f"{net}.{layer}": state[f"lin{layer}.model.1.weight"] for layer in range(len(state))}
    return heads


def niqe_model(path: Path) -> dict[str, np.ndarray]:
    stored = np.load(path)
    return {"mean": stored["mu_pris_param"].reshape(-1), "covariance": stored["cov_pris_param"]}


def pyramid_filters(path: Path) -> dict[str, np.ndarray]:
    """Of the steerable pyramid with six orientations, what VIF reads: low-pass filters and two of the band filters."""
    module = runpy.run_path(str(path))
    filters = module["steerable_filters"]("sp5_filters")
    side = int(len(filters["bfilts"]) ** 0.5)
    bands = filters["bfilts"].T.reshape(-1, side, side).transpose(0, 2, 1)
    return {"low0": filters["lo0filt"], "low": filters["lofilt"], "bands": bands[[0, 3]]}


def brisque_model(folder: Path) -> dict[str, np.ndarray]:
    """The support vectors (in libsvm's text form) and the range of each feature, which svm-scale maps to [-1, 1]."""
    header, vectors = (folder / "allmodel").read_text().split("SV\n")
    facts = dict(line.split(maxsplit=1) for line in header.strip().splitlines())
    rows = [line.split() for line in vectors.strip().splitlines()]
    ranges = [line.split() for line in (folder / "allrange").read_text().strip().splitlines()[2:]]
    support = np.zeros((len(rows), len(ranges)))
    for row, (_, *entries) in zip(support, rows, strict=True):
        for entry in entries:
            index, value = entry.split(":")
            row[int(index) - 1] = float(value)
    return {
        "vectors": support,
        "coefficients": np.array([float(row[0]) for row in rows]),
        "low": np.array([float(low) for _, low, _ in ranges]),
        "high": np.array([float(high) for _, _, high in ranges]),
        "gamma": np.float64(facts["gamma"]),
        "rho": np.float64(facts["rho"]),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Does a quality model's score fall when a distortion grows? For every kind of distortion, image by image.

    python scripts/judge_distortions.py triq_small                                     # of the package, on B100
    python scripts/judge_distortions.py experiments/NAME/models/net_g_latest.pth --images datasets/benchmark/McMaster

Each photograph is distorted at severities between the steps of the training's ladder. Printed are, for each kind, the
mean over the photographs of Spearman's correlation of score and opinion (one minus the severity), the lowest of them,
and at the end the correlation over all versions of all photographs together.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from restore.data.ratings.synthetic import DEFAULT_KINDS, LADDERS, distort, severities
from restore.images import convert_depth, read_image, to_tensor
from restore.metrics.correlation import srcc
from restore.quality import QualityModel, load_quality


def main() -> None:
    """Judge and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="triq_small, iqt_small, or a file of a training")
    parser.add_argument("--images", type=Path, default=Path("datasets/benchmark/BSD100/HR"))
    parser.add_argument("--max-images", type=int, default=10)
    parser.add_argument("--kinds", nargs="+", default=list(LADDERS))
    parser.add_argument("--levels", type=int, default=8, help="severities of each distortion")
    arguments = parser.parse_args()
    model = load_quality(arguments.model)
    files = sorted(path for path in arguments.images.iterdir() if path.is_file())
    files = [files[number * len(files) // arguments.max_images] for number in range(arguments.max_images)]
    levels = severities(arguments.levels, between=True)
    opinions = [1 - level for level in levels]
    scores = {kind: [] for kind in arguments.kinds}
    for number, file in enumerate(files):
        pixels = np.ascontiguousarray(convert_depth(read_image(file).pixels, np.uint8))
        for kind, rows in scores.items():
            rows.append([_score(model, pixels, kind, level, seed=number) for level in levels])
    print(f"{arguments.model}: {len(files)} images of {arguments.images}, {len(levels)} severities")
    for kind, rows in scores.items():
        each = [srcc(row, opinions) if np.ptp(row) else 0.0 for row in rows]
        print(f"{kind:18} mean {np.mean(each):6.3f}  lowest {min(each):6.3f}")
    for name, kinds in (("the default kinds", DEFAULT_KINDS), ("all kinds", tuple(scores))):
        rows = [row for kind in kinds for row in scores.get(kind, [])]
        if rows:
            print(f"{name}: SRCC {srcc(np.ravel(rows), opinions * len(rows)):.3f}")


@torch.inference_mode()
def _score(model: QualityModel, pixels: np.ndarray, kind: str, severity: float, seed: int) -> float:
    distorted, reference = (to_tensor(each) for each in (distort(pixels, kind, severity, seed=seed), pixels))
    return model.judge(distorted, reference).item()


if __name__ == "__main__":
    main()

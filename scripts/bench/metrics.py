"""NIQE, PSNR and SSIM against plain implementations, in one interleaved run.

    python scripts/bench/metrics.py [--image FILE] [--repeats 7] [--threads 2] [--json OUT]

The plain NIQE is our own form of the published one: a loop over blocks in numpy, a table of shapes for each fit. PSNR
and SSIM are measured against scikit-image. The table gives medians, their ratio and how far the values differ.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.ndimage import convolve
from scipy.special import gamma
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from restore.images import resize
from restore.metrics import niqe, psnr, ssim
from restore.metrics.backbones import stored


def plain_niqe(image: np.ndarray) -> float:
    """The published steps, one block and one fit after the other."""
    levels = np.round(image @ np.array([65.481, 128.553, 24.966]) / 255 + 16)
    rows, columns = levels.shape[0] // 96, levels.shape[1] // 96
    levels = levels[: rows * 96, : columns * 96]
    offsets = np.arange(-3, 4)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * (7 / 6) ** 2))
    features = []
    for size in (96, 48):
        mean = convolve(levels, window / window.sum(), mode="nearest")
        deviation = np.sqrt(np.abs(convolve(levels**2, window / window.sum(), mode="nearest") - mean**2))
        normalised = (levels - mean) / (deviation + 1)
        corners = [(row * size, column * size) for column in range(columns) for row in range(rows)]
        features.append([_block_features(normalised[y : y + size, x : x + size]) for y, x in corners])
        levels = resize(torch.from_numpy(levels)[None, None], scale=0.5)[0, 0].numpy()
    features = np.concatenate(features, axis=1)
    model = stored("niqe")
    difference = model["mean"] - np.nanmean(features, axis=0)
    whole = features[~np.isnan(features).any(axis=1)]
    covariance = (model["covariance"] + np.cov(whole, rowvar=False)) / 2
    return float(np.sqrt(difference @ np.linalg.pinv(covariance) @ difference))


def _block_features(block: np.ndarray) -> list[float]:
    alpha, left, right = _fit(block)
    features = [alpha, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        alpha, left, right = _fit(block * np.roll(block, shift, axis=(0, 1)))
        features += [alpha, (right - left) * gamma(2 / alpha) / gamma(1 / alpha), left, right]
    return features


def _fit(samples: np.ndarray) -> tuple[float, float, float]:
    shapes = np.arange(0.2, 10.001, 0.001)
    ratios = gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes))
    left, right = (np.sqrt(np.mean(side**2)) for side in (samples[samples < 0], samples[samples > 0]))
    skew = left / right
    ratio = np.mean(np.abs(samples)) ** 2 / np.mean(samples**2) * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    alpha = shapes[np.argmin((ratios - ratio) ** 2)]
    spread = np.sqrt(gamma(1 / alpha) / gamma(3 / alpha))
    return alpha, left * spread, right * spread


def plain_ssim(restored: np.ndarray, reference: np.ndarray) -> float:
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "full": True}
    scores = structural_similarity(restored, reference, channel_axis=2, **options)[1]
    return float(scores[5:-5, 5:-5].mean())


def measure(calls: dict[str, list], repeats: int) -> list[dict]:
    """Both sides of each row take turns, so that a busy machine slows both."""
    rows = []
    for name, pair in calls.items():
        values = [call() for call in pair]
        seconds: list[list[float]] = [[], []]
        for _ in range(repeats):
            for side, call in zip(seconds, pair, strict=True):
                start = time.perf_counter()
                call()
                side.append(time.perf_counter() - start)
        plain, ours = (float(np.median(side)) * 1000 for side in seconds)
        rows.append(
            {
                "metric": name,
                "plain_ms": plain,
                "ours_ms": ours,
                "ratio": plain / ours,
                "difference": values[1] - values[0],
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, help="an RGB image of 512x512 px or more; default: one of scikit-image")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.image:
        reference = cv2.imread(str(arguments.image))[..., ::-1]
    else:
        import skimage.data

        reference = skimage.data.astronaut()
    reference = np.ascontiguousarray(reference[:512, :512])
    noise = np.random.default_rng(0).normal(scale=8, size=reference.shape)
    restored = np.clip(reference + noise, 0, 255).round().astype(np.uint8)
    calls = {
        "niqe": [lambda: plain_niqe(restored), lambda: niqe(restored)],
        "ssim": [lambda: plain_ssim(restored, reference), lambda: ssim(restored, reference)],
        "psnr": [lambda: float(peak_signal_noise_ratio(reference, restored)), lambda: psnr(restored, reference)],
    }
    rows = measure(calls, arguments.repeats)
    print(
        f"{reference.shape[0]}x{reference.shape[1]} RGB, {arguments.threads} thread(s), median of {arguments.repeats}"
    )
    print(f"{'metric':8}{'plain ms':>10}{'ours ms':>10}{'ratio':>8}{'difference':>14}")
    for row in rows:
        times = f"{row['plain_ms']:10.1f}{row['ours_ms']:10.1f}{row['ratio']:8.1f}"
        print(f"{row['metric']:8}{times}{row['difference']:14.2e}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"threads": arguments.threads, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()

"""PSNR of scikit-image's non-local means, which knows the noise level, on noise as papers measure it.

    python scripts/denoising_baseline.py FOLDER [FOLDER ...] [--sigma 25]

The noise is that of `GaussianNoiseDataset`: NumPy's of seed 0 for every image, neither clipped nor rounded. Parameters
of the filter are those of scikit-image's own example for a known level (fast mode, h = 0.8 sigma, patches of 5 px, 6 px
around).
"""

from __future__ import annotations

import argparse
from statistics import mean

from rich.progress import track
from skimage.restoration import denoise_nl_means

from restore.degradations.operators.noise import EvaluationNoise
from restore.images import list_images, read_image, to_pixels, to_tensor
from restore.metrics import psnr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--sigma", type=float, default=25)
    arguments = parser.parse_args()
    for folder in arguments.folders:
        values = [_psnr(path, arguments.sigma) for path in track(list_images(folder), folder, transient=True)]
        print(f"{folder}: {mean(values):.2f} dB, {len(values)} images, sigma {arguments.sigma:g}")


def _psnr(path, sigma: float) -> float:
    clean = read_image(path).pixels
    noisy_BCHW = EvaluationNoise(sigma=sigma)(to_tensor(clean))
    level = sigma / 255
    noisy = noisy_BCHW[0].permute(1, 2, 0).numpy()
    restored = denoise_nl_means(
        noisy, patch_size=5, patch_distance=6, h=0.8 * level, sigma=level, fast_mode=True, channel_axis=-1
    )
    return psnr(to_pixels(to_tensor(restored)).reshape(clean.shape), clean)


if __name__ == "__main__":
    main()

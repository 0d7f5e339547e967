"""How fast is `realesrgan` on 256 x 256 originals, against a plain implementation that takes one image after the other?

    python scripts/bench/degradations.py [--images DIR] [--threads 2] [--batch 16] [--rounds 7] [--device cuda]

Both do the same published operators with the same probabilities and ranges. The plain one is what one writes first:
OpenCV for filters, resizing and JPEG, NumPy for the noise. Rounds alternate between the two, and medians are compared,
so that other work on the machine touches both. On an accelerator (batch 48) there is nothing plain to compare with.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy import special

from restore.degradations import load_pipeline, sample_seed
from restore.images import list_images, read_image

SIDE_PX, SCALE = 256, 4
INTERPOLATIONS = [cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="photographs to cut from; else smooth random images")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    batch = arguments.batch or (16 if arguments.device == "cpu" else 48)
    gt_BCHW = crops(arguments.images, batch).to(arguments.device)
    pipeline = load_pipeline("realesrgan", scale=SCALE)

    ours, plain = [], []
    for index in range(-1, arguments.rounds):  # the round before the first warms up
        seconds = timed(lambda index=index: pipeline(gt_BCHW, [sample_seed(index, i) for i in range(batch)]), gt_BCHW)
        ours += [seconds] * (index >= 0)
        if arguments.device == "cpu":
            random.seed(index)
            np.random.seed(index + 1)
            images = [gt.permute(1, 2, 0).contiguous().numpy() for gt in gt_BCHW]
            seconds = timed(lambda images=images: [plain_realesrgan(image) for image in images], gt_BCHW)
            plain += [seconds] * (index >= 0)
    report("ours", ours, batch, arguments)
    if plain:
        report("plain", plain, batch, arguments)
        ratios = [before / after for before, after in zip(plain, ours, strict=True)]
        print(
            f"times faster: {statistics.median(ratios):.2f} (rounds: {', '.join(f'{r:.2f}' for r in sorted(ratios))})"
        )


def timed(job, tensor: torch.Tensor) -> float:
    start = time.perf_counter()
    job()
    if tensor.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def report(name: str, seconds: list[float], batch: int, arguments: argparse.Namespace) -> None:
    median = statistics.median(seconds)
    text = f"{name:6} {1e3 * median / batch:7.2f} ms/image {batch / median:7.1f} images/s"
    if arguments.device == "cpu":
        text += f" {batch / median / arguments.threads:7.1f} images/s/core"
    print(f"{text}   (batch {batch}, {arguments.device}, {arguments.threads} threads, median of {len(seconds)})")


def crops(folder: Path | None, count: int) -> torch.Tensor:
    """(count, 3, 256, 256) from photographs, or from smoothed noise where there are none."""
    if folder is None:
        rng = np.random.default_rng(0)
        images = [cv2.resize(rng.random((32, 32, 3), np.float32), (SIDE_PX, SIDE_PX)) for _ in range(count)]
    else:
        paths = list_images(folder)
        pixels = [read_image(paths[i % len(paths)]).pixels[..., :3] for i in range(count)]
        images = [np.float32(image[:SIDE_PX, :SIDE_PX]) / 255 for image in pixels]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


# ---- the plain implementation: (H, W, 3) float32 in [0, 1]


def plain_realesrgan(gt: np.ndarray) -> np.ndarray:
    height, width = gt.shape[:2]
    image = plain_usm(gt)
    image = cv2.filter2D(image, -1, plain_kernel([0.2, 3]), borderType=cv2.BORDER_REFLECT_101)
    factor = plain_factor([0.2, 0.7, 0.1], [0.15, 1.5])
    image = plain_resize(image, int(height * factor), int(width * factor))
    image = plain_noise(image, [1, 30], [0.05, 3])
    image = plain_jpeg(image, random.uniform(30, 95))
    if random.random() < 0.8:
        image = cv2.filter2D(image, -1, plain_kernel([0.2, 1.5]), borderType=cv2.BORDER_REFLECT_101)
    factor = plain_factor([0.3, 0.4, 0.3], [0.3, 1.2])
    image = plain_resize(image, int(height / SCALE * factor), int(width / SCALE * factor))
    image = plain_noise(image, [1, 25], [0.05, 2.5])
    if random.random() < 0.5:
        image = plain_jpeg(plain_back(image, height, width), random.uniform(30, 95))
    else:
        image = plain_back(plain_jpeg(image, random.uniform(30, 95)), height, width)
    return np.clip((image * 255).round(), 0, 255) / 255


def plain_back(image: np.ndarray, height: int, width: int) -> np.ndarray:
    image = plain_resize(image, height // SCALE, width // SCALE)
    if random.random() < 0.8:
        kernel = plain_sinc(random.randrange(7, 22, 2), random.uniform(np.pi / 3, np.pi))
        image = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return image


def plain_usm(image: np.ndarray, weight: float = 0.5, radius: int = 51, threshold: float = 10) -> np.ndarray:
    residual = image - cv2.GaussianBlur(image, (radius, radius), 0)
    mask = (np.abs(residual) * 255 > threshold).astype(np.float32)
    soft_mask = cv2.GaussianBlur(mask, (radius, radius), 0)
    return soft_mask * np.clip(image + weight * residual, 0, 1) + (1 - soft_mask) * image


def plain_kernel(sigma_range: list[float]) -> np.ndarray:
    size = random.randrange(7, 22, 2)
    if random.random() < 0.1:
        return plain_sinc(size, random.uniform(np.pi / (3 if size < 13 else 5), np.pi))
    kind = random.choices(range(6), [0.45, 0.25, 0.12, 0.03, 0.12, 0.03])[0]
    sigma_x = random.uniform(*sigma_range)
    sigma_y, angle = (random.uniform(*sigma_range), random.uniform(-np.pi, np.pi)) if kind % 2 else (sigma_x, 0.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    inverse = np.linalg.inv(turn @ np.diag([sigma_x**2, sigma_y**2]) @ turn.T)
    axis = np.arange(size) - size // 2
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    form = np.sum(grid @ inverse * grid, axis=-1)
    low, high = ([0.5, 4], [1, 2])[kind // 4]
    beta = random.uniform(low, 1) if random.random() < 0.5 else random.uniform(1, high)
    kernel = (np.exp(-form / 2), np.exp(-(form**beta) / 2), 1 / (form**beta + 1))[kind // 2]
    return (kernel / kernel.sum()).astype(np.float32)


def plain_sinc(size: int, cutoff: float) -> np.ndarray:
    axis = np.arange(size) - size // 2
    radius = np.hypot(*np.meshgrid(axis, axis))
    radius[size // 2, size // 2] = 1
    kernel = cutoff * special.j1(cutoff * radius) / (2 * np.pi * radius)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * np.pi)
    return (kernel / kernel.sum()).astype(np.float32)


def plain_factor(probabilities: list[float], limits: list[float]) -> float:
    kind = random.choices(["up", "down", "keep"], probabilities)[0]
    return {"up": random.uniform(1, limits[1]), "down": random.uniform(limits[0], 1), "keep": 1}[kind]


def plain_resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return cv2.resize(image, (width, height), interpolation=random.choice(INTERPOLATIONS))


def plain_noise(image: np.ndarray, sigma_range: list[float], scale_range: list[float]) -> np.ndarray:
    grey = random.random() < 0.4
    if random.random() < 0.5:
        shape = (*image.shape[:2], 1) if grey else image.shape
        noise = np.float32(np.random.randn(*shape)) * random.uniform(*sigma_range) / 255
    else:
        source = cv2.cvtColor(np.clip(image, 0, 1), cv2.COLOR_RGB2GRAY)[..., None] if grey else image
        source = np.clip((source * 255).round(), 0, 255) / 255
        peak = 2 ** np.ceil(np.log2(len(np.unique(source))))
        noise = np.float32(np.random.poisson(source * peak) / peak - source) * random.uniform(*scale_range)
    return np.clip(image + noise, 0, 1)


def plain_jpeg(image: np.ndarray, quality: float) -> np.ndarray:
    pixels = np.clip(image * 255, 0, 255).round().astype(np.uint8)
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    return np.float32(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]) / 255


if __name__ == "__main__":
    main()

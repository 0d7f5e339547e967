"""How fast is `realesrgan` on 256 x 256 originals, against plain implementations that take one image after the other?

    python scripts/bench/degradations.py [--images DIR] [--threads 2] [--batch 48] [--rounds 7] [--device cuda]

All do the same published operators with the same probabilities and ranges. Two plain ones are what one writes first:

    torch     as the pipeline was published: NumPy for kernels, torch for the rest (convolutions, interpolation, noise,
              and JPEG as tensor operations)
    opencv    for a processor: OpenCV for filters, resizing and JPEG by libjpeg, NumPy for the noise

Rounds alternate between them, and ratios are taken round by round, so that other work on the machine touches all alike.
On an accelerator there is nothing plain to compare with.
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
import torch.nn.functional as F
from scipy import special

from restore.degradations import load_pipeline, sample_seed
from restore.degradations.operators.jpeg import jpeg
from restore.images import list_images, read_image

SIDE_PX, SCALE = 256, 4
_BATCHES_OF_OURS = 3  # in a round, which would be over too soon to be measured well


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="photographs to cut from; else smooth random images")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    batch = arguments.batch
    gt_BCHW = crops(arguments.images, batch).to(arguments.device)
    pipeline = load_pipeline("realesrgan", scale=SCALE)

    def ours(seed: int) -> None:
        for part in range(_BATCHES_OF_OURS):
            pipeline(gt_BCHW, [sample_seed(seed, part, i) for i in range(batch)])

    candidates = {"ours": ours}
    if arguments.device == "cpu":
        images = [gt.permute(1, 2, 0).contiguous().numpy() for gt in gt_BCHW]
        opencv, tensor = Plain(OpenCvOperators()), Plain(TorchOperators())
        candidates["opencv"] = lambda seed: [opencv(image, seed + i) for i, image in enumerate(images)]
        candidates["torch"] = lambda seed: [tensor(gt_BCHW[i : i + 1], seed + i) for i in range(batch)]
    seconds = {name: [] for name in candidates}
    for index in range(-1, arguments.rounds):  # the round before the first warms up
        for name, job in candidates.items():
            taken = timed(lambda job=job, index=index: job(batch * (index + 1)), gt_BCHW)
            if index >= 0:
                seconds[name].append(taken / (_BATCHES_OF_OURS if name == "ours" else 1))
    for name, values in seconds.items():
        report(name, values, batch, arguments)
    for name in list(seconds)[1:]:
        ratios = sorted(plain / fast for plain, fast in zip(seconds[name], seconds["ours"], strict=True))
        rounds = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"times faster than {name}: {statistics.median(ratios):.2f} (rounds: {rounds})")


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


class Plain:
    """The pipeline as published, for one image; `operators` compute."""

    def __init__(self, operators: OpenCvOperators | TorchOperators):
        self.operators = operators

    def __call__(self, gt, seed: int):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        do = self.operators
        image = do.usm(gt)
        image = do.filter(image, plain_kernel([0.2, 3]))
        image = do.resize(image, int(SIDE_PX * plain_factor([0.2, 0.7, 0.1], [0.15, 1.5])))
        image = self.noise(image, [1, 30], [0.05, 3])
        image = do.jpeg(image, random.randint(30, 95))
        if random.random() < 0.8:
            image = do.filter(image, plain_kernel([0.2, 1.5]))
        image = do.resize(image, int(SIDE_PX / SCALE * plain_factor([0.3, 0.4, 0.3], [0.3, 1.2])))
        image = self.noise(image, [1, 25], [0.05, 2.5])
        if random.random() < 0.5:
            image = do.jpeg(self.back(image), random.randint(30, 95))
        else:
            image = self.back(do.jpeg(image, random.randint(30, 95)))
        return do.rounded(image) / 255

    def noise(self, image, sigma_range: list[float], scale_range: list[float]):
        grey = random.random() < 0.4
        if random.random() < 0.5:
            return self.operators.gaussian_noise(image, random.uniform(*sigma_range), grey)
        return self.operators.poisson_noise(image, random.uniform(*scale_range), grey)

    def back(self, image):
        image = self.operators.resize(image, SIDE_PX // SCALE)
        if random.random() < 0.8:
            kernel = plain_sinc(random.randrange(7, 22, 2), random.uniform(np.pi / 3, np.pi))
            image = self.operators.filter(image, kernel)
        return image


class OpenCvOperators:
    """(H, W, 3) float32 in [0, 1]."""

    def filter(self, image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)

    def usm(self, image: np.ndarray, weight: float = 0.5, radius: int = 51, threshold: float = 10) -> np.ndarray:
        residual = image - cv2.GaussianBlur(image, (radius, radius), 0)
        mask = (np.abs(residual) * 255 > threshold).astype(np.float32)
        soft_mask = cv2.GaussianBlur(mask, (radius, radius), 0)
        return soft_mask * np.clip(image + weight * residual, 0, 1) + (1 - soft_mask) * image

    def resize(self, image: np.ndarray, side: int) -> np.ndarray:
        kind = random.choice([cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC])
        return cv2.resize(image, (side, side), interpolation=kind)

    def gaussian_noise(self, image: np.ndarray, sigma: float, grey: bool) -> np.ndarray:
        shape = (*image.shape[:2], 1) if grey else image.shape
        return np.clip(image + np.float32(np.random.randn(*shape)) * (sigma / 255), 0, 1)

    def poisson_noise(self, image: np.ndarray, scale: float, grey: bool) -> np.ndarray:
        source = cv2.cvtColor(np.clip(image, 0, 1), cv2.COLOR_RGB2GRAY)[..., None] if grey else image
        source = self.rounded(source) / 255
        peak = 2 ** np.ceil(np.log2(len(np.unique(source))))
        noise = np.float32(np.random.poisson(source * peak) / peak - source)
        return np.clip(image + noise * scale, 0, 1)

    def jpeg(self, image: np.ndarray, quality: int) -> np.ndarray:
        pixels = self.rounded(image).astype(np.uint8)
        _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.float32(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]) / 255

    def rounded(self, image: np.ndarray) -> np.ndarray:
        return np.clip((image * 255).round(), 0, 255)


class TorchOperators:
    """(1, 3, H, W) float32 in [0, 1]."""

    def filter(self, image: torch.Tensor, kernel: np.ndarray) -> torch.Tensor:
        margin = len(kernel) // 2
        weight = torch.from_numpy(kernel).expand(3, 1, -1, -1)
        return F.conv2d(F.pad(image, [margin] * 4, mode="reflect"), weight, groups=3)

    def usm(self, image: torch.Tensor, weight: float = 0.5, radius: int = 51, threshold: float = 10) -> torch.Tensor:
        taps = np.float32(cv2.getGaussianKernel(radius, 0))
        kernel = taps @ taps.T
        residual = image - self.filter(image, kernel)
        soft_mask = self.filter((residual.abs() * 255 > threshold).float(), kernel)
        return soft_mask * (image + weight * residual).clip(0, 1) + (1 - soft_mask) * image

    def resize(self, image: torch.Tensor, side: int) -> torch.Tensor:
        return F.interpolate(image, (side, side), mode=random.choice(["area", "bilinear", "bicubic"]))

    def gaussian_noise(self, image: torch.Tensor, sigma: float, grey: bool) -> torch.Tensor:
        noise = torch.randn(1, 1 if grey else 3, *image.shape[-2:]) * (sigma / 255)
        return (image + noise).clip(0, 1)

    def poisson_noise(self, image: torch.Tensor, scale: float, grey: bool) -> torch.Tensor:
        luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        source = self.rounded((image * luma).sum(1, keepdim=True) if grey else image) / 255
        peak = 2 ** np.ceil(np.log2(len(source.unique())))
        noise = torch.poisson(source * peak) / peak - source
        return (image + noise * scale).clip(0, 1)

    def jpeg(self, image: torch.Tensor, quality: int) -> torch.Tensor:
        return jpeg(image, [quality])

    def rounded(self, image: torch.Tensor) -> torch.Tensor:
        return (image * 255).round().clip(0, 255)


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


if __name__ == "__main__":
    main()

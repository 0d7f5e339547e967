"""Applying drawn operators to a batch, whose samples may have different operators, parameters and sizes on the way.

On the CPU each image goes its own way through OpenCV and small tensor operations, in one thread; several images go at
once. This is what makes a batch equal to its images one by one. Elsewhere samples that are about to do the same thing
to images of one size do it in one call.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cv2
import numpy as np
import torch

from restore.degradations.operators.base import Operator, from_planes, to_planes, uses_opencv

__all__ = ["run", "stack", "value_range"]

Result = TypeVar("Result")


def run(x_BCHW: torch.Tensor, *stages: Sequence[Sequence[Operator]]) -> list[list[torch.Tensor]]:
    """Apply to each image of a batch the operators of its plan, one after the other.

    Args:
        x_BCHW: the images.
        *stages: plans, one for each image; every stage goes on where the one before ended.

    Returns:
        for each stage, one (C, H, W) tensor for each sample; sizes may differ.
    """
    if uses_opencv(x_BCHW):
        with _opencv_threads(1):
            images = list(_each(_run_one, x_BCHW, *stages))
        return [list(stage) for stage in zip(*images, strict=True)]
    results, images = [], list(x_BCHW)
    for plans in stages:
        images = _run_grouped(images, plans)
        results.append(images)
    return results


def stack(images: Sequence[torch.Tensor]) -> torch.Tensor:
    """Images of one size as a batch. On the CPU our threads do it: torch would wake its own, which keep a core busy for
    milliseconds after they are done."""
    if images[0].device.type == "cpu" and not any(image.requires_grad for image in images):
        batch = images[0].new_empty(len(images), *images[0].shape)
        list(_each(torch.Tensor.copy_, batch, images))
        return batch
    return torch.stack(list(images))


def value_range(x_BCHW: torch.Tensor) -> tuple[float, float]:
    """The smallest and the largest value of a batch; NaN if it holds one."""
    if not uses_opencv(x_BCHW):
        low, high = x_BCHW.detach().aminmax()
        return float(low), float(high)
    ranges = np.array([(float(low), float(high)) for low, high in _each(torch.aminmax, x_BCHW)])
    return float(ranges[:, 0].min()), float(ranges[:, 1].max())


def _each(function: Callable[..., Result], *items: Iterable) -> Iterator[Result]:
    """`map`, by as many threads as torch has."""
    num_threads = torch.get_num_threads()
    return map(function, *items) if num_threads == 1 else _threads(os.getpid(), num_threads).map(function, *items)


def _run_one(x_CHW: torch.Tensor, *plans: Sequence[Operator]) -> list[torch.Tensor]:
    results, image = [], from_planes(x_CHW.numpy())
    for plan in plans:
        for operator in plan:
            image = operator.on_pixels(image)
        results.append(torch.from_numpy(to_planes(image)))
    return results


def _run_grouped(images: Sequence[torch.Tensor], plans: Sequence[Sequence[Operator]]) -> list[torch.Tensor]:
    images = list(images)
    for position in range(max(map(len, plans), default=0)):
        groups = defaultdict(list)
        for index, plan in enumerate(plans):
            if position < len(plan):
                operator = plan[position]
                key = (operator.apply.__func__, operator.group(), images[index].shape)
                groups[key].append(index)
        for members in groups.values():
            samples = [plans[index][position] for index in members]
            degraded = type(samples[0]).apply(torch.stack([images[index] for index in members]), samples)
            for index, image in zip(members, degraded, strict=True):
                images[index] = image
    return images


@contextlib.contextmanager
def _opencv_threads(count: int) -> Iterator[None]:
    """OpenCV's own threads would fight with ours: the number is set for the time of a call."""
    before = cv2.getNumThreads()
    if before != count:
        cv2.setNumThreads(count)
    try:
        yield
    finally:
        if before != count:
            cv2.setNumThreads(before)


@functools.lru_cache(maxsize=2)
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    """Threads of this process (a forked one has none of its parent's), in each of which torch uses one thread."""
    everyone_started = threading.Barrier(count + 1)

    def start() -> None:
        torch.get_num_threads()  # a thread's first call takes over the number of the process: not after we set ours
        torch.set_num_threads(1)
        everyone_started.wait()

    pool = ThreadPoolExecutor(count, thread_name_prefix="degradations")
    for _ in range(count):
        pool.submit(start)
    everyone_started.wait()
    torch.set_num_threads(count)  # torch hands the last number set to every thread that starts later
    return pool

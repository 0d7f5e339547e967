"""Milliseconds of the networks of a space on this machine: measured for some, predicted for the others.

After HAT, Wang et al. 2020, arXiv 2005.14187, section 3.2, whose predictor is a network of three layers on ten numbers.
Here milliseconds are a sum over blocks by their kind and width, fitted by ridge regression.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from restore.layers.mixers import build_mixer
from restore.networks.elastic import Choice, Space

__all__ = ["LatencyPredictor", "measure_round", "rank_correlation"]

_RIDGE = 1e-3
_RUNS = 2


@torch.no_grad()
def measure_round(
    networks: Sequence[Callable[[], nn.Module]], channels: int, side: int, seed: int, device: torch.device
) -> list[float]:
    """Milliseconds of each network for one image, all in turn, in an order that is drawn.

    Each network runs three times, of which the faster of the last two counts. On the processor with one thread this is
    the time that is computed, which others on the machine disturb little; else it is the time on the clock.

    Args:
        networks: functions that make them.
        channels: of the image.
        side: of the image, of the input.
        seed: of the order.
        device: of the image.
    """
    image = torch.rand(1, channels, side, side, device=device)
    found = [0.0] * len(networks)
    for number in np.random.default_rng(seed).permutation(len(networks)):
        found[number] = _milliseconds(networks[number]().eval(), image)
    return found


def _milliseconds(network: nn.Module, image_BCHW: torch.Tensor) -> float:
    with torch.inference_mode():
        network(image_BCHW)
        clock, times = _clock(image_BCHW.device), []
        for _ in range(_RUNS):
            start = clock()
            network(image_BCHW)
            times.append((clock() - start) * 1e3)
        return min(times)


def _clock(device: torch.device) -> Callable[[], float]:
    """Seconds that were computed so far, or that have passed."""
    if device.type == "cpu":
        return time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def synchronised() -> float:
        torch.accelerator.synchronize(device)
        return time.perf_counter()

    return synchronised


class LatencyPredictor:
    """Milliseconds of any network of a space, learnt from those of some.

    Args:
        space: the networks.
        side: of the image, of the input, that was measured.
        choices: the networks that were measured.
        milliseconds: of each.
    """

    def __init__(self, space: Space, side: int, choices: Sequence[Choice], milliseconds: Sequence[float]):
        self.space, self.side = space, side
        rows, wanted = np.stack([self._features(each) for each in choices]), np.asarray(milliseconds)
        self._scale = np.abs(rows).max(axis=0)
        self._scale[self._scale == 0] = 1.0
        weighted = rows / self._scale / wanted[:, None]  # errors count relative to what is predicted
        squares = weighted.T @ weighted
        ridge = _RIDGE * np.trace(squares) / len(squares)
        self._weights = np.linalg.solve(squares + ridge * np.eye(len(squares)), weighted.sum(axis=0))

    def __call__(self, choice: Choice) -> float:
        """Milliseconds."""
        return float(self._features(choice) / self._scale @ self._weights)

    def _features(self, choice: Choice) -> np.ndarray:
        """What the network consists of: how many blocks of each kind, times powers of their widths, for each pixel."""
        space, values, block = self.space, self.space.values(choice), self.space.block(choice)
        dim, depths, mixers = block["embed_dim"], block["depths"], block["mixers"]
        forms = [json.dumps(form) for name in space.axes if name.startswith("mixers.") for _, form in space.axes[name]]
        kinds = {form: number for number, form in enumerate(dict.fromkeys(forms))}
        second = [json.dumps(form) for _, form in space.axes["feed_forward"]]
        of_mixers, of_seconds = np.zeros((len(kinds), 3)), np.zeros((len(second), 3))
        feed_forward = second.index(json.dumps(values["feed_forward"][1]))
        first, last = values["mlp_ratio.0"], values["mlp_ratio.1"]
        total, number, chosen = sum(depths), 0, space.mixers_of(choice)
        for depth in depths:
            for index in range(depth):
                hidden = int(dim * (first + (last - first) * number / max(total - 1, 1)))
                of_mixers[kinds[json.dumps(chosen[index])]] += (1, dim, dim * dim)
                of_seconds[feed_forward] += (1, hidden, hidden * dim)
                number += 1
        multiple = int(np.lcm.reduce([_multiple(json.dumps(each), dim) for each in mixers]))
        padded = -(-self.side // multiple) * multiple
        parts = [1.0, dim, dim * dim, len(depths) * dim * dim, *of_mixers.flatten(), *of_seconds.flatten()]
        return np.asarray(parts) * (padded / self.side) ** 2


@functools.lru_cache(maxsize=1024)
def _multiple(mixer: str, dim: int) -> int:
    """What the sides of an image must be multiples of for a mixer."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return int(np.lcm.reduce(build_mixer(json.loads(mixer), dim).size_multiple))


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's, between -1 and 1."""
    from scipy.stats import spearmanr

    return float(spearmanr(one, other).statistic)

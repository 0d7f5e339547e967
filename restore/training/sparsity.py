"""Dynamic sparsity: throughout a training a fixed share of the weights is zero, and which weights these are changes.

Liu et al. 2022 (SLaK), arXiv 2207.03620, section 3.3, after sparse evolutionary training (Mocanu et al. 2018). How many
weights a layer keeps is decided once, in the first step, by SNIP (Lee et al. 2019, arXiv 1810.02340): as many as it has
among the largest |weight times gradient| of the whole network. Which weights these are is random. Every `every`
iterations the smallest of a layer's weights are dropped, and as many others, chosen at random, start from zero. The
share that is exchanged falls to zero along half a cosine. So a layer never has more weights than at the start.

The masks are in the training state. Saved weights, and their moving average, hold the zeros themselves: a network runs,
folds and is exported without the masks.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from restore.errors import OptionsError, Problem
from restore.training.distribution import unwrapped
from restore.training.trainer import Callback, Trainer

__all__ = ["DynamicSparsity", "layer_counts", "next_mask"]

log = logging.getLogger(__name__)

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


class DynamicSparsity(Callback):
    """Keeps a share of the first network's weights at zero. It works inside the optimizer's steps, by their hooks.

    Args:
        network: the network; weights of its convolutions and linear maps are looked at, no biases and no norms.
        sparsity: share of these weights that is zero, in (0, 1).
        every: iterations between changes of masks; none happens in the last of the run.
        drop: share of a layer's weights that is exchanged by the first change.
        layers: how many weights each layer keeps: "snip", or "uniform" for the same share everywhere.
        only: regular expression; only weights whose name it is found in are made sparse. None: all.
        seed: of what is drawn.

    Raises:
        OptionsError: there is no such weight.
    """

    def __init__(
        self,
        network: nn.Module,
        sparsity: float,
        *,
        every: int = 100,
        drop: float = 0.3,
        layers: Literal["snip", "uniform"] = "snip",
        only: str | None = None,
        seed: int = 0,
    ):
        self.sparsity, self.every, self.drop, self.layers, self.seed = sparsity, every, drop, layers, seed
        self.masks: dict[str, Tensor] = {}
        self.weights = {
            f"{name}.weight".lstrip("."): module.weight
            for name, module in unwrapped(network).named_modules()
            if isinstance(module, _LAYERS) and "weight" in module._parameters and module.weight.requires_grad
        }
        if only is not None:
            self.weights = {name: weight for name, weight in self.weights.items() if re.search(only, name)}
        if not self.weights:
            where, which = (
                ("train.sparse", "") if only is None else ("train.sparse.only", f" with '{only}' in its name")
            )
            raise OptionsError([Problem(where, f"no convolution or linear map that learns{which}.")])

    def go_on(self, trainer: Trainer) -> None:
        """Set the masks to work; on a resumed run the weights agree with them already."""
        optimizer = next(iter(trainer.optimizers.values()))
        for name, mask in self.masks.items():
            self.masks[name] = mask.to(self.weights[name].device)
        self._apply(optimizer, trainer)
        optimizer.register_step_pre_hook(lambda *_: self._before_step())
        optimizer.register_step_post_hook(lambda *_: self._after_step(trainer))

    def state_dict(self) -> dict[str, Any]:
        """The masks, on the processor."""
        return {"masks": {name: mask.cpu() for name, mask in self.masks.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back the masks; a run that was dense so far begins with new ones."""
        saved: Mapping[str, Tensor] = state.get("masks", {})
        if saved and set(saved) != set(self.weights):
            log.warning("train.sparse: other weights were sparse at the checkpoint; masks are drawn anew")
            saved = {}
        self.masks = dict(saved)

    @torch.no_grad()
    def _before_step(self) -> None:
        if not self.masks:
            self._begin()
        for name, mask in self.masks.items():
            weight = self.weights[name]
            if weight.grad is not None:
                weight.grad.mul_(mask)

    @torch.no_grad()
    def _after_step(self, trainer: Trainer) -> None:
        if trainer.due(self.every) and trainer.iteration < trainer.plan.total_iter:
            share = 0.5 * self.drop * (1 + math.cos(math.pi * trainer.iteration / trainer.plan.total_iter))
            for number, (name, weight) in enumerate(self.weights.items()):
                draw = self._generator(trainer.iteration, number)
                self.masks[name] = next_mask(weight, self.masks[name], share, draw)
        self._apply(next(iter(trainer.optimizers.values())), trainer)

    def _begin(self) -> None:
        """Draw the first masks."""
        counts = layer_counts(self.weights, 1 - self.sparsity, self.layers)
        for number, (name, weight) in enumerate(self.weights.items()):
            order = torch.randperm(weight.numel(), generator=self._generator(0, number))
            mask = torch.zeros(weight.numel(), dtype=torch.bool)
            mask[order[: counts[name]]] = True
            self.masks[name] = mask.view(weight.shape).to(weight.device)
            weight.mul_(self.masks[name])
        kept, total = sum(counts.values()), sum(weight.numel() for weight in self.weights.values())
        log.info("sparse: %s of %s weights in %d layers are not zero", f"{kept:,}", f"{total:,}", len(counts))

    @torch.no_grad()
    def _apply(self, optimizer: torch.optim.Optimizer, trainer: Trainer) -> None:
        """Zero what the masks leave out: in the weights, in what the optimizer has of them, and in the average."""
        average = trainer.objective.average
        averaged = {} if average is None else dict(average.network.named_parameters())
        for name, mask in self.masks.items():
            weight = self.weights[name]
            weight.mul_(mask)
            for value in optimizer.state.get(weight, {}).values():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    value.mul_(mask)
            if averaged:
                averaged[name].mul_(mask)

    def _generator(self, iteration: int, number: int) -> torch.Generator:
        """The same on every process, and in a run that was taken up."""
        return torch.Generator().manual_seed((self.seed * 1_000_003 + iteration) * 10_007 + number)


def layer_counts(weights: Mapping[str, Tensor], density: float, how: Literal["snip", "uniform"]) -> dict[str, int]:
    """How many weights each layer keeps, at least one.

    Args:
        weights: of the layers, by name; for SNIP with their gradients.
        density: share of all weights that is kept.
        how: see `DynamicSparsity`.
    """
    if how == "uniform" or any(weight.grad is None for weight in weights.values()):
        return {name: max(1, round(density * weight.numel())) for name, weight in weights.items()}
    merits = {name: (weight * weight.grad).abs().flatten().nan_to_num(0.0) for name, weight in weights.items()}
    joined = torch.cat(list(merits.values()))
    kept = torch.zeros_like(joined, dtype=torch.bool)
    kept[joined.topk(max(1, round(density * len(joined)))).indices] = True
    parts = kept.split([len(merit) for merit in merits.values()])
    return {name: max(1, int(part.sum())) for name, part in zip(weights, parts, strict=True)}


def next_mask(weight: Tensor, mask: Tensor, share: float, draw: torch.Generator) -> Tensor:
    """The mask after a change: `share` of what it keeps, the smallest weights, are dropped, and as many others begin.

    None of those that are dropped begins again at once, so a layer with few zeros changes by no more than these.
    """
    active, absent = mask.flatten().nonzero()[:, 0], (~mask.flatten()).nonzero()[:, 0]
    number = min(int(share * len(active)), len(absent))
    if number == 0:
        return mask
    smallest = weight.flatten()[active].abs().argsort(stable=True)[:number]
    begun = torch.randperm(len(absent), generator=draw)[:number].to(absent.device)
    changed = mask.flatten().clone()
    changed[active[smallest]] = False
    changed[absent[begun]] = True
    return changed.view(mask.shape)

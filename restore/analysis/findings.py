"""Everything that is found out about a network on one image, by name, for the page and for a file of figures."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from restore.analysis import representations
from restore.analysis.attribution import diffusion_index, held_side, integrated_gradients, receptive_field
from restore.analysis.cost import cost_of
from restore.analysis.watching import BlockRun, named_blocks, times_of, watched
from restore.layers.merging import Merging, Plan, merge, merging_of
from restore.layers.tokens import Tokens
from restore.networks import Network
from restore.quality import QualityModel

__all__ = ["Findings", "analyse", "crop_size"]

RESTORER_PX, JUDGE_PX = 48, 192
PATCH_PX = 16
"""Side of the square, in pixels of the input, whose detail is attributed to the pixels of the image."""


@dataclass
class Findings:
    """What was found.

    Attributes:
        image: (H, W, 3) of what was looked at, 0 to 1.
        blocks: one row for each run of a block: names and figures.
        similarity: mean cosine of the attention of two blocks, NaN where their maps have different shapes.
        gradient: (H, W) of the centre by each pixel.
        attribution: (H, W) what each pixel adds.
        figures: single figures by name.
        layers: parameters, multiply-adds and milliseconds of each block, and of all the rest.
        merged: picture of the tokens of each attention after merging, by name.
        kept: picture of the tokens that are kept at each place where some are left out, by name.
    """

    image: np.ndarray
    blocks: list[dict[str, Any]]
    similarity: np.ndarray
    gradient: np.ndarray
    attribution: np.ndarray
    figures: dict[str, float]
    layers: list[dict[str, Any]]
    merged: dict[str, np.ndarray] = field(default_factory=dict)
    kept: dict[str, np.ndarray] = field(default_factory=dict)


def crop_size(network: Network, side_px: int | None = None) -> tuple[int, int]:
    """Rows and columns of the part of an image that is looked at; columns are more, so that layouts can be told."""
    multiple = max(network.spec.size_multiple, getattr(getattr(network, "encoder", None), "size_multiple", 1), 8)
    side = side_px or (JUDGE_PX if isinstance(network, QualityModel) else RESTORER_PX)
    rows = -(-side // multiple) * multiple
    return rows, rows + max(multiple, rows // 3 // multiple * multiple)


def analyse(network: Network, image_BCHW: torch.Tensor, *, num_steps: int = 20, merging: str | None = None) -> Findings:
    """Look at a network in evaluation mode.

    Args:
        network: restores or judges; it is left as it was.
        image_BCHW: one image in [0, 1], of the channels that the network takes, of a size as `crop_size` gives.
        num_steps: of the path of the attribution.
        merging: tokens are merged so in all that is found out; see `restore.layers.merging`.

    Raises:
        OptionsError: there is no attention whose tokens could be merged.
    """
    plain = network
    network = copy.deepcopy(network).eval().requires_grad_(False)
    network = merge(network, merging) if merging else network  # type: ignore[assignment]
    shown = image_BCHW[0].permute(1, 2, 0).expand(-1, -1, 3).numpy()
    image_BCHW = image_BCHW * network.spec.value_range
    called = _Judged(network, image_BCHW) if isinstance(network, QualityModel) else network
    runs = watched(called, image_BCHW)
    center, place = _center(network, image_BCHW)
    field_HW = receptive_field(center, image_BCHW)
    attribution_HW = integrated_gradients(_number(network, called, image_BCHW), image_BCHW, num_steps)
    figures = {
        "diffusion index": diffusion_index(attribution_HW),
        **{f"side of {share:.0%}": held_side(field_HW, place, share) for share in (0.5, 0.95)},
    }
    return Findings(
        image=shown,
        blocks=[_row(run) for run in runs],
        similarity=_similarities(runs),
        gradient=field_HW.numpy(),
        attribution=attribution_HW.numpy(),
        figures={name: float(value) for name, value in figures.items()},
        layers=_layers(called, image_BCHW),
        merged=_merged(plain, image_BCHW, shown, merging) if merging else {},
        kept=_kept(network, image_BCHW, shown),
    )


class _Judged(nn.Module):
    """A judge as a function of images alone, held against the first one where it wants a reference."""

    def __init__(self, network: QualityModel, reference_BCHW: torch.Tensor):
        super().__init__()
        self.network = network
        self.register_buffer("reference_BCHW", reference_BCHW, persistent=False)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.network(x_BCHW, self.reference_BCHW) if self.network.needs_reference else self.network(x_BCHW)


def _row(run: BlockRun) -> dict[str, Any]:
    row: dict[str, Any] = {"name": run.name.removeprefix("network.")}
    if run.tokens is not None:
        row["rank_residual"] = representations.rank_residual(run.tokens)
        row["token_similarity"] = representations.token_similarity(run.tokens)
        row["tokens"] = len(run.tokens)
    if run.attention is not None:
        row["heads"] = len(run.attention.entropy)
        row["entropy"] = float(np.mean(run.attention.entropy))
        row["head_similarity"] = run.attention.head_similarity
        row["distance_px"] = run.attention.distance_px
    return row


def _similarities(runs: list[BlockRun]) -> np.ndarray:
    maps = [run.attention.mean_map for run in runs if run.attention is not None]
    found = np.full((len(maps), len(maps)), np.nan)
    for row, first in enumerate(maps):
        for column, second in enumerate(maps):
            if first.shape == second.shape:
                found[row, column] = representations.map_similarity(first, second)
    return found


def _center(
    network: Network, image_BCHW: torch.Tensor
) -> tuple[Callable[[torch.Tensor], torch.Tensor], tuple[int, int]]:
    """The sum of the channels in the middle of the result, or of a judge's coarsest map, and its place in the image."""
    encoder = getattr(network, "encoder", None) if isinstance(network, QualityModel) else None

    def map_of(x_BCHW: torch.Tensor) -> torch.Tensor:
        return encoder(x_BCHW)[-1] if encoder is not None else network(x_BCHW)

    with torch.no_grad():
        sides = map_of(image_BCHW).shape[2:]
    row, column = (side // 2 for side in sides)
    whole = image_BCHW.shape[2:]
    place = [int((at + 0.5) * wide / side) for at, wide, side in zip((row, column), whole, sides, strict=True)]
    return lambda x_BCHW: map_of(x_BCHW)[0, :, row, column].sum(), (place[0], place[1])


def _number(network: Network, called: nn.Module, image_BCHW: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """What is attributed: a judge's score, or how much detail a restorer makes of the middle of the image."""
    if isinstance(network, QualityModel):
        return lambda x_BCHW: network.score(called(x_BCHW)).sum()
    height, width = image_BCHW.shape[2:]
    scale = network.spec.scale
    top, left, side = ((height - PATCH_PX) // 2 * scale, (width - PATCH_PX) // 2 * scale, PATCH_PX * scale)

    def detail(x_BCHW: torch.Tensor) -> torch.Tensor:
        patch = network(x_BCHW)[..., top : top + side, left : left + side]
        return patch.diff(dim=-1).abs().sum() + patch.diff(dim=-2).abs().sum()

    return detail


def _layers(called: nn.Module, image_BCHW: torch.Tensor) -> list[dict[str, Any]]:
    cost = cost_of(called, image_BCHW)
    seconds, whole = times_of(called, image_BCHW)
    rows: list[dict[str, Any]] = []
    for name, block in named_blocks(called).items():
        parameters = sum(each.numel() for each in block.parameters())
        macs = cost.macs_by_module.get(name, 0)
        rows.append({"name": name, "parameters": parameters, "macs": macs, "ms": 1e3 * seconds[name]})
    rest = {
        "name": "all the rest",
        "parameters": cost.parameters - sum(row["parameters"] for row in rows),
        "macs": cost.macs - sum(row["macs"] for row in rows),
        "ms": max(1e3 * whole - sum(row["ms"] for row in rows), 0.0),
    }
    return [{**row, "name": row["name"].removeprefix("network.")} for row in [*rows, rest]]


def _kept(network: Network, image_BCHW: torch.Tensor, shown_HWC: np.ndarray) -> dict[str, np.ndarray]:
    """The image with the patches in the dark that an encoder leaves out, for each place where it does."""
    kept_tokens = getattr(getattr(network, "encoder", None), "kept_tokens", None)
    if kept_tokens is None:
        return {}
    height, width = image_BCHW.shape[2:]
    with torch.no_grad():
        masks = kept_tokens(image_BCHW)
    pictures = {}
    for number, mask_BHW in enumerate(masks, 1):
        whole_HW = nn.functional.interpolate(mask_BHW[:1, None].float(), (height, width))[0, 0].numpy()
        name = f"selection {number}: {int(mask_BHW[0].sum())} of {mask_BHW[0].numel()} tokens"
        pictures[name] = shown_HWC * (0.25 + 0.75 * whole_HW[..., None])
    return pictures


class _Recorded(Merging):
    """Merges as another does, and keeps the plans."""

    def __init__(self, merging: Merging):
        self.merging = merging
        self.plans: list[tuple[Tokens, Plan]] = []

    def plan(self, tokens: Tokens) -> Plan | None:
        plan = self.merging.plan(tokens)
        if plan is not None:
            self.plans.append((tokens, plan))
        return plan


def _merged(network: Network, image_BCHW: torch.Tensor, shown_HWC: np.ndarray, how: str) -> dict[str, np.ndarray]:
    """The image as each attention's merged tokens would paint it: every group in its mean colour."""
    merging, whole = merging_of(how)
    recorded = _Recorded(merging)
    twin = merge(network, (recorded, whole))
    with torch.no_grad():
        called = _Judged(twin, image_BCHW) if isinstance(twin, QualityModel) else twin
        called(image_BCHW)
    pictures = {}
    for number, (tokens, plan) in enumerate(recorded.plans, 1):
        if tokens.grid is None or len(tokens.x_BNC) > 1:
            continue
        small = torch.nn.functional.interpolate(
            torch.from_numpy(shown_HWC.copy()).permute(2, 0, 1)[None], tokens.grid, mode="area"
        )
        colours = torch.cat([small.new_zeros(1, tokens.num_prefix, 3), small.flatten(2).transpose(1, 2)], dim=1)
        painted = plan.spread(plan.merge(colours))[0, tokens.num_prefix :].unflatten(0, tokens.grid)
        pictures[f"attention {number}: {plan.weight_BM.shape[1]} of {tokens.x_BNC.shape[1]} tokens"] = painted.numpy()
    return pictures

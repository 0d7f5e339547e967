"""Fewer tokens for attention, without training: alike ones are merged before it, and what it gives is spread over them.

    tome:0.3            of an image's tokens, three in ten are merged into their likest neighbours in attention
    tome:0.3:blocks     the same around whole blocks, feed-forward networks included
    cluster:28x28       attention is among 28 x 28 means of tokens that lie near each other and are alike

Merging of pairs: ToMe, Bolya et al. 2022, arXiv 2210.09461, written from the paper; that the grid is restored after
each attention follows Bolya & Hoffman 2023, arXiv 2303.17604. Clusters: Expedit, Liang et al. 2022, arXiv 2210.01035,
github.com/Expedit-LargeScale-Vision-Transformer/Expedit-SAM (Apache-2.0); here they are made for each attention anew,
weights sum to one, and the same weights make the means and spread the results.

Whatever is merged, each token keeps its own residual stream: it is given the change of what it went into. Tokens that
stand for several count as such in attention (`Tokens.weight_BN`), so that merging equal tokens changes nothing.

A module takes part by a method, as `merged` of `restore.layers.block.MetaFormerBlock`.

Legend: B batch, N tokens, M tokens after merging, K centres near a token, C channels.
"""

from __future__ import annotations

import copy
import re
from abc import ABC, abstractmethod
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import nn

from restore.errors import OptionsError
from restore.layers.exportable import unflattened
from restore.layers.mixers.base import TokenMixer
from restore.layers.tokens import Tokens

__all__ = [
    "ClusterMerging",
    "Mergeable",
    "MergedBlock",
    "MergedMixer",
    "Merging",
    "PairMerging",
    "Plan",
    "merge",
    "merging_of",
    "takes_sets",
]

_SIMILARITIES = 2**22  # that are held at once
_FORMS = "tome:SHARE (at most 0.5) or cluster:ROWSxCOLUMNS, with or without :blocks after it"


class Plan(ABC):
    """Which tokens are merged. Prefix tokens are not."""

    @abstractmethod
    def merge(self, values_BNC: torch.Tensor) -> torch.Tensor:
        """(B, M, C): the means of what is merged."""

    @abstractmethod
    def spread(self, values_BMC: torch.Tensor) -> torch.Tensor:
        """(B, N, C): to each token what it was merged into."""

    @property
    @abstractmethod
    def weight_BM(self) -> torch.Tensor:
        """How many tokens each stands for; the sum is N."""


class Merging(ABC):
    """How tokens are merged."""

    @abstractmethod
    def plan(self, tokens: Tokens) -> Plan | None:
        """What is merged of these tokens; None: nothing.

        Raises:
            ValueError: clusters are wanted of tokens that do not lie on a grid.
        """


class PairMerging(Merging):
    """Bipartite matching: every second token may go into the likest of the others; those that are likest do.

    Args:
        share: of the patch tokens that are merged away, 0 to 0.5.
    """

    def __init__(self, share: float):
        if not 0 <= share <= 0.5:
            raise ValueError(f"{share:g} of the tokens cannot be merged into the others: at most 0.5")
        self.share = share

    def plan(self, tokens: Tokens) -> Plan | None:
        """Likeness is the cosine of two tokens (ToMe takes that of their keys, which are not there yet)."""
        patches_BNC = tokens.patches_BNC
        num_patches = patches_BNC.shape[1]
        count = int(self.share * num_patches + 1e-9)
        if count == 0:
            return None
        unit_BNC = F.normalize(patches_BNC, dim=-1)
        likeness_BS, target_BS = _likest(unit_BNC[:, ::2], unit_BNC[:, 1::2])
        gone_BR = likeness_BS.topk(count, dim=1).indices
        first = tokens.num_prefix
        sources_BR, targets_BR = first + 2 * gone_BR, first + 2 * target_BS.gather(1, gone_BR) + 1
        kept_BN = gone_BR.new_ones(len(gone_BR), first + num_patches).scatter_(1, sources_BR, 0)
        place_BN = kept_BN.cumsum(dim=1) - 1
        place_BN.scatter_(1, sources_BR, place_BN.gather(1, targets_BR))
        return _Places(place_BN, kept_BN.shape[1] - count, tokens.weight_BN)


class ClusterMerging(Merging):
    """Means of tokens that lie near each other and are alike, as superpixels are made.

    Centres start as means of cells of the grid. Each token is shared out among the nine centres around it by the
    softmax of minus the squared distance, in units of its mean times `sharpness`, and the centres become the means of
    what they got; this is repeated.

    Args:
        rows: of centres; no more than rows of tokens are made.
        columns: of centres.
        num_rounds: how often centres become means.
        sharpness: how strongly the nearest centre is preferred; infinity: nothing else counts.
    """

    def __init__(self, rows: int, columns: int, num_rounds: int = 1, sharpness: float = 10.0):
        if min(rows, columns, num_rounds) < 1:
            raise ValueError(f"{rows} x {columns} clusters: there must be at least one")
        self.size, self.num_rounds, self.sharpness = (rows, columns), num_rounds, sharpness

    def plan(self, tokens: Tokens) -> Plan | None:
        """None where there are no more tokens than centres."""
        map_BCHW = tokens.map_BCHW()
        height, width = map_BCHW.shape[2:]
        rows, columns = min(self.size[0], height), min(self.size[1], width)
        if (rows, columns) == (height, width):
            return None
        near_NK, exists_NK = _centres_near((height, width), (rows, columns), map_BCHW.device)
        patches_BNC = tokens.patches_BNC
        centres_BMC = F.adaptive_avg_pool2d(map_BCHW, (rows, columns)).flatten(2).transpose(1, 2)
        for number in range(self.num_rounds):
            share_BNK = self._shares(patches_BNC, centres_BMC, near_NK, exists_NK)
            plan = _Shares(share_BNK, near_NK, rows * columns, tokens)
            if number + 1 < self.num_rounds:
                centres_BMC = plan.merge(tokens.x_BNC)[:, tokens.num_prefix :]
        return plan

    def _shares(
        self, patches_BNC: torch.Tensor, centres_BMC: torch.Tensor, near_NK: torch.Tensor, exists_NK: torch.Tensor
    ) -> torch.Tensor:
        distances = []
        for near_N in near_NK.unbind(1):
            distances.append((patches_BNC - centres_BMC[:, near_N]).square().sum(dim=-1))
        distance_BNK = torch.stack(distances, dim=-1).float()
        unit = distance_BNK.mean(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        nearer_BNK = (distance_BNK / unit).masked_fill(~exists_NK, torch.inf)
        if self.sharpness == float("inf"):
            shares = F.one_hot(nearer_BNK.argmin(dim=-1), nearer_BNK.shape[-1])
        else:
            shares = (-self.sharpness * nearer_BNK).softmax(dim=-1)
        return shares.to(patches_BNC.dtype)


class _Places(Plan):
    """Each token goes into one place.

    Args:
        place_BN: of each token among the M.
        num_places: M.
        weight_BN: how many each token stands for; None: one.
    """

    def __init__(self, place_BN: torch.Tensor, num_places: int, weight_BN: torch.Tensor | None):
        self._place_BN, self._num_places = place_BN, num_places
        weight_BN = torch.ones_like(place_BN, dtype=torch.float32) if weight_BN is None else weight_BN
        self._own_BN = weight_BN
        self._weight_BM = weight_BN.new_zeros(len(place_BN), num_places).scatter_add_(1, place_BN, weight_BN)

    @property
    def weight_BM(self) -> torch.Tensor:
        return self._weight_BM

    def merge(self, values_BNC: torch.Tensor) -> torch.Tensor:
        weighted_BNC = values_BNC * self._own_BN[..., None].to(values_BNC.dtype)
        index_BNC = self._place_BN[..., None].expand_as(weighted_BNC)
        sum_BMC = weighted_BNC.new_zeros(len(index_BNC), self._num_places, index_BNC.shape[-1])
        return sum_BMC.scatter_add_(1, index_BNC, weighted_BNC) / self._weight_BM[..., None].to(sum_BMC.dtype)

    def spread(self, values_BMC: torch.Tensor) -> torch.Tensor:
        return values_BMC.gather(1, self._place_BN[..., None].expand(-1, -1, values_BMC.shape[-1]))


class _Shares(Plan):
    """Each token is shared out among the centres near it, after the prefix.

    Args:
        share_BNK: how much of each patch goes to each of the K centres; the sum over K is 1.
        near_NK: which these are.
        num_centres: of the whole grid.
        tokens: whose prefix and weights count.
    """

    def __init__(self, share_BNK: torch.Tensor, near_NK: torch.Tensor, num_centres: int, tokens: Tokens):
        self._share_BNK, self._near_NK, self._num_centres = share_BNK, near_NK, num_centres
        self._num_prefix = tokens.num_prefix
        weight_BN = tokens.weight_BN
        own_BN = share_BNK.new_ones(tokens.x_BNC.shape[:2]) if weight_BN is None else weight_BN.to(share_BNK.dtype)
        self._taken_BNK = share_BNK * own_BN[:, self._num_prefix :, None]
        self._prefix_weight_BP = own_BN[:, : self._num_prefix]
        centres_BM = share_BNK.new_zeros(len(share_BNK), num_centres)
        for taken_BN, near_N in zip(self._taken_BNK.unbind(2), near_NK.unbind(1), strict=True):
            centres_BM.index_add_(1, near_N, taken_BN)
        self._centre_weight_BM = centres_BM.clamp_min(torch.finfo(centres_BM.dtype).tiny)

    @property
    def weight_BM(self) -> torch.Tensor:
        return torch.cat([self._prefix_weight_BP, self._centre_weight_BM], dim=1)

    def merge(self, values_BNC: torch.Tensor) -> torch.Tensor:
        patches_BNC = values_BNC[:, self._num_prefix :]
        sum_BMC = patches_BNC.new_zeros(len(patches_BNC), self._num_centres, patches_BNC.shape[-1])
        for taken_BN, near_N in zip(self._taken_BNK.unbind(2), self._near_NK.unbind(1), strict=True):
            sum_BMC.index_add_(1, near_N, patches_BNC * taken_BN[..., None].to(patches_BNC.dtype))
        means_BMC = sum_BMC / self._centre_weight_BM[..., None].to(sum_BMC.dtype)
        return torch.cat([values_BNC[:, : self._num_prefix], means_BMC], dim=1)

    def spread(self, values_BMC: torch.Tensor) -> torch.Tensor:
        centres_BMC = values_BMC[:, self._num_prefix :]
        pairs = zip(self._share_BNK.unbind(2), self._near_NK.unbind(1), strict=True)
        spread = [centres_BMC[:, near_N] * share_BN[..., None].to(centres_BMC.dtype) for share_BN, near_N in pairs]
        return torch.cat([values_BMC[:, : self._num_prefix], sum(spread[1:], spread[0])], dim=1)


class MergedMixer(nn.Module):
    """A mixer that sees merged tokens."""

    def __init__(self, mixer: nn.Module, merging: Merging):
        super().__init__()
        self.mixer, self.merging = mixer, merging

    def forward(self, x: torch.Tensor | Tokens) -> torch.Tensor:
        """(B, H, W, C) of a map, (B, N, C) of tokens."""
        tokens = x if isinstance(x, Tokens) else Tokens.of_map(x)
        plan = self.merging.plan(tokens)
        if plan is None:
            return self.mixer(x)
        mixed_BNC = plan.spread(self.mixer(merged_tokens(tokens, plan)))
        return mixed_BNC if isinstance(x, Tokens) else unflattened(mixed_BNC, 1, x.shape[1:3])


class MergedBlock(nn.Module):
    """A block that sees merged tokens; what it changes is given to each of them."""

    def __init__(self, block: nn.Module, merging: Merging):
        super().__init__()
        self.block, self.merging = block, merging

    def forward(self, x: Any) -> Any:
        """A map or tokens, as they come."""
        tokens = x if isinstance(x, Tokens) else Tokens.of_map(x)
        plan = self.merging.plan(tokens)
        if plan is None:
            return self.block(x)
        merged = merged_tokens(tokens, plan)
        changed_BNC = tokens.x_BNC + plan.spread(self.block(merged).x_BNC - merged.x_BNC)
        return x.with_values(changed_BNC) if isinstance(x, Tokens) else unflattened(changed_BNC, 1, x.shape[1:3])


def merged_tokens(tokens: Tokens, plan: Plan) -> Tokens:
    """The means, which lie on no grid, with their weights."""
    return Tokens(plan.merge(tokens.x_BNC), None, tokens.num_prefix, plan.weight_BM)


@runtime_checkable
class Mergeable(Protocol):
    """A module whose attention can see merged tokens."""

    def merged(self, merging: Merging, *, whole: bool) -> nn.Module | None:
        """What takes the module's place, or None where it cannot; `whole`: the feed-forward network sees them, too."""


def takes_sets(mixer: nn.Module) -> bool:
    """Whether a mixer reaches everywhere, and takes tokens that lie on no grid and stand for several."""
    if not isinstance(mixer, TokenMixer) or mixer.grid_px is not None or mixer.halo_px is not None:
        return False
    weight = next(mixer.parameters())
    few_BNC = weight.new_zeros(1, 4, mixer.dim)
    try:
        with torch.no_grad():
            mixer(Tokens(few_BNC, weight_BN=few_BNC.new_ones(1, 4)))
    except ValueError:  # it needs the grid
        return False
    return True


def merging_of(text: str) -> tuple[Merging, bool]:
    """`tome:SHARE` or `cluster:ROWSxCOLUMNS`, and whether `:blocks` stands after it.

    Raises:
        OptionsError: anything else.
    """
    found = re.fullmatch(r"(tome):([\d.]+)(:blocks)?|(cluster):(\d+)x(\d+)(:blocks)?", text)
    try:
        if found and found[1]:
            return PairMerging(float(found[2])), bool(found[3])
        if found and found[4]:
            return ClusterMerging(int(found[5]), int(found[6])), bool(found[7])
        raise ValueError(f"this is not {_FORMS}")
    except ValueError as error:
        raise OptionsError(f"merge is '{text}': {error}.") from None


def merge(network: nn.Module, how: str | tuple[Merging, bool]) -> nn.Module:
    """A copy of `network` in evaluation mode whose attention sees merged tokens.

    Args:
        network: what is copied.
        how: as `merging_of` reads it, or what that gives.

    Raises:
        OptionsError: the text says something else, or the network has no attention that could.
    """
    merging, whole = merging_of(how) if isinstance(how, str) else how
    network = copy.deepcopy(network).eval()
    if not _merge_in(network, merging, whole):
        raise OptionsError(
            f"merge is '{how}', but {type(network).__name__} has no attention of all tokens of an image for it. (It "
            "may attend in windows only, or know places by a table: merged tokens have none.)"
        )
    return network


def _merge_in(module: nn.Module, merging: Merging, whole: bool) -> int:
    """Replace parts, the outermost that can be; returns how many."""
    count = 0
    for name, child in module._modules.items():
        if child is None:
            continue
        replacement = child.merged(merging, whole=whole) if isinstance(child, Mergeable) else None
        if replacement is None:
            count += _merge_in(child, merging, whole)
        else:
            module._modules[name] = replacement
            count += 1
    return count


def _likest(sources_BSC: torch.Tensor, targets_BTC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each source the largest product with a target, and which one it is, (B, S) each."""
    at_once = max(1, _SIMILARITIES // (len(sources_BSC) * targets_BTC.shape[1]))
    turned_BCT = targets_BTC.transpose(1, 2)
    best = [(part_BSC @ turned_BCT).max(dim=-1) for part_BSC in sources_BSC.split(at_once, dim=1)]
    return torch.cat([each.values for each in best], dim=1), torch.cat([each.indices for each in best], dim=1)


def _centres_near(
    size: tuple[int, int], centres: tuple[int, int], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each place of a grid the nine centres around it, by number, and whether there is such a centre, (N, 9)."""
    sides = []
    for side, count in zip(size, centres, strict=True):
        own = torch.arange(side, device=device) * count // side
        sides.append(own[:, None] + torch.arange(-1, 2, device=device))
    rows_H3, columns_W3 = sides
    exists = [(each >= 0) & (each < count) for each, count in zip(sides, centres, strict=True)]
    rows, columns = rows_H3.clamp(0, centres[0] - 1), columns_W3.clamp(0, centres[1] - 1)
    number = rows[:, None, :, None] * centres[1] + columns[None, :, None, :]
    exists_HW33 = exists[0][:, None, :, None] & exists[1][None, :, None, :]
    return number.flatten(0, 1).flatten(1), exists_HW33.flatten(0, 1).flatten(1)

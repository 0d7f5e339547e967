"""Boxes: rectangles along the axes, (..., 4), as corners left, top, right, bottom, or as centre x, y, width, height."""

from __future__ import annotations

import torch

__all__ = ["box_areas", "generalised_iou", "intersections", "iou", "to_centres", "to_corners"]


def to_corners(centres: torch.Tensor) -> torch.Tensor:
    """Left, top, right and bottom of centre x, y, width and height."""
    middle, half = centres[..., :2], centres[..., 2:] / 2
    return torch.cat([middle - half, middle + half], dim=-1)


def to_centres(corners: torch.Tensor) -> torch.Tensor:
    """Centre x, y, width and height of left, top, right and bottom."""
    low, high = corners[..., :2], corners[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def box_areas(corners: torch.Tensor) -> torch.Tensor:
    """Width times height; 0 for a box that is inside out."""
    return (corners[..., 2:] - corners[..., :2]).clamp(min=0).prod(dim=-1)


def intersections(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The areas that boxes, as corners, have in common; the two are broadcast against each other."""
    low, high = torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])
    return (high - low).clamp(min=0).prod(dim=-1)


def iou(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Intersection over union in [0, 1] of boxes as corners, broadcast; 0 where both are empty."""
    common = intersections(one, other)
    union = box_areas(one) + box_areas(other) - common
    return common / union.clamp(min=torch.finfo(union.dtype).tiny)


def generalised_iou(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Intersection over union, less the share of the smallest box around both that neither fills; in (-1, 1].

    Rezatofighi et al. 2019, arXiv 1902.09630, algorithm 1. Boxes as corners, broadcast.
    """
    common = intersections(one, other)
    union = box_areas(one) + box_areas(other) - common
    tiny = torch.finfo(union.dtype).tiny
    low, high = torch.minimum(one[..., :2], other[..., :2]), torch.maximum(one[..., 2:], other[..., 2:])
    around = (high - low).clamp(min=0).prod(dim=-1)
    return common / union.clamp(min=tiny) - (around - union) / around.clamp(min=tiny)

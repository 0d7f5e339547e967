"""The page of an analysis, and its figures as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from restore.analysis.findings import PATCH_PX, Findings
from restore.images import encode_image
from restore.reports import charts
from restore.reports.pages import fill_page
from restore.reports.pictures import Picture

__all__ = ["figures", "render"]

_SHOWN_PX = 384  # least width of a picture


def render(found: Findings, title: str, facts: Sequence[str]) -> str:
    """The page as text."""
    total = sum(row["macs"] for row in found.layers) or 1
    return fill_page(
        "restore.analysis",
        "analysis.html",
        title=title,
        facts=facts,
        tiles=_tiles(found),
        sections=[each for each in (_looks(found), _depth(found), _attention(found), *_tokens(found)) if each],
        layers=[{**row, "share": row["macs"] / total} for row in found.layers],
        blocks=found.blocks,
    )


def figures(found: Findings) -> str:
    """Everything but the pictures."""
    content = {
        "figures": found.figures,
        "blocks": found.blocks,
        "layers": found.layers,
        "attention_similarity": [[None if np.isnan(x) else float(x) for x in row] for row in found.similarity],
    }
    return json.dumps(content, indent=2) + "\n"


def _tiles(found: Findings) -> list[dict[str, str]]:
    residuals = [row["rank_residual"] for row in found.blocks if "rank_residual" in row]
    tiles = [
        (
            "Receptive field",
            f"{found.figures['side of 95%']:.0f}",
            "px",
            "side of the square with 95 % of the gradient",
        ),
        ("Diffusion index", f"{found.figures['diffusion index']:.1f}", "", "0: one pixel counts, 100: all alike"),
    ]
    if residuals:
        tiles.append(("Rank residual", f"{residuals[-1]:.3f}", "", "of the last block; 0: all tokens are the same"))
    tiles.append(("Multiply-adds", f"{sum(row['macs'] for row in found.layers) / 1e9:.3f}", "G", "for what is shown"))
    return [dict(zip(("name", "value", "unit", "text"), tile, strict=True)) for tile in tiles]


def _looks(found: Findings) -> dict[str, Any]:
    half, most = (found.figures[f"side of {share}"] for share in ("50%", "95%"))
    return {
        "title": "What it looks at",
        "text": "Which pixels of the image the network's answer depends on.",
        "pictures": [
            _picture("The image", found.image),
            _picture(
                "Effective receptive field",
                _heat(found.gradient, found.image),
                f"Gradient of the middle of the result. {half:.0f} px hold half of it, {most:.0f} px 95 %.",
            ),
            _picture(
                "Local attribution",
                _heat(np.abs(found.attribution), found.image),
                f"What each pixel adds on the way from a blurred image: to the detail of the middle {PATCH_PX} x "
                f"{PATCH_PX} px, or to a judge's score. Diffusion index {found.figures['diffusion index']:.1f}.",
            ),
        ],
        "charts": [],
    }


def _depth(found: Findings) -> dict[str, Any] | None:
    def curve(key: str, label: str) -> str:
        points = [(number, row[key]) for number, row in enumerate(found.blocks, 1) if key in row]
        return charts.curve(points, ("block", label)) if points else ""

    return {
        "title": "Through the depth",
        "text": "Whether tokens stay different from each other as they go from block to block.",
        "pictures": [],
        "charts": [
            {
                "title": "Rank residual",
                "chart": curve("rank_residual", "residual"),
                "text": "Distance from the nearest set of equal tokens, relative. Attention alone makes it fall doubly "
                "exponentially; shortcuts hold it.",
            },
            {
                "title": "Cosine of two tokens",
                "chart": curve("token_similarity", "cosine"),
                "text": "Mean over all pairs; near 1 they have been smoothed into one.",
            },
        ],
    }


def _attention(found: Findings) -> dict[str, Any] | None:
    attending = [row for row in found.blocks if "entropy" in row]
    if not attending:
        return None
    numbered = [(number, row) for number, row in enumerate(found.blocks, 1) if "entropy" in row]
    dots = [
        charts.Dot(number, px, f"{row['name']}, head {head}: {px:.1f} px", kind="many" if row["heads"] > 1 else "own")
        for number, row in numbered
        for head, px in enumerate(row["distance_px"], 1)
    ]
    seen = [
        {
            "title": "How far heads look",
            "chart": charts.scatter(dots, "block", "distance [px]", height=260),
            "text": "Mean distance between a token and what it attends to.",
        }
    ]
    for key, title, text in (
        ("entropy", "How evenly they look", "0: at one token; 1: at all alike."),
        ("head_similarity", "Cosine of two heads", "1: the heads of a block do the same."),
    ):
        points = [(number, row[key]) for number, row in numbered]
        seen.append({"title": title, "chart": charts.curve(points, ("block", title.lower())), "text": text})
    matrix = np.clip(np.nan_to_num(found.similarity), 0, 1)
    text = (
        "Mean cosine of the attention of two blocks, of the same head and query; white is 1. Dark: nothing alike, or "
    )
    text += "maps of another shape."
    pictures = [_picture("Attention of two blocks", _coloured(matrix), text, square=True)] if len(matrix) > 1 else []
    return {"title": "Attention", "text": "Where the heads of each block look.", "charts": seen, "pictures": pictures}


def _tokens(found: Findings) -> list[dict[str, Any]]:
    sections = [
        ("Merged tokens", "Each group of merged tokens in its mean colour.", found.merged),
        ("Kept tokens", "What is dark takes part no more from there on.", found.kept),
    ]
    return [
        {"title": title, "text": text, "charts": [], "pictures": [_picture(*each) for each in pictures.items()]}
        for title, text, pictures in sections
        if pictures
    ]


def _picture(title: str, pixels: np.ndarray, text: str = "", *, square: bool = False) -> dict[str, Any]:
    factor = max(1, -(-_SHOWN_PX // pixels.shape[1]))
    enlarged = np.clip(pixels, 0, 1).repeat(factor, 0).repeat(factor, 1)
    data = encode_image((enlarged * 255 + 0.5).astype(np.uint8), ".webp", quality=40, lossless=True)
    return {"title": title, "picture": Picture(title, "image/webp", data), "text": text, "square": square}


def _heat(values_HW: np.ndarray, image_HWC: np.ndarray) -> np.ndarray:
    """Values, by their square roots, over the image in dark grey."""
    strength = np.sqrt(values_HW / max(float(values_HW.max()), 1e-30))
    return np.maximum(0.35 * image_HWC.mean(axis=2, keepdims=True), _coloured(strength))


def _coloured(values: np.ndarray) -> np.ndarray:
    """(H, W) in [0, 1] as colours from black to white."""
    steps = (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
    return cv2.applyColorMap(steps, cv2.COLORMAP_INFERNO)[..., ::-1].astype(np.float32) / 255

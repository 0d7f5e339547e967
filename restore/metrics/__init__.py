"""Image quality: how far a restored image is from its reference, or how natural it looks by itself.

    psnr(restored, reference, border_px=4, luma=True)
    ssim(restored, reference, **PROTOCOLS["swinir_sr"].arguments(scale=4))
    METRICS.bind({"type": "calculate_psnr", "crop_border": 4})(restored, reference)

Arrays give a float, (B, C, H, W) tensors one score for each image; see `restore.metrics.inputs`.

The names below are imported when they are first used: PSNR and SSIM of 8-bit arrays need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from restore.registry import METRICS

if TYPE_CHECKING:
    from restore.metrics.binding import BoundMetric, bind_metrics
    from restore.metrics.derived import ms_ssim, psnr_b
    from restore.metrics.fidelity import psnr, ssim
    from restore.metrics.judged import iqt, triq
    from restore.metrics.natural import brisque, niqe
    from restore.metrics.perceptual import dists, lpips
    from restore.metrics.protocols import PROTOCOLS, Protocol, protocol
    from restore.metrics.registration import Traits, metric, traits
    from restore.metrics.structural import fsim, gmsd, vif

_LAZY = {
    **dict.fromkeys(("BoundMetric", "bind_metrics"), "binding"),
    **dict.fromkeys(("ms_ssim", "psnr_b"), "derived"),
    **dict.fromkeys(("psnr", "ssim"), "fidelity"),
    **dict.fromkeys(("iqt", "triq"), "judged"),
    **dict.fromkeys(("brisque", "niqe"), "natural"),
    **dict.fromkeys(("dists", "lpips"), "perceptual"),
    **dict.fromkeys(("PROTOCOLS", "Protocol", "protocol"), "protocols"),
    **dict.fromkeys(("Traits", "metric", "traits"), "registration"),
    **dict.fromkeys(("fsim", "gmsd", "vif"), "structural"),
}

__all__ = [
    "METRICS",
    "PROTOCOLS",
    "BoundMetric",
    "Protocol",
    "Traits",
    "bind_metrics",
    "brisque",
    "dists",
    "fsim",
    "gmsd",
    "iqt",
    "lpips",
    "metric",
    "ms_ssim",
    "niqe",
    "protocol",
    "psnr",
    "psnr_b",
    "ssim",
    "traits",
    "triq",
    "vif",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"restore.metrics.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'restore.metrics' has no attribute '{name}'")

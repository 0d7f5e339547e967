"""Image quality: how far a restored image is from its reference, or how natural it looks by itself.

    psnr(restored, reference, border_px=4, luma=True)
    ssim(restored, reference, **PROTOCOLS["swinir_sr"].arguments(scale=4))
    METRICS.bind({"type": "calculate_psnr", "crop_border": 4})(restored, reference)

Arrays give a float, (B, C, H, W) tensors one score for each image; see `restore.metrics.inputs`.
"""

from restore.metrics.binding import BoundMetric, bind_metrics
from restore.metrics.fidelity import ms_ssim, psnr, psnr_b, ssim
from restore.metrics.judged import iqt, triq
from restore.metrics.natural import brisque, niqe
from restore.metrics.perceptual import dists, lpips
from restore.metrics.protocols import PROTOCOLS, Protocol, protocol
from restore.metrics.registration import Traits, metric, traits
from restore.metrics.structural import fsim, gmsd, vif
from restore.registry import METRICS

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

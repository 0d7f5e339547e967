"""What traiNNer-redux's components are called here, by their names in small letters, which it takes in any case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["DATASETS", "DISCRIMINATORS", "INTERPOLATIONS", "LOSSES", "METRICS", "NO_SUCH", "OPTIMIZERS",
           "SCHEDULERS", "Loss"]  # fmt: skip


class Loss(NamedTuple):
    """A loss here.

    Attributes:
        type: its name.
        key: where it stands in `train`.
        defaults: values of arguments that a file leaves out, where ours are others.
        renamed: arguments that have another name here.
        fixed: arguments that it does not have here: the value that is meant by it.
    """

    type: str
    key: str
    defaults: Mapping[str, Any] = {}
    renamed: Mapping[str, str] = {}
    fixed: Mapping[str, Any] = {}


_PERCEPTUAL = Loss(
    "PerceptualLoss",
    "perceptual_opt",
    defaults={
        "layer_weights": {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1, "conv4_4": 1, "conv5_4": 1},
        "criterion": "charbonnier",
        "padding": "replicate",
    },
    renamed={"loss_weight": "perceptual_weight"},
    fixed={"w_lambda": 0.01, "alpha": None, "num_proj_fd": 256, "phase_weight_fd": 1.0, "stride_fd": 1, "clip_min": 0,
           "antialiased": False, "verbose_logging": False},
)  # fmt: skip

LOSSES = {
    "l1loss": Loss("L1Loss", "l1_opt"),
    "mseloss": Loss("MSELoss", "mse_opt"),
    "charbonnierloss": Loss("CharbonnierLoss", "charbonnier_opt"),
    "psnrloss": Loss("PSNRLoss", "psnr_opt", renamed={"to_y": "toY"}),
    "fftloss": Loss("FFTLoss", "fft_opt"),
    "mssimloss": Loss(
        "MSSIMLoss",
        "mssim_opt",
        fixed={"channels": 3, "downsample": False, "is_prod": True, "color_space": "yiq"},
    ),
    "hsluvloss": Loss("HSLuvLoss", "hsluv_opt", fixed={"downscale_factor": 1, "blur_strength": 0}),
    "perceptualloss": _PERCEPTUAL._replace(defaults={**_PERCEPTUAL.defaults, "float32": True}),
    "perceptualfp16loss": _PERCEPTUAL,
    "ldlloss": Loss("L1Loss", "ldl_opt", fixed={"criterion": "l1"}),
    "ganloss": Loss("GANLoss", "gan_opt", defaults={"gan_type": "vanilla"}),
}  # fmt: skip

_DISTS = "DISTSLoss here clips images to [0, 1] first. Write dists_opt: {type: DISTSLoss, loss_weight: ...} in train"
NO_SUCH = {
    "distsloss": _DISTS,
    "adistsloss": _DISTS,
    "ssimloss": "SSIMLoss here is of RGB. Write ssim_opt: {type: SSIMLoss, loss_weight: ...} in train",
    "colorloss": "The nearest is ColourLoss: write colour_opt: {type: ColourLoss, loss_weight: ...} in train",
    "averageloss": "The nearest is ColourLoss: write colour_opt: {type: ColourLoss, loss_weight: ...} in train",
    "ffloss": "The nearest is FFTLoss: write fftloss",
    "sobeledgeloss": "The nearest is EdgeLoss: write edge_opt: {type: EdgeLoss, loss_weight: ...} in train",
    **dict.fromkeys(
        ("aesoploss", "bcewithlogitsdiceloss", "bicubicloss", "contextualloss", "cosimloss", "fliploss",
         "gradientvarianceloss", "linedistillerloss", "lumaloss", "msssiml1loss", "multiscaleganloss", "nccloss",
         "perceptualanimeloss", "structuretextureloss"),
        "Nothing here is like it",
    ),
}  # fmt: skip
"""Losses that are not here, and what to write instead; those of weight 0 are left out."""

DATASETS = {
    "pairedimagedataset": "PairedImageDataset",
    "singleimagedataset": "SingleImageDataset",
    "singlelqdataset": "SingleImageDataset",
    "realesrgandataset": "RealESRGANDataset",
}
DISCRIMINATORS = {
    "dunet": "DUnet",
    "unetdiscriminatorsn": "UNetDiscriminatorSN",
    "vggstylediscriminator": "VGGStyleDiscriminator",
}
METRICS = {
    "calculate_psnr": "calculate_psnr",
    "calculate_ssim": "calculate_ssim",
    "calculate_lpips": "lpips",
    "calculate_dists": "dists",
    "calculate_topiq": "pyiqa:topiq_fr",
}
OPTIMIZERS = {name.lower(): name for name in ("Adam", "AdamW", "NAdam", "StableAdamW", "SOAP", "ADOPT")}
SCHEDULERS = {name.lower(): name for name in ("MultiStepLR", "CosineAnnealingLR", "CosineAnnealingRestartLR")}
INTERPOLATIONS = {
    "bilinear": "antialiased_bilinear",
    "bicubic": "antialiased_bicubic",
    "nearest-exact": "nearest_exact",
}
"""Interpolations that have another name here."""

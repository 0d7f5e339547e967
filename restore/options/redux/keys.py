"""What becomes of the keys of traiNNer-redux that mean something else here, by dotted path; wildcards as in file names.

A key that stands in no table is the same here. What several keys say together is in `translation`.
"""

from __future__ import annotations

import fnmatch
from typing import Any, NamedTuple

__all__ = [
    *("DEFAULTS", "DEGRADATION", "DEGRADATION_OF_DATASET", "JOINED", "MOVED", "OF_DEGRADATION", "ONLY", "REMARKS"),
    *("SHARPENED", "SIGNS", "UNREAD", "home_of"),
]

SIGNS = ("val.val_enabled", "train.losses", "datasets.train.lq_size", "onnx")
"""A file is traiNNer-redux's if it has one of these: its reader asks for the first where a file has `val`."""


class Allowed(NamedTuple):
    """The values of a key that can be had here, which need nothing; and of the others, what they did and what to do."""

    values: tuple[Any, ...]
    otherwise: str


ONLY = {
    "input_pixel_format": Allowed(
        ("rgb",), "The network saw images in this format there; here it sees RGB. Write rgb."
    ),
    "output_pixel_format": Allowed(("rgb",), "The network gave images in this format there; here RGB. Write rgb."),
    "network_g_teacher": Allowed(
        (None,),
        "Its images stood in for the sharp ones there. Write train.teacher: {model: FILE} and train.distill_opt: "
        "{type: SoftDistillationLoss}, whose loss stands beside the others.",
    ),
    "network_ae": Allowed((None,), "It was an autoencoder there, which is not trained here. Remove it."),
    "train.optim_ae": Allowed((None,), "It was an autoencoder's there, which is not trained here. Remove it."),
    "path.pretrain_network_g_ema": Allowed(
        (None,), "The moving average began with it there; here it begins with path.pretrain_network_g. Remove it."
    ),
    "path.pretrain_network_g_teacher": Allowed((None,), "Write it as train.teacher: {model: FILE}."),
    "path.pretrain_network_ae*": Allowed(
        (None,), "It was of an autoencoder there, which is not trained here. Remove it."
    ),
    "dataroot_lq_prob": Allowed(
        (0,),
        "Batches were of pairs at this probability there. Here a training is of one kind: remove it, or write "
        "high_order_degradation: false and type: pairedimagedataset.",
    ),
    "lq_usm": Allowed(
        (False,),
        "Images were sharpened with a random radius there. Write recipe: FILE in datasets.train, a degradation of your "
        "own with the operator usm, and lq_usm: false.",
    ),
    "thicklines_prob": Allowed((0,), "Dark lines were made thicker there, for which nothing is here. Write 0."),
    "train.adaptive_d": Allowed(
        (False,), "The discriminator waited while it was ahead there; here it never does. Write false and a smaller lr."
    ),
    "train.eco.enabled": Allowed((False,), "Targets were mixed with a teacher's images there. Write false."),
    "train.ema_switch_iter": Allowed((0,), "The network took the average's weights now and then there. Write 0."),
    "train.ema_update_after_step": Allowed((0,), "The average began later there; ema_power delays it here. Write 0."),
    "train.restart_scheduler": Allowed(
        (False,), "A resumed training began the schedule anew there; here rates follow from the iteration. Write false."
    ),
    "train.use_moa": Allowed(
        (False,),
        "One of moa_augs was drawn for each batch there. Write false and train.mixing_augs: {mixup: true, cutmix: 0.5},"
        " with those that are wanted, each of which is drawn by itself.",
    ),
    "datasets.*.lq_resize_mode": Allowed(
        (None,), "Inputs were made by resizing on the GPU there. Write type: DownsampledImageDataset and remove this."
    ),
    "datasets.*.color": Allowed((None,), "Pairs were of all colours there whatever it said. Remove it."),
}
"""Keys that must have one of some values here."""

REMARKS = {
    "onnx": ((None,), "`restore export` writes ONNX files, and takes as arguments what stands here"),
    "deterministic": ((False,), "manual_seed draws the same numbers again; operations on a GPU are not replaced"),
    "detect_anomaly": ((False,), "the first loss that is not finite is named, and stops the run"),
    "logger.save_checkpoint_format": (("pth",), "checkpoints are .pth files, which hold the average as params_ema"),
    "high_order_degradations_debug": ((False,), "`restore degrade --preview` shows what is made of images"),
}
"""Keys without effect here: the values that need no remark, and the remark."""

UNREAD = (
    *("high_order_degradations_debug_limit", "lq_usm_radius_range", "train.moa_*", "train.adaptive_d_*"),
    *(
        "datasets.*.prefetch_factor",
        "datasets.*.clip_size",
        "datasets.*.blur_kernel_size",
        "datasets.*.blur_kernel_size2",
    ),
)
"""Keys that only go with others, or that nothing reads there either."""

MOVED = {
    "blur_prob2": "second_blur_prob",
    "fast_matmul": "train.tf32",
    "datasets.train.accum_iter": "train.accumulate",
}
"""Keys that have another name here."""

JOINED = {
    "use_amp": "train.precision",
    "amp_bf16": "train.precision",
    "use_channels_last": "train.channels_last",
    "use_compile": "train.compile",
    "compile_mode": "train.compile",
    "train.losses": "a block for each: train.pixel_opt, train.perceptual_opt, train.gan_opt or any train.NAME_opt",
    "train.grad_clip": "train.clip_norm",
    "train.grad_clip_max_norm": "train.clip_norm",
    "datasets.*.lq_size": "gt_size",
    "val.val_enabled": "val.val_freq",
    "val.metrics_enabled": "val.metrics",
    "val.tile_size": "runtime.tile",
    "val.tile_overlap": "runtime.tile_overlap",
}
"""Keys whose meaning depends on others, and where it goes."""

OF_DEGRADATION = ("dataroot_lq_prob", "lq_usm", "thicklines_prob", "high_order_degradations_debug")
"""Further keys that are read only where `high_order_degradation` is true."""

SHARPENED = ("lq_usm", "gt_usm", "l1_gt_usm", "percep_gt_usm", "gan_gt_usm")
"""What Real-ESRGAN sharpens, and traiNNer-redux does not."""

DEFAULTS = {
    "path.param_key_g": None,
    "path.param_key_d": None,
    "train.ema_power": 10,
    "val.pbar": True,
    "datasets.train.use_hflip": True,
    "datasets.train.use_rot": True,
    "datasets.train.pin_memory": True,
}
"""Values of keys that a file leaves out, where ours are others and the section is there."""

_KERNELS = ["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]
_ROUND: dict[str, Any] = {
    "kernel_list": _KERNELS,
    "kernel_prob": [0.45, 0.25, 0.12, 0.03, 0.12, 0.03],
    "kernel_range": [5, 17],
    "sinc_prob": 0,
    "blur_sigma": [0.2, 2],
    "betag_range": [0.5, 4],
    "betap_range": [1, 2],
}
DEGRADATION_OF_DATASET = {
    **_ROUND,
    **{f"{key}2": value for key, value in _ROUND.items()},
    "blur_sigma2": [0.2, 1],
    "final_sinc_prob": 0,
    "final_kernel_range": [5, 17],
}
"""Keys of a degraded dataset, and the values of those that are left out."""

_INTERPOLATIONS = ["bilinear", "bicubic", "nearest-exact", "lanczos"]
_STAGE: dict[str, Any] = {
    "resize_mode_list": _INTERPOLATIONS,
    "resize_mode_prob": [0.25, 0.25, 0.25, 0.25],
    "gaussian_noise_prob": 0,
    "noise_range": [0, 0],
    "poisson_scale_range": [0, 0],
    "gray_noise_prob": 0,
    "jpeg_prob": 1,
    "jpeg_range": [75, 95],
}
DEGRADATION = {
    "blur_prob": 0,
    "resize_prob": [0.2, 0.7, 0.1],
    "resize_range": [0.4, 1.5],
    **_STAGE,
    "blur_prob2": 0,
    "resize_prob2": [0.3, 0.4, 0.3],
    "resize_range2": [0.6, 1.2],
    **{f"{key}2": value for key, value in _STAGE.items()},
    "resize_mode_list3": _INTERPOLATIONS,
    "resize_mode_prob3": _STAGE["resize_mode_prob"],
    "queue_size": 120,
}
"""Keys at the top that are read where `high_order_degradation` is true, and the values of those that are left out."""


def home_of(path: str) -> str | None:
    """Where a key of traiNNer-redux has its place here, "" where it has none; None: it is no key of its own."""
    for pattern, to in {**MOVED, **JOINED}.items():
        if fnmatch.fnmatchcase(path, pattern):
            return to
    others = (*ONLY, *REMARKS, *UNREAD, *OF_DEGRADATION)
    return "" if any(fnmatch.fnmatchcase(path, pattern) for pattern in others) else None

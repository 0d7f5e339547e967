"""Every family of encoders once, small enough to be trained from nothing in a minute.

These are no networks of any paper: they have the blocks of the family, at about half a million parameters, for
comparing families where nobody has published weights or the time to train them. Left out is what cannot be made small:
the families that timm builds at published sizes only, and ResNet-50 as first published. `pyramid` and `timm`, which
take another encoder by its name, are no families.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from restore.encoders.build import build_encoder
from restore.registry import ENCODERS

__all__ = ["MINIATURES", "miniatures", "with_pyramid"]

_DIMS, _DEPTHS, _HEADS = [32, 64, 96, 128], [1, 1, 2, 1], [1, 2, 3, 4]
_ONE_STRIDE = {"img_size": 64, "embed_dim": 96, "depth": 4}
_PATCHES = {**_ONE_STRIDE, "patch_size": 8}
_TOKENS = {**_PATCHES, "num_heads": 3}
_STAGES = {"dims": _DIMS, "depths": _DEPTHS}
_WINDOWS = {"img_size": 64, "embed_dim": 24, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 3, 6]}
_TIMM_STAGES = {"model_args": {"dims": _DIMS, "depths": _DEPTHS}}
_TIMM_TOKENS = {"img_size": 64, "model_args": {"embed_dim": 96, "depth": 4, "num_heads": 3, "patch_size": 8}}
_TIMM_WINDOWS = {"img_size": 64, "model_args": {"embed_dim": 24, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 3, 6]}}
_COMPACT = {"embed_dim": 96, "depth": 4, "num_heads": 3, "mlp_ratio": 2.0}

MINIATURES: dict[str, Mapping[str, Any]] = {
    "afno": {**_ONE_STRIDE, "num_blocks": 3, "patch_size": 8},
    "after_trt_vit": {**_STAGES, "num_mixed": [0, 0, 1, 1], "num_heads": 4},
    "amixer": {**_WINDOWS, "window_sizes": [4, 4, 4, 2]},
    "amixer_deit": {**_TOKENS, "num_maps": 8},
    "autoformer": {
        "img_size": 64,
        "patch_size": 8,
        "embed_dim": 96,
        "num_heads": [3, 2, 3, 3],
        "mlp_ratios": [3.0, 3.5, 3.0, 4.0],
        "head_dim": 32,
        "max_distance": 8,
    },
    "band_energy": {},
    "beit3": _TIMM_TOKENS,
    "cait": _TIMM_TOKENS,
    "cct": {"img_size": 64, **_COMPACT},
    "ceit": {**_ONE_STRIDE, "num_heads": 3},
    "coatnet": {"model_args": {"embed_dim": _DIMS, "depths": _DEPTHS, "stem_width": [16, 32]}},
    "context_cluster": {**_STAGES, "num_heads": [2, 2, 4, 4], "head_dim": 16, "mlp_ratios": [4, 4, 4, 4]},
    "conv2former": _STAGES,
    "conv_pyramid": {},
    "conv_stem_vit": {**_TOKENS, "patch_size": 16, "stem_widths": [16, 32, 48, 64]},
    "convnext": _TIMM_STAGES,
    "convnextv2": _TIMM_STAGES,
    "cpvt": _TOKENS,
    "cvt": {"dims": [32, 64, 96], "depths": [1, 1, 2], "num_heads": [1, 2, 3]},
    "cvt_lite": {"img_size": 64, **_COMPACT},
    "cyclemlp": _STAGES,
    "deepnorm_vit": _TOKENS,
    "deepvit": {**_TOKENS, "num_reattention": 2},
    "deit": _TIMM_TOKENS,
    "deit3": _TIMM_TOKENS,
    "flexivit": {"embed_dim": 96, "depth": 4, "num_heads": 3, "patch_size": 8},
    "gfnet": _PATCHES,
    "gfnet_h": {"img_size": 64, **_STAGES},
    "hmlp_vit": {**_TOKENS, "patch_size": 16},
    "hornet": {"base_dim": 24, "depths": _DEPTHS},
    "hr_nas": {
        "stem_width": 16,
        "dims": [12, 24, 48],
        "depths": [1, 1, 1],
        "expansion": 2,
        "kernel_sizes": [3, 5],
        "head_dims": [16, 32, 64],
        "head_width": 128,
    },
    "identityformer": _STAGES,
    "levit": {"model_args": {"embed_dim": [64, 96, 128], "depth": [1, 1, 1], "num_heads": [2, 3, 4]}},
    "lvvit": {**_TOKENS, "stem_width": 32},
    "metaformer": _STAGES,
    "mini_deit": _TOKENS,
    "mini_swin": {**_WINDOWS, "num_shared": [2, 2, 2, 2], "window_size": 4},
    "parallel_vit": {**_TOKENS, "depth": 2},
    "pyramid_tnt": {
        "img_size": 64,
        "dims": [32, 64, 96, 128],
        "inner_dims": [4, 8, 12, 16],
        "depths": [1, 1, 1, 1],
        "num_heads": [2, 4, 4, 4],
        "inner_heads": [1, 2, 2, 2],
    },
    "pyramid_vig": {"img_size": 64, **_STAGES},
    "randformer": {**_STAGES, "grids": [None, None, 4, 2]},
    "refiner": _TOKENS,
    "repmlpnet": {**_STAGES, "window_sizes": [16, 8, 4, 2], "num_sharesets": [1, 4, 8, 16]},
    "repopt_vgg": {"depths": [1, 1, 2, 1], "width_factors": [0.5, 0.5, 0.5, 0.25]},
    "slak": _STAGES,
    "subln_vit": _TOKENS,
    "swin": _TIMM_WINDOWS,
    "swin_mlp": {**_WINDOWS, "window_size": 4},
    "swinv2": _TIMM_WINDOWS,
    "t2t_vit": {**_ONE_STRIDE, "num_heads": 3},
    "tiny_vit": {"model_args": {"embed_dims": _DIMS, "depths": _DEPTHS, "num_heads": _HEADS}},
    "tnt": {"model_args": {"embed_dim": 96, "inner_dim": 12, "depth": 4, "num_heads_inner": 2, "num_heads_outer": 3}},
    "vig": {**_ONE_STRIDE, "num_neighbours": 5},
    "visual_transformer": {"num_tokens": 8, "token_dim": 128},
    "vit": _TIMM_TOKENS,
    "vit_lite": {"img_size": 64, **_COMPACT},
}
"""Arguments by family."""


def miniatures(names: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """The block of each encoder: in miniature for families, as it is for any other name; all families, or some names.

    Raises:
        OptionsError: a name that no encoder has.
    """
    for name in names or ():
        ENCODERS.get(name, "")
    return {name: {"type": name, **MINIATURES.get(name, {})} for name in names or MINIATURES}


def with_pyramid(block: Mapping[str, Any], width: int) -> dict[str, Any]:
    """The block of an encoder; within a pyramid of this width where all its maps have one stride."""
    with torch.device("meta"):
        strides = {*build_encoder(block).strides}
    return {"type": "pyramid", "encoder": dict(block), "width": width} if len(strides) == 1 else dict(block)

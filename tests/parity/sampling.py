"""Sampled outputs of networks that agree with official code, so that parity is checked where the fixtures are absent.

    python tests/parity/sampling.py FIXTURES        # writes samples.json; FIXTURES holds the official outputs

A sample is what a network computes with weights drawn by the name of each tensor, of an image drawn likewise, at fixed
places of its output. Samples are written only while the same network agrees with its full official output, which the
tests beside this file show where the fixtures are.
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

STORED = Path(__file__).with_name("samples.json")
NUM_VALUES = 48
NETWORKS_ = {  # name: (block, channels, side, number of the task); those without a fixture, HiT-SRF, NGswin and MAN,
    # agreed within 1e-7 with official code when it was run beside them
    "swinir_light_x2": (
        {"type": "SwinIR", "img_size": 32, "upscale": 2, "upsampler": "pixelshuffledirect", "depths": [2, 2],
         "embed_dim": 24, "num_heads": [2, 2], "window_size": 8, "mlp_ratio": 2}, 3, 24, None),
    "swinir_classical_x3": (
        {"type": "SwinIR", "img_size": 24, "upscale": 3, "upsampler": "pixelshuffle", "depths": [2, 2],
         "embed_dim": 24, "num_heads": [2, 2], "window_size": 8, "mlp_ratio": 2}, 3, 24, None),
    "swinir_real_x4": (
        {"type": "SwinIR", "img_size": 32, "upscale": 4, "upsampler": "nearest+conv", "depths": [2, 2],
         "embed_dim": 24, "num_heads": [2, 2], "window_size": 8, "mlp_ratio": 2,
         "resi_connection": "3conv"}, 3, 16, None),
    "swinir_denoise_grey": (
        {"type": "SwinIR", "img_size": 40, "upscale": 1, "in_chans": 1, "depths": [2, 2], "embed_dim": 24,
         "num_heads": [2, 2], "window_size": 8, "mlp_ratio": 2}, 1, 32, None),
    "swinir_car_w7": (
        {"type": "SwinIR", "img_size": 28, "upscale": 1, "img_range": 255.0, "depths": [2, 2], "embed_dim": 24,
         "num_heads": [2, 2], "window_size": 7, "mlp_ratio": 2}, 3, 28, None),
    "uformer_t": (
        {"type": "Uformer", "img_size": 128, "embed_dim": 16, "win_size": 8, "token_projection": "linear",
         "token_mlp": "leff", "modulator": True, "depths": [1, 1, 1, 2, 2, 2, 1, 1, 1]}, 3, 128, None),
    "ipt_x2": (
        {"type": "IPT", "scale": [2], "n_feats": 16, "num_heads": 4, "num_layers": 2, "patch_size": 48, "patch_dim": 3},
        3, 48, 0),
    "edt_sr_x4": (
        {"type": "EDT", "scales": [4], "img_size": 48, "num_feat": 8, "embed_dim": 24, "depths": [2, 2],
         "num_heads": [2, 2], "window_size": [6, 24]}, 3, 24, None),
    "edt_sr_x2_direct": (
        {"type": "EDT", "scales": [2], "img_size": 48, "upsampler": "pixelshuffledirect", "num_feat": 8,
         "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 2], "window_size": [6, 24]}, 3, 24, None),
    "hit_srf_x4": (
        {"type": "HiT_SRF", "upscale": 4, "img_size": 32, "embed_dim": 32, "depths": [3, 2], "num_heads": [2, 4],
         "hier_win_ratios": [0.5, 1, 2]}, 3, 32, None),
    "hit_srf_x3_grey": (
        {"type": "HiT_SRF", "upscale": 3, "in_chans": 1, "img_size": 32, "embed_dim": 16, "depths": [2],
         "num_heads": [2], "base_win_size": [4, 8], "hier_win_ratios": [1, 2], "upsampler": "pixelshuffle",
         "resi_connection": "3conv"}, 1, 32, None),
    "ngswin_x2": (
        {"type": "NGswin", "embed_dim": 32, "dec_dim": 32, "depths": [2, 1, 1], "num_heads": [2, 2, 2],
         "dec_depths": 2, "dec_num_heads": 2, "window_size": 4}, 3, 32, None),
    "ngswin_x3": (
        {"type": "NGswin", "embed_dim": 16, "dec_dim": 16, "depths": [1, 2, 1], "num_heads": [2, 2, 2],
         "dec_depths": 1, "dec_num_heads": 2, "window_size": 4, "ngrams": [3, 2, 2, 2], "target_mode": "light_x3"},
        3, 64, None),
    "man_x2": ({"type": "MAN", "n_resblocks": 2, "n_feats": 24}, 3, 24, None),
    "man_x4_groups": ({"type": "MAN", "n_resblocks": 1, "n_resgroups": 2, "n_feats": 12, "scale": 4}, 3, 24, None),
}  # fmt: skip

COMPARED = {  # encoders without a fixture that agreed within 1e-5 with official code when it was run beside them
    "identityformer": {"type": "identityformer", "dims": [16, 32, 40, 64], "depths": [1, 1, 2, 1]},
    "randformer": {
        "type": "randformer", "dims": [16, 32, 40, 64], "depths": [1, 1, 2, 1], "grids": [None, None, 4, 2]},
    "autoformer": {
        "type": "autoformer", "img_size": 96, "embed_dim": 32, "num_heads": [2, 1], "mlp_ratios": [3.0, 2.5],
        "max_distance": 3},
    "hr_nas": {
        "type": "hr_nas", "stem_width": 8, "dims": [6, 12, 16], "depths": [1, 2, 1], "expansion": 2,
        "kernel_sizes": [3, 5], "head_dims": [8, 12, 20], "head_width": 20},
    "mini_swin": {
        "type": "mini_swin", "img_size": 128, "embed_dim": 16, "depths": [2, 2, 6, 2], "num_shared": [2, 2, 3, 2],
        "num_heads": [2, 2, 4, 4], "window_size": 4, "compat": True},
    "repopt_vgg": {"type": "repopt_vgg", "depths": [1, 2, 1, 1], "width_factors": [0.25] * 4},
    "repopt_vgg_branches": {
        "type": "repopt_vgg", "depths": [1, 2, 1, 1], "width_factors": [0.25] * 4, "learns_as": "branches"},
    "afno": {"type": "afno", "img_size": 56, "patch_size": 8, "embed_dim": 32, "depth": 2, "double_skip": True},
    **{name: {"type": "amixer", "img_size": 128, "embed_dim": 24, "depths": [2] * 4, "num_heads": [2, 2, 4, 8],
              "window_sizes": [7, 5, 7, 3], "compat": compat}
       for name, compat in (("amixer", True), ("amixer_masked", False))},
    "autoformer_class": {
        "type": "autoformer", "img_size": 96, "embed_dim": 64, "num_heads": [2, 1], "mlp_ratios": [3.0, 2.0],
        "max_distance": 3, "pooling": "token"},
    "cct_sine": {"type": "cct", "img_size": 32, "embed_dim": 48, "num_heads": 4, "positions": "sine"},
    "ceit_plain": {"type": "ceit", "img_size": 96, "embed_dim": 48, "depth": 2, "num_heads": 4, "mlp_ratio": 2.0,
                   "kernel_size": 5, "batch_norm": False, "qkv_bias": False},
    "context_cluster_oblong": {
        "type": "context_cluster", "dims": [16, 32, 48, 64], "depths": [1, 1, 2, 1], "num_heads": [2, 2, 4, 4],
        "head_dim": [8, 8, 12, 12], "mlp_ratios": [2, 2, 4, 4], "num_centres": [[2, 3], 2, [4, 2], [1, 2]],
        "num_folds": [[4, 2], [2, 4], 2, 2]},
    "conv_stem_vit": {"type": "conv_stem_vit", "img_size": 96, "embed_dim": 48, "depth": 2, "num_heads": 4,
                      "stem_widths": [8, 12, 12, 16, 16, 24]},
    "conv2former_ratios": {"type": "conv2former", "kernel_size": 7, "dims": [16, 24, 32, 40], "depths": [1] * 4,
                           "mlp_ratio": [2, 3, 4, 1]},
    "cvt_plain": {"type": "cvt", "dims": [16, 24, 32], "depths": [1, 1, 2], "num_heads": [1, 2, 4], "mlp_ratio": 2.0,
                  "activation": "gelu", "qkv_bias": False, "class_token": False, "stride_kv": 1},
    "hmlp_vit": {"type": "hmlp_vit", "img_size": 96, "embed_dim": 48, "depth": 2, "num_heads": 4, "layer_scale": 1e-4},
    "lvvit_patches": {"type": "lvvit", "img_size": 96, "embed_dim": 48, "depth": 2, "num_heads": 3, "qkv_bias": True,
                      "stem_width": None, "dense": False},
    "mini_deit_class": {"type": "mini_deit", "img_size": 64, "embed_dim": 32, "depth": 4, "num_heads": 4,
                        "class_token": True},
    "parallel_vit": {"type": "parallel_vit", "img_size": 96, "embed_dim": 48, "depth": 2, "num_heads": 4,
                     "layer_scale": 1e-4},
    "pyramid_tnt_biased": {
        "type": "pyramid_tnt", "img_size": 64, "dims": [16, 24, 32, 32], "inner_dims": [2, 4, 4, 8],
        "depths": [1, 7, 1, 2], "num_heads": [1, 2, 4, 4], "inner_heads": [1, 2, 2, 2], "qkv_bias": True},
    "refiner_plain": {"type": "refiner", "img_size": 96, "embed_dim": 48, "depth": 5, "num_heads": 4, "qkv_bias": False,
                      "dense": False},
    "repmlpnet_oblong": {
        "type": "repmlpnet", "dims": [16, 32, 64, 128], "depths": [1, 1, 2, 1], "num_sharesets": [1, 2, 4, 8],
        "window_sizes": [[4, 8], [8, 2], [2, 4], [2, 1]], "kernel_sizes": [1, 3, 5], "compat": True},
    "slak_whole": {"type": "slak", "dims": [12, 16, 20, 24], "depths": [1] * 4, "kernel_sizes": [9, 7, 7, 5],
                   "decomposed": False},
    "swin_mlp_placed": {"type": "swin_mlp", "img_size": 64, "embed_dim": 24, "num_heads": [2, 4, 8, 16],
                        "window_size": 4, "positions": True, "patch_norm": False},
    "t2t_vit_biased": {"type": "t2t_vit", "img_size": 64, "embed_dim": 36, "depth": 2, "num_heads": 4, "qkv_bias": True,
                       "token_dim": 32, "width_scale": True},
    **{f"vig_{name}": {"type": "vig", "img_size": 64, "embed_dim": 32, "depth": 5, "num_neighbours": 3, **options}
       for name, options in (
           ("edge", {"conv": "edge", "activation": "prelu", "bias": False}),
           ("sage", {"conv": "sage", "activation": "leaky_relu"}),
           ("gin", {"conv": "gin", "activation": "hardswish"}),
           ("relu", {"activation": "relu", "norm": "none", "dilated": False}),
           ("instance", {"norm": "instance"}))},
    **{f"pyramid_vig_{name}": {
        "type": "pyramid_vig", "img_size": 64, "dims": [16, 24, 32, 32], "depths": [1] * 4, "num_neighbours": 3,
        **options}
       for name, options in (
           ("edge", {"conv": "edge", "activation": "relu"}), ("sage", {"conv": "sage", "bias": False}),
           ("gin", {"conv": "gin", "activation": "prelu"}))},
    "pyramid_tnt_gated": {
        "type": "pyramid_tnt", "img_size": 64, "dims": [16, 24, 32, 32], "inner_dims": [2, 4, 4, 8],
        "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 4], "inner_heads": [1, 2, 2, 2], "squeeze_excitation": True,
        "qk_scale": 0.7},
    **{f"repopt_vgg_{name}": {"type": "repopt_vgg", "depths": [1, 2, 1, 1], "width_factors": [0.25] * 4, **options}
       for name, options in (
           ("gated", {"squeeze_excitation": True, "reductions": [1, 2, 1, 2, 2]}),
           ("branches_gated", {"squeeze_excitation": True, "learns_as": "branches"}),
           ("normed_branches", {"learns_as": "repvgg"}))},
    **{f"autoformer_{name}": {
        "type": "autoformer", "img_size": 64, "embed_dim": 48, "num_heads": [2, 4], "mlp_ratios": [3.0, 2.5],
        "head_dim": 16, "max_distance": 2, **options}
       for name, options in (
           ("placeless", {"max_distance": None, "positions": False, "qkv_bias": False}),
           ("shared", {"head_dim": None, "super_embed_dim": 64}),
           ("scaled", {"scaled": True, "super_embed_dim": 64, "super_mlp_ratio": 3.5}),
           ("post_norm", {"placement": "post", "qkv_in_turns": True}))},
    "cvt_staged": {
        "type": "cvt", "dims": [16, 24, 32], "depths": [1, 1, 2], "num_heads": [1, 2, 4], "mlp_ratio": [2.0, 3.0, 4.0],
        "qkv_bias": [True, False, True], "class_token": [True, False, True], "stride_kv": [4, 2, 1],
        "kernel_qkv": [5, 3, 3], "patch_sizes": [8, 3, 2], "patch_strides": [8, 2, 2], "patch_paddings": [0, 1, 0]},
    "cvt_means": {"type": "cvt", "dims": [16, 24, 32], "depths": [1, 1, 1], "num_heads": [1, 2, 4], "projection": "avg",
                  "kernel_qkv": 2, "padding_kv": 0, "class_token": False},
    "ceit_stem": {"type": "ceit", "img_size": 64, "embed_dim": 48, "depth": 2, "num_heads": 4, "patch_size": 8,
                  "stem_width": 24, "stem_kernel_size": 5, "qk_scale": 0.6, "norm_eps": 1e-5},
    "deepvit_places": {"type": "deepvit", "img_size": 96, "embed_dim": 48, "depth": 3, "num_heads": 4,
                       "num_reattention": [0, 2], "doubled": 4.0, "qk_scale": 0.9, "conv_stem": False,
                       "norm_eps": 1e-5},
    "lvvit_wide_heads": {"type": "lvvit", "img_size": 96, "embed_dim": 48, "depth": 2, "num_heads": 3, "head_dim": 10,
                         "qk_scale": 0.5},
    "lvvit_ordered": {"type": "lvvit", "img_size": 96, "embed_dim": 48, "order": ["mha", "ffn", "tr"], "num_heads": 3},
    "refiner_own_maps": {
        "type": "refiner", "img_size": 96, "embed_dim": 48, "depth": 4, "num_heads": 4, "qk_scale": 0.4,
        "share": [False, False, True, False], "transform": [True, True, False, False], "head_expand": 2,
        "norm_eps": 1e-5},
    "t2t_vit_scaled": {"type": "t2t_vit", "img_size": 64, "embed_dim": 36, "depth": 2, "num_heads": 4, "qk_scale": 0.5,
                       "tokens_type": "transformer"},
    "cct_strided": {"type": "cct", "img_size": 32, "embed_dim": 48, "num_heads": 4, "kernel_size": 4, "num_convs": 1,
                    "stride": 2, "padding": 1, "pooling_size": 2, "pooling_padding": 0},
    "hmlp_vit_unbiased": {"type": "hmlp_vit", "img_size": 96, "embed_dim": 48, "depth": 2, "num_heads": 4,
                          "qkv_bias": False, "qk_scale": 0.5},
    "parallel_vit_unbiased": {"type": "parallel_vit", "img_size": 96, "embed_dim": 48, "depth": 2, "num_heads": 4,
                              "qkv_bias": False, "qk_scale": 0.5},
    "mini_deit_placeless": {
        "type": "mini_deit", "img_size": 64, "embed_dim": 32, "depth": 4, "num_heads": 4, "relative_position": False,
        "head_mixing": False, "qkv_bias": False, "qk_scale": 0.3},
    "mini_deit_unmixed": {"type": "mini_deit", "img_size": 64, "embed_dim": 32, "depth": 4, "num_heads": 4,
                          "head_mixing": False, "class_token": True, "norm_eps": 1e-5},
    **{f"mini_swin_{name}": {
        "type": "mini_swin", "img_size": 64, "embed_dim": 16, "depths": [2, 4, 2], "num_shared": [2, 2, 2],
        "num_heads": [2, 2, 4], "window_size": 4, "compat": True, **options}
       for name, options in (
           ("plain", {"separate_norms": False, "local_convs": False, "head_mixing": False}),
           ("placed", {"positions": True, "patch_norm": False, "qkv_bias": False, "qk_scale": 0.5}),
           ("fine", {"patch_size": 2, "local_convs": False}))},
    "swin_mlp_fine": {"type": "swin_mlp", "img_size": 32, "patch_size": 2, "embed_dim": 24, "depths": [2, 2, 2],
                      "num_heads": [2, 4, 8], "window_size": 4, "positions": True},
    **{f"repmlpnet_{name}": {
        "type": "repmlpnet", "dims": [16, 32, 64, 128], "depths": [1, 1, 1, 1], "num_sharesets": [1, 2, 4, 8],
        "window_sizes": [8, 4, 4, 2], "compat": True, **options}
       for name, options in (("deployed", {"deploy": True}), ("fine", {"patch_size": 2, "reduction": 2}))},
    "cyclemlp_biased": {"type": "cyclemlp", "dims": [16, 32, 40, 64], "depths": [1] * 4, "qkv_bias": True,
                        "skip_factor": 2.0},
    "gfnet_h_unscaled": {"type": "gfnet_h", "img_size": 64, "dims": [16, 24, 32, 40], "depths": [1] * 4,
                         "mlp_ratio": [2, 3, 4, 4], "layer_scale": None},
    "afno_few": {"type": "afno", "img_size": 56, "patch_size": 8, "embed_dim": 32, "depth": 2, "expansion": 2,
                 "fraction": 0.15},
    "hornet_unscaled": {"type": "hornet", "base_dim": 16, "depths": [1] * 4, "orders": [2, 3, 4, 4], "scale": 1.0,
                        "layer_scale": None},
    "slak_unnormed": {"type": "slak", "dims": [12, 16, 20, 24], "depths": [1] * 4, "kernel_sizes": [9, 7, 7, 5],
                      "batch_norm": False, "layer_scale": None},
    "context_cluster_normed": {
        "type": "context_cluster", "dims": [16, 32, 48, 64], "depths": [1] * 4, "num_heads": [2, 2, 4, 4],
        "head_dim": [8, 8, 12, 12], "num_folds": [4, 2, 2, 1], "norm": "batch", "activation": "relu",
        "layer_scale": None},
    "context_cluster_overlapping": {
        "type": "context_cluster", "dims": [16, 32, 48, 64], "depths": [1] * 4, "num_heads": [2, 2, 4, 4],
        "head_dim": [8, 8, 12, 12], "num_folds": [4, 2, 2, 1], "patch_size": 7, "patch_padding": 2,
        "reduction_size": 2},
    "context_cluster_unfolded": {
        "type": "context_cluster", "dims": [16, 32, 48, 64], "depths": [1] * 4, "num_heads": [2, 2, 4, 4],
        "head_dim": [8, 8, 12, 12], "num_folds": [[4, 2], [1, 4], [2, 1], 1], "compat": True},
    **{f"amixer_deit_{mode.replace('-', '_')}": {
        "type": "amixer_deit", "img_size": 96, "embed_dim": 48, "depth": 2, "num_heads": 4, "num_maps": 6, "mode": mode,
        **({"relative": False, "pre_proj": False, "post_proj": False} if mode == "softmax" else {})}
       for mode in ("softmax", "linear", "softmax-softmax", "linear-sigmoid", "linear-normalize", "sigmoid")},
    "hr_nas_anew": {
        "type": "hr_nas", "stem_width": [8, 12], "dims": [6, 12, 16], "depths": [1, 2, 1], "expansion": [2, 3],
        "kernel_sizes": [3, 5], "head_dims": [8, 12, 20], "head_width": 20, "activation": "silu", "norm_eps": 1e-5,
        "num_tokens": 5, "antialias": False},
}  # fmt: skip


def encoders() -> dict[str, Any]:
    """The blocks that are compared with official outputs, by the name of the fixture."""
    import test_convolution
    import test_graph
    import test_mlp
    import test_token

    found = {**test_convolution.SMALL, **test_mlp.SMALL, **COMPARED}
    for module in (test_token, test_graph):
        found |= {name: block[0] if isinstance(block, tuple) else block for name, block in module.SMALL.items()}
    return found


def fill(module: nn.Module) -> None:
    """Numbers for every tensor that can be learnt or estimated, drawn by its name."""
    for key, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            continue
        random = np.random.default_rng(zlib.crc32(key.encode()))
        values = random.standard_normal(tuple(tensor.shape))
        if key.endswith("running_var"):
            values = 1 + 0.1 * np.abs(values)
        elif tensor.ndim <= 1:
            values = 1 + 0.1 * values if key.endswith(("weight", "gamma")) else 0.1 * values
        else:
            values = values / np.sqrt(np.prod(tensor.shape[1:]))
        tensor.copy_(torch.from_numpy(np.asarray(values)))


def sample(name: str) -> list[float]:
    """Values of the output at fixed places, computed in float64."""
    from restore.encoders import Classifier, build_encoder
    from restore.registry import NETWORKS

    random = np.random.default_rng(zlib.crc32(name.encode()))
    torch.manual_seed(0)
    if name in NETWORKS_:
        block, channels, side, task = NETWORKS_[name]
        module = NETWORKS.build(block)
    else:
        module, channels, side, task = Classifier(build_encoder(encoders()[name]), 10), 3, _side(name), None
    module = module.double().eval()
    fill(module)
    image = torch.from_numpy(random.random((1, channels, side, side)))
    with torch.no_grad():
        if name in NETWORKS_:
            outputs = [module(image) if task is None else module(image, task)]
        else:
            features = module.encode(image)
            outputs = [*features.maps, features.logits]
    values = torch.cat([output.flatten() for output in outputs]).numpy()
    return values[random.integers(0, len(values), NUM_VALUES)].tolist()


def _side(name: str) -> int:
    block = encoders()[name]
    return block.get("img_size", 64) if isinstance(block, dict) else 32


def main(fixtures: str) -> None:
    """Write the samples of all that have an official output in `fixtures`."""
    names = [*NETWORKS_, *encoders()]
    compared = encoders().keys() - COMPARED.keys()
    missing = [name for name in compared if not (Path(fixtures) / f"{name}.npz").exists()]
    assert not missing, f"no official output of {missing}"
    stored = {name: [float(f"{value:.9g}") for value in sample(name)] for name in names}
    STORED.write_text(json.dumps(stored, indent=0).replace(",\n", ", ") + "\n")


if __name__ == "__main__":
    main(sys.argv[1])

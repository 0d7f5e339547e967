"""The networks of traiNNer-redux that are here: what their names stand for, beyond the defaults of our classes.

Those that are not here are in `restore.options.absent`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["NETWORKS", "Preset"]


class Preset(NamedTuple):
    """What a name stands for.

    Attributes:
        type: the network here.
        scale: its argument for the scale; "": it has none.
        arguments: those that are not the defaults of the network here.
        renamed: arguments that have another name here.
        values: values of arguments that are written in another way here, by the argument's name there.
        fixed: arguments that the network does not have here: values that can be had all the same, the default first.
        scales: which it can have here; empty: all.
        by_scale: networks by scale, in place of `type`.
        fp16: whether `use_amp` means float16; false: bfloat16, as there (MAN, NAFNet, SAFMN: only here).
    """

    type: str
    scale: str = "upscale"
    arguments: Mapping[str, Any] = {}
    renamed: Mapping[str, str] = {}
    values: Mapping[str, Mapping[str, Any]] = {}
    fixed: Mapping[str, tuple[Any, ...]] = {}
    scales: tuple[int, ...] = ()
    by_scale: Mapping[int, str] = {}
    fp16: bool = True

    def but(self, **arguments: Any) -> Preset:
        """The same with other arguments."""
        return self._replace(arguments={**self.arguments, **arguments})


def _groups(blocks: int, heads: int, number: int, **others: Any) -> dict[str, Any]:
    """As many groups of so many blocks, each with so many heads."""
    return {"depths": [blocks] * number, "num_heads": [heads] * number, **others}


_ATD = Preset("ATD", fp16=False)
_DAT = Preset("DAT", arguments={"depth": [6] * 6, "num_heads": [6] * 6, "split_size": [8, 32]},
              fixed={"unshuffle_mod": (False,)}, fp16=False)  # fmt: skip
_DRCT = Preset("DRCT", arguments={"upsampler": "pixelshuffle"}, fp16=False)
_RRDB = Preset(
    "RRDBNet",
    scale="scale",
    renamed={"in_nc": "num_in_ch", "out_nc": "num_out_ch", "num_filters": "num_feat", "num_blocks": "num_block"},
    fixed={"use_pixel_unshuffle": (True,)},
    scales=(1, 2, 4),
)
_FDAT = Preset("FDAT", scale="scale", fp16=False)
_GRL = Preset(
    "GRL",
    arguments={"window_size": 32, "stripe_size": [64, 64], "stripe_shift": True, "mlp_ratio": 2.0,
               "anchor_window_down_factor": 4, "depths": [4] * 4, "num_heads_window": [2] * 4,
               "num_heads_stripe": [2] * 4, "upsampler": "pixelshuffle"},
    fp16=False,
)  # fmt: skip
_HAT = Preset("HAT", arguments={"embed_dim": 180, "window_size": 16, "mlp_ratio": 2.0}, fp16=False)
_MAN = Preset("MAN", scale="scale", fp16=False)
_MOSR = Preset(
    "MoSR",
    arguments={"upsampler": "ps"},
    values={"upsampler": {"pixelshuffle": "ps", "dysample": "dys", "geoensemblepixelshuffle": "gps"}},
)
_NAFNET = Preset(
    "NAFNet",
    scale="",
    arguments={"middle_blk_num": 12, "enc_blk_nums": [2, 2, 4, 8], "dec_blk_nums": [2, 2, 2, 2]},
    scales=(1,),
    fp16=False,
)
_PLKSR = Preset("PLKSR", scale="upscaling_factor", arguments={"ccm_type": "DCCM"})
_RCAN = Preset(
    "RCAN",
    arguments={"num_block": 20, "img_range": 1.0, "rgb_mean": [0.0, 0.0, 0.0]},
    renamed={"n_resgroups": "num_group", "n_resblocks": "num_block", "n_feats": "num_feat",
             "reduction": "squeeze_factor"},
    fixed={"n_colors": (3,), "rgb_range": (255,), "norm": (False,), "kernel_size": (3,), "act_mode": ("relu",),
           "unshuffle_mod": (False,)},
    fp16=False,
)  # fmt: skip
_REAL_PLKSR = Preset(
    "RealPLKSR",
    scale="upscaling_factor",
    arguments={"layer_norm": True},
    renamed={"upsampler": "dysample"},
    values={"upsampler": {"pixelshuffle": False, "dysample": True}},
    fixed={"in_ch": (3,), "out_ch": (3,)},
)
_RGT = Preset("RGT", arguments={"split_size": [8, 32], "mlp_ratio": 2.0}, fp16=False)
_SAFMN = Preset("SAFMN", scale="upscaling_factor", fp16=False)
_SPAN = Preset("SPAN", arguments={"num_in_ch": 3, "num_out_ch": 3, "norm": False}, fixed={"num_blocks": (6,)})
_SRFORMER = Preset("SRFormer", arguments={"embed_dim": 180, "mlp_ratio": 2.0}, fp16=False)
_CUGAN = Preset("", "", fixed={"fast": (False,)}, by_scale={2: "UpCunet2x", 3: "UpCunet3x", 4: "UpCunet4x"})
_COMPACT = Preset("SRVGGNetCompact", fixed={"learn_residual": (True,)})
_SWIN2SR = Preset("Swin2SR", arguments={"window_size": 8, "mlp_ratio": 2.0}, fp16=False)
_SWINIR = Preset("SwinIR", arguments={"window_size": 8, "mlp_ratio": 2.0}, fixed={"start_unshuffle": (1,)}, fp16=False)

_LARGE = _groups(6, 8, 9, embed_dim=240, upsampler="nearest+conv", resi_connection="3conv")
_MIDDLE = _groups(6, 6, 6, embed_dim=180, upsampler="pixelshuffle")
_SMALL = _groups(6, 6, 4, embed_dim=60, upsampler="pixelshuffledirect")

NETWORKS = {
    "atd": _ATD.but(**_groups(6, 6, 6), img_size=96, embed_dim=210, window_size=16, num_tokens=128, reducted_dim=20,
                    upsampler="pixelshuffle"),
    "atd_light": _ATD.but(embed_dim=48, window_size=16, category_size=128, reducted_dim=8, convffn_kernel_size=7,
                          mlp_ratio=1, upsampler="pixelshuffledirect"),
    "compact": _COMPACT,
    "ultracompact": _COMPACT.but(num_conv=8),
    "superultracompact": _COMPACT.but(num_feat=24, num_conv=8),
    "craft": Preset("CRAFT"),
    "dat": _DAT,
    "dat_s": _DAT.but(split_size=[8, 16], expansion_factor=2),
    "dat_2": _DAT.but(expansion_factor=2),
    "dat_light": _DAT.but(depth=[18], num_heads=[6], embed_dim=60, expansion_factor=2, resi_connection="3conv"),
    "dctlsa": Preset("DCTLSA", fp16=False),
    "ditn_real": Preset("DITN_Real"),
    "drct": _DRCT,
    "drct_l": _DRCT.but(**_groups(6, 6, 12)),
    "drct_xl": _DRCT.but(**_groups(6, 6, 14)),
    "esrgan": _RRDB,
    "esrgan_lite": _RRDB.but(num_feat=32, num_block=12),
    "fdat_tiny": _FDAT.but(embed_dim=96, num_groups=2, depth_per_group=2, num_heads=3, ffn_expansion_ratio=1.5,
                           drop_path_rate=0.05)._replace(fp16=True),
    "fdat_light": _FDAT.but(embed_dim=108, num_groups=3, depth_per_group=2, drop_path_rate=0.08),
    "fdat_medium": _FDAT,
    "fdat_large": _FDAT.but(embed_dim=180, depth_per_group=4, num_heads=6),
    "fdat_xl": _FDAT.but(embed_dim=180, num_groups=6, depth_per_group=6, num_heads=6),
    "grl_b": _GRL.but(embed_dim=180, depths=[4, 4, 8, 8, 8, 4, 4], num_heads_window=[3] * 7, num_heads_stripe=[3] * 7,
                      local_connection=True),
    "grl_s": _GRL.but(embed_dim=128),
    "grl_t": _GRL.but(embed_dim=64, upsampler="pixelshuffledirect"),
    "hat_l": _HAT.but(**_groups(6, 6, 12)),
    "hat_m": _HAT.but(**_groups(6, 6, 6)),
    "hat_s": _HAT.but(**_groups(6, 6, 6), embed_dim=144, compress_ratio=24, squeeze_factor=24),
    "hit_srf": Preset("HiT_SRF", arguments={"expansion_factor": 2}, fp16=False),
    "man": _MAN,
    "man_light": _MAN.but(n_resblocks=24, n_feats=60),
    "man_tiny": _MAN.but(n_resblocks=5, n_feats=48),
    "moesr2": Preset("MoESR", scale="scale", fp16=False),
    "mosr": _MOSR,
    "mosr_t": _MOSR.but(n_block=5, dim=48),
    "nafnet32": _NAFNET.but(width=32),
    "nafnet64": _NAFNET.but(width=64),
    "omnisr": Preset("OmniSR", scale="up_scale", arguments={"res_num": 5}),
    "plksr": _PLKSR,
    "plksr_tiny": _PLKSR.but(n_blocks=12, kernel_size=13, use_ea=False),
    "rcan": _RCAN,
    "realcugan": _CUGAN,
    "realplksr": _REAL_PLKSR,
    "realplksr_tiny": _REAL_PLKSR.but(n_blocks=12, kernel_size=13, use_ea=False),
    "realplksr_large": _REAL_PLKSR.but(dim=96),
    "rgt": _RGT.but(depth=[6] * 8, num_heads=[6] * 8),
    "rgt_s": _RGT.but(depth=[6] * 6, num_heads=[6] * 6),
    "safmn": _SAFMN.but(dim=36),
    "safmn_l": _SAFMN.but(dim=128, n_blocks=16),
    "seemore_t": Preset("SeemoRe", scale="scale", arguments={"num_experts": 3, "embedding_dim": 36, "lr_space": "exp"},
                        fp16=False),
    "span": _SPAN.but(feature_channels=52),
    "span_s": _SPAN,
    "span_f32": _SPAN.but(feature_channels=32),
    "span_f64": _SPAN.but(feature_channels=64),
    "span_f96": _SPAN.but(feature_channels=96),
    "srformer": _SRFORMER.but(**_groups(6, 6, 6), img_size=48, window_size=24, upsampler="pixelshuffle"),
    "srformer_light": _SRFORMER.but(window_size=16, upsampler="pixelshuffledirect"),
    "swin2sr_l": _SWIN2SR.but(**_LARGE),
    "swin2sr_m": _SWIN2SR.but(**_MIDDLE),
    "swin2sr_s": _SWIN2SR.but(**_SMALL),
    "swinir_l": _SWINIR.but(**_LARGE),
    "swinir_m": _SWINIR.but(**_MIDDLE, img_size=48),
    "swinir_s": _SWINIR.but(**_SMALL),
}  # fmt: skip
"""By name in small letters; it is taken in any case."""

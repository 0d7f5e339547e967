"""Names of timm's models: as timm has them, and as the papers have them, with variants.

    vit_tiny        timm's vit_tiny_patch16_224
    swin            the smallest of its family: swin_tiny
    timm:resnet50   timm's, whatever else may be called so

A family's name alone is its smallest member. Names of ours go before timm's.

Papers and official code of the families:

vit  ViT, Dosovitskiy et al. 2020, arXiv 2010.11929, github.com/google-research/vision_transformer (Apache-2.0)
deit  DeiT, Touvron et al. 2020, arXiv 2012.12877, github.com/facebookresearch/deit (Apache-2.0)
deit3  DeiT III, Touvron et al. 2022, arXiv 2204.07118, github.com/facebookresearch/deit (Apache-2.0)
tnt  TNT, Han et al. 2021, arXiv 2103.00112, github.com/huawei-noah/Efficient-AI-Backbones (Apache-2.0)
cait  CaiT, Touvron et al. 2021, arXiv 2103.17239, github.com/facebookresearch/deit (Apache-2.0)
levit  LeViT, Graham et al. 2021, arXiv 2104.01136, github.com/facebookresearch/LeViT (Apache-2.0)
coatnet  CoAtNet, Dai et al. 2021, arXiv 2106.04803
volo  VOLO, Yuan et al. 2021, arXiv 2106.13112, github.com/sail-sg/volo (Apache-2.0)
swin  Swin Transformer, Liu et al. 2021, arXiv 2103.14030, github.com/microsoft/Swin-Transformer (MIT)
swinv2  Swin v2, Liu et al. 2021, arXiv 2111.09883, github.com/microsoft/Swin-Transformer (MIT)
poolformer  PoolFormer, Yu et al. 2021, arXiv 2111.11418, github.com/sail-sg/poolformer (Apache-2.0)
tiny_vit  TinyViT, Wu et al. 2022, arXiv 2207.10666, github.com/microsoft/Cream (MIT)
mlp_mixer  Mixer, Tolstikhin et al. 2021, arXiv 2105.01601, github.com/google-research/vision_transformer (Apache-2.0)
resmlp  ResMLP, Touvron et al. 2021, arXiv 2105.03404, github.com/facebookresearch/deit (Apache-2.0)
gmlp  gMLP, Liu et al. 2021, arXiv 2105.08050
convnext  ConvNeXt, Liu et al. 2022, arXiv 2201.03545, github.com/facebookresearch/ConvNeXt (MIT)
convnextv2  ConvNeXt V2, Woo et al. 2023, arXiv 2301.00808, github.com/facebookresearch/ConvNeXt-V2 (MIT)
caformer  CAFormer, Yu et al. 2022, arXiv 2210.13452, github.com/sail-sg/metaformer (Apache-2.0)
convformer  ConvFormer, Yu et al. 2022, arXiv 2210.13452, github.com/sail-sg/metaformer (Apache-2.0)
beit3  BEiT-3, Wang et al. 2022, arXiv 2208.10442, github.com/microsoft/unilm (MIT)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from restore.encoders.suggestions import meant
from restore.encoders.timm.encoder import TimmEncoder
from restore.encoders.timm.weights import is_known, known
from restore.registry import ENCODERS

__all__ = ["FAMILIES", "TimmNames", "timm_encoder"]

_SIZES = ("tiny", "small", "base", "large")

FAMILIES: dict[str, dict[str, str]] = {
    "vit": {size: f"vit_{size}_patch16_224" for size in _SIZES}
    | {"huge": "vit_huge_patch14_224", "base_32": "vit_base_patch32_224", "base_r50": "vit_base_r50_s16_224"},
    "deit": {size: f"deit_{size}_patch16_224" for size in _SIZES[:3]}
    | {f"{size}_distilled": f"deit_{size}_distilled_patch16_224" for size in _SIZES[:3]},
    "deit3": {size: f"deit3_{size}_patch16_224" for size in ("small", "medium", "base", "large")}
    | {"huge": "deit3_huge_patch14_224"},
    "tnt": {"small": "tnt_s_patch16_224", "base": "tnt_b_patch16_224"},
    "cait": {name: f"cait_{name}_224" for name in ("xxs24", "xxs36", "s24")}
    | {"xs24": "cait_xs24_384", "s36": "cait_s36_384", "m36": "cait_m36_384", "m48": "cait_m48_448"},
    "levit": {name: f"levit_{name}" for name in ("128s", "128", "192", "256", "384")},
    "coatnet": {str(number): f"coatnet_{number}_224" for number in range(6)},
    "volo": {f"d{number}": f"volo_d{number}_224" for number in range(1, 6)},
    "swin": {size: f"swin_{size}_patch4_window7_224" for size in _SIZES},
    "swinv2": {size: f"swinv2_{size}_window8_256" for size in _SIZES[:3]} | {"large": "swinv2_large_window12_192"},
    "poolformer": {name: f"poolformer_{name}" for name in ("s12", "s24", "s36", "m36", "m48")},
    "tiny_vit": {name: f"tiny_vit_{name}_224" for name in ("5m", "11m", "21m")},
    "mlp_mixer": {name: f"mixer_{name}_224" for name in ("s32", "s16", "b32", "b16", "l32", "l16")},
    "resmlp": {name: f"resmlp_{name}_224" for name in ("12", "24", "36", "big_24")},
    "gmlp": {"tiny": "gmlp_ti16_224", "small": "gmlp_s16_224", "base": "gmlp_b16_224"},
    "convnext": {
        name: f"convnext_{name}"
        for name in ("atto", "femto", "pico", "nano", "tiny", "small", "base", "large", "xlarge", "xxlarge")
    },
    "convnextv2": {
        name: f"convnextv2_{name}" for name in ("atto", "femto", "pico", "nano", "tiny", "base", "large", "huge")
    },
    "caformer": {name: f"caformer_{name}" for name in ("s18", "s36", "m36", "b36")},
    "convformer": {name: f"convformer_{name}" for name in ("s18", "s36", "m36", "b36")},
    "beit3": {size: f"beit3_{size}_patch16_224" for size in _SIZES[2:]} | {"giant": "beit3_giant_patch14_224"},
}
"""timm's names of the families of papers, by variant, the smallest first."""

for _family, _variants in FAMILIES.items():
    _models = {variant: functools.partial(TimmEncoder, name) for variant, name in _variants.items()}
    ENCODERS.add(_family, variants=_models)(functools.partial(TimmEncoder, next(iter(_variants.values()))))


@ENCODERS.add_family("timm")
@functools.cache
def timm_encoder(name: str) -> Callable[..., TimmEncoder]:
    """The encoder that timm calls `name`, also with a tag that names its weights (`resnet50.a1_in1k`).

    Raises:
        OptionsError: it has no such model.
    """
    return functools.partial(TimmEncoder, known(name))


class TimmNames:
    """Names of timm's models without a prefix, for those that no encoder of ours has."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and is_known(name)

    def get(self, name: Any, path: str = "type") -> Callable[..., TimmEncoder]:
        """The encoder of a name that is in here."""
        return timm_encoder(str(name))

    def groups(self) -> Iterator[tuple[list[str], Callable[..., TimmEncoder]]]:
        """All of timm's names: their encoders take the same arguments."""
        import timm

        names = timm.list_models()
        yield names, timm_encoder(names[0])

    def listing(self) -> str:
        """The version, whose models are too many to list."""
        import timm

        return f"every model of timm {timm.__version__}"


ENCODERS.add_fallback(TimmNames())
ENCODERS.suggest_with(meant)

"""The difference of colours by hue, saturation and lightness of HSLuv (hsluv.org), as traiNNer-redux trains with it.

HSLuv is CIE LCh(uv) whose chroma is divided by the largest that sRGB has at this lightness and hue. Constants and
formulas are those of the reference implementation (hsluv/hsluv, MIT); where float32 would divide by nothing, least
values stand as in traiNNer-redux (the-database/traiNNer-redux, Apache-2.0), with whose loss this one agrees.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from restore.errors import ImageError
from restore.registry import LOSSES

__all__ = ["HSLuvLoss", "rgb_to_hsluv"]

_TO_RGB = (
    (3.240969941904521, -1.537383177570093, -0.498610760293),
    (-0.96924363628087, 1.87596750150772, 0.041555057407175),
    (0.055630079696993, -0.20397695888897, 1.056971514242878),
)
_TO_XYZ = (
    (0.41239079926595, 0.35758433938387, 0.18048078840183),
    (0.21263900587151, 0.71516867876775, 0.072192315360733),
    (0.019330818715591, 0.11919477979462, 0.95053215224966),
)
_WHITE_U, _WHITE_V = 0.19783000664283, 0.46831999493879
_KAPPA, _EPSILON = 903.2962962, 0.0088564516
_LEAST_CHROMA = 0.028972067  # of colours that 8 bits tell from grey; below it, there is no hue
_GREY = 0.1  # saturations, and distances of the lightness from black or white, that show no colour


@LOSSES.add("HSLuvLoss", "hsluv")
class HSLuvLoss(nn.Module):
    """Mean differences of hue, saturation and lightness, logged as three losses.

    Hues differ along the shorter arc. Two greys do not differ in hue, nor do two blacks or whites; a grey and a colour
    differ by the colour's saturation. Saturations count by how far the lightness is from black and white.

    Args:
        loss_weight: factor of the loss.
        hue_weight: of the hue's part.
        saturation_weight: of the saturation's.
        lightness_weight: of the lightness's.
        criterion: distance of saturations and of lightnesses; hues are always compared by L1.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        hue_weight: float = 1 / 3,
        saturation_weight: float = 1 / 3,
        lightness_weight: float = 1 / 3,
        criterion: Literal["l1", "l2", "charbonnier"] = "l1",
    ):
        super().__init__()
        self.loss_weight, self.criterion = loss_weight, criterion
        self.weights = {"hue": hue_weight, "saturation": saturation_weight, "lightness": lightness_weight}

    def forward(self, restored: Tensor, reference: Tensor) -> dict[str, Tensor]:
        """`{"hue": ..., "saturation": ..., "lightness": ...}` of RGB images (B, 3, H, W) in [0, 1].

        Raises:
            ImageError: the images are not RGB.
        """
        with torch.autocast(restored.device.type, enabled=False):
            (hue, saturation, lightness), (hue2, saturation2, lightness2) = map(rgb_to_hsluv, (restored, reference))
        arc = (hue - hue2).abs()
        turned = 2 * torch.minimum(arc, 1 - arc)
        grey, grey2 = saturation < _GREY, saturation2 < _GREY
        coloured, coloured2 = saturation > _GREY, saturation2 > _GREY
        turned = torch.where(grey & grey2, 0, turned)
        turned = torch.where((grey & coloured2) | (coloured & grey2), torch.maximum(saturation, saturation2), turned)
        dark = (lightness < _GREY) & (lightness2 < _GREY)
        light = (lightness > 1 - _GREY) & (lightness2 > 1 - _GREY)
        turned = torch.where(dark | light, 0, turned)
        visible = sum(torch.minimum(each, 1 - each).clamp(0, 0.5) for each in (lightness, lightness2))
        parts = {
            "hue": turned,
            "saturation": self._distance(saturation, saturation2) * visible,
            "lightness": self._distance(lightness, lightness2),
        }
        return {name: self.loss_weight * self.weights[name] * part.mean() for name, part in parts.items()}

    def _distance(self, one: Tensor, other: Tensor) -> Tensor:
        difference = one - other
        if self.criterion == "l1":
            return difference.abs()
        return difference.square() if self.criterion == "l2" else torch.sqrt(difference.square() + 1e-12)


def rgb_to_hsluv(rgb_B3HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue, saturation and lightness, each (B, H, W) in [0, 1], of RGB in [0, 1]; what is beyond is clipped.

    Raises:
        ImageError: the images do not have three channels.
    """
    if rgb_B3HW.shape[1] != 3:
        raise ImageError(f"HSLuv is of RGB images, of 3 channels; given: {rgb_B3HW.shape[1]}.")
    rgb = rgb_B3HW.float().clamp(1e-12, 1)
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = torch.einsum("ij,bjhw->ibhw", rgb.new_tensor(_TO_XYZ), linear)
    lightness = torch.where(y > _EPSILON, 116 * y ** (1 / 3) - 16, y * _KAPPA)
    divisor = (x + 15 * y + 3 * z).clamp(min=1e-6)
    u, v = (
        _not_zero(torch.where(lightness < 1e-4, 0, 13 * lightness * (part / divisor - white)))
        for part, white in ((4 * x, _WHITE_U), (9 * y, _WHITE_V))
    )
    chroma, angle = torch.sqrt(u.square() + v.square()), torch.atan2(v, u)
    angle = torch.where(angle < 0, angle + 2 * math.pi, angle)
    angle = torch.where(chroma < _LEAST_CHROMA, 0, angle)
    saturation = chroma / _largest_chroma(lightness, angle).clamp(min=1e-2)
    saturation = torch.where((lightness > 99.99) | (lightness < 0.01), 0, saturation)
    return angle / (2 * math.pi), saturation.clamp(0, 1), lightness.clamp(0, 100) / 100


def _not_zero(values: Tensor, least: float = 1e-12) -> Tensor:
    return torch.where(values == 0, least, values)


def _largest_chroma(lightness: Tensor, angle: Tensor) -> Tensor:
    """How far it is from grey to the border of sRGB, in the direction of a hue (radians).

    At one lightness the border is six straight lines: of each channel where it is 0 and where it is full.
    """
    cubed = (lightness + 16) ** 3 / 1560896
    part = torch.where(cubed > _EPSILON, cubed, lightness / _KAPPA)
    sine, cosine = torch.sin(angle), torch.cos(angle)
    lengths = []
    for red, green, blue in _TO_RGB:
        for full in (0, 1):
            bottom = _away_from_zero((632260 * blue - 126452 * green) * part + 126452 * full)
            slope = (284517 * red - 94839 * blue) * part / bottom
            above = (838422 * blue + 769860 * green + 731718 * red) * part - 769860 * full
            lengths.append(above * lightness / bottom / _away_from_zero(sine - slope * cosine))
    stacked = torch.stack(lengths)
    return torch.where(stacked >= 0, stacked, stacked.max()).min(dim=0).values


def _away_from_zero(values: Tensor, least: float = 1e-3) -> Tensor:
    return torch.where(values == 0, least, values.sign() * values.abs().clamp(min=least))

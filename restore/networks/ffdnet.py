"""FFDNet: denoising at a quarter of the size, told how strong the noise is.

Paper: Zhang et al. 2018, arXiv 1710.04026. Official code in PyTorch: cszn/KAIR (MIT), whose argument names, keys and
outputs these are. What differs: the level of noise is an argument of the network, so that it restores an image like any
other, and may be given with the image; batch normalisation, which no published weights have, is left out.

Shapes: B batch, C channels, H x W image.
"""

from __future__ import annotations

import re
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from restore.errors import OptionsError
from restore.networks.base import Network, State
from restore.networks.residual import conv3x3
from restore.networks.spec import ImageSpec
from restore.registry import NETWORKS

__all__ = ["FFDNet"]


@NETWORKS.add()
class FFDNet(Network):
    """Removes white Gaussian noise: (B, C, H, W) in [0, 1] to the same.

    Published: grey 1, 1, 64, 15; colour 3, 3, 96, 12 (852,108 parameters).

    Args:
        in_nc: channels of the image.
        out_nc: the same.
        nc: channels within.
        nb: convolutions.
        sigma: level of the noise, its standard deviation on the 0-255 scale; 0 to 75 in the published training.

    Raises:
        ValueError: other channels at the end than at the start, fewer than two convolutions, a negative level.
    """

    def __init__(self, in_nc: int = 1, out_nc: int = 1, nc: int = 64, nb: int = 15, sigma: float = 25.0):
        super().__init__()
        if in_nc != out_nc or nb < 2 or sigma < 0:
            raise ValueError(
                f"in_nc and out_nc must be equal, nb at least 2 and sigma at least 0, given {in_nc}, {out_nc}, {nb}, "
                f"{sigma}"
            )
        self.sigma, self.in_nc = sigma, in_nc
        widths = [4 * in_nc + 1, *[nc] * (nb - 1)]
        layers: list[nn.Module] = []
        for inputs in widths[:-1]:
            layers += [conv3x3(inputs, nc), nn.ReLU()]
        self.model = nn.Sequential(*layers, conv3x3(nc, 4 * out_nc))

    @property
    def spec(self) -> ImageSpec:
        """What the network wants of its images."""
        return ImageSpec(1, self.in_nc, self.in_nc, padding="replicate")

    def expect_noise(self, sigma: float) -> None:
        """Take images to hold noise of this level.

        Raises:
            OptionsError: it is negative.
        """
        if not sigma >= 0:
            raise OptionsError(f"sigma is {sigma:g}: must be at least 0.")
        self.sigma = sigma

    def forward(self, x_BCHW: torch.Tensor, sigma: torch.Tensor | float | None = None) -> torch.Tensor:
        """(B, C, H, W) in [0, 1] to the same; `sigma` is one level, or one for each image, (B,)."""
        height, width = x_BCHW.shape[2:]
        level = torch.as_tensor(self.sigma if sigma is None else sigma, dtype=x_BCHW.dtype, device=x_BCHW.device)
        x_BCHW = F.pad(x_BCHW, (0, width % 2, 0, height % 2), mode="replicate")
        quarter = F.pixel_unshuffle(x_BCHW, 2)
        levels = (level / 255).reshape(-1, 1, 1, 1).expand(quarter.shape[0], 1, *quarter.shape[2:])
        clean: torch.Tensor = F.pixel_shuffle(self.model(torch.cat([quarter, levels], dim=1)), 2)
        return clean[:, :, :height, :width]

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any] | None:
        """The constructor's arguments, but for the level of noise.

        The first convolution takes five channels of a grey image and 13 of a colour one, the last gives four and 12.
        """
        convolutions = [value for key, value in state.items() if re.fullmatch(r"model\.\d+\.weight", key)]
        if len(convolutions) < 2 or len(state) > 2 * len(convolutions) or any(each.ndim != 4 for each in convolutions):
            return None
        inputs, outputs = convolutions[0].shape[1], len(convolutions[-1])
        if outputs % 4 or inputs != outputs + 1:
            return None
        channels = outputs // 4
        return {"in_nc": channels, "out_nc": channels, "nc": len(convolutions[0]), "nb": len(convolutions)}

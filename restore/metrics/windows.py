"""SSIM at every window, as batched tensor code in float64; differentiable, on any device."""

from __future__ import annotations

import torch

from restore.metrics.filters import filter_valid, gaussian_taps
from restore.metrics.inputs import require_size
from restore.metrics.levels import SSIM_WINDOW_PX, mean_ssim

__all__ = ["mean_ssim_of_batch", "ssim_map", "ssim_terms"]


def mean_ssim_of_batch(x_BCHW: torch.Tensor, y_BCHW: torch.Tensor) -> torch.Tensor:
    """The mean of SSIM over each image, (B,)."""
    return torch.stack([_mean_ssim_of_planes(*pair) for pair in zip(x_BCHW, y_BCHW, strict=True)])


def _mean_ssim_of_planes(x_CHW: torch.Tensor, y_CHW: torch.Tensor) -> torch.Tensor:
    """The mean of SSIM over one image: by the compiled library, or by maps where a gradient or a device is wanted."""
    alike = {(each.dtype, each.device.type, each.requires_grad) for each in (x_CHW, y_CHW)}
    if alike == {(torch.float64, "cpu", False)}:
        x_HWC, y_HWC = (each.detach().permute(1, 2, 0).numpy() for each in (x_CHW, y_CHW))
        if (value := mean_ssim(x_HWC, y_HWC)) is not None:
            return x_CHW.new_tensor(value)
    return ssim_map(x_CHW[None], y_CHW[None]).mean()


def ssim_map(x_BCHW: torch.Tensor, y_BCHW: torch.Tensor) -> torch.Tensor:
    """SSIM at every window position, (B, C, H - 10, W - 10), of images in [0, 1]; in the dtype of the input.

    Raises:
        ImageError: the images are smaller than the window.
    """
    luminance, contrast = ssim_terms(x_BCHW, y_BCHW)
    return luminance * contrast


def ssim_terms(x_BCHW: torch.Tensor, y_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Luminance and contrast-structure; the two variances are needed as their sum only, so four maps are filtered."""
    require_size(x_BCHW, SSIM_WINDOW_PX, "SSIM")
    c1, c2 = 0.01**2, 0.03**2
    taps = gaussian_taps(SSIM_WINDOW_PX, 1.5)
    moments = (x_BCHW, y_BCHW, torch.addcmul(x_BCHW.square(), y_BCHW, y_BCHW), x_BCHW * y_BCHW)
    mean_x, mean_y, squares, product = (filter_valid(moment, taps) for moment in moments)
    mean_squares, mean_product = torch.addcmul(mean_x.square(), mean_y, mean_y), mean_x * mean_y
    luminance = (2 * mean_product).add_(c1) / (mean_squares + c1)
    contrast = (product - mean_product).mul_(2).add_(c2) / (squares - mean_squares).add_(c2)
    return luminance, contrast

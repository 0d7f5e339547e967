"""NIQE and BRISQUE: how natural an image looks by itself, from the statistics of its locally normalised luma.

NIQE: Mittal, Soundararajan & Bovik 2013; agrees with the MATLAB release as BasicSR's `calculate_niqe` does.
BRISQUE: Mittal, Moorthy & Bovik 2012; agrees with github.com/utlive/BRISQUE. The code is our own: all blocks, scales of
one image and images of a batch are tensor operations. Both models were fitted to images of a few hundred pixels a side;
parameters/NOTICE.md says whose numbers they are.

Legend: B batch, K blocks of an image, S kinds of samples (the values, and four products), F features.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from restore.errors import ImageError
from restore.images import resize
from restore.images.compiled import block_sums
from restore.metrics.backbones import stored
from restore.metrics.basicsr import Order, in_order
from restore.metrics.filters import filter_valid, gaussian_taps
from restore.metrics.inputs import Bits, Border, Images, Preparation, White, as_score, luma_of, require_size
from restore.metrics.registration import metric

__all__ = ["brisque", "calculate_niqe", "niqe"]

BLOCK_PX = 96
ROUNDING_LEVELS = 1e-6
LOCAL_TAPS = gaussian_taps(7, 7 / 6)
MATLAB_GREY = (0.298936021293775, 0.587043074451121, 0.114020904255103)  # of rgb2gray; 0.299 .. would leave many ties


@metric("niqe", higher_is_better=False, needs_reference=False)
def niqe(
    restored: Images,
    reference: Images | None = None,
    *,
    border_px: Border = 0,
    convert_to: Literal["y", "gray"] = "y",
    bits: Bits | None = None,
    data_range: White = 1.0,
) -> float | torch.Tensor:
    """Distance of the image's statistics from those of pristine photographs; smaller is more natural.

    Args:
        restored: what is judged.
        reference: not used; accepted so that every metric is called alike.
        border_px: pixels cut off at every side (4 is usual at x4).
        convert_to: what of a colour image is judged: "y" BT.601 luma, "gray" full-range grey. Rounded to 8 bits, as in
            MATLAB. A grey image is judged as it is.
        bits: quantise the image to this many bits first.
        data_range: what white is in float images.

    Raises:
        ImageError: a side is under 96 px, or fewer than two blocks of 96x96 px have any structure.
    """
    x_BCHW = Preparation(border_px, bits=bits, data_range=data_range)(restored, "restored")
    require_size(x_BCHW, BLOCK_PX, "NIQE")
    if x_BCHW.shape[1] == 3:
        x_BCHW = luma_of(x_BCHW) if convert_to == "y" else _matlab_grey(x_BCHW)
    levels_BCHW = (x_BCHW * 255).round()
    rows, columns = (side // BLOCK_PX for side in x_BCHW.shape[-2:])
    levels_BCHW = levels_BCHW[..., : rows * BLOCK_PX, : columns * BLOCK_PX]
    features = [_niqe_features(levels_BCHW, BLOCK_PX), _niqe_features(resize(levels_BCHW, scale=0.5), BLOCK_PX // 2)]
    distances = [_distance_from_pristine(features_KF) for features_KF in torch.cat(features, dim=2)]
    return as_score(torch.stack(distances), restored)


@metric("calculate_niqe", higher_is_better=False, needs_reference=False)
def calculate_niqe(
    restored: Images,
    reference: Images | None = None,
    *,
    crop_border: Border,
    input_order: Literal[Order, "HW"] = "HWC",
    convert_to: Literal["y", "gray"] = "y",
    better: Literal["lower"] = "lower",
) -> float | torch.Tensor:
    """`niqe` under BasicSR's name and options."""
    return niqe(in_order(restored, input_order), border_px=crop_border, convert_to=convert_to)


@metric("brisque", higher_is_better=False, needs_reference=False)
def brisque(
    restored: Images,
    reference: Images | None = None,
    *,
    border_px: Border = 0,
    bits: Bits | None = None,
    data_range: White = 1.0,
) -> float | torch.Tensor:
    """BRISQUE: 0 for the best, about 100 for the worst quality; a little outside that range at the extremes.

    Colour is judged by its full-range grey, rounded to 8 bits as in MATLAB. The arguments are those of `niqe`.

    Raises:
        ImageError: a side is under 16 px, or the image has no structure.
    """
    x_BCHW = Preparation(border_px, bits=bits, data_range=data_range)(restored, "restored")
    require_size(x_BCHW, 16, "BRISQUE")
    levels_BCHW = (_matlab_grey(x_BCHW) * 255).round()
    features_BF = torch.cat([_brisque_features(levels_BCHW), _brisque_features(resize(levels_BCHW, scale=0.5))], dim=1)
    if not torch.isfinite(features_BF).all():
        raise ImageError("BRISQUE is undefined for an image without structure (a constant one).")
    model = _model("brisque", x_BCHW.device, x_BCHW.dtype)
    scaled_BF = (features_BF - model["low"]) * 2 / (model["high"] - model["low"]) - 1
    kernel_BV = torch.exp(-model["gamma"] * torch.cdist(scaled_BF, model["vectors"]).square())
    return as_score(kernel_BV @ model["coefficients"] - model["rho"], restored)


def _matlab_grey(x_BCHW: torch.Tensor) -> torch.Tensor:
    if x_BCHW.shape[1] == 1:
        return x_BCHW
    return (x_BCHW * x_BCHW.new_tensor(MATLAB_GREY).view(3, 1, 1)).sum(dim=1, keepdim=True)


def _niqe_features(levels_BCHW: torch.Tensor, block_px: int) -> torch.Tensor:
    """18 features of every block, (B, K, 18)."""
    alpha_SBK, left_SBK, right_SBK = _fit_asymmetric(_samples_of_blocks(levels_BCHW, block_px))
    spread_SBK = _spread(alpha_SBK)
    features = [alpha_SBK[0], (left_SBK[0] + right_SBK[0]) / 2 * spread_SBK[0]]
    mean_SBK = (right_SBK - left_SBK) * spread_SBK * _mean_factor(alpha_SBK)
    lefts_SBK, rights_SBK = left_SBK * spread_SBK, right_SBK * spread_SBK
    for product in range(1, len(alpha_SBK)):
        features += [each_SBK[product] for each_SBK in (alpha_SBK, mean_SBK, lefts_SBK, rights_SBK)]
    return torch.stack(features, dim=2).to(levels_BCHW)


class _Samples(NamedTuple):
    """Sums over samples, each of any shape: what a fit has to know of them."""

    left_squares: torch.Tensor  # of negative ones
    right_squares: torch.Tensor
    magnitudes: torch.Tensor
    num_left: torch.Tensor
    num_right: torch.Tensor
    num: int

    @classmethod
    def of(cls, samples: torch.Tensor) -> _Samples:
        """Sums over the last two dimensions."""
        flat = samples.flatten(-2)
        left, right = flat.clamp(max=0), flat.clamp(min=0)
        left_squares, right_squares = left.square().sum(dim=-1), right.square().sum(dim=-1)
        magnitudes = right.sum(dim=-1) - left.sum(dim=-1)
        num_left, num_right = -left.sign_().sum(dim=-1), right.sign_().sum(dim=-1)  # faster than masks
        return cls(left_squares, right_squares, magnitudes, num_left, num_right, flat.shape[-1])

    @classmethod
    def stacked(cls, sums: torch.Tensor, num: int) -> _Samples:
        """From the five sums in the order of the fields, (5, ...)."""
        left_squares, right_squares, magnitudes, num_left, num_right = sums
        return cls(left_squares, right_squares, magnitudes, num_left, num_right, num)


def _samples_of_blocks(levels_BCHW: torch.Tensor, block_px: int) -> _Samples:
    """Of the normalised values of every block and of their products with four neighbours, (5, B, K)."""
    if levels_BCHW.device.type == "cpu" and levels_BCHW.dtype == torch.float64 and not levels_BCHW.requires_grad:
        taps = np.array(LOCAL_TAPS)
        sums = [block_sums(image.numpy(), block_px, taps, ROUNDING_LEVELS) for image in levels_BCHW[:, 0]]
        found = [each for each in sums if each is not None]
        if len(found) == len(levels_BCHW):
            return _Samples.stacked(torch.from_numpy(np.stack(found)).permute(3, 2, 0, 1), block_px**2)
    # Local means and deviations need float64 (flat areas); for the sums over a block, float32 is enough and faster.
    normalised = _locally_normalised(levels_BCHW, "replicate").float()
    blocks_BKHW = (
        normalised[:, 0].unfold(1, block_px, block_px).unfold(2, block_px, block_px).flatten(1, 2).contiguous()
    )
    kinds = [_Samples.of(samples) for samples in (blocks_BKHW, *_neighbour_products(blocks_BKHW))]
    return _Samples.stacked(torch.stack([torch.stack(kind[:-1]) for kind in kinds], dim=1), block_px**2)


def _distance_from_pristine(features_KF: torch.Tensor) -> torch.Tensor:
    whole = features_KF[~features_KF.isnan().any(dim=1)]
    if len(whole) < 2:
        raise ImageError(
            f"NIQE is undefined: it needs two blocks of {BLOCK_PX}x{BLOCK_PX} px with structure; this image has "
            f"{len(whole)} (of {len(features_KF)})."
        )
    pristine = _model("niqe", features_KF.device, features_KF.dtype)
    difference = pristine["mean"] - features_KF.nanmean(dim=0)
    covariance = (pristine["covariance"] + whole.T.cov()) / 2
    return (difference @ torch.linalg.pinv(covariance) @ difference).sqrt()


def _brisque_features(levels_BCHW: torch.Tensor) -> torch.Tensor:
    """18 features of the whole image, (B, 18)."""
    normalised = _locally_normalised(levels_BCHW, "constant")
    power = normalised.square().mean(dim=(2, 3))
    ratio = normalised.abs().mean(dim=(2, 3)).square() / power
    features = [_shape_of(ratio), power]
    for product in _neighbour_products(normalised):
        alpha, left, right = _fit_asymmetric(_Samples.of(product))
        mean = (right - left) * _spread(alpha) * _mean_factor(alpha)
        features += [alpha, mean, left.square(), right.square()]
    return torch.cat(features, dim=1)


def _locally_normalised(levels_BCHW: torch.Tensor, padding: Literal["replicate", "constant"]) -> torch.Tensor:
    """Values less their local mean, by their local deviation plus one level (7x7 Gaussian).

    In flat areas the difference is rounding error, whose sign would count as a sample on one side: it is set to 0.
    """
    padded_BCHW = F.pad(levels_BCHW, (3, 3, 3, 3), mode=padding)
    mean, square = filter_valid(padded_BCHW, LOCAL_TAPS), filter_valid(padded_BCHW.square(), LOCAL_TAPS)
    difference = F.hardshrink(levels_BCHW - mean, ROUNDING_LEVELS)
    return difference / ((square - mean.square()).abs().sqrt() + 1)


def _neighbour_products(x: torch.Tensor) -> list[torch.Tensor]:
    """Each pixel times one of its four neighbours; the other four mirror them. The borders are joined, as published."""
    below = x.roll(1, dims=-2)
    return [x * x.roll(1, dims=-1), x * below, x * below.roll(1, dims=-1), x * below.roll(-1, dims=-1)]


def _fit_asymmetric(samples: _Samples) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Shape and the two root mean squares of an asymmetric generalised Gaussian.

    Where all samples are on one side, one root is NaN.
    """
    ratio = samples.magnitudes.square() / ((samples.left_squares + samples.right_squares) * samples.num)
    left_root = (samples.left_squares / samples.num_left).sqrt()
    right_root = (samples.right_squares / samples.num_right).sqrt()
    skew = left_root / right_root
    corrected = ratio * (skew**3 + 1) * (skew + 1) / (skew.square() + 1).square()
    return _shape_of(corrected), left_root, right_root


def _shape_of(ratio: torch.Tensor) -> torch.Tensor:
    """The shape whose E|x|^2 / E[x^2] is nearest to `ratio`, on the published grid 0.2, 0.201 .. 10.

    NaN gives the first entry, as an argmin over NaN does.
    """
    shapes, ratios = (table.to(ratio) for table in _shape_table())
    above = torch.searchsorted(ratios, ratio.contiguous()).clamp(1, len(ratios) - 1)
    nearer_below = (ratio - ratios[above - 1]) <= (ratios[above] - ratio)
    index = torch.where(ratio.isnan(), 0, above - nearer_below.long())
    return shapes[index]


@functools.cache
def _shape_table() -> tuple[torch.Tensor, torch.Tensor]:
    shapes = 0.2 + 0.001 * torch.arange(9801, dtype=torch.float64)
    gamma = torch.special.gammaln
    return shapes, torch.exp(2 * gamma(2 / shapes) - gamma(1 / shapes) - gamma(3 / shapes))


def _spread(alpha: torch.Tensor) -> torch.Tensor:
    """What turns a root mean square into the scale parameter."""
    return torch.exp((torch.special.gammaln(1 / alpha) - torch.special.gammaln(3 / alpha)) / 2)


def _mean_factor(alpha: torch.Tensor) -> torch.Tensor:
    return torch.exp(torch.special.gammaln(2 / alpha) - torch.special.gammaln(1 / alpha))


@functools.lru_cache(maxsize=8)
def _model(name: str, device: torch.device, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value).to(device, dtype) for key, value in stored(name).items()}

"""The convolutions of refined attention, a few rows of the maps at a time.

With h heads, H hidden maps and batch norms, a map A of N x M goes through

    e = W A,  r = clip(norm1(e)),  d = K * r,  s = clip(norm2(d)),  p = P s

where W and P mix maps, K convolves each and clip is to [0, 6]. One operation after the other keeps five times H N M
numbers for the gradient. Here a few rows of all of it are there at once, and only A is kept: a large batch takes a
quarter of the memory. What a batch norm needs of e follows from the means and products of the maps of A (e is linear
in them); what it needs of d takes a pass of its own, and so do two passes of the gradient, which compute e to s again.

Shape legend: B batch, h heads, H hidden maps, N x M a map, R rows of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from restore.layers.compiled.attention import every_operator_is_seen
from restore.layers.exportable import is_exporting

__all__ = ["convolved_maps"]

_ROWS_BYTES = 2**21  # of the hidden maps of the rows that are computed at once
_FEWEST_BYTES = 2**28
"""Of the hidden maps of a batch; with fewer, one operation after the other is a tenth faster, and its memory small."""
_HIGHEST = 6.0


def convolved_maps(maps_BhNM: Tensor, layers: nn.Sequential) -> Tensor | None:
    """What `conv_exp` to `conv_pro` of the layers make of maps; differentiable once.

    Running statistics are updated in training, as torch does.

    Returns:
        (B, h, N, M); None where torch has to compute it.
    """
    parts = dict(layers.named_children())
    norms = [norm for norm in (parts.get("bn1"), parts.get("bn2")) if isinstance(norm, nn.BatchNorm2d)]
    if len(norms) < 2 or not all(norm.track_running_stats and norm.affine for norm in norms):
        return None  # folded
    if torch.compiler.is_compiling() or is_exporting() or every_operator_is_seen() or torch.is_autocast_enabled("cpu"):
        return None
    weights = [cast(nn.Conv2d, parts[name]).weight for name in ("conv_exp", "depth_sep_conv", "conv_pro")]
    small = maps_BhNM[:, 0].numel() * len(weights[0]) * maps_BhNM.element_size() < _FEWEST_BYTES
    if small or not maps_BhNM.is_cpu or maps_BhNM.dtype not in (torch.float32, torch.float64):
        return None
    settings = [_Settings(norm) for norm in norms]
    affine = [parameter for norm in norms for parameter in (norm.weight, norm.bias)]
    output_BhNM, *found = _ConvolvedMaps.apply(maps_BhNM, *weights, *affine, settings)
    for norm, (mean, variance) in zip(norms, (found[:2], found[2:]), strict=True):
        _update(norm, mean, variance, maps_BhNM.numel() // maps_BhNM.shape[1])
    return output_BhNM


class _Settings:
    """What a batch norm does: its statistics are those of the batch where `mean` is None."""

    def __init__(self, norm: nn.BatchNorm2d):
        self.eps = norm.eps
        self.mean, self.variance = (None, None) if norm.training else (norm.running_mean, norm.running_var)


@torch.no_grad()
def _update(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    if not norm.training:
        return
    assert norm.num_batches_tracked is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.num_batches_tracked.add_(1)
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean), share)
    norm.running_var.lerp_((variance * (count / max(count - 1, 1))).to(norm.running_var), share)


class _Norm(NamedTuple):
    """A batch norm of known statistics: factor and shift, what they are made of, each (H, 1)."""

    scale: Tensor
    shift: Tensor
    mean: Tensor
    inverse: Tensor


def _norm(mean_H: Tensor, variance_H: Tensor, weight_H: Tensor, bias_H: Tensor, eps: float) -> _Norm:
    inverse = (variance_H + eps).rsqrt()
    scale = weight_H * inverse
    parts = (scale, bias_H - mean_H * scale, mean_H, inverse)
    return _Norm(*(part.to(weight_H.dtype)[:, None] for part in parts))


class _ConvolvedMaps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        maps_BhNM: Tensor,
        mixing: Tensor,
        kernel: Tensor,
        joining: Tensor,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        settings: list[_Settings],
    ) -> tuple[Tensor, ...]:
        before, behind = settings
        mixing_Hh, joining_hH = mixing.flatten(1), joining.flatten(1)
        means_h, products_hh = _moments(maps_BhNM)
        exact_Hh = mixing_Hh.to(means_h)
        mean1, variance1 = before.mean, before.variance
        if mean1 is None or variance1 is None:
            mean1 = exact_Hh @ means_h
            variance1 = ((exact_Hh @ products_hh) * exact_Hh).sum(dim=1)
        norm1 = _norm(mean1, variance1, weight1, bias1, before.eps)
        rows = _Rows(maps_BhNM, mixing_Hh, kernel, norm1)
        mean2, variance2 = behind.mean, behind.variance
        if mean2 is None or variance2 is None:
            mean2, variance2 = _statistics(rows)
        norm2 = _norm(mean2, variance2, weight2, bias2, behind.eps)
        output_BhNM = torch.empty_like(maps_BhNM)
        scaled = _Rows(maps_BhNM, mixing_Hh, kernel * norm2.scale[..., None, None], norm1)
        for image, first, last, _, seen_HRM in scaled:
            clipped_HK = seen_HRM.flatten(1).add_(norm2.shift).clamp_(0, _HIGHEST)
            output_BhNM[image, :, first:last] = (joining_hH @ clipped_HK).view(len(joining_hH), last - first, -1)
        ctx.save_for_backward(maps_BhNM, mixing, kernel, joining, means_h, products_hh, weight2, bias2, *norm1, *norm2)
        ctx.of_batch = before.mean is None, behind.mean is None
        found = [each.clone() for each in (mean1, variance1, mean2, variance2)]
        ctx.mark_non_differentiable(*found)
        return output_BhNM, *found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BhNM: Tensor, *of_statistics: Any) -> tuple[Tensor | None, ...]:
        maps_BhNM, mixing, kernel, joining, means_h, products_hh, weight2, bias2, *norms = ctx.saved_tensors
        norm1, norm2 = _Norm(*norms[:4]), _Norm(*norms[4:])
        mixing_Hh, joining_hH = mixing.flatten(1), joining.flatten(1)
        count = maps_BhNM.numel() // maps_BhNM.shape[1]
        rows = _Rows(maps_BhNM, mixing_Hh, kernel, norm1)
        of_joining = torch.zeros_like(joining_hH, dtype=torch.float64)
        of_bias2, of_weight2 = (torch.zeros_like(bias2[:, None], dtype=torch.float64) for _ in range(2))
        for image, first, last, _, seen_HRM in rows:
            of_output_hK = gradient_BhNM[image, :, first:last].flatten(1)
            normed_HK, of_scaled_HK, clipped_HK = _behind(seen_HRM, of_output_hK, joining_hH, norm2, weight2, bias2)
            of_joining += of_output_hK @ clipped_HK.mT
            of_bias2 += of_scaled_HK.sum(dim=1, keepdim=True)
            of_weight2 += torch.linalg.vecdot(of_scaled_HK, normed_HK)[:, None]
        of_mean_H1, of_variance_H1 = (
            (each / count).to(kernel.dtype) * ctx.of_batch[1] for each in (of_bias2, of_weight2)
        )
        of_maps_BhNM, carried = torch.empty_like(maps_BhNM), kernel
        of_kernel, of_bias1, with_maps_Hh = (
            torch.zeros_like(each, dtype=torch.float64) for each in (kernel, bias2[:, None], mixing_Hh)
        )
        back_hH, near_h1 = (mixing_Hh * norm1.scale).mT.contiguous(), means_h.to(mixing.dtype)[:, None]
        for image, first, last, clipped_HRM, seen_HRM in rows:
            of_output_hK = gradient_BhNM[image, :, first:last].flatten(1)
            normed_HK, of_scaled_HK, _ = _behind(seen_HRM, of_output_hK, joining_hH, norm2, weight2, bias2)
            of_scaled_HK.sub_(of_mean_H1).sub_(normed_HK.mul_(of_variance_H1)).mul_(norm2.scale)
            of_rows_HRM, of_part = rows.transposed(of_scaled_HK.view_as(seen_HRM), clipped_HRM)
            of_kernel += of_part
            if first:  # the rows to which the part before gave something already
                of_rows_HRM[:, : carried.shape[1]] += carried
            begin, end = first - rows.around, last if last == maps_BhNM.shape[2] else last - rows.around
            carried = of_rows_HRM[:, end - begin :].clone()
            done = slice(max(-begin, 0), end - begin)
            r_HRM = clipped_HRM[:, done]
            of_e_HK = (of_rows_HRM[:, done] * ((r_HRM > 0) & (r_HRM < _HIGHEST))).flatten(1)
            own = slice(max(begin, 0), end)
            of_bias1 += of_e_HK.sum(dim=1, keepdim=True)
            with_maps_Hh += of_e_HK @ (maps_BhNM[image, :, own].flatten(1) - near_h1).mT
            of_maps_BhNM[image, :, own] = (back_hH @ of_e_HK).view(len(back_hH), -1, maps_BhNM.shape[3])
        mean1, inverse1, scale1 = (each.double() for each in (norm1.mean, norm1.inverse, norm1.scale))
        exact_Hh = mixing_Hh.double()
        of_weight1 = (exact_Hh * with_maps_Hh).sum(dim=1, keepdim=True)
        of_weight1 = inverse1 * (of_weight1 + (exact_Hh @ means_h[:, None] - mean1) * of_bias1)
        if not ctx.of_batch[0]:
            of_mixing = scale1 * (with_maps_Hh + of_bias1 * means_h)
        else:
            of_mixing = scale1 * (with_maps_Hh - of_weight1 * inverse1 * (exact_Hh @ products_hh))
            bent_H1 = scale1 * of_weight1 * inverse1 / count
            bending_hh = exact_Hh.mT @ (bent_H1 * exact_Hh)
            constant_h = (exact_Hh.mT @ (bent_H1 * mean1 - scale1 * of_bias1 / count))[:, 0]
            for of_map, one in zip(of_maps_BhNM, maps_BhNM, strict=True):
                of_map.add_(constant_h.to(one.dtype)[:, None, None])
                of_map.flatten(1).sub_(bending_hh.to(one.dtype) @ one.flatten(1))
        kind = kernel.dtype
        return (
            of_maps_BhNM,
            of_mixing.to(kind).view_as(mixing),
            of_kernel.to(kind),
            of_joining.to(kind).view_as(joining),
            *(each.to(kind)[:, 0] for each in (of_weight1, of_bias1, of_weight2, of_bias2)),
            None,
        )


class _Rows:
    """Passes over the maps: of each image, rows by rows, what is convolved and what the convolution makes of it.

    Each step gives the image, the first row and the one after the last, `r` (H, R + 2 around, M) of these rows and of
    those around them, zeros beyond the map, and `d` (H, R, M).
    """

    def __init__(self, maps_BhNM: Tensor, mixing_Hh: Tensor, kernel: Tensor, norm: _Norm):
        self.maps_BhNM, self.kernel = maps_BhNM, kernel
        self.mixing_Hh, self.shift_H1 = mixing_Hh * norm.scale, norm.shift
        self.around = kernel.shape[-1] // 2
        of_row = len(kernel) * maps_BhNM.shape[3] * maps_BhNM.element_size()
        self.step = max(_ROWS_BYTES // of_row, 4 * self.around, 1)

    def __iter__(self) -> Iterator[tuple[int, int, int, Tensor, Tensor]]:
        B, _, N, M = self.maps_BhNM.shape
        for image in range(B):
            for first in range(0, N, self.step):
                last = min(first + self.step, N)
                before, behind = first - self.around, last + self.around
                own = slice(max(before, 0), min(behind, N))
                clipped_HRM = self.maps_BhNM.new_zeros(len(self.kernel), behind - before, M)
                mixed_HK = torch.addmm(self.shift_H1, self.mixing_Hh, self.maps_BhNM[image, :, own].flatten(1))
                inner = clipped_HRM[:, own.start - before : own.stop - before]
                torch.clamp(mixed_HK.view_as(inner), 0, _HIGHEST, out=inner)
                seen_1HRM = torch.conv2d(
                    clipped_HRM[None], self.kernel, padding=(0, self.around), groups=len(self.kernel)
                )
                yield image, first, last, clipped_HRM, seen_1HRM[0]

    def transposed(self, of_seen_HRM: Tensor, clipped_HRM: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of `r` and of the kernel."""
        of_clipped, of_kernel, _ = torch.ops.aten.convolution_backward(
            of_seen_HRM[None], clipped_HRM[None], self.kernel, None, [1, 1], [0, self.around], [1, 1], False, [0, 0],
            len(self.kernel), [True, True, False],
        )  # fmt: skip
        return of_clipped[0], of_kernel


def _behind(
    seen_HRM: Tensor, of_output_hK: Tensor, joining_hH: Tensor, norm: _Norm, weight_H: Tensor, bias_H: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`d` normed, the gradient of what is clipped, and `s`."""
    normed_HK = seen_HRM.flatten(1).sub_(norm.mean).mul_(norm.inverse)
    scaled_HK = torch.addcmul(bias_H[:, None], normed_HK, weight_H[:, None])
    clipped_HK = scaled_HK.clamp(0, _HIGHEST)
    of_scaled_HK = (joining_hH.mT @ of_output_hK).mul_((scaled_HK > 0) & (scaled_HK < _HIGHEST))
    return normed_HK, of_scaled_HK, clipped_HK


def _moments(maps_BhNM: Tensor) -> tuple[Tensor, Tensor]:
    """The means (h,) and centred products (h, h) of the maps, in float64."""
    means_h = maps_BhNM.mean(dim=(0, 2, 3), dtype=torch.float64)
    products_hh = maps_BhNM.new_zeros(len(means_h), len(means_h), dtype=torch.float64)
    near_h1 = means_h.to(maps_BhNM.dtype)[:, None]
    for one in maps_BhNM:
        for part in one.flatten(1).split(2**16, dim=1):
            centred = part - near_h1
            products_hh += centred @ centred.mT
    return means_h, products_hh / (maps_BhNM.numel() // maps_BhNM.shape[1])


def _statistics(rows: _Rows) -> tuple[Tensor, Tensor]:
    """Mean and variance (H,) of `d`, in float64."""
    sums, squares = (rows.kernel.new_zeros(len(rows.kernel), dtype=torch.float64) for _ in range(2))
    for *_, seen_HRM in rows:
        seen_HK = seen_HRM.flatten(1)
        sums += seen_HK.sum(dim=1)
        squares += torch.linalg.vecdot(seen_HK, seen_HK)
    count = rows.maps_BhNM.numel() // rows.maps_BhNM.shape[1]
    mean = sums / count
    return mean, (squares / count - mean.square()).clamp(min=0)

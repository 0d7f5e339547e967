"""The keys that Real-ESRGAN's models read at the top of the file: the degradation computed on the device."""

from __future__ import annotations

from typing import Any

from pydantic import NonNegativeFloat, PositiveInt

from restore.options.schema.section import Probability, Range, Section

__all__ = ["DegradationOptions"]


class DegradationOptions(Section):
    """Real-ESRGAN's degradation of a batch on the device, read by RealESRNetModel and RealESRGANModel; null: unused."""

    gt_size: PositiveInt | None = None
    """Side of the patch of the sharp image that is cut after degrading, in pixels."""
    gt_usm: bool | None = None
    """RealESRNetModel: whether the target is sharpened (unsharp mask)."""
    l1_gt_usm: bool | None = None
    """RealESRGANModel: whether the target of the pixel loss is sharpened."""
    percep_gt_usm: bool | None = None
    """RealESRGANModel: whether the target of the perceptual loss is sharpened."""
    gan_gt_usm: bool | None = None
    """RealESRGANModel: whether the real images of the adversarial loss are sharpened."""
    queue_size: PositiveInt | None = None
    """Images in the pool that batches are mixed from, a multiple of the batch size; null: 180."""
    high_order_degradation: bool | None = None
    """Whether to degrade on the device at all; false for pairs (RealESRGANPairedDataset). Null: true."""
    lq_usm: bool | None = None
    """RealESRGANModel: whether what is degraded is the sharpened image. Null: true."""
    blur_prob: Probability | None = None
    """First stage: probability of blur. Null: 1."""
    resize_prob: list[Probability] | None = None
    """First stage: probabilities of enlarging, shrinking and keeping the size."""
    resize_range: Range | None = None
    """First stage: smallest and largest factor."""
    resize_mode_list: list[str] | None = None
    """First stage: interpolations, of those of the operator `resize`. Null: [area, bilinear, bicubic]."""
    resize_mode_prob: list[NonNegativeFloat] | None = None
    """First stage: weight of each interpolation. Null: alike."""
    gaussian_noise_prob: Probability | None = None
    """First stage: probability of Gaussian noise; Poisson noise otherwise."""
    noise_range: Range | None = None
    """First stage: standard deviation of the Gaussian noise on [0, 255]."""
    poisson_scale_range: Range | None = None
    """First stage: strength of the Poisson noise."""
    gray_noise_prob: Probability | None = None
    """First stage: probability that the noise is the same in all channels."""
    jpeg_range: Range | None = None
    """First stage: JPEG quality."""
    jpeg_prob: Probability | None = None
    """First stage: probability of JPEG. Null: 1."""
    second_blur_prob: Probability | None = None
    """Second stage: probability of blur."""
    resize_prob2: list[Probability] | None = None
    """Second stage: probabilities of enlarging, shrinking and keeping the size."""
    resize_range2: Range | None = None
    """Second stage: smallest and largest factor."""
    resize_mode_list2: list[str] | None = None
    """Second stage: interpolations."""
    resize_mode_prob2: list[NonNegativeFloat] | None = None
    """Second stage: weight of each interpolation."""
    gaussian_noise_prob2: Probability | None = None
    """Second stage: probability of Gaussian noise; Poisson noise otherwise."""
    noise_range2: Range | None = None
    """Second stage: standard deviation of the Gaussian noise on [0, 255]."""
    poisson_scale_range2: Range | None = None
    """Second stage: strength of the Poisson noise."""
    gray_noise_prob2: Probability | None = None
    """Second stage: probability that the noise is the same in all channels."""
    jpeg_range2: Range | None = None
    """Second stage: JPEG quality."""
    jpeg_prob2: Probability | None = None
    """Second stage: probability of JPEG. Null: 1."""
    resize_mode_list3: list[str] | None = None
    """Back to size at the end: interpolations."""
    resize_mode_prob3: list[NonNegativeFloat] | None = None
    """Back to size at the end: weight of each interpolation."""

    @property
    def degrades(self) -> bool:
        """Whether a model that degrades on the device does so."""
        return self.high_order_degradation is not False

    @property
    def degradation(self) -> dict[str, Any]:
        """The degradation that the file gives, by key; empty if it gives none."""
        values = {name: getattr(self, name) for name in DegradationOptions.model_fields}
        return {name: value for name, value in values.items() if value is not None}

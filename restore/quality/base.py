"""What every quality model has in common.

A quality model predicts (`forward`, with gradients, for training and as a loss) and judges (`judge`, without gradients,
the published way: crops are drawn, predictions are averaged). Images are RGB (B, 3, H, W) in [0, 1].
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import torch

from restore.errors import ImageError
from restore.layers.modes import evaluating
from restore.networks.base import Network
from restore.networks.spec import ImageSpec

__all__ = ["QualityModel"]


class QualityModel(Network):
    """Base of all quality models.

    Attributes:
        needs_reference: whether images are judged against a reference.
        target: what of an opinion the prediction is trained on: "opinion" (one number in [0, 1]) or "distribution"
            (the shares of five levels).
        score_range: worst and best score.
        patches: whether it also says which parts of an image are bad: `forward(..., patches=True)` gives two
            predictions then, of the images (B, ...) and of their patches (B, ..., h, w).
    """

    needs_reference: ClassVar[bool]
    target: ClassVar[Literal["opinion", "distribution"]]
    score_range: ClassVar[tuple[float, float]]
    patches: bool = False

    @property
    def spec(self) -> ImageSpec:
        """What the model takes; it gives no image."""
        return ImageSpec(scale=1, in_channels=3, out_channels=0)

    @abstractmethod
    def score(self, prediction: torch.Tensor) -> torch.Tensor:
        """The score (B,) that a prediction of `forward` stands for."""

    def judge(self, x_BCHW: torch.Tensor, reference_BCHW: torch.Tensor | None = None) -> torch.Tensor:
        """Scores (B,) of whole images, without gradients and without dropout; higher is better.

        Raises:
            ImageError: not (B, 3, H, W), not finite, too small, or a reference that is missing or of another size.
        """
        self._check(x_BCHW, reference_BCHW)
        with torch.no_grad(), evaluating(self):
            return self._judged(x_BCHW, reference_BCHW)

    def judge_patches(self, x_BCHW: torch.Tensor, reference_BCHW: torch.Tensor | None = None) -> torch.Tensor:
        """Scores (B, h, w) of the patches of whole images, as `judge` has those of images.

        Raises:
            ImageError: as `judge` does, or the model says nothing of patches.
        """
        if not self.patches:
            raise ImageError(f"this {type(self).__name__} says nothing of parts of an image: it lacks patches: true.")
        self._check(x_BCHW, reference_BCHW)
        with torch.no_grad(), evaluating(self):
            return self.score(self(x_BCHW, reference_BCHW, patches=True)[1])

    @abstractmethod
    def _judged(self, x_BCHW: torch.Tensor, reference_BCHW: torch.Tensor | None) -> torch.Tensor:
        """What `judge` does with images that were checked."""

    def _check(self, x_BCHW: torch.Tensor, reference_BCHW: torch.Tensor | None) -> None:
        name = type(self).__name__
        if self.needs_reference and reference_BCHW is None:
            raise ImageError(f"{name} judges against a reference; none is given.")
        for what, images in (("image", x_BCHW), ("reference", reference_BCHW)):
            if images is None:
                continue
            if images.ndim != 4 or images.shape[1] != 3:
                raise ImageError(
                    f"{name} takes RGB, (B, 3, H, W); the {what} is {tuple(images.shape)}. Repeat grey three times."
                )
            if not images.isfinite().all():
                raise ImageError(f"{name}: the {what} holds NaN or infinity.")
        if reference_BCHW is not None and reference_BCHW.shape != x_BCHW.shape:
            raise ImageError(
                f"{name}: the image is {tuple(x_BCHW.shape)} and its reference {tuple(reference_BCHW.shape)}; they "
                "must be equal, nothing is resized here."
            )

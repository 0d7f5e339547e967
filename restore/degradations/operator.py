"""What a degradation operator is.

An operator is a frozen dataclass whose fields are the parameters of *one* sample: plain numbers that were drawn before,
can be written to a file and applied again. `apply` takes a batch and one such object for each sample in it:

    @operator("gaussian_noise")
    class GaussianNoise(Operator):
        sigma: Annotated[float, Field(ge=0)]
        seed: int = 0

        @classmethod
        def apply(cls, x_BCHW, samples): ...

    GaussianNoise.apply(x_BCHW, [GaussianNoise(sigma=15, seed=1), GaussianNoise(sigma=50, seed=2)])
    GaussianNoise(sigma=15, seed=1)(x_BCHW)        # the same parameters for every sample

Two fields have a meaning of their own: `seed` (of a field of random numbers) is drawn by the pipeline unless it is
configured, and `gt_px` (height and width of the original) is filled in by it.

Tensors are float in [0, 1]; x_BCHW means (batch, channels, height, width). On the CPU many operators hand single images
to OpenCV; the tensor code beside it serves accelerators and gradients, and the tests hold the two together.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import cv2
import numpy as np
import torch

from restore.registry import DEGRADATIONS

__all__ = ["Operator", "column", "joined", "on_images", "operator", "tensor_code", "to_levels", "uses_opencv"]

Sample = TypeVar("Sample", bound="Operator")

_TENSOR_CODE = contextvars.ContextVar("tensor_code", default=False)


class Operator(ABC):
    """Base of all operators; see the module's description."""

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def apply(cls: type[Sample], x_BCHW: torch.Tensor, samples: Sequence[Sample]) -> torch.Tensor:
        """Degrade a batch, each image by the parameters of its sample."""

    def group(self) -> Hashable:
        """Samples (of equal image size) can share one call of `apply` if this is equal."""
        return None

    def __call__(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Degrade every image of a batch by the same parameters."""
        return self.apply(x_BCHW, [self] * len(x_BCHW))

    def to_dict(self) -> dict[str, Any]:
        """The block that builds this object again."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {"type": self.name} | {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}


def operator(name: str) -> Callable[[type[Sample]], type[Sample]]:
    """Class decorator: makes a frozen keyword-only dataclass of an operator and registers it."""

    def register(cls: type[Sample]) -> type[Sample]:
        cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
        cls.name = name
        return DEGRADATIONS.add(name)(cls)

    return register


def column(x_BCHW: torch.Tensor, values: Sequence[float]) -> torch.Tensor:
    """One number for each sample, shaped (B, 1, 1, 1) to be combined with the batch; without a shape for one sample."""
    if len(values) == 1:
        return torch.tensor(values[0], dtype=x_BCHW.dtype, device=x_BCHW.device)
    return torch.tensor(values, dtype=x_BCHW.dtype, device=x_BCHW.device).view(-1, 1, 1, 1)


def uses_opencv(x_BCHW: torch.Tensor) -> bool:
    """Whether OpenCV may do the work: float32 on the CPU, no gradient wanted."""
    plain = x_BCHW.device.type == "cpu" and x_BCHW.dtype == torch.float32 and not x_BCHW.requires_grad
    return plain and not _TENSOR_CODE.get()


@contextlib.contextmanager
def tensor_code() -> Iterator[None]:
    """Within this context the CPU runs the tensor code that accelerators run."""
    token = _TENSOR_CODE.set(True)
    try:
        yield
    finally:
        _TENSOR_CODE.reset(token)


def joined(images_CHW: Sequence[torch.Tensor]) -> torch.Tensor:
    """Images as a batch; a single one shares its memory."""
    return images_CHW[0][None] if len(images_CHW) == 1 else torch.stack(list(images_CHW))


def on_images(
    function: Callable[[np.ndarray, Sample, np.ndarray], None],
    x_BCHW: torch.Tensor,
    samples: Sequence[Sample],
    size: tuple[int, int] | None = None,
) -> torch.Tensor:
    """Apply a function to each image of a CPU batch, plane by plane where OpenCV wants that: planes fit into the cache.

    Args:
        function: of an image (C, H, W), its sample, and the array (C, *size) that it has to fill.
        x_BCHW: float32, without a gradient.
        samples: one for each image.
        size: height and width of the result; those of the images if not given.
    """
    images = np.ascontiguousarray(x_BCHW.numpy())
    result = np.empty((*images.shape[:2], *(size or images.shape[2:])), np.float32)
    for image, sample, target in zip(images, samples, result, strict=True):
        function(image, sample, target)
    return torch.from_numpy(result)


def to_levels(x_BCHW: torch.Tensor) -> torch.Tensor:
    """The nearest of the 256 levels of an 8-bit image, uint8; what lies outside [0, 1] is clipped."""
    if not uses_opencv(x_BCHW):
        return x_BCHW.detach().mul(255).round_().clamp_(0, 255).byte()
    rows = np.ascontiguousarray(x_BCHW.numpy()).reshape(-1, x_BCHW.shape[-1])
    levels = cv2.addWeighted(rows, 255, rows, 0, 0, dtype=cv2.CV_8U)
    return torch.from_numpy(levels.reshape(x_BCHW.shape))

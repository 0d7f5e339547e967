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

Tensors are float in [0, 1]; x_BCHW means (batch, channels, height, width). On the CPU many operators have a second form
for one image as OpenCV has it, `on_pixels`: the tensor code beside it serves accelerators and gradients, and the tests
hold the two together. Images stay in that form from one operator to the next, so that there is little to do in Python
between them: its lock is what keeps threads waiting.
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

__all__ = [
    "Operator",
    "column",
    "from_levels",
    "from_planes",
    "joined",
    "on_images",
    "operator",
    "tensor_code",
    "to_levels",
    "to_planes",
    "uses_opencv",
]

Sample = TypeVar("Sample", bound="Operator")

_TENSOR_CODE = contextvars.ContextVar("tensor_code", default=False)


class Operator(ABC):
    """Base of all operators; see the module's description."""

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        """A new `apply` without an `on_pixels` of its own does not inherit one that does something else."""
        super().__init_subclass__()
        if "apply" in vars(cls) and "on_pixels" not in vars(cls):
            cls.on_pixels = Operator.on_pixels

    @classmethod
    @abstractmethod
    def apply(cls: type[Sample], x_BCHW: torch.Tensor, samples: Sequence[Sample]) -> torch.Tensor:
        """Degrade a batch, each image by the parameters of its sample."""

    def on_pixels(self, image: np.ndarray) -> np.ndarray:
        """The same for one image as OpenCV has it, float32 (H, W, 3) or (H, W), which is not written to."""
        x_BCHW = torch.from_numpy(to_planes(image))[None]
        return from_planes(self.apply(x_BCHW, [self])[0].numpy())

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
    """Whether images may go through `on_pixels`: grey or RGB, float32 on the CPU, no gradient wanted."""
    plain = x_BCHW.device.type == "cpu" and x_BCHW.dtype == torch.float32 and not x_BCHW.requires_grad
    return plain and x_BCHW.shape[1] in (1, 3) and not _TENSOR_CODE.get()


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


def on_images(x_BCHW: torch.Tensor, samples: Sequence[Operator]) -> torch.Tensor:
    """Apply `on_pixels` of its sample to each image of a batch."""
    planes = zip(x_BCHW.numpy(), samples, strict=True)
    return joined([torch.from_numpy(to_planes(sample.on_pixels(from_planes(image)))) for image, sample in planes])


def from_planes(planes_CHW: np.ndarray) -> np.ndarray:
    """An image as OpenCV has it, (H, W, C), or (H, W) if it is grey; of any type."""
    return cv2.merge(tuple(planes_CHW)) if len(planes_CHW) > 1 else np.ascontiguousarray(planes_CHW[0])


def to_planes(image: np.ndarray) -> np.ndarray:
    """(C, H, W) from an image as OpenCV has it."""
    if image.ndim == 2:
        return image[None]
    planes = np.empty((image.shape[2], *image.shape[:2]), image.dtype)
    cv2.split(image, tuple(planes))
    return planes


def to_levels(image: np.ndarray) -> np.ndarray:
    """The nearest of the 256 levels of an 8-bit image; what lies outside [0, 1] is clipped."""
    return cv2.addWeighted(image, 255, image, 0, 0, dtype=cv2.CV_8U)


def from_levels(levels: np.ndarray) -> np.ndarray:
    """float32 in [0, 1] from 8 bits."""
    return torch.from_numpy(levels).float().div_(255).numpy()

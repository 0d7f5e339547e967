"""ONNX files in float16 and in 8-bit integers, and what they lose against float32, in dB on photographs.

Integers are per channel for weights and, by the range that calibration on photographs finds, per tensor for activations
(QDQ nodes). Products of two activations, as attention has, stay in float32.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from restore.errors import ImageError, MissingError, OptionsError
from restore.images import list_images, read_image, resize_pixels, to_tensor
from restore.inference.restorer import Restorer
from restore.metrics import psnr
from restore.networks import ImageSpec

__all__ = ["LOWER", "Loss", "lowered", "measured_loss", "photographs"]

LOWER = ("fp16", "int8")
CALIBRATION_PX, CALIBRATION_CROPS = 64, 12
SET5 = Path("datasets/benchmark/Set5/HR")
REFERENCES = ("HR", "GTmod12", "original")  # names of folders that say no more
QUANTISED = ("Conv", "MatMul", "Gemm")
Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Loss:
    """PSNR (dB), of luma and without a border as wide as the scale, of the network and of its file.

    Attributes:
        where: the photographs.
        network: against the references; None where the network does not enlarge.
        file: against the references, or against the network's own results where it does not enlarge.
    """

    where: str
    network: float | None
    file: float

    def __str__(self) -> str:
        if self.network is None:
            return f"{self.where}: {self.file:.2f} dB from the network's own results"
        lost = self.network - self.file
        return f"{self.where}: {self.network:.2f} dB in float32, {self.file:.2f} dB in this file, {lost:.2f} dB lost"


def lowered(content: bytes, precision: str, spec: ImageSpec) -> bytes:
    """An ONNX file of float32 in another precision; it still takes and gives float32.

    Args:
        content: the file.
        precision: fp16 or int8.
        spec: of the network, for photographs to calibrate on.

    Raises:
        OptionsError: another precision.
        MissingError: what converts is not installed.
    """
    if precision not in LOWER:
        raise OptionsError(f"precision is '{precision}': an exported file is of fp32, {' or '.join(LOWER)}.")
    try:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise MissingError(f"{error.name} is not installed: pip install 'restore-toolkit[export]'") from None
    if precision == "fp16":
        model = convert_float_to_float16(onnx.load_model_from_string(content), keep_io_types=True)
        return bytes(model.SerializeToString())

    class Crops(CalibrationDataReader):
        def __init__(self) -> None:
            self._crops = _crops(spec)

        def get_next(self) -> dict[str, Any] | None:
            crop = next(self._crops, None)
            return None if crop is None else {"image": crop.numpy()}

    with tempfile.TemporaryDirectory() as folder, _quiet_root():
        whole, small = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        whole.write_bytes(content)
        quantize_static(
            whole,
            small,
            Crops(),
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            op_types_to_quantize=list(QUANTISED),
            extra_options={"MatMulConstBOnly": True},
        )
        return small.read_bytes()


@contextlib.contextmanager
def _quiet_root() -> Iterator[None]:
    """Without the advice that the quantiser gives through the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def measured_loss(network: nn.Module, exported: nn.Module, folder: str | Path | None = None) -> Loss:
    """What a file loses against the network that it was made of.

    Args:
        network: in float32.
        exported: the file in its place.
        folder: of photographs in their full size; by default Set5 where it was prepared, else the package's own six.
    """
    one, other = (Restorer(each, device="cpu", precision="fp32") for each in (network, exported))
    where, pairs = photographs(one.scale, one.spec.in_channels, folder)
    figures: list[tuple[float, float]] = []
    how: dict[str, Any] = {"border_px": one.scale, "luma": one.spec.in_channels == 3}
    for small, reference in pairs:
        wanted, found = one(small), other(small)
        if one.scale > 1:
            figures.append((float(psnr(wanted, reference, **how)), float(psnr(found, reference, **how))))
        else:
            figures.append((0.0, float(psnr(found, wanted, **how))))
    first, second = np.mean(figures, axis=0)
    return Loss(where, float(first) if one.scale > 1 else None, float(second))


def photographs(scale: int, channels: int, folder: str | Path | None = None) -> tuple[str, Sequence[Pair]]:
    """What a set of photographs is called, and its inputs with their references, reduced as MATLAB does.

    Raises:
        ImageError: no photograph is there.
    """
    if folder is None:
        folder = SET5 if SET5.is_dir() else _of_the_package()
    found = list_images(folder, recursive=True)
    if not found:
        raise ImageError(f"no image is in '{folder}'")
    parts = [part for part in Path(folder).parts if part not in REFERENCES]
    where = "photographs of the package" if Path(folder) == _of_the_package() else parts[-1]
    return where, [_pair(read_image(path).pixels, scale, channels) for path in found]


def _of_the_package() -> Path:
    from restore.data.preparation.cards import prepare, read_card

    return prepare(read_card("demo"))


def _pair(pixels: np.ndarray, scale: int, channels: int) -> Pair:
    colour = np.repeat(pixels[..., None], 3, 2) if pixels.ndim == 2 else pixels[..., :3]
    height, width = (side // scale * scale for side in colour.shape[:2])
    reference = np.ascontiguousarray(colour[:height, :width])
    if channels == 1:
        reference = np.ascontiguousarray(reference[..., 1])
    return (resize_pixels(reference, scale=1 / scale) if scale > 1 else reference), reference


def _crops(spec: ImageSpec) -> Iterator[torch.Tensor]:
    """Squares (1, C, `CALIBRATION_PX`, `CALIBRATION_PX`) from the middle of the package's photographs and around it."""
    rng = np.random.default_rng(0)
    _, pairs = photographs(spec.scale, spec.in_channels, _of_the_package())
    for number in range(CALIBRATION_CROPS):
        small = to_tensor(pairs[number % len(pairs)][0]) * spec.value_range
        top, left = (int(rng.integers(0, max(side - CALIBRATION_PX, 0) + 1)) for side in small.shape[-2:])
        yield small[..., top : top + CALIBRATION_PX, left : left + CALIBRATION_PX].contiguous()

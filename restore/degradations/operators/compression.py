"""Compression: JPEG, WebP and JPEG 2000 by codecs, JPEG as tensor operations, chroma subsampling, video, rounding."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Hashable, Sequence
from fractions import Fraction
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import torch
from PIL import Image
from pydantic import Field

from restore.degradations.operators.base import (
    Operator,
    column,
    from_levels,
    on_images,
    operator,
    to_levels,
    uses_opencv,
)
from restore.degradations.operators.jpeg import from_ycbcr, jpeg, shrink_chroma, stretch_chroma, to_ycbcr
from restore.errors import MissingError

__all__ = ["ChromaSubsampling", "Jpeg", "Jpeg2000", "Quantise", "VideoFrame", "WebP"]

Quality = Annotated[int, Field(ge=1, le=100)]
Subsampling = Literal["444", "422", "420"]
_OPENCV_SUBSAMPLING = {
    "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "422": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
}


@operator("jpeg")
class Jpeg(Operator):
    """JPEG at a quality of 1 to 100 (values outside [0, 1] are clipped, as the format demands).

    `codec` is "libjpeg" (through OpenCV), "tensor" (see `restore.degradations.operators.jpeg`) or "auto": libjpeg on
    the CPU, the tensor code on an accelerator or where a gradient is wanted.
    """

    quality: Quality
    subsampling: Subsampling = "420"
    codec: Literal["auto", "libjpeg", "tensor"] = "auto"

    def group(self) -> Hashable:
        """What one call shares."""
        return self.subsampling, self.codec

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[Jpeg]) -> torch.Tensor:
        """Encode and decode."""
        first = samples[0]
        if first.codec == "tensor" or (first.codec == "auto" and not uses_opencv(x_BCHW)):
            return jpeg(x_BCHW, [sample.quality for sample in samples], subsampling=first.subsampling)
        return _through_files(x_BCHW, samples)

    def on_pixels(self, image: np.ndarray) -> np.ndarray:
        """Encode and decode one image."""
        if self.codec == "tensor":
            return super().on_pixels(image)
        subsampling = _OPENCV_SUBSAMPLING[self.subsampling]
        settings = (cv2.IMWRITE_JPEG_QUALITY, self.quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, subsampling)
        return _through_file(image, lambda bgr: _opencv_round_trip(bgr, ".jpg", settings))


@operator("webp")
class WebP(Operator):
    """Lossy WebP at a quality of 1 to 100."""

    quality: Quality

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[WebP]) -> torch.Tensor:
        """Encode and decode, on the CPU."""
        return _through_files(x_BCHW, samples)

    def on_pixels(self, image: np.ndarray) -> np.ndarray:
        """Encode and decode one image."""
        settings = (cv2.IMWRITE_WEBP_QUALITY, self.quality)
        return _through_file(image, lambda bgr: _opencv_round_trip(bgr, ".webp", settings))


@operator("jpeg2000")
class Jpeg2000(Operator):
    """JPEG 2000 at a compression `ratio`: the bytes of the 8-bit pixels over those of the code.

    At most five levels of the wavelet transform are used, fewer for an image of less than 32 px.
    """

    ratio: Annotated[float, Field(ge=1, le=1000)]

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[Jpeg2000]) -> torch.Tensor:
        """Encode and decode, on the CPU."""
        return _through_files(x_BCHW, samples)

    def on_pixels(self, image: np.ndarray) -> np.ndarray:
        """Encode and decode one image."""
        levels = to_levels(image)
        file = io.BytesIO()
        Image.fromarray(levels).save(
            file,
            "JPEG2000",
            irreversible=True,
            quality_mode="rates",
            quality_layers=[self.ratio],
            num_resolutions=min(6, min(image.shape[:2]).bit_length()),
        )
        return from_levels(np.array(Image.open(file)))


@operator("chroma_subsampling")
class ChromaSubsampling(Operator):
    """Colour at a lower resolution than brightness, and nothing else: what a codec does before it starts."""

    subsampling: Literal["422", "420"] = "420"

    def group(self) -> Hashable:
        """What one call shares."""
        return self.subsampling

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[ChromaSubsampling]) -> torch.Tensor:
        """Average the chroma and stretch it again; a grey image is left as it is."""
        if x_BCHW.shape[1] != 3:
            return x_BCHW
        height, width = x_BCHW.shape[-2:]
        ycbcr = to_ycbcr(x_BCHW.clamp(0, 1) * 255)
        padded = torch.nn.functional.pad(ycbcr[:, 1:], [0, width % 2, 0, height % 2], mode="replicate")
        chroma = stretch_chroma(shrink_chroma(padded, samples[0].subsampling), samples[0].subsampling)
        joined = torch.cat([ycbcr[:, :1], chroma[..., :height, :width]], dim=1)
        return from_ycbcr(joined).div(255).clamp(0, 1)


@operator("video_frame")
class VideoFrame(Operator):
    """One frame of a compressed video (needs PyAV: `pip install restore-toolkit[video]`).

    A still image would compress too well, so the clip pans over it by one pixel a frame; its last frame is returned.
    Codecs cannot hold odd sizes: the last row and column are repeated before and dropped after.
    """

    codec: Literal["libx264", "libx265", "mpeg4", "libvpx-vp9"] = "libx264"
    crf: Annotated[int, Field(ge=0, le=51)] = 28
    num_frames: Annotated[int, Field(ge=1, le=32)] = 4

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[VideoFrame]) -> torch.Tensor:
        """Encode and decode, on the CPU.

        Raises:
            MissingError: PyAV is not installed or has no such codec.
        """
        return _through_files(x_BCHW, samples)

    def on_pixels(self, image: np.ndarray) -> np.ndarray:
        """Encode and decode one image."""
        return _through_file(image, functools.partial(_video_round_trip, sample=self))


@operator("quantise")
class Quantise(Operator):
    """Rounds to `levels` values from 0 to 1, as a file of 8 bits (256 levels) does."""

    levels: Annotated[int, Field(ge=2, le=65536)] = 256

    @classmethod
    def apply(cls, x_BCHW: torch.Tensor, samples: Sequence[Quantise]) -> torch.Tensor:
        """Clip and round."""
        steps = column(x_BCHW, [sample.levels - 1 for sample in samples])
        return (x_BCHW.clamp(0, 1) * steps).round_() / steps

    def on_pixels(self, image: np.ndarray) -> np.ndarray:
        """Clip and round one image."""
        return from_levels(to_levels(image)) if self.levels == 256 else super().on_pixels(image)


def _through_files(x_BCHW: torch.Tensor, samples: Sequence[Operator]) -> torch.Tensor:
    """Image by image, from any device and back."""
    return on_images(x_BCHW.detach().float().cpu(), samples).to(x_BCHW)


def _through_file(image: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply a function of an 8-bit image, BGR or grey."""
    levels = to_levels(image)
    if image.ndim == 2:
        return from_levels(function(levels))
    return from_levels(cv2.cvtColor(function(cv2.cvtColor(levels, cv2.COLOR_RGB2BGR)), cv2.COLOR_BGR2RGB))


def _opencv_round_trip(pixels: np.ndarray, suffix: str, settings: tuple[int, ...]) -> np.ndarray:
    _, data = cv2.imencode(suffix, pixels, settings)
    return cv2.imdecode(data, cv2.IMREAD_COLOR if pixels.ndim == 3 else cv2.IMREAD_GRAYSCALE)


def _video_round_trip(pixels: np.ndarray, sample: VideoFrame) -> np.ndarray:
    av = _pyav(sample.codec)
    height, width = pixels.shape[:2]
    even = cv2.copyMakeBorder(pixels, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    bgr = even if even.ndim == 3 else cv2.cvtColor(even, cv2.COLOR_GRAY2BGR)
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream(sample.codec, rate=Fraction(25), options=_rate_options(sample))
        stream.width, stream.height, stream.pix_fmt = bgr.shape[1], bgr.shape[0], "yuv420p"
        stream.thread_count = 1  # the bits must not depend on the machine
        for index in reversed(range(sample.num_frames)):
            moved = np.ascontiguousarray(np.roll(bgr, index, axis=1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="bgr24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        *_, last = container.decode(video=0)
        decoded = last.to_ndarray(format="bgr24")
    decoded = decoded[:height, :width]
    return decoded if pixels.ndim == 3 else decoded.mean(axis=2).round().astype(np.uint8)


def _rate_options(sample: VideoFrame) -> dict[str, str]:
    if sample.codec == "mpeg4":  # it has quantisers from 1 to 31 in place of a constant rate factor
        quantiser = str(1 + round(sample.crf * 30 / 51))
        return {"qmin": quantiser, "qmax": quantiser, "g": "12"}
    options = {"crf": str(sample.crf)}
    if sample.codec == "libx265":
        options["x265-params"] = "log-level=none:pools=none:frame-threads=1"
    if sample.codec == "libvpx-vp9":
        options["b:v"] = "0"
    return options


@functools.cache
def _pyav(codec: str) -> Any:
    try:
        import av
    except ImportError:
        raise MissingError(
            "video_frame needs PyAV: pip install 'restore-toolkit[video]' (or: pip install av)."
        ) from None
    if codec not in av.codecs_available:
        raise MissingError(f"this build of PyAV cannot encode {codec}; choose another codec of video_frame.")
    return av

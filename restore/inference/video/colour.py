"""Between the pixel formats of video and the arrays that a network takes.

Video mostly stores luma and subsampled colour differences, by one of several matrices and over the full range of its
bits or the narrower one of broadcasting. Each frame is converted by what it says of itself, back by the same, and the
result says so in turn. Video that says nothing is read as players read it: BT.709 from 720 rows on, BT.601 below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.format import VideoFormat

__all__ = ["Colour", "array_format", "colour_of", "frame_to_pixels", "has_alpha", "pixels_to_frame"]

BT709, BT601 = 1, 6  # of AVColorSpace
LIMITED, FULL = 1, 2  # of AVColorRange
MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # AVColorSpace -> the scaler's number of the matrix
HD_ROWS = 720
CONVERSION = 4 | 0x2000 | 0x4000 | 0x40000  # bicubic, full chroma interpolation and input, accurate rounding


@dataclass(frozen=True)
class Colour:
    """How the numbers of a frame mean colours; libav's own numbers.

    Attributes:
        matrix: AVColorSpace, of what is or will be stored as luma and colour differences.
        range: AVColorRange: 1 limited, 2 full.
        primaries: AVColorPrimaries.
        transfer: AVColorTransferCharacteristic.
    """

    matrix: int = BT709
    range: int = LIMITED
    primaries: int = BT709
    transfer: int = BT709


def colour_of(frame: VideoFrame) -> Colour:
    """What a decoded frame says of its colours, completed by what players assume."""
    if frame.format.is_rgb or frame.format.has_palette:
        return Colour()
    matrix = int(frame.colorspace)
    if matrix not in MATRICES:
        matrix = BT709 if min(frame.height, frame.width) >= HD_ROWS else BT601
    full = int(frame.color_range) == FULL or frame.format.name.startswith("yuvj")
    return Colour(matrix, FULL if full else LIMITED, int(frame.color_primaries), int(frame.color_trc))


def has_alpha(fmt: VideoFormat) -> bool:
    """Whether a pixel format carries transparency."""
    return any(component.is_alpha for component in fmt.components)


def array_format(fmt: VideoFormat, *, alpha: bool = False) -> str:
    """The format of arrays that holds all of a pixel format: grey, RGB or RGBA, of 8 or 16 bits.

    Args:
        alpha: keep an alpha channel that is there.
    """
    deep = max(component.bits for component in fmt.components) > 8
    if len(fmt.components) == 1 and not fmt.has_palette:
        return "gray16le" if deep else "gray"
    if alpha and has_alpha(fmt):
        return "rgba64le" if deep else "rgba"
    return "rgb48le" if deep else "rgb24"


def frame_to_pixels(frame: VideoFrame, colour: Colour, to: str) -> np.ndarray:
    """Decoded frame to an array in the format `to`: (H, W), (H, W, 3) or (H, W, 4), uint8 or uint16."""
    matrix = MATRICES[colour.matrix]
    if not frame.format.is_rgb:
        frame.colorspace = colour.matrix  # PyAV 17 does not hand BT.2020 on by itself
    return frame.to_ndarray(
        format=to,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=FULL if frame.format.is_rgb or frame.format.has_palette else colour.range,
        dst_color_range=FULL,
        interpolation=CONVERSION,
    )


def pixels_to_frame(pixels: np.ndarray, colour: Colour, pixel_format: str) -> VideoFrame:
    """Array of uint8 or uint16 to a frame of a pixel format, with its colours stored as `colour` says."""
    import av

    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    names = {1: ("gray", "gray16le"), 3: ("rgb24", "rgb48le"), 4: ("rgba", "rgba64le")}[channels]
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=names[pixels.dtype == np.uint16])
    matrix = frame.colorspace = MATRICES[colour.matrix]
    stored = FULL if av.VideoFormat(pixel_format).is_rgb else colour.range
    return frame.reformat(
        format=pixel_format,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=FULL,
        dst_color_range=stored,
        interpolation=CONVERSION,
    )

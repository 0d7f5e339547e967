"""From restored frames to compressed packets: which encoder with which settings, and running it.

What is not asked for is chosen to look like the original: its pixel format where the encoder has it, its depth in any
case, and a quality at which the eye finds no difference.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from restore.errors import OptionsError, nearest
from restore.inference.video.clip import Clip, Frame, import_av
from restore.inference.video.colour import FULL, Colour, has_alpha, pixels_to_frame

if TYPE_CHECKING:
    from av import Packet, VideoFormat
    from av.codec import Codec
    from av.video.codeccontext import VideoCodecContext

__all__ = ["VIDEO_OUTPUTS", "Encoder", "Encoding", "plan_encoding"]

VIDEO_OUTPUTS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""Endings of videos that can be written, and libav's names of their formats."""

DEFAULT_CODEC = {"webm": "vp9"}
CRF = {"libx264": 17, "libx265": 19, "libvpx-vp9": 20, "libsvtav1": 20, "libaom-av1": 20}  # hardly any visible loss
ALONGSIDE = {"libx264": {"preset": "medium"}, "libvpx-vp9": {"b": "0", "row-mt": "1", "cpu-used": "4"}}
SILENT = {"libx265": {"x265-params": "log-level=error"}}
NO_ALPHA = {"libvpx", "libvpx-vp9"}  # theirs is a second stream beside the packets
GLOBAL_HEADER = 1 << 22  # of AV_CODEC_FLAG: what a decoder must know stands at the head of the file
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Encoding:
    """How frames become packets.

    Attributes:
        height: of the frames.
        width: of the frames.
        codec: libav's name of the encoder.
        pixel_format: libav's name of how it stores pixels.
        colour: how their numbers mean colours.
        rate: frames per second, for the encoder's choices.
        time_base: unit of the times of frames and packets.
        aspect: width of a pixel over its height.
        options: the encoder's own options.
    """

    height: int
    width: int
    codec: str
    pixel_format: str
    colour: Colour
    rate: Fraction
    time_base: Fraction
    aspect: Fraction = Fraction(1)
    options: Mapping[str, str] = field(default_factory=dict)

    def apply(self, context: VideoCodecContext) -> None:
        """Set up an encoder that is not open yet."""
        context.width, context.height, context.pix_fmt = self.width, self.height, self.pixel_format
        context.time_base, context.framerate, context.sample_aspect_ratio = self.time_base, self.rate, self.aspect
        is_rgb = import_av().VideoFormat(self.pixel_format).is_rgb
        context.colorspace = 0 if is_rgb else self.colour.matrix
        context.color_range = FULL if is_rgb else self.colour.range
        context.color_primaries, context.color_trc = self.colour.primaries, self.colour.transfer
        context.options = dict(self.options)
        context.flags |= GLOBAL_HEADER


class Encoder:
    """An encoder at work on a few hundred frames, whose packets it keeps.

    Args:
        encoding: its settings.
    """

    def __init__(self, encoding: Encoding):
        av = import_av()
        self._encoding = encoding
        self._context = av.CodecContext.create(encoding.codec, "w")
        encoding.apply(self._context)
        self._packets: list[Packet] = []
        self.num_frames = 0

    def open(self) -> None:
        """Make it ready, which shows whether its settings go together; `add` would do it too."""
        self._context.open()

    def add(self, frame: Frame) -> None:
        """Encode one more frame."""
        encoding = self._encoding
        picture = pixels_to_frame(frame.pixels, encoding.colour, encoding.pixel_format)
        picture.pts, picture.time_base = frame.pts, encoding.time_base
        if hasattr(type(picture), "duration"):
            picture.duration = frame.duration
        self._packets += self._context.encode(picture)
        self.num_frames += 1

    def finish(self) -> list[Packet]:
        """All packets, in the order of the file."""
        self._packets += self._context.encode(None)
        return self._packets


def plan_encoding(
    clip: Clip,
    scale: int,
    suffix: str,
    *,
    codec: str | None = None,
    crf: int | None = None,
    pixel_format: str | None = None,
    size: tuple[int, int] | None = None,
) -> Encoding:
    """The settings for a restored clip.

    Args:
        clip: what is restored.
        scale: of the network.
        suffix: of the file to write, such as ".mp4".
        codec: libav's name of an encoder or a format: h264, hevc, av1, vp9, prores_ks, ffv1, hevc_nvenc, ...
        crf: constant quality; smaller is better and larger.
        pixel_format: libav's name, such as yuv420p.
        size: (H, W) of the result, where that is not the network's.

    Raises:
        OptionsError: no such encoder, or it cannot do what is asked of it.
    """
    av = import_av()
    encoder = _encoder(codec or DEFAULT_CODEC.get(VIDEO_OUTPUTS[suffix.lower()], "h264"))
    height, width = size or (clip.height * scale, clip.width * scale)
    if pixel_format is None:
        pixel_format = _pixel_format(encoder, av.VideoFormat(clip.pixel_format), height, width)
    elif pixel_format not in (names := [fmt.name for fmt in encoder.video_formats or []]):
        raise OptionsError(
            f"--pixel-format is '{pixel_format}'.{nearest(pixel_format, names)} {encoder.name} has {', '.join(names)}."
        )
    encoding = Encoding(
        height=height,
        width=width,
        codec=encoder.name,
        pixel_format=pixel_format,
        colour=clip.colour,
        rate=clip.rate,
        time_base=clip.time_base,
        aspect=clip.aspect,
        options=_options(encoder, crf),
    )
    _try(encoding)
    _say_lost(av.VideoFormat(clip.pixel_format), av.VideoFormat(pixel_format), encoder.name)
    if has_alpha(av.VideoFormat(clip.pixel_format)) and not has_alpha(av.VideoFormat(pixel_format)):
        logger.warning("%s holds no transparency: it is left out. ffv1 and prores_ks hold it.", encoder.name)
    return encoding


def _say_lost(source: VideoFormat, stored: VideoFormat, encoder: str) -> None:
    """Say where fewer bits are stored than the frames have, or colour at a lower resolution."""
    if _depth(stored) < _depth(source):
        message = "%s keeps %d of the frames' %d bits, as %s; --codec ffv1, in .mkv, keeps up to 16"
        logger.warning(message, encoder, _depth(stored), _depth(source), stored.name)
    is_grey = len(source.components) == 1 and not source.has_palette
    if not is_grey and _chroma(stored) < _chroma(source):
        logger.info("%s stores colour at a lower resolution, as %s; --codec ffv1 keeps all of it", encoder, stored.name)


def _chroma(fmt: VideoFormat) -> int:
    """Of 8 x 8 pixels, how many have colours of their own."""
    return fmt.chroma_width(8) * fmt.chroma_height(8)


def _encoder(name: str) -> Codec:
    av = import_av()
    try:
        encoder = av.codec.Codec(name, "w")
    except ValueError:
        known = sorted(name for name in av.codecs_available)
        raise OptionsError(f"--codec is '{name}': this libav has no such encoder.{nearest(name, known)}") from None
    if encoder.type != "video":
        raise OptionsError(f"--codec is '{name}': that encodes {encoder.type}. Try h264, hevc, av1, vp9 or ffv1.")
    return encoder


def _options(encoder: Codec, crf: int | None) -> dict[str, str]:
    options = {**ALONGSIDE.get(encoder.name, {}), **SILENT.get(encoder.name, {})}
    if encoder.name in CRF:
        options["crf"] = str(CRF[encoder.name] if crf is None else crf)
    elif crf is not None:
        raise OptionsError(f"--crf is {crf}: {encoder.name} has no such setting; {', '.join(CRF)} have.")
    return options


def _pixel_format(encoder: Codec, source: VideoFormat, height: int, width: int) -> str:
    """The source's own pixel format if the encoder has it, else the nearest that loses least."""
    available = [fmt for fmt in encoder.video_formats or [] if not (encoder.name in NO_ALPHA and has_alpha(fmt))]
    names = [fmt.name for fmt in available]
    depth = _depth(source)
    own = source.name.replace("yuvj", "yuv")
    stored = own if own in names and not source.is_rgb else None
    usual = "yuv420p10le" if depth > 8 else "yuv420p"
    wanted = stored or usual
    if encoder.name in ("libx264", "libx265") and not _divides(wanted, height, width):
        wanted = "yuv444p10le" if depth > 8 else "yuv444p"  # subsampled colours need even sides
    return wanted if wanted in names else max(available, key=lambda fmt: _likeness(fmt, source)).name


def _likeness(fmt: VideoFormat, source: VideoFormat) -> tuple[bool, int, int, bool]:
    """How well a format holds what another one does: alpha, depth, no more than is needed, and not as RGB."""
    depth = _depth(source)
    return has_alpha(fmt) == has_alpha(source), min(_depth(fmt), depth), -_depth(fmt), not fmt.is_rgb


def _depth(fmt: VideoFormat) -> int:
    return max(component.bits for component in fmt.components)


def _divides(name: str, height: int, width: int) -> bool:
    """Whether a picture of this size can be stored with the colour subsampling of a pixel format."""
    fmt = import_av().VideoFormat(name)
    return height % (2 // fmt.chroma_height(2)) == 0 and width % (2 // fmt.chroma_width(2)) == 0


def _try(encoding: Encoding) -> None:
    """Open the encoder once, so that what it refuses is known before the work begins."""
    av = import_av()
    encoder = Encoder(encoding)
    try:
        encoder.open()
    except (av.FFmpegError, ValueError) as error:
        size = f"{encoding.width}x{encoding.height}"
        reason: Any = getattr(error, "strerror", None) or error
        raise OptionsError(
            f"{encoding.codec} cannot encode {size} as {encoding.pixel_format} with {dict(encoding.options)}: {reason}."
        ) from error

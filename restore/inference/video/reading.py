"""Frames out of a video file.

Whatever is damaged is passed over and remembered in `problems`: a clip that was cut off in a download still gives all
frames that are there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from restore.errors import DataError
from restore.inference.video.clip import Clip, Frame, import_av
from restore.inference.video.colour import array_format, colour_of, frame_to_pixels

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

__all__ = ["VideoFile", "is_picture", "open_video", "video_stream"]

WITH_TRANSPARENCY = {"vp8": "libvpx", "vp9": "libvpx-vp9", "libvpx": "libvpx", "libvpx-vp9": "libvpx-vp9"}
ATTACHED_PICTURE = 1024  # of AV_DISPOSITION: the cover of a song is not a video
FALLBACK_RATE = Fraction(25)
FRAMES_MISSING = 2  # a declared length is trusted to this many frames
logger = logging.getLogger(__name__)


class VideoFile:
    """The first video stream of a file, decoded.

    Args:
        path: anything that libav can read.

    Raises:
        DataError: the file is not a video, has no video stream, or not one frame of it can be decoded.
        MissingError: PyAV is not installed.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.problems: list[str] = []
        with open_video(self.path) as container:
            stream = video_stream(container, self.path)
            frame = next(_decoded(container, stream, []), None)
            if frame is None:
                raise DataError(f"'{path}': none of its frames can be decoded; the file is damaged or cut off.")
            self._quarter_turns = round(_rotation(frame) / 90) % 4
            self._first_pts = _shift(container, stream)
            self._declared_end = _declared_end(container, stream)
            self._stored_size = (frame.height, frame.width)
            self._colour = colour_of(frame)
            self.clip = self._describe(stream, frame)
            if frame.interlaced_frame:
                logger.warning("'%s' is interlaced: it is restored as it is, so deinterlace it first.", path)

    def frames(self, first: int = 0, *, alpha: bool = False) -> Iterator[Frame]:
        """Decode the frames, from number `first` on.

        Those before it are decoded too, but not converted: seeking would be faster, and is not exact in every format.
        """
        self.problems = []
        to = array_format(import_av().VideoFormat(self.clip.pixel_format), alpha=alpha)
        end = 0
        with open_video(self.path) as container:
            stream = video_stream(container, self.path)
            decoded = _decoded(container, stream, self.problems)
            for number, (frame, pts, duration) in enumerate(self._timed(decoded)):
                if (frame.height, frame.width) != self._stored_size:
                    was, now = ("x".join(map(str, size)) for size in (self._stored_size, (frame.height, frame.width)))
                    self.problems.append(f"frame {number} is {now} instead of {was}: what follows is left out")
                    return
                end = pts + duration
                if number >= first:
                    pixels = frame_to_pixels(frame, self._colour, to)
                    yield Frame(np.ascontiguousarray(np.rot90(pixels, self._quarter_turns)), pts, duration)
        self._compare_length(end)

    def identity(self) -> dict[str, object]:
        """Path, size and time of the file."""
        stat = self.path.stat()
        return {"path": str(self.path.resolve()), "bytes": stat.st_size, "changed": stat.st_mtime_ns}

    def _describe(self, stream: VideoStream, frame: VideoFrame) -> Clip:
        height, width = self._stored_size
        aspect = stream.sample_aspect_ratio or Fraction(1)
        if self._quarter_turns % 2:
            height, width, aspect = width, height, 1 / aspect
        rate = stream.guessed_rate or stream.average_rate or FALLBACK_RATE
        return Clip(
            height=height,
            width=width,
            rate=Fraction(rate),
            time_base=Fraction(stream.time_base),
            pixel_format=frame.format.name,
            colour=self._colour,
            aspect=aspect,
            num_frames=stream.frames or self._estimate(stream.time_base * rate),
        )

    def _estimate(self, frames_per_tick: Fraction) -> int | None:
        if self._declared_end is None:
            return None
        return max(1, round((self._declared_end - self._first_pts) * frames_per_tick))

    def _timed(self, decoded: Iterator[VideoFrame]) -> Iterator[tuple[VideoFrame, int, int]]:
        """Frames with times that always increase, also where the file gives none."""
        usual = max(1, round(1 / (self.clip.rate * self.clip.time_base)))
        following = 0
        for frame in decoded:
            pts = following if frame.pts is None else max(frame.pts - self._first_pts, following)
            duration = getattr(frame, "duration", 0) or usual
            yield frame, pts, duration
            following = pts + 1 if frame.pts is not None else pts + duration

    def _compare_length(self, end: int) -> None:
        if self._declared_end is None:
            return
        missing = (self._declared_end - self._first_pts - end) * self.clip.time_base
        if missing > FRAMES_MISSING / self.clip.rate:
            self.problems.append(f"the last {float(missing):.1f} s are missing: the file is cut off or damaged")


def open_video(path: Path) -> InputContainer:
    """Open a file for reading.

    Raises:
        DataError: it does not exist or is not a video.
    """
    av = import_av()
    if not path.is_file():
        raise DataError(f"'{path}' does not exist: give a video.")
    try:
        return av.open(str(path), metadata_errors="replace")
    except av.FFmpegError as error:
        hint = " If its end is missing, nothing can be read: its index lies there." if _is_mp4(path) else ""
        raise DataError(f"'{path}' is not a video that can be read ({error.strerror}).{hint}") from error


def _is_mp4(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8)[4:] == b"ftyp"


def is_picture(stream: Stream) -> bool:
    """Whether a video stream is a picture that is attached to the file."""
    return bool(int(stream.disposition) & ATTACHED_PICTURE)


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The stream that is restored: the first of moving pictures.

    Raises:
        DataError: there is none that can be decoded.
    """
    for stream in container.streams.video:
        if not is_picture(stream) and stream.codec_context is not None:
            stream.thread_type = "AUTO"
            return stream
    kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
    raise DataError(f"'{path}' has no video stream that can be decoded; there is {', '.join(kinds)} in it.")


def _decoded(container: InputContainer, stream: VideoStream, problems: list[str]) -> Iterator[VideoFrame]:
    """All frames that can be decoded; how many packets could not goes to `problems`."""
    av = import_av()
    damaged, decoder = 0, _decoder_of_transparency(stream)
    try:
        for packet in container.demux(stream):
            try:
                yield from decoder.decode(packet) if decoder else packet.decode()
            except av.FFmpegError:
                damaged += 1
    except av.FFmpegError as error:
        problems.append(f"reading stopped: {error.strerror}")
    if damaged:
        problems.append(f"{damaged} packets could not be decoded")


def _decoder_of_transparency(stream: VideoStream) -> VideoCodecContext | None:
    """What decodes VP8 and VP9 with the transparency that WebM keeps beside packets; libav's own leaves it out."""
    if {key.lower(): value for key, value in stream.metadata.items()}.get("alpha_mode") != "1":
        return None
    av, name = import_av(), WITH_TRANSPARENCY.get(stream.codec_context.name)
    try:
        return av.CodecContext.create(name, "r") if name else None
    except ValueError:
        logger.warning("transparency is not read: this libav has no %s", name)
        return None


def _rotation(frame: VideoFrame) -> int:
    """By how many degrees, counterclockwise, a decoded frame has to be turned."""
    return getattr(frame, "rotation", 0)


def _shift(container: InputContainer, stream: VideoStream) -> int:
    """Where the file begins: transport streams start at any time."""
    return max(0, round(Fraction(container.start_time or 0, 1_000_000) / stream.time_base))


def _declared_end(container: InputContainer, stream: VideoStream) -> int | None:
    """The time at which the file says that its video ends."""
    if stream.duration:
        return (stream.start_time or 0) + stream.duration
    tag = stream.metadata.get("DURATION")  # Matroska
    if tag and tag.count(":") == 2:
        hours, minutes, seconds = (Fraction(part) for part in tag.split(":"))
        return round((3600 * hours + 60 * minutes + seconds) / stream.time_base)
    if container.duration and len(container.streams) == 1:
        return round(Fraction((container.start_time or 0) + container.duration, 1_000_000) / stream.time_base)
    return None

"""From parts to the finished file: the restored video, and what the original holds beside its pictures, as it is."""

from __future__ import annotations

import contextlib
import heapq
import io
import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from restore.errors import OptionsError, OutputError
from restore.files import atomic_write
from restore.inference.video.clip import import_av
from restore.inference.video.encoding import VIDEO_OUTPUTS, Encoding
from restore.inference.video.reading import is_picture, open_video, video_stream
from restore.inference.video.segments import Segments

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream

__all__ = ["check_target", "join"]

COPIED = ("audio", "subtitle")
BITEXACT = 0x400  # of AVFMT_FLAG: the same file for the same packets, without times and random numbers
logger = logging.getLogger(__name__)


def check_target(target: Path, encoding: Encoding, source: Path | None, *, sound: bool = True) -> None:
    """Write the head of the file to nowhere, so that what the format refuses is known before the work begins.

    Raises:
        OptionsError: the format cannot hold the video or the sound.
    """
    av = import_av()
    with _input(source) as original:
        nowhere = io.BytesIO()
        container = _output(nowhere, target)
        try:
            _add_streams(container, target, encoding, original, sound=sound)
            container.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            raise OptionsError(f"'{target.name}' cannot hold this: {error}. '.mkv' holds nearly everything.") from error
        finally:
            container.close()


def join(segments: Segments, target: Path, encoding: Encoding, source: Path | None, *, sound: bool = True) -> None:
    """Make the finished file, whole or not at all.

    Args:
        segments: the restored video.
        target: the file.
        encoding: of the segments.
        source: the video whose sound, subtitles, chapters, attachments and metadata are copied; None for none.
        sound: whether sound and subtitles are.

    Raises:
        OutputError: it cannot be written, or holds more or fewer frames than were restored.
    """
    with _input(source) as original, atomic_write(target) as file:
        with _output(file, target) as container:
            video, copies = _add_streams(container, target, encoding, original, sound=sound)
            streams = [_routed(segments.packets(encoding.time_base), {None: video})]
            if original is not None and copies:
                streams.append(_routed(_copied_packets(original, list(copies)), copies))
            for _, packet in heapq.merge(*streams, key=lambda item: item[0]):
                container.mux_one(packet)
        file.flush()
        _require_frames(file.name, segments.num_frames)
        if original is not None:
            _say_lost_chapters(file.name, target, len(original.chapters()))


def _require_frames(path: str, expected: int) -> None:
    """Count the frames of a file: nearly every encoder makes one packet of each, and where not, they are decoded.

    Raises:
        OutputError: there are more or fewer.
    """
    av = import_av()
    with av.open(path) as file:
        count = sum(packet.size > 0 for packet in file.demux(video=0))
    if count != expected:
        with contextlib.suppress(av.FFmpegError), av.open(path) as file:
            count = sum(1 for _ in file.decode(video=0))
    if count != expected:
        raise OutputError(f"{expected} frames were restored and the file holds {count}; its parts are kept")


def _input(source: Path | None) -> contextlib.AbstractContextManager[InputContainer | None]:
    return contextlib.nullcontext() if source is None else open_video(source)


def _output(file: IO[bytes], target: Path) -> OutputContainer:
    container = import_av().open(file, "w", format=VIDEO_OUTPUTS[target.suffix.lower()])
    container.flags |= BITEXACT
    return container


def _add_streams(
    container: OutputContainer, target: Path, encoding: Encoding, original: InputContainer | None, *, sound: bool
) -> tuple[Stream, dict[Stream, Stream]]:
    """The stream of the restored video, and for each stream that is copied its copy."""
    video = container.add_stream(encoding.codec, rate=encoding.rate)
    encoding.apply(video.codec_context)
    copies: dict[Stream, Stream] = {}
    if original is None:
        return video, copies
    container.metadata.update(original.metadata)
    container.set_chapters([_begun_at_zero(chapter, original) for chapter in original.chapters()])
    restored = video_stream(original, target)
    for stream in original.streams:
        if stream is restored or (stream.type in COPIED and not sound):
            continue
        if stream.type not in COPIED:
            if not _attach(container, stream):
                logger.warning("not carried over to '%s': %s", target.name, _in_words(stream))
            continue
        try:
            copies[stream] = container.add_stream_from_template(stream)
        except ValueError as error:
            if stream.type == "audio":
                raise OptionsError(
                    f"'{target.name}' cannot hold the sound of the original ({stream.codec_context.name}): write to "
                    "'.mkv', or leave the sound out with --no-audio."
                ) from error
            logger.warning("'%s' cannot hold %s subtitles: they are left out.", target.name, stream.codec_context.name)
            continue
        copies[stream].metadata.update(stream.metadata)
    return video, copies


def _begun_at_zero(chapter: Any, original: InputContainer) -> Any:
    """The chapter with times that begin where the file begins."""
    shift = round(Fraction(max(0, original.start_time or 0), 1_000_000) / chapter["time_base"])
    return {**chapter, "start": max(0, chapter["start"] - shift), "end": max(0, chapter["end"] - shift)}


def _say_lost_chapters(path: str, target: Path, expected: int) -> None:
    with import_av().open(path) as file:
        if len(file.chapters()) < expected:
            logger.warning("not carried over to '%s', whose format holds none: chapters", target.name)


def _attach(container: OutputContainer, stream: Stream) -> bool:
    """Attach a file, such as a font, that is attached to the original; gives whether the format holds it."""
    if stream.type != "attachment" or container.format.name != "matroska":
        return False
    name = stream.metadata.get("filename") or "attachment"
    copy = container.add_attachment(name, stream.metadata.get("mimetype") or "application/octet-stream", stream.data)
    copy.metadata.update(stream.metadata)
    return True


def _in_words(stream: Stream) -> str:
    """What a stream is that is neither the video, sound nor subtitles."""
    if stream.type == "video":
        return "a cover picture" if is_picture(stream) else "a further video stream"
    if stream.type == "attachment":
        return f"the attachment '{stream.metadata.get('filename', '')}'"
    return f"a stream of {stream.type}"


def _copied_packets(original: InputContainer, streams: list[Stream]) -> Iterator[Packet]:
    """The packets of some streams, with times that begin where the file begins; as many as can be read."""
    av = import_av()
    begin = max(0, original.start_time or 0)
    try:
        for packet in original.demux(streams):
            if packet.dts is None or not packet.size:
                continue
            shift = round(Fraction(begin, 1_000_000) / packet.time_base)
            packet.dts -= shift
            packet.pts = packet.dts if packet.pts is None else packet.pts - shift
            yield packet
    except av.FFmpegError as error:
        logger.warning("the sound ends where the file is damaged: %s", error.strerror)


def _routed(packets: Iterator[Packet], to: dict[Stream | None, Stream]) -> Iterator[tuple[Fraction, Packet]]:
    """Packets with their time in seconds, each bound for its stream."""
    for packet in packets:
        seconds = packet.dts * packet.time_base
        packet.stream = to[packet.stream if None not in to else None]
        yield seconds, packet

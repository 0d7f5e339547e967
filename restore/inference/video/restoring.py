"""Restoring a clip: frames stream through the network, a segment at a time, and become a file when all are there.

However long the clip, what is held is a few frames and the compressed packets of one segment.

A clip that was interrupted becomes the same, bit for bit, as one that was not. The last bit of a network's sums depends
on how large the batch and the tiles are, and an encoder makes whole grey levels of it; so batches begin at fixed
frames, and the side of the tiles is chosen once.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from restore import __version__
from restore.errors import DataError
from restore.images import Image, flatten, write_image
from restore.images.formats import check_fits
from restore.inference.pipeline import WriteBehind, drawn_ahead
from restore.inference.restorer import Restorer
from restore.inference.video.clip import Clip, Frame, FrameSource, import_av
from restore.inference.video.colour import array_format, has_alpha
from restore.inference.video.encoding import Encoder, Encoding
from restore.inference.video.joining import check_target, join
from restore.inference.video.segments import Segments
from restore.locks import reserved
from restore.networks.checkpoint import digest_of

__all__ = ["ClipOutcome", "restore_to_images", "restore_to_video"]

Progress = Callable[[int], None]


@dataclass(frozen=True)
class ClipOutcome:
    """What became of a clip.

    Attributes:
        target: the file, folder or pattern.
        num_frames: frames in the result.
        num_kept: those of them that an earlier run had finished.
        seconds: that this run took.
        problems: what is wrong with the source; the result holds all that could be read.
    """

    target: Path
    num_frames: int
    num_kept: int
    seconds: float
    problems: tuple[str, ...] = ()


def restore_to_video(
    source: FrameSource,
    target: str | Path,
    restorer: Restorer,
    encoding: Encoding,
    *,
    carried_from: Path | None = None,
    sound: bool = True,
    segment_frames: int = 100,
    on_progress: Progress | None = None,
) -> ClipOutcome:
    """Restore a clip and write it as a video, which appears whole or not at all.

    Args:
        source: the frames.
        target: the file; segments that are finished lie in a folder beside it until it is.
        restorer: what restores them.
        encoding: how they are stored; see `plan_encoding`.
        carried_from: the video whose sound, subtitles, chapters, attachments and metadata the result gets.
        sound: whether it gets the sound and the subtitles.
        segment_frames: after how many frames what is done is kept. Each segment begins with a key frame, so short
            ones cost space.
        on_progress: called with the number of frames that are done.

    Raises:
        DataError: no frame can be read.
        OptionsError: the format of `target` cannot hold the video or the sound.
        OutputError: it cannot be written, or another process writes it.
    """
    started, target = time.perf_counter(), Path(target)
    check_target(target, encoding, carried_from, sound=sound)
    alpha = has_alpha(import_av().VideoFormat(encoding.pixel_format))
    together = restorer.group_size(source.clip.height, source.clip.width)
    tile = restorer.tile_for(_shape(source.clip, alpha), together, _depth(source.clip))
    with reserved(target):
        segments = Segments(target, _job(source, restorer, encoding, segment_frames), {"tile": tile})
        num_kept = segments.num_frames
        restorer = restorer.with_tile(segments.chosen["tile"])
        restored = _restored(source, restorer, num_kept, segment_frames, alpha=alpha)
        _encode(restored, segments, encoding, segment_frames, on_progress or (lambda num_frames: None))
        if not segments.num_frames:
            segments.remove()
            raise DataError(f"'{source.path}': no frame can be read. {'; '.join(source.problems)}")
        join(segments, target, encoding, carried_from, sound=sound)
        segments.remove()
    return ClipOutcome(target, segments.num_frames, num_kept, time.perf_counter() - started, tuple(source.problems))


def restore_to_images(
    source: FrameSource,
    name_of: Callable[[int], Path],
    restorer: Restorer,
    *,
    resume: bool = False,
    quality: int = 95,
    flat: bool = False,
    on_progress: Progress | None = None,
) -> ClipOutcome:
    """Restore a clip and write its frames as images.

    Args:
        source: the frames.
        name_of: the file of each frame, counted from 0.
        restorer: what restores them.
        resume: leave out frames whose file is there.
        quality: of lossy formats, 1 to 100.
        flat: lay frames with transparency on white.
        on_progress: called with the number of frames that are done.

    Raises:
        OutputError: nothing more can be written, or another process writes them.
    """
    shape, depth = _shape(source.clip, alpha=not flat), _depth(source.clip)
    check_fits(name_of(0).suffix, *restorer.result_of(shape, depth))
    started, target = time.perf_counter(), name_of(0).parent
    num_kept = _first_missing(name_of) if resume else 0
    together = restorer.group_size(source.clip.height, source.clip.width)
    number = num_kept - num_kept % together  # the rest of a batch has to go through the network again
    restorer = restorer.with_tile(restorer.tile_for(shape, together, depth))
    with reserved(name_of(0)), ThreadPoolExecutor(1) as pool:
        writes: WriteBehind[int] = WriteBehind(pool)
        for frame in _restored(source, restorer, number, together, alpha=True, flat=flat):
            if number >= num_kept:
                writes.put(number, partial(write_image, name_of(number), frame.pixels, quality=quality))
            number += 1
            _settle(writes)
            if on_progress:
                on_progress(number)
        _settle(writes, all_of_them=True)
    return ClipOutcome(target, number, num_kept, time.perf_counter() - started, tuple(source.problems))


def _encode(
    frames: Iterator[Frame], segments: Segments, encoding: Encoding, segment_frames: int, on_progress: Progress
) -> None:
    """Frames into segments; the encoder works in a thread of its own."""
    encoder = Encoder(encoding)
    with ThreadPoolExecutor(1) as pool:
        writes: WriteBehind[None] = WriteBehind(pool)
        for num_new, frame in enumerate(frames, 1):
            writes.put(None, partial(encoder.add, frame))
            _settle(writes, all_of_them=num_new % segment_frames == 0)
            if num_new % segment_frames == 0:
                segments.add(encoder.finish(), encoder.num_frames)
                encoder = Encoder(encoding)
            on_progress(segments.num_frames + num_new % segment_frames)
        _settle(writes, all_of_them=True)
    if encoder.num_frames:
        segments.add(encoder.finish(), encoder.num_frames)


def _settle(writes: WriteBehind[Any], *, all_of_them: bool = False) -> None:
    """Meet the exceptions of what was written behind."""
    for _, future in writes.finished(all_of_them=all_of_them):
        future.result()


def _restored(
    source: FrameSource, restorer: Restorer, first: int, run_frames: int, *, alpha: bool, flat: bool = False
) -> Iterator[Frame]:
    """The frames of a clip from `first` on, restored; they are read in a thread of their own.

    A batch ends with each run of `run_frames` frames, counted from the start of the clip; `first` begins one.
    """
    with ThreadPoolExecutor(1) as pool:
        frames = enumerate(drawn_ahead(source.frames(first, alpha=alpha), pool), first)
        for _, run in itertools.groupby(frames, key=lambda numbered: numbered[0] // run_frames):
            for batch in restorer.batches((frame for _, frame in run), image_of=lambda frame: frame.pixels):
                pixels = [flatten(Image(frame.pixels)).pixels if flat else frame.pixels for frame in batch]
                restored = restorer.batch(pixels)
                for frame, result in zip(batch, restored, strict=True):
                    yield replace(frame, pixels=result)


def _depth(clip: Clip) -> str:
    fmt = import_av().VideoFormat
    return "uint16" if array_format(fmt(clip.pixel_format)).endswith("le") else "uint8"


def _shape(clip: Clip, alpha: bool) -> tuple[int, ...]:
    """Of the arrays that the frames of a clip become."""
    fmt = import_av().VideoFormat
    return clip.height, clip.width, len(fmt(array_format(fmt(clip.pixel_format), alpha=alpha)).components)


def _first_missing(name_of: Callable[[int], Path]) -> int:
    number = 0
    while name_of(number).is_file():
        number += 1
    return number


def _job(source: FrameSource, restorer: Restorer, encoding: Encoding, segment_frames: int) -> dict[str, object]:
    """All that a segment depends on."""
    return {
        "source": source.identity(),
        "restorer": f"{restorer.describe()}, {restorer.padding}, {restorer.tile_batch} tiles together",
        "weights": digest_of(restorer.network),
        "encoding": {key: str(value) for key, value in asdict(encoding).items()},
        "segment_frames": segment_frames,
        "versions": {"restore": __version__, "torch": torch.__version__, "av": import_av().__version__},
    }

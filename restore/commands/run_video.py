"""The part of `restore run` that is about clips: videos, and images that become one."""

from __future__ import annotations

import argparse
import glob
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from restore.commands.progress import naming_progress
from restore.errors import OptionsError, OutputError, nearest
from restore.files import expanded
from restore.terminal import is_quiet, open_console, tell, tell_json

if TYPE_CHECKING:
    from restore.inference import Restorer
    from restore.inference.video import ClipOutcome, FrameSource

__all__ = ["add_arguments", "concerns_video", "run"]

VIDEO_INPUTS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".flv", ".ogv", ".3gp", ".y4m", ".gif"),
)
DEFAULT_RATE = Fraction(25)
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that only clips have."""
    video = parser.add_argument_group("video")
    video.add_argument("--fps", type=_rate, help="frames per second of a video made of images, by default 25")
    video.add_argument("--codec", help="h264, hevc, av1, vp9, prores_ks, ffv1, hevc_nvenc ...; by default h264")
    video.add_argument("--crf", type=int, help="constant quality of the video: smaller is better and larger")
    video.add_argument("--pixel-format", help="such as yuv420p; by default that of the input")
    video.add_argument("--segment-frames", type=int, default=100, help="what is done is kept after so many frames")
    video.add_argument("--no-audio", action="store_true", help="leave sound and subtitles out")


def concerns_video(arguments: argparse.Namespace) -> bool:
    """Whether the input or the output is a video, by the endings of the names; a GIF is one where it moves."""
    from restore.inference.video import VIDEO_OUTPUTS

    return _suffix(arguments.output) in VIDEO_OUTPUTS or any(map(_is_clip, arguments.input))


def run(arguments: argparse.Namespace, load: Callable[[], Restorer]) -> int:
    """Restore a clip; 0 when all of it is done, 1 when the source was damaged and the result holds what could be read.

    Raises:
        DataError: the input is not a video, or nothing of it can be read.
        OptionsError: input, output and options do not go together.
    """
    from restore.images.numbering import Numbering
    from restore.inference.video import VIDEO_OUTPUTS

    if arguments.segment_frames < 1:
        raise OptionsError(f"--segment-frames is {arguments.segment_frames}: must be a whole number of at least 1.")
    output = expanded(arguments.output)
    to_images = Numbering.is_one(output) or output.is_dir() or not output.suffix
    if not to_images and output.suffix.lower() not in VIDEO_OUTPUTS:
        raise OptionsError(
            f"'{output.name}': videos are written as {', '.join(VIDEO_OUTPUTS)}."
            f"{nearest(output.suffix, VIDEO_OUTPUTS)} For images give a folder, or a pattern such as frames/%05d.png."
        )
    source = _source(arguments)
    return (_to_images if to_images else _to_video)(source, output, arguments, load)


def _source(arguments: argparse.Namespace) -> FrameSource:
    from restore.images.numbering import Numbering
    from restore.inference.video import ImageSequence, VideoFile
    from restore.jobs import find_images

    first, *others = arguments.input
    is_pattern = glob.has_magic(first) and not expanded(first).exists()
    is_images = is_pattern or expanded(first).is_dir() or Numbering.is_one(first) or _suffix(first) == ".txt"
    if others and any(map(_is_clip, arguments.input)):
        raise OptionsError("one video at a time: give one, or the images of one.")
    if is_images or others:
        images = [image.path for image in find_images(arguments.input if others else first)]
        return ImageSequence(images, arguments.fps or DEFAULT_RATE)
    if arguments.fps:
        raise OptionsError("--fps is for videos made of images: a video keeps its own times.")
    return VideoFile(expanded(first))


def _to_video(source: FrameSource, target: Path, arguments: argparse.Namespace, load: Callable[[], Restorer]) -> int:
    from restore.inference.video import VideoFile, plan_encoding, restore_to_video

    if arguments.depth is not None:
        raise OptionsError("--depth is for images, and the result will be a video: give --pixel-format.")
    if arguments.alpha != "keep":
        raise OptionsError("--alpha is for images, and the result will be a video: leave it out.")
    if target.exists() and source.path.exists() and target.samefile(source.path):
        raise OutputError(f"'{target}' is the input itself: inputs are never overwritten. Choose another name.")
    if arguments.resume and target.is_file():
        logger.info("'%s' is done already.", target)
        if arguments.json:
            tell_json({"target": target, "done_before": True})
        return 0
    restorer = load()
    encoding = plan_encoding(
        source.clip,
        restorer.scale,
        target.suffix,
        codec=arguments.codec,
        crf=arguments.crf,
        pixel_format=arguments.pixel_format,
        size=restorer.size_of(source.clip.height, source.clip.width),
    )
    logger.info("%s; %dx%d, %s, %s", restorer.describe(), encoding.width, encoding.height, encoding.codec,
                encoding.pixel_format)  # fmt: skip
    going_on = f"the same command continues after the last whole {arguments.segment_frames}"
    with _progress(source, going_on) as show:
        outcome = restore_to_video(
            source,
            target,
            restorer,
            encoding,
            carried_from=source.path if isinstance(source, VideoFile) else None,
            sound=not arguments.no_audio,
            segment_frames=arguments.segment_frames,
            on_progress=show,
        )
    return _report(outcome, as_json=arguments.json)


def _to_images(source: FrameSource, output: Path, arguments: argparse.Namespace, load: Callable[[], Restorer]) -> int:
    from restore.images.numbering import Numbering
    from restore.inference.video import restore_to_images

    for option in ("codec", "crf", "pixel_format"):
        if getattr(arguments, option) is not None:
            raise OptionsError(f"--{option.replace('_', '-')} is for videos, and the result will be images.")
    if Numbering.is_one(output):
        name_of = Numbering(output).path
    else:
        name_of = partial(_frame, output, source.path.stem, "png" if arguments.ext == "auto" else arguments.ext)
    restorer = load()
    logger.info(restorer.describe())
    with _progress(source, "the same command with --resume continues there") as show:
        outcome = restore_to_images(
            source,
            lambda number: name_of(number + 1),
            restorer,
            resume=arguments.resume,
            quality=arguments.quality,
            flat=arguments.alpha == "flatten",
            on_progress=show,
        )
    return _report(outcome, as_json=arguments.json)


@contextmanager
def _progress(source: FrameSource, how_to_go_on: str) -> Iterator[Callable[[int], None]]:
    """A progress bar; gives the function to call with the number of frames that are done, and sums up if it stops."""
    reached = 0

    def on_progress(num_frames: int) -> None:
        nonlocal reached
        reached = num_frames
        show(source.path.name, num_frames)

    try:
        with naming_progress(source.clip.num_frames) as show:
            yield on_progress
    except KeyboardInterrupt:
        of_all = source.clip.num_frames or "an unknown number of"
        tell(f"{reached} of {of_all} frames done: {how_to_go_on}", always=True)
        raise


def _report(outcome: ClipOutcome, *, as_json: bool) -> int:
    if as_json:
        tell_json(vars(outcome))
    new = outcome.num_frames - outcome.num_kept
    parts = [f"{new} frames restored in {outcome.seconds:.1f} s"]
    parts += [f"{outcome.num_kept} done before"] if outcome.num_kept else []
    parts += [f"failed: {problem}" for problem in outcome.problems]
    if outcome.problems or not is_quiet():
        open_console(stderr=True).print(", ".join(parts), highlight=False, markup=False, soft_wrap=True)
    return 1 if outcome.problems else 0


def _frame(folder: Path, clip: str, ending: str, number: int) -> Path:
    """Where frame `number` of a clip goes, if no pattern says it."""
    return folder / f"{clip}_{number:06}.{ending.lstrip('.')}"


def _is_clip(path: str) -> bool:
    from restore.images import is_animated

    if _suffix(path) != ".gif" or not expanded(path).is_file():
        return _suffix(path) in VIDEO_INPUTS
    return is_animated(expanded(path))


def _suffix(path: str) -> str:
    return Path(path).suffix.lower()


def _rate(text: str) -> Fraction:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of frames per second, such as 25 or 30000/1001")
    return rate

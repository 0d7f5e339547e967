"""Finished parts of a video that is being restored: what a run that was killed leaves to the next one.

Beside `clip.mp4` there is a folder `clip.mp4.parts`, for as long as the work lasts:

    job.json      what is restored, by which network, and how; parts of another job are discarded. And what was
                  chosen for it when it began, which holds until it is done
    00000.npz     the packets of the first segment of frames; then 00001.npz, ...

A part appears whole or not at all; one that was damaged since is made again, and those behind it.
"""

from __future__ import annotations

import itertools
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restore.errors import OutputError
from restore.files import atomic_write
from restore.inference.video.clip import import_av

if TYPE_CHECKING:
    from av import Packet

__all__ = ["Segments"]

UNKNOWN = np.iinfo(np.int64).min  # libav's own number for a time that is not known
logger = logging.getLogger(__name__)


class Segments:
    """The folder of parts of one result.

    Args:
        target: the file that they will become.
        job: what says that parts of an earlier run belong to this one.
        chosen: what this run chose by itself, such as by the free memory.

    Attributes:
        chosen: what the run that began the job chose: this one's results are the same only if it does likewise.

    Raises:
        OutputError: the folder cannot be made.
    """

    def __init__(self, target: Path, job: Mapping[str, object], chosen: Mapping[str, Any]):
        self.folder = target.with_name(f"{target.name}.parts")
        self.chosen = dict(chosen)
        description = json.loads(json.dumps(job, default=str))
        manifest = self.folder / "job.json"
        try:
            begun = _read(manifest)
            if begun.get("job") == description and begun.get("chosen", {}).keys() == self.chosen.keys():
                self.chosen = begun["chosen"]
            elif self.folder.exists():
                logger.info("'%s' holds parts of another job: they are discarded.", self.folder)
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder '{self.folder}': {error.strerror or error}") from error
        with atomic_write(manifest) as file:
            file.write(json.dumps({"job": description, "chosen": self.chosen}, indent=1, sort_keys=True).encode())
        self._num_frames = list(self._whole())

    @property
    def num_frames(self) -> int:
        """Frames in the parts that are finished."""
        return sum(self._num_frames)

    def add(self, packets: list[Packet], num_frames: int) -> None:
        """Keep the packets of the next segment."""
        times = [[_known(value) for value in (p.pts, p.dts, p.duration)] for p in packets]
        with atomic_write(self._path(len(self._num_frames))) as file:
            np.savez(
                file,
                num_frames=num_frames,
                data=np.frombuffer(b"".join(bytes(packet) for packet in packets), np.uint8),
                sizes=np.array([packet.size for packet in packets], np.int64),
                times=np.array(times, np.int64).reshape(-1, 3),
                is_keyframe=np.array([packet.is_keyframe for packet in packets], bool),
            )
        self._num_frames.append(num_frames)

    def packets(self, time_base: Fraction) -> Iterator[Packet]:
        """The packets of all segments, in the order of the file.

        Segments are encoded apart, so the decoding times of two neighbours can overlap by the few frames that an
        encoder holds back; they are moved as little as is needed for each to be later than the one before.
        """
        av = import_av()
        latest = UNKNOWN
        for number in range(len(self._num_frames)):
            part = _part(self._path(number))
            data, start = part["data"].tobytes(), 0
            rows = (part[name].tolist() for name in ("sizes", "times", "is_keyframe"))
            for size, (pts, dts, duration), key in zip(*rows, strict=True):
                packet = av.Packet(data[start : start + size])
                start += size
                latest = max(dts if dts != UNKNOWN else pts, latest + 1)
                packet.pts, packet.dts, packet.time_base = pts, latest, time_base
                packet.duration, packet.is_keyframe = max(duration, 0), key
                yield packet

    def remove(self) -> None:
        """Throw all parts away: they have become the file."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05}.npz"

    def _whole(self) -> Iterator[int]:
        """How many frames each part holds, up to the first that is not there or damaged."""
        for number in itertools.count():
            path = self._path(number)
            if not path.exists():
                return
            try:
                part = _part(path)
            except Exception as error:  # of numpy, zipfile or zlib
                logger.warning("'%s' is damaged: it is made again, with what follows it (%s)", path, error)
                return
            yield int(part["num_frames"])


def _part(path: Path) -> dict[str, np.ndarray]:
    """What a part holds; its checksums are compared.

    Raises:
        Exception: it is damaged.
    """
    with path.open("rb") as file, np.load(file) as stored:
        part = {name: stored[name] for name in ("num_frames", "data", "sizes", "times", "is_keyframe")}
    count = len(part["sizes"])
    shapes = {"num_frames": (), "data": (int(part["sizes"].sum()),), "times": (count, 3), "is_keyframe": (count,)}
    if any(part[name].shape != shape for name, shape in shapes.items()):
        raise ValueError("its parts do not belong together")
    return part


def _read(manifest: Path) -> dict[str, Any]:
    """What a manifest holds; nothing where there is none, or where it is none."""
    try:
        begun = json.loads(manifest.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return begun if isinstance(begun, dict) else {}


def _known(value: int | None) -> int:
    return UNKNOWN if value is None else value

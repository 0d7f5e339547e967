"""Feeds damaged and hostile inputs to everything that reads files, and counts what goes wrong.

    python scripts/campaign.py                          # 5,000 inputs, two processes, about ten minutes
    python scripts/campaign.py --only weights:1234 --keep folder     # one input again, with its traceback

Images, weights, option files, submissions in zips and MATLAB files are made from a seed, so that each can be made
again, and read as the commands read them. Counted are exceptions that are none of this package's (its own are answers),
inputs that take longer than a limit or end the process, inputs that take far too much memory, and writes outside the
folder that was given. Exit code 1 if there are any.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import multiprocessing.connection
import os
import random
import re
import resource
import signal
import stat
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

LIMIT_S = 20
MOST_MIB = 1024
Draw = random.Random


# --- what is mutated: good inputs, made once


def _pixels(shape: tuple[int, ...], dtype: str = "u1") -> np.ndarray:
    top = np.iinfo(dtype).max + 1 if np.dtype(dtype).kind == "u" else 1
    values = np.random.default_rng(0).random(shape)
    return (values * top).astype(dtype)


def good_images() -> dict[str, bytes]:
    """Small images of every format, by the ending of their names and a number."""
    import tifffile
    from PIL import Image

    found = {}
    rgb = Image.fromarray(_pixels((24, 31, 3)))
    for ending, options in {
        "png": {"dpi": (300, 300)},
        "jpg": {"quality": 90},
        "bmp": {},
        "webp": {},
        "gif": {},
        "jp2": {},
        "ppm": {},
    }.items():
        file = io.BytesIO()
        with contextlib.suppress(OSError, KeyError):
            rgb.save(file, {"jpg": "jpeg", "jp2": "jpeg2000"}.get(ending, ending), **options)
            found[ending] = file.getvalue()
    for number, (shape, dtype, options) in enumerate(
        [
            ((24, 31, 3), "u1", {}),
            ((24, 31), "u2", {"compression": "zlib"}),
            ((40, 48, 3), "f4", {"tile": (16, 16)}),
            ((24, 31, 4), "u2", {"compression": "lzw", "rowsperstrip": 5}),
            ((24, 31, 3), "u1", {"bigtiff": True}),
        ]
    ):
        file = io.BytesIO()
        with contextlib.suppress(ValueError, ImportError, KeyError):
            tifffile.imwrite(
                file, _pixels(shape, dtype), photometric="rgb" if len(shape) == 3 else "minisblack", **options
            )
            found[f"{number}.tif"] = file.getvalue()
    return found


def good_weights() -> dict[str, bytes]:
    """A tiny SwinIR in the three layouts, with its block and without."""
    import torch
    from safetensors.torch import save

    from restore.networks.swinir import SwinIR

    torch.manual_seed(0)
    block = {"embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 4, "mlp_ratio": 1, "img_size": 8}
    network = SwinIR(**block, upscale=2, upsampler="pixelshuffledirect")
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    whole = {"params": state, "network": {"type": "SwinIR", **block, "upscale": 2, "upsampler": "pixelshuffledirect"}}
    files = {"zip": io.BytesIO(), "row": io.BytesIO(), "bare": io.BytesIO()}
    torch.save(whole, files["zip"])
    floats = {name: value for name, value in state.items() if value.is_floating_point()}
    flat, start = torch.cat([value.flatten() for value in floats.values()]), 0
    for name, value in floats.items():
        floats[name], start = flat[start : start + value.numel()].view(value.shape), start + value.numel()
    torch.save({"params": floats}, files["row"], _use_new_zipfile_serialization=False)
    torch.save({f"module.{name}": value for name, value in state.items()}, files["bare"])
    found = {name: file.getvalue() for name, file in files.items()}
    address = re.compile(rb"X.\0\0\0\d{13,16}(?=q)", re.DOTALL)  # of the one storage, another in each process
    found["row"] = address.sub(b"X\x0e\0\0\0" + b"1" * 14, found["row"])
    return {**found, "safetensors": save(state)}


def good_options() -> dict[str, bytes]:
    """The option files of the package that extend no other."""
    from restore.packaged import option_files

    texts = {name: path.read_bytes() for name, path in option_files().items()}
    return {name: text for name, text in texts.items() if b"extends" not in text}


def good_submissions() -> dict[str, bytes]:
    """A zip of images with a readme."""
    from PIL import Image

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("0001.png", "0002.png"):
            image = io.BytesIO()
            Image.fromarray(_pixels((32, 40, 3))).save(image, "png")
            archive.writestr(zipfile.ZipInfo(name), image.getvalue())
        archive.writestr(
            zipfile.ZipInfo("readme.txt"),
            "runtime per image [s] : 1.5\nCPU[1] / GPU[0] : 0\nExtra Data : 0\nOther : x\n",
        )
    return {"zip": file.getvalue()}


def good_matfiles() -> dict[str, bytes]:
    """Submissions to SIDD and DND, packed and plain."""
    from scipy.io import savemat

    blocks = _pixels((2, 2, 8, 8, 3))
    cells = np.empty((2, 2), object)
    for place in np.ndindex(2, 2):
        cells[place] = blocks[place]
    crops = np.empty(3, object)
    crops[:] = list(_pixels((3, 8, 8, 3), "f8"))
    found = {}
    for packed in (False, True):
        for name, content in {
            "array": {"DenoisedBlocksSrgb": blocks},
            "cells": {"DenoisedBlocksSrgb": cells, "TimeMPSrgb": 1.5, "OptionalData": {"MethodName": "x"}},
            "crops": {"Idenoised": crops, "israw": False, "eval_version": "1.0"},
        }.items():
            file = io.BytesIO()
            savemat(file, content, do_compression=packed)
            found[f"{name}{packed}"] = b"MATLAB 5.0 MAT-file".ljust(116) + file.getvalue()[116:]  # without a date
    return found


# --- how


def mutated(data: bytes, draw: Draw) -> bytes:
    """Some bytes changed, gone, doubled or strange; perhaps cut off."""
    content = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 5, 30])):
        if not content:
            break
        place = draw.randrange(min(len(content), draw.choice([64, 1024, len(content)])) or 1)
        length = draw.choice([1, 2, 4, 8, 100])
        match draw.randrange(6):
            case 0:
                content[place] = draw.randrange(256)
            case 1:
                content[place : place + length] = draw.randbytes(length)
            case 2:
                del content[place : place + length]
            case 3:
                content[place:place] = content[place : place + length]
            case 4:
                content[place : place + 4] = struct.pack(draw.choice("<>") + "I", draw.choice(NUMBERS))
            case _:
                content[place : place + length] = draw.choice([b"\0", b"\xff", b"\x7f"]) * length
    return bytes(content[: draw.randrange(len(content) + 1)] if draw.random() < 0.15 else content)


NUMBERS = (0, 1, 2, 255, 256, 65535, 65536, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
WORDS = (
    *(
        "~",
        "null",
        "-1",
        "0",
        "1e999",
        "9" * 5000,
        ".nan",
        "true",
        "[]",
        "{}",
        "''",
        "[[[[]]]]",
        "*a",
        "&a [*a]",
        "<<: *a",
    ),
    *(
        "../../x",
        "/../../x",
        "..",
        "a/b",
        "~/x",
        "'" + "x" * 300 + "'",
        '"\\0"',
        '"\\ud800"',
        "'\\x1b'",
        "!!python/name:os",
        "{type: x}",
    ),
    *("[1, 2", "{a: ", "%", "\t", "- -", "?", ": :", "'", "[" * 200, "{a: " * 200, "NoSuchNetwork", "SwinIR", "é"),
)
NAMES = (
    *(
        "../0001.png",
        "/etc/x.png",
        "C:\\x.png",
        "a/0001.png",
        "0001.PNG",
        "..",
        "",
        "x" * 300,
        "\x1b[31m",
        "con.png",
        "a\\b",
    ),
    *("\u202e.png", "./0001.png", "0001.png/", "a//b", "nul\0.png"),
)


def option_text(data: bytes, draw: Draw) -> bytes:
    """An option file with lines that are gone, doubled, moved, or have other keys and values."""
    lines = data.decode("utf-8").splitlines()
    for _ in range(draw.choice([1, 1, 2, 4, 10])):
        place = draw.randrange(len(lines))
        key, colon, _ = lines[place].partition(":")
        match draw.randrange(6):
            case 0:
                del lines[place]
            case 1:
                lines.insert(draw.randrange(len(lines)), lines[place])
            case 2:
                lines[place] = f"{key}{colon} {draw.choice(WORDS)}"
            case 3:
                lines[place] = " " * draw.randrange(9) + lines[place].strip()
            case 4:
                lines[place] = f"{draw.choice(WORDS)}{colon}{lines[place].partition(':')[2]}"
            case _:
                field = draw.choice(
                    ["name", "val", "path", "train", "datasets", "network_g", "scale", "extends", "tile"]
                )
                lines.append(f"{field}: {draw.choice(WORDS)}")
        lines = lines or [""]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def zip_bytes(data: bytes, draw: Draw) -> bytes:
    """A zip whose members have other names, kinds, sizes or contents."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in source.infolist():
            name = draw.choice(NAMES) if draw.random() < 0.3 else member.filename
            new, content = zipfile.ZipInfo(name), source.read(member)
            if draw.random() < 0.2:
                new.external_attr = draw.choice([stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, 0]) << 16
            if draw.random() < 0.4:
                content = draw.choice([b"", bytes(5 << 20), mutated(content, draw), mutated(content, draw)])
            new.compress_type = draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
            archive.writestr(new, content)
    return mutated(file.getvalue(), draw) if draw.random() < 0.4 else file.getvalue()


def pickle_inside(data: bytes, draw: Draw) -> bytes:
    """Weights whose pickle or header is changed, and whose checksums are right."""
    if data.startswith(b"PK"):
        file = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(file, "w") as archive:
            for name in source.namelist():
                content = source.read(name)
                content = mutated(content, draw) if name.endswith("data.pkl") else content
                archive.writestr(zipfile.ZipInfo(name), content)
        return file.getvalue()
    size = int.from_bytes(data[:8], "little")
    if data[8:9] != b"{":
        return mutated(data, draw)
    header = json.loads(data[8 : 8 + size])
    for name in draw.sample(sorted(header), 2):
        key = draw.choice(["dtype", "shape", "data_offsets"])
        header[name][key] = draw.choice([[-1], [1 << 62], [0, 1 << 40], "F64", 5, None, [1] * 100, [8, 3, 3, 3]])
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


# --- what reads them


def read_an_image(path: Path, folder: Path) -> None:
    """As every command does: the size, then the pixels; what was read is written."""
    from restore.images import read_image, read_size, write_image

    read_size(path)
    write_image(folder / "result.png", read_image(path).pixels)


def read_weights(path: Path, folder: Path) -> None:
    """As `restore run -m`."""
    from restore.zoo import load_network

    load_network(path)


def read_options(path: Path, folder: Path) -> None:
    """As `restore test`, up to the names of its results."""
    from restore.evaluation.models.folder import ResultsFolder
    from restore.files import atomic_write
    from restore.options import load

    options = load(path)
    results = ResultsFolder(folder / "results", options.name)
    for dataset in options.phases("val", "test"):
        with atomic_write(results.image(dataset.name, "image", options.val.suffix)) as file:
            file.write(b"x")


def read_submission(path: Path, folder: Path) -> None:
    """As `restore leaderboard score sr_x4`."""
    from restore.images import write_image
    from restore.leaderboard.scoring import Scorer, score
    from restore.leaderboard.tracks import TRACKS

    references = folder / "references"
    if not references.is_dir():
        for name in ("0001.png", "0002.png"):
            write_image(references / name, _pixels((32, 40, 3)))
    score(Scorer(TRACKS["sr_x4"]), path, references)


def read_matfile(path: Path, folder: Path) -> None:
    """As the scorers of SIDD and DND."""
    from restore.errors import DataError
    from restore.leaderboard.matlab import read_blocks, read_crops

    data = path.read_bytes()
    with contextlib.suppress(DataError):
        read_blocks(data, path.name)
    read_crops(data, path.name)


Kind = tuple[Callable[[], dict[str, bytes]], tuple[Callable[[bytes, Draw], bytes], ...], Callable[[Path, Path], None]]
KINDS: dict[str, Kind] = {
    "image": (good_images, (mutated,), read_an_image),
    "weights": (good_weights, (mutated, pickle_inside), read_weights),
    "options": (good_options, (option_text, option_text, mutated), read_options),
    "zip": (good_submissions, (zip_bytes, zip_bytes, mutated), read_submission),
    "mat": (good_matfiles, (mutated,), read_matfile),
}
_GOOD: dict[str, dict[str, bytes]] = {}


def make(kind: str, seed: int) -> tuple[str, bytes]:
    """The name and the content of an input; the same for the same arguments."""
    if kind not in _GOOD:
        _GOOD[kind] = KINDS[kind][0]()
    draw = Draw(f"{kind} {seed}")
    name = draw.choice(sorted(_GOOD[kind]))
    endings = {"weights": draw.choice(["pth", "safetensors"]), "options": "yml", "zip": "zip", "mat": "mat"}
    return f"input.{endings.get(kind, name.rpartition('.')[2])}", draw.choice(KINDS[kind][1])(_GOOD[kind][name], draw)


class _TooLongError(BaseException):
    """An input is over the limit of time."""


class Watch:
    """Notes what is written outside of a folder, for as long as this process lives."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.outside: list[str] = []
        sys.addaudithook(self._look)

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None or event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.symlink", "os.link"):
            return
        is_read = event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        for path in [] if is_read else arguments[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]:
            if isinstance(path, (str, bytes, os.PathLike)):
                place = str(Path(os.fsdecode(path)).resolve())
                if not place.startswith((self.folder, "/dev/", "/proc/")):
                    self.outside.append(place)


WATCH = Watch()


def judge(kind: str, seed: int, box: Path, *, limit_s: int = LIMIT_S) -> tuple[str, str]:
    """Read one input; gives how that ended ("answered", "foreign", "hang", "memory", "outside") and in what words."""
    from restore.errors import RestoreError

    name, content = make(kind, seed)
    (box / name).write_bytes(content)

    def over(*_: Any) -> None:
        raise _TooLongError

    before, WATCH.outside = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    previous = signal.signal(signal.SIGPROF, over)  # of time on the processor, whatever else runs beside
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    WATCH.folder = str(box.resolve())
    ended, words = "answered", ""
    try:
        KINDS[kind][2](box / name, box)
    except RestoreError as error:
        words = str(error)
    except _TooLongError:
        ended, words = "hang", f"over {limit_s} s"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        ended, words = "foreign", f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
        WATCH.folder = None
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if WATCH.outside:
        ended, words = "outside", ", ".join(sorted(set(WATCH.outside)))
    elif ended == "answered" and grown > MOST_MIB:
        ended, words = "memory", f"{grown:.0f} MiB"
    (box / name).unlink(missing_ok=True)
    return ended, " ".join(words.split())[:300]


def warm_up(kinds: set[str], box: Path) -> None:
    """Read a good input of each kind, so that everything is imported."""
    from restore.errors import RestoreError

    for kind in sorted(kinds):
        name, content = next(iter(KINDS[kind][0]().items()))
        path = box / f"good.{Path(name).name}"
        path.write_bytes(content)
        with contextlib.suppress(RestoreError):
            KINDS[kind][2](path, box)


def _work(tasks: list[tuple[str, int]], out: Any) -> None:
    """Read these inputs, one after the other, and say what is begun and what is done."""
    import logging
    import warnings

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        warm_up({kind for kind, _ in tasks}, Path(folder))
        for task in tasks:
            out.send(("begun", task, ""))
            out.send((*judge(*task, Path(folder)), task))
    out.send(None)


def campaign(tasks: list[tuple[str, int]], workers: int = 2) -> Iterator[tuple[tuple[str, int], str, str]]:
    """Read all inputs in processes that may die; gives each with how it ended and in what words."""
    shares = {number: tasks[number::workers] for number in range(workers)}
    running: dict[Any, tuple[int, Any, float, Any]] = {}
    context = multiprocessing.get_context("spawn")

    def start(number: int) -> None:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(shares[number], there), daemon=True)
        process.start()
        there.close()
        running[here] = (number, process, time.monotonic() + 600, None)

    for number in shares:
        start(number)
    while running:
        for here in multiprocessing.connection.wait(list(running), timeout=1):
            number, process, _, task = running[here]
            try:
                message = here.recv()
            except EOFError:
                process.join()
                del running[here]
                if task is None and shares[number]:
                    raise RuntimeError("a process of the campaign itself ended early: see above") from None
                if task is not None:
                    yield task, "killed", f"exit code {process.exitcode}"
                    start(number)
                continue
            if message is None:
                process.join()
                del running[here]
            elif message[0] == "begun":
                running[here] = (number, process, time.monotonic() + 6 * LIMIT_S, message[1])
            else:
                shares[number] = shares[number][1:]
                running[here] = (number, process, time.monotonic() + 120, None)
                yield message[2], message[0], message[1]
        for here, (number, process, until, task) in list(running.items()):
            if time.monotonic() > until and task is not None:
                process.kill()
                process.join()
                del running[here]
                shares[number] = shares[number][1:]
                yield task, "hang", "over the limit, and not to be interrupted"
                start(number)


def main(argv: list[str] | None = None) -> int:
    """Run the campaign, or one input of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0, help="of the first input")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kinds", default=",".join(KINDS), help="names with commas between")
    parser.add_argument("--only", metavar="KIND:SEED", help="one input, with its traceback")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where to put the input of --only")
    arguments = parser.parse_args(argv)
    if arguments.only:
        kind, _, seed = arguments.only.partition(":")
        with tempfile.TemporaryDirectory() as folder:
            name, content = make(kind, int(seed))
            path = (arguments.keep or Path(folder)) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            KINDS[kind][2](path, Path(folder))
        return 0
    kinds, begun = arguments.kinds.split(","), time.monotonic()
    tasks = [(kinds[i % len(kinds)], arguments.seed + i // len(kinds)) for i in range(arguments.inputs)]
    counts: Counter[str] = Counter()
    for (kind, seed), ended, words in campaign(tasks, arguments.workers):
        counts[ended] += 1
        if ended != "answered":
            print(f"{ended}: --only {kind}:{seed}  {words}", flush=True)
    print(
        f"{sum(counts.values()):,} inputs in {time.monotonic() - begun:.0f} s: {counts['foreign']} foreign exceptions, "
        f"{counts['hang']} hangs, {counts['killed']} processes killed, {counts['memory']} over {MOST_MIB} MiB, "
        f"{counts['outside']} that wrote outside"
    )
    return 0 if counts["answered"] == len(tasks) else 1


if __name__ == "__main__":
    sys.exit(main())

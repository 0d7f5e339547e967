"""Good files of every kind, and what makes damaged and hostile ones of them; all from seeds."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import stat
import struct
import zipfile
from collections.abc import Callable

import numpy as np

__all__ = ["GOOD", "HOW", "make", "mutated"]

Draw = random.Random


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
    address = re.compile(rb"X.\0\0\0\d{7,20}(?=q)", re.DOTALL)  # of the one storage, another in each process
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


GOOD: dict[str, Callable[[], dict[str, bytes]]] = {
    "image": good_images,
    "weights": good_weights,
    "options": good_options,
    "zip": good_submissions,
    "mat": good_matfiles,
}
HOW: dict[str, tuple[Callable[[bytes, Draw], bytes], ...]] = {
    "image": (mutated,),
    "weights": (mutated, pickle_inside),
    "options": (option_text, option_text, mutated),
    "zip": (zip_bytes, zip_bytes, mutated),
    "mat": (mutated,),
}
_made: dict[str, dict[str, bytes]] = {}


def make(kind: str, seed: int) -> tuple[str, bytes]:
    """The name and the content of an input; the same for the same arguments."""
    if kind not in _made:
        _made[kind] = GOOD[kind]()
    draw = Draw(f"{kind} {seed}")
    name = draw.choice(sorted(_made[kind]))
    endings = {"weights": draw.choice(["pth", "safetensors"]), "options": "yml", "zip": "zip", "mat": "mat"}
    return f"input.{endings.get(kind, name.rpartition('.')[2])}", draw.choice(HOW[kind])(_made[kind][name], draw)

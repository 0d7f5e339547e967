"""What users rely on, recorded with one version of the code and compared with another: outputs, keys, texts, trainings.

    PYTHONPATH=OLD python scripts/compare_versions.py record old-record --checkout OLD --data DATA
    PYTHONPATH=.   python scripts/compare_versions.py record new-record --checkout .   --data DATA
    python scripts/compare_versions.py compare old-record new-record

Recorded are, in float32 with one thread: outputs of every network of `DATA/fixtures` (filled as it says) and of every
shipped model on three images; state-dict keys and shapes of every registered network, encoder, mixer and quality model;
`restore options explain --yaml` of every shipped option file; `--help` of every command; `restore score` of bicubic
images of Set5; two trainings of 20 iterations, SwinIR and IQT, with what they saved. `DATA` has `fixtures` and `data`.
New options, commands and components may come; what was there has to be the same.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import json
import os
import re
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SMALL = {  # arguments of components that cannot be built without
    "SwinIR": {"upscale": 4, "upsampler": "pixelshuffledirect"},
    "IQT": {"encoder": "conv_pyramid"},
    "IQT-C": {"encoder": "conv_pyramid"},
    "TRIQ": {"encoder": "conv_pyramid", "grid": [3, 4]},
}
ITERATIONS = 20
TRAININGS = {
    "swinir": (
        "options/train_swinir_light_x4.yml",
        "network_g.depths=[2]",
        "network_g.num_heads=[6]",
        "datasets.train.gt_size=64",
        "datasets.train.batch_size_per_gpu=2",
        "datasets.train.dataroot_gt={data}/data/benchmark/Set5/HR",
        "datasets.train.num_worker_per_gpu=0",
        "datasets.val.dataroot_gt={data}/data/benchmark/Set5/HR",
        "datasets.val.dataroot_lq={data}/data/benchmark/Set5/LR_bicubic/X4",
    ),
    "iqt": (
        "options/train_iqt_small_synthetic.yml",
        "datasets.train.dataroot_gt={data}/data/benchmark/Set5/HR",
        "datasets.train.batch_size_per_gpu=4",
        "datasets.val.dataroot_gt={data}/data/benchmark/Set14/HR",
        "datasets.val.max_images=2",
        "network_g.num_crops=2",
    ),
}


def outputs(data: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Of the fixtures' networks and of the shipped models, for the first three low-resolution images of Set5."""
    import torch

    import restore
    from restore.images import read_image
    from restore.registry import NETWORKS
    from restore.zoo import list_cards

    fill = runpy.run_path(str(data / "fixtures/fill.py"))["fill_state_dict"]
    paths = sorted((data / "data/benchmark/Set5/LR_bicubic/X4").iterdir())[:3]
    images = [np.atleast_3d(np.asarray(getattr(image := read_image(path), "pixels", image))) for path in paths]
    for path in sorted((data / "fixtures").glob("*.npz")):
        stored = np.load(path)
        config = json.loads(str(stored["config"])) if "config" in stored.files else {}
        if "type" not in config or "input" not in stored.files or stored["input"].ndim != 4:
            continue
        task = config.pop("task", None)
        allowed = inspect.signature(NETWORKS.get(config["type"])).parameters
        config = {key if key == "type" else key.lower(): value for key, value in config.items()}
        network = NETWORKS.build(
            {key: value for key, value in config.items() if key in allowed or key == "type"}
        ).eval()
        fill(network, int(stored["seed"]))
        channels, side = stored["input"].shape[1], stored["input"].shape[-1]
        for number, image in enumerate(images):
            x = torch.from_numpy(image[:side, :side, :channels].astype(np.float32) / 255).permute(2, 0, 1)[None]
            if "IPT" in config["type"]:
                x = torch.nn.functional.interpolate(x, (side, side))
            with torch.no_grad():
                restored = network(x.contiguous()) if task is None else network(x.contiguous(), task)
                yield f"fixture {path.stem} {number}", restored.numpy()
    for card in list_cards():
        if not (Path(restore.__file__).parent / f"zoo/weights/{card.name}.safetensors").exists():
            continue
        if card.task == "quality":
            from restore.quality import load_quality

            judge = load_quality(card.name)
            for number in range(len(paths)):
                image = torch.from_numpy(images[number].astype(np.float32) / 255).permute(2, 0, 1)[None]
                reference = (image.roll(1, 2),) if "IQT" in type(judge).__name__ else ()
                with torch.no_grad():
                    yield f"shipped {card.name} {number}", np.asarray(judge(image, *reference)).ravel()
        elif card.task != "defects":
            restorer = restore.load_model(card.name, device="cpu", precision="fp32")
            for number, image in enumerate(images):
                yield f"shipped {card.name} {number}", restorer(image.astype(np.float32) / 255)


def keys() -> Iterator[tuple[str, list]]:
    """State-dict keys with shapes of every registered component, built on the meta device."""
    import torch

    from restore import registry

    for kind, components in (
        ("network", registry.NETWORKS),
        ("discriminator", getattr(registry, "DISCRIMINATORS", None) or registry.NETWORKS),
        ("encoder", registry.ENCODERS),
        ("mixer", registry.MIXERS),
        ("quality", registry.QUALITY),
    ):
        for name in components:
            if name == "timm" or (
                kind in ("network", "discriminator") and ("Discriminator" in name) != (kind[0] == "d")
            ):
                continue
            with contextlib.suppress(Exception), torch.device("meta"):
                extra = {"dim": 48} if kind == "mixer" else {}
                built = components.build({"type": name, **SMALL.get(name, {})}, **extra)
                yield f"{kind} {name}", [[key, list(value.shape)] for key, value in built.state_dict().items()]


def run(*arguments: str) -> str:
    """What a command prints, called in this process."""
    from restore.cli import main

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main(list(arguments))
    return printed.getvalue()


def texts(checkout: Path, data: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """What commands print."""
    yield "help", (overview := run("--help"))
    for command in re.findall(r"^  ([a-z]\w+) {2,}", overview, re.MULTILINE):
        yield f"help {command}", run(command, "--help")
    for path in sorted((checkout / "options").rglob("*.yml")):
        name = str(path.relative_to(checkout))
        yield f"explain {name}", run("options", "explain", name, "--yaml")
    from PIL import Image

    upscaled = folder / "bicubic"
    upscaled.mkdir()
    for path in sorted((data / "data/benchmark/Set5/LR_bicubic/X4").iterdir()):
        image = Image.open(path)
        image.resize((image.width * 4, image.height * 4), Image.Resampling.BICUBIC).save(
            upscaled / path.name.replace("x4", "")
        )
    printed = run(
        "score", "-r", str(upscaled), "-g", str(data / "data/benchmark/Set5/HR"), "--metrics", "psnr,ssim,niqe",
        "--protocol", "swinir_sr", "--scale", "4", "-o", str(folder / "scores"), "--workers", "1", "--fresh",
    )  # fmt: skip
    yield "score Set5", printed.replace(str(folder), "FOLDER")
    for path in sorted((folder / "scores").rglob("*.csv")):
        yield f"score Set5 {path.name}", path.read_text()


def trained(data: Path, folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors that two trainings save: networks and optimizers."""
    import torch

    for name, (options, *overrides) in TRAININGS.items():
        root = folder / name
        settings = [
            *(text.format(data=data) for text in overrides),
            f"path.experiments_root={root}", f"train.total_iter={ITERATIONS}", f"val.val_freq={ITERATIONS}",
            "logger.print_freq=10", f"logger.save_checkpoint_freq={ITERATIONS}",
            "runtime.device=cpu", "runtime.precision=fp32",
        ]  # fmt: skip
        run("train", "-opt", options, *(part for text in settings for part in ("--set", text)))
        for path in sorted(p for p in root.rglob("*") if p.suffix in (".pth", ".state")):
            state = torch.load(path, map_location="cpu", weights_only=False)
            yield from ((f"trained {name} {path.name} {key}", value) for key, value in tensors(state))


def tensors(state: object, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor inside dictionaries and lists, with its dotted path."""
    import torch

    if isinstance(state, torch.Tensor) and state.is_floating_point():
        yield path, state.float().numpy()
    elif isinstance(state, dict):
        for key, value in state.items():
            yield from tensors(value, f"{path}.{key}" if path else str(key))
    elif isinstance(state, (list, tuple)):
        for number, value in enumerate(state):
            yield from tensors(value, f"{path}.{number}" if path else str(number))


def record(folder: Path, checkout: Path, data: Path, texts_only: bool) -> None:
    """Write `arrays.npz` and `texts.json` into a new folder."""
    import torch

    torch.set_num_threads(1)
    os.chdir(checkout)
    os.environ["COLUMNS"] = "100"
    for name in ("bicubic", "scores", "swinir", "iqt"):
        shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    words = dict(texts(checkout, data, folder)) | {f"keys {name}": json.dumps(value) for name, value in keys()}
    (folder / "texts.json").write_text(json.dumps(words, indent=1))
    if texts_only:
        return
    with contextlib.redirect_stderr(io.StringIO()):
        arrays = dict(outputs(data)) | dict(trained(data, folder))
    np.savez_compressed(folder / "arrays.npz", **arrays)
    print(f"{folder}: {len(words)} texts, {len(arrays)} arrays")


def lines_lost(name: str, before: str, after: str) -> list[str]:
    """What of a text is no longer there: options with their values, or the words of a help text; new ones may come."""
    import yaml

    if name.startswith("explain"):
        one, other = (dict(leaves(yaml.safe_load(text))) for text in (before, after))
        return [f"{path}: {value!r}" for path, value in one.items() if other.get(path, ...) != value]
    if name.startswith("help"):
        return [word for word in before.split() if word.startswith("-") and word not in after]
    return [] if before == after else [line for line in before.splitlines() if line not in after.splitlines()]


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Every plain value inside mappings, with its dotted path."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def compare(old: Path, new: Path) -> int:
    """Print one line for each group of what was recorded, and every difference; returns how many differ."""
    rows: dict[str, list] = {}
    differing = []
    before, after = np.load(old / "arrays.npz"), np.load(new / "arrays.npz")
    for name in before.files:
        row = rows.setdefault(
            " ".join(name.split()[:2] if name[:7] in ("trained", "shipped") else name.split()[:1]), [0, 0, 0.0, 0]
        )
        if name not in after.files or after[name].shape != before[name].shape:
            row[3] += 1
            differing.append(f"missing: {name}")
            continue
        difference = float(np.abs(before[name].astype(np.float64) - after[name]).max(initial=0))
        row[0] += 1
        row[1] += difference == 0
        row[2] = max(row[2], difference)
    first, second = (json.loads((folder / "texts.json").read_text()) for folder in (old, new))
    for name, text in first.items():
        row = rows.setdefault(name.split()[0], [0, 0, 0.0, 0])
        if name not in second:
            row[3] += 1
            differing.append(f"missing: {name}")
            continue
        row[0] += 1
        lost = lines_lost(name, text, second[name])
        row[1] += not lost
        differing += [f"{name}: {line}" for line in lost]
    print(f"{'what':32s} {'compared':>9s} {'the same':>9s} {'largest difference':>19s} {'missing':>8s}")
    for group, (count, same, largest, missing) in rows.items():
        print(f"{group:32s} {count:9d} {same:9d} {largest:19.3g} {missing:8d}")
    print(*differing, sep="\n")
    return len(differing)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(required=True)
    recording = actions.add_parser("record")
    recording.add_argument("folder", type=Path)
    recording.add_argument("--checkout", type=Path, default=Path(), help="root of the version to record")
    recording.add_argument("--data", type=Path, required=True, help="folder that holds fixtures and data")
    recording.add_argument("--texts-only", action="store_true", help="leave out what takes minutes; keep older arrays")
    recording.set_defaults(
        call=lambda a: record(a.folder.resolve(), a.checkout.resolve(), a.data.resolve(), a.texts_only)
    )
    comparing = actions.add_parser("compare")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    comparing.set_defaults(call=lambda a: compare(a.old, a.new))
    arguments = parser.parse_args()
    raise SystemExit(bool(arguments.call(arguments)))


if __name__ == "__main__":
    main()

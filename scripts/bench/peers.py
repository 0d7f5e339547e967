"""Our networks against other programs that compute the same: official code, spandrel, OpenVINO, ONNX Runtime.

    python scripts/bench/peers.py --official ~/official --threads 1 --rounds 7 --json results/bench/peers.json
    python scripts/bench/peers.py --only SwinIR-light --sides 64 --engines ours onnxruntime

Every engine is a process of its own; they take turns, one forward pass each, and nothing else should run. All have the
same weights and image. Printed are medians over the rounds of seconds by the clock and of the processor, and medians
of each round's ratio of ours to the other's time, by both (with one thread and beside other work, that of the processor
is fairer); and the largest difference from float32 through torch's own operators. `--official` names a folder with
checkouts of the official repositories, SwinIR, Uformer, EDT and IPT. Engines that are not installed or do not have a
network are left out. ONNX Runtime has no bf16 on processors.

`ours` is a `restore.inference.Restorer` in a Python program. Others get the network without its padding, and files of
one fixed size, which suits them best.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from timing import machine, report

Forward = Callable[[torch.Tensor], torch.Tensor]

LIGHT = {"embed_dim": 60, "depths": [6] * 4, "num_heads": [6] * 4, "upsampler": "pixelshuffledirect"}
MEDIUM = {"embed_dim": 180, "depths": [6] * 6, "num_heads": [6] * 6, "upsampler": "pixelshuffle"}
SWINIR = {"type": "SwinIR", "upscale": 4, "window_size": 8, "mlp_ratio": 2, "img_size": 64, "img_range": 1.0}
UFORMER = {"type": "Uformer", "modulator": True}
TINY_EDT = {"num_feat": 8, "embed_dim": 60, "depths": [6] * 4, "num_heads": [6] * 4, "upsampler": "pixelshuffledirect"}
BASE_EDT = {"num_feat": 32, "embed_dim": 180, "depths": [6] * 6, "num_heads": [6] * 6, "upsampler": "pixelshuffle"}
NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {  # options, sides in pixels
    "SwinIR-light x4": (SWINIR | LIGHT, (64, 128, 256)),
    "SwinIR-M x4": (SWINIR | MEDIUM, (64,)),
    "Uformer-T": ({"type": "Uformer", "embed_dim": 16, "modulator": True}, (128,)),
    "Uformer-B": (
        {"type": "Uformer", "embed_dim": 32, "depths": [1, 2, 8, 8, 2, 8, 8, 2, 1], "modulator": True},
        (128,),
    ),
    "EDT-T x2": ({"type": "EDT", "scales": [2], **TINY_EDT}, (96,)),
    "EDT-B x2": ({"type": "EDT", "scales": [2], **BASE_EDT}, (96,)),
    "IPT x2": ({"type": "IPT", "scale": [2], "patch_size": 48, "rgb_range": 1}, (48,)),
    "RRDBNet x4": ({"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3}, (64,)),
    "SRVGGNetCompact x4": ({"type": "SRVGGNetCompact"}, (128,)),
    "RepConvSR x4": ({"type": "RepConvSR", "expansion": 0}, (64, 256)),
}
ENGINES = ("ours", "official", "spandrel", "openvino", "onnxruntime")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass
class Job:
    """What an engine is to compute."""

    options: dict[str, Any]
    weights: str
    side: int
    precision: str
    threads: int
    official: str


class LeftOutError(Exception):
    """This engine does not have this network or precision."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", default="", help="folder with checkouts of SwinIR, Uformer, EDT and IPT")
    parser.add_argument("--only", default="", help="part of a network's name")
    parser.add_argument("--engines", nargs="+", default=ENGINES, choices=ENGINES)
    parser.add_argument("--precisions", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--sides", type=int, nargs="*", help="instead of those of the table")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", default="results/bench/peers.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for name, (options, sides) in NETWORKS.items():
        if arguments.only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            weights = Path(folder) / "weights.pth"
            torch.manual_seed(0)
            torch.save(sensible(build(options)).state_dict(), weights)
            for side in arguments.sides or sides:
                for precision in arguments.precisions:
                    job = Job(options, str(weights), side, precision, arguments.threads, arguments.official)
                    rows += [{"network": name, "side": side, **row} for row in compared(job, arguments)]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    report("one image through networks, by engine", rows, {**machine(), "load": load}, arguments.json)


def compared(job: Job, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """A row for each engine."""
    expected = reference(job)
    engines: dict[str, Engine] = {}
    for name in arguments.engines:
        engine = Engine(name, job)
        if engine.problem:
            print(
                f"{job.options['type']}, {job.side} px, {job.precision}: {name} left out: {engine.problem}", flush=True
            )
        else:
            engines[name] = engine
    wall: dict[str, list[float]] = {name: [] for name in engines}
    processor: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(arguments.rounds):
        for name, engine in engines.items():
            seconds, work = engine.run()
            wall[name].append(seconds)
            processor[name].append(work)
    rows: list[dict[str, object]] = []
    for name, engine in engines.items():
        ratios = [
            statistics.median(a / b for a, b in zip(times["ours"], times[name], strict=True)) if "ours" in times else ""
            for times in (wall, processor)
        ]
        rows.append(
            {
                "precision": job.precision,
                "engine": name,
                "clock [s]": statistics.median(wall[name]),
                "processor [s]": statistics.median(processor[name]),
                "ours / this": ratios[0],
                "by processor": ratios[1],
                "difference": (engine.answer - expected).abs().max().item(),
            }
        )
        engine.stop()
    return rows


class Engine:
    """One engine in a process of its own, which computes when it is told to."""

    def __init__(self, name: str, job: Job):
        here, there = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self.pipe, self.process = here, context.Process(target=serve, args=(name, job, there), daemon=True)
        self.process.start()
        there.close()
        try:
            self.problem, self.answer = self.pipe.recv()
        except EOFError:
            self.problem, self.answer = "its process ended", None

    def run(self) -> tuple[float, float]:
        """Seconds by the clock, and of the processor, of one pass."""
        self.pipe.send(True)
        return self.pipe.recv()

    def stop(self) -> None:
        """End the process."""
        self.pipe.send(False)
        self.process.join()


def serve(name: str, job: Job, pipe: Any) -> None:
    """What the process of an engine does: one pass for each `True` that it receives."""
    torch.set_num_threads(job.threads)
    warnings.simplefilter("ignore")
    x_BCHW = image(job.side)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            forward = globals()[f"_{name}"](job)
            with torch.inference_mode():
                answer = forward(x_BCHW).float().clone()
                forward(x_BCHW)
    except LeftOutError as error:
        pipe.send((str(error), None))
        return
    except ImportError as error:
        pipe.send((f"{error.name} is not installed", None))
        return
    pipe.send((None, answer))
    with torch.inference_mode():
        while pipe.recv():
            start, begun = time.perf_counter(), time.process_time()
            forward(x_BCHW)
            pipe.send((time.perf_counter() - start, time.process_time() - begun))


def _ours(job: Job) -> Forward:
    from restore.inference import Restorer

    return Restorer(loaded(job), device="cpu", precision=job.precision, tile=None)


def _official(job: Job) -> Forward:
    return in_precision(official_network(job), job)


def official_network(job: Job, device: torch.device | str = "cpu") -> torch.nn.Module:
    """The official network with the weights of the job.

    Raises:
        LeftOutError: says why there is none.
    """
    if not job.official:
        raise LeftOutError("no folder was given with --official")
    make = {"SwinIR": _official_swinir, "Uformer": _official_uformer, "EDT": _official_edt, "IPT": _official_ipt}[
        job.options["type"]
    ]
    root = Path(job.official).expanduser() / job.options["type"]
    if not root.is_dir():
        raise LeftOutError(f"there is no folder {root}")
    network = make(root, job, device)
    made = ("attn_mask", "relative_position_index", "position_ids")  # by the network itself
    wanted = {key for key in network.state_dict() if not (key.endswith(made) or "_mean." in key)}
    state = {key: value for key, value in torch.load(job.weights).items() if key in wanted}
    missing = wanted - set(state)
    if missing:
        raise LeftOutError(f"it has other keys: {sorted(missing)[:3]}")
    network.load_state_dict(state, strict=False)
    return network.eval().to(device)


def _official_swinir(root: Path, job: Job, device: torch.device | str) -> torch.nn.Module:
    options = {key: value for key, value in job.options.items() if key != "type"} | {"img_size": job.side}
    return module(root / "models/network_swinir.py").SwinIR(**options)


def _official_uformer(root: Path, job: Job, device: torch.device | str) -> torch.nn.Module:
    options = {key: value for key, value in job.options.items() if key != "type"}
    return module(root / "model.py").Uformer(img_size=256, token_mlp="leff", **options)


def _official_edt(root: Path, job: Job, device: torch.device | str) -> torch.nn.Module:
    options = {key.upper(): value for key, value in job.options.items() if key != "type"}
    defaults = {
        "IN_CHANNEL": 3,
        "DEPTH": 2,
        "IMAGE_SIZE": 48,
        "NOISE_LEVELS": [],
        "RAIN_LEVELS": [],
        "WINDOW_SIZE": (6, 24),
        "IMAGE_RANGE": 1.0,
        "MLP_RATIO": 2,
        "RESI_CONNECTION": "1conv",
        "DOWNSAMPLE": 1,
        "DEVICE": str(device),
    }
    sys.path.insert(0, str(root))
    network = importlib.import_module("utils.modules.edt").Network(
        SimpleNamespace(MODEL=SimpleNamespace(**defaults | options))
    )

    class First(torch.nn.Module):  # it takes and gives lists, one entry for each task
        def __init__(self) -> None:
            super().__init__()
            self.__dict__["network"] = network

        def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
            return network.state_dict(*args, **kwargs)

        def to(self, *args: Any, **kwargs: Any) -> Any:
            network.to(*args, **kwargs)
            return self

        def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
            return network.load_state_dict(*args, **kwargs)

        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            return network([x_BCHW])[0]

    network.eval()
    return First()


def _official_ipt(root: Path, job: Job, device: torch.device | str) -> torch.nn.Module:
    defaults = {"n_colors": 3, "n_feats": 64, "patch_dim": 3, "num_heads": 12, "num_layers": 12, "num_queries": 1}
    off = dict.fromkeys(("no_mlp", "pos_every", "no_pos", "no_norm"), False)
    arguments = defaults | off | {"dropout_rate": 0} | job.options
    sys.path.insert(0, str(root))
    return importlib.import_module("model.ipt").ipt(SimpleNamespace(**arguments))


def _spandrel(job: Job) -> Forward:
    import spandrel

    try:
        network = spandrel.ModelLoader("cpu").load_from_state_dict(torch.load(job.weights)).model
    except spandrel.UnsupportedModelError:
        raise LeftOutError("it does not know this network") from None
    return in_precision(network.eval(), job)


def _openvino(job: Job) -> Forward:
    import openvino
    from openvino import properties

    wanted = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16}[job.precision]
    config = {
        properties.hint.inference_precision(): wanted,
        properties.inference_num_threads(): job.threads,
        properties.num_streams(): 1,
    }
    model = openvino.Core().compile_model(openvino.Core().read_model(exported(job)), "CPU", dict(config))
    request = model.create_infer_request()
    return lambda x_BCHW: torch.from_numpy(next(iter(request.infer({0: x_BCHW.numpy()}).values())))


def _onnxruntime(job: Job) -> Forward:
    import onnxruntime

    if job.precision != "fp32":
        raise LeftOutError(f"it has no {job.precision} on processors")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = job.threads, 1
    session = onnxruntime.InferenceSession(exported(job), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x_BCHW: torch.from_numpy(session.run(None, {name: x_BCHW.numpy()})[0])


def exported(job: Job) -> str:
    """The network as an ONNX file for images of this side; written once, next to its weights."""
    from restore.layers.compiled.library import switched_off

    path = Path(job.weights).with_name(f"{job.side}.onnx")
    if not path.exists():
        with switched_off(), torch.no_grad():
            program = torch.onnx.export(loaded(job), (image(job.side),), dynamo=True, verbose=False)
        assert program is not None
        program.save(str(path))
    return str(path)


def reference(job: Job) -> torch.Tensor:
    """What the network computes in float32 by torch's own operators."""
    from restore.layers.compiled.library import switched_off

    with switched_off(), torch.inference_mode():
        return loaded(job)(image(job.side))


def loaded(job: Job) -> torch.nn.Module:
    """Our network with the weights of the job."""
    network = build(job.options)
    network.load_state_dict(torch.load(job.weights))
    return network.eval()


def build(options: dict[str, Any]) -> torch.nn.Module:
    """Our network."""
    from restore.registry import NETWORKS

    return NETWORKS.build(dict(options))


def sensible(network: torch.nn.Module) -> torch.nn.Module:
    """The network with output weights that keep values near the image's, so that differences mean something."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1 and "conv_last" in name:
                parameter.mul_(0.1) if parameter.any() else torch.nn.init.normal_(parameter, std=0.02)
    return network


def in_precision(network: torch.nn.Module, job: Job) -> Forward:
    """A forward pass under autocast, as trainings and tests of the official code would use it."""

    def forward(x_BCHW: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=job.precision == "bf16"):
            return network(x_BCHW)

    return forward


def image(side: int) -> torch.Tensor:
    """A smooth image with some noise, (1, 3, side, side)."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 8, 8, generator=random)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)
    return (smooth + 0.03 * torch.randn(smooth.shape, generator=random)).clamp(0, 1)


def module(path: Path) -> Any:
    """A Python file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    loaded_module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded_module)
    return loaded_module


if __name__ == "__main__":
    main()

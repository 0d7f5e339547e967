"""Other engines in the place of a network: ONNX Runtime and OpenVINO, under the same padding, tiling and blending.

The network is exported to ONNX on its first use; the file is kept in the cache folder (`$RESTORE_CACHE/engines`) under
the digest of its weights, its options and the versions that made it. How far the engine's results are from the
network's is measured when it is loaded, and said.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from restore import __version__
from restore.data.storage.cache import cache_folder
from restore.errors import MissingError, OptionsError, nearest
from restore.files import atomic_write, sha256_of
from restore.inference.export import CHECKED_SMALL, ExportError, export_network, onnx_run
from restore.inference.fitting import probed_bytes
from restore.inference.restorer import Restorer
from restore.networks import ImageSpec
from restore.networks.spec import spec_of

__all__ = ["ENGINES", "PROVIDERS", "EngineNetwork", "engine_restorer", "file_network", "network_digest"]

Run = Callable[[torch.Tensor], torch.Tensor]
ENGINES = ("torch", "onnxruntime", "openvino")
PROVIDERS = {  # of ONNX Runtime, the most wanted first
    "cuda": "CUDAExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
ON_REQUEST = ("tensorrt", "openvino")  # which compile for minutes, or are an engine of their own here
COMPARED = (1, 40, 56)  # images, rows and columns
TOLERANCES = {"fp32": 1e-4, "bf16": 0.1, "fp16": 0.02, "int8": 0.5}
FORMAT = 1  # of the files in the cache: one more when they are made in another way
LARGEST_SMALL_PX = 17  # every exported file takes sides from here on
logger = logging.getLogger(__name__)


class EngineNetwork(nn.Module):
    """An exported file in the place of the network that it was made of.

    Args:
        run: (B, C, H, W) float32 to the same, scaled; on the processor's side.
        spec: of the network.
        many: whether the file takes several images at once.
    """

    def __init__(self, run: Run, spec: ImageSpec, *, many: bool = True):
        super().__init__()
        self.spec = spec
        self._run, self._many = run, many

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Restore images in [0, 1]."""
        x_BCHW = x_BCHW.contiguous()
        return self._run(x_BCHW) if self._many else torch.cat([self._run(image) for image in x_BCHW.split(1)])


def engine_restorer(
    network: nn.Module,
    engine: str,
    *,
    provider: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    **runtime: Any,
) -> Restorer:
    """A `Restorer` that runs `network` by another engine.

    Args:
        network: what is exported, if it has not been.
        engine: onnxruntime or openvino.
        provider: of ONNX Runtime, see `PROVIDERS`; a device of OpenVINO (CPU, GPU, NPU). By default what `device` says.
        device: auto takes the best that is there; cpu the processor; cuda, or mps, the provider for it.
        precision: auto and fp32 are float32; fp16 of both engines, bf16 of OpenVINO, int8 of ONNX Runtime.
        runtime: further arguments of the `Restorer`.

    Raises:
        OptionsError: no such engine, provider or device, or an argument that means torch's own networks.
        MissingError: the engine is not installed.
        ExportError: the network cannot be exported, or the engine computes something else.
    """
    if engine not in ENGINES[1:]:
        raise OptionsError(f"unknown engine '{engine}'.{nearest(engine, ENGINES)} Known: {', '.join(ENGINES)}.")
    for name in ("compile", "channels_last", "merge"):
        if runtime.get(name):
            raise OptionsError(f"{name} is for networks that torch runs: leave it out with the engine {engine}.")
    runtime.pop("fold", None)  # what is exported is folded
    words = "fp32" if precision == "auto" else precision
    spec = spec_of(network)
    if words not in (*spec.precisions, *(["int8"] if engine == "onnxruntime" else [])):
        raise OptionsError(f"precision is '{precision}': this network's results hold in {', '.join(spec.precisions)}.")
    start = _onnxruntime if engine == "onnxruntime" else _openvino
    network = network.cpu().float().eval()
    path, differences = _exported(network, words if engine == "onnxruntime" else "fp32")
    run, where = start(path, provider, device, words)
    many = any(images > 1 for images, _, _ in differences)
    takes_small = all(size in differences for size in CHECKED_SMALL if size[0] == 1)
    least = spec.min_size if takes_small else max(spec.min_size, LARGEST_SMALL_PX)
    exported = EngineNetwork(run, replace(spec, min_size=least, pixel_bytes=_pixel_bytes(network)), many=many)
    difference = _difference(network, exported) / spec.value_range
    logger.info("%s (%s): differs from torch by at most %.1e of white", engine, where, difference)
    if not difference <= TOLERANCES[words]:
        raise ExportError(
            f"{engine} ({where}) computes something else than torch: {difference:.2g} of white apart, where "
            f"{TOLERANCES[words]:g} is allowed. Use the engine torch, or another provider."
        )
    return Restorer(exported, device="cpu", precision="fp32", **runtime)


def file_network(path: str | Path, network: nn.Module) -> EngineNetwork:
    """An ONNX file that `export_network` made, in the place of its network, on the processor."""
    run = onnx_run(Path(path).read_bytes())
    return EngineNetwork(run, replace(spec_of(network), pixel_bytes=_pixel_bytes(network)))


def network_digest(network: nn.Module) -> str:
    """What tells a network from every other: its weights, structure and plain attributes, and the versions in use."""
    digest = hashlib.sha256(f"{FORMAT} {__version__} {torch.__version__} {network!r}".encode())
    for name, module in network.named_modules():
        plain = {key: value for key, value in sorted(vars(module).items()) if _is_plain(value)}
        digest.update(f"{name} {type(module).__qualname__} {plain}".encode())
    tensors = {**dict(network.named_buffers()), **network.state_dict()}
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _is_plain(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _exported(network: nn.Module, precision: str) -> tuple[Path, dict[tuple[int, int, int], float]]:
    """The ONNX file of a network in a precision, made where it is not in the cache, and its differences by size."""
    path = cache_folder() / "engines" / f"{network_digest(network)}_{precision}.onnx"
    record = path.with_suffix(".json")
    kept = _kept(path, record)
    if kept is None:
        logger.info("exporting the network to %s: this is done once", path)
        path.parent.mkdir(parents=True, exist_ok=True)
        found = export_network(network, path, precision=precision)
        rows = [[*size, difference] for size, difference in found.items()]
        kept = {"sha256": sha256_of(path), "differences": rows}
        with atomic_write(record) as file:
            file.write(json.dumps(kept).encode())
    return path, {(images, height, width): difference for images, height, width, difference in kept["differences"]}


def _kept(path: Path, record: Path) -> dict[str, Any] | None:
    """What was recorded of a file in the cache; None where it is not there, or not as it was written."""
    try:
        kept: dict[str, Any] = json.loads(record.read_text("utf-8"))
        return kept if kept["sha256"] == sha256_of(path) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _onnxruntime(path: Path, provider: str | None, device: str, precision: str) -> tuple[Run, str]:
    ort = _import("onnxruntime", "export")
    if precision == "bf16":
        raise OptionsError("precision is 'bf16': with ONNX Runtime it is fp32, fp16 or int8.")
    name, *index = device.split(":")
    chosen = _provider(ort.get_available_providers(), provider, name)
    options = {"device_id": index[0]} if index and chosen != "cpu" else {}
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.log_severity_level = 3
    wanted: list[Any] = [(PROVIDERS[chosen], options)]
    wanted += [PROVIDERS["cuda"]] if chosen == "tensorrt" else []
    wanted += [PROVIDERS["cpu"]] if chosen != "cpu" else []  # for what the first one cannot do
    session = ort.InferenceSession(str(path), settings, providers=wanted)
    taken = session.get_providers()[0]
    if taken != PROVIDERS[chosen]:
        raise OptionsError(f"ONNX Runtime could not start its provider {chosen} here: it fell back to {taken}.")
    entry = session.get_inputs()[0].name
    return lambda x_BCHW: torch.from_numpy(session.run(None, {entry: x_BCHW.numpy()})[0]), taken


def _provider(available: list[str], asked: str | None, device: str) -> str:
    """The provider that is asked for, that a device means, or the best that is there.

    Raises:
        OptionsError: it is not there.
    """
    here = [name for name, full in PROVIDERS.items() if full in available]
    meant = asked or {"auto": None, "mps": "coreml"}.get(device, device)
    if meant is None:
        return next(name for name in here if name not in ON_REQUEST)
    if meant not in here:
        raise OptionsError(
            f"ONNX Runtime has no provider '{meant}' here.{nearest(meant, PROVIDERS)} It has {', '.join(here)}; others "
            "come with onnxruntime-gpu, onnxruntime-directml or onnxruntime-openvino."
        )
    return meant


def _openvino(path: Path, provider: str | None, device: str, precision: str) -> tuple[Run, str]:
    openvino = _import("openvino", "openvino")
    core = openvino.Core()
    wanted = (provider or {"auto": "AUTO", "cpu": "CPU"}.get(device, device)).upper()
    if wanted != "AUTO" and not any(wanted.split(".")[0] == name.split(".")[0] for name in core.available_devices):
        raise OptionsError(f"OpenVINO has no device '{wanted}' here: it has {', '.join(core.available_devices)}.")
    types = {"fp32": openvino.Type.f32, "fp16": openvino.Type.f16, "bf16": openvino.Type.bf16}
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": types[precision], "PERFORMANCE_HINT": "LATENCY"}
    if wanted == "CPU":
        settings["INFERENCE_NUM_THREADS"] = torch.get_num_threads()
    compiled = core.compile_model(core.read_model(path), wanted, settings)

    def run(x_BCHW: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(compiled(x_BCHW.numpy())[0].copy())

    return run, ", ".join(compiled.get_property("EXECUTION_DEVICES"))


def _import(name: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingError(
            f"the engine {name} is not installed: pip install 'restore-toolkit[export,{extra}]'"
        ) from None


def _pixel_bytes(network: nn.Module) -> float:
    """Memory that the network takes for a pixel in torch, which stands for the engine's: that cannot be asked."""
    with torch.no_grad():
        return probed_bytes(network, spec_of(network), torch.device("cpu"), network)


def _difference(network: nn.Module, exported: nn.Module) -> float:
    """The largest difference on a picture of slopes and noise."""
    spec, (images, height, width) = spec_of(network), COMPARED
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(images, spec.in_channels, height, width, generator=generator)
    slope = torch.linspace(0, 1, width).expand(images, spec.in_channels, height, width)
    picture = (0.7 * slope + 0.3 * noise) * spec.value_range
    with torch.no_grad():
        return (network(picture) - exported(picture)).abs().max().item()

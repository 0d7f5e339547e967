"""Networks as files that run without this package: ONNX, and torch.export's own format.

Height and width stay free. What was written is read back and compared with the network at several sizes before it is
kept, so a file that exists is right. What only training needs is folded away.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from restore.errors import MissingError, OptionsError, RestoreError
from restore.files import atomic_write
from restore.layers.folding import fold
from restore.networks.spec import spec_of

__all__ = ["FORMATS", "ExportError", "export_network"]

Run = Callable[[torch.Tensor], torch.Tensor]
FORMATS = {".onnx": "ONNX", ".pt2": "torch.export"}
EXAMPLE_PX = (41, 58)
"""Size that the network is traced with: no multiple of any window, so that no branch is settled by accident."""
CHECKED_PX = ((24, 40), (33, 17), (50, 61))
TOLERANCE = 1e-4
"""Largest difference from the network, for images in [0, 1]; times the network's white otherwise."""


class ExportError(RestoreError, RuntimeError):
    """A network cannot be exported, or the file does not compute what the network computes."""


def export_network(network: nn.Module, path: str | Path) -> dict[tuple[int, int], float]:
    """Write `network` to a `.onnx` or `.pt2` file that takes (1, C, H, W) of any H and W above a window.

    Returns:
        The largest difference from the network at each size that was checked.

    Raises:
        OptionsError: another suffix.
        MissingError: ONNX is asked for, but onnx, onnxscript or onnxruntime is not installed.
        ExportError: the network has branches that depend on the size, or the result differs.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise OptionsError(f"cannot export to '{path.name}': the name must end in {' or '.join(FORMATS)}.")
    network = network.cpu().float().eval()
    with torch.no_grad(), _quiet():
        program = _program(fold(network), spec_of(network).in_channels)
        content, run = (_onnx if path.suffix == ".onnx" else _torch)(program)
        differences = {size: _difference(network, run, size) for size in CHECKED_PX}
    worst = max(differences.values())
    if not worst <= TOLERANCE * spec_of(network).value_range:
        raise ExportError(f"{path}: not written. The exported network differs by {worst:.2g} from the original.")
    with atomic_write(path) as file:
        file.write(content)
    return differences


def _program(network: nn.Module, channels: int) -> torch.export.ExportedProgram:
    free = torch.export.Dim.DYNAMIC
    example = torch.rand(1, channels, *EXAMPLE_PX)
    try:
        return torch.export.export(network, (example,), dynamic_shapes=({2: free, 3: free},))
    except Exception as error:  # torch raises a dozen kinds
        reason = str(error).strip().splitlines()[0][:300]
        raise ExportError(
            f"{type(network).__name__} cannot be exported with free height and width: {reason}"
        ) from error


def _torch(program: torch.export.ExportedProgram) -> tuple[bytes, Run]:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    return buffer.getvalue(), torch.export.load(buffer).module()


def _onnx(program: torch.export.ExportedProgram) -> tuple[bytes, Run]:
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingError(f"{error.name} is not installed: pip install onnx onnxscript onnxruntime") from None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        exported = torch.onnx.export(program, dynamo=True, input_names=["image"], output_names=["restored"])
        assert exported is not None  # as it is where torch does not write the file itself
        exported.save(str(file))
        content = file.read_bytes()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return content, lambda x_BCHW: torch.from_numpy(session.run(None, {name: x_BCHW.numpy()})[0])


def _difference(network: nn.Module, run: Run, size: tuple[int, int]) -> float:
    generator, spec = torch.Generator().manual_seed(0), spec_of(network)
    image = torch.rand(1, spec.in_channels, *size, generator=generator) * spec.value_range
    wanted = network(image)
    try:
        found = run(image)
    except Exception as error:  # the engines raise a dozen kinds
        reason = str(error).strip().splitlines()[0][:300]
        raise ExportError(
            f"the exported network does not take an image of {size[0]} x {size[1]} px: {reason}"
        ) from error
    if wanted.shape != found.shape:
        raise ExportError(
            f"the exported network makes {tuple(found.shape)} of an image of {size}, not {tuple(wanted.shape)}"
        )
    return (found - wanted).abs().max().item()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and progress reports of the exporters."""
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript", "onnx_ir")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)

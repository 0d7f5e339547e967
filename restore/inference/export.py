"""Networks as files that run without this package: ONNX, and torch.export's own format.

The number of images, height and width stay free. What was written is read back and compared with the network at several
sizes before it is kept, so a file that exists is right. What only training needs is folded away.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from restore.errors import MissingError, OptionsError, RestoreError
from restore.files import atomic_write
from restore.layers.exportable import FixedSizeError
from restore.layers.folding import fold
from restore.networks.spec import spec_of

__all__ = ["FORMATS", "ExportError", "export_network", "onnx_run"]

Run = Callable[[torch.Tensor], torch.Tensor]
FORMATS = {".onnx": "ONNX", ".pt2": "torch.export"}
EXAMPLE = (2, 41, 58)
"""Images, rows and columns that the network is traced with: no multiple of any window, so that no branch is settled."""
CHECKED = ((1, 24, 40), (2, 33, 17), (1, 50, 61))
"""Images, rows and columns that every file has to take."""
LARGE = (1, 99, 135)
"""A further size that a traced file has to take."""
CHECKED_SMALL = ((1, 1, 1), (1, 2, 1), (3, 1, 2), (1, 3, 5), (1, 8, 8))
"""What a file has to take where torch can write it so; what it does not take is said."""
TOLERANCE = 1e-4
"""Largest difference from the network, for images in [0, 1]; times the network's white otherwise."""
IMAGES_OF_CHOICES = 4
"""How many images a network that chooses (neighbours, centres, buckets) is compared with, until one agrees."""
OPSET = 17
logger = logging.getLogger(__name__)


class ExportError(RestoreError, RuntimeError):
    """A network cannot be exported, or the file does not compute what the network computes."""


def export_network(
    network: nn.Module, path: str | Path, *, precision: str = "fp32"
) -> dict[tuple[int, int, int], float]:
    """Write `network` to a `.onnx` or `.pt2` file that takes (B, C, H, W) of any B, H and W.

    Where torch cannot leave the number of images free, or sides below a window, the file takes one image of larger
    sides, and a warning says so. A file of another precision is made of the one in float32, once that was compared.

    Args:
        network: what is written, folded.
        path: of the file.
        precision: fp32; of an ONNX file also fp16 or int8 (see `restore.inference.lower`).

    Returns:
        The largest difference from the network for each number of images, rows and columns that was checked.

    Raises:
        OptionsError: another suffix, or a precision that it does not have.
        MissingError: ONNX is asked for, but onnx, onnxscript or onnxruntime is not installed.
        FixedSizeError: the network is made anew for each size.
        ExportError: the network has branches that depend on the size, or the result differs.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise OptionsError(f"cannot export to '{path.name}': the name must end in {' or '.join(FORMATS)}.")
    if precision != "fp32" and path.suffix != ".onnx":
        raise OptionsError(f"precision is '{precision}': only ONNX files have another than fp32.")
    network = fold(network.cpu().float().eval())
    with torch.no_grad(), _quiet():
        found = _traced(network) if path.suffix == ".onnx" else None
        content, differences = found or _of_program(network, path)
        if precision != "fp32":
            from restore.inference.lower import lowered

            content = lowered(content, precision, spec_of(network))
            run = onnx_run(content)
            differences = {size: _difference(network, run, size) for size in differences}
            if not all(map(math.isfinite, differences.values())):
                raise ExportError(f"{path}: not written. In {precision} the network's results are not finite.")
    missing = [size for size in _sizes_taken(network, CHECKED_SMALL) if size not in differences]
    if missing:
        words = ", ".join(f"{images} of {height} x {width} px" for images, height, width in missing)
        logger.warning("the file does not take: %s", words)
    with atomic_write(path) as file:
        file.write(content)
    return differences


def _traced(network: nn.Module) -> tuple[bytes, dict[tuple[int, int, int], float]] | None:
    """The ONNX file of the operations that one pair of images meets; None unless it holds for every size.

    It is written in a tenth of the time that `torch.export` takes. What a branch has settled by the size shows where
    the file is compared with the network, at sizes below and above the traced one.
    """
    required = (*CHECKED, LARGE, *_sizes_taken(network, CHECKED_SMALL))
    try:
        content, run = _onnx(_trace(network))
        differences = {size: _difference(network, run, size) for size in required}
    except (FixedSizeError, MissingError):
        raise
    except Exception as error:  # torch raises a dozen kinds
        logger.debug("the network cannot be traced for every size", exc_info=error)
        return None
    exact = max(differences.values()) <= TOLERANCE * spec_of(network).value_range
    return (content, differences) if exact else None


def _of_program(network: nn.Module, path: Path) -> tuple[bytes, dict[tuple[int, int, int], float]]:
    """The content of a file, by `torch.export`; for one image at a time where their number cannot be left free."""
    try:
        return _checked(network, path, CHECKED, free_images=True)
    except ExportError:
        one = tuple((1, *size[1:]) for size in CHECKED)
        found = _checked(network, path, one, free_images=False)
        logger.warning("the file takes one image at a time: torch cannot leave their number free")
        return found


def _trace(network: nn.Module) -> Callable[[Path], None]:
    """What writes the traced network to an ONNX file."""

    def write(file: Path) -> None:
        images, height, width = EXAMPLE
        example = torch.rand(images, spec_of(network).in_channels, height, width)
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        traced = torch.jit.trace(lambda image: network(image), (example,), check_trace=False)
        torch.onnx.export(
            traced,
            (example,),
            str(file),
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["restored"],
            dynamic_axes={
                name: {0: "images", 2: f"{name}_height", 3: f"{name}_width"} for name in ("image", "restored")
            },
        )
        _name_weights(file)

    return write


def _name_weights(file: Path) -> None:
    """Turn the constants of a traced file into initializers, where quantisers and other tools look for weights."""
    import onnx

    model = onnx.load(file)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
            model.graph.initializer.append(tensor)
        else:
            model.graph.node.append(node)
    onnx.save(model, file)


def _checked(
    network: nn.Module, path: Path, required: tuple[tuple[int, int, int], ...], *, free_images: bool
) -> tuple[bytes, dict[tuple[int, int, int], float]]:
    """The content of a file, and how much it differs from the network at each size that it takes.

    Raises:
        ExportError: see `export_network`.
    """
    program = _program(network, spec_of(network).in_channels, free_images=free_images)
    content, run = _onnx(_convert(program)) if path.suffix == ".onnx" else _torch(program)
    differences = {size: _difference(network, run, size) for size in required}
    for size in _sizes_taken(network, CHECKED_SMALL):
        with contextlib.suppress(_NotTakenError):
            differences[size] = _difference(network, run, size)
    worst = max(differences.values())
    if not worst <= TOLERANCE * spec_of(network).value_range:
        raise ExportError(f"{path}: not written. The exported network differs by {worst:.2g} from the original.")
    return content, differences


def _program(network: nn.Module, channels: int, *, free_images: bool) -> torch.export.ExportedProgram:
    free = torch.export.Dim.DYNAMIC
    images, height, width = EXAMPLE
    example = torch.rand(images if free_images else 1, channels, height, width)
    shapes = {0: free, 2: free, 3: free} if free_images else {2: free, 3: free}
    try:
        with _sizes_of_one_are_usual() if free_images else contextlib.nullcontext():
            program = torch.export.export(network, (example,), dynamic_shapes=(shapes,))
    except FixedSizeError:
        raise
    except Exception as error:  # torch raises a dozen kinds
        reason = str(error).strip().splitlines()[0][:300]
        raise ExportError(
            f"{type(network).__name__} cannot be exported with free height and width: {reason}"
        ) from error
    if free_images:
        _forget_guards(program, channels)
    _forget_smallest_sides(program)
    return program


@contextlib.contextmanager
def _sizes_of_one_are_usual() -> Iterator[None]:
    """Keep torch from taking for granted that what is larger than one while it traces always is."""
    from torch.fx.experimental import _config

    if not hasattr(_config, "backed_size_oblivious"):  # an older torch
        yield
        return
    with _config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        yield


def _forget_guards(program: torch.export.ExportedProgram, channels: int) -> None:
    """Take out the conditions that do not hold for every size that is checked: whether they are needed shows there."""
    guards = getattr(program, "_guards_code", None)
    if not guards:
        return
    images = [torch.empty(size[0], channels, *size[1:], device="meta") for size in (*CHECKED, *CHECKED_SMALL)]
    inputs = [dict.fromkeys(_names_in(guards), image) for image in images]

    def holds(guard: str) -> bool:
        return all(eval(guard, {"torch": torch, "L": by_name}) for by_name in inputs)

    program._guards_code = [guard for guard in guards if holds(guard)]


def _forget_smallest_sides(program: torch.export.ExportedProgram) -> None:
    """Take out the least sides that torch has concluded, such as 33 px where a side of 32 px needs no padding."""
    ranges = program.range_constraints
    for symbol, allowed in ranges.items():
        if allowed.lower > 1:
            ranges[symbol] = type(allowed)(1, allowed.upper)


def _torch(program: torch.export.ExportedProgram) -> tuple[bytes, Run]:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    return buffer.getvalue(), torch.export.load(buffer).module()


def _convert(program: torch.export.ExportedProgram) -> Callable[[Path], None]:
    """What writes the program to an ONNX file."""

    def write(file: Path) -> None:
        exported = torch.onnx.export(program, dynamo=True, input_names=["image"], output_names=["restored"])
        assert exported is not None  # as it is where torch does not write the file itself
        exported.save(str(file))

    return write


def _onnx(write: Callable[[Path], None]) -> tuple[bytes, Run]:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingError(f"{error.name} is not installed: pip install onnx onnxscript onnxruntime") from None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        write(file)
        content = file.read_bytes()
    return content, onnx_run(content)


def onnx_run(content: bytes) -> Run:
    """An ONNX file on the processor, as a function of images."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # what a file does not take is an exception
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x_BCHW: torch.from_numpy(session.run(None, {name: x_BCHW.numpy()})[0])


def _sizes_taken(network: nn.Module, sizes: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Those of the sizes that the network itself takes."""
    taken = []
    for images, height, width in sizes:
        with contextlib.suppress(Exception):  # whatever a network says of images that are too small for it
            network(torch.zeros(images, spec_of(network).in_channels, height, width))
            taken.append((images, height, width))
    return taken


def _names_in(guards: Sequence[str]) -> set[str]:
    """The inputs that conditions speak of: `L['x'].size()[0] > 1`."""
    return {name for guard in guards for name in re.findall(r"L\['(\w+)'\]", guard)}


class _NotTakenError(ExportError):
    """The file takes no image of a size that the network takes."""


def _difference(network: nn.Module, run: Run, size: tuple[int, int, int]) -> float:
    """The largest difference; of a network that chooses, for that of a few images which agrees best.

    Where two are almost alike, rounding may choose the other. A file that does not hold for a size differs for all.
    """
    chooses = any(getattr(module, "chooses", False) for module in network.modules())
    least = math.inf
    for seed in range(IMAGES_OF_CHOICES if chooses else 1):
        least = min(least, _difference_of_image(network, run, size, seed))
        if least <= TOLERANCE * spec_of(network).value_range:
            break
    return least


def _difference_of_image(network: nn.Module, run: Run, size: tuple[int, int, int], seed: int) -> float:
    generator, spec = torch.Generator().manual_seed(seed), spec_of(network)
    image = torch.rand(size[0], spec.in_channels, *size[1:], generator=generator) * spec.value_range
    words = f"{size[0]} of {size[1]} x {size[2]} px" if size[0] > 1 else f"an image of {size[1]} x {size[2]} px"
    wanted = network(image)
    try:
        found = run(image)
    except Exception as error:  # the engines raise a dozen kinds
        reason = str(error).strip().splitlines()[0][:300]
        raise _NotTakenError(f"the exported network does not take {words}: {reason}") from error
    if wanted.shape != found.shape:
        raise ExportError(f"the exported network makes {tuple(found.shape)} of {words}, not {tuple(wanted.shape)}")
    return (found - wanted).abs().max().item()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and progress reports of the exporters."""
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript", "onnx_ir")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    prints_graphs = torch._C._jit_is_onnx_log_enabled()  # of what it cannot convert, whole
    torch._C._jit_set_onnx_log_enabled(False)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch._C._jit_set_onnx_log_enabled(prints_graphs)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)

"""The shared library: found, loaded, and whether it is used.

`RESTORE_COMPILED=0` switches it off; `amx`, `avx512_bf16`, `avx512`, `avx2` or `neon` chooses code that is not more
than the processor can run. Threads are those of torch: the library takes `GOMP_parallel` from the OpenMP that torch
itself has loaded, so there is one pool of them, of `torch.get_num_threads()`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

__all__ = [
    "PROCESSORS",
    "Branch",
    "Convolution",
    "Gate",
    "NormProblem",
    "Problem",
    "attention",
    "branch",
    "convolution",
    "description",
    "gate",
    "is_usable",
    "layer_norm",
    "packed_weights",
    "switched_off",
]

PROCESSORS = ("none", "neon", "avx2", "avx512", "avx512_bf16", "amx")
"""In the order of their numbers in source/attention.c."""
VARIABLE = "RESTORE_COMPILED"
PATH = Path(os.environ.get("RESTORE_COMPILED_LIBRARY") or Path(__file__).parent / "source" / "attention.so")
"""Another file where the variable names one: a build for tests."""


_THREADS = (("parallel", ctypes.c_void_p), ("num_threads", ctypes.c_int64))
"""`struct threads` of source/threads.h."""


class Problem(ctypes.Structure):
    """`struct attention` of source/attention.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("num_windows", "num_tokens", "num_heads", "head_dim", "num_classes")),
        *((f"{name}_stride", ctypes.c_int64) for name in ("qkv", "out", "gradient", "qkv_gradient")),
        *((name, ctypes.c_void_p) for name in ("qkv", "out", "gradient", "qkv_gradient", "bias_gradient")),
        *((name, ctypes.c_void_p) for name in ("bias", "masks", "order", "counts")),
        *_THREADS,
        ("scale", ctypes.c_float),
        *((name, ctypes.c_int32) for name in ("type", "arithmetic", "processor")),
    ]


class Branch(ctypes.Structure):
    """`struct branch` of source/branch.h."""

    _fields_ = [
        ("attention", Problem),
        *((name, ctypes.c_int64) for name in ("num_rows", "channels", "hidden", "x_stride", "out_stride")),
        *((name, ctypes.c_void_p) for name in ("x", "out", "norm_weight", "norm_bias", "table")),
        *((name, ctypes.c_void_p) for name in ("first_weight", "first_bias", "second_weight", "second_bias")),
        ("epsilon", ctypes.c_float),
        ("unused", ctypes.c_float),
    ]


class NormProblem(ctypes.Structure):
    """`struct layer_norm` of source/layer_norm.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("num_rows", "channels")),
        *((name, ctypes.c_void_p) for name in ("x", "out", "gradient", "x_gradient", "statistics")),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "affine_gradient")),
        *_THREADS,
        ("epsilon", ctypes.c_float),
        *((name, ctypes.c_int32) for name in ("type", "processor", "unused")),
    ]


class Convolution(ctypes.Structure):
    """`struct convolution` of source/convolution.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("num_images", "height", "width", "inputs", "outputs")),
        *((name, ctypes.c_void_p) for name in ("x", "out", "weight", "bias", "packed")),
        *_THREADS,
        *((name, ctypes.c_int32) for name in ("processor", "unused")),
    ]


class Gate(ctypes.Structure):
    """`struct gate` of source/gate.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("num_rows", "channels", "place_stride")),
        *((name, ctypes.c_void_p) for name in ("x", "change", "out", "place")),
        *_THREADS,
        *((name, ctypes.c_int32) for name in ("type", "processor")),
    ]


class _Library(NamedTuple):
    functions: ctypes.CDLL | None
    processor: int
    parallel: int | None  # the address of GOMP_parallel
    reason: str


def _load(path: Path, wanted: str) -> _Library:
    """The library, or why it is not used."""
    if wanted in ("0", "off"):
        return _Library(None, 0, None, f"switched off by {VARIABLE}")
    if wanted not in ("", "1", "on", *PROCESSORS[1:]):
        known = ", ".join(("0", "1", *PROCESSORS[1:]))
        return _Library(None, 0, None, f"{VARIABLE} is {wanted!r}, which is none of {known}")
    if not path.is_file():
        return _Library(None, 0, None, "not built: `python setup.py build_ext --inplace`, or install with a C compiler")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return _Library(None, 0, None, f"cannot be loaded: {error}")
    if not hasattr(library, "restore_gate"):
        return _Library(None, 0, None, "built of other sources: `python setup.py build_ext --inplace`")
    best = library.restore_processor()
    processor = PROCESSORS.index(wanted) if wanted in PROCESSORS else library.restore_preferred()
    if not best or processor > best:
        return _Library(None, 0, None, f"no code for this processor{f', which lacks {wanted}' if best else ''}")
    library.restore_window_attention.argtypes = [ctypes.POINTER(Problem)]
    library.restore_branch.argtypes = [ctypes.POINTER(Branch)]
    library.restore_layer_norm.argtypes = [ctypes.POINTER(NormProblem)]
    library.restore_gate.argtypes = [ctypes.POINTER(Gate)]
    for function in ("restore_convolution", "restore_pack_convolution", "restore_packed_convolution"):
        getattr(library, function).argtypes = [ctypes.POINTER(Convolution)]
    library.restore_packed_convolution.restype = ctypes.c_int64
    return _Library(library, processor, _parallel(), "")


def _parallel() -> int | None:
    """The address of `GOMP_parallel` in the OpenMP that torch is linked with; Intel's and LLVM's have it as well."""
    for name in ("libtorch_cpu.so", "libtorch_cpu.dylib"):
        path = Path(torch.__file__).parent / "lib" / name
        if path.is_file():
            with contextlib.suppress(OSError, AttributeError):  # looked up in torch and in what it is linked with
                return ctypes.cast(ctypes.CDLL(str(path)).GOMP_parallel, ctypes.c_void_p).value
    return None


_library = _load(PATH, os.environ.get(VARIABLE, "").strip().lower())
_is_off = False


@contextlib.contextmanager
def switched_off() -> Iterator[None]:
    """Inside, the library is not used: for what must not depend on the machine."""
    global _is_off
    before, _is_off = _is_off, True
    try:
        yield
    finally:
        _is_off = before


def is_usable() -> bool:
    """Whether the library is there, switched on, and can use as many threads as torch."""
    if _is_off or _library.functions is None:
        return False
    return _library.parallel is not None or torch.compiler.is_compiling() or torch.get_num_threads() == 1


def description() -> str:
    """What is used, or why nothing is."""
    if _library.functions is None:
        return f"none, torch's operators instead ({_library.reason})"
    return PROCESSORS[_library.processor] + (
        "" if _library.parallel else ", on one thread (torch has no GOMP_parallel)"
    )


def attention(problem: Problem) -> None:
    """Compute attention in windows, forward or backward.

    Raises:
        MemoryError: no room for what the threads need.
    """
    _decide(problem)
    assert _library.functions is not None
    _check(_library.functions.restore_window_attention(ctypes.byref(problem)))


def branch(problem: Branch) -> None:
    """Compute a residual branch; raises as `attention` does."""
    _decide(problem.attention)
    assert _library.functions is not None
    _check(_library.functions.restore_branch(ctypes.byref(problem)))


def layer_norm(problem: NormProblem) -> None:
    """Compute a layer norm, forward or backward; raises as `attention` does."""
    _decide(problem)
    assert _library.functions is not None
    _check(_library.functions.restore_layer_norm(ctypes.byref(problem)))


def packed_weights(problem: Convolution) -> torch.Tensor:
    """Weights (16, outputs, inputs) as `convolution` reads them; raises as `attention` does."""
    _decide(problem)
    assert _library.functions is not None
    packed = torch.empty(_library.functions.restore_packed_convolution(ctypes.byref(problem)))
    problem.packed = packed.data_ptr()
    _check(_library.functions.restore_pack_convolution(ctypes.byref(problem)))
    return packed


def convolution(problem: Convolution) -> None:
    """Compute a convolution whose weights were packed; raises as `attention` does."""
    _decide(problem)
    assert _library.functions is not None
    _check(_library.functions.restore_convolution(ctypes.byref(problem)))


def gate(problem: Gate) -> None:
    """Compute a gate; raises as `attention` does."""
    _decide(problem)
    assert _library.functions is not None
    _check(_library.functions.restore_gate(ctypes.byref(problem)))


def _decide(problem: Problem | NormProblem | Convolution | Gate) -> None:
    """Fill in what the machine decides."""
    problem.processor = _library.processor
    problem.parallel = _library.parallel
    problem.num_threads = torch.get_num_threads() if _library.parallel else 1


def _check(code: int) -> None:
    assert code in (0, 1), code
    if code:
        raise MemoryError("no memory for compiled code: use smaller tiles or batches, or fewer threads")

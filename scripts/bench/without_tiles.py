"""Runs a command as on a processor without matrix tiles (AMX), for every program in it alike.

    python scripts/bench/without_tiles.py python scripts/bench/peers.py --only SwinIR-light --engines ours openvino

Linux lets a process use tiles only when it asks for them (arch_prctl, ARCH_REQ_XCOMP_PERM). Here a filter refuses that:
torch, OpenVINO, ONNX Runtime and our library then take what the processor has beside tiles. It stays with all that the
command starts. x86-64 only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

NO_NEW_PRIVILEGES, SECCOMP, WITH_FILTER = 38, 22, 2  # of prctl
ARCH_PRCTL, REQUEST_TILES = 158, 0x1023
ALLOW, FAIL = 0x7FFF0000, 0x00050000
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # of the filter's language
PROGRAM = [  # code, jump if so, jump if not, constant
    (LOAD, 0, 0, 0),  # the number of the system call
    (JUMP_IF_EQUAL, 0, 3, ARCH_PRCTL),
    (LOAD, 0, 0, 16),  # its first argument
    (JUMP_IF_EQUAL, 0, 1, REQUEST_TILES),
    (RETURN, 0, 0, FAIL | errno.EOPNOTSUPP),
    (RETURN, 0, 0, ALLOW),
]


class Filter(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_void_p)]


def refuse_tiles() -> None:
    """From here on, this process and its children get no tiles."""
    code = b"".join(struct.pack("HBBI", *line) for line in PROGRAM)
    memory = ctypes.create_string_buffer(code, len(code))
    program = Filter(len(PROGRAM), ctypes.cast(memory, ctypes.c_void_p))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or library.prctl(SECCOMP, WITH_FILTER, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    refuse_tiles()
    os.execvp(sys.argv[1], sys.argv[1:])

"""Trains in several processes, forked from one that has imported everything: `N OPTION_FILE RUN [-- RUN ...]`.

Each RUN is the rest of a command line of `restore train`; the processes take one after the other.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from restore.cli import main
from restore.registry import DATASETS, DISCRIMINATORS, LOSSES, METRICS, NETWORKS, OBJECTIVES, OPTIMIZERS


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return str(probe.getsockname()[1])


def fork(rank: int, count: int, ports: list[str], option_file: str, runs: list[list[str]]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        torch.set_num_threads(1)  # makes torch's pool anew here: after a fork the first two threads to ask race for it
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(count), LOCAL_RANK=str(rank), MASTER_ADDR="localhost")
        for port, run in zip(ports, runs, strict=True):
            os.environ["MASTER_PORT"] = port
            code = main(["train", "-opt", option_file, *run])
            if code:
                break
    except BaseException:
        traceback.print_exc()
        code = 1  # whatever the runs before came to
    finally:
        os._exit(code)


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads: they belong to torch, idle
    torch.set_num_threads(1)
    for registry in (DATASETS, DISCRIMINATORS, LOSSES, METRICS, NETWORKS, OBJECTIVES, OPTIMIZERS):
        registry.names()
    count, option_file, words = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    runs = [run.split() for run in " ".join(words).split(" -- ")]
    ports = [free_port() for _ in runs]
    children = [fork(rank, count, ports, option_file, runs) for rank in range(count)]
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))

"""One process or many: who they are, and the few things they agree on.

    torchrun --nproc_per_node 4 restore/train.py -opt FILE                       one node
    torchrun --nnodes 2 --nproc_per_node 4 --rdzv_backend c10d --rdzv_endpoint HOST:29500 restore/train.py -opt FILE
    srun ... python restore/train.py -opt FILE --launcher slurm

Every process computes its share of each global batch; gradients are averaged by DistributedDataParallel, or, where
networks are split among the processes, by FSDP2 (see `restore.training.sharding`). Control messages (stop requests,
validation results, random states) go through a gloo group, so they never wait for a GPU.

With `torchrun --max_restarts N`, or a job that Slurm requeues, processes that come back go on from the newest state.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from restore.errors import TrainingError
from restore.networks.checkpoint import load_weights
from restore.training.sharding import is_sharded, shard, split_like, whole

__all__ = [
    "Processes",
    "exchanging",
    "join_processes",
    "load_saved_weights",
    "processes_of_run",
    "restarted",
    "saved_weights",
    "unwrapped",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them.

    Attributes:
        rank: number of this process.
        world_size: how many there are.
        local_rank: number of this process on its machine: the GPU it uses.
        control: group for control messages; None when there is one process.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    control: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """This process's own device where `device` says only of which kind it is."""
        if device.type == "cuda" and device.index is None and self.world_size > 1:
            return torch.device("cuda", self.local_rank)
        return device

    def gather(self, value: Any) -> list[Any]:
        """What every process gave, in the order of ranks."""
        if self.control is None:
            return [value]
        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value, group=self.control)
        return values

    def collect(self, value: Any) -> list[Any]:
        """What every process gave, in the order of ranks, for the main process alone; others get an empty list."""
        if self.control is None:
            return [value]
        values: list[Any] | None = [None] * self.world_size if self.is_main else None
        distributed.gather_object(value, values, group=self.control)
        return values or []

    def first(self, value: Any) -> Any:
        """What the main process gave."""
        if self.control is None:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0, group=self.control)
        return values[0]

    def any(self, value: str | None) -> str | None:
        """A value that some process gave, or None if none did."""
        if self.control is None:
            return value
        asked = torch.tensor([0.0 if value is None else 1.0])
        distributed.all_reduce(asked, group=self.control)
        return (value or "another process's request") if asked.item() else None

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the processes of a tensor on the device."""
        if self.control is not None:
            distributed.all_reduce(value)
            value /= self.world_size
        return value

    def share(
        self, network: nn.Module, *, strategy: Literal["ddp", "fsdp"] = "ddp", find_unused_parameters: bool = False
    ) -> nn.Module:
        """The network with its gradients averaged over the processes; with `fsdp`, itself split among them."""
        if self.control is None:
            return network
        if strategy == "fsdp":
            shard(network)
            return network
        device = next(network.parameters()).device
        devices = [device.index] if device.type == "cuda" else None
        return DistributedDataParallel(
            network, device_ids=devices, find_unused_parameters=find_unused_parameters, gradient_as_bucket_view=True
        )

    def align(self, module: nn.Module) -> None:
        """Give every process the main one's weights and buffers of `module`."""
        if self.control is not None:
            for tensor in (*module.parameters(), *module.buffers()):
                distributed.broadcast(tensor.detach(), src=0)

    def wait_for_all(self) -> None:
        """Wait until every process is here: who leaves early resets connections that others still read from."""
        if self.control is not None:
            distributed.barrier(group=self.control)

    def leave(self) -> None:
        """Leave the group at the end of a run."""
        if self.control is not None:
            distributed.destroy_process_group()


def join_processes(launcher: str = "none", *, backend: str = "nccl", port: int | None = None) -> Processes:
    """Meet the other processes of the run, as the launcher's environment describes them.

    Args:
        launcher: `none` and `pytorch` follow torchrun's variables if there are any; `slurm` follows Slurm's.
        backend: communication library for gradients; gloo where there is no CUDA.
        port: for Slurm, the port of the first process; default `MASTER_PORT` or 29500.

    Raises:
        TrainingError: the launcher's variables are not there.
    """
    if launcher == "slurm":
        _adopt_slurm(port)
    environment = os.environ
    if launcher != "none" and "RANK" not in environment:
        raise TrainingError(f"--launcher {launcher}: the variable RANK is not set. Start with torchrun, or with srun.")
    world_size = int(environment.get("WORLD_SIZE", 1))
    if "RANK" not in environment or world_size == 1:
        return Processes()
    rank = int(environment["RANK"])
    local_rank = int(environment.get("LOCAL_RANK", rank % max(torch.cuda.device_count(), 1)))
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
    else:
        backend = "gloo"
    distributed.init_process_group(backend, store=_store(), rank=rank, world_size=world_size)
    control = distributed.group.WORLD if backend == "gloo" else distributed.new_group(backend="gloo")
    log.info("process %d of %d", rank, world_size)
    return Processes(rank, world_size, local_rank, control)


@contextlib.contextmanager
def processes_of_run(launcher: str = "none", *, backend: str = "nccl", port: int | None = None) -> Iterator[Processes]:
    """Inside, the processes of the run work together; see `join_processes` for the arguments."""
    processes = join_processes(launcher, backend=backend, port=port)
    try:
        yield processes
        processes.wait_for_all()
    finally:
        processes.leave()


def _store() -> Any:
    """Where processes find each other's addresses; None for torch's own way.

    Torchrun may keep one store through its restarts, so each attempt gets keys of its own: addresses that were left
    there belong to processes that are dead.
    """
    environment = os.environ
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    server = distributed.TCPStore(environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), is_master=False)
    return distributed.PrefixStore(f"attempt_{environment.get('TORCHELASTIC_RESTART_COUNT', 0)}", server)


def restarted() -> bool:
    """Whether these processes stand in for others that died: torchrun's elastic agent or Slurm started them again."""
    counts = (os.environ.get(name, "0") for name in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"))
    return any(count.isdigit() and int(count) for count in counts)


def exchanging(network: nn.Module, exchange: bool) -> contextlib.AbstractContextManager[None]:
    """A context whose backward pass averages gradients over the processes, or keeps them for a later one."""
    if isinstance(network, DistributedDataParallel) and not exchange:
        return network.no_sync()
    if is_sharded(network):
        network.set_requires_gradient_sync(exchange)
    return contextlib.nullcontext()


def unwrapped(network: nn.Module) -> nn.Module:
    """The network inside DistributedDataParallel, or the network itself."""
    return network.module if isinstance(network, DistributedDataParallel) else network


def saved_weights(network: nn.Module, *, keep: bool) -> dict[str, Tensor]:
    """The state dict of a network, whole and on the processor.

    Args:
        network: perhaps shared among the processes, all of which must ask.
        keep: whether this process wants the result.
    """
    state = {name: value.detach() for name, value in unwrapped(network).state_dict().items()}
    return {name: value.cpu() for name, value in whole(state, keep=keep).items() if value is not None}


def load_saved_weights(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Take back what `saved_weights` gave, into a network that may be shared in another way.

    Raises:
        CheckpointError: it is of another network; names the source.
    """
    own = unwrapped(network).state_dict()
    split = {name: split_like(value, own[name]) if name in own else value for name, value in state.items()}
    load_weights(unwrapped(network), split, source=source)


def _adopt_slurm(port: int | None) -> None:
    """Set torchrun's variables from Slurm's."""
    try:
        rank, count, nodes = (os.environ[f"SLURM_{name}"] for name in ("PROCID", "NTASKS", "NODELIST"))
    except KeyError as missing:
        raise TrainingError(f"--launcher slurm: the variable {missing} is not set. Start with srun.") from None
    os.environ.update(RANK=rank, WORLD_SIZE=count, LOCAL_RANK=os.environ.get("SLURM_LOCALID", "0"))
    if "MASTER_ADDR" not in os.environ:
        os.environ["MASTER_ADDR"] = first_node(nodes)
    os.environ.setdefault("MASTER_PORT", str(port or 29500))


def first_node(nodes: str) -> str:
    """The first host of a Slurm node list: `gpu[03-05,9],cpu1` begins with `gpu03`.

    Raises:
        TrainingError: it is not a list of nodes.
    """
    found = re.match(r"([^\[,\s]+)(?:\[(\d+)[^\]]*\]([^,\[]*))?", nodes)
    if not found:
        raise TrainingError(f"--launcher slurm: SLURM_NODELIST is '{nodes}', which names no node. Set MASTER_ADDR.")
    return "".join(part or "" for part in found.groups())

"""`logger` and `dist_params`: what is written while training, how often, and how processes work together."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from restore.options.schema.section import Section

__all__ = ["DistOptions", "LoggerOptions", "WandbOptions"]


class WandbOptions(Section):
    """Weights & Biases."""

    project: str | None = None
    """Project to log to; null: Weights & Biases is not used."""
    resume_id: str | None = None
    """Run to go on with when resuming."""


class LoggerOptions(Section):
    """What is written while training, and how often."""

    print_freq: PositiveInt = 100
    """Iterations between two log lines."""
    save_checkpoint_freq: PositiveInt = 5000
    """Iterations between two checkpoints (models/net_g_ITER.pth and training_states/ITER.state)."""
    use_tb_logger: bool = False
    """Whether to write TensorBoard events to tb_logger/NAME."""
    num_patches: NonNegativeInt = 4
    """Images of each validation set whose middle is shown by TensorBoard and Weights & Biases; 0: none."""
    wandb: WandbOptions = WandbOptions()
    """Weights & Biases."""
    keep_checkpoints: PositiveInt | None = None
    """How many of the newest checkpoints to keep; null keeps all. The best and the last one always stay."""
    save_best: str | None = None
    """Key under val.metrics whose best value gets its own checkpoint (net_g_best.pth); null: none."""


class DistOptions(Section):
    """How the processes of a distributed run find each other (slurm; torchrun brings its own) and share the work."""

    backend: Literal["nccl", "gloo", "mpi"] = "nccl"
    """Communication library; without CUDA gloo is used."""
    port: PositiveInt | None = None
    """Port of the first process; null: the variable MASTER_PORT, or 29500."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """ddp: every process holds the whole network; fsdp: each holds a slice of it, for networks of many parameters."""

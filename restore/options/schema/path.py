"""`path`: weights to start from, the state to resume, and where results go."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

from restore.options.schema.section import Path, Section

__all__ = ["PathOptions", "Paths"]

_WEIGHTS = "Weights to start this network from: a .pth or .safetensors file, or the name of a shipped model."
_KEY = "Entry of the weights file: params, params_ema, ...; null takes the root of the file."
_STRICT = "Whether every tensor must match; if false, tensors of other sizes are skipped with a warning."


class PathOptions(Section):
    """Files that a run begins with, and folders that it writes to."""

    patterns = {
        r"pretrain_network_\w+": (Path | None, _WEIGHTS),
        r"param_key_\w+": (str | None, _KEY),
        r"strict_load_\w+": (bool | None, _STRICT),
    }

    pretrain_network_g: Path | None = None
    """Weights to start the network from: a .pth or .safetensors file, or the name of a shipped model."""
    param_key_g: str | None = "params"
    """Entry of the weights file: params, params_ema, ...; null takes the root of the file."""
    strict_load_g: bool = True
    """Whether every tensor must match; if false, tensors of other sizes are skipped with a warning."""
    pretrain_task_g: str | int | None = None
    """Which task of a weights file of several to start from: sr_x2, dn_g25, or its number; null: the one that fits."""
    pretrain_network_d: Path | None = None
    """Weights to start the discriminator from."""
    param_key_d: str | None = "params"
    """Entry of the discriminator's weights file; null takes the root of the file."""
    strict_load_d: bool = True
    """Whether every tensor of the discriminator must match."""
    resume_state: Path | None = None
    """A .state file of training_states/ to go on from; --auto_resume finds the newest one itself."""
    ignore_resume_networks: list[str] = []
    """Networks (network_g, network_d) that keep their pretrain_network_* file when resuming."""
    experiments_root: Path | None = None
    """Folder that holds experiments; null: experiments/ in the working directory."""
    results_root: Path | None = None
    """Folder that holds results; null: results/ in the working directory."""

    def pretrained(self, network: str = "network_g") -> tuple[str | None, str | None, bool]:
        """File (or model name), entry and strictness of the weights that `network` starts from."""
        suffix = network.removeprefix("network_")
        key = getattr(self, f"param_key_{suffix}", "params")
        strict = getattr(self, f"strict_load_{suffix}", None)
        return getattr(self, f"pretrain_network_{suffix}", None), key, strict is not False


@dataclass(frozen=True)
class Paths:
    """Where a run reads and writes, as absolute paths in BasicSR's layout.

    Attributes:
        results_root: results/NAME, written by test.
        experiments_root: experiments/NAME, written by train.
        tb_logger: tb_logger/NAME.
        is_train: which of the two the log and the images of this run belong to.
    """

    results_root: pathlib.Path
    experiments_root: pathlib.Path
    tb_logger: pathlib.Path
    is_train: bool

    @classmethod
    def of(cls, options: PathOptions, name: str, is_train: bool) -> Paths:
        """The folders of the run `name`; relative roots stand in the working directory."""
        experiments = pathlib.Path(options.experiments_root or "experiments").absolute()
        results = pathlib.Path(options.results_root or "results").absolute()
        return cls(results / name, experiments / name, experiments.parent / "tb_logger" / name, is_train)

    @property
    def log(self) -> pathlib.Path:
        """Folder of the log file and the copy of the options."""
        return self.experiments_root if self.is_train else self.results_root

    @property
    def visualization(self) -> pathlib.Path:
        """Folder of the restored images."""
        return self.log / "visualization"

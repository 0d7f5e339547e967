"""What a run leaves on disk: BasicSR's files and names, written so that a crash never leaves half a file.

    experiments/NAME/models/net_g_{iter}.pth          {'params': ..., 'params_ema': ..., 'network': network_g}
    experiments/NAME/training_states/{iter}.state     {'epoch', 'iter', 'optimizers', 'schedulers', 'restore': ...}

BasicSR loads both. `network` is the network's option block, so that the file says what it is for. The key `restore`
holds what BasicSR lacks: random generators, sampler position, moving average, gradient scaler and best values, so that
a resumed run continues bit by bit. The networks' files of an iteration are written before its state: a state that
exists is complete.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from restore.errors import CheckpointError, OutputError
from restore.files import atomic_write
from restore.networks.checkpoint import read_state_dict
from restore.networks.reading import read_checkpoint

__all__ = ["CheckpointFolder", "read_state", "save_file"]

log = logging.getLogger(__name__)


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        root: `experiments/NAME`.
        keep: how many of the latest checkpoints stay; None for all. The best ones always stay.
    """

    def __init__(self, root: Path, keep: int | None = None):
        self.models = root / "models"
        self.states = root / "training_states"
        self.keep = keep

    def save(self, iteration: int, networks: Mapping[str, Mapping[str, Any]], state: Mapping[str, Any]) -> None:
        """Write one checkpoint: `networks` maps letters to what their files hold.

        Raises:
            OutputError: it cannot be written; what was there before is intact.
        """
        for letter, weights in networks.items():
            save_file(weights, self.model_path(letter, iteration))
        save_file(state, self.state_path(iteration))
        self._rotate()

    def save_models(self, label: int | str, networks: Mapping[str, Mapping[str, Any]]) -> None:
        """Write the networks alone, under a label such as `latest` or `best_psnr`."""
        for letter, weights in networks.items():
            save_file(weights, self.model_path(letter, label))

    def model_path(self, letter: str, label: int | str) -> Path:
        """The file of network `letter` at an iteration, or under a label."""
        return self.models / f"net_{letter}_{label}.pth"

    def state_path(self, iteration: int) -> Path:
        """The training state of an iteration."""
        return self.states / f"{iteration}.state"

    def iterations(self) -> list[int]:
        """The iterations whose state is here, ascending."""
        return sorted(int(path.stem) for path in self.states.glob("*.state") if path.stem.isdigit())

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest state that can be read with its networks, those passed over warned of; None if there are none.

        Raises:
            CheckpointError: there are states, and none can be used.
        """
        letters = {path.stem.split("_")[1] for path in self.models.glob("net_*_*.pth")}
        for iteration in reversed(self.iterations()):
            path = self.state_path(iteration)
            try:
                for letter in sorted(letters):
                    read_state_dict(self.model_path(letter, iteration), "params")
                return path, read_state(path)
            except CheckpointError as error:
                log.warning("%s Passed over.", error)
        if self.iterations():
            raise CheckpointError(
                f"no state in {self.states} can be resumed (see the warnings). To start anew, leave out --auto_resume."
            )
        return None

    def _rotate(self) -> None:
        if self.keep is None:
            return
        for iteration in self.iterations()[: -self.keep]:
            self.state_path(iteration).unlink(missing_ok=True)
            for path in self.models.glob(f"net_*_{iteration}.pth"):
                path.unlink(missing_ok=True)


def read_state(path: str | Path) -> dict[str, Any]:
    """The content of a `.state` file.

    Raises:
        CheckpointError: there is no such file, it cannot be read, or it is something else.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file; a state to resume from is wanted, training_states/ITER.state.")
    state = read_checkpoint(path)
    lacking = [key for key in ("iter", "optimizers", "schedulers") if not isinstance(state, dict) or key not in state]
    if lacking:
        raise CheckpointError(
            f"{path} is not the state of a training: it has no {', '.join(lacking)}. States are "
            "training_states/ITERATION.state; weights alone go to path.pretrain_network_g."
        )
    kinds = {"iter": int, "optimizers": list, "schedulers": list, "restore": Mapping}
    wrong = [key for key, kind in kinds.items() if key in state and not isinstance(state[key], kind)]
    for key in ("optimizers", "schedulers") if not wrong else ():
        wrong += [key for each in state[key] if not isinstance(each, Mapping)]
    if wrong:
        raise CheckpointError(
            f"{path}: damaged: what it holds under {wrong[0]} is of another kind than trainings write."
        )
    return state


def save_file(content: Any, path: Path) -> None:
    """Write `content` with torch, so that `path` is the old file or the whole new one.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with atomic_write(path) as stream:
            torch.save(content, stream)
    except RuntimeError as error:  # so torch reports a write that fails in the middle, on the way from the cause
        cause = error.__cause__ or error.__context__
        reason = cause.strerror if isinstance(cause, OSError) else error
        raise OutputError(f"cannot write '{path}': {reason}") from error

"""The top of an option file, and the object that everything else is given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import NonNegativeInt, PositiveInt

from restore.options.schema.datasets import DatasetKey, DatasetOptions
from restore.options.schema.degradation import DegradationOptions
from restore.options.schema.logger import DistOptions, LoggerOptions
from restore.options.schema.path import PathOptions, Paths
from restore.options.schema.runtime import RuntimeOptions, TileOptions
from restore.options.schema.search import SearchOptions
from restore.options.schema.section import Block, Blocks, Name, Path, Section
from restore.options.schema.train import TrainOptions
from restore.options.schema.val import ValOptions

__all__ = ["Options"]


class _General(Section):
    """What a run is."""

    patterns = {r"network_(?!d$)\w+": (Block | None, "A further network: {type: NAME, argument: value, ...}.")}

    name: Name
    """Name of the run: its folder under experiments/ and results/."""
    model_type: str = "SRModel"
    """What a batch is for: SRModel, SwinIRModel, ESRGANModel, RealESRGANModel, ..."""
    scale: PositiveInt = 1
    """How many times larger the output is; given to every dataset."""
    num_gpu: Literal["auto"] | NonNegativeInt = "auto"
    """Devices to use: auto takes all GPUs that there are, 0 computes on the processor."""
    manual_seed: NonNegativeInt | None = None
    """Seed of every random number; null draws one and writes it to the log."""
    plugins: Path | list[Path] = []
    """Python files with components of your own, relative to the file that names them; run when this file is read."""
    datasets: Annotated[dict[DatasetKey, DatasetOptions], Blocks] = {}
    """Datasets by phase: train, val, val_2, test_1, ..."""
    network_g: Block | None = None
    """The network: {type: SwinIR, upscale: 4, ...}; null: found from the weights in path.pretrain_network_g."""
    network_d: Block | None = None
    """The discriminator."""
    path: PathOptions = PathOptions()
    """Weights to start from, the state to resume, and where results go."""
    train: TrainOptions | None = None
    """Iterations, optimizers, schedule and losses."""
    val: ValOptions = ValOptions()
    """Validation, and what a test measures and writes."""
    logger: LoggerOptions = LoggerOptions()
    """What is written while training."""
    search: SearchOptions | None = None
    """Which networks `restore search` chooses from, and how."""
    runtime: RuntimeOptions = RuntimeOptions()
    """How images go through the network."""
    dist_params: DistOptions = DistOptions()
    """How processes find each other and share the work."""
    find_unused_parameters: bool = False
    """Whether distributed training looks for parameters that a step did not use; slower."""
    tile: TileOptions | None = None
    """HAT's spelling of runtime.tile."""
    use_amp: bool | None = None
    """PLKSR, ESC: true is train.precision: auto."""


class Options(DegradationOptions, _General):
    """A whole option file, typed and resolved.

    Component blocks (`network_g`, losses, metrics, optimizers, scheduler, and `block` of a dataset) are plain mappings
    for `Registry.build`; everything else is an attribute with a type.
    """

    _is_train: bool = pydantic.PrivateAttr(False)
    _auto_resume: bool = pydantic.PrivateAttr(False)
    _launcher: str = pydantic.PrivateAttr("none")
    _header: str = pydantic.PrivateAttr("")

    def model_post_init(self, _context: Any) -> None:
        """Tell the datasets their key and scale, and take older spellings over."""
        for key, dataset in self.datasets.items():
            dataset._key, dataset._scale = key, self.scale
        self.runtime = RuntimeOptions(**{**self._forks_runtime(), **_given(self.runtime)})
        train = self.train
        if train and self.model_type == "ImageRestorationModel" and train.clip_norm is None:
            train.use_grad_clip = train.use_grad_clip is not False  # as in NAFNet, whose option files do not say so
        if train and self.use_amp and "precision" not in train.model_fields_set:
            train.precision = "auto"

    def _forks_runtime(self) -> dict[str, Any]:
        """What HAT, Restormer, NAFNet, CAT and others say elsewhere about how images go through the network."""
        val = self.val
        found: dict[str, Any] = self.tile.runtime() if self.tile else {}
        if val.grids and val.crop_size_h and val.crop_size_w:
            found["tile"] = max(val.crop_size_h, val.crop_size_w)
        if val.max_minibatch:
            found["tile_batch"] = val.max_minibatch
        if (val.trans_num or 1) > 1 or val.selfensemble_testing or self.model_type == "CATSEModel":
            found["self_ensemble"] = True
        return found

    @property
    def is_train(self) -> bool:
        """Whether this is for training, not for a test."""
        return self._is_train

    @property
    def auto_resume(self) -> bool:
        """Whether to go on from the newest state of this run, if there is one."""
        return self._auto_resume

    @property
    def launcher(self) -> str:
        """Who started the processes: none, pytorch or slurm."""
        return self._launcher

    @property
    def paths(self) -> Paths:
        """The folders of this run."""
        return Paths.of(self.path, self.name, self.is_train)

    @property
    def networks(self) -> dict[str, dict[str, Any]]:
        """Every network block by its key: network_g, network_d, ..."""
        keys = [key for key in type(self).model_fields if key.startswith("network_")]
        return {key: getattr(self, key) for key in keys if getattr(self, key) is not None}

    def phases(self, *phases: str) -> Iterator[DatasetOptions]:
        """The datasets of these phases (`train`, `val`, `test`), in the order of the file."""
        return (dataset for dataset in self.datasets.values() if dataset.phase in phases)

    def dump(self) -> str:
        """The resolved options as YAML that loads to the same options."""
        header = "".join(f"# {line}\n" for line in self._header.splitlines())
        return header + yaml.dump(self.resolved(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)

    def digest(self, *without: str) -> str:
        """Twelve hexadecimal digits that tell one set of options from another, wherever their file lies.

        Args:
            without: sections that make no difference.
        """
        counted = {name: value for name, value in self.resolved().items() if name not in without}
        return hashlib.sha256(json.dumps(counted, sort_keys=True, default=str).encode()).hexdigest()[:12]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Options) and self.resolved() == other.resolved()

    __hash__ = None  # type: ignore[assignment]


class _Dumper(yaml.SafeDumper):
    """Writes lists on one line."""

    def on_one_line(self, data: list[Any]) -> yaml.Node:
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)


_Dumper.add_representer(list, _Dumper.on_one_line)


def _given(section: Section) -> dict[str, Any]:
    """What the file itself sets in a section."""
    return {name: getattr(section, name) for name in type(section).model_fields if name in section.model_fields_set}

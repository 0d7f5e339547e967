"""What must hold between options, beyond the type of each."""

from __future__ import annotations

from collections.abc import Iterator

from restore.errors import Problem
from restore.options.schema import Options
from restore.options.schema.datasets import DatasetOptions
from restore.options.schema.train import TrainOptions

__all__ = ["broken_rules", "schedule_problems"]


def broken_rules(options: Options, is_train: bool, *, is_part: bool = False) -> list[Problem]:
    """Every rule that `options` break; of a part of an option file only those of datasets are looked at."""
    problems = [*_dataset_names(options), *([] if is_part else _network(options, is_train))]
    for dataset in options.phases("train"):
        problems += _training_dataset(dataset)
    if is_train and not is_part:
        problems += _training(options)
    return problems


def _dataset_names(options: Options) -> Iterator[Problem]:
    by_name: dict[str, str] = {}
    for dataset in options.phases("val", "test"):
        other = by_name.setdefault(f"{dataset.phase}/{dataset.name}", dataset.key)
        if other != dataset.key:
            message = f"'{dataset.name}' is the name of datasets.{other} too: their results would be mixed."
            yield Problem(f"datasets.{dataset.key}.name", message)


def _network(options: Options, is_train: bool) -> Iterator[Problem]:
    if options.network_g is None and (is_train or not options.path.pretrain_network_g):
        otherwise = "" if is_train else ", or name weights in path.pretrain_network_g to find it from them"
        yield Problem("network_g", f"missing: give a block such as {{type: SwinIR, upscale: 4}}{otherwise}.")


def _training(options: Options) -> Iterator[Problem]:
    if not list(options.phases("train")):
        yield Problem("datasets.train", "missing: training needs a dataset called train.")
    if options.train is None:
        yield Problem("train", "missing: training needs at least {total_iter: ..., optim_g: ..., pixel_opt: ...}.")
        return
    if options.dist_params.strategy == "fsdp":
        for section in ("train", "runtime"):
            if getattr(options, section).channels_last:
                yield Problem(f"{section}.channels_last", "dist_params.strategy: fsdp cannot have it. Leave one out.")
    for key in options.networks:
        letter = key.removeprefix("network_")
        if f"optim_{letter}" not in options.train.optimizers():
            message = f"missing: {key} needs an optimizer such as {{type: Adam, lr: 2e-4, betas: [0.9, 0.99]}}."
            yield Problem(f"train.optim_{letter}", message)


def schedule_problems(train: TrainOptions) -> list[Problem]:
    """A schedule that ends before the training does: the rate would stay at its lowest, or rise once more."""
    block = train.scheduler or {}
    key = next((key for key in ("periods", "T_max", "total", "total_steps") if key in block), None)
    if key is None:
        return []
    values = block[key] if isinstance(block[key], list) else [block[key]]
    if not all(isinstance(value, int) for value in values) or sum(values) >= train.total_iter:
        return []  # the schedule itself says what it takes
    left = train.total_iter - sum(values)
    end = f"[{', '.join(map(str, [*values[:-1], values[-1] + left]))}]" if key == "periods" else str(train.total_iter)
    message = (
        f"the schedule ends after {sum(values):,} iterations, and train.total_iter is {train.total_iter:,}: the last "
        f"{left:,} would learn next to nothing. Write {key}: {end}."
    )
    return [Problem(f"train.scheduler.{key}", message)]


def _training_dataset(dataset: DatasetOptions) -> Iterator[Problem]:
    at = f"datasets.{dataset.key}"
    if "batch_size_per_gpu" not in dataset.model_fields_set:
        yield Problem(f"{at}.batch_size_per_gpu", "missing: the number of samples in a batch on each device.")
    for key, sizes in (("gt_size", [dataset.gt_size]), ("gt_sizes", dataset.gt_sizes or [])):
        for size in sizes:
            if size is not None and size % dataset.scale:
                below = size // dataset.scale * dataset.scale
                choice = " or ".join(str(fit) for fit in (below, below + dataset.scale) if fit)
                message = f"{size} is not a multiple of the scale {dataset.scale}: take {choice}."
                yield Problem(f"{at}.{key}", message)
    most = max(dataset.mini_batch_sizes or [0])
    if most > dataset.batch_size_per_gpu and "batch_size_per_gpu" in dataset.model_fields_set:
        message = (
            f"a stage takes {most} samples, and batch_size_per_gpu is {dataset.batch_size_per_gpu}: write "
            f"batch_size_per_gpu: {most}, or smaller stages."
        )
        yield Problem(f"{at}.mini_batch_sizes", message)
    stages = {key: getattr(dataset, key) for key in ("mini_batch_sizes", "iters", "gt_sizes")}
    given = {key: len(values) for key, values in stages.items() if values is not None}
    if given and (len(given) < len(stages) or len(set(given.values())) > 1):
        counts = ", ".join(f"{key} {given.get(key, 'not given')}" for key in stages)
        yield Problem(
            f"{at}.gt_sizes", f"progressive training needs as many values in each of its lists; entries: {counts}."
        )

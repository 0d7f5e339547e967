"""Datasets that are made of other datasets."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch.utils.data import Dataset

from restore.registry import DATASETS, DatasetOption

__all__ = ["inner_dataset"]


def inner_dataset(
    dataset: DatasetOption, path: str, supplied: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Dataset:
    """A dataset inside another one.

    Args:
        dataset: its name or block.
        path: where that stands, for messages.
        supplied: arguments that its owner decides, where it has them.
        defaults: values for those of its arguments that the block does not give; None is no value.

    Raises:
        OptionsError: with every mistake in the block.
    """
    block = {"type": dataset} if isinstance(dataset, str) else dataset
    arguments = inspect.signature(DATASETS.get(block.get("type"), f"{path}.type")).parameters
    missing = {key: value for key, value in defaults.items() if key in arguments and value is not None}
    supplied = {key: value for key, value in supplied.items() if key in arguments}
    return DATASETS.build({**missing, **block}, path=path, **supplied)

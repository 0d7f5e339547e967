"""Which task of a network of several a dataset is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from restore.networks.branches import Branch
from restore.training.objectives.multitask import validated_task

if TYPE_CHECKING:
    from restore.networks import Network
    from restore.options import Options

__all__ = ["seen_by"]


def seen_by(options: Options, key: str, network: Network) -> Network:
    """The network as the dataset under `key` sees it: of several tasks, the one that the dataset is for.

    Raises:
        OptionsError: the network has several tasks and the dataset names none, or one that does not exist.
    """
    task = validated_task(network, options, key)
    return network if task is None else Branch(network, task)

"""Whether a network and its training data are made for each other, asked before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from restore.errors import OptionsError, Problem
from restore.registry import OBJECTIVES

if TYPE_CHECKING:
    from restore.options import Options

__all__ = ["check_fit"]

_GREY = ("y", "grey", "gray")


def check_fit(options: Options, dataset: Any, network: nn.Module) -> None:
    """Compare scale and channels of the network with those of the training images.

    Networks of several tasks, quality models, and networks that take neither grey nor RGB are not looked at.

    Args:
        options: the option file.
        dataset: its training data.
        network: its first network.

    Raises:
        OptionsError: training would end in its first iteration; says which options to change.
    """
    if OBJECTIVES.get(options.model_type, "model_type").judges or hasattr(network, "task_spec"):
        return
    spec, key = network.spec, options.network_g["type"]
    problems = []
    if spec.scale != options.scale:
        message = f"{key} as configured enlarges {spec.scale} times, and scale is {options.scale}. Make them equal."
        problems.append(Problem("network_g", message))
    color = getattr(dataset, "color", None)
    channels = 1 if color in _GREY else 3
    if hasattr(dataset, "color") and spec.in_channels in (1, 3) and spec.in_channels != channels:
        wanted = f"leave color out, or give {key} one channel" if channels == 1 else "take color: y or color: grey"
        message = (
            f"'{color or 'rgb'}' gives images of {channels} channel(s), and {key} takes {spec.in_channels}: {wanted}."
        )
        problems.append(Problem("datasets.train.color", message))
    if problems:
        raise OptionsError(problems)

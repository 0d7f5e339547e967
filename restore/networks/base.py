"""What all networks have in common: what images they take, their tasks, and how their weights are told from others.

    @NETWORKS.add("MyNetwork")
    class MyNetwork(Network):
        def __init__(self, width: int = 64): ...
        @property
        def spec(self) -> ImageSpec: ...              # what images it takes and gives
        def forward(self, x_BCHW): ...                # any height and width of at least one pixel
        @classmethod
        def recognise(cls, state): ...                # the arguments of the constructor, told from keys and shapes

Everything else has a default. Whatever asks something of a network asks through this class: there are no lists of
networks elsewhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from restore.errors import OptionsError
from restore.networks.spec import ImageSpec

__all__ = ["Network", "State"]

State = Mapping[str, torch.Tensor]


class Network(nn.Module, ABC):
    """Base of all networks. A subclass writes `spec` and `forward`, and `recognise` if keys tell its arguments.

    Attributes:
        tasks: names of the tasks that the network can do, in order; empty for a network that does one thing.
        derived_keys: last parts of the names of entries of the state dict that follow from the arguments, such as
            masks and index tables. Weights files may lack them or have them in any size. (Any module can declare some;
            they count below it.)
        example: arguments that build an instance, where the defaults of the constructor contradict each other.
        telltale: a key that only this class has, where keys cannot tell the arguments; for messages.
    """

    tasks: Sequence[str] = ()
    derived_keys: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[Mapping[str, Any]] = {}
    telltale: ClassVar[str] = ""

    @property
    @abstractmethod
    def spec(self) -> ImageSpec:
        """What images the network takes and gives; of several tasks, those of the first."""

    def task_spec(self, task: int) -> ImageSpec:
        """What images the task with this number takes and gives."""
        return self.spec

    def expect_noise(self, sigma: float) -> None:
        """Take images to hold noise of this level, its standard deviation on the 0-255 scale.

        Raises:
            OptionsError: the network is not told how strong the noise is.
        """
        raise OptionsError(f"sigma is {sigma:g}, but {type(self).__name__} is not told how strong the noise is.")

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any] | None:
        """The arguments of the constructor, told from keys and shapes; None where the weights are of something else.

        Keys that are missing may raise LookupError, and numbers that do not fit ValueError or ArithmeticError: such
        weights are of something else, too.
        """
        return None

    @classmethod
    def task_names(cls, arguments: Mapping[str, Any]) -> list[str]:
        """The tasks of a network with these arguments of the constructor, in order."""
        return []

    @classmethod
    def branch(cls, state: State, arguments: Mapping[str, Any], task: int) -> dict[str, torch.Tensor]:
        """The weights of a network of one task out of those of a network with these arguments, which has several."""
        return dict(state)

    def own_branch(self, state: State) -> State:
        """What of a state dict concerns this network: everything, unless it is of a network of several tasks."""
        return state

"""Training a part of a network: attention alone, or what patterns name.

Attention alone, about a third of a transformer block's weights, is enough to bring a trained network to another task:
Touvron et al. 2022, arXiv 2203.09795, section 4, github.com/facebookresearch/deit (Apache-2.0).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from restore.errors import OptionsError, Problem, nearest

__all__ = ["ATTENTION", "attention_modules", "train_only"]

ATTENTION = "attention"
_QUERIES = ("qkv", "to_qkv", "in_proj_weight", "q", "qk", "to_q", "q_proj", "query", "W_Q")
_MOST_NAMED = 8


def attention_modules(network: nn.Module) -> Iterator[str]:
    """Paths of the modules that make queries of their tokens: with all that is in them, they are the attention.

    They are told by what the linear maps and parameters that make queries are called everywhere in the field.
    """
    for path, module in network.named_modules():
        own = {**module._modules, **module._parameters}
        if any(own.get(name) is not None for name in _QUERIES):
            yield path


def train_only(network: nn.Module, wanted: str | Sequence[str], path: str = "train.trainable") -> tuple[int, int]:
    """Freeze every parameter of a network but those that are wanted; none that is frozen already learns again.

    Running statistics of norms whose parameters are frozen stay as they are, too.

    Args:
        network: changed in place.
        wanted: "attention", or patterns of names of parameters or modules (`layers.3.*`, `*.norm?.*`, `conv_last`);
            several are taken together.
        path: where this stands in the option file, for messages.

    Returns:
        How many numbers learn, and how many there are.

    Raises:
        OptionsError: one of these names nothing.
    """
    names = [name for name, _ in network.named_parameters()]
    kept: set[str] = set()
    problems = []
    for pattern in [wanted] if isinstance(wanted, str) else wanted:
        prefixes = [*attention_modules(network)] if pattern == ATTENTION else [pattern]
        found = {name for name in names if any(_is_within(name, prefix) for prefix in prefixes)}
        if not found:
            problems.append(Problem(path, _nothing(pattern, names)))
        kept |= found
    if problems:
        raise OptionsError(problems)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and name in kept)
    for module in network.modules():
        if isinstance(module, _BatchNorm) and not any(each.requires_grad for each in module.parameters()):
            module.track_running_stats = False
    learning = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    if not learning:
        raise OptionsError([Problem(path, f"all that '{wanted}' names is frozen by the network itself.")])
    return learning, sum(parameter.numel() for parameter in network.parameters())


def _is_within(name: str, pattern: str) -> bool:
    """Whether a parameter, or a module that it stands in, has a name like this."""
    parts = name.split(".")
    return any(fnmatch.fnmatchcase(".".join(parts[:count]), pattern) for count in range(len(parts), 0, -1))


def _nothing(pattern: str, names: Sequence[str]) -> str:
    if pattern == ATTENTION:
        return "this network has no attention: name what is to learn by patterns, such as 'layers.3.*'."
    modules = [*dict.fromkeys(".".join(name.split(".")[:count]) for name in names for count in (1, 2, 3))]
    few = ", ".join([*dict.fromkeys(name.partition(".")[0] for name in names)][:_MOST_NAMED])
    hint = nearest(pattern, modules)
    return f"'{pattern}' is the name of no parameter and no module.{hint} The outermost are: {few}."

"""Weights on the processor that are laid out once, not at every pass: of linear maps in bfloat16, and of convolutions.

Autocast rounds every weight again in every pass, and oneDNN lays it out anew. On one core of a Xeon with matrix tiles a
map of 576 to 1,728 channels took 1.63 ms of 256 tokens in that way, and 0.60 ms with packed weights. Convolutions of
3 x 3 in float32 are those of `restore.layers.compiled.convolution`, whose weights are transformed once.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from restore.layers.compiled.convolution import compiled_convolution, pack_convolution, suits_compiled_convolution

__all__ = ["PackedConvolution", "PackedLinear", "PackedWeights"]

_WORTHWHILE = 128 * 128  # weights of a linear map


class _Pack(NamedTuple):
    weight: Tensor  # held, so that nothing else comes to lie where it lies
    version: int
    sample: Tensor
    packed: Tensor


class PackedWeights(TorchFunctionMode, abc.ABC):
    """Inside, some functions of a network's own weights, or of parts of them, are computed with packed copies.

    Weights that change are packed anew. Torch counts most changes; those through `.data` and by fused optimizers it
    does not, and they are seen in the weights between 8 inputs and 8 outputs, which are compared: one that leaves these
    as they were goes unseen. Nothing changes where gradients are wanted, in graphs of `torch.compile`, and for weights
    that are computed rather than held.

    Args:
        network: whose weights these are.

    Attributes:
        is_idle: whether the last time nothing was packed: then it only costs time to enter it.
    """

    _function: ClassVar[Callable[..., Tensor]]

    def __init__(self, network: nn.Module):
        super().__init__()
        self._network = network
        self._own: set[int] | None = None  # where its weights lie
        self._packs: dict[tuple[Any, ...], _Pack] = {}
        self.is_idle = False

    def __enter__(self) -> PackedWeights:
        if self._own is None:
            plain = (each for each in self._network.parameters() if type(each) is nn.Parameter)  # whole, on this device
            self._own = {parameter.untyped_storage().data_ptr() for parameter in plain}
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self.is_idle = raised == (None, None, None) and not self._packs
        super().__exit__(*raised)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packs": {}, "_own": None}  # packed tensors can be neither copied nor written

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute `_function` from packed weights where that is possible, and all else as usual."""
        if func is type(self)._function and not (torch.is_grad_enabled() or torch.compiler.is_compiling()):
            result = self._with_packed(*args, **(kwargs or {}))
            if result is not None:
                return result
        return func(*args, **(kwargs or {}))

    @abc.abstractmethod
    def _with_packed(self, *args: Any, **kwargs: Any) -> Tensor | None:
        """What the function gives of these arguments; None where it has to be computed as it is."""

    def _are_own(self, x: Tensor, weight: Tensor) -> bool:
        """Whether these are plain tensors, and the weight lies in the network."""
        return (
            type(x) is Tensor
            and type(weight) in (Tensor, nn.Parameter)
            and weight.untyped_storage().data_ptr() in (self._own or ())
            and not weight.is_inference()
        )

    def _packed(self, weight: Tensor, pack: Callable[[Tensor], Tensor]) -> Tensor:
        key = (weight.data_ptr(), weight.shape, weight.stride(), weight.dtype)
        known, sample = self._packs.get(key), _sample_of(weight)
        if known is None or known.version != weight._version or not torch.equal(known.sample, sample):
            known = self._packs[key] = _Pack(weight, weight._version, sample.clone(), pack(weight.detach()))
        return known.packed


class PackedLinear(PackedWeights):
    """Linear maps under bfloat16's autocast. Results are those of autocast but for the order of sums.

    Copies take half of what the network's weights in float32 take.
    """

    _function = F.linear

    @staticmethod
    def is_available() -> bool:
        """Whether oneDNN multiplies bfloat16 here."""
        return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

    def _with_packed(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
        if not self._suits(input, weight):
            return None
        packed = self._packed(weight, _packed_by_onednn)
        bias = None if bias is None else bias.bfloat16()
        return torch.ops.mkldnn._linear_pointwise(input.bfloat16().contiguous(), packed, bias, "none", [], "")

    def _suits(self, x: Tensor, weight: Tensor) -> bool:
        return (
            self._are_own(x, weight)
            and weight.numel() >= _WORTHWHILE
            and weight.dim() == 2
            and x.dim() > 1
            and x.numel() > 0
            and x.dtype in (torch.float32, torch.bfloat16)
            and weight.dtype in (torch.float32, torch.bfloat16)
            and x.is_cpu
            and weight.is_cpu
            and torch.is_autocast_enabled("cpu")
            and torch.get_autocast_dtype("cpu") is torch.bfloat16
        )


class PackedConvolution(PackedWeights):
    """Convolutions of 3 x 3 in float32, on maps whose channels are innermost, with zeros around them.

    Copies take 1.8 times what the weights take.
    """

    _function = F.conv2d

    def _with_packed(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor | None:
        is_plain = groups == 1 and all(each in (1, (1, 1), [1, 1]) for each in (stride, dilation))
        if not is_plain or padding not in (1, (1, 1), [1, 1], "same") or not self._are_own(input, weight):
            return None
        if torch.is_autocast_enabled("cpu") or not suits_compiled_convolution(input, weight):
            return None
        if bias is not None and (bias.dtype != torch.float32 or not bias.is_cpu):
            return None
        return compiled_convolution(input, self._packed(weight, pack_convolution), len(weight), bias)


def _packed_by_onednn(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16().contiguous())
    return packed


def _sample_of(weight: Tensor) -> Tensor:
    """Some numbers of a weight from all over it: of at most 8 outputs and 8 inputs."""
    rows, columns = weight.shape[:2]
    return weight.detach()[:: -(-rows // 8), :: -(-columns // 8)]

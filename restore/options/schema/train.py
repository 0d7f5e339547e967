"""`train`: iterations, optimizers, schedule, losses, and how a step is computed."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic_core import PydanticCustomError

from restore.options.schema.section import Block, Path, Probability, Section

__all__ = ["MixingOptions", "SparseOptions", "TeacherOptions", "TrainOptions"]


def _has_rate(block: dict[str, Any]) -> dict[str, Any]:
    if "lr" not in block:
        raise PydanticCustomError("optimizer", "this block needs `lr:`, the learning rate (2e-4 is usual)")
    return block


def _is_pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise PydanticCustomError(
            "pattern", "'{text}' is no regular expression: {why}", {"text": text, "why": str(error)}
        ) from None
    return text


Pattern = Annotated[str, AfterValidator(_is_pattern)]
Optimizer = Annotated[Block, AfterValidator(_has_rate)]
_LOSS = "A loss: {type: NAME, loss_weight: 1.0, ...}."
_OPTIMIZER = "Optimizer of a further network: {type: NAME, lr: 1e-4, ...}."


class MixingOptions(Section):
    """Training images blended with each other (Restormer's mixup, and relatives)."""

    mixup: bool = False
    """Whether to blend two images and their targets."""
    mixup_beta: PositiveFloat = 1.2
    """Both parameters of the Beta distribution that the share is drawn from."""
    use_identity: bool = False
    """Whether every second batch, at random, stays as it is."""
    cutmix: Probability = 0.0
    """Probability of putting a rectangle of another image into both sides."""
    cutblur: Probability = 0.0
    """Probability of exchanging a rectangle between the degraded and the sharp image."""


class TeacherOptions(Section):
    """A network that does not learn, from which the network learns."""

    model: Path
    """A weights file, or the name of a model (`restore models`)."""
    cache: Path | None = None
    """Folder that keeps its answers, for this run and others with the same crops; null: it is asked in every step."""
    crops: PositiveInt | None = None
    """Different crops of each image, which then come again, with answers from the cache; null: new ones always."""


class SparseOptions(Section):
    """Weights that stay zero while a network learns, and take turns in that (SLaK)."""

    sparsity: float = Field(gt=0, lt=1)
    """Share of the weights of convolutions and linear maps that is zero; 0.4 is SLaK's."""
    every: PositiveInt = 100
    """Iterations between changes, in which the smallest weights are dropped and as many others begin."""
    drop: Probability = 0.3
    """Share of the weights that the first change exchanges; it falls to 0 along half a cosine."""
    layers: Literal["snip", "uniform"] = "snip"
    """How many weights each layer keeps: by their |weight x gradient| in the first step, or the same share in each."""
    only: Pattern | None = None
    """Regular expression; weights are made sparse whose name it is found in. Null: all."""


class TrainOptions(Section):
    """Iterations, optimizers, schedule, losses, and how a step is computed."""

    patterns = {r"\w+_opt": (Block | None, _LOSS), r"optim_\w+": (Optimizer | None, _OPTIMIZER)}

    total_iter: PositiveInt
    """Iterations of the whole training."""
    warmup_iter: int = Field(-1, ge=-1)
    """Iterations over which the learning rate rises linearly from 0; -1: none."""
    ema_decay: float = Field(0.0, ge=0, lt=1)
    """Decay of the exponential moving average of the weights, which validation uses; 0: none. 0.999 is usual."""
    ema_warmup: bool = False
    """Whether the decay rises to its value over the first iterations, so that the average forgets the start sooner."""
    ema_power: PositiveFloat | None = None
    """Exponent of another rise: the decay of update t is at most 1 - (1 + t)^-ema_power. Null: it does not rise so."""
    optim_g: Optimizer | None = None
    """Optimizer of the network: {type: Adam, lr: 2e-4, weight_decay: 0, betas: [0.9, 0.99]}."""
    optim_d: Optimizer | None = None
    """Optimizer of the discriminator."""
    scheduler: Block | None = None
    """Learning rate over the iterations: {type: MultiStepLR, milestones: [250000, 400000], gamma: 0.5}."""
    pixel_opt: Block | None = None
    """Pixel loss: {type: L1Loss, loss_weight: 1.0, reduction: mean}."""
    perceptual_opt: Block | None = None
    """Perceptual loss: {type: PerceptualLoss, layer_weights: {conv5_4: 1}, vgg_type: vgg19, ...}."""
    gan_opt: Block | None = None
    """Adversarial loss: {type: GANLoss, gan_type: vanilla, loss_weight: 5e-3}."""
    ldl_opt: Block | None = None
    """Locally discriminative learning: a pixel loss weighted by an artefact map."""
    distill_opt: Block | None = None
    """Loss between the network and its teacher: {type: SoftDistillationLoss, loss_weight: 1.0}."""
    feature_matching_opt: Block | None = None
    """Loss between features of the discriminator on restored and real images."""
    net_d_iters: PositiveInt = 1
    """The generator learns in every n-th iteration only."""
    net_d_init_iters: NonNegativeInt = 0
    """Iterations at the start in which only the discriminator learns."""
    clip_norm: PositiveFloat | None = None
    """Largest norm of the gradient; null: no clipping."""
    use_grad_clip: bool | None = None
    """Restormer, NAFNet: true is clip_norm: 0.01, which is the default of model_type ImageRestorationModel."""
    trainable: str | list[str] | None = None
    """What of the network learns: attention, or patterns of names such as [layers.3.*, conv_last]; null: all of it."""
    teacher: TeacherOptions | None = None
    """A network to learn from, with distill_opt: {model: NAME or FILE, cache: FOLDER, crops: 16}."""
    sparse: SparseOptions | None = None
    """Weights of the network that stay zero, which take turns: {sparsity: 0.4, every: 100, drop: 0.3}."""
    mixup: bool | None = None
    """NAFNet: true is mixing_augs: {mixup: true}."""
    mixing_augs: MixingOptions | None = None
    """Training images blended with each other."""
    accumulate: PositiveInt = 1
    """Batches whose gradients are added before a step; the learning rate and all counts go by steps."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """Number format of a step; auto takes the fastest that the network survives on this device."""
    compile: bool = False
    """Whether to compile the network, block by block."""
    channels_last: bool | None = None
    """Whether convolutions work on channels-last memory; null: in convolutional networks on the processor."""
    tf32: bool = False
    """Whether float32 products may use TensorFloat-32 on a GPU: faster, about three decimal digits."""
    activation_checkpointing: bool = False
    """Whether activations are computed again in the backward pass: less memory, about a third slower."""

    @property
    def gradient_limit(self) -> float | None:
        """Largest norm of the gradient, from `clip_norm` or the forks' `use_grad_clip`; None: no clipping."""
        return self.clip_norm if self.clip_norm is not None else (0.01 if self.use_grad_clip else None)

    @property
    def mixing(self) -> MixingOptions:
        """How training images are blended, from `mixing_augs` or NAFNet's `mixup`."""
        return self.mixing_augs or MixingOptions(mixup=bool(self.mixup))

    def losses(self) -> dict[str, dict[str, Any]]:
        """Loss blocks by their key (`pixel_opt`, ...), those that are null left out."""
        return self._present(lambda name: name.endswith("_opt"))

    def optimizers(self) -> dict[str, dict[str, Any]]:
        """Optimizer blocks by their key (`optim_g`, ...), those that are null left out."""
        return self._present(lambda name: name.startswith("optim_"))

    def _present(self, wanted: Any) -> dict[str, dict[str, Any]]:
        values = {name: getattr(self, name) for name in type(self).model_fields if wanted(name)}
        return {name: block for name, block in values.items() if block is not None}

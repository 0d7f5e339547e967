"""EDT: a Transformer body at a small resolution between convolutional heads and tails, one pair for each task.

Li, Lu, Qian, Lu, Zhang, Jia, "On Efficient Transformer-Based Image Pre-training for Low-Level Vision", IJCAI 2023,
arXiv 2112.10175. The authors' repository is github.com/fenglinglwb/EDT (no licence); this is written from the paper
and from measurements. Argument names are theirs in lower case, state-dict keys and outputs agree.

What differs here:
    * any image size: both sides are reflected up to a multiple of 24 (times 4 where the body works at a quarter), and
      the bilinear or identity shortcut uses the image as it came;
    * batches of several tasks whose maps have different sizes pass through the body one after the other;
    * mask buffers are derived: they are written for other programs and ignored when read;
    * one branch of a multi-task file can be loaded on its own: see `own_branch`.

Shapes: B batch, H x W map, F num_feat, C embed_dim, s scale.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from restore.layers.arguments import require_positive
from restore.layers.convolution import residual_conv
from restore.layers.ffn import DepthwiseFeedForward
from restore.layers.initialisation import initialise_linear
from restore.layers.layer_norm import LayerNorm
from restore.layers.mixers.attention.stripe import StripeAttention
from restore.layers.padding import pad_to_multiple
from restore.layers.precision import float32_when_half
from restore.layers.residual import DropPath
from restore.layers.window import shift_mask
from restore.networks.base import Network, State
from restore.networks.edt_ends import Head, Tail, tail_end
from restore.networks.spec import ImageSpec
from restore.registry import NETWORKS

__all__ = ["EDT"]

RGB_MEAN = (0.4488, 0.4371, 0.4040)
KINDS = (("sr", 1), ("dn", 1), ("dr", 0))
"""Kinds of tasks, and how many letters stand before the number in their names."""
logger = logging.getLogger(__name__)


@NETWORKS.add()
class EDT(Network):
    """Encoder-decoder Transformer for super-resolution, denoising and deraining.

    Tasks are named `sr_x{scale}`, `dn_g{sigma}` and `dr_{level}`, and stand in this order.

    Args:
        in_chans: 1 (grey) or 3 (RGB).
        depth: levels of the heads and tails; denoising and deraining bodies work at 1 / 2^depth of the size.
        img_size: side of the body's training input; it only decides the size of the `attn_mask` entries that are
            written with the state dict.
        scales: super-resolution tasks. None: x2 if no other task is named.
        noise_levels: denoising tasks, by sigma on the 0-255 scale.
        rain_levels: deraining tasks, such as "L" and "H".
        window_size: height and width of one half of the attention windows; the other half is transposed.
        img_range: the network works on values in [0, img_range].
        num_feat: F, width of the heads and tails at full resolution.
        embed_dim: C, width of the body.
        depths: blocks of each stage of the body.
        num_heads: attention heads of each stage, for each half of the channels.
        mlp_ratio: hidden width of the feed-forward network, in C.
        upsampler: reconstruction of super-resolution: "pixelshuffle", or "pixelshuffledirect" (EDT-T).
        resi_connection: "1conv" or "3conv" at the end of the body.
        drop_path_rate: stochastic depth of the last block, rising linearly from 0; active in training only.
        downsample: False is the "SF" variant, whose denoising and deraining bodies work at full resolution.

    Raises:
        ValueError: no task at all, or widths and stages that do not fit each other.
    """

    derived_keys = ("attn_mask_h", "attn_mask_v")
    mean: torch.Tensor

    def __init__(
        self,
        in_chans: int = 3,
        depth: int = 2,
        img_size: int = 48,
        scales: Sequence[int] | None = None,
        noise_levels: Sequence[int] = (),
        rain_levels: Sequence[str] = (),
        window_size: tuple[int, int] = (6, 24),
        img_range: float = 1.0,
        num_feat: int = 32,
        embed_dim: int = 180,
        depths: Sequence[int] = (6, 6, 6, 6, 6, 6),
        num_heads: Sequence[int] = (6, 6, 6, 6, 6, 6),
        mlp_ratio: float = 2.0,
        upsampler: Literal["pixelshuffle", "pixelshuffledirect"] = "pixelshuffle",
        resi_connection: Literal["1conv", "3conv"] = "1conv",
        drop_path_rate: float = 0.1,
        downsample: bool = True,
    ):
        super().__init__()
        if scales is None:
            scales = () if noise_levels or rain_levels else (2,)
        self.tasks = self.task_names({"scales": scales, "noise_levels": noise_levels, "rain_levels": rain_levels})
        if not self.tasks:
            raise ValueError("EDT needs a task: name at least one of scales, noise_levels and rain_levels")
        if len({*self.tasks}) < len(self.tasks) or "." in "".join(self.tasks):
            raise ValueError(f"the tasks are {self.tasks}: each is named once, and without a dot")
        require_positive(in_chans=in_chans, depth=depth, img_size=img_size, num_feat=num_feat, img_range=img_range)
        self.task_scales = dict.fromkeys(self.tasks, 1) | {f"sr_x{s}": s for s in scales}
        self.in_chans, self.depth, self.img_range, self.downsample = in_chans, depth, img_range, downsample
        self.body = Body(
            embed_dim, depths, num_heads, window_size, mlp_ratio, resi_connection, drop_path_rate, img_size
        )
        for task in self.tasks:
            halve = self._halves(task)
            self.add_module(f"head_{task}", Head(in_chans, num_feat, embed_dim, depth, halve))
            end = tail_end(2 * num_feat, in_chans, self.task_scales[task] if task.startswith("sr") else None, upsampler)
            self.add_module(f"tail_{task}", Tail(num_feat, embed_dim, depth, halve, end))
        mean = RGB_MEAN if in_chans == 3 else (0.0,)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)

    @property
    def spec(self) -> ImageSpec:
        """What images the first task takes and gives; `task_spec` is for the others."""
        return self.task_spec(0)

    def task_spec(self, task: int | str) -> ImageSpec:
        """What images a task takes and gives."""
        name = self._task(task)
        reduction = 2**self.depth if self._halves(name) else 1
        return ImageSpec(
            scale=self.task_scales[name],
            in_channels=self.in_chans,
            out_channels=self.in_chans,
            size_multiple=self.body.size_multiple * reduction,
        )

    def forward(
        self, x: torch.Tensor | Sequence[torch.Tensor], task: int | str | None = None
    ) -> torch.Tensor | list[torch.Tensor]:
        """Restore images in [0, 1].

        Args:
            x: `x_BCHW` for one task; or a list of such batches, one for each of `self.tasks`, which share one pass
                through the body where their maps have the same size.
            task: name or index of the task that a single batch is for; not needed by a network with one task.

        Returns:
            `(B, C, H * s, W * s)`, or a list of them in the order of the tasks.
        """
        if isinstance(x, torch.Tensor):
            return self._restore([x], [self._task(task)])[0]
        if len(x) != len(self.tasks):
            raise ValueError(f"{len(x)} batches of images were given; this network has the tasks {self.tasks}")
        return self._restore(x, self.tasks)

    def losses(self, x: Sequence[torch.Tensor], target: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """The mean absolute error of each task by name, from one list of batches and one of targets."""
        restored = self(x)
        return {name: F.l1_loss(y, t) for name, y, t in zip(self.tasks, restored, target, strict=True)}

    def _restore(self, images: Sequence[torch.Tensor], tasks: Sequence[str]) -> list[torch.Tensor]:
        normalised = [(image - self.mean) * self.img_range for image in images]
        encoded = [self._encode(image, task) for image, task in zip(normalised, tasks, strict=True)]
        deep = self.body.of_all([shallow for shallow, _ in encoded])
        parts = zip(deep, encoded, normalised, tasks, strict=True)
        return [
            self._decode(map_BCHW, skips, image, task) / self.img_range + self.mean
            for map_BCHW, (_, skips), image, task in parts
        ]

    def _encode(self, image_BCHW: torch.Tensor, task: str) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The body's input and the maps that the tail wants back."""
        padded = pad_to_multiple(image_BCHW, self.task_spec(task).size_multiple)
        return self.get_submodule(f"head_{task}")(padded)

    def _decode(self, x: torch.Tensor, skips: list[torch.Tensor], image_BCHW: torch.Tensor, task: str) -> torch.Tensor:
        scale = self.task_scales[task]
        height, width = image_BCHW.shape[2] * scale, image_BCHW.shape[3] * scale
        if task.startswith("sr"):
            image_BCHW = F.interpolate(image_BCHW, (height, width), mode="bilinear", align_corners=False)
        return self.get_submodule(f"tail_{task}")(x, skips)[..., :height, :width] + image_BCHW

    def _task(self, task: int | str | None) -> str:
        if task is None and len(self.tasks) == 1:
            return self.tasks[0]
        if isinstance(task, int) and 0 <= task < len(self.tasks):
            return self.tasks[task]
        if not isinstance(task, str) or task not in self.tasks:
            raise ValueError(f"task {task!r} was given; this network has the tasks {self.tasks}")
        return task

    def _halves(self, task: str) -> bool:
        return self.downsample and not task.startswith("sr")

    @classmethod
    def task_names(cls, arguments: Mapping[str, Any]) -> list[str]:
        """The tasks of a network with these arguments of the constructor, in order."""
        kinds = (("scales", "sr_x"), ("noise_levels", "dn_g"), ("rain_levels", "dr_"))
        return [f"{start}{level}" for kind, start in kinds for level in arguments[kind]]

    @classmethod
    def branch(cls, state: State, arguments: Mapping[str, Any], task: int) -> dict[str, torch.Tensor]:
        """The weights of a network of one task out of those of a network with these arguments."""
        own = cls.task_names(arguments)[task]
        return {
            key: value
            for key, value in state.items()
            if key.startswith("body.") or key.split(".")[0].partition("_")[2] == own
        }

    def own_branch(self, state: State) -> dict[str, torch.Tensor]:
        """The part of a state dict that belongs to the body and to the tasks of this network.

        So one task of a multi-task file can be loaded on its own: `network.load_state_dict(network.own_branch(state))`.
        """
        own, others = {}, set()
        for key, value in state.items():
            part, _, task = key.split(".")[0].partition("_")
            if part in ("head", "tail") and task not in self.tasks:
                others.add(task)
            else:
                own[key] = value
        if others:
            logger.info("left out the branches %s: this network has %s", sorted(others), self.tasks)
        return own

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any] | None:
        """The constructor's arguments; heads are not in the weights and taken from the published widths."""
        tasks = list(dict.fromkeys(key.split(".")[0].removeprefix("head_") for key in state if key.startswith("head_")))
        if not tasks or "body.layers.0.residual_group.blocks.0.attns.0.lepe.weight" not in state:
            return None
        by_kind = {
            kind: [task.partition("_")[2][skip:] for task in tasks if task.startswith(kind)] for kind, skip in KINDS
        }
        head, tail = f"head_{tasks[0]}", f"tail_{tasks[0]}"
        num_feat, in_chans = state[f"{head}.0.weight"].shape[:2]
        depth = sum(key.startswith(f"{head}.") and key.endswith(".shortcut.weight") for key in state)
        dim = state["body.norm.weight"].shape[0]
        blocks = {tuple(key.split(".")[2:6:3]) for key in state if key.startswith("body.layers.")}
        depths = [
            sum(stage == str(index) for stage, _ in blocks) for index in range(len({stage for stage, _ in blocks}))
        ]
        mask = state.get("body.layers.0.residual_group.blocks.1.attn_mask_h")
        halved = any(key.endswith(".conv_down.weight") for key in state)
        return {
            "in_chans": in_chans,
            "depth": depth,
            "img_size": math.isqrt(mask.shape[0] * mask.shape[1]) if mask is not None else 48,
            "scales": [int(scale) for scale in by_kind["sr"]],
            "noise_levels": [int(sigma) for sigma in by_kind["dn"]],
            "rain_levels": by_kind["dr"],
            "num_feat": num_feat,
            "embed_dim": dim,
            "depths": depths,
            "num_heads": [8 if dim == 240 else 6] * len(depths),
            "mlp_ratio": state["body.layers.0.residual_group.blocks.0.mlp.fc1.weight"].shape[0] / dim,
            "upsampler": "pixelshuffledirect"
            if by_kind["sr"] and f"{tail}.{depth + 1}.weight" not in state
            else "pixelshuffle",
            "resi_connection": "1conv" if "body.conv_after_body.weight" in state else "3conv",
            "downsample": halved or not (by_kind["dn"] or by_kind["dr"]),
        }


class Body(nn.Module):
    """Stages of stripe-attention blocks, each with a shortcut, and a convolution."""

    def __init__(
        self,
        dim: int,
        depths: Sequence[int],
        num_heads: Sequence[int],
        window_size: tuple[int, int],
        mlp_ratio: float,
        resi_connection: str,
        drop_path_rate: float,
        img_size: int,
    ):
        super().__init__()
        if not depths or len(depths) != len(num_heads):
            raise ValueError(f"depths and num_heads name one stage each: {len(depths)} and {len(num_heads)} given")
        require_positive(
            embed_dim=dim, depths=depths, num_heads=num_heads, window_size=window_size, mlp_ratio=mlp_ratio
        )
        window = (window_size[0], window_size[1])
        self.size_multiple = math.lcm(*window)
        rates = iter([drop_path_rate * index / max(sum(depths) - 1, 1) for index in range(sum(depths))])
        self.patch_embed: Any = nn.Module()
        self.patch_embed.norm = LayerNorm(dim)
        self.layers = nn.ModuleList()
        for depth, heads in zip(depths, num_heads, strict=True):
            stage: Any = nn.Module()
            stage.residual_group = nn.Module()
            stage.residual_group.blocks = nn.Sequential(
                *(Block(dim, heads, window, index % 2 == 1, mlp_ratio, next(rates), img_size) for index in range(depth))
            )
            self.layers.append(stage)
        self.norm = LayerNorm(dim)
        self.conv_after_body = residual_conv(dim, resi_connection)
        self.apply(initialise_linear)

    def forward(self, shallow_BCHW: torch.Tensor) -> torch.Tensor:
        x_BHWC = self.patch_embed.norm(shallow_BCHW.permute(0, 2, 3, 1))
        stage: Any
        for stage in self.layers:
            x_BHWC = x_BHWC + stage.residual_group.blocks(x_BHWC)
        x_BCHW = self.norm(x_BHWC).permute(0, 3, 1, 2)
        return float32_when_half(self.conv_after_body, x_BCHW) + shallow_BCHW

    def of_all(self, maps: list[torch.Tensor]) -> Sequence[torch.Tensor]:
        """The body of several batches: in one pass if their maps have the same size."""
        if len(maps) == 1 or len({each.shape[1:] for each in maps}) > 1:
            return [self(each) for each in maps]
        return self(torch.cat(maps)).split([len(each) for each in maps])


class Block(StripeAttention):
    """Pre-norm stripe attention and feed-forward network. It *is* the attention, for the published keys say so."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: tuple[int, int],
        shifted: bool,
        mlp_ratio: float,
        drop_path: float,
        img_size: int,
    ):
        super().__init__(dim, num_heads, window_size, shifted)
        self.shifted, self.img_size = shifted, img_size
        self.norm1 = LayerNorm(dim)
        self.norm2 = LayerNorm(dim)
        self.mlp = DepthwiseFeedForward(dim, mlp_ratio)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # no tokens: it is a block
        x_BHWC = x_BHWC + self.drop_path(super().forward(self.norm1(x_BHWC)))
        return x_BHWC + self.drop_path(self.mlp(self.norm2(x_BHWC)))

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        if self.shifted:  # the published buffers, for programs that load strictly
            side = self.img_size - self.img_size % max(self.size_multiple)
            for name, window, shift in zip("hv", self.windows, self.shifts, strict=True):
                destination[f"{prefix}attn_mask_{name}"] = shift_mask(side, side, window, shift)
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in "hv":
            state_dict.pop(f"{prefix}attn_mask_{name}", None)
        super()._load_from_state_dict(state_dict, prefix, *args)

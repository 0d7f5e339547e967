"""IPT: one Transformer body, trained on several corruptions, with a head, a tail and a query for each task.

Chen et al., "Pre-Trained Image Processing Transformer", CVPR 2021, arXiv 2012.00364. Agrees with the official inference
code, github.com/huawei-noah/Pretrained-IPT (Apache-2.0): same argument names, same state-dict keys, same output on
48 x 48 images.

What differs here:
    * the task is an argument of `forward` instead of a state of the module, and one batch may hold several tasks;
    * any image size: head and tail see the whole image, the body sees it in windows of `patch_size`, because its
      table of positions has one fixed size. The published test cuts 48 x 48 crops at a stride of 12 instead and keeps
      their central 24 pixels (`CHOP_TILE_PX`, `CHOP_STEP_PX`, `CHOP_KEEP_PX`): the tiling policy "ipt_chop";
    * attention runs batch-first through torch's fused kernel, with one projection where its inputs are the same;
    * `no_mlp` means what it says (the official flag is passed on inverted in name, with the same effect).

Shapes: B batch, C colours, H x W image, S patch_size, N = (S / patch_dim)^2 tokens, D = n_feats * patch_dim^2 width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from restore.errors import CheckpointError
from restore.layers.arguments import require_positive
from restore.layers.convolution import PixelShuffleUpsampler
from restore.layers.padding import cut_tiles, pad_to_multiple, paste_tiles
from restore.networks.base import Network, State
from restore.networks.ipt_body import TransformerBody
from restore.networks.spec import ImageSpec
from restore.registry import NETWORKS

__all__ = ["CHOP_KEEP_PX", "CHOP_STEP_PX", "CHOP_TILE_PX", "IPT"]

CHOP_TILE_PX, CHOP_STEP_PX, CHOP_KEEP_PX = 48, 12, 24
RGB_MEAN = (0.4488, 0.4371, 0.4040)
QUERY = "body.query_embed.weight"


Restored = torch.Tensor | list[torch.Tensor]


@NETWORKS.add()
class IPT(Network):
    """Image Processing Transformer.

    Args:
        scale: the scale of each task: `4`, `[2, 3, 4, 1, 1, 1]` or `"2+3+4+1+1+1"` (the order of `IPT_pretrain.pt`:
            three super-resolutions, then denoising and deraining). Each entry has a head and a tail.
        patch_size: side of the windows that the body sees, in pixels of the input.
        rgb_range: the largest value of an image, 255 in the published weights.
        n_colors: channels of the image.
        n_feats: width of the head and the tail.
        patch_dim: side of the patch that makes one token.
        num_heads: attention heads.
        num_layers: depth of the encoder, and of the decoder.
        dropout_rate: dropout in the attention, the feed-forward layers and the token projections.
        no_norm: leave out every LayerNorm.
        no_mlp: leave out the token projection, the output MLP and the task queries.
        pos_every: add positions to every query and key instead of once, to the input.
        no_pos: no positions at all.
        num_queries: task queries; 1 shares one query among all tasks, otherwise one for each entry of `scale`.

    Raises:
        ValueError: sizes that do not divide, or a number of queries that fits no task list.
    """

    def __init__(
        self,
        scale: int | str | list[int] = 4,
        patch_size: int = 48,
        rgb_range: float = 255.0,
        n_colors: int = 3,
        n_feats: int = 64,
        patch_dim: int = 3,
        num_heads: int = 12,
        num_layers: int = 12,
        dropout_rate: float = 0.0,
        no_norm: bool = False,
        no_mlp: bool = False,
        pos_every: bool = False,
        no_pos: bool = False,
        num_queries: int = 1,
    ):
        super().__init__()
        self.scales = _scales(scale)
        if not self.scales:
            raise ValueError("scale is empty: name that of each task, 1 for denoising and deraining")
        require_positive(patch_size=patch_size, rgb_range=rgb_range, n_colors=n_colors, n_feats=n_feats)
        require_positive(patch_dim=patch_dim, num_heads=num_heads, num_layers=num_layers)
        self.rgb_range = rgb_range
        self.n_colors = n_colors
        if num_queries not in (1, len(self.scales)):
            raise ValueError(f"num_queries is {num_queries}; allowed: 1, or one for each of {len(self.scales)} tasks")
        self.sub_mean = MeanShift(n_colors, -rgb_range)
        self.add_mean = MeanShift(n_colors, rgb_range)
        self.tasks = self.task_names({"scale": self.scales})
        self.head = nn.ModuleList(
            nn.Sequential(nn.Conv2d(n_colors, n_feats, 3, padding=1), ResidualConvs(n_feats), ResidualConvs(n_feats))
            for _ in self.scales
        )
        self.body = TransformerBody(
            img_dim=patch_size,
            patch_dim=patch_dim,
            channels=n_feats,
            num_heads=num_heads,
            num_layers=num_layers,
            num_queries=num_queries,
            dropout=dropout_rate,
            norm=not no_norm,
            mlp=not no_mlp,
            positions="none" if no_pos else "every" if pos_every else "first",
        )
        self.tail = nn.ModuleList(
            nn.Sequential(PixelShuffleUpsampler(s, n_feats), nn.Conv2d(n_feats, n_colors, 3, padding=1))
            for s in self.scales
        )

    @property
    def spec(self) -> ImageSpec:
        """What images the first task takes and gives; `task_spec` is for the others."""
        return self.task_spec(0)

    def task_spec(self, task: int) -> ImageSpec:
        """What images a task takes and gives."""
        return ImageSpec(
            scale=self.scales[task],
            in_channels=self.n_colors,
            out_channels=self.n_colors,
            value_range=self.rgb_range,
            size_multiple=self.body.img_dim,
            tiling="ipt_chop" if self.body.img_dim == CHOP_TILE_PX else "blend",
        )

    def forward(
        self, x: torch.Tensor | Sequence[torch.Tensor], task: int | Sequence[int] = 0, return_features: bool = False
    ) -> Restored | tuple[Restored, torch.Tensor]:
        """Restore images.

        Args:
            x: `x_BCHW` in [0, rgb_range]; or a list of such batches, one for each entry of `task`: they share one pass
                through the body.
            task: index into `scale`: it selects the head, the tail and the query.
            return_features: also return the decoder's tokens, for the contrastive loss of the pre-training.

        Returns:
            `(B, C, H * scale, W * scale)`, or a list of them; with `return_features` a pair of that and the tokens
            `(windows, N, D)`, windows in the order of the images.
        """
        images = [x] if isinstance(x, torch.Tensor) else list(x)
        tasks = list(task) if isinstance(task, Sequence) else [task]
        if len(images) != len(tasks):
            raise ValueError(f"{len(images)} batches of images were given for {len(tasks)} tasks")
        maps = [self._head(image, index) for image, index in zip(images, tasks, strict=True)]
        windows = [cut_tiles(each, self.body.img_dim) for each in maps]
        counts = [len(each) for each in windows]
        deep, features = self.body(torch.cat(windows), list(zip(tasks, counts, strict=True)))
        outputs = [
            self._tail(each + paste_tiles(part, *(side // self.body.img_dim for side in each.shape[2:])), image, index)
            for each, part, image, index in zip(maps, deep.split(counts), images, tasks, strict=True)
        ]
        restored: Restored = outputs[0] if isinstance(x, torch.Tensor) else outputs
        return (restored, features) if return_features else restored

    @classmethod
    def task_names(cls, arguments: Mapping[str, Any]) -> list[str]:
        """Names for the tasks of a network with this `scale`: `sr_x2`, or `task_3` where only the number tells them."""
        scales = _scales(arguments["scale"])
        return [f"sr_x{scale}" if scale > 1 else f"task_{number}" for number, scale in enumerate(scales)]

    @classmethod
    def branch(cls, state: State, arguments: Mapping[str, Any], task: int) -> dict[str, torch.Tensor]:
        """The weights of a network of one task, its head, tail and query, out of those of a network of several."""
        own = {}
        for key, value in state.items():
            part, number, rest = (*key.split(".", 2), "", "")[:3]
            if part not in ("head", "tail"):
                own[key] = value
            elif int(number) == task:
                own[f"{part}.0.{rest}"] = value
        query = own.get(QUERY)
        if query is not None and len(query) > 1:
            own[QUERY] = query[task : task + 1]
        return own

    def own_branch(self, state: State) -> State:
        """What of a state dict concerns this network: of several tasks, if this one has one, that of its scale.

        Raises:
            CheckpointError: several tasks have that scale, so one must be named.
        """
        block = self.recognise(state)
        if block is None or len(self.scales) > 1 or len(block["scale"]) == 1:
            return state
        fitting = [task for task, scale in enumerate(block["scale"]) if scale == self.scales[0]]
        if len(fitting) > 1:
            numbers = ", ".join(map(str, fitting))
            raise CheckpointError(
                f"the weights hold {len(fitting)} tasks of scale {self.scales[0]}, the numbers {numbers}: name the one "
                "to take (`path.pretrain_task_g` in an option file, `task` of `load_model`)."
            )
        return self.branch(state, block, fitting[0]) if fitting else state

    def _head(self, x_BCHW: torch.Tensor, task: int) -> torch.Tensor:
        if not 0 <= task < len(self.scales):
            raise ValueError(f"task {task} does not exist: this network has the tasks 0 to {len(self.scales) - 1}")
        return self.head[task](self.sub_mean(pad_to_multiple(x_BCHW, self.body.img_dim)))

    def _tail(self, map_BCHW: torch.Tensor, x_BCHW: torch.Tensor, task: int) -> torch.Tensor:
        height, width = (side * self.scales[task] for side in x_BCHW.shape[-2:])
        return self.add_mean(self.tail[task](map_BCHW)[..., :height, :width])

    @classmethod
    def recognise(cls, state: State) -> dict[str, Any] | None:
        """The constructor's arguments; heads and `pos_every` are not in the weights: the published ones are taken."""
        if "body.encoder.layers.0.self_attn.in_proj_weight" not in state or "head.0.0.weight" not in state:
            return None
        n_feats, n_colors = state["head.0.0.weight"].shape[:2]
        dim = state["body.encoder.layers.0.self_attn.in_proj_weight"].shape[1]
        patch_dim = math.isqrt(dim // n_feats)
        queries, table = state.get(QUERY), state.get("body.position_encoding.pe.weight")
        num_tokens = len(table) if table is not None else queries.shape[1] // dim if queries is not None else 256
        tasks = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("head."))
        return {
            "scale": [_recognise_scale(state, f"tail.{task}.0.") for task in range(tasks)],
            "patch_size": patch_dim * math.isqrt(num_tokens),
            "n_colors": n_colors,
            "n_feats": n_feats,
            "patch_dim": patch_dim,
            "num_layers": sum(key.startswith("body.encoder") and key.endswith("in_proj_weight") for key in state),
            "no_norm": "body.encoder.layers.0.norm1.weight" not in state,
            "no_mlp": queries is None,
            "no_pos": table is None,
            "num_queries": 1 if queries is None else len(queries),
        }


class ResidualConvs(nn.Module):
    """Two 5 x 5 convolutions with a ReLU between them, added to their input."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 5, padding=2), nn.ReLU(), nn.Conv2d(channels, channels, 5, padding=2)
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW + self.body(x_BCHW)


class MeanShift(nn.Module):
    """Adds `factor` times the mean colour of DIV2K (nothing for other than three channels); never trained."""

    def __init__(self, channels: int, factor: float):
        super().__init__()
        mean = torch.tensor(RGB_MEAN) if channels == 3 else torch.zeros(channels)
        self.weight = nn.Parameter(torch.eye(channels)[:, :, None, None], requires_grad=False)
        self.bias = nn.Parameter(factor * mean, requires_grad=False)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x_BCHW, self.weight, self.bias)


def _scales(scale: int | str | Sequence[int]) -> list[int]:
    parts = scale.split("+") if isinstance(scale, str) else [scale] if isinstance(scale, int) else list(scale)
    try:
        return [int(part) for part in parts]
    except ValueError:
        raise ValueError(f"scale {scale!r} is not a number, a list of numbers or a text such as '2+3+4+1'") from None


def _recognise_scale(state: State, prefix: str) -> int:
    weights = [value for key, value in state.items() if key.startswith(prefix) and key.endswith("weight")]
    return 3 if weights and weights[0].shape[0] == 9 * weights[0].shape[1] else 2 ** len(weights)

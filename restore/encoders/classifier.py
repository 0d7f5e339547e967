"""An encoder with a head that names classes: what published weights are of, and what recipes of recognition train.

    classifier = Classifier(build_encoder("cpvt_tiny"), num_classes=1000)
    load_published(classifier, torch.load("cpvt_tiny.pth"))
    logits = classifier(images)

The state dict of a published classifier is that of its encoder under `Encoder.published_key`, and that of its head as
it is: `published_state` and `load_published` translate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from restore.encoders.base import Encoder
from restore.encoders.features import Features
from restore.errors import CheckpointError
from restore.layers.finite import require_finite

__all__ = ["Classifier", "load_published", "published_state"]


class Classifier(nn.Module):
    """Logits (B, num_classes) of images in [0, 1].

    Args:
        encoder: any encoder; all its maps and tokens are there for the head, whatever `out_indices` says.
        num_classes: how many there are.
    """

    def __init__(self, encoder: Encoder, num_classes: int):
        super().__init__()
        self.encoder, self.head, self.num_classes = encoder, encoder.head(num_classes), num_classes

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes)."""
        return self.head(self.encoder.encode_all(x_BCHW))

    def encode(self, x_BCHW: torch.Tensor) -> Features:
        """The chosen maps, the tokens and the logits."""
        features = self.encoder.encode_all(x_BCHW)
        chosen = [features.maps[index] for index in self.encoder.out_indices]
        return replace(features, maps=chosen, logits=self.head(features))


def published_state(module: Encoder | Classifier) -> dict[str, torch.Tensor]:
    """The state dict of an encoder or a classifier under the names of published weights."""
    encoder = module.encoder if isinstance(module, Classifier) else module
    state = {encoder.published_key(key): value for key, value in encoder.state_dict().items()}
    if isinstance(module, Classifier):
        head = module.head.state_dict()
        assert not state.keys() & head.keys(), f"the head's {sorted(state.keys() & head.keys())} are the encoder's too"
        state |= head
    return state


def load_published(module: Encoder | Classifier, state: Mapping[str, torch.Tensor], *, source: str = "weights") -> None:
    """Load published weights. Those of a classifier go into an encoder too, without the head.

    Raises:
        CheckpointError: names or sizes that do not fit, or values that are not finite.
    """
    own = published_state(module)
    encoder = module.encoder if isinstance(module, Classifier) else module
    known, state = {*own}, encoder.fitted(state)
    if encoder is module:
        with torch.device("meta"):
            known |= encoder.head(1).state_dict().keys()
    missing = [key for key in own if key not in state]
    extra = [key for key in state if key not in known and key.rpartition(".")[2] not in encoder.derived_keys]
    sizes = [
        f"{key} {tuple(state[key].shape)}, wanted {tuple(value.shape)}"
        for key, value in own.items()
        if key in state and _plain(state[key]) != _plain(value)
    ]
    if missing or extra or sizes:
        found = {"missing": missing, "unexpected": extra, "of another size": sizes}
        listed = "; ".join(f"{len(names)} {what}: {', '.join(names[:8])}" for what, names in found.items() if names)
        raise CheckpointError(f"{source}: not the weights of this {type(encoder).__name__}. {listed}.")
    require_finite({key: state[key] for key in own}, source)
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(state[key].view(value.shape))


def _plain(tensor: torch.Tensor) -> tuple[int, ...]:
    """The shape of a weight; that of a 1x1 convolution is the same as that of a linear map."""
    rows_columns = tuple(tensor.shape[2:])
    return tuple(tensor.shape[:2]) if rows_columns and set(rows_columns) == {1} else tuple(tensor.shape)

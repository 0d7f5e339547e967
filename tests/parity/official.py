"""Encoders of ours against outputs of official code: fixtures hold its inputs, outputs and state-dict keys."""

from __future__ import annotations

import ast
import json

import numpy as np
import torch

from restore.encoders import Classifier, build_encoder, load_published, published_state
from restore.registry import ENCODERS


def parameters(block, num_classes: int = 1000) -> int:
    """Of a classifier, without allocating them."""
    with torch.device("meta"):
        classifier = Classifier(build_encoder(block), num_classes)
    return sum(parameter.numel() for parameter in classifier.parameters())


def errors(
    shared, fill, name: str, block, *, dtype=torch.float32, classes: int | None = None, normed: bool = False
) -> dict[str, float]:
    """Largest difference of each stored output, against the largest value of it.

    The official keys are compared first, and ours are filled by the official names, shapes and seed. `normed`: the
    stored map is that of the tokens after the last norm.
    """
    stored = np.load(shared(f"fixtures/encoders/{name}.npz"))
    config = json.loads(str(stored["config"]))
    encoder = build_encoder(block)
    known = dict(zip(stored["keys"].tolist(), stored["shapes"].tolist(), strict=True))
    if "num_classes" not in config and "head.weight" in known:
        classes = classes or ast.literal_eval(str(known["head.weight"]))[0]
    classifier = Classifier(encoder, classes or config.get("num_classes", 10)).eval()
    load_official(classifier, stored, fill)
    classifier.to(dtype)
    encoder.normalise = lambda x_BCHW: x_BCHW  # the fixtures' images are used as they are
    image = torch.from_numpy(stored["input"])
    image = image.to(dtype) / 255 if image.dtype == torch.uint8 else image.to(dtype)
    with torch.no_grad():
        features = encoder.encode_all(image)
        logits = classifier.head(features)
    found = {f"output_map{number}": each for number, each in enumerate(features.maps)} | {"output_logits": logits}
    alone = "output_map0" in stored.files and "output_map1" not in stored.files
    if alone and len(stored["output_map0"].shape) == 4:  # one map: that of the last block
        found["output_map0"] = features.tokens.map_BCHW() if normed else features.maps[-1]
    return {
        key: float(
            np.abs(found[key].numpy().reshape(stored[key].shape) - stored[key]).max() / np.abs(stored[key]).max()
        )
        for key in stored.files
        if key in found
    }


def load_official(module, stored, fill) -> None:
    """Fill every tensor by its official key, shape and seed."""
    own = published_state(module)
    kept = json.loads(str(stored["config"])).get("kept", [])
    state = {}
    for key, shape in zip(stored["keys"].tolist(), stored["shapes"].tolist(), strict=True):
        shape = tuple(ast.literal_eval(shape)) if isinstance(shape, str) else tuple(shape)
        if key.rpartition(".")[2] in kept or key in kept or any(part in key for part in fill.SKIPPED):
            if key in own:
                state[key] = own[key]
            continue
        state[key] = torch.from_numpy(np.asarray(fill.fill_array(key, shape, int(stored["seed"])), np.float32))
    load_published(module, state)


def registered(name: str) -> bool:
    """Whether there is such an encoder."""
    return name in ENCODERS

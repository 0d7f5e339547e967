"""Trained models of an option file: what restores images, what judges them, and what finds things in them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from restore.assembly.networks import as_network, build_network, chosen_device, named_weights
from restore.detection import Detector, load_detector
from restore.errors import OptionsError, Problem
from restore.layers.merging import merge
from restore.quality import QualityModel, load_quality
from restore.zoo.load import as_restorer, load_network

if TYPE_CHECKING:
    from torch import nn

    from restore.inference import Restorer
    from restore.options import Options

__all__ = ["detector_of", "quality_model_of", "restorer_of"]

log = logging.getLogger(__name__)

_WEIGHTS = "path.pretrain_network_g"


def restorer_of(options: Options) -> Restorer:
    """The network of an option file with its weights, run as the file says.

    Raises:
        OptionsError: the network's scale is not the file's, or it restores no images.
        CheckpointError: the weights cannot be read, or belong to another network.
        MissingError: the weights cannot be downloaded.
    """
    source, entry, _ = options.path.pretrained()
    if options.network_g is not None:
        network = as_network(build_network(options).eval())
        _say_untrained(options)
    else:
        named_weights(_required(source), _WEIGHTS)  # if they are missing, the error names the option
        network = as_network(load_network(_required(source), key=entry, task=options.path.pretrain_task_g))
    runtime = {**options.runtime.arguments(), "device": chosen_device(options)}
    restorer = as_restorer(network, source or "network_g", **runtime)
    if restorer.scale != options.scale:
        raise OptionsError(
            [Problem("scale", f"{options.scale} is given, but the network enlarges by {restorer.scale}.")]
        )
    return restorer


def quality_model_of(options: Options) -> QualityModel:
    """The quality model of an option file with its weights, on its device and in evaluation mode.

    Raises:
        OptionsError: the block has mistakes, or no model has the name that is given.
        CheckpointError: the weights cannot be read, or do not say which model they are of.
        MissingError: the weights cannot be downloaded.
    """
    device = chosen_device(options)
    model: nn.Module
    if options.network_g is None:
        model = load_quality(named_weights(_required(options.path.pretrained()[0]), _WEIGHTS), device=device)
    else:
        model = build_network(options).eval()
        _say_untrained(options)
    if options.runtime.merge:
        model = merge(model, options.runtime.merge)
    assert isinstance(model, QualityModel), "the registry of this model_type holds nothing else"
    return model.to(device)


def detector_of(options: Options) -> Detector:
    """The detector of an option file with its weights, on its device and in evaluation mode; raises as above."""
    device = chosen_device(options)
    if options.network_g is None:
        return load_detector(named_weights(_required(options.path.pretrained()[0]), _WEIGHTS), device=device)
    detector = build_network(options).eval()
    assert isinstance(detector, Detector), "the registry of this model_type holds nothing else"
    _say_untrained(options)
    return detector.to(device)


def _required(source: str | None) -> str:
    """The weights that stand in for `network_g`."""
    assert source is not None, "options without network_g name weights: they were checked when they were read"
    return source


def _say_untrained(options: Options) -> None:
    if options.path.pretrained()[0] is None:
        log.warning("path.pretrain_network_g is not set: the network is tested without trained weights.")

"""What is asked of a scoring: the metrics, each with the options that a protocol gives it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from restore.errors import OptionsError, Problem
from restore.evaluation.measures import Measures
from restore.evaluation.records import MetricRecord
from restore.metrics import METRICS, Protocol, bind_metrics, protocol, traits

__all__ = ["Settings", "settings"]


@dataclass(frozen=True)
class Settings:
    """The metrics of a scoring, checked.

    Attributes:
        blocks: the option block of each metric, by label.
        records: direction and unit of each metric, by label.
        prepared: what is compared by each metric, in words.
        protocol: name of the protocol, if one is followed.
        scale: the enlargement that the protocol's border follows.
    """

    blocks: Mapping[str, Mapping[str, Any]]
    records: Mapping[str, MetricRecord]
    prepared: Mapping[str, str]
    protocol: str | None = None
    scale: int = 1


def settings(
    metrics: Sequence[str], protocol_name: str | None = None, *, scale: int | None = None, has_reference: bool = True
) -> Settings:
    """Check the metrics and give each the options of the protocol.

    A protocol speaks of PSNR and SSIM and their kin, which take its border, channel and rounding; every other metric
    (LPIPS, NIQE, ...) sees the whole colour image.

    Raises:
        OptionsError: an unknown metric or protocol, a metric that needs the references that are not given, or a
            protocol whose border depends on a scale that is not known.
    """
    chosen = protocol(protocol_name) if protocol_name else None
    if chosen and chosen.border_scales and scale is None:
        raise OptionsError(
            f"the protocol '{protocol_name}' cuts off a border that depends on the enlargement, and the file names do "
            "not tell it: add --scale 4 (or what it was; 1 if the size was kept)."
        )
    arguments = chosen.arguments(scale or 1) if chosen else {}
    wanted = list(dict.fromkeys(metrics))
    if not wanted:
        raise OptionsError([Problem("--metrics", "name at least one.")])
    blocks, prepared = {}, {}
    for label in wanted:
        follows = bool(chosen) and _follows_protocol(label, arguments)
        blocks[label] = {"type": label, **(arguments if follows else {})}
        prepared[label] = _in_words(chosen, arguments["border_px"]) if follows else "whole image, as the metric has it"
    records = Measures(bind_metrics(blocks, "--metrics")).records
    if not has_reference:
        _require_no_reference(wanted)
    return Settings(blocks, records, prepared, protocol_name, scale or 1)


def _follows_protocol(name: str, arguments: Mapping[str, Any]) -> bool:
    return name in METRICS and arguments.keys() <= inspect.signature(METRICS.get(name)).parameters.keys()


def _in_words(chosen: Protocol, border_px: int) -> str:
    return f"{chosen} (here: {border_px} px)" if chosen.border_scales else str(chosen)


def _require_no_reference(metrics: Sequence[str]) -> None:
    needy = [name for name in metrics if traits(name).needs_reference]
    if needy:
        alone = [name for name in METRICS if not traits(name).needs_reference]
        raise OptionsError(
            f"{', '.join(needy)} compares with a reference: give the folder with --reference. Without one there are: "
            f"{', '.join(alone)}, and many of pyiqa:NAME."
        )

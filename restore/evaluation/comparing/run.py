"""Images through several models, shown beside each other at one size: that of the largest result.

Results of models that enlarge less are resized to it after their network, the input by bicubic interpolation.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from restore.analysis.cost import count_parameters
from restore.errors import ImageError, RestoreError
from restore.images import convert_depth, read_image, resize_pixels
from restore.inference import Restorer
from restore.inference.sizing import sizing_of
from restore.metrics import psnr, ssim
from restore.reports.pages import fill_page
from restore.reports.pictures import Gallery

__all__ = ["Compared", "Comparison", "compare"]

INPUT, REFERENCE, FIRST = "input", "reference", "restored"


@dataclass(frozen=True)
class Compared:
    """What became of an image in a model.

    Attributes:
        image: name of the file.
        model: name of the model.
        seconds: that the restoration took.
        psnr: to the reference in dB, over RGB; None where there is none.
        ssim: to the reference, over RGB.
        error: why there is no result.
    """

    image: str
    model: str
    seconds: float = 0.0
    psnr: float | None = None
    ssim: float | None = None
    error: str | None = None


@dataclass
class Comparison:
    """Models on images.

    Attributes:
        scale: output pixels per input pixel, of everything that is shown.
        models: scale and parameters of every model, by name.
        found: one for each image and model.
        gallery: the pictures.
    """

    scale: int
    models: dict[str, dict[str, int]]
    found: list[Compared] = field(default_factory=list)
    gallery: Gallery = field(default_factory=Gallery)

    def as_dict(self) -> dict[str, Any]:
        """Nested plain values."""
        return {"scale": self.scale, "models": self.models, "images": [vars(each) for each in self.found]}

    def page(self, title: str) -> str:
        """The page as text."""
        kinds = _kinds(self.models)
        items = [
            {
                "name": name,
                **vars(figure),
                "found": [each for each in self.found if each.image == name],
            }
            for (_, name), figure in self.gallery.figures.items()
        ]
        shown = {picture.kind for item in items for picture in item["pictures"]}
        names = {INPUT: "Input", **{kind: name for name, kind in kinds.items()}, REFERENCE: "Reference"}
        return fill_page(
            "restore.evaluation.comparing",
            "comparison.html",
            title=title,
            facts=[f"{len(self.models)} models", f"×{self.scale}" if self.scale > 1 else "same size"],
            items=items,
            names={kind: name for kind, name in names.items() if kind in shown},
            models=self.models,
            num_hidden=len({each.image for each in self.found}) - len(items),
        )


def compare(
    images: Sequence[Path],
    restorers: Mapping[str, Restorer],
    references: Sequence[Path] = (),
    *,
    on_progress: Callable[[str, int], None] = lambda name, number: None,
) -> Comparison:
    """Restore every image with every model.

    Args:
        images: the files.
        restorers: the models by name.
        references: what each image should become; none, or one for each.
        on_progress: called with what is being done and how much is done before it.

    Raises:
        ImageError: an image or a reference cannot be read, or a reference has another size than the results.
    """
    scale = max(restorer.scale for restorer in restorers.values())
    models = {
        name: {"scale": each.scale, "parameters": count_parameters(each.network)} for name, each in restorers.items()
    }
    comparison = Comparison(scale, models)
    enlarging = {name: _enlarging(restorer, scale) for name, restorer in restorers.items()}
    names = _names(images)
    for number, path in enumerate(images):
        pixels = read_image(path).pixels
        height, width = pixels.shape[:2]
        size = height * scale, width * scale
        reference = _reference(references[number], size) if references else None
        pictures = {INPUT: convert_depth(resize_pixels(pixels, size=size) if scale > 1 else pixels, np.uint8)}
        for done, (model, found, restored) in enumerate(_restored(names[number], pixels, reference, enlarging)):
            comparison.found.append(found)
            if restored is not None:
                pictures[_kinds(models)[model]] = convert_depth(restored, np.uint8)
            on_progress(names[number], number * len(models) + done + 1)
        if reference is not None:
            pictures[REFERENCE] = convert_depth(reference, np.uint8)
        comparison.gallery.add("", names[number], pictures)
    return comparison


def _restored(
    name: str, pixels: np.ndarray, reference: np.ndarray | None, restorers: Mapping[str, Restorer]
) -> Iterator[tuple[str, Compared, np.ndarray | None]]:
    for model, restorer in restorers.items():
        started = time.perf_counter()
        try:
            restored = restorer(pixels)
        except RestoreError as error:
            yield model, Compared(name, model, error=str(error)), None
            continue
        seconds = time.perf_counter() - started
        figures = {} if reference is None else {"psnr": psnr(restored, reference), "ssim": ssim(restored, reference)}
        yield model, Compared(name, model, seconds, **figures), restored  # type: ignore[arg-type]


def _reference(path: Path, size: tuple[int, int]) -> np.ndarray:
    pixels = read_image(path).pixels
    if pixels.shape[:2] != size:
        height, width = pixels.shape[:2]
        raise ImageError(f"the reference '{path}' is {width}x{height}, and the results are {size[1]}x{size[0]}.")
    return pixels


def _enlarging(restorer: Restorer, scale: int) -> Restorer:
    """The same restorer, with results `scale` times as large as the input."""
    other = copy.copy(restorer)
    other.sizing = sizing_of(float(scale))
    return other


def _kinds(models: Mapping[str, Any]) -> dict[str, str]:
    """What the page calls the pictures of each model; that of the first is shown where no script runs."""
    return {name: FIRST if number == 0 else f"model{number}" for number, name in enumerate(models)}


def _names(images: Sequence[Path]) -> list[str]:
    """Names of files, with their folders where two are called alike."""
    names = [path.name for path in images]
    return [str(path) if names.count(path.name) > 1 else path.name for path in images]

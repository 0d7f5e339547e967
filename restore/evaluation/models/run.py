"""Run a model over datasets and measure it, with the baseline beside it.

The loop keeps what it has: when it is interrupted, or an image turns out to be broken, the images restored so far stay
and the records say how far it came.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from restore.data.pairs import Pair
from restore.data.storage.databases import stored_image, stored_size
from restore.data.storage.sources import channels_of
from restore.errors import DataError, ImageError, RestoreError
from restore.evaluation.environment import environment
from restore.evaluation.gauges import Gauge
from restore.evaluation.measures import Measures
from restore.evaluation.models.folder import ResultsFolder
from restore.evaluation.models.report import render
from restore.evaluation.models.results import DatasetResult, ImageResult, Results
from restore.files import expanded
from restore.images import convert_depth, resize, to_pixels, to_tensor, write_image
from restore.inference import Restorer
from restore.locks import reserved
from restore.metrics import BoundMetric
from restore.reports.format import counted_images
from restore.reports.pictures import Gallery
from restore.terminal import open_console

__all__ = ["TestSet", "evaluate"]

WARM_UP_PX = 96
logger = logging.getLogger(__name__)


class TestSet(Protocol):
    """What an evaluation needs of a dataset.

    Attributes:
        name: what it is called in the results.
        pairs: its files. Where one has no input, the dataset's `degraded(reference, index)` makes it from the pixels
            of the reference.
        color: channels to evaluate in, such as `y`; None for those that the network takes.
    """

    __test__ = False  # not a test case, whatever its name

    name: str
    pairs: Sequence[Pair]
    color: str | None


def evaluate(
    restorer: Restorer,
    datasets: Sequence[TestSet],
    metrics: Mapping[str, BoundMetric],
    *,
    name: str,
    results_root: str | Path = "results",
    save_images: bool = True,
    suffix: str | None = None,
    options: str = "",
    progress: bool = False,
) -> Results:
    """Restore every image of every dataset, measure it and write `results_root/name`.

    Inputs that a dataset makes may be floats beyond [0, 1], as the noisy ones of published figures are; those of files
    may not. What is measured and written has the depth of the reference: results and the baseline are clamped and
    rounded to it. Precision "auto" is float32.

    Args:
        restorer: the model.
        datasets: what to restore.
        metrics: what to measure, by label (see `restore.metrics.bind_metrics`).
        name: name of the run; an existing folder of that name is archived.
        results_root: folder of all results.
        save_images: write the restored images.
        suffix: ending of their file names; by default the name of the run.
        options: text of the resolved options, written beside the results.
        progress: show a progress bar on a terminal.

    Raises:
        DataError: a reference and its input do not belong together by their sizes.
        ImageError: an image cannot be read; what was restored before is kept.
        OutputError: something cannot be written.
    """
    restorer, measures = restorer.measuring(), Measures(metrics)
    for dataset in datasets:
        _check_sizes(dataset, restorer.scale)
    for dataset in datasets:
        _rehearse(measures, dataset, _color(dataset, restorer))
    with reserved(expanded(results_root) / name):
        folder = ResultsFolder(results_root, name)
        results = Results(
            name=name,
            scale=restorer.scale,
            baseline="bicubic" if restorer.scale > 1 else "input",
            metrics=measures.records,
            environment=environment(restorer),
        )
        gallery = Gallery()
        run = _Run(restorer, measures, folder, gallery, save_images, suffix, progress)
        with folder.log():
            try:
                for dataset in datasets:
                    results.datasets.append(
                        DatasetResult(dataset.name, len(dataset.pairs), any(pair.gt for pair in dataset.pairs))
                    )
                    run.dataset(dataset, results.datasets[-1])
                results.complete = True
            except BaseException as error:
                results.stopped_by = _reason(error)
                raise
            finally:
                _write(folder, results, gallery, options)
                if not results.complete:
                    done = sum(len(dataset.images) for dataset in results.datasets)
                    logger.info("%d images are done, in '%s'", done, folder.path)
        return results


class _Run:
    """The state that the images of one evaluation share."""

    def __init__(
        self,
        restorer: Restorer,
        measures: Measures,
        folder: ResultsFolder,
        gallery: Gallery,
        save_images: bool,
        suffix: str | None,
        progress: bool,
    ):
        self.restorer = restorer
        self.measures = measures
        self.folder = folder
        self.gallery = gallery
        self.save_images = save_images
        self.suffix = suffix
        self.progress = progress

    def dataset(self, dataset: TestSet, result: DatasetResult) -> None:
        """Restore a dataset, adding each image to `result` as soon as it is done."""
        gauge = None
        for index, pair in enumerate(_tracked(dataset.pairs, dataset.name, self.progress)):
            lq, gt = self._read(dataset, index, pair)
            try:
                if gauge is None:
                    self.restorer(lq[:WARM_UP_PX, :WARM_UP_PX])
                    gauge = Gauge(self.restorer.device)
                restored = gauge(self.restorer, lq)
            except ImageError as error:
                raise ImageError(f"dataset '{dataset.name}', image '{pair.name}': {error}") from error
            result.peak_memory_mib = gauge.peak_mib
            result.images.append(self._image(dataset.name, pair.name, lq, restored, gt, gauge.milliseconds))
        logger.info("%s: %s, %.0f ms each", dataset.name, counted_images(len(result.images)), result.milliseconds or 0)

    def _read(self, dataset: TestSet, index: int, pair: Pair) -> tuple[np.ndarray, np.ndarray | None]:
        """Input and reference in the same channels, the reference cropped to what the network will return."""
        scale, color = self.restorer.scale, _color(dataset, self.restorer)
        gt = None if pair.gt is None else _integers(_pixels(pair.gt, color))
        lq = dataset.degraded(gt, index) if pair.lq is None else _pixels(pair.lq, color)
        if gt is None:
            return lq, None
        _require_match(dataset.name, pair.gt, gt.shape, pair.lq or "its input", lq.shape, scale)
        return lq, gt[: lq.shape[0] * scale, : lq.shape[1] * scale]

    def _image(
        self, dataset: str, name: str, lq: np.ndarray, restored: np.ndarray, gt: np.ndarray | None, milliseconds: float
    ) -> ImageResult:
        restored, baseline = (_integers(pixels, gt) for pixels in (restored, _baseline(lq, self.restorer.scale)))
        file = None
        if self.save_images:
            path = self.folder.image(dataset, name, self.suffix)
            write_image(path, restored)
            file = path.relative_to(self.folder.path).as_posix()
        pictures = {"baseline": baseline, "restored": restored, "reference": gt}
        self.gallery.add(dataset, name, {kind: pixels for kind, pixels in pictures.items() if pixels is not None})
        return ImageResult(
            name=name,
            file=file,
            size=restored.shape[:2],
            input_size=lq.shape[:2],
            milliseconds=milliseconds,
            restored=self.measures(restored, gt),
            baseline=self.measures(baseline, gt),
        )


def _color(dataset: TestSet, restorer: Restorer) -> str:
    """The channels to restore and to measure: the dataset's, or those that the network takes."""
    return dataset.color or ("grey" if restorer.spec.in_channels == 1 else "rgb")


def _pixels(path: Path, color: str) -> np.ndarray:
    """The pixels of a file as grey (H, W) or RGB, in its depth; alpha is dropped, as the metrics know none."""
    image = stored_image(path)
    if image.has_alpha:
        logger.warning("%s: its alpha channel is left out of the evaluation", path)
    pixels = channels_of(image.pixels, color)
    if pixels.dtype != image.pixels.dtype:  # luma, which published evaluations round
        pixels = convert_depth(pixels, image.pixels.dtype)
    return np.ascontiguousarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _integers(pixels: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
    """Float pixels in the depth of `like`, by default 16 bits; others as they are."""
    if pixels.dtype != np.float32:
        return pixels
    return convert_depth(pixels, np.uint16 if like is None else like.dtype)


def _baseline(lq: np.ndarray, scale: int) -> np.ndarray:
    """The baseline: bicubic upsampling, or the unchanged input at scale 1."""
    return lq if scale == 1 else to_pixels(resize(to_tensor(lq), scale=scale), lq.dtype)


def _rehearse(measures: Measures, dataset: TestSet, color: str) -> None:
    """Measure a reference against itself: what a metric cannot do, it says before older results are moved away."""
    reference = next((pair.gt for pair in dataset.pairs if pair.gt is not None), None)
    if reference is not None:
        pixels = _integers(_pixels(reference, color))
        measures(pixels, pixels)


def _check_sizes(dataset: TestSet, scale: int) -> None:
    """Refuse a dataset before anything is run; reads no more than the headers of the files."""
    if not dataset.pairs:
        raise DataError(f"dataset '{dataset.name}': it holds no image.")
    for pair in dataset.pairs:
        if pair.lq is None and not hasattr(dataset, "degraded"):
            raise DataError(f"dataset '{dataset.name}': it has no inputs, and makes none. Give dataroot_lq.")
        if pair.gt is not None and pair.lq is not None:
            _require_match(dataset.name, pair.gt, stored_size(pair.gt), pair.lq, stored_size(pair.lq), scale)


def _require_match(
    dataset: str, gt_path: Path, gt_shape: Sequence[int], lq_path: Path | str, lq_shape: Sequence[int], scale: int
) -> None:
    """The reference may be larger than the result by what a multiple of the scale leaves over, and no more."""
    if not all(0 <= gt - lq * scale < scale for gt, lq in zip(gt_shape[:2], lq_shape[:2], strict=True)):
        raise DataError(
            f"dataset '{dataset}': {gt_path} is {gt_shape[1]}x{gt_shape[0]}, which is not {scale} times "
            f"{lq_path} of {lq_shape[1]}x{lq_shape[0]} (width x height). Check the folders, filename_tmpl and scale."
        )


def _write(folder: ResultsFolder, results: Results, gallery: Gallery, options: str) -> None:
    folder.write("results.json", results.as_json())
    folder.write("metrics.csv", results.as_csv())
    if options:
        folder.write("options.yml", options)
    folder.write("report.html", render(results, gallery.figures, options))


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return str(error) if isinstance(error, RestoreError) else f"{type(error).__name__}: {error}"


def _tracked(pairs: Sequence[Pair], title: str, progress: bool) -> Iterable[Pair]:
    """The pairs, with a progress bar if one is wanted and somebody is watching."""
    if not progress or not sys.stderr.isatty():
        return pairs
    from rich.markup import escape
    from rich.progress import track

    return track(pairs, escape(title), console=open_console(stderr=True), transient=True)

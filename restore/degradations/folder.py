"""Paired folders: every photograph of a folder, degraded one or more times, beside the target it belongs to.

    OUT/gt/NAME.png   OUT/lq/NAME.png   [OUT/parameters/NAME.json]      NAME_c0, NAME_c1 ... for several copies
    OUT/degrade.json                                                   what the folder was made by

The seed of a pair is a hash of the run's seed, the photograph's name and the number of the copy: a pair is the same
whatever stands beside it, however many processes work and however often the work was interrupted.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import multiprocessing
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import torch

from restore.degradations.recipe.draw import sample_seed
from restore.degradations.recipe.pipeline import Pipeline, load_pipeline
from restore.errors import DataError, ImageError, OptionsError, OutputError
from restore.files import atomic_write, encoded, real_path
from restore.images import Image, read_image, to_pixels, to_tensor, write_image
from restore.jobs import Found, find_images, refuse_shared_targets, refuse_to_overwrite
from restore.workers import leave_signals_to_the_main_process

__all__ = ["Job", "Outcome", "Recipe", "claim_folder", "make_pairs", "plan_jobs", "plan_replay"]


@dataclass(frozen=True)
class Recipe:
    """How pairs are made: enough to make them again.

    Attributes:
        pipeline: name of a pipeline, or path of a YAML file.
        variables: values for the pipeline's variables.
        seed: of the whole run.
        copies: low-quality versions of each photograph.
    """

    pipeline: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    copies: int = 1

    def load(self) -> Pipeline:
        """The pipeline."""
        return load_pipeline(self.pipeline, **self.variables)


@dataclass(frozen=True)
class Job:
    """One pair to make.

    Attributes:
        source: the photograph.
        image: its path below the input folder, without ending; names the pair and enters its seed.
        copy: number of the copy.
        gt: file of the target.
        lq: file of the low-quality image.
        parameters: file of the drawn parameters, or None.
        replay: file of parameters to use in place of drawing.
    """

    source: Path
    image: str
    copy: int
    gt: Path
    lq: Path
    parameters: Path | None = None
    replay: Path | None = None

    @property
    def target(self) -> Path:
        """The file that stands for the pair: the last that is written."""
        return self.lq

    @property
    def done(self) -> bool:
        """Whether everything that belongs to the pair is there."""
        return all(path.exists() for path in (self.gt, self.lq, self.parameters) if path)


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `error` says why it failed."""

    job: Job
    error: str | None = None


def plan_jobs(
    source: Path, output: Path, recipe: Recipe, *, recursive: bool = False, save_parameters: bool = False
) -> list[Job]:
    """The pairs of an image or a folder, in order. Pairs that lie in `output` already are no photographs.

    Photographs of one name (`a.jpg` and `a.png`) are refused, not told apart by longer names: the name enters the seed,
    and a pair is the same whatever stands beside it.

    Raises:
        DataError: there are no images.
        OutputError: two of them would have the same name, or results would fall among the photographs.
    """
    images = find_images(source, output, recursive=recursive)
    if real_path(output) == real_path(images[0].root):
        raise OutputError(f"'{output}' holds the photographs: choose another folder for the pairs.")
    jobs = [
        _job(image.path, _name(image), copy, output, f"_c{copy}" if recipe.copies > 1 else "", save_parameters)
        for image in images
        for copy in range(recipe.copies)
    ]
    return _checked(jobs)


def plan_replay(source: Path, output: Path, parameters: Path) -> list[Job]:
    """The pairs of a folder of parameters, to be made again from the same photographs.

    Raises:
        DataError: there are no parameters, or a photograph that they belong to is missing, or is one of two.
        OutputError: results would fall among the photographs.
    """
    root = source if source.is_dir() else source.parent
    files = sorted(parameters.rglob("*.json")) if parameters.is_dir() else [parameters]
    if not files:
        raise DataError(f"'{parameters}' holds no parameters (.json)")
    paths: dict[str, list[Path]] = defaultdict(list)
    for image in find_images(root, output, recursive=True):
        paths[_name(image)].append(image.path)
    jobs = []
    for file in files:
        block = _read_parameters(file)
        found = paths.get(block["image"], [])
        if len(found) != 1:
            names = " and ".join(f"'{path}'" for path in found)
            problem = f"which could be {names}: rename one" if found else f"which is not in '{root}'"
            raise DataError(f"'{file}' belongs to the photograph '{block['image']}', {problem}")
        name = file.relative_to(parameters if parameters.is_dir() else parameters.parent).with_suffix("").as_posix()
        lq, gt = output / "lq" / f"{name}.png", output / "gt" / f"{name}.png"
        jobs.append(Job(found[0], block["image"], block["copy"], gt, lq, replay=file))
    return _checked(jobs)


def claim_folder(output: Path, recipe: Recipe) -> None:
    """Write down what a folder is made by, or check that it is the same as before.

    Raises:
        OptionsError: the folder holds pairs of another recipe, seed or number of copies.
    """
    file, block = output / "degrade.json", json.loads(json.dumps(asdict(recipe)))
    if not file.exists():
        _write_text(file, json.dumps(block, indent=1) + "\n")
        return
    before = json.loads(file.read_text(encoding="utf-8"))
    differences = [
        f"{key} {before.get(key)!r}, now {value!r}" for key, value in block.items() if before.get(key) != value
    ]
    if differences:
        raise OptionsError(
            f"'{output}' holds pairs that were made with {'; '.join(differences)}. Choose another folder, or delete it."
        )


def make_pairs(jobs: Sequence[Job], recipe: Recipe, *, num_workers: int = 1) -> Iterator[Outcome]:
    """Make pairs, in this process or in several; outcomes come as they are done.

    A photograph that cannot be used is one failed outcome; anything that stops all of them is raised.
    """
    if num_workers <= 1:
        pipeline = recipe.load()
        for job in jobs:
            yield _make(job, recipe, pipeline)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(num_workers, context, _start_worker, (recipe,)) as pool:
        waiting = [pool.submit(_make_in_worker, job) for job in jobs]
        try:
            for future in concurrent.futures.as_completed(waiting):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_WORKER: dict[str, Any] = {}


def _start_worker(recipe: Recipe) -> None:
    leave_signals_to_the_main_process()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _WORKER.update(recipe=recipe, pipeline=recipe.load())


def _make_in_worker(job: Job) -> Outcome:
    return _make(job, _WORKER["recipe"], _WORKER["pipeline"])


def _make(job: Job, recipe: Recipe, pipeline: Pipeline) -> Outcome:
    try:
        image = read_image(job.source, unit=True)
        if job.replay:
            block = _read_parameters(job.replay)
            pipeline = Recipe(block["recipe"], block["variables"]).load()
            pairs = pipeline.replay(_target(image, pipeline.scale), [block])
        else:
            pairs = pipeline(_target(image, pipeline.scale), [sample_seed(recipe.seed, job.image, job.copy)])
        # the low-quality image is written last: it stands for the whole pair being there
        if job.parameters:
            where = {
                "image": job.image,
                "copy": job.copy,
                "recipe": recipe.pipeline,
                "variables": dict(recipe.variables),
            }
            _write_text(job.parameters, json.dumps({**where, **pairs["parameters"][0]}, indent=1) + "\n")
        _write_target(job, image, pairs["gt"], shared=recipe.copies > 1 and not pairs["parameters"][0]["target"])
        write_image(job.lq, to_pixels(pairs["lq"]))
    except (ImageError, OptionsError) as error:
        return Outcome(job, str(error))
    return Outcome(job)


def _target(image: Image, scale: int) -> torch.Tensor:
    """The photograph, cut at the right and below to a multiple of the scale."""
    if image.pixels.ndim == 3 and image.pixels.shape[2] in (2, 4):
        raise ImageError(f"'{image.path}' has an alpha channel, for which there is no degradation; flatten it first")
    gt_BCHW = to_tensor(image.pixels)
    height, width = gt_BCHW.shape[-2:]
    return gt_BCHW[..., : height // scale * scale, : width // scale * scale]


def _write_target(job: Job, image: Image, gt_BCHW: torch.Tensor, *, shared: bool) -> None:
    """Write the target; copies of one photograph share one file on disks that can do that."""
    first = job.gt.with_name(job.gt.name.replace(f"_c{job.copy}.png", "_c0.png"))
    if shared and job.copy and first.exists():
        with contextlib.suppress(OSError):
            os.link(first, job.gt)
            return
    dtype = image.pixels.dtype if image.pixels.dtype.kind == "u" else "uint16"
    write_image(job.gt, to_pixels(gt_BCHW, dtype))


def _name(image: Found) -> str:
    """What names a photograph's pair and enters its seed."""
    return image.name.with_suffix("").as_posix()


def _job(path: Path, image: str, copy: int, output: Path, suffix: str, save_parameters: bool) -> Job:
    name = f"{image}{suffix}"
    parameters = output / "parameters" / f"{name}.json" if save_parameters else None
    return Job(path, image, copy, output / "gt" / f"{name}.png", output / "lq" / f"{name}.png", parameters)


def _checked(jobs: list[Job]) -> list[Job]:
    """The jobs, none of which writes where another does, or over a photograph."""
    refuse_shared_targets(jobs)
    refuse_to_overwrite((job.source for job in jobs), (path for job in jobs for path in (job.gt, job.lq)))
    return jobs


def _read_parameters(file: Path) -> dict[str, Any]:
    try:
        block = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the parameters '{file}': {error}") from None
    missing = {"image", "copy", "recipe", "variables", "gt_px", "target", "steps"} - set(block)
    if missing:
        raise DataError(f"'{file}' lacks {', '.join(sorted(missing))}: it was not written by --save-parameters")
    return block


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(encoded(text))

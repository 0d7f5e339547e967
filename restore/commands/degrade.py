"""`restore degrade`: low-quality versions of photographs, paired with the originals.

    restore degrade -i photos -o pairs --recipe realesrgan --seed 0 --copies 4 --save-parameters
    restore degrade -i photos -o again --replay pairs/parameters         # the same pixels, from what was drawn
    restore degrade -i photo.png -o sheet.png --preview                  # one photograph under every recipe

Writes OUT/gt, OUT/lq and, if asked, OUT/parameters; files hold 8 bits (targets keep 16). The same command goes on after
an interruption, and makes the same files with any number of processes.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore.bounded_yaml import load_bounded
from restore.commands.arguments import given_path, output_folder, positive
from restore.commands.progress import naming_progress, summarise
from restore.errors import OptionsError
from restore.files import means_file
from restore.locks import reserved
from restore.terminal import open_console

if TYPE_CHECKING:
    from restore.degradations.folder import Job, Outcome, Recipe

__all__ = ["add_arguments", "run"]

JOBS_PER_PROCESS = 16  # a further process takes seconds to start


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("-i", "--input", type=given_path, required=True, help="an image, or a folder of images")
    parser.add_argument("-o", "--output", type=_output, required=True, help="folder of the pairs, a .png for --preview")
    parser.add_argument("--recipe", help="name of a pipeline, such as bicubic or realesrgan, or a .yml file")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a variable, such as scale=2")
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    parser.add_argument("--copies", type=int, default=1, help="low-quality versions of each photograph")
    parser.add_argument("--save-parameters", action="store_true", help="write what was drawn for each pair as JSON")
    parser.add_argument("--replay", type=Path, help="parameters (a file or folder) to use in place of drawing")
    parser.add_argument("--recursive", action="store_true", help="go into sub-folders")
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="photographs that are worked on at once, each in a process; default: by cores and number of photographs",
    )
    parser.add_argument(
        "--preview", action="store_true", help="a contact sheet of the (first) image under every recipe"
    )


def _output(text: str) -> Path:
    return given_path(text) if text.lower().endswith(".png") else output_folder(text)


def run(arguments: argparse.Namespace) -> int:
    """Make the pairs or the contact sheet; 0 when everything is done, 1 when some images failed."""
    from restore.degradations.folder import Recipe, claim_folder, plan_jobs, plan_replay

    variables = _variables(arguments.set)
    if arguments.preview:
        return _preview(arguments, variables)
    if means_file(arguments.output):
        raise OptionsError(f"'{arguments.output}' is the name of a picture, which --preview makes: give a folder.")
    if arguments.copies < 1:
        raise OptionsError(f"--copies is {arguments.copies}: at least 1 is needed.")
    if arguments.replay:
        if arguments.recipe or variables:
            raise OptionsError("--replay takes the recipe from the parameters: leave out --recipe and --set.")
        jobs = plan_replay(arguments.input, arguments.output, arguments.replay)
        with reserved(arguments.output):
            return _make(jobs, Recipe("bicubic"), arguments)
    if not arguments.recipe:
        from restore.degradations import list_pipelines

        raise OptionsError(f"--recipe is missing: one of {', '.join(list_pipelines())}, or a .yml file.")
    recipe = Recipe(arguments.recipe, variables, arguments.seed, arguments.copies)
    recipe.load()  # every mistake in it comes to light before anything is written
    jobs = plan_jobs(
        arguments.input,
        arguments.output,
        recipe,
        recursive=arguments.recursive,
        save_parameters=arguments.save_parameters,
    )
    with reserved(arguments.output):
        claim_folder(arguments.output, recipe)
        return _make(jobs, recipe, arguments)


def _make(jobs: list[Job], recipe: Recipe, arguments: argparse.Namespace) -> int:
    """Make what is missing, with a progress bar and a summary."""
    from restore.degradations.folder import make_pairs

    console = open_console(stderr=True)
    missing = [job for job in jobs if not job.done]
    num_workers = arguments.workers or min(os.cpu_count() or 1, 1 + len(missing) // JOBS_PER_PROCESS)
    outcomes: list[Outcome] = []
    try:
        with naming_progress(len(missing), console=console) as show:
            for outcome in make_pairs(missing, recipe, num_workers=min(num_workers, max(len(missing), 1))):
                outcomes.append(outcome)
                show(outcome.job.image, len(outcomes))
    finally:
        made = f"pairs made in {arguments.output}"
        summarise(console, outcomes, made, len(missing), len(jobs) - len(missing))
    return 1 if any(outcome.error for outcome in outcomes) else 0


def _preview(arguments: argparse.Namespace, variables: dict[str, Any]) -> int:
    from restore.degradations import list_pipelines, load_pipeline
    from restore.degradations.contact_sheet import contact_sheet
    from restore.files import real_path
    from restore.images import read_image, to_tensor, write_image
    from restore.jobs import find_images, refuse_to_overwrite

    if variables and not arguments.recipe:
        raise OptionsError("--preview shows every recipe: name one with --recipe to --set its variables.")
    if arguments.output.suffix.lower() != ".png":
        raise OptionsError(f"--preview writes a PNG: '{arguments.output}' must end in .png.")
    output = arguments.output
    paths = [image.path for image in find_images(arguments.input, recursive=arguments.recursive)]
    path = next((path for path in paths if real_path(path) != real_path(output)), paths[0])  # not an earlier sheet
    refuse_to_overwrite([path], [output])
    pixels = read_image(path, unit=True).pixels
    if pixels.ndim == 2:
        pixels = pixels[..., None].repeat(3, axis=2)
    gt_BCHW = to_tensor(pixels)[:, :3]
    names = [arguments.recipe] if arguments.recipe else list_pipelines()
    pipelines = [load_pipeline(name, **variables) for name in names]
    write_image(output, contact_sheet(gt_BCHW, pipelines, seed=arguments.seed))
    return 0


def _variables(settings: list[str]) -> dict[str, Any]:
    import yaml

    variables = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise OptionsError(f"--set takes NAME=VALUE, such as scale=2; given: '{setting}'.")
        try:
            variables[name.strip()] = load_bounded(value)
        except yaml.YAMLError:
            raise OptionsError(f"--set {name}: '{value}' is not a YAML value.") from None
    return variables

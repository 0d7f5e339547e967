"""`restore models push`: a model card, safetensors and an OpenModelDB entry of a model, and their upload to the hub.

    restore models push net_g_latest.pth --name my_x4 --licence CC-BY-4.0 --data DIV2K -o published
    restore models push net_g_latest.pth --name my_x4 --licence CC-BY-4.0 -o published --upload owner/my_x4

Without --upload nothing leaves this machine: look through the files first. The OpenModelDB entry goes into the folder
`data/models` of a pull request to github.com/OpenModelDB/open-model-database.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from restore.commands.arguments import given, given_path, output_folder
from restore.errors import OptionsError

__all__ = ["add_arguments", "run"]

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, what is said about it, and where it goes."""
    parser.add_argument("model", type=given, help="a model's name, or a weights file")
    parser.add_argument("--name", required=True, help="what it is called: the name of its files")
    parser.add_argument("--licence", "--license", required=True, help="of the weights: Apache-2.0, MIT, CC-BY-4.0 ...")
    parser.add_argument("-o", "--output", type=output_folder, required=True, metavar="DIR", help="folder of the files")
    about = parser.add_argument_group("about the model")
    about.add_argument("--author", default="", help="who made it")
    about.add_argument("--description", default="", help="what it is for")
    about.add_argument("--data", default="", help="what it was trained on")
    about.add_argument(
        "--results", action="append", default=[], type=given_path, metavar="FILE", help="results.json of restore test"
    )
    about.add_argument("--tag", action="append", default=[], help="may be given several times")
    about.add_argument("--half", action="store_true", help="store the weights in half precision")
    hub = parser.add_argument_group("the hub (pip install 'restore-toolkit[hub]', hf auth login)")
    hub.add_argument("--upload", metavar="OWNER/NAME", help="put the files into this repository of Hugging Face")
    hub.add_argument("--private", action="store_true", help="make the repository private")


def run(arguments: argparse.Namespace) -> int:
    """Write the files, and upload them where that is asked for."""
    from restore.zoo.publishing import Publication, upload, write_publication

    if arguments.upload is not None and arguments.upload.count("/") != 1:
        raise OptionsError(f"--upload is '{arguments.upload}': must be OWNER/NAME.")
    if arguments.private and arguments.upload is None:
        raise OptionsError("--private belongs to --upload.")
    about = Publication(
        source=arguments.model,
        name=arguments.name,
        licence=arguments.licence,
        author=arguments.author,
        description=arguments.description,
        data=arguments.data,
        results=arguments.results,
        repository=arguments.upload,
        tags=arguments.tag,
        half=arguments.half,
    )
    folder = Path(arguments.output)
    files = write_publication(about, folder)
    for path in files:
        logger.info("wrote %s", path)
    if arguments.upload:
        logger.info("uploaded to %s", upload(folder, arguments.upload, files, private=arguments.private))
    return 0

"""Dataset cards: a small YAML file that says what a dataset is, where its images come from and who made them.

    datasets/demo.yml            datasets: {test: {name: Demo, type: CardDataset, card: demo}}

A card whose images are carried by an installed package needs no download: they are cropped and written as PNG to the
cache on first use.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path

import pydantic

from restore.data.cache import cache_folder
from restore.data.datasets import DownsampledImageDataset
from restore.errors import DataError, MissingError, OptionsError, Problem, nearest
from restore.registry import DATASETS
from restore.signature import validate

__all__ = ["Card", "CardDataset", "CardImage", "prepare", "read_card"]

_REPOSITORY = Path(__file__).parents[2]


class CardImage(pydantic.BaseModel, extra="forbid"):
    """One image of a card.

    Attributes:
        file: name of the file in the card's folder.
        name: what it is called here; by default its stem.
        credit: who made it.
        licence: under which terms.
    """

    file: str
    name: str = ""
    credit: str = ""
    licence: str = ""

    @property
    def title(self) -> str:
        """`name`, or the stem of the file."""
        return self.name or Path(self.file).stem


class Card(pydantic.BaseModel, extra="forbid"):
    """What a dataset card says.

    Attributes:
        name: the dataset's name.
        description: what it shows and what it is for.
        package: installed package that carries the files.
        folder: folder of the files inside the package.
        crop_multiple: references are cropped, at the bottom and right, to a multiple of this.
        images: the references, in order.
    """

    name: str
    description: str = ""
    package: str
    folder: str = "."
    crop_multiple: int = pydantic.Field(default=1, ge=1)
    images: list[CardImage] = pydantic.Field(min_length=1)


@DATASETS.add()
class CardDataset(DownsampledImageDataset):
    """The dataset of a card: its references, and inputs made from them by bicubic reduction.

    Args:
        card: path of a card, or the name of one in a `datasets` folder.
        name: name of the dataset, for results and messages.
        scale: size of a reference over the size of its input.
    """

    def __init__(self, card: str, *, name: str = "test", scale: int = 1):
        super().__init__(str(prepare(read_card(card))), name=name, scale=scale)


def read_card(card: str | Path) -> Card:
    """Read and check a card.

    Args:
        card: a path, or a name that stands for `datasets/NAME.yml` in the working folder or beside the package.

    Raises:
        DataError: there is no such card.
        OptionsError: the card is not right; every mistake is named.
    """
    import yaml

    path = _find(card)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        line = error.problem_mark.line + 1 if getattr(error, "problem_mark", None) else None
        raise OptionsError([Problem("", f"not YAML: {getattr(error, 'problem', error)}", line, str(path))]) from error
    if not isinstance(values, dict):
        raise OptionsError([Problem("", "a card is a list of `key: value` lines.", file=str(path))])
    problems, checked = validate(Card, values, owner="a dataset card")
    if problems:
        raise OptionsError([Problem(problem.path, problem.message, file=str(path)) for problem in problems])
    return checked


def prepare(card: Card) -> Path:
    """The folder with the card's references as PNG files; made on first use.

    Raises:
        MissingError: the package is not installed, or does not carry a file.
        ImageError: a file cannot be read.
        OutputError: the cache cannot be written.
    """
    from restore.images import read_image, write_image

    sources = {image.title: _carried(card, image) for image in card.images}
    digest = hashlib.sha256(card.model_dump_json().encode())
    for path in sources.values():
        digest.update(path.read_bytes())
    safe_name = re.sub(r"\W+", "_", card.name.lower())
    folder = cache_folder() / "datasets" / f"{safe_name}-{digest.hexdigest()[:12]}"
    for title, path in sources.items():
        target = folder / f"{title}.png"
        if not target.is_file():
            pixels = read_image(path).pixels
            height, width = (side // card.crop_multiple * card.crop_multiple for side in pixels.shape[:2])
            write_image(target, pixels[:height, :width])
    return folder


def _find(card: str | Path) -> Path:
    given = Path(card).expanduser()
    folders = [Path("datasets"), _REPOSITORY / "datasets"]
    for path in [given, *(folder / f"{card}.yml" for folder in folders)]:
        if path.is_file():
            return path
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yml")})
    looked = ", ".join(str(folder.absolute()) for folder in folders)
    raise DataError(
        f"there is no dataset card '{card}': neither a file, nor in {looked}."
        f"{nearest(str(card), known)} Known: {', '.join(known) or 'none'}."
    )


def _carried(card: Card, image: CardImage) -> Path:
    spec = importlib.util.find_spec(card.package)
    if spec is None or spec.origin is None:
        raise MissingError(f"the dataset '{card.name}' needs the package '{card.package}': install it.")
    path = Path(spec.origin).parent / card.folder / image.file
    if not path.is_file():
        raise MissingError(
            f"the dataset '{card.name}': {path} is not there; this version of '{card.package}' does not carry it."
        )
    return path

"""Dataset cards: a small YAML file that says what a dataset is, where its images come from and who made them.

    datasets/demo.yml            datasets: {test: {name: Demo, type: CardDataset, card: demo}}
    datasets/div2k.yml           restore data prepare DIV2K --root ~/data --scales 2 3 4

A card whose images are carried by an installed package needs no download: they are cropped and written as PNG to the
cache on first use. A card of a published dataset lists its parts, which are looked for on disk
(`restore.data.preparation.holdings`) and made ready for training (`restore.data.preparation.steps`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path
from typing import Literal

import pydantic

from restore.bounded_yaml import load_bounded
from restore.data.datasets import DownsampledImageDataset
from restore.data.storage.cache import cache_folder
from restore.errors import DataError, MissingError, OptionsError, Problem, nearest
from restore.files import expanded
from restore.images import read_image, write_image
from restore.packaged import packaged_folder
from restore.registry import DATASETS
from restore.signature import validate

__all__ = ["Card", "CardDataset", "CardImage", "Part", "Role", "list_cards", "plain_name", "prepare", "read_card"]


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


Role = Literal["references", "inputs", "distorted", "other"]
"""What the files of a part are: clean images, their degraded versions, images that people scored, or no images."""


class Part(pydantic.BaseModel, extra="forbid"):
    """Files of a dataset that lie below one folder.

    What the wildcards of `files` stand for is a file's name here, so that `*/*_GT_*.PNG` and `*/*_NOISY_*.PNG` pair up.

    Attributes:
        name: what the part is called, here and in the folders made from it.
        role: what its files are.
        folders: where they are looked for, below the dataset's folder; the first that holds any is taken.
        files: pattern of their paths below that folder; `*` and `?` do not cross a `/`, and upper case is lower case.
        count: how many there are.
        names: all their names; `0001..0800` stands for a row of numbers.
        size_px: the sides of every image, the longer first or not.
        pairs_with: the part of the references, whose names these inputs have.
        optional: not missed when it is not there.
        archive: name of the file that it is published in.
        url: address of that file, if it downloads without a form.
        sha256: its checksum.
    """

    name: str = pydantic.Field(pattern=r"^\w[\w.-]*$")
    role: Role = "references"
    folders: list[str] = pydantic.Field(default_factory=lambda: ["."], min_length=1)
    files: str = "*"
    count: int | None = pydantic.Field(None, ge=1)
    names: list[str] = pydantic.Field(default_factory=list)
    size_px: tuple[int, int] | None = None
    pairs_with: str | None = None
    optional: bool = False
    archive: str | None = None
    url: str | None = pydantic.Field(None, pattern="^(https|file)://")
    sha256: str | None = pydantic.Field(None, pattern="^[0-9a-f]{64}$")

    @property
    def expected_names(self) -> list[str]:
        """`names` with its rows written out."""
        return [name for entry in self.names for name in _row(entry)]

    @property
    def expected_count(self) -> int | None:
        """How many files there should be, if the card says."""
        return len(self.expected_names) or self.count

    @property
    def downloadable(self) -> bool:
        """Whether the card has all that a checked download needs."""
        return bool(self.archive and self.url and self.sha256)


class Card(pydantic.BaseModel, extra="forbid"):
    """What a dataset card says: either about images that a package carries, or about the parts of a dataset on disk.

    Attributes:
        name: the dataset's name.
        task: what it is used for.
        description: what it shows and what it is for.
        source: its download page.
        licence: its terms; `not stated` where its authors say nothing, `see the source` where the card does not know.
        inputs: how the degraded images come about: `bicubic` if they are made from the references, else in words.
        verified: which of these facts were checked, and on what; the others are those of the literature.
        package: installed package that carries the files.
        folder: folder of the files inside the package.
        folders: names that the dataset's folder has in practice, besides the card's.
        crop_multiple: references are cropped, at the bottom and right, to a multiple of this.
        images: the references that the package carries, in order.
        parts: the files of the dataset on disk.
    """

    name: str
    task: str = ""
    description: str = ""
    source: str = ""
    licence: str = "see the source"
    inputs: str = "bicubic"
    verified: str = ""
    package: str | None = None
    folder: str = "."
    folders: list[str] = pydantic.Field(default_factory=list)
    crop_multiple: int = pydantic.Field(default=1, ge=1)
    images: list[CardImage] = pydantic.Field(default_factory=list)
    parts: list[Part] = pydantic.Field(default_factory=list)

    @pydantic.model_validator(mode="after")
    def _one_kind(self) -> Card:
        if bool(self.package and self.images) == bool(self.parts):
            raise ValueError("a card has either `package` and its `images`, or `parts`")
        if self.parts and not self.source:
            raise ValueError("a card with `parts` says in `source` where they are published")
        names = [part.name for part in self.parts]
        for part in self.parts:
            if names.count(part.name) > 1:
                raise ValueError(f"two parts are called '{part.name}'")
            if part.pairs_with and part.pairs_with not in names:
                raise ValueError(f"'{part.name}' pairs with '{part.pairs_with}', which is not part of the card")
        return self

    @property
    def num_images(self) -> int | None:
        """How many images the card counts; None where it does not say for every part."""
        if self.images:
            return len(self.images)
        counts = [part.expected_count for part in self.parts if part.role != "other" and not part.optional]
        return sum(counts) if counts and all(counts) else None


@DATASETS.add()
class CardDataset(DownsampledImageDataset):
    """The dataset of a card: its references, and inputs made from them by bicubic reduction.

    Args:
        card: path of a card, or the name of one in a `datasets` folder.
        name: name of the dataset, for results and messages.
        scale: size of a reference over the size of its input.
        gt_size: side of the reference patches in training.
        use_hflip: mirror at random in training.
        use_rot: flip and transpose at random in training.
    """

    def __init__(
        self,
        card: str,
        *,
        name: str = "test",
        scale: int = 1,
        gt_size: int | None = None,
        use_hflip: bool = False,
        use_rot: bool = False,
    ):
        folder = str(prepare(read_card(card)))
        super().__init__(folder, name=name, scale=scale, gt_size=gt_size, use_hflip=use_hflip, use_rot=use_rot)


def read_card(card: str | Path) -> Card:
    """Read and check a card.

    Args:
        card: a path, or a name that stands for `datasets/NAME.yml` in the working folder or beside the package.

    Raises:
        DataError: there is no such card.
        OptionsError: the card is not right; every mistake is named.
    """
    path = _find(card)
    return _read(path)


def list_cards() -> list[Card]:
    """Every card of the `datasets` folders, by name; one in the working folder hides the package's of that file name.

    Raises:
        OptionsError: a card is not right.
    """
    found = {path.name: path for folder in reversed(_folders()) for path in folder.glob("*.yml")}
    return sorted(map(_read, found.values()), key=lambda card: card.name.lower())


def _read(path: Path) -> Card:
    import yaml

    try:
        values = load_bounded(path.read_text(encoding="utf-8"))
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
        DataError: the card's images are carried by no package.
        MissingError: the package is not installed, or does not carry a file.
        ImageError: a file cannot be read.
        OutputError: the cache cannot be written.
    """
    if card.package is None:
        raise DataError(
            f"no package carries the dataset '{card.name}'. Get it from {card.source}, run `restore data prepare "
            f"{card.name} --root DIR`, and name its folder as dataroot_gt of a PairedImageDataset or "
            "DownsampledImageDataset."
        )
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


def _folders() -> list[Path]:
    return [Path("datasets"), packaged_folder("datasets")]


def _find(card: str | Path) -> Path:
    given = expanded(card)
    if given.is_file():
        return given
    by_name = {plain_name(path.stem): path for folder in reversed(_folders()) for path in folder.glob("*.yml")}
    if found := by_name.get(plain_name(str(card))):
        return found
    known = sorted(path.stem for path in by_name.values())
    looked = ", ".join(str(folder.absolute()) for folder in _folders())
    raise DataError(
        f"there is no dataset card '{card}': neither a file, nor in {looked}."
        f"{nearest(str(card), known)} Known: {', '.join(known) or 'none'}."
    )


def plain_name(name: str) -> str:
    """`name` without what people write differently: KADID-10k and kadid10k."""
    return re.sub(r"[\W_]", "", name.lower())


def _row(entry: str) -> list[str]:
    first, dots, last = entry.partition("..")
    if not dots:
        return [entry]
    return [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]


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

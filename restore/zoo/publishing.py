"""A model ready to be published: weights for every program, a model card, and an entry for OpenModelDB."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from restore.errors import DataError, MissingError, OptionsError, OutputError
from restore.files import atomic_write, sha256_of
from restore.zoo.load import load_network
from restore.zoo.portable import architecture_of, write_portable

__all__ = ["Publication", "upload", "write_publication"]

OPENMODELDB = {"RRDBNet": "esrgan", "ESRGAN": "esrgan", "SRVGGNetCompact": "compact"}
"""What OpenModelDB calls architectures that it does not call as we do, in lower case."""

README = "README.md"


@dataclass(frozen=True)
class Publication:
    """What is said about a model that is published.

    Attributes:
        source: its name, or its weights file.
        name: what it is called.
        licence: of the weights, as an SPDX expression: Apache-2.0, CC-BY-4.0.
        author: who made it.
        description: what it is for.
        data: what it was trained on.
        results: files that `restore test` or `restore score` wrote (results.json, scores.json).
        repository: OWNER/NAME on the hub, where it goes there.
        tags: of the hub and of OpenModelDB.
        half: store the weights in half precision.
    """

    source: str | Path
    name: str
    licence: str
    author: str = ""
    description: str = ""
    data: str = ""
    results: Sequence[Path] = field(default_factory=tuple)
    repository: str | None = None
    tags: Sequence[str] = field(default_factory=tuple)
    half: bool = False


def write_publication(about: Publication, folder: Path) -> list[Path]:
    """Write NAME.safetensors, README.md and the entry of OpenModelDB, NAME.json; the files.

    Raises:
        OptionsError: the name cannot be that of a file.
        CheckpointError: the model cannot be read.
        DataError: a file of results is none.
        OutputError: the folder cannot be written.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]{0,99}", about.name, re.ASCII):
        raise OptionsError(f"'{about.name}' is no name of a file: letters, digits and . _ + - are allowed.")
    figures = [row for path in about.results for row in _figures(path)]
    network = load_network(about.source)
    facts = {"architecture": architecture_of(network), "scale": network.spec.scale}
    weights = folder / f"{about.name}.safetensors"
    dtype = torch.float16 if about.half else torch.float32
    write_portable(about.source, weights, dtype=dtype, metadata={"name": about.name, "licence": about.licence})
    channels = {"inputChannels": network.spec.in_channels, "outputChannels": network.spec.out_channels}
    entry = folder / f"{_id(about.name, network.spec.scale)}.json"
    texts = {
        folder / README: _card(about, {**facts, **channels}, figures),
        entry: json.dumps(_entry(about, {**facts, **channels}, weights), indent=4, ensure_ascii=False) + "\n",
    }
    for path, text in texts.items():
        with atomic_write(path) as file:
            file.write(text.encode())
    return [weights, *texts]


def upload(folder: Path, repository: str, files: Sequence[Path], *, private: bool = False) -> str:
    """Put the files into a repository of the hub, which is made if it is not there; its address.

    Whoever is logged in there (`hf auth login`, or HF_TOKEN) does it; HF_ENDPOINT names another hub.

    Raises:
        MissingError: huggingface_hub is not installed.
        OutputError: the hub does not take them.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise MissingError("uploading needs huggingface_hub: pip install 'restore-toolkit[hub]'.") from None
    import os

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
    try:
        made = api.create_repo(repository, exist_ok=True, private=private)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=[path.name for path in files],
            commit_message="Weights, model card and OpenModelDB entry, by restore",
        )
    except Exception as error:  # its own errors, and those of whichever HTTP library it uses
        reason = " ".join(str(error).split())[:300]
        raise OutputError(f"the hub did not take {repository}: {reason} Are you logged in (hf auth login)?") from None
    return str(made)


def _figures(path: Path) -> list[tuple[str, str, float, float | None]]:
    """Rows of a table: dataset, metric, value, and that of the baseline."""
    try:
        found = json.loads(path.read_text("utf-8"))
        if isinstance(found.get("datasets"), dict):
            return [
                (dataset, label, values["restored"], values.get("baseline"))
                for dataset, of_dataset in found["datasets"].items()
                for label, values in of_dataset["mean"].items()
                if isinstance(values.get("restored"), (int, float))
            ]
        return [
            (str(found["name"]), label, summary["mean"], None)
            for label, summary in found["summary"].items()
            if isinstance(summary.get("mean"), (int, float))
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"'{path}' is no results.json of `restore test` and no scores.json: {error}.") from None


def _card(about: Publication, facts: Mapping[str, Any], figures: Sequence[tuple[str, str, float, float | None]]) -> str:
    import yaml

    task = "super-resolution" if facts["scale"] > 1 else "image-restoration"
    header = {
        "license": about.licence.lower(),
        "library_name": "restore-toolkit",
        "pipeline_tag": "image-to-image",
        "tags": list(dict.fromkeys([task, facts["architecture"].lower(), *about.tags])),
    }
    known = {
        "architecture": facts["architecture"],
        "scale": facts["scale"],
        "channels": f"{facts['inputChannels']} in, {facts['outputChannels']} out",
        "author": about.author,
    }
    where = f"hf:{about.repository}" if about.repository else f"{about.name}.safetensors"
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---\n\n# {about.name}\n",
        about.description or f"A network of the architecture {facts['architecture']}.",
        "".join(f"\n- {name}: {fact}" for name, fact in known.items() if fact) + "\n",
        f"## Data\n\n{about.data or 'Not stated.'}\n",
        f"## Figures\n\n{_table(figures) or 'None were measured.'}\n",
        f"## Licence\n\n{about.licence}\n",
        f"## Use\n\n```bash\npip install restore-toolkit\nrestore run -m {where} -i photos -o restored\n```\n\n"
        "The file opens in chaiNNer and ComfyUI where their reader, spandrel, knows the architecture.\n",
    ]
    return "\n".join(parts)


def _table(figures: Sequence[tuple[str, str, float, float | None]]) -> str:
    from restore.terminal import markdown_cell

    if not figures:
        return ""
    rows = ["| dataset | metric | value | before |", "|---|---|---|---|"]
    for dataset, metric, value, before in figures:
        shown = "" if before is None else f"{before:.4g}" if isinstance(before, float) else str(before)
        rows.append(f"| {markdown_cell(dataset)} | {markdown_cell(metric)} | {value:.4f} | {shown} |")
    return "\n".join(rows)


def _entry(about: Publication, facts: Mapping[str, Any], weights: Path) -> dict[str, Any]:
    """What OpenModelDB keeps of a model (`src/lib/schema.ts` of its repository)."""
    urls = [f"https://huggingface.co/{about.repository}/resolve/main/{weights.name}"] if about.repository else []
    architecture = facts["architecture"]
    return {
        "name": about.name,
        "author": re.sub(r"[^a-z0-9]+", "-", about.author.lower()).strip("-"),
        "license": about.licence,
        "tags": list(about.tags),
        "description": about.description,
        "date": datetime.date.today().isoformat(),
        "architecture": OPENMODELDB.get(architecture, architecture.lower()),
        "size": None,
        "scale": facts["scale"],
        "inputChannels": facts["inputChannels"],
        "outputChannels": facts["outputChannels"],
        **({"dataset": about.data} if about.data else {}),
        "resources": [
            {
                "platform": "pytorch",
                "type": "safetensors",
                "size": weights.stat().st_size,
                "sha256": sha256_of(weights),
                "urls": urls,
            }
        ],
        "images": [],
    }


def _id(name: str, scale: int) -> str:
    """What OpenModelDB calls a model: its scale, and its name in letters, digits and hyphens."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
    return plain if re.match(r"\d+x-", plain) else f"{scale}x-{plain}"

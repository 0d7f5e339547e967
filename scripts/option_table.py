"""Prints which option files of a folder load, and of the others what is refused: one row for each message.

    python scripts/option_table.py ~/HAT/options            # each file: it loads, or what must be written instead
    python scripts/option_table.py ~/forks --by-message     # each message once, with the number of its files
    python scripts/option_table.py ~/HAT/options --train    # what loads is built, and trained for three iterations
    python scripts/option_table.py ~/forks --train --count # a row for each folder: files, what loads, what trains

Files that another repository wrote for BasicSR's schema show what its users meet here. With --train, their datasets are
a few patches of noise, their validation is left out, and of each kind of network and objective the first file alone is
trained, on the processor, with at most two blocks in each stage; nothing else of it is changed. With --count, files of
a kind that trains count as training, and what is refused counts once, with its first mistake.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import logging
import os
import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from restore.errors import OptionsError, RestoreError
from restore.options import load
from restore.terminal import markdown_cell

LOADS = "loads"
TRAINS = "loads, builds, trains"
AS_ANOTHER = f"{TRAINS}, as another of its kind does"
PATCH_PX = 16  # of the degraded image
_BLOCKS = re.compile(r"depths?|.*blocks?|.*blk_nums?|n_feats_blocks")


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--by-message", action="store_true", help="one row for each message, the most frequent first")
    parser.add_argument("--train", action="store_true", help="build and train the network of each training file")
    parser.add_argument("--count", action="store_true", help="one row for each folder, with numbers of files")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    files = sorted(path for path in arguments.folder.rglob("*") if path.suffix in (".yml", ".yaml"))
    rows = [(path.relative_to(arguments.folder), message) for path in files for message in messages(path)]
    if arguments.train:
        rows = trained(arguments.folder, rows)
    if arguments.count:
        _print("folder | files | load | train | refused", counted(rows))
    elif arguments.by_message:
        found: defaultdict[str, list[Path]] = defaultdict(list)
        for path, message in rows:
            found[message].append(path)
        table = [(str(len(paths)), message, str(paths[0])) for message, paths in found.items()]
        _print("files | message | the first", sorted(table, key=lambda row: -int(row[0])))
    else:
        _print("file | loads, or is refused with", [(str(path), message) for path, message in rows])
    loading = sum(message == LOADS or message.startswith(TRAINS) for _, message in rows)
    sys.stderr.write(f"{loading} of {len(files)} files load\n")


def messages(path: Path) -> list[str]:
    """What reading a file comes to: that it loads, or every mistake without its line."""
    try:
        with contextlib.redirect_stderr(None):
            load(path)
    except OptionsError as error:
        return [re.sub(r"\s+", " ", f"{problem.path}: {problem.message}") for problem in error.problems]
    except RestoreError as error:
        return [str(error)]
    return [LOADS]


def trained(folder: Path, rows: list[tuple[Path, str]]) -> list[tuple[Path, str]]:
    """The rows, where the first training of each kind of network and objective says what became of it."""
    seen: dict[tuple[Any, ...], str] = {}
    found = []
    for path, message in rows:
        if message == LOADS:
            with contextlib.redirect_stderr(None):
                values = load(folder / path).resolved()  # in our words, whatever the file's are
            kind = (_folder(path), values.get("model_type"), str((values.get("network_g") or {}).get("type")))
            if "train" in (values.get("datasets") or {}) and "train" in values:
                if kind not in seen:
                    message = seen[kind] = training(values)
                elif seen[kind].startswith(TRAINS):
                    message = AS_ANOTHER
        found.append((path, message))
    return found


def _folder(path: Path) -> str:
    """The first folder on the way to a file; `.` for one that lies beside it."""
    return path.parts[0] if len(path.parts) > 1 else "."


def counted(rows: list[tuple[Path, str]]) -> list[tuple[str, ...]]:
    """For each folder: files, those that load, those of a kind that trains, and the first mistakes of the others."""
    folders: dict[str, dict[Path, str]] = {}
    for path, message in rows:
        folders.setdefault(_folder(path), {}).setdefault(path, message)
    table = []
    for name, found in folders.items():
        loading = [message for message in found.values() if message.startswith(LOADS)]
        training = [message for message in loading if message != LOADS]
        refused = Counter(message for message in found.values() if not message.startswith(LOADS))
        why = "; ".join(f"{number}: {message}" for message, number in refused.most_common())
        table.append((name, str(len(found)), str(len(loading)), str(len(training)), why))
    return table


def training(values: dict[str, Any]) -> str:
    """What becomes of three iterations: the losses, or what is refused."""
    import numpy as np

    from restore.assembly.trainings import train
    from restore.images import write_image

    with tempfile.TemporaryDirectory() as name, _inside(name):
        scale = values.get("scale") or 1
        for side, part in ((4 * PATCH_PX, "lq"), (4 * PATCH_PX * scale, "gt")):
            write_image(
                Path(part) / "0.png", np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
            )
        Path("short.yml").write_text(yaml.safe_dump(shortened(values, scale)), encoding="utf-8")
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                train(load(Path("short.yml"), is_train=True))
        except RestoreError as error:
            problems = getattr(error, "problems", None)
            return "; ".join(f"{each.path}: {each.message}" for each in problems) if problems else str(error)
        except Exception as error:  # of a network's own code: this is a row, too
            return f"fails in training: {type(error).__name__}: {error}"
        history = next(Path("experiments").rglob("history.jsonl")).read_text(encoding="utf-8").splitlines()
        rows = [yaml.safe_load(line) for line in history]
        losses = [sum(value for key, value in row.items() if key.startswith("l_")) for row in rows if "lr" in row]
    return f"{TRAINS}: {', '.join(f'{loss:.3f}' for loss in losses)}"


@contextlib.contextmanager
def _inside(folder: str) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def shortened(values: dict[str, Any], scale: int) -> dict[str, Any]:
    """The options of a training that takes seconds."""
    values = copy.deepcopy(values)
    data = values["datasets"]["train"]
    for key in ("meta_info_file", "meta_info", "filename_tmpl", "mini_batch_sizes", "gt_sizes", "iters", "cache"):
        data.pop(key, None)
    data |= {"dataroot_gt": "gt", "io_backend": {"type": "disk"}, "gt_size": PATCH_PX * scale}
    data |= {"batch_size_per_gpu": 2, "num_worker_per_gpu": 0}
    if "dataroot_lq" in data:
        data["dataroot_lq"] = "lq"
    values["datasets"] = {"train": data}
    values.pop("val", None)
    values["num_gpu"] = 0
    values["path"] = {}
    values["network_g"] = {key: _fewer(key, value) for key, value in values["network_g"].items()}
    values["train"] |= {"total_iter": 3, "warmup_iter": -1}
    values["logger"] = {"print_freq": 1, "save_checkpoint_freq": 3, "use_tb_logger": False}
    return values


def _fewer(key: str, value: Any) -> Any:
    """At most two blocks in each stage."""
    if not _BLOCKS.fullmatch(key):
        return value
    return [min(each, 2) for each in value] if isinstance(value, list) else min(value, 2)


def _print(heading: str, rows: list[tuple[str, ...]]) -> None:
    print(f"| {heading} |\n|{'---|' * (heading.count('|') + 1)}")
    for row in rows:
        print(f"| {' | '.join(map(markdown_cell, row))} |")


if __name__ == "__main__":
    main()

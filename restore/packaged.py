"""Files that come with the package: option files and dataset cards.

In a checkout they are the folders `options` and `datasets` at its top; an installed package carries copies of them.
"""

from __future__ import annotations

from pathlib import Path

from restore.errors import MissingError, nearest

__all__ = ["option_file", "option_files", "packaged_folder"]

_PACKAGE = Path(__file__).parent


def packaged_folder(name: str) -> Path:
    """The folder `options` or `datasets` that came with this version of the code.

    Raises:
        MissingError: the installation is incomplete.
    """
    for folder in (_PACKAGE / "packaged_files" / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder.resolve()
    raise MissingError(f"this installation lacks its folder '{name}': install the package again.")


def option_files() -> dict[str, Path]:
    """The option files that come with the package, by name: the path below `options` without its suffix."""
    folder = packaged_folder("options")
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yml"))}


def option_file(name: str) -> Path:
    """The option file of this name (`swinir_x4`, `benchmarks/sr_x4`).

    Raises:
        MissingError: there is none; the message names the nearest.
    """
    files = option_files()
    if name not in files:
        raise MissingError(
            f"no option file '{name}' comes with the package.{nearest(name, files)} `restore options list` shows them."
        )
    return files[name]

"""Records of long runs: one JSON file, from which a run that was interrupted goes on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from restore.errors import DataError
from restore.files import atomic_write, encoded
from restore.terminal import plain

__all__ = ["KeptRecord"]

Kept = TypeVar("Kept", bound="KeptRecord")


@dataclass
class KeptRecord:
    """Base of what is known so far.

    Attributes:
        settings: what its figures have in common; those of other settings cannot be compared.
        environment: the machine.
        about: what it is the record of, for messages.
    """

    about: ClassVar[str]

    settings: dict[str, Any]
    environment: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def opened(cls: type[Kept], path: Path, settings: dict[str, Any], environment: dict[str, Any]) -> Kept:
        """The record in this file, to be gone on with, or a new one.

        Raises:
            DataError: it is of other settings, or cannot be read.
        """
        if not path.exists():
            return cls(settings, environment)
        try:
            found = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            message = f"{path}: not the record of a {cls.about} ({error}). Move it away, or choose another folder."
            raise DataError(message) from None
        changed = [key for key in settings if found.settings.get(key, settings[key]) != settings[key]]
        if changed:
            raise DataError(
                f"{path}: a {cls.about} with other settings ({', '.join(changed)}), whose figures cannot be compared "
                "with these. Choose another folder with -o, or the same settings to go on with it."
            )
        found.settings |= settings
        return found

    def save(self, path: Path) -> None:
        """Write the record."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(encoded(json.dumps(plain(vars(self)), indent=1) + "\n"))

"""readme.txt of a submission: four lines that the servers read, the last of which may go on.

    runtime per image [s] : 10.43
    CPU[1] / GPU[0] : 1
    Extra Data [1] / No Extra Data [0] : 1
    Other description : ...

Written in this spelling; read in all that are seen (`CPU [1] / GPU [0]`, `runtime per frame [s]`, `per video`, other
case and spacing).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from restore.errors import DataError

__all__ = ["Readme"]

_RUNTIME = re.compile(r"\s*runtime\s+per\s+(?:image|frame|video|megapixel)\s*(?:\[\s*s\s*\])?\s*:\s*(\S+)\s*", re.I)
_CPU = re.compile(r"\s*cpu\s*\[\s*1\s*\]\s*/\s*gpu\s*\[\s*0\s*\]\s*:\s*(\S+)\s*", re.I)
_EXTRA = re.compile(r"\s*extra\s*data\s*\[\s*1\s*\]\s*/\s*no\s*extra\s*data\s*\[\s*0\s*\]\s*:\s*(\S+)\s*", re.I)
_OTHER = re.compile(r"\s*other\s+description\s*:\s*(.*)", re.I | re.S)
_WANTED = {
    "runtime per image [s] : NUMBER": _RUNTIME,
    "CPU[1] / GPU[0] : 0 or 1": _CPU,
    "Extra Data [1] / No Extra Data [0] : 0 or 1": _EXTRA,
    "Other description : TEXT": _OTHER,
}


@dataclass(frozen=True)
class Readme:
    """What readme.txt says.

    Attributes:
        runtime_s: seconds per image.
        on_cpu: measured on a processor, not on a GPU.
        extra_data: trained on data beyond those of the challenge.
        description: method, dependencies, links, extra data used.
    """

    runtime_s: float
    on_cpu: bool
    extra_data: bool
    description: str

    def __str__(self) -> str:
        return (
            f"runtime per image [s] : {_number(self.runtime_s)}\n"
            f"CPU[1] / GPU[0] : {int(self.on_cpu)}\n"
            f"Extra Data [1] / No Extra Data [0] : {int(self.extra_data)}\n"
            f"Other description : {self.description.strip()}\n"
        )

    @classmethod
    def parse(cls, text: str) -> Readme:
        """Read a readme.txt in any of the spellings that are in use.

        Raises:
            DataError: lines are missing, or hold something else; names all of them.
        """
        lines = text.lstrip("\ufeff").strip().splitlines()
        given = [*(lines + [""] * 3)[:3], "\n".join(lines[3:])]
        found = [pattern.fullmatch(line) for pattern, line in zip(_WANTED.values(), given, strict=False)]
        wrong = [
            f"line {number} should be '{wanted}'"
            for number, (wanted, match) in enumerate(zip(_WANTED, found, strict=True), 1)
            if match is None
        ]
        if wrong:
            raise DataError(f"readme.txt: {'; '.join(wrong)}.")
        runtime, cpu, extra, other = (match[1] for match in found)
        return cls(_seconds(runtime), _flag("CPU / GPU", cpu), _flag("Extra Data", extra), other.strip())


def _number(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds >= 10 else f"{seconds:.4g}"


def _seconds(text: str) -> float:
    try:
        value = float(text.removesuffix("s"))
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise DataError(f"readme.txt: the runtime is '{text}'; expected seconds, such as 10.43.")
    return value


def _flag(name: str, text: str) -> bool:
    if text not in ("0", "1"):
        raise DataError(f"readme.txt: {name} is '{text}'; expected 0 or 1.")
    return text == "1"

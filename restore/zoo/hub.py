"""What the hub answers about a repository; apart, since pydantic takes its time to make these classes."""

from __future__ import annotations

from typing import Any

import pydantic

__all__ = ["File", "Repository"]


class _Large(pydantic.BaseModel):
    sha256: str = pydantic.Field(pattern="^[0-9a-f]{64}$")


class File(pydantic.BaseModel):
    """A file of a repository; `lfs` has its checksum where it is kept apart."""

    rfilename: str
    size: int | None = None
    lfs: _Large | None = None


class Repository(pydantic.BaseModel):
    """A repository at one commit."""

    sha: str = pydantic.Field(pattern=r"^[\w.-]{1,100}$")
    siblings: list[File] = []
    cardData: dict[str, Any] | None = None  # noqa: N815
    tags: list[str] = []

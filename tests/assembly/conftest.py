"""Where none of the data of option files is, and nothing can be downloaded."""

from __future__ import annotations

import pytest


@pytest.fixture
def empty_place(tmp_path, monkeypatch):
    """An empty working directory from which nothing can be downloaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESTORE_WEIGHTS", "http://127.0.0.1:9")
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "cache"))
    return tmp_path

"""What the tests of the compiled library share."""

from __future__ import annotations

import pytest

from restore.layers.compiled import library

BEST = library._library.processor
PROCESSORS = [1] if BEST == 1 else range(2, BEST + 1)


@pytest.fixture(params=PROCESSORS or [0], ids=lambda index: library.PROCESSORS[index])
def every_processor(request, monkeypatch):
    """Each kind of code that this processor can run."""
    if library._library.functions is None:
        pytest.skip(f"nothing is compiled: {library._library.reason}")
    monkeypatch.setattr(library, "_library", library._library._replace(processor=request.param))

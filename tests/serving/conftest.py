"""A tiny network behind a server in this process, and the scripts that walk through it and load it."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A weights file of a tiny network x2."""
    from restore.zoo import build_model

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    block = {"type": "RepConvSR", "num_feat": 4, "num_block": 1, "upscale": 2, "expansion": 1}
    torch.save({"params": build_model(block).state_dict()}, path)
    return path


@pytest.fixture(scope="session")
def script():
    """A function: one of the scripts as a module."""
    sys.path.insert(0, str(SCRIPTS))
    yield importlib.import_module
    sys.path.remove(str(SCRIPTS))


@pytest.fixture
def serving(weights, monkeypatch):
    """A function: a server over the tiny network, as a context; gives its desk and its address."""
    for name in ("fastapi", "uvicorn", "python_multipart"):
        pytest.importorskip(name, reason="the extra serve is not installed")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    from restore.serving import Desk, Limits, list_offers
    from restore.serving.server import Server, listen

    @contextlib.contextmanager
    def start(*, models=(), devices=("cpu",), token=None, hosts=(), **limits):
        desk = Desk(list_offers([str(weights), *models]), devices, Limits(**limits))
        with listen("127.0.0.1", 0) as listening:
            port = listening.getsockname()[1]
            server = Server(desk, token, hosts)
            thread = threading.Thread(target=server.serve_on, args=(listening,), daemon=True)
            thread.start()
            try:
                yield desk, f"http://127.0.0.1:{port}/" + (f"#token={token}" if token else "")
            finally:
                server.stop()
                server.stop()
                thread.join(20)
                assert not thread.is_alive()

    return start

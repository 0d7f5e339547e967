"""Paths shared by the tests; what needs the reference data skips where it is absent."""

from __future__ import annotations

import gc
import os
import signal
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("RESTORE_TEST_DATA", ROOT.parent / "shared"))


def _shared(relative: str) -> Path:
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"the reference data {relative} is not here (set RESTORE_TEST_DATA to its folder)")
    return path


def pytest_sessionstart():
    """No collection of garbage while modules and tests are loaded, all of which stay (see the next).

    A shell starts what runs in the background with SIGINT ignored, and so would every process that a test interrupts.
    """
    gc.disable()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """What is loaded stays to the end: the collector need not look at it each time (a tenth of the suite's time)."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Show names that are not UTF-8 with escapes: reports go from process to process as UTF-8."""
    report = yield
    report.sections = [(name, _encodable(text)) for name, text in report.sections]
    if report.longrepr and (text := str(report.longrepr)) != _encodable(text):
        report.longrepr = _encodable(text)
    return report


def _encodable(text):
    return text.encode("utf-8", "backslashreplace").decode()


@pytest.fixture(scope="session")
def shared():
    """A function: the path of something in the reference data, or a skip that says what is missing."""
    return _shared


@pytest.fixture(scope="session")
def fill(shared):
    """The module that fills networks with the deterministic weights of the fixtures."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("fixture_fill", shared("fixtures/fill.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def run_example():
    """A function that runs the code of CONTRIBUTING.md under the heading "Adding ..."."""

    def run(what: str) -> None:
        _, section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split(f"## Adding {what}\n")
        code = section.partition("```python\n")[2].partition("```")[0]
        exec(compile(code, f"CONTRIBUTING.md, adding {what}", "exec"), {"__name__": "example"})

    return run


@pytest.fixture(scope="session")
def assert_folds():
    """A function: a module with drawn weights and statistics computes the same, in float64, after it was folded."""
    import copy

    import torch

    from restore.layers.folding import fold

    def drawn(module: torch.nn.Module) -> torch.nn.Module:
        generator = torch.Generator().manual_seed(3)
        module = copy.deepcopy(module).double().eval()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.1)
            for each in module.modules():
                if isinstance(each, torch.nn.modules.batchnorm._BatchNorm) and each.running_var is not None:
                    each.running_mean.copy_(torch.randn(each.num_features, generator=generator))
                    each.running_var.copy_(torch.rand(each.num_features, generator=generator) + 0.5)
        return module

    def check(module: torch.nn.Module, *inputs: torch.Tensor) -> torch.nn.Module:
        module = drawn(module)
        folded, inputs = fold(module), [each.double() for each in inputs]
        with torch.no_grad():
            outputs = module(*inputs), folded(*inputs)
        wanted, found = ([output] if isinstance(output, torch.Tensor) else output for output in outputs)
        for one, other in zip(wanted, found, strict=True):
            assert one.isfinite().all()
            torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-10 * one.abs().max().item())
        return folded

    return check


@pytest.fixture
def file_server(monkeypatch):
    """A server on this machine that gives one file under every name; how it behaves are attributes of the fixture."""
    import http.server
    import threading

    class Server(http.server.BaseHTTPRequestHandler):
        content = b""
        limit: int | None = None  # breaks off after so many bytes
        ranges = True
        headers_sent = {}  # noqa: RUF012
        status = 200
        requests: list[str | None] = []  # noqa: RUF012

        def do_GET(self):
            wanted = self.headers.get("Range")
            self.requests.append(wanted)
            tag = self.headers.get("If-Range")
            same = tag is None or tag in self.headers_sent.values()
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges and same else 0
            if start >= len(self.content) or self.status != 200:
                self.send_error(416 if self.status == 200 else self.status)
                return
            body = self.content[start:]
            self.send_response(206 if start else 200)
            for name, value in {"Content-Length": str(len(body)), **self.headers_sent}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: self.limit])

        def log_message(self, *args):
            pass

    Server.requests = []
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        Server.address = f"http://127.0.0.1:{running.server_port}"
        yield Server
        running.shutdown()
        thread.join()


@pytest.fixture
def one_thread():
    """Tiny tensors are faster without threads, and sums are then the same everywhere."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def make_clip():
    """A function that writes a short video with a tone; skips where PyAV is not installed."""
    av = pytest.importorskip("av", reason="video needs PyAV")
    return partial(_make_clip, av)


def _make_clip(av, path, frames=20, size=(48, 64), *, times=None, sound="aac", codec="libx264", **settings):
    """Write `frames` frames that differ from each other; `times` are their pts in units of 1/12800 s, or 25 per second.

    The remaining settings are those of the encoder: pix_fmt, sample_aspect_ratio, color_range, ...
    """
    with av.open(str(path), "w", options={"movflags": "faststart"}) as file:
        video = file.add_stream(codec, rate=25)
        video.height, video.width = size
        video.codec_context.time_base = Fraction(1, 12800)
        for name, value in {"pix_fmt": "yuv420p", **settings}.items():
            setattr(video.codec_context, name, value)
        audio = file.add_stream(sound, rate=48000) if sound else None
        y, x = np.mgrid[: size[0], : size[1]]
        for number in range(frames):
            pixels = np.stack([x * 3 + number * 5, y * 4, x + y + number * 3], -1) % 256
            frame = av.VideoFrame.from_ndarray(pixels.astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = times[number] if times else 512 * number, Fraction(1, 12800)
            file.mux(video.encode(frame))
            if audio:
                wave = np.sin(np.arange(1920 * number, 1920 * (number + 1)) / 20).astype(np.float32)
                tone = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
                tone.sample_rate, tone.pts, tone.time_base = 48000, 1920 * number, Fraction(1, 48000)
                file.mux(audio.encode(tone))
        for stream in file.streams:
            file.mux(stream.encode(None))
    return path


def pytest_collection_modifyitems(config, items):
    """Leave slow tests out unless `-m` asks for them or they are named."""
    if config.option.markexpr or any("::" in argument for argument in config.args):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]

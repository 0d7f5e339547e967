"""Many clients at once on `restore serve`: every request gets its answer, and memory stays flat.

    python scripts/load_serve.py --requests 200 --clients 8 [--model fast_x4]

One request in four is no whole photograph: cut off, damaged, empty, of another kind, or claiming to be enormous. Half
go through the queue (an order, its state, its result), half through `/api/restore`. Prints what was answered and the
server's resident memory along the way; exit code 1 where an answer is not the right one, or memory grows.
"""

from __future__ import annotations

import argparse
import collections
import functools
import http.client
import io
import json
import signal
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent))
from walk_serve import drawn, served, transparent

BROKEN_EACH = 4
GROWTH = 1.05
FAILED = 422


@dataclass
class Outcome:
    """What the clients met: answers by what was sent, wrong ones, and memory (MiB) by answered requests."""

    answers: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)
    memory: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--model", default="fast_x4")
    parser.add_argument("--device", nargs="+", default=["auto"])
    arguments = parser.parse_args()
    with served("-m", arguments.model, "--device", *arguments.device) as (address, process):
        outcome = hammer(address, arguments.requests, arguments.clients, memory_of(process.pid))
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    print(f"{arguments.requests} requests from {arguments.clients} clients in {outcome.seconds:.1f} s")
    for kind, number in sorted(outcome.answers.items()):
        print(f"  {kind}: {number}")
    print("resident memory (MiB): " + ", ".join(f"{mib:.0f} after {number}" for number, mib in outcome.memory))
    print(f"wrong or lost: {len(outcome.wrong) or 'none'}; exit code after SIGTERM: {code}")
    for line in outcome.wrong[:10]:
        print(f"  {line}")
    grows = is_growing(outcome.memory)
    print(f"memory grows: {'yes' if grows else 'no'}")
    return int(bool(outcome.wrong) or grows or code != 0)


def hammer(address: str, requests: int, clients: int, memory: Callable[[], float] | None = None) -> Outcome:
    """Send the requests and look at every answer."""
    outcome, lock = Outcome(), threading.Lock()
    numbers = iter(range(requests))
    cases = broken_files()
    started = time.perf_counter()

    def client() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            is_broken = number % BROKEN_EACH == BROKEN_EACH - 1
            kind, data = cases[number // BROKEN_EACH % len(cases)] if is_broken else whole_file(number)
            try:
                status, words = ordered(address, data) if number % 2 else restored(address, data)
            except Exception as error:
                status, words = 0, f"{type(error).__name__}: {error}"
            right = 400 <= status < 500 if is_broken else status == 200 and words == "whole"
            with lock:
                outcome.answers[f"{kind} -> {status}"] += 1
                if not right:
                    outcome.wrong.append(f"request {number}, {kind}: {status} {words}")
                done = sum(outcome.answers.values())
                if memory and (done % max(requests // 8, 1) == 0 or done == requests):
                    outcome.memory.append((done, memory()))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcome.seconds = time.perf_counter() - started
    answered = sum(outcome.answers.values())
    if answered != requests:
        outcome.wrong.append(f"{requests - answered} requests have no answer")
    return outcome


def is_growing(memory: list[tuple[int, float]]) -> bool:
    """Whether the last quarter takes more than the second one, by more than `GROWTH`."""
    if len(memory) < 8:
        return False
    quarter = len(memory) // 4
    early, late = memory[quarter : 2 * quarter], memory[-quarter:]
    return max(mib for _, mib in late) > GROWTH * max(mib for _, mib in early)


def whole_file(number: int) -> tuple[str, bytes]:
    """A photograph of one of several sizes and kinds."""
    if number % 5 == 0:
        return "transparent PNG", transparent()
    return "JPEG", drawn(48 + 16 * (number % 3), 64 + 16 * (number % 4))


def broken_files() -> list[tuple[str, bytes]]:
    """What is no whole photograph, by kind."""
    whole, png = drawn(48, 64), transparent()
    ruined = bytearray(png)
    ruined[len(png) // 2] ^= 0xFF

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    enormous = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    return [
        ("JPEG that is cut off", whole[: len(whole) // 2]),
        ("PNG that is damaged", bytes(ruined)),
        ("PNG that claims 100,000 x 100,000 px", enormous),
        ("nothing", b""),
        ("text", b"<svg onload='alert(1)'/>" * 40),
        ("PNG header alone", png[:40]),
    ]


def restored(address: str, data: bytes) -> tuple[int, str]:
    """Status and words of `/api/restore`; what comes is looked at."""
    status, _, body = call(address, "POST", "/api/restore", data)
    return (status, looked_at(data, body)) if status == 200 else (status, body.decode())


def ordered(address: str, data: bytes) -> tuple[int, str]:
    """The same by an order in the queue."""
    status, _, body = call(address, "POST", "/api/orders", data)
    if status != 202:
        return status, body.decode()
    where = f"/api/orders/{json.loads(body)['id']}"
    while (order := json.loads(call(address, "GET", where)[2]))["state"] in ("waiting", "running"):
        time.sleep(0.05)
    if order["state"] == "failed":
        return FAILED, order["error"]
    status, _, body = call(address, "GET", f"{where}/result")
    if status != 200:
        return status, f"{order}, {body.decode()}"
    if call(address, "GET", where)[0] != 404:
        return 0, "the order is still there after its result was fetched"
    return status, looked_at(data, body)


def looked_at(sent: bytes, body: bytes) -> str:
    """`whole` where the answer is the whole result of what was sent."""
    from PIL import Image

    before, after = Image.open(io.BytesIO(sent)), Image.open(io.BytesIO(body))
    after.load()
    scale = after.width // before.width
    whole = after.size == (scale * before.width, scale * before.height) and after.mode == before.mode
    return "whole" if whole else f"{after.mode} of {after.size} for {before.mode} of {before.size}"


def call(address: str, method: str, path: str, image: bytes | None = None, **fields: str) -> tuple[int, dict, bytes]:
    """One request: status, headers and body of its answer."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)
    headers, body = {"X-Restore": "1"}, None
    if parts.fragment:
        headers["Authorization"] = f"Bearer {parts.fragment.removeprefix('token=')}"
    if image is not None:
        fields = fields or {"model": first_model(address)}
        lines = [
            f'--b\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()
        ]
        head = "".join(lines) + '--b\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n\r\n'
        body = head.encode() + image + b"\r\n--b--\r\n"
        headers["Content-Type"] = "multipart/form-data; boundary=b"
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


@functools.cache
def first_model(address: str) -> str:
    """The name of a model that the server offers."""
    return json.loads(call(address, "GET", "/api/models")[2])["models"][0]["name"]


def memory_of(process: int) -> Callable[[], float] | None:
    """A function that gives the resident memory of a process in MiB, where the system tells it."""
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        return None
    return lambda: int(status.read_text().partition("VmRSS:")[2].split()[0]) / 1024


if __name__ == "__main__":
    sys.exit(main())

"""`restore serve`: a page to drop photographs on, and the same for other programs over HTTP.

    restore serve                                    every model that is on this machine, at http://127.0.0.1:8421
    restore serve -m swinir_light_x4 -m my_net.pth   these, and no others
    restore serve --host 0.0.0.0                     for other machines: with a token, which is printed

Photographs and results stay in memory and are forgotten when they have been fetched. SIGTERM or Ctrl-C finishes what is
being done; once more, and it is given up (exit code 130). `RESTORE_TOKEN` sets the token.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import secrets
from typing import TYPE_CHECKING

from restore.commands.arguments import add_threads, given, positive, tile, use_threads
from restore.errors import MissingError, OptionsError

if TYPE_CHECKING:
    from restore.serving import Limits

__all__ = ["add_arguments", "run"]

PORT = 8421
NEEDED = {"fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}
SHORTEST_TOKEN = 16
INTERRUPTED = 130
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "-m",
        "--model",
        action="append",
        type=given,
        help="a model or weights file to offer; may be given several times. Default: all whose weights are here",
    )
    where = parser.add_argument_group("where")
    where.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for other machines")
    where.add_argument("--port", type=int, default=PORT, help="port to listen on; 0 finds a free one")
    where.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a name by which browsers call this server"
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-mib", type=positive, default=32, help="of one upload")
    limits.add_argument("--max-megapixels", type=positive, default=200, help="of one result")
    limits.add_argument("--max-orders", type=positive, default=16, help="photographs that are here at once")
    limits.add_argument("--max-wait", type=positive, default=300, help="seconds in the queue")
    running = parser.add_argument_group("running the network")
    running.add_argument(
        "--device",
        nargs="+",
        help="one worker for each: cuda:0 cuda:1, cpu; default: every CUDA device, or what there is",
    )
    running.add_argument(
        "--engine", choices=("torch", "onnxruntime", "openvino"), default="torch", help="what runs the networks"
    )
    add_threads(running)
    running.add_argument("--precision", default="auto", help="auto, fp32, bf16 or fp16")
    running.add_argument("--tile", type=tile, default="auto", help="largest tile side in px; none; auto: by memory")


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes; returns the exit code."""
    missing = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingError(f"{', '.join(missing)} not installed: pip install 'restore-toolkit[serve]'")
    if not 0 <= arguments.port <= 65535:
        raise OptionsError(f"--port is {arguments.port}: must be 0 to 65535.")
    from restore.serving import Desk, list_offers
    from restore.serving.guard import is_loopback
    from restore.serving.server import Server, listen

    use_threads(arguments)
    token = _token(is_loopback(arguments.host))
    offers = list_offers(arguments.model or ())
    runtime = {"precision": arguments.precision, "tile": arguments.tile, "engine": arguments.engine}
    devices = _devices(arguments.device or ["auto"])
    desk = Desk(offers, devices, _limits(arguments), runtime)
    names = [*arguments.allow_host, *([] if arguments.host in ("0.0.0.0", "::", "") else [arguments.host])]
    with listen(arguments.host, arguments.port) as listening:
        host, port = listening.getsockname()[:2]
        where = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        logger.info("%d models on %s: %s%s", len(offers), ", ".join(devices), where, f"#token={token}" if token else "")
        Server(desk, token, names).serve_on(listening)
    if desk.has_ended():
        logger.info("stopped")
        return 0
    logger.info("stopped: what was being done is given up")
    logging.shutdown()
    os._exit(INTERRUPTED)  # Python does not end well over a thread that is inside a network


def _token(stays_here: bool) -> str | None:
    """What requests have to show; None where only this machine can ask and nobody set one."""
    token = os.environ.get("RESTORE_TOKEN")
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise OptionsError(f"RESTORE_TOKEN must have at least {SHORTEST_TOKEN} printable ASCII characters.")
    return token or (None if stays_here else secrets.token_urlsafe(24))


def _limits(arguments: argparse.Namespace) -> Limits:
    from restore.serving import Limits

    return Limits(
        upload_bytes=arguments.max_mib << 20,
        result_pixels=arguments.max_megapixels * 1_000_000,
        orders=arguments.max_orders,
        wait_s=arguments.max_wait,
    )


def _devices(names: list[str]) -> list[str]:
    import torch

    from restore.inference.precision import resolve_device

    if names == ["auto"] and torch.cuda.device_count() > 1:
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [str(resolve_device(name)) for name in names]

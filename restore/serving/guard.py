"""Who may ask what: the host, the origin and the token of every request are looked at before anything else is.

- *Host*: an address, localhost, or a name that the server was told. A page elsewhere whose name was made to lead here
  (DNS rebinding) has another.
- *Origin*: what changes something comes from the page itself or from no page; and it has the header `X-Restore` or the
  token, neither of which a form of another page can send.
- *Token*: where there is one, everything under `/api/` needs it but `/api/health`.

Every answer forbids other pages to frame, read or keep it.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from restore.terminal import one_line

__all__ = ["Guard", "is_loopback"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADER = "x-restore"
HARMLESS = ("GET", "HEAD")
OPEN = ("/api/health",)
ANSWER_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Passes on the requests that are allowed, and answers the others.

    Args:
        app: gets what is allowed.
        token: that requests have to show; None where none is needed.
        hosts: names, besides addresses and localhost, by which the server may be called.
    """

    def __init__(self, app: App, token: str | None = None, hosts: Collection[str] = ()):
        self._app, self._token = app, token
        self._hosts = {"localhost", *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI has it."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return None  # no websockets: the connection is closed

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message.get("headers", ())}
                more = [(n.encode(), v.encode()) for n, v in ANSWER_HEADERS.items() if n.encode() not in given]
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            return await self._app(scope, receive, send_guarded)
        from starlette.responses import JSONResponse

        status, words = refusal
        headers = {"www-authenticate": "Bearer"} if status == 401 else None
        await JSONResponse({"error": words}, status, headers)(scope, receive, send_guarded)
        return None

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """The status of the answer and its words; None for what is allowed."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if sum(name.lower() == b"host" for name, _ in scope["headers"]) != 1:
            return 400, "a request has one header Host."
        host = headers["host"]
        name = host_name(host)
        if not (_is_address(name) or name in self._hosts):
            called = one_line(name)[:80]
            return 403, f"this server is not called '{called}': start it with --allow-host {called} if it should be."
        origin = headers.get("origin")
        changes = scope["method"] not in HARMLESS
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and scope["path"].startswith("/api/"):
            return 403, "requests from other pages are refused."
        if (
            changes
            and origin is not None
            and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower())
        ):
            return 403, "requests from other pages are refused: the header Origin names another server."
        shown = self._shows_token(headers)
        if self._token and not shown and scope["path"].startswith("/api/") and scope["path"] not in OPEN:
            return (
                401,
                "a token is needed: the header `Authorization: Bearer TOKEN`, with the one that the server printed.",
            )
        if changes and not shown and HEADER not in headers:
            return 403, "the header `X-Restore: 1` is missing: it shows that no form of another page sent this."
        return None

    def _shows_token(self, headers: dict[str, str]) -> bool:
        if not self._token:
            return False
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token.encode())


def host_name(host: str) -> str:
    """The name in a header Host, in small letters, without the port and without the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].rstrip(".").lower()


def is_loopback(name: str) -> bool:
    """Whether a name or address leads to this machine alone."""
    return name == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

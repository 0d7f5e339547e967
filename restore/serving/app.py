"""The page and the REST interface, as a FastAPI application.

    GET    /                        the page
    GET    /api/models              what is offered, and the limits
    POST   /api/restore             a photograph for its result, in one request
    POST   /api/orders              a photograph into the queue; the answer has its id
    GET    /api/orders/ID           its place in the queue, or how much is done
    GET    /api/orders/ID/result    the finished file, once: it is forgotten with the answer
    DELETE /api/orders/ID           cancel
    GET    /api/health              whether the server works

A refusal is `{"error": "what is wrong"}`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pydantic
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from restore import __version__
from restore.errors import ImageError, OptionsError
from restore.images import readable_suffixes
from restore.reports.pages import fill_page
from restore.serving.desk import FORMATS, NOT_NOW, BusyError, Desk, Order, State
from restore.serving.offers import choose_offer
from restore.signature import validate
from restore.terminal import one_line

__all__ = ["make_app"]

UPLOAD_S = 120.0
FIELD_BYTES = 4096
FORM_BYTES = 1 << 16
RETRY_S = "5"
TASKS = {
    "sr": "Enlarge",
    "photo": "Enlarge real photographs",
    "denoise": "Remove noise",
    "jpeg": "Remove JPEG artefacts",
    "derain": "Remove rain",
    "deblur": "Remove blur",
    "own": "Own models",
}


class Wish(pydantic.BaseModel, extra="forbid"):
    """The fields of a form, besides the photograph."""

    model: str | None = pydantic.Field(None, description="Name of a model that is offered.")
    task: str | None = pydantic.Field(None, description="Instead of a model: sr, photo, denoise, jpeg, derain, deblur.")
    scale: int | None = pydantic.Field(None, description="Of the tasks sr and photo, by default 4.")
    sigma: float | None = pydantic.Field(None, ge=0, le=255, description="Level of the noise, 0 to 255.")
    jpeg_quality: int | None = pydantic.Field(None, ge=1, le=100, description="That the photograph was saved with.")
    format: str | None = pydantic.Field(None, description=f"Of the result: {', '.join(FORMATS)}.")
    quality: int = pydantic.Field(95, ge=1, le=100, description="Of the result, in a lossy format.")


def make_app(desk: Desk) -> FastAPI:
    """The application over a desk, without its guard (see `restore.serving.guard`)."""
    app = FastAPI(title="restore", version=__version__, openapi_url="/api/openapi.json", docs_url=None, redoc_url=None)
    routes = _Routes(desk)
    form = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _form_schema()}}}}
    for method, path, action, more in (
        ("GET", "/", routes.page, {}),
        ("GET", "/api/health", routes.health, {}),
        ("GET", "/api/models", routes.models, {}),
        ("POST", "/api/restore", routes.restore, {"openapi_extra": form}),
        ("POST", "/api/orders", routes.take, {"openapi_extra": form}),
        ("GET", "/api/orders/{number}", routes.ask, {}),
        ("GET", "/api/orders/{number}/result", routes.fetch, {}),
        ("DELETE", "/api/orders/{number}", routes.cancel, {}),
    ):
        app.add_api_route(path, action, methods=[method], response_class=Response, **more)

    async def refuse(request: Request, error: Exception) -> Response:
        status, words, headers = _told(error)
        return JSONResponse({"error": words}, status, headers)

    for kind in (HTTPException, ImageError, OptionsError, BusyError):
        app.add_exception_handler(kind, refuse)
    return app


class _Routes:
    """What is done with each kind of request."""

    def __init__(self, desk: Desk):
        self.desk = desk
        self._page = fill_page(
            "restore.serving",
            "serve.html",
            title="Restore photographs",
            accept=",".join(readable_suffixes()),
            shape={"name": "", "width": 1, "height": 1, "pictures": [{"kind": "baseline"}, {"kind": "restored"}]},
            names={"baseline": "before", "restored": "restored"},
        )
        scripts = re.findall(r"<script>(.*?)</script>", self._page, re.DOTALL)
        hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
        self._policy = (
            f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src 'self' blob: data:; "
            "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
        )

    async def page(self) -> Response:
        """The page."""
        return HTMLResponse(self._page, headers={"content-security-policy": self._policy})

    async def health(self) -> Response:
        """Whether the server works; status 503 when it is stopping."""
        state = {"status": "stopping" if self.desk.is_stopping else "ok", **self.desk.counts()}
        return JSONResponse(state, NOT_NOW if self.desk.is_stopping else 200)

    async def models(self) -> Response:
        """What is offered, and the limits."""
        limits = self.desk.limits
        tasks = [task for task in TASKS if any(offer.task == task for offer in self.desk.offers.values())]
        models = [
            {
                "name": offer.name,
                "task": offer.task,
                "scale": offer.scale,
                "summary": offer.summary,
                "licence": offer.licence,
                "told_sigma": offer.told_sigma,
                **({"sigma": offer.card.sigma, "jpeg_quality": offer.card.quality} if offer.card else {}),
            }
            for offer in self.desk.offers.values()
        ]
        return JSONResponse(
            {
                "tasks": [{"name": task, "title": TASKS[task], "first": self._first(task)} for task in tasks],
                "models": models,
                "formats": list(FORMATS),
                "limits": {"upload_bytes": limits.upload_bytes, "result_pixels": limits.result_pixels},
            }
        )

    def _first(self, task: str) -> str:
        """The model that the page shows first: what is chosen for the task, or the first that does it."""
        with contextlib.suppress(OptionsError):
            return choose_offer(self.desk.offers, None, task=task).name
        return next(offer.name for offer in self.desk.offers.values() if offer.task == task)

    async def take(self, request: Request) -> Response:
        """A photograph into the queue."""
        order = await self._taken(request)
        return JSONResponse(self._described(order), 202, {"location": f"/api/orders/{order.id}"})

    async def restore(self, request: Request) -> Response:
        """A photograph for its result, in one request; a caller who goes away takes the order back."""
        order = await self._taken(request)
        settled = asyncio.wrap_future(order.settled)
        try:
            while not (await asyncio.wait({settled}, timeout=1.0))[0]:
                self.desk.find(order.id)  # somebody still waits
                if await request.is_disconnected():
                    break
            return self._result_of(order)
        finally:
            self.desk.forget(order)

    async def ask(self, number: str) -> Response:
        """How far an order is; one that has failed is forgotten with the answer."""
        order = self._known(number)
        if order.state is State.FAILED:
            self.desk.forget(order)
        return JSONResponse(self._described(order))

    async def fetch(self, number: str) -> Response:
        """The finished file; the order is forgotten with the answer."""
        order = self._known(number)
        if not order.settled.done():
            raise HTTPException(409, "it is not finished yet")
        try:
            return self._result_of(order)
        finally:
            self.desk.forget(order)

    async def cancel(self, number: str) -> Response:
        """Drop an order."""
        self.desk.forget(self._known(number))
        return Response(status_code=204)

    def _known(self, number: str) -> Order:
        order = self.desk.find(number)
        if order is None:
            raise HTTPException(404, "no such photograph: it was fetched, cancelled, or forgotten after a while")
        return order

    async def _taken(self, request: Request) -> Order:
        self.desk.require_room()
        fields, data, name = await self._form(request)
        problems, wish = validate(Wish, fields, owner="request")
        if problems:
            raise OptionsError(problems)
        if wish.format is not None and wish.format not in FORMATS:
            raise OptionsError(f"`format` is '{wish.format}': must be one of {', '.join(FORMATS)}.")
        offer = choose_offer(
            self.desk.offers,
            wish.model,
            task=wish.task,
            scale=wish.scale,
            sigma=wish.sigma,
            quality=wish.jpeg_quality,
        )
        suffix = wish.format and f".{wish.format}"
        how = {"name": name, "suffix": suffix, "quality": wish.quality, "sigma": wish.sigma}
        return await run_in_threadpool(self.desk.take, data, offer, **how)

    async def _form(self, request: Request) -> tuple[dict[str, str], bytes, str]:
        """The fields of the form, and the photograph with its name; all of it in memory."""
        most = self.desk.limits.upload_bytes
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise HTTPException(415, "send a form, multipart/form-data, with the photograph as `image`")
        if int(request.headers.get("content-length") or 0) > most + FORM_BYTES:
            raise _too_large(most)
        parser = MultiPartParser(
            request.headers, _bounded(request, most), max_files=1, max_fields=16, max_part_size=FIELD_BYTES
        )
        parser.spool_max_size = most + FORM_BYTES + 1
        try:
            form = await asyncio.wait_for(parser.parse(), UPLOAD_S)
        except MultiPartException as error:
            raise HTTPException(400, f"the form cannot be read: {error.message}") from None
        except asyncio.TimeoutError:
            raise HTTPException(408, f"the photograph has not come within {UPLOAD_S:g} s") from None
        try:
            upload = form.get("image")
            if upload is None or isinstance(upload, str):
                raise HTTPException(400, "the form has no file `image`")
            data = await upload.read()
            name = one_line(upload.filename or "image").replace("\\", "/").rpartition("/")[2][-120:] or "image"
        finally:
            await form.close()
        if len(data) > most:
            raise _too_large(most)
        return {key: value for key, value in form.items() if isinstance(value, str)}, data, name

    def _described(self, order: Order) -> dict[str, Any]:
        (height, width), (result_height, result_width) = order.size, order.result_size
        told: dict[str, Any] = {
            "id": order.id,
            "state": order.state.value,
            "model": order.offer.name,
            "width": width,
            "height": height,
            "progress": round(order.progress, 4),
        }
        if order.state is State.WAITING:
            told["before"] = self.desk.place_of(order)
        if order.state is State.DONE:
            told |= {"seconds": round(order.seconds, 2), "name": order.result_name, "notes": order.notes}
            told |= {"result_width": result_width, "result_height": result_height}
        if order.error:
            told["error"] = order.error[1]
        return told

    def _result_of(self, order: Order) -> Response:
        if order.error or order.result is None:
            status, words = order.error or (404, "it was fetched already")
            raise HTTPException(status, words)
        plain = re.sub(r"[^\w.\- ]", "_", order.result_name, flags=re.ASCII)
        headers = {
            "content-disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(order.result_name)}",
            "x-restore-model": order.offer.name,
            "x-restore-seconds": f"{order.seconds:.2f}",
        }
        if order.notes:
            headers["x-restore-notes"] = "; ".join(order.notes)
        return Response(order.result, media_type=FORMATS[order.suffix[1:]], headers=headers)


async def _bounded(request: Request, most: int) -> AsyncIterator[bytes]:
    """The body of a request, as long as it is no longer than it may be."""
    taken = 0
    async for chunk in request.stream():
        taken += len(chunk)
        if taken > most + FORM_BYTES:
            raise _too_large(most)
        yield chunk


def _too_large(most: int) -> HTTPException:
    size = f"{most >> 20} MiB" if most >= 1 << 20 else f"{most} bytes"
    return HTTPException(413, f"the file is too large: at most {size} are taken")


def _told(error: Exception) -> tuple[int, str, dict[str, str] | None]:
    """Status, words and headers of the answer."""
    if isinstance(error, BusyError):
        return NOT_NOW, str(error), {"retry-after": RETRY_S}
    if isinstance(error, HTTPException):
        headers = {"retry-after": RETRY_S} if error.status_code == NOT_NOW else None
        return error.status_code, str(error.detail), headers
    return (422 if isinstance(error, ImageError) else 400), str(error), None


def _form_schema() -> dict[str, Any]:
    fields = Wish.model_json_schema()["properties"]
    image = {"type": "string", "format": "binary", "description": "The photograph."}
    return {"type": "object", "required": ["image"], "properties": {"image": image, **fields}}


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

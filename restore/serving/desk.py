"""The desk takes orders, keeps them in a queue, and restores them one after another, with one worker for each device.

Everything is kept in memory. An order is forgotten once its result has been downloaded, or when nobody has asked for it
for a while.
"""

from __future__ import annotations

import enum
import logging
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from restore.errors import DeviceError, ImageError, MissingError, RestoreError
from restore.images import Image, convert_depth, decode_image, encode_image, flatten, require_unit, size_of
from restore.images.formats import check_fits, format_for
from restore.inference import Restorer
from restore.serving.offers import Offer
from restore.zoo import load_model

__all__ = ["FORMATS", "BusyError", "Desk", "Limits", "Order", "State"]

FORMATS = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "tif": "image/tiff"}
"""What results may be, and how that is called on the web."""
KEPT_MODELS = 3  # of each worker
FETCHED_WITHIN_S = 15.0  # once the server stops
CANNOT_READ, NOT_NOW, FAILED = 422, 503, 500
logger = logging.getLogger(__name__)


class State(enum.Enum):
    """What becomes of an order."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class BusyError(RestoreError):
    """No order is taken now: too many wait, or the server is stopping."""


class _Dropped(Exception):  # noqa: N818 - no error: nobody wants the result any more
    """The order that is being done was cancelled."""


@dataclass(frozen=True)
class Limits:
    """What is taken, and for how long it is kept.

    Attributes:
        upload_bytes: of one file.
        result_pixels: of one result.
        orders: that wait, are done, or lie ready to be fetched.
        wait_s: how long an order may wait before it is begun.
        keep_s: how long an order is kept after somebody asked after it.
    """

    upload_bytes: int = 32 << 20
    result_pixels: int = 200_000_000
    orders: int = 16
    wait_s: float = 300.0
    keep_s: float = 600.0


@dataclass(eq=False)
class Order:
    """A photograph that is to be restored.

    Attributes:
        offer: the model.
        name: of the file, for messages and for the name of the result.
        suffix: of the result: .png, .jpg ...
        quality: of lossy formats.
        sigma: of the noise, where the model is told it.
        data: the upload, until it is read.
        size: height and width of the photograph.
        id: by which it is asked for; nobody can guess it.
        progress: share of the tiles that are done.
        seconds: in the network.
        result: the finished file.
        notes: how the result differs from what was asked for.
        error: what went wrong, with the status of the answer.
        settled: finished when the order is done or has failed.
    """

    offer: Offer
    name: str
    suffix: str
    quality: int
    sigma: float | None
    data: bytes | None
    size: tuple[int, int] = (0, 0)
    id: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    state: State = State.WAITING
    progress: float = 0.0
    seconds: float = 0.0
    result: bytes | None = None
    notes: list[str] = field(default_factory=list)
    error: tuple[int, str] | None = None
    settled: Future[None] = field(default_factory=Future)
    is_dropped: bool = False
    taken_at: float = field(default_factory=time.monotonic)
    asked_at: float = field(default_factory=time.monotonic)
    settled_at: float = 0.0

    @property
    def result_size(self) -> tuple[int, int]:
        """Height and width of the result."""
        return self.size[0] * self.offer.scale, self.size[1] * self.offer.scale

    @property
    def result_name(self) -> str:
        """What the file of the result is called."""
        return f"{self.name.rpartition('.')[0] or self.name}_{self.offer.name}{self.suffix}"


class Desk:
    """Takes orders for the models that are offered.

    Args:
        offers: the models by name.
        devices: one worker for each; a device may be named twice.
        limits: see `Limits`.
        runtime: further arguments of the `Restorer`.
    """

    def __init__(
        self,
        offers: Mapping[str, Offer],
        devices: Sequence[str] = ("auto",),
        limits: Limits | None = None,
        runtime: Mapping[str, Any] | None = None,
    ):
        self.offers, self.limits = offers, limits or Limits()
        self.is_stopping = False
        self._runtime = dict(runtime or {})
        self._orders: dict[str, Order] = {}
        self._queue: deque[Order] = deque()
        self._running: set[Order] = set()
        self._changed = threading.Condition()
        self._workers = [threading.Thread(target=self._work, args=(device,), daemon=True) for device in devices]

    def start(self) -> None:
        """Let the workers begin."""
        for worker in self._workers:
            worker.start()

    def require_room(self) -> None:
        """Raise a `BusyError` where no further order is taken now."""
        self.tidy()
        if self.is_stopping:
            raise BusyError("the server is stopping")
        if (number := sum(order.state is not State.FAILED for order in self._orders.values())) >= self.limits.orders:
            raise BusyError(f"{number} photographs are here already: try again in a while")

    def take(
        self, data: bytes, offer: Offer, *, name: str, suffix: str | None, quality: int, sigma: float | None
    ) -> Order:
        """Put a photograph into the queue, after a look at its header; what cannot be done has failed at once.

        Args:
            suffix: of the result; None for PNG, or for TIFF where the samples are floats.

        Raises:
            BusyError: there is no room.
        """
        order = Order(offer, name, suffix or "", quality, sigma, data)
        try:
            self._look_at(order, data)
        except ImageError as error:
            self._settle(order, State.FAILED, (CANNOT_READ, str(error)))
        with self._changed:
            self.require_room()
            self._orders[order.id] = order
            if not order.settled.done():
                self._queue.append(order)
                self._changed.notify()
        return order

    def _look_at(self, order: Order, data: bytes) -> None:
        """Refuse what is no photograph, and what is too large.

        Raises:
            ImageError: says why.
        """
        height, width = order.size = size_of(data, order.name)
        pixels = order.result_size[0] * order.result_size[1]
        if pixels > self.limits.result_pixels:
            raise ImageError(
                f"'{order.name}' is {width}x{height} px, and its result would have {pixels / 1e6:.0f} megapixels: at "
                f"most {self.limits.result_pixels / 1e6:g} are made here"
            )
        if order.suffix:
            check_fits(order.suffix, order.result_size, "uint8")

    def find(self, number: str) -> Order | None:
        """The order of that id; it counts as asked for."""
        self.tidy()
        order = self._orders.get(number)
        if order:
            order.asked_at = time.monotonic()
        return order

    def place_of(self, order: Order) -> int:
        """How many orders are before this one in the queue."""
        with self._changed:
            return self._queue.index(order) if order in self._queue else 0

    def forget(self, order: Order) -> None:
        """Drop an order, its photograph and its result; if it is being done, the worker stops at the next tile."""
        with self._changed:
            order.is_dropped = True
            order.result = order.data = None
            self._orders.pop(order.id, None)
            if order in self._queue:
                self._queue.remove(order)
        self._settle(order, State.FAILED, (FAILED, "it was cancelled"))

    def tidy(self) -> None:
        """Give up what has waited too long, and forget what nobody asks after."""
        now = time.monotonic()
        with self._changed:
            late = [order for order in self._queue if now - order.taken_at > self.limits.wait_s]
            for order in late:
                self._queue.remove(order)
            left = [order for order in self._orders.values() if now - order.asked_at > self.limits.keep_s]
        for order in late:
            waited = f"it has waited for {self.limits.wait_s:g} s, and its turn has not come: try again in a while"
            self._settle(order, State.FAILED, (NOT_NOW, waited))
        for order in left:
            self.forget(order)

    def counts(self) -> dict[str, int]:
        """How many orders wait, and how many are being done."""
        return {"waiting": len(self._queue), "running": len(self._running)}

    def stop(self) -> None:
        """Take no further orders and refuse those that wait; what is being done goes on."""
        with self._changed:
            self.is_stopping = True
            refused = list(self._queue)
            self._queue.clear()
            self._changed.notify_all()
        for order in refused:
            self._settle(order, State.FAILED, (NOT_NOW, "the server is stopping"))

    def abandon(self) -> None:
        """Drop what is being done, too."""
        for order in list(self._orders.values()):
            self.forget(order)

    def has_ended(self, within_s: float = 2.0) -> bool:
        """Whether every worker ends within a while, after `stop`."""
        end = time.monotonic() + within_s
        for worker in self._workers:
            worker.join(max(0.0, end - time.monotonic()))
        return not any(worker.is_alive() for worker in self._workers)

    def is_idle(self) -> bool:
        """Whether nothing is being done, and what was finished has been fetched, or could have been."""
        now = time.monotonic()
        with self._changed:
            ready = [order for order in self._orders.values() if order.state is State.DONE]
            return not self._running and not any(now - order.settled_at < FETCHED_WITHIN_S for order in ready)

    def _work(self, device: str) -> None:
        restorers: OrderedDict[str, Restorer] = OrderedDict()
        while order := self._next():
            try:
                state, error = State.DONE, None
                self._restore(order, device, restorers)
            except _Dropped:
                continue
            except (DeviceError, MissingError) as failure:
                state, error = State.FAILED, (NOT_NOW, str(failure))
            except RestoreError as failure:
                state, error = State.FAILED, (CANNOT_READ, str(failure))
            except Exception:  # whatever it is, it is told of this photograph and stops no other
                logger.exception("a photograph of %dx%d px failed with %s", *order.size[::-1], order.offer.name)
                state, error = State.FAILED, (FAILED, "an unexpected fault; the server's log has it")
            finally:
                with self._changed:
                    self._running.discard(order)
                order.data = None
            self._settle(order, state, error)

    def _next(self) -> Order | None:
        """The next order, when there is one; None when there will be none."""
        with self._changed:
            while not self._queue:
                if self.is_stopping:
                    return None
                self._changed.wait()
            order = self._queue.popleft()
            order.state = State.RUNNING
            self._running.add(order)
            return order

    def _restore(self, order: Order, device: str, restorers: OrderedDict[str, Restorer]) -> None:
        data, order.data = order.data, None
        if data is None:
            raise _Dropped
        image = decode_image(data, order.name)
        del data
        order.size = image.pixels.shape[0], image.pixels.shape[1]
        order.suffix = order.suffix or (".tif" if image.pixels.dtype == "float32" else ".png")
        image = _fitted(image, order)
        restorer = self._restorer(order.offer, device, restorers)
        if order.sigma is not None and order.offer.told_sigma:
            restorer.network.expect_noise(order.sigma)  # type: ignore[operator]

        def on_progress(share: float) -> None:
            order.progress = share
            if order.is_dropped:
                raise _Dropped

        on_progress(0.0)
        started = time.perf_counter()
        restored = restorer(image, on_progress=on_progress)
        order.seconds = time.perf_counter() - started
        order.result = encode_image(restored, order.suffix, quality=order.quality)
        height, width = order.size
        logger.info("%s: %dx%d px in %.1f s on %s", order.offer.name, width, height, order.seconds, restorer.device)

    def _restorer(self, offer: Offer, device: str, restorers: OrderedDict[str, Restorer]) -> Restorer:
        """The model on a worker's device; the one that was not used for longest makes room."""
        if offer.name not in restorers:
            while len(restorers) >= KEPT_MODELS:
                restorers.popitem(last=False)
            restorers[offer.name] = load_model(offer.source, device=device, **self._runtime)
        restorers.move_to_end(offer.name)
        return restorers[offer.name]

    def _settle(self, order: Order, state: State, error: tuple[int, str] | None) -> None:
        with self._changed:
            if order.settled.done():
                return
            if order.is_dropped:
                order.result = None
            order.state, order.error, order.settled_at, order.data = state, error, time.monotonic(), None
            order.settled.set_result(None)


def _fitted(image: Image, order: Order) -> Image:
    """The photograph as the format that was asked for can hold it; what is changed is noted.

    Raises:
        ImageError: it cannot.
    """
    fmt = format_for(order.suffix)
    depth = image.pixels.dtype.name
    if depth not in fmt.depths:
        require_unit(image.pixels, order.name)
        image = replace(image, pixels=convert_depth(image.pixels, fmt.depths[-1]))
        order.notes.append(f"{fmt.name} holds no {depth}: the result is {fmt.depths[-1]}")
    if image.has_alpha and not fmt.alpha:
        image = flatten(image)
        order.notes.append(f"{fmt.name} holds no transparency: the result lies on white")
    check_fits(order.suffix, (*order.result_size, *image.pixels.shape[2:]), image.pixels.dtype.name)
    return image

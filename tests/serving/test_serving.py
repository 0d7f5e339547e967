"""The REST interface over real sockets: answers, limits, the queue, who may ask."""

from __future__ import annotations

import http.client
import io
import json
import threading
import time
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image as PillowImage

from restore.images import Image, decode_image, encode_image
from restore.serving.guard import host_name, is_loopback

TOKEN = "a token of some length"


@pytest.fixture
def load(script):
    return script("load_serve")


def photograph(height=20, width=30, dtype=np.uint8, channels=3, suffix=".png"):
    rng = np.random.default_rng(0)
    pixels = rng.random((height, width, channels))
    return encode_image(Image((pixels * 255).astype(np.uint8) if dtype == np.uint8 else pixels.astype(dtype)), suffix)


def ask(address, method="GET", path="/", headers=(), body=b""):
    """Status and body of one request with these headers and no others."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    told = answer.status, answer.read()
    connection.close()
    return told


def error_of(body):
    return json.loads(body)["error"]


def test_a_photograph_comes_back_as_restore_run_makes_it(serving, weights, load):
    from restore.zoo import load_model

    data = photograph()
    with serving() as (desk, address):
        status, headers, body = load.call(address, "POST", "/api/restore", data)
        assert not desk._orders
    assert status == 200
    assert headers["content-type"] == "image/png"
    assert "photo_tiny.png" in headers["content-disposition"]
    expected = load_model(weights, device="cpu")(decode_image(data).pixels)
    assert np.array_equal(decode_image(body).pixels, expected)


def test_another_engine(serving, load, monkeypatch, tmp_path):
    for name in ("onnxruntime", "onnxscript"):
        pytest.importorskip(name)
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path))
    data = photograph()
    with serving() as (desk, address):
        _, _, one = load.call(address, "POST", "/api/restore", data)
    with serving() as (desk, address):
        desk._runtime["engine"] = "onnxruntime"
        _, _, other = load.call(address, "POST", "/api/restore", data)
    assert np.abs(decode_image(one).pixels.astype(int) - decode_image(other).pixels).max() <= 1
    assert list(tmp_path.glob("engines/*.onnx"))


@pytest.mark.parametrize(
    ("given", "fields", "kind", "pixels", "notes"),
    [
        ({}, {}, "PNG", ("uint8", 3), ""),
        ({"channels": 4}, {"format": "jpg"}, "JPEG", ("uint8", 3), "transparency"),
        ({"channels": 4}, {"format": "webp", "quality": "80"}, "WEBP", ("uint8", 4), ""),
        ({"dtype": np.float32, "suffix": ".tif"}, {}, "TIFF", ("float32", 3), ""),
        ({"dtype": np.float32, "suffix": ".tif"}, {"format": "png"}, "PNG", ("uint16", 3), "no float32"),
    ],
)
def test_formats_hold_what_they_can_and_what_they_cannot_is_noted(serving, load, given, fields, kind, pixels, notes):
    with serving() as (_, address):
        status, headers, body = load.call(address, "POST", "/api/restore", photograph(**given), model="tiny", **fields)
    assert status == 200
    found = decode_image(body).pixels
    assert (found.dtype.name, found.shape) == (pixels[0], (40, 60, pixels[1]))
    assert notes in headers.get("x-restore-notes", "")
    if pixels[0] == "uint8":
        assert PillowImage.open(io.BytesIO(body)).format == kind


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": "tinny"}, "Did you mean 'tiny'?"),
        ({"model": "tiny", "task": "sr"}, "either"),
        ({"format": "png"}, "either"),
        ({"model": "tiny", "scale": "4"}, "`scale`"),
        ({"model": "tiny", "sigma": "4"}, "`sigma`"),
        ({"task": "derain"}, "derain"),
        ({"task": "photo"}, "offered here"),
        ({"model": "tiny", "format": "exe"}, "must be one of png"),
        ({"model": "tiny", "quality": "101"}, "quality"),
        ({"model": "tiny", "qualty": "10"}, "Did you mean 'quality'?"),
        ({"model": "tiny", "sigma": "nan"}, "sigma"),
        ({"model": "../../etc/passwd"}, "no model"),
        ({"model": "x" * 5000}, "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(serving, load, fields, words):
    with serving() as (desk, address):
        status, _, body = load.call(address, "POST", "/api/restore", photograph(), **fields)
        assert not desk._orders
    assert status == 400
    assert words in error_of(body)


def test_bodies_that_are_no_forms(serving):
    headers = [("Host", "localhost"), ("X-Restore", "1")]
    form = [*headers, ("Content-Type", "multipart/form-data; boundary=b")]
    nameless = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\ntiny\r\n--b--\r\n'
    with serving() as (_, address):
        assert ask(address, "POST", "/api/restore", headers, b"{}")[0] == 415
        assert ask(address, "POST", "/api/restore", [*headers, ("Content-Type", "multipart/form-data")], b"x")[0] == 400
        assert ask(address, "POST", "/api/restore", form, b"--a\r\n")[0] == 400
        assert ask(address, "POST", "/api/restore", form, nameless)[0] == 400
        assert ask(address, "GET", "/api/orders/1", headers)[0] == 404
        assert ask(address, "GET", "/../../etc/passwd", headers)[0] == 404
        assert ask(address, "PUT", "/api/models", headers)[0] == 405


def test_limits_of_size(serving, load):
    with serving(upload_bytes=5000, result_pixels=4000) as (_, address):
        assert load.call(address, "POST", "/api/restore", photograph(20, 30))[0] == 200
        status, _, body = load.call(address, "POST", "/api/restore", photograph(20, 60))
        assert (status, "megapixels" in error_of(body)) == (422, True)
        status, _, body = load.call(address, "POST", "/api/restore", bytes(6000))
        assert (status, error_of(body)) == (413, "the file is too large: at most 5000 bytes are taken")
        assert load.call(address, "POST", "/api/restore", bytes(1 << 20))[0] == 413


class _Slow:
    """Holds the desk's worker until it is let go."""

    def __init__(self, desk):
        self.begun, self.go = threading.Event(), threading.Event()
        usual = desk._restorer

        def slowed(*arguments):
            restorer = usual(*arguments)

            def run(image, on_progress):
                self.begun.set()
                while not self.go.wait(0.01):
                    on_progress(0.5)
                return type(restorer).__call__(restorer, image, on_progress=on_progress)

            class Slowed:
                device = restorer.device
                __call__ = staticmethod(run)

            return Slowed()

        desk._restorer = slowed


def _post(load, address):
    status, _, body = load.call(address, "POST", "/api/orders", photograph())
    assert status == 202, body
    return json.loads(body)


def _state(load, address, order):
    return json.loads(load.call(address, "GET", f"/api/orders/{order['id']}")[2])


def _until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_queue_tells_places_and_takes_no_more_than_it_may(serving, load):
    with serving(orders=3) as (desk, address):
        slow = _Slow(desk)
        first = _post(load, address)
        assert slow.begun.wait(10)
        second, third = _post(load, address), _post(load, address)
        assert (second["before"], third["before"]) == (0, 1)
        _until(lambda: _state(load, address, first)["progress"] == 0.5)
        status, headers, body = load.call(address, "POST", "/api/orders", photograph())
        assert (status, "try again" in error_of(body), headers["retry-after"]) == (503, True, "5")
        assert load.call(address, "GET", f"/api/orders/{first['id']}/result")[0] == 409
        assert load.call(address, "DELETE", f"/api/orders/{second['id']}")[0] == 204
        assert _state(load, address, third)["before"] == 0
        slow.go.set()
        _until(lambda: _state(load, address, third)["state"] == "done")
        assert load.call(address, "GET", f"/api/orders/{third['id']}/result")[0] == 200
        assert load.call(address, "GET", f"/api/orders/{third['id']}/result")[0] == 404


def test_cancelling_what_is_being_done_frees_the_worker(serving, load):
    with serving() as (desk, address):
        slow = _Slow(desk)
        order = _post(load, address)
        assert slow.begun.wait(10)
        load.call(address, "DELETE", f"/api/orders/{order['id']}")
        _until(lambda: desk.counts() == {"waiting": 0, "running": 0})
        slow.go.set()
        assert load.call(address, "POST", "/api/restore", photograph())[0] == 200


def test_a_caller_who_goes_away_takes_the_order_back(serving, load):
    with serving() as (desk, address):
        slow = _Slow(desk)
        connection = http.client.HTTPConnection(urlsplit(address).netloc)
        form = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + photograph()
        form += b'\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\ntiny\r\n--b--\r\n'
        headers = {"X-Restore": "1", "Content-Type": "multipart/form-data; boundary=b"}
        connection.request("POST", "/api/restore", form, headers)
        assert slow.begun.wait(10)
        connection.close()
        _until(lambda: not desk._orders and desk.counts()["running"] == 0)


def test_what_waits_too_long_or_is_not_asked_for_is_given_up(serving, load):
    with serving(wait_s=0.3, keep_s=1.5) as (desk, address):
        slow = _Slow(desk)
        _post(load, address)
        assert slow.begun.wait(10)
        waiting = _post(load, address)
        _until(lambda: desk.counts()["waiting"] == 0)
        assert "turn has not come" in _state(load, address, waiting)["error"]
        assert "no such photograph" in _state(load, address, waiting)["error"], "what has failed is told once"
        _until(lambda: not desk._orders)


def test_an_unexpected_fault_stops_no_other(serving, load, caplog):
    with serving() as (desk, address):
        usual, desk._restorer = desk._restorer, lambda *_: 1 / 0
        status, _, body = load.call(address, "POST", "/api/restore", photograph())
        assert (status, "unexpected" in error_of(body)) == (500, True)
        desk._restorer = usual
        assert load.call(address, "POST", "/api/restore", photograph())[0] == 200
    assert "ZeroDivisionError" in caplog.text


def test_the_end_finishes_what_is_being_done_and_refuses_the_rest(serving, load):
    with serving() as (desk, address):
        slow = _Slow(desk)
        answers = {}

        def send(name):
            answers[name] = load.call(address, "POST", "/api/restore", photograph())[0]

        threads = [threading.Thread(target=send, args=(name,)) for name in ("first", "second")]
        threads[0].start()
        assert slow.begun.wait(10)
        threads[1].start()
        _until(lambda: desk.counts()["waiting"] == 1)
        desk.stop()
        threads[1].join(10)
        assert load.call(address, "GET", "/api/health")[0] == 503
        assert load.call(address, "POST", "/api/restore", photograph())[0] == 503
        slow.go.set()
        threads[0].join(10)
        assert answers == {"first": 200, "second": 503}


def test_two_workers_do_two_at_once(serving, load):
    with serving(devices=("cpu", "cpu")) as (desk, address):
        slow = _Slow(desk)
        orders = [_post(load, address) for _ in range(2)]
        _until(lambda: desk.counts()["running"] == 2)
        slow.go.set()
        _until(lambda: all(_state(load, address, order)["state"] == "done" for order in orders))


HOSTS = {
    "localhost": 200,
    "localhost:99": 200,
    "127.0.0.1": 200,
    "[::1]:8421": 200,
    "192.168.1.7": 200,
    "Desk.example": 200,
    "desk.example.": 200,
    "evil.example": 403,
    "127.0.0.1.evil.example": 403,
    "localhost.evil.example": 403,
    "evil.example#localhost": 403,
    "": 403,
}


@pytest.mark.parametrize("host", HOSTS)
def test_hosts(serving, host):
    with serving(hosts=["desk.example"]) as (_, address):
        assert ask(address, "GET", "/", [("Host", host)])[0] == HOSTS[host]
        assert ask(address, "GET", "/api/models", [("Host", host)])[0] == HOSTS[host]


CHANGES = [  # headers besides the host, and the status of an order that is cancelled by them: 404, it is not there
    ([], 403),
    ([("X-Restore", "1")], 404),
    ([("X-Restore", "1"), ("Origin", "http://localhost")], 404),
    ([("X-Restore", "1"), ("Origin", "http://localhost:81")], 403),
    ([("X-Restore", "1"), ("Origin", "http://evil.example")], 403),
    ([("X-Restore", "1"), ("Origin", "null")], 403),
    ([("X-Restore", "1"), ("Sec-Fetch-Site", "cross-site")], 403),
    ([("X-Restore", "1"), ("Sec-Fetch-Site", "same-origin")], 404),
    ([("Origin", "http://localhost")], 403),
]


@pytest.mark.parametrize(("headers", "status"), CHANGES)
def test_what_changes_something_comes_from_the_page_or_from_no_page(serving, headers, status):
    with serving() as (_, address):
        assert ask(address, "DELETE", "/api/orders/1", [("Host", "localhost"), *headers])[0] == status


def test_other_pages_do_not_read(serving):
    with serving() as (_, address):
        headers = [("Host", "localhost"), ("Sec-Fetch-Site", "cross-site")]
        assert ask(address, "GET", "/api/models", headers)[0] == 403
        assert ask(address, "GET", "/", headers)[0] == 200  # a link to the page is none of their business


@pytest.mark.parametrize(
    ("shown", "status"),
    [(None, 401), (f"Bearer {TOKEN}", 200), (f"bearer {TOKEN}", 200), (f"Bearer {TOKEN}x", 401), (TOKEN, 401),
     ("Bearer ", 401), ("Basic YTpi", 401)],
)  # fmt: skip
def test_tokens(serving, shown, status):
    headers = [("Host", "localhost"), *([("Authorization", shown)] if shown is not None else [])]
    with serving(token=TOKEN) as (_, address):
        assert ask(address, "GET", "/api/models", headers)[0] == status
        assert ask(address, "DELETE", "/api/orders/1", headers)[0] == (404 if status == 200 else 401)
        assert ask(address, "GET", "/api/openapi.json", headers)[0] == status
        assert ask(address, "GET", "/api/health", [("Host", "localhost")])[0] == 200
        assert ask(address, "GET", "/", [("Host", "localhost")])[0] == 200


def test_the_page_needs_nothing_from_elsewhere_and_forbids_frames(serving, load):
    with serving() as (_, address):
        _, headers, body = load.call(address, "GET", "/")
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert policy.count("sha256-") == body.decode().count("<script>") == 3
    assert "http://" not in body.decode().replace("http://www.w3.org", "")
    assert headers["x-content-type-options"] == "nosniff"


def test_names_of_files_do_nothing(serving):
    name = 'a"\r\nSet-Cookie: x=1\r\n\x1b[31m<b>é.png'
    with serving() as (desk, _):
        order = desk.take(photograph(), desk.offers["tiny"], name=name, suffix=".png", quality=95, sigma=None)
        order.settled.result(20)
        from restore.serving.app import _Routes

        answer = _Routes(desk)._result_of(order)
    assert not set("\r\n\x1b") & set(answer.headers["content-disposition"])


def test_many_clients_and_broken_files(serving, load):
    with serving(orders=16) as (desk, address):
        outcome = load.hammer(address, requests=64, clients=8)
        assert not desk._orders
        assert desk.counts() == {"waiting": 0, "running": 0}
    assert outcome.wrong == []
    assert sum(outcome.answers.values()) == 64
    assert sum(number for kind, number in outcome.answers.items() if kind.endswith("422")) == 16


def test_a_growing_memory_is_noticed(load):
    assert load.is_growing([(n, 100 + 5.0 * n) for n in range(8)])
    assert not load.is_growing([(n, 100 + n % 3) for n in range(8)])


@pytest.mark.parametrize(
    ("host", "name", "stays"),
    [("127.0.0.1:80", "127.0.0.1", True), ("[::1]:80", "::1", True), ("LOCALHOST", "localhost", True),
     ("0.0.0.0", "0.0.0.0", False), ("example.com:1", "example.com", False), ("10.0.0.1", "10.0.0.1", False)],
)  # fmt: skip
def test_names_of_hosts(host, name, stays):
    assert host_name(host) == name
    assert is_loopback(name) is stays

"""Downloads from servers that break off, forget ranges, change the file, or send something else."""

from __future__ import annotations

import hashlib
import threading

import pytest

from restore.downloads import download
from restore.errors import DataError, MissingError, OutputError

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(file_server):
    file_server.content = CONTENT
    return file_server


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_and_its_checksum(server, tmp_path):
    told = []
    digest = download(
        f"{server.address}/a", tmp_path / "new" / "a", on_progress=lambda done, total: told.append((done, total))
    )
    assert digest == SHA256
    assert (tmp_path / "new" / "a").read_bytes() == CONTENT
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert names(tmp_path / "new") == ["a"]


def test_a_connection_that_breaks_is_taken_up_again(server, tmp_path):
    server.limit, server.headers_sent = 3000, {"ETag": '"one"'}
    assert download(f"{server.address}/a", tmp_path / "a") == SHA256
    assert server.requests == [None, "bytes=3000-", "bytes=6000-", "bytes=9000-"]
    assert names(tmp_path) == ["a"]


def test_without_ranges_it_begins_again_and_gives_up_where_nothing_is_gained(server, tmp_path):
    server.limit, server.ranges = 3000, False
    with pytest.raises(MissingError, match="was cut off after 3000 bytes: run the command again"):
        download(f"{server.address}/a", tmp_path / "a", sha256=SHA256)
    assert names(tmp_path) == ["a.part"]
    server.limit = None
    assert download(f"{server.address}/a", tmp_path / "a", sha256=SHA256) == SHA256
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_the_rest_of_another_file_is_never_put_behind(server, tmp_path, known):
    """Where a checksum is known it finds out; where none is, what the server says of the file, or a new beginning."""
    sent = {"Last-Modified": "Thu, 26 Nov 2026 19:00:00 GMT"} if known else {}
    (tmp_path / "a.part").write_bytes(b"x" * 3000)
    if known:
        (tmp_path / "a.part.version").write_text("Thu, 26 Nov 2026 18:00:00 GMT")
    server.headers_sent = sent
    assert download(f"{server.address}/a", tmp_path / "a") == SHA256
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("length", [len(CONTENT), len(CONTENT) + 5])
def test_a_part_as_long_as_the_file_or_longer_is_loaded_anew(server, tmp_path, length):
    (tmp_path / "a.part").write_bytes(b"x" * length)
    assert download(f"{server.address}/a", tmp_path / "a", sha256=SHA256) == SHA256


def test_a_whole_part_needs_no_server(tmp_path):
    (tmp_path / "a.part").write_bytes(CONTENT)
    assert download("http://127.0.0.1:9/a", tmp_path / "a", sha256=SHA256, size_bytes=len(CONTENT)) == SHA256


@pytest.mark.parametrize(
    ("expected", "message"),
    [({"sha256": "0" * 64}, f"SHA-256 {SHA256} instead of 000"), ({"size_bytes": 7}, "offers 10240 bytes, and the")],
)
def test_other_bytes_are_thrown_away(server, tmp_path, expected, message):
    with pytest.raises(DataError, match=message):
        download(f"{server.address}/a", tmp_path / "a", **expected)
    assert names(tmp_path) == []


def test_what_is_no_file_says_so(server, tmp_path):
    server.headers_sent = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(MissingError, match="the response is a web page"):
        download(f"{server.address}/a", tmp_path / "a")
    server.status = 404
    with pytest.raises(MissingError, match="the server answered 404 Not Found"):
        download(f"{server.address}/a", tmp_path / "a")
    with pytest.raises(
        MissingError, match=r"could not download http://127\.0\.0\.1:9/a: no response .*refused.* offline\?"
    ):
        download("http://127.0.0.1:9/a", tmp_path / "a")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot write"):
        download(f"{server.address}/a", tmp_path / "file" / "a")


def test_two_at_once_load_it_once(server, tmp_path):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(download(f"{server.address}/a", tmp_path / "a"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [SHA256] * 4
    assert len(server.requests) == 1
    assert names(tmp_path) == ["a"]

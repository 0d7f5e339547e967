"""Downloads from servers that break off, forget ranges, change the file, or send something else."""

from __future__ import annotations

import hashlib
import threading

import pytest

from restore import downloads
from restore.downloads import download, download_checked
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


ADDRESSES = (
    *("", "nothing", "a b", "ftp://127.0.0.1/a", "data:text/plain,x", "http://", "http://[::1", "http://127.0.0.1:x/a"),
    *(
        "http://127.0.0.1:99999999/a",
        "http://a..b/c",
        "http://" + "x" * 300 + "/a",
        "http://a\nb/",
        "http://127.0.0.1/ü",
    ),
    *(
        "http://\0/",
        "https://user@:80/a b",
        "file:///no/such/file",
        "HTTP://127.0.0.1:9/a",
        "gopher://a",
        "//a/b",
        "c:\\a",
    ),
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_whatever_is_no_address_is_one_line(tmp_path, address):
    with pytest.raises(MissingError, match="could not download") as caught:
        download(address, tmp_path / "a")
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


HEADERS = {
    "Content-Length": ["x", "-5", "1e9", "", "١٢", "9" * 30, "3, 4", "10240.0"],
    "Content-Range": ["bytes", "x", "bytes -5-7/9", "bytes 5/x", "bytes a-b/c", "bytes 0-9/" + "9" * 30, "items 0-1/2"],
    "Content-Type": ["", ";;;", "text", "\xff", "a/b/c"],
    "ETag": ["", '"', '"\xff"', "W/", "x" * 5000],
    "Last-Modified": ["never", "", "\xff"],
    "Transfer-Encoding": ["chunked", "gzip", "nonsense"],
}


@pytest.mark.parametrize(("header", "value"), [(name, value) for name, values in HEADERS.items() for value in values])
@pytest.mark.parametrize("begun", [False, True])
def test_headers_that_make_no_sense_are_one_line_or_harmless(server, tmp_path, header, value, begun):
    if begun:
        (tmp_path / "a.part").write_bytes(CONTENT[:100])
        (tmp_path / "a.part.version").write_bytes(b'"\xff"')
    server.headers_sent = {header: value.encode("utf-8").decode("latin-1")}
    said = ""
    try:
        assert download(f"{server.address}/a", tmp_path / "a", sha256=SHA256) == SHA256
    except (MissingError, DataError) as error:
        said = str(error)
    assert "\n" not in said
    assert (tmp_path / "a").exists() is not bool(said)


def raw_server(answer: list[bytes], pause_s: float = 0.0):
    """Sends pieces to whoever asks, as slowly as is wanted; gives its address and what stops it."""
    import socket

    listening = socket.create_server(("127.0.0.1", 0))
    stopped = threading.Event()

    def serve():
        while not stopped.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.recv(9999)
                for piece in answer:
                    if stopped.wait(pause_s):
                        break
                    try:
                        connection.sendall(piece)
                    except OSError:
                        break

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}/a", lambda: (stopped.set(), listening.close())


@pytest.mark.parametrize("known", ["caller", "nobody"])
def test_no_more_bytes_are_taken_than_there_should_be(tmp_path, monkeypatch, known):
    monkeypatch.setattr(downloads, "MOST_BYTES", 5000)
    chunk = b"400\r\n" + bytes(1024) + b"\r\n"
    address, stop = raw_server([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[chunk] * 100_000])
    with pytest.raises(DataError, match=r"sends more than the \d+ bytes"):
        download(address, tmp_path / "a", size_bytes=3000 if known == "caller" else None)
    stop()
    assert names(tmp_path) == []


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_server_that_drips_is_given_up(tmp_path, monkeypatch, part):
    monkeypatch.setattr(downloads, "ANSWER_S", 0.5)
    monkeypatch.setattr(downloads, "PATIENCE_S", 0.3)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n"
    drips = [bytes([each]) for each in head] * 9 if part == "head" else [head + b"\r\n", *[b"x"] * 1000]
    address, stop = raw_server(drips, pause_s=0.1)
    with pytest.raises(MissingError, match=r"no answer within|fewer than 20000 bytes a second: run the command again"):
        download(address, tmp_path / "a")
    stop()
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "answer", [b"", b"\xff\xfe" * 50, b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 300]
)
def test_an_answer_that_is_none_is_one_line(tmp_path, answer):
    address, stop = raw_server([answer])
    with pytest.raises(MissingError) as caught:
        download(address, tmp_path / "a")
    stop()
    assert "\n" not in str(caught.value)


def test_the_beginning_of_a_checksum_in_a_name(server, tmp_path):
    whole = tmp_path / f"net-{SHA256[:8]}.pth"
    assert download_checked(f"{server.address}/{whole.name}", tmp_path) == whole
    assert whole.read_bytes() == CONTENT
    assert len(server.requests) == 1
    download_checked(f"{server.address}/{whole.name}", tmp_path)
    assert len(server.requests) == 1  # it is there
    with pytest.raises(DataError, match="discarded"):
        download_checked(f"{server.address}/net-01234567.pth", tmp_path)
    download_checked(f"{server.address}/net-v2.pth", tmp_path)
    assert names(tmp_path) == sorted([whole.name, "net-v2.pth"])

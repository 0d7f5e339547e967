"""Files that appear whole or not at all, and what killed processes leave behind."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from restore import locks
from restore.errors import OutputError
from restore.files import atomic_write, expanded, means_file, remove_leftovers, scratch_folder, sha256_of, text_of
from restore.locks import reserved

KILLED = """
import os, sys
from pathlib import Path
from restore.files import atomic_write, scratch_folder
folder = Path(sys.argv[1])
with atomic_write(folder / "image.png") as file, scratch_folder(folder) as scratch:
    file.write(b"half an image")
    (scratch / "deep").mkdir()
    (scratch / "deep/file").write_bytes(b"half a database")
    {then}
"""


@pytest.fixture
def as_windows(monkeypatch):
    """The code as it runs there: an open file is not renamed or removed, and locks are of bytes."""
    fcntl = pytest.importorskip("fcntl")

    def locking(number, mode, count):
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(locks, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2), raising=False)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("size", [0, 1, (1 << 20) + 1])
def test_the_checksum_of_a_file_larger_than_one_read(size, tmp_path):
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "file").write_bytes(content[:size])
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content[:size]).hexdigest()


def test_leftovers_are_removed_unless_they_are_being_written(tmp_path):
    (tmp_path / ".mine.tmp").write_bytes(b"somebody else's")
    with atomic_write(tmp_path / "whole") as file, scratch_folder(tmp_path) as scratch:
        (tmp_path / f".{'0' * 32}.tmp").write_bytes(b"half an image")
        (tmp_path / f".{'1' * 32}.tmp/folder").mkdir(parents=True)
        file.write(b"all")
        (scratch / "content").touch()
        assert remove_leftovers(tmp_path) == 2
        assert names(scratch) == [".lock", "content"]
    assert names(tmp_path) == [".mine.tmp", "whole"]


@pytest.mark.parametrize("last", ["file", "folder"])
def test_the_next_process_that_writes_there_removes_what_a_killed_one_left(tmp_path, last):
    command = [sys.executable, "-c", KILLED.format(then="os.kill(os.getpid(), 9)"), str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == -9
    assert len(names(tmp_path)) == 2
    if last == "file":
        with atomic_write(tmp_path / "next") as file:
            file.write(b"all")
    else:
        with scratch_folder(tmp_path) as scratch:
            (scratch / "next").mkdir()
            (scratch / "next").rename(tmp_path / "next")
    assert names(tmp_path) == ["next"]


def test_another_processs_files_stay(tmp_path):
    then = "print(flush=True); sys.stdin.readline(); (scratch / 'deep').rename(folder / 'deep')"
    command = [sys.executable, "-c", KILLED.format(then=then), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert remove_leftovers(tmp_path) == 0
        process.communicate(b"\n")
    assert names(tmp_path) == ["deep", "image.png"]


def test_what_is_written_while_others_tidy_is_never_lost(tmp_path):
    """Between any two of a writer's steps somebody may look for leftovers."""
    stop = threading.Event()

    def tidy():
        while not stop.is_set():
            remove_leftovers(tmp_path)

    tidiers = [threading.Thread(target=tidy) for _ in range(3)]
    for thread in tidiers:
        thread.start()
    try:
        for number in range(300):
            with atomic_write(tmp_path / f"{number}.bin") as file:
                file.write(b"%d" % number)
            if number % 10 == 0:
                with scratch_folder(tmp_path) as scratch:
                    (scratch / "made").mkdir()
                    (scratch / "made").rename(tmp_path / f"{number}.folder")
    finally:
        stop.set()
        for thread in tidiers:
            thread.join()
    assert sorted(int(path.stem) for path in tmp_path.glob("*.bin")) == list(range(300))
    assert len(list(tmp_path.glob("*.folder"))) == 30
    assert all(path.read_bytes() == path.stem.encode() for path in tmp_path.glob("*.bin"))


def test_an_exception_leaves_the_old_file(tmp_path):
    (tmp_path / "file").write_bytes(b"old")

    def write(error):
        with atomic_write(tmp_path / "file") as file:
            file.write(b"new")
            raise error

    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error):
            write(error)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]
    with pytest.raises(OutputError, match="cannot write"), atomic_write(tmp_path / "file" / "below"):
        pass


def test_as_windows_has_it(tmp_path, as_windows):
    old = tmp_path / f".{'0' * 32}.tmp"
    old.write_bytes(b"half")
    os.utime(old, (time.time() - 3600,) * 2)
    (tmp_path / f".{'1' * 32}.tmp").write_bytes(b"closed a moment ago, not yet renamed")
    with reserved(tmp_path / "out"), atomic_write(tmp_path / "file") as file, scratch_folder(tmp_path) as scratch:
        file.write(b"whole")
        (scratch / "made").mkdir()
        (scratch / "made").rename(tmp_path / "made")
        with pytest.raises(OutputError, match="being written"):
            reserved(tmp_path / "out").__enter__()
    assert names(tmp_path) == [f".{'1' * 32}.tmp", "file", "made"]
    assert (tmp_path / "file").read_bytes() == b"whole"


@pytest.mark.parametrize(
    "name", ["a.png", "b.heic", "o.zip", "x.jp2", "m.mp4", "p.7z.tar", "c.J2K", "no/such/page.html", "d.gz"]
)
def test_names_of_files(tmp_path, name):
    assert means_file(tmp_path / name)
    assert not means_file(f"{tmp_path / name}/")
    (tmp_path / name).mkdir(parents=True)
    assert not means_file(tmp_path / name)


@pytest.mark.parametrize("name", ["out", "out.v2", "x4.0", "run.2024", "a.b.experiment", ".hidden", "it.x"])
def test_names_of_folders(tmp_path, name):
    assert not means_file(tmp_path / name)


def test_paths_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "~here").mkdir()
    assert expanded("~/a") == tmp_path / "home/a"
    assert expanded("~") == tmp_path / "home"
    assert expanded("a/~/b") == Path("a/~/b")
    for name in ("~here", "~here/new.png", "~no-such-user/a", "~x.png"):
        assert expanded(name) == Path(name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_text_of_any_editor(tmp_path, encoding):
    text = "a/ß.png\r\n東京.png 3\r\n"
    (tmp_path / "list.txt").write_bytes(text.encode(encoding))
    assert text_of(tmp_path / "list.txt") == text


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"\xe4\xf6\n", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00"])
def test_what_is_no_text(tmp_path, data):
    (tmp_path / "list.txt").write_bytes(data)
    with pytest.raises(UnicodeDecodeError):
        text_of(tmp_path / "list.txt")


def test_text_of_odd_bytes(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"photos/\xe9t\xe9.png\na.png\n")
    with pytest.raises(UnicodeDecodeError):
        text_of(path)
    assert text_of(path, errors="surrogateescape").encode("utf-8", "surrogateescape") == path.read_bytes()
    for order in ("utf-16-le", "utf-16-be"):
        for name in ("a.png\n", "\u5199\u771f\u5e33.png\r\n"):
            path.write_bytes(name.encode(order))
            assert text_of(path) == name
    path.write_bytes(b"photos/a.png\0x\nphotos/b.png\n")
    with pytest.raises(UnicodeDecodeError, match="a NUL byte"):
        text_of(path, errors="surrogateescape")

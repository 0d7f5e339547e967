"""Outputs that several processes want at once, and processes that die while they hold one."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from restore import locks
from restore.errors import OutputError
from restore.locks import reserved

HOLDER = """
import sys, time
from restore.locks import reserved
with reserved(sys.argv[1]):
    print("held", flush=True)
    {then}
"""


@pytest.fixture
def hold():
    """A function: start a process that holds a path, and wait until it does."""
    started = []

    def start(path, then="time.sleep(60)", **options):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER.format(then=then), str(path)], stdout=subprocess.PIPE, text=True, **options
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in filter(None, (process.stdin, process.stdout)):
            pipe.close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("place", ["clip.mp4", "new/folder/clip.mp4", "folder", "ä b"])
def test_the_second_is_refused_by_name_and_a_dead_process_holds_nothing(tmp_path, hold, place):
    (tmp_path / "folder").mkdir()
    process = hold(tmp_path / place)
    with pytest.raises(OutputError, match=rf"{Path(place).name}' is being written by .* \(number {process.pid} on "):
        reserved(tmp_path / place).__enter__()
    process.kill()
    process.wait()
    with reserved(tmp_path / place):
        pass
    assert names(tmp_path) == ["folder"] + ["new"] * place.startswith("new")  # made by the one that was killed


def test_another_name_of_the_same_output_is_the_same_output(tmp_path, hold, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder", target_is_directory=True)
    hold(tmp_path / "folder")
    monkeypatch.chdir(tmp_path / "folder")
    for path in (".", "../folder", "../link", tmp_path / "link/../folder"):
        with pytest.raises(OutputError, match="being written"):
            reserved(path).__enter__()
    with reserved("inside.mp4"), reserved("../other"):
        pass


def test_who_waits_gets_it_when_it_is_free(tmp_path, hold, caplog):
    caplog.set_level("INFO")
    process = hold(tmp_path / "net.pth", then="sys.stdin.readline()", stdin=subprocess.PIPE)
    end = threading.Timer(0.3, lambda: print(file=process.stdin, flush=True))
    end.start()
    began = time.perf_counter()
    with reserved(tmp_path / "net.pth", wait=True):
        assert time.perf_counter() - began > 0.2
    end.join()
    assert f"number {process.pid}" in caplog.text
    assert names(tmp_path) == []


def test_threads_take_turns_and_never_meet(tmp_path):
    inside, most, done = [], [], []

    def work():
        for _ in range(20):
            with reserved(tmp_path / "x", wait=True):
                inside.append(1)
                most.append(len(inside))
                inside.pop()
                done.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    locks._PATIENCE_S, before = 0.001, locks._PATIENCE_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    locks._PATIENCE_S = before
    assert (max(most), len(done), names(tmp_path)) == (1, 80, [])


def test_children_do_not_hold_what_their_dead_parent_held(tmp_path, hold):
    then = "import os; os.fork() or print(os.getpid(), flush=True); time.sleep(30)"
    process = hold(tmp_path / "x", then=then)
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    os.kill(child, 0)  # it lives
    with reserved(tmp_path / "x"):
        pass
    os.kill(child, signal.SIGKILL)


def test_what_was_made_for_a_lock_goes_unless_something_came_in(tmp_path):
    with reserved(tmp_path / "a/b/c"):
        assert names(tmp_path / "a/b") == [".c.lock"]
    assert names(tmp_path) == []
    with reserved(tmp_path / "a/b/c"):
        (tmp_path / "a/kept").touch()
    assert names(tmp_path / "a") == ["kept"]


def test_a_folder_whose_parent_cannot_be_written_holds_its_own_lock(tmp_path, monkeypatch):
    (tmp_path / "mounted").mkdir()
    opened, really = [], os.open

    def refusing(path, *arguments):
        opened.append(Path(path).name)
        if Path(path).parent == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really(path, *arguments)

    monkeypatch.setattr(os, "open", refusing)
    with reserved(tmp_path / "mounted"):
        assert names(tmp_path / "mounted") == [".lock"]
        with pytest.raises(OutputError, match="being written"):
            reserved(tmp_path / "mounted").__enter__()
    assert names(tmp_path / "mounted") == []
    with pytest.raises(OutputError, match=r"cannot write .*new': Permission denied"):
        reserved(tmp_path / "new").__enter__()


def test_a_disk_without_locks_goes_without(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def none(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    with reserved(tmp_path / "x"), reserved(tmp_path / "x"):
        pass
    assert names(tmp_path) == []

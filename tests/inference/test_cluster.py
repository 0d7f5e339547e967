"""Files through Ray: the outcomes of the plain engine, also when workers die."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from restore.errors import DataError, MissingError, OptionsError
from restore.images import read_image, write_image
from restore.inference.cluster import _Ledger, _Worker, restore_with_ray
from restore.inference.folder import restore_files
from restore.inference.restorer import Restorer
from restore.jobs import plan_jobs
from restore.networks import ImageSpec

MARK = "RESTORE_TEST_OF_WORKERS"
RUNTIME = {"device": "cpu"}


class Enlarge(nn.Module):
    """Nearest-neighbour enlargement that dies of black images; 50 ms each, so that there is time to be killed."""

    def __init__(self):
        super().__init__()
        self.spec = ImageSpec(scale=2)

    def forward(self, x):
        import os
        import time

        time.sleep(0.05)
        if (x == 0).all((1, 2, 3)).any():
            os._exit(1)
        return F.interpolate(x, scale_factor=2, mode="nearest")


def photos(folder, count=24):
    rng = np.random.default_rng(0)
    for number in range(count):
        write_image(folder / f"{number:02}.png", rng.integers(1, 256, (20, 16, 3), np.uint8))
    (folder / "text.png").write_text("I am no image")
    return folder


@pytest.fixture
def cluster():
    """Ray on this machine, with two processors; its processes are marked, so that they can be found."""
    ray = pytest.importorskip("ray", reason="--engine ray needs Ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers do not know this file
    os.environ[MARK] = "1"
    try:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    finally:
        del os.environ[MARK]
    yield ray
    ray.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def workers():
    """Process numbers of the workers that are at work."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and process.name != str(os.getpid()):
            try:
                command, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
            except OSError:
                continue
            if b"MapWorker" in command and MARK.encode() in environment:
                found.append(int(process.name))
    return found


def ledger_here():
    """A ledger that is asked as Ray's are, in this process."""

    class Method:
        def __init__(self, method):
            self.remote = method

    class Here:
        def __init__(self):
            ledger = _Ledger()
            for name in ("begin", "begin_alone", "end"):
                setattr(self, name, Method(getattr(ledger, name)))

    return Here()


def worker_here(network, ledger):
    worker = object.__new__(_Worker)
    worker._ask, worker._ledger, worker._how = lambda answer: answer, ledger, {}
    worker._restorer = Restorer(network, device="cpu")
    return worker


def block_of(jobs):
    return {
        "number": np.arange(len(jobs)),
        "source": np.array([str(job.source) for job in jobs]),
        "target": np.array([str(job.target) for job in jobs]),
    }


def test_a_block_goes_on_where_a_worker_died(tmp_path, enlarge):
    """What Ray does after a death, without Ray: the same block again, in a new worker."""

    class Deadly(enlarge):
        def forward(self, x):
            if (x == 0).all((1, 2, 3)).any():
                raise SystemExit  # nothing catches it, as nothing catches a kill
            return super().forward(x)

    folder = photos(tmp_path / "in", 6)
    write_image(folder / "03.png", np.zeros((20, 16, 3), np.uint8))
    jobs = plan_jobs(folder, tmp_path / "out")
    ledger, networks = ledger_here(), [Deadly(2) for _ in range(3)]
    for network in networks[:2]:
        worker = worker_here(network, ledger)
        worker._restorer.group_size = lambda height, width: 1
        with pytest.raises(SystemExit):
            worker(block_of(jobs))
    rows = worker_here(networks[2], ledger)(block_of(jobs))
    assert sorted(rows["number"]) == list(range(7))
    failed = {
        jobs[number].source.name: error for number, error in zip(rows["number"], rows["error"], strict=True) if error
    }
    assert sorted(failed) == ["03.png", "text.png"]
    assert "dies every time" in failed["03.png"]
    assert len(networks[2].seen) <= 3  # what was done before is not done again
    assert not any(rows["fatal"])


def test_a_full_disk_is_told_to_all(tmp_path, enlarge):
    folder = photos(tmp_path / "in", 2)
    jobs = plan_jobs(folder, tmp_path / "out")
    (tmp_path / "out").write_text("in the way")
    rows = worker_here(enlarge(2), ledger_here())(block_of(jobs))
    assert rows["fatal"] == [True]
    assert "cannot make the folder" in rows["error"][0]


def test_workers_keep_memory_that_they_free(monkeypatch, enlarge):
    called = []
    monkeypatch.setattr("restore.inference.cluster.keep_freed_memory", lambda: called.append(True))
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda network: network))
    _Worker(enlarge(2), RUNTIME, {}, ledger=None)
    assert called == [True]


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingError, match=r"restore-toolkit\[ray\]"):
        next(restore_with_ray([], Enlarge(), RUNTIME))


def test_no_cluster_at_an_address():
    pytest.importorskip("ray", reason="--engine ray needs Ray")
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:port"):
        with pytest.raises(DataError, match=f"no Ray cluster answers at '{address}'"):
            next(restore_with_ray([], Enlarge(), RUNTIME, address=address))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers in /proc")
def test_a_killed_worker_and_a_deadly_image(tmp_path, cluster):
    folder = photos(tmp_path / "in")
    write_image(folder / "17.png", np.zeros((20, 16, 3), np.uint8))
    jobs = plan_jobs(folder, tmp_path / "out")
    outcomes, killed = [], None
    for outcome in restore_with_ray(jobs, Enlarge(), RUNTIME, num_workers=2):
        outcomes.append(outcome)
        if killed is None:
            killed = workers()[0]
            os.kill(killed, signal.SIGKILL)
    assert killed
    assert sorted(outcome.job.source for outcome in outcomes) == sorted(job.source for job in jobs)
    failed = {outcome.job.source.name: outcome.error for outcome in outcomes if outcome.error}
    assert sorted(failed) == ["17.png", "text.png"]
    assert "dies every time" in failed["17.png"]
    plain = [job for job in jobs if job.source.name not in failed]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(job.target.name for job in plain)
    for job in plain:
        expected = read_image(job.source).pixels.repeat(2, 0).repeat(2, 1)
        assert (read_image(job.target).pixels == expected).all()


@pytest.mark.slow
def test_outcomes_are_those_of_the_plain_engine(tmp_path, cluster, monkeypatch):
    torch.manual_seed(0)
    photos(tmp_path / "in", 5)
    monkeypatch.chdir(tmp_path)  # the workers are elsewhere, and call files by their full names
    ray_jobs, plain_jobs = (plan_jobs("in", name, suffix="_x2") for name in ("ray", "plain"))
    by_ray = {outcome.job: outcome.error for outcome in restore_with_ray(ray_jobs, Enlarge(), RUNTIME, num_workers=2)}
    plain = {outcome.job: outcome.error for outcome in restore_files(plain_jobs, Restorer(Enlarge(), **RUNTIME))}
    assert [by_ray[job] for job in ray_jobs] == [plain[job] for job in plain_jobs]
    for job, other in zip(ray_jobs, plain_jobs, strict=True):
        assert job.target.exists() == other.target.exists()
        if job.target.exists():
            assert job.target.read_bytes() == other.target.read_bytes()
    for wrong, words in (
        ({"num_workers": 0}, "--workers is 0"),
        ({"num_workers": 3}, "the cluster has 2 processors"),
    ):
        with pytest.raises(OptionsError, match=words):
            next(restore_with_ray(ray_jobs, Enlarge(), RUNTIME, **wrong))
    with pytest.raises(OptionsError, match="tile is 0"):
        next(restore_with_ray(ray_jobs, Enlarge(), {"device": "cpu", "tile": 0}))

"""`restore serve` as a process, and its page in a browser where there is one."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from restore.cli import main
from restore.images import read_image

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _parts():
    for name in ("fastapi", "uvicorn", "python_multipart"):
        pytest.importorskip(name, reason="the extra serve is not installed")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_sigterm_finishes_what_is_being_done(script, weights):
    load, walk = script("load_serve"), script("walk_serve")
    with walk.served("-m", "swinir_light_color_dn", "--device", "cpu", "--tile", "64") as (address, process):
        status, _, body = load.call(address, "POST", "/api/orders", walk.drawn(150, 220))
        assert status == 202
        where = f"/api/orders/{json.loads(body)['id']}"
        end = time.monotonic() + 60
        while json.loads(load.call(address, "GET", where)[2])["state"] != "running" and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        while (order := json.loads(load.call(address, "GET", where)[2]))["state"] == "running":
            time.sleep(0.05)
        assert order["state"] == "done"
        assert load.call(address, "GET", f"{where}/result")[0] == 200
        assert process.wait(20) == 0
        assert "stopped" in process.stderr.read()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_a_second_signal_ends_at_once(script):
    load, walk = script("load_serve"), script("walk_serve")
    with walk.served("-m", "swinir_light_x4", "--device", "cpu", "--tile", "none") as (address, process):
        status, _, body = load.call(address, "POST", "/api/orders", walk.drawn(600, 800))
        assert status == 202
        where = f"/api/orders/{json.loads(body)['id']}"
        while json.loads(load.call(address, "GET", where)[2])["state"] == "waiting":
            time.sleep(0.05)
        time.sleep(3)  # for the weights to be read; then it is in the network for much longer
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in (0, 130)  # 0 where it was still reading weights


@pytest.mark.slow
def test_other_machines_need_a_token(script, weights):
    load, walk = script("load_serve"), script("walk_serve")
    with walk.served("-m", str(weights), "--host", "0.0.0.0") as (address, _):
        assert "#token=" in address
        address = address.replace("0.0.0.0", "127.0.0.1")
        assert load.call(address, "GET", "/api/models")[0] == 200
        assert load.call(address.partition("#")[0], "GET", "/api/models")[0] == 401
        assert load.call(address, "POST", "/api/restore", walk.drawn(20, 30))[0] == 200


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "must be 0 to 65535"),
        (["-m", "iqt_small"], "judges images"),
        (["-m", "no_such_model"], "no_such_model"),
        (["-m", "fast_x4", "-m", "fast_x4"], "two models are called"),
        (["-m", "fast_x4", "--host", "no.such.host.invalid"], "cannot listen"),
        (["-m", "fast_x4", "--device", "cuda:99"], "cuda:99"),
    ],
)
def test_what_cannot_be_served(capsys, words, message):
    assert main(["serve", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_token_is_no_short_word(capsys, monkeypatch):
    monkeypatch.setenv("RESTORE_TOKEN", "secret")
    assert main(["serve", "-m", "fast_x4"]) == 2
    assert "at least 16" in capsys.readouterr().err


def test_without_the_extra_it_says_how_to_get_it():
    code = "import sys; sys.modules['fastapi'] = None; from restore.cli import main; sys.exit(main(['serve']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "restore-toolkit[serve]" in done.stderr


@pytest.mark.timeout(600)
def test_the_page_in_a_browser(script, tmp_path):
    pytest.importorskip("playwright", reason="the walk needs playwright")
    walk = script("walk_serve")
    if walk.find_browser() is None:
        pytest.skip("no Chromium is here")
    with walk.served("-m", "fast_x4", "-m", "swinir_light_color_dn", "--device", "cpu") as (address, _):
        seen = walk.walk(address, walk.drawn(60, 90), walk.find_browser(), (390, 844), tmp_path, "fast_x4")
    assert seen[-1] == "nothing in the console"
    assert len(list(tmp_path.glob("*.png"))) >= 6


def test_the_documented_requests(serving, script, tmp_path):
    curl = shutil.which("curl") or pytest.skip("curl is not here")
    page = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("curl ")]
    assert len(commands) == 3
    (tmp_path / "photo.jpg").write_bytes(script("walk_serve").drawn(24, 32))
    with serving(models=["fast_x4", "swinir_light_color_dn"]) as (_, address):
        for words in commands:
            words = [word.replace("http://127.0.0.1:8421/", address) for word in words]
            subprocess.run([curl, "--silent", "--fail", *words], cwd=tmp_path, check=True)
    assert read_image(tmp_path / "restored.png").pixels.shape == (96, 128, 3)
    assert read_image(tmp_path / "clean.jpg").pixels.shape == (24, 32, 3)


def test_the_image_starts_what_there_is():
    """What of the Dockerfile can be told without Docker."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    extras = re.search(r"\$\{wheel\}\[([\w,]+)\]", text)[1].split(",")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras)
    program, *words = json.loads(re.search(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[1])
    assert program == "restore"
    from restore.commands import serve

    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    parsed = parser.parse_args(words[1:])
    assert f"EXPOSE {parsed.port}\n" in text
    assert f":{parsed.port}/api/health" in text

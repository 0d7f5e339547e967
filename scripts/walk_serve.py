"""Walk through the page of `restore serve` in a real browser, at two widths, and take a picture of every step.

    python scripts/walk_serve.py -o FOLDER [--browser /usr/bin/chromium] [--image PHOTO]

Starts a server on a free port, chooses a model, drops one photograph, one that is damaged and one with transparency,
waits for the results, moves the slider, downloads, and ends the server with SIGTERM. Prints what was seen; exit code 1
where a step fails or the browser's console has an error. Needs playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WIDTHS = {1400: 900, 390: 844}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
DROP = """([name, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name));
  const how = { dataTransfer: data, bubbles: true, cancelable: true };
  for (const kind of ["dragenter", "dragover", "drop"])
    document.getElementById("drop").dispatchEvent(new DragEvent(kind, how));
}"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--browser", default=find_browser(), help="the browser's program")
    parser.add_argument("--image", type=Path, help="a photograph; by default one is drawn")
    parser.add_argument("--model", default="fast_x4")
    arguments = parser.parse_args()
    photograph = arguments.image.read_bytes() if arguments.image else drawn()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with served("-m", arguments.model, "-m", "swinir_light_color_dn", "--host", "127.0.0.1") as (address, process):
        for width, height in WIDTHS.items():
            seen = walk(address, photograph, arguments.browser, (width, height), arguments.output, arguments.model)
            print(f"{width} px: {', '.join(seen)}")
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)
        print(f"after SIGTERM: exit code {code}")
    return code


def find_browser() -> str | None:
    """The program of a Chromium, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@contextlib.contextmanager
def served(*arguments: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server of its own: the address that it prints, and its process."""
    command = [sys.executable, "-m", "restore", "serve", "--port", "0", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=log, text=True, env=environment)
        assert process.stderr
        try:
            lines = []
            for line in process.stderr:
                lines.append(line)
                if found := re.search(r"http://\S+", line):
                    break
            else:
                raise SystemExit(f"the server did not start:\n{''.join(lines)}")
            yield found[0], process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.stderr.close()


def walk(
    address: str, photograph: bytes, browser: str | None, size: tuple[int, int], folder: Path, model: str
) -> list[str]:
    """One way through the page in a window of this size; what was seen, step by step.

    Raises:
        AssertionError: a step showed something else, or the console has an error.
    """
    import base64

    from playwright.sync_api import expect, sync_playwright

    width, height = size
    seen: list[str] = []
    faults: list[str] = []
    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = window.new_page(viewport={"width": width, "height": height}, has_touch=width < 500)
        page.set_default_timeout(60_000)
        page.on(
            "console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: faults.append(str(error)))

        def shot(name: str) -> None:
            page.screenshot(path=str(folder / f"{width}_{len(seen)}_{name}.png"))
            overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow <= 0, f"{name}: {overflow} px wider than the window"
            seen.append(name)

        def drop(name: str, data: bytes) -> None:
            page.evaluate(DROP, [name, base64.b64encode(data).decode()])

        page.goto(address)
        page.locator("#model option").first.wait_for(state="attached")  # the page's policy forbids functions in words
        assert "token" not in page.url
        shot("opened")
        page.select_option("#task", "denoise")
        assert page.input_value("#model") == "swinir_light_color_dn"
        page.select_option("#task", "sr")
        assert page.input_value("#model") == model
        drop("harbour.jpg", photograph)
        first = page.locator(".card").first
        first.scroll_into_view_if_needed()
        shot("restoring")
        expect(first).to_have_class(re.compile("done"), timeout=120_000)
        first.scroll_into_view_if_needed()
        stage = first.locator(".stage")
        shown = stage.evaluate("s => [...s.querySelectorAll('img')].map((i) => [i.naturalWidth, i.naturalHeight])")
        assert shown[1] == [4 * side for side in shown[0]], shown
        shot("restored")
        box = stage.bounding_box()
        assert box
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2, steps=5)
        page.mouse.up()
        assert abs(int(stage.get_attribute("aria-valuenow") or 0) - 25) <= 1
        shot("slider_moved")
        with page.expect_download() as download:
            first.get_by_role("link", name="Download").click()
        with open(download.value.path(), "rb") as file:
            assert file.read(8) == b"\x89PNG\r\n\x1a\n"
        assert download.value.suggested_filename == f"harbour_{model}.png"
        seen.append(f"{download.value.suggested_filename} downloaded")
        drop("broken.jpg", photograph[: len(photograph) // 3])
        expect(page.locator(".card.failed .note.bad")).to_contain_text("cannot read")
        page.locator(".card.failed").scroll_into_view_if_needed()
        shot("broken")
        with page.expect_file_chooser() as chooser:
            page.locator("#drop").click()
        chooser.value.set_files([{"name": "logo.png", "mimeType": "image/png", "buffer": transparent()}])
        expect(page.locator(".card.done")).to_have_count(2, timeout=60_000)
        page.locator(".card.failed").get_by_role("button", name="Remove").click()
        expect(page.locator(".card")).to_have_count(2)
        page.locator("#theme").click()
        page.mouse.move(0, 0)
        page.locator("#h-photographs").scroll_into_view_if_needed()
        shot("dark")
        page.screenshot(path=str(folder / f"{width}_whole.png"), full_page=True)
        window.close()
    assert not faults, faults
    seen.append("nothing in the console")
    return seen


def drawn(height: int = 150, width: int = 220) -> bytes:
    """A picture with slopes, edges and a pattern, as JPEG."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[:height, :width]
    sky = np.stack([90 + y // 2, 140 + y // 3, 230 - y // 3], -1)
    hill = y > height * (0.62 + 0.12 * np.sin(x / 23))
    sky[hill] = np.stack([40 + 25 * ((x // 3 + y // 3) % 2), 110 + x // 4, 60 + 0 * x], -1)[hill]
    sky[(x - 160) ** 2 + (y - 40) ** 2 < 400] = 250, 220, 120
    file = io.BytesIO()
    Image.fromarray(sky.astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def transparent() -> bytes:
    """A small disc on nothing, as PNG."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[:48, :64]
    alpha = np.where((x - 32) ** 2 + (y - 24) ** 2 < 400, 255, 0)
    pixels = np.stack([x * 4, y * 5, 255 - x * 2, alpha], -1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main())

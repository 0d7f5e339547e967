"""The page and the terminal table: that they say what was found, and need nothing else."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from restore.evaluation import DatasetResult, ImageResult, MetricRecord, Results, evaluate
from restore.evaluation.models.report import render
from restore.evaluation.models.terminal import summary
from restore.images import decode_image, read_image
from restore.metrics import bind_metrics
from restore.reports.format import signed

DB = MetricRecord("psnr", unit="dB")
PLAIN = MetricRecord("lpips", better="lower")


class Page(HTMLParser):
    """Every element of a page with its attributes, and the text of the cells of its tables."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.rows, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag in ("td", "th", "small"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in ("td", "th", "small"):
            self.open.pop()

    def handle_data(self, data):
        if self.open and "small" not in self.open:  # what narrow screens show again
            self.rows[-1][-1] += data

    def all(self, tag, **wanted):
        names = {key.rstrip("_"): value for key, value in wanted.items()}
        return [found for name, found in self.elements if name == tag and names.items() <= found.items()]


@pytest.fixture
def run(tmp_path, restorer, dataset, noise):
    """A finished evaluation of two images, and its page."""
    pairs = dataset("Set", {name: (noise(16, 20, 3), noise(8, 10, 3)) for name in ("first", "<second>")})
    metrics = bind_metrics({"psnr": {"type": "psnr"}, "ssim": {"type": "ssim"}})
    results = evaluate(restorer(), [pairs], metrics, name="run", results_root=tmp_path, options="name: run # <b>\n")
    return results, tmp_path / "run", Page((tmp_path / "run/report.html").read_text())


def test_page_is_self_contained(run):
    _, folder, page = run
    text = (folder / "report.html").read_text()
    assert not re.search(r"https?://", text)
    assert "@import" not in text
    assert not page.all("link", rel="stylesheet")
    assert all("src" not in script for script in page.all("script"))
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    assert all(anchor["href"].startswith("#") for anchor in page.all("a"))


def test_pictures_are_the_pixels(run):
    _, folder, page = run
    images = page.all("img")
    assert [image["alt"] for image in images] == [
        f"{name}, {kind}" for name in ("first", "<second>") for kind in ("bicubic", "restored", "reference")
    ]
    embedded = decode_image(base64.b64decode(images[1]["src"].partition(",")[2])).pixels
    assert np.array_equal(embedded, read_image(folder / "visualization/Set/first_run.png").pixels)


def test_sliders_can_be_reached_by_keyboard(run):
    _, _, page = run
    stages = page.all("div", class_="stage")
    assert len(stages) == 2
    assert all((stage["role"], stage["tabindex"], stage["aria-valuenow"]) == ("slider", "0", "50") for stage in stages)
    pairs = [button["data-pair"] for button in page.all("button", role="radio")]
    assert pairs == ["baseline restored", "restored reference", "baseline reference"]


def test_tables_hold_the_figures(run):
    results, _, page = run
    dataset = results.datasets[0]
    image = dataset.images[0]
    row = next(row for row in page.rows if row and row[0] == "first")
    gains = {label: image.restored[label] - image.baseline[label] for label in ("psnr", "ssim")}
    assert row[1:3] == [f"{image.baseline['psnr']:.2f}", f"{image.restored['psnr']:.2f}"]
    assert row[3].strip() == signed(gains["psnr"], DB)
    assert row[4:6] == [f"{image.baseline['ssim']:.4f}", f"{image.restored['ssim']:.4f}"]
    mean = next(row for row in page.rows if row and row[0] == "Set")
    assert mean[1:4] == ["2", f"{dataset.mean('psnr', 'baseline'):.2f}", f"{dataset.mean('psnr'):.2f}"]
    values = [cell["data-value"] for cell in page.all("td") if "data-value" in cell]
    assert str(image.restored["psnr"]) in values


def test_names_and_options_are_escaped(run):
    _, folder, page = run
    text = (folder / "report.html").read_text()
    assert "<second>" not in text
    assert "&lt;second&gt;" in text
    assert "name: run # &lt;b&gt;" in text
    assert any(row and row[0] == "<second>" for row in page.rows)


def a_result(**changes):
    image = ImageResult("a", None, (8, 8), (4, 4), 12.0, {"psnr": 30.0, "lpips": 0.2}, {"psnr": 28.5, "lpips": 0.3})
    metrics = {"psnr": DB, "lpips": PLAIN, "fid": MetricRecord("fid", missing="it needs a folder.")}
    dataset = DatasetResult("Set", 2, True, [image], 2048.0)
    return Results("run", 2, "bicubic", metrics, [dataset], **{"complete": True, **changes})


def test_lower_is_better_where_it_is(run):
    text = render(a_result(), {})
    assert '<span class="gain good">+1.50</span>' in text
    assert '<span class="gain good">−0.1000</span>' in text


def test_two_datasets_have_a_tile_each():
    results = a_result()
    results.datasets.append(DatasetResult("Other", 1, True, results.datasets[0].images))
    page = Page(render(results, {}))
    assert len(page.all("div", class_="tile")) == 2
    assert next(row for row in page.rows if row[0] == "Other" and row[1] == "a")


def test_terminal_table_fits_and_tells():
    console = Console(width=80, file=io.StringIO())
    console.print(summary(a_result()))
    text = console.file.getvalue()
    for words in ("1 of 2", "PSNR dB ↑", "28.50", "30.00", "+1.50", "LPIPS ↓", "−0.1000", "2.00 GiB"):
        assert words in text
    assert "FID is missing: it needs a folder." in text
    assert "…" not in text

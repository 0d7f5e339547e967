"""Every page of the package is made of one template: what holds for it holds for all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import restore
from restore.reports.pages import fill_page

ROOT = Path(restore.__file__).parent
SHARED = ROOT / "reports/page"
TEMPLATES = [path for path in sorted(ROOT.rglob("page/*.html")) if path.parent != SHARED]


def page(tmp_path, monkeypatch, body="", **values):
    """A page of a template of one's own, which a package on the path holds."""
    package = tmp_path / "room"
    (package / "page").mkdir(parents=True)
    (package / "__init__.py").touch()
    text = f'{{%- extends "page.html" %}}{{% block kind %}}Kind{{% endblock %}}{{% block main %}}{body}{{% endblock %}}'
    (package / "page/own.html").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return fill_page("room", "own.html", **values)


def test_a_page_needs_nothing_else_and_fits_every_screen(tmp_path, monkeypatch):
    text = page(
        tmp_path, monkeypatch, "{{ 'psnr' | heading }}{{ words }}", title="<b>", words="<i>", facts=["a", "<u>"]
    )
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert not re.search(r"https?://|@import|<link rel=.stylesheet|<script src", text)
    assert "PSNR&lt;i&gt;" in text
    assert "<title>&lt;b&gt;</title>" in text
    assert "<span>&lt;u&gt;</span>" in text
    assert restore.__version__ in text


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_every_room_extends_the_shared_page(template):
    text = template.read_text()
    assert re.match(r'\{%- extends "(page|results)\.html" %\}', text)
    assert "<style" not in text
    assert not re.search(r"--(paper|ink|accent)\s*:", text)  # colours are the shared style's


def test_the_rooms_are_all_there():
    assert {path.parents[1].name for path in TEMPLATES} == {
        "analysis",
        "comparing",
        "defects",
        "leaderboard",
        "models",
        "opinions",
        "scoring",
        "searches",
        "serving",
        "sweeps",
        "training",
    }


def test_the_zoom_bar_shows_on_hover_and_focus_only():
    rules = re.findall(r"([^{}]*)\{([^{}]*)\}", (SHARED / "compare.css").read_text())
    shown = [selector.strip() for selector, body in rules if ".tools" in selector and "opacity: 1" in body]
    assert shown == [".stage:is(:hover, :focus, :focus-within) .tools"]
    (hidden,) = [body for selector, body in rules if selector.strip() == ".tools" and "opacity: 0" in body]
    assert "pointer-events: none" in hidden

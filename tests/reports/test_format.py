"""How figures are written."""

from __future__ import annotations

import pytest

from restore.evaluation import MetricRecord
from restore.reports.format import breakable, figure, heading, memory, milliseconds, signed, titled, verdict

DB = MetricRecord("psnr", unit="dB")
PLAIN = MetricRecord("lpips", better="lower")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (heading("psnr"), "PSNR"),
        (heading("my long label"), "my long label"),
        (titled("psnr", DB), "PSNR dB ↑"),
        (titled("lpips", PLAIN), "LPIPS ↓"),
        (figure(27.125, DB), "27.12"),
        (figure(0.81234, PLAIN), "0.8123"),
        (figure(float("inf"), DB), "∞"),
        (figure(float("nan"), DB), "n/a"),
        (signed(0.004, DB), "±0.00"),
        (signed(-1.5, DB), "−1.50"),
        (verdict(0.004, DB), "even"),
        (verdict(float("inf"), DB), "good"),
        (verdict(0.1, PLAIN), "bad"),
        (milliseconds(1234.4), "1,234"),
        (milliseconds(1.2345), "1.23"),
        (memory(1536), "1.50 GiB"),
        (memory(150.2), "150 MiB"),
    ],
)
def test_figures_are_written_alike(text, expected):
    assert text == expected


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("recursive_gated_conv", ["recursive_", "gated_", "conv"]),
        ("stages.0/blocks", ["stages.", "0/", "blocks"]),
        ("__private_", ["__", "private_"]),
        ("window", ["window"]),
        ("a<b>_&", ["a&lt;b&gt;_", "&amp;"]),
        (3, ["3"]),
    ],
)
def test_names_end_a_line_between_words_and_are_no_markup(name, pieces):
    assert str(breakable(name)).split("<wbr>") == pieces

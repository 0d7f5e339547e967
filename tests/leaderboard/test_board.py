from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest

from restore.errors import DataError
from restore.leaderboard.board import Entry, add_entry, load_entries, rank
from restore.leaderboard.organisers import Complexity, merge_results, read_results, results_entry, results_table
from restore.leaderboard.page import render_html, render_markdown
from restore.leaderboard.tracks import TRACKS

RLFN = Complexity(0.317218, 19.67485952, 80.045184, 39)
KEYS = ["runtime", "psnr", "memory", "ave_runtime", "ave_psnr"]
COST = ["activations", "num_conv", "flops", "num_parameters"]


def test_results_json_has_exactly_the_organisers_keys(tmp_path):
    valid = results_entry([14.0, 10.0], [26.9, 27.0], 467.7, RLFN)
    assert list(valid) == [f"valid_{key}" for key in KEYS] + COST
    merge_results(tmp_path / "results.json", "00_RLFN_baseline", valid)
    test = results_entry([9.0, 10.0], [27.0, 27.1], 467.7, RLFN, split="test")
    merge_results(tmp_path / "results.json", "00_RLFN_baseline", test)
    merge_results(tmp_path / "results.json", "07_Mine", valid)
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results) == ["00_RLFN_baseline", "07_Mine"]
    both = [f"{split}_{key}" for split in ("valid", "test") for key in KEYS] + COST
    assert list(results["00_RLFN_baseline"]) == both
    assert results["00_RLFN_baseline"]["valid_ave_psnr"] == 26.95
    with_ssim = results_entry([1.0], [26.9], 1.0, RLFN, ssim=[0.8])
    assert {"valid_ssim", "valid_ave_ssim"} < set(with_ssim)


def test_results_txt_is_the_organisers_table():
    entry = results_entry([14.94], [26.9551], 467.70, RLFN) | {"test_ave_psnr": 27.0695, "test_ave_runtime": 9.49}
    head, row = results_table({"00_RLFN_baseline": entry}).splitlines()
    assert head.startswith(
        "Model               \tVal PSNR  \tTest PSNR \tVal Time [ms] \tTest Time [ms]\tAve Time [ms] \t"
    )
    assert [cell.strip() for cell in row.split("\t")] == [
        "00_RLFN_baseline", "26.96", "27.07", "14.94", "9.49", "12.21", "0.317", "19.67", "80.05", "467.70", "39",
    ]  # fmt: skip
    assert "Test PSNR" not in results_table({"a": results_entry([1.0], [26.9], 1.0, RLFN)})


def test_the_organisers_published_file(tmp_path):
    """The layout and the figures of NTIRE 2024's results.json, its lists of images cut short."""
    published = {
        "00_RLFN_baseline": {
            "valid_runtime": [1033.7568359375, 7.129183769226074],
            "valid_psnr": [26.9551],
            "valid_memory": 467.70361328125,
            "valid_ave_runtime": 14.94,
            "valid_ave_psnr": 26.9551,
            "test_runtime": [9.49],
            "test_psnr": [27.0695],
            "test_memory": 451.1,
            "test_ave_runtime": 9.49,
            "test_ave_psnr": 27.0695,
            "activations": 80.045184,
            "num_conv": 39,
            "flops": 19.67485952,
            "num_parameters": 0.317218,
        }
    }
    path = tmp_path / "results.json"
    path.write_text(json.dumps(published))
    assert read_results(path) == published
    (entry,) = load_entries([path])
    assert entry.scores == {"psnr": 26.9551, "psnr_test": 27.0695}
    assert entry.cost["runtime_ms"] == pytest.approx((14.94 + 9.49) / 2)
    assert (entry.cost["params_m"], entry.cost["flops_g"], entry.cost["num_conv"]) == (0.317218, 19.67485952, 39)


@pytest.mark.parametrize(
    ("text", "message"),
    [("[]", "holds no entries"), ("{", "cannot read"), ('{"a": {"flops": 1}}', "the entry 'a' lacks valid_ave_psnr")],
)
def test_files_that_are_something_else(tmp_path, text, message):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_results(tmp_path / "results.json")


def _entry(name, psnr, runtime_ms, source=""):
    cost = {"runtime_ms": runtime_ms, "params_m": 0.2, "flops_g": 10.0}
    return Entry(name, "esr", {"psnr": psnr}, cost, "valid", "2026-03-01", source)


def test_ranks():
    entries = [_entry("slow", 26.95, 20), _entry("fast", 26.92, 10), _entry("poor", 26.5, 1), _entry("same", 26.9, 10)]
    entries.append(Entry("unmeasured", "esr", {"psnr": 27.5}))
    entries += [Entry(name, "sr_x4", {"psnr": psnr}) for name, psnr in (("b", 31.0), ("a", 32.0))]
    board = rank(entries, year=2025)
    assert [(row.entry.name, row.place) for row in board[TRACKS["esr"]]] == [
        ("fast", 1), ("same", 1), ("slow", 3), ("unmeasured", None), ("poor", None),
    ]  # fmt: skip
    assert [row.note for row in board[TRACKS["esr"]][3:]] == ["cost not measured", "PSNR below the limit of 2025"]
    assert [row.entry.name for row in board[TRACKS["sr_x4"]]] == ["a", "b"]


def test_boards_grow_and_are_read_again(tmp_path):
    board = tmp_path / "runs" / "board.jsonl"
    first = _entry("first", 26.95, 20)
    add_entry(board, first)
    add_entry(board, Entry("second", "sr_x4", {"psnr": 30.0}))
    loaded = load_entries([board])
    assert loaded[0] == first
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", loaded[1].date)
    old = '{"name": "old", "track": "esr", "scores": {"psnr": 26.9}, "cost": {"memory_mb": 300}}\n'
    board.write_text(board.read_text() + old)
    assert load_entries([board])[2].cost == {"memory_mib": 300}
    board.write_text(board.read_text() + '{"name": "x", "track": "esr", "scores": {"psnr": "high"}}\n')
    with pytest.raises(DataError, match="line 4 is not a leaderboard entry: scores and cost are numbers"):
        load_entries([board])


def test_runs_on_the_test_set_have_a_place_too():
    runs = [Entry("a", "sr_x4", {"psnr_test": 29.0}), Entry("b", "sr_x4", {"psnr_test": 30.0})]
    (placed,) = rank(runs).values()
    assert [(item.entry.name, item.place) for item in placed] == [("b", 1), ("a", 2)]


def test_pages_show_ranks_figures_and_plots():
    hostile = "<script>alert(1)</script>"
    entries = [_entry(hostile, 26.95, 20), _entry("a|b", 26.92, 10), _entry("published", 26.96, 13, "results.json")]
    board = rank([*entries, Entry("iqt", "perceptual_iqa", {"main": 1.589, "srcc": 0.79, "plcc": 0.799})], year=2024)
    page = render_html(board, year=2024, title="Mine")
    assert hostile not in page
    assert page.count("<svg") == 2
    assert "published results" in page
    assert "https://" not in page.replace("https://www.w3.org", "")
    for plot in re.findall(r"<svg.*?</svg>", page, re.S):
        circles = [node for node in ElementTree.fromstring(plot).iter() if node.tag == "circle"]
        assert [node.attrib["class"] for node in circles].count("dot other") == 1
        assert len(circles) == 3
    text = render_markdown(board, year=2024)
    rows = [line for line in text.splitlines() if re.match(r"\| (\d|–)", line)]
    assert len(rows) == 4
    assert rows[0].startswith("| 1 | a\\|b | **")
    assert "1.5890" in text
    assert "0.70 exp(2 runtime/baseline)" in text

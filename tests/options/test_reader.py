"""YAML as option files need it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from restore.errors import OptionsError
from restore.options.reader import read_text, read_value


def problems(text: str) -> list[str]:
    with pytest.raises(OptionsError) as caught:
        read_text(text, "a.yml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-4", 2e-4),
        ("1e4", 1e4),
        ("1E+4", 1e4),
        ("!!float 2e-4", 2e-4),
        ("!!float 5e3", 5000.0),
        ("!!float 1", 1.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-0.5", -0.5),
        ("-1", -1),
        ("+3", 3),
        ("007", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("-.inf", -math.inf),
        ("~", None),
        ("null", None),
        ("", None),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        ("none", "none"),
        ("1.2.3", "1.2.3"),
        ("e5", "e5"),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("[1, 2e-1, ~, a]", [1, 0.2, None, "a"]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("~/data", str(Path.home() / "data")),
        ("'~/data'", str(Path.home() / "data")),
        ("~other", "~other"),
    ],
)
def test_values(text, value):
    read = read_text(f"key: {text}\n", "a.yml").values["key"]
    assert read == value
    assert type(read) is type(value)
    assert read_value(text, "--set") == value


def test_not_a_number():
    assert math.isnan(read_value(".nan", "--set"))


@pytest.mark.parametrize("text", ["a: b", "# five", "C:\\data", "x#y", "a, b", "{}x4", "{}_{}"])
def test_value_of_an_override_needs_no_quotes(text):
    assert read_value(text, "--set") == text


def test_keys_are_text():
    assert read_text("1: a\ntrue: b\n1.5: c\n", "a.yml").values == {"1": "a", "true": "b", "1.5": "c"}


def test_lines():
    tree = read_text("a: 1\nb:\n  c: 2\n\n  d:\n    - x\n    - y\n", "a.yml")
    lines = {place: origin.line for place, origin in tree.origins.items()}
    assert lines == {(): None, ("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "d"): 5, ("b", "d", 0): 6, ("b", "d", 1): 7}
    assert {origin.file for origin in tree.origins.values()} == {"a.yml"}


def test_anchors_and_merge_keys():
    tree = read_text("base: &base {a: 1, b: 2}\nmine:\n  <<: *base\n  b: 3\ncopy: *base\n", "a.yml")
    assert tree.values["mine"] == {"a": 1, "b": 3}
    assert tree.values["copy"] == {"a": 1, "b": 2}
    assert tree.origins[("mine", "b")].line == 4
    assert tree.origins[("mine", "a")].line == 1


def test_every_repeated_key_is_an_error():
    assert problems("a: 1\nb: {c: 1, c: 2}\na: 2\n") == [
        "a.yml:2: b.c: this key stands twice: also in line 2. Keep one.",
        "a.yml:3: a: this key stands twice: also in line 1. Keep one.",
    ]


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system [touch /tmp/x]", "!!set {a}", "!env HOME", "!!binary aa"]
)
def test_tags_that_build_things_are_refused(tag):
    (problem,) = problems(f"a: 1\nb: {tag}\n")
    assert problem.startswith("a.yml:2: b: the tag ")
    assert "is refused" in problem


def test_tag_that_does_not_fit():
    assert problems("a: !!float four\n") == ["a.yml:1: a: 'four' is not what the tag !!float says."]


@pytest.mark.parametrize(
    ("text", "line", "parts"),
    [
        ("a: 1\n  b: 2\n", 2, ["column 4", "indented too far", "\n      b: 2\n       ^"]),
        ("a:\n\tb: 2\n", 2, ["column 1", "spaces, not tabs"]),
        ("a: [1, 2\nb: 3\n", 2, ["column 2", "\n    b: 3\n"]),
        ("a:\n   b: 1\n  c: 2\n", 3, ["same column"]),
        ("a: *base\n", 1, ["undefined alias", "base"]),
        ("a: 1\n---\nb: 1\n", 2, ["another document"]),
        ("a:\n  b\n  c: 1\nd\n", 3, ["mapping values"]),
    ],
)
def test_syntax_error_is_one_message_with_line_and_column(text, line, parts):
    (problem,) = problems(text)
    assert problem.startswith(f"a.yml:{line}: not valid YAML at column ")
    for part in parts:
        assert part in problem


@pytest.mark.parametrize(
    ("text", "part"), [("", "empty"), ("# nothing\n", "empty"), ("- a\n", "not a list"), ("5", "not a list")]
)
def test_something_else_than_keys(text, part):
    (problem,) = problems(text)
    assert part in problem


def test_unprintable_characters():
    (problem,) = problems("a: \x00\n")
    assert "not valid YAML" in problem
    assert "a.yml" in problem


def test_aliases_cannot_explode():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert any("far too many" in problem for problem in problems("\n".join(lines)))


def test_aliases_cannot_contain_themselves():
    assert any("never end" in problem for problem in problems("a: &a\n  b: *a\n"))


@pytest.mark.parametrize("text", ["[1, 2", "{a: ", "'open", "!!python/name:os.system x"])
def test_override_that_is_not_a_value(text):
    with pytest.raises(OptionsError, match=r"--set x: "):
        read_value(text, "--set x")

"""How files, the files they extend, and overrides combine."""

from __future__ import annotations

import pytest

from restore.errors import OptionsError
from restore.options.source import Override, read


def error(*arguments) -> str:
    with pytest.raises(OptionsError) as caught:
        read(*arguments)
    return str(caught.value)


def test_blocks_merge_and_values_replace(write):
    write("a: 1\nblock: {x: 1, y: [1, 2]}\nkeep: {z: 1}\n", "base.yml")
    child = write("extends: base.yml\na: 2\nblock: {y: [3]}\nnew: {w: 1}\n")
    assert read(child).values == {"a": 2, "block": {"x": 1, "y": [3]}, "keep": {"z": 1}, "new": {"w": 1}}


def test_chain_and_list_of_bases(write, tmp_path):
    (tmp_path / "parts").mkdir()
    write("a: 1\nb: 1\nc: 1\nd: 1\n", "parts/root.yml")
    write("extends: root.yml\nb: 2\nc: 2\n", "parts/one.yml")
    write("c: 3\n", "two.yml")
    child = write("extends: [parts/one.yml, two.yml]\nd: 4\n")
    assert read(child).values == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_another_type_starts_the_block_anew(write):
    write("network_g: {type: A, width: 1}\ntrain: {pixel_opt: {type: L1, eps: 1}}\n", "base.yml")
    child = write("extends: base.yml\nnetwork_g: {type: B}\ntrain: {pixel_opt: {type: L1, weight: 2}}\n")
    tree = read(child)
    assert tree.values == {"network_g": {"type": "B"}, "train": {"pixel_opt": {"type": "L1", "eps": 1, "weight": 2}}}
    assert ("network_g", "width") not in tree.origins


def test_a_dataset_keeps_its_entries_whatever_its_type(write):
    write("datasets: {train: {type: A, dataroot_gt: x}}\n", "base.yml")
    child = write("extends: base.yml\ndatasets: {train: {type: B}}\n")
    assert read(child).values["datasets"]["train"] == {"type": "B", "dataroot_gt": "x"}


def test_null_replaces_a_block(write):
    write("train: {perceptual_opt: {type: P}, x: 1}\n", "base.yml")
    child = write("extends: base.yml\ntrain: {perceptual_opt: ~}\n")
    assert read(child).values == {"train": {"perceptual_opt": None, "x": 1}}


def test_every_value_knows_its_file_and_line(write):
    base = write("a: 1\nblock:\n  x: 1\n  y: 2\n", "base.yml")
    child = write("extends: base.yml\n\nblock:\n  y: 3\n")
    tree = read(child, ["block.z=4"])
    places = {".".join(map(str, place)): str(origin) for place, origin in tree.origins.items()}
    assert places["a"] == f"{base}:1"
    assert places["block.x"] == f"{base}:3"
    assert places["block.y"] == f"{child}:4"
    assert places["block.z"] == "--set block.z=4"
    assert str(tree.origin(("block", "missing"))) == f"{child}:3"
    assert str(tree.origin(("nowhere",))) == str(child)


def test_circles_are_found(write):
    write("extends: b.yml\n", "a.yml")
    write("extends: c.yml\n", "b.yml")
    path = write("extends: a.yml\n", "c.yml")
    message = error(path)
    assert "b.yml:1: extends: these files extend each other in a circle: c.yml -> a.yml -> b.yml -> c.yml." in message
    assert "circle: me.yml -> me.yml" in error(write("extends: me.yml\n", "me.yml"))


def test_one_file_may_be_extended_twice(write):
    write("a: 1\n", "root.yml")
    write("extends: root.yml\n", "left.yml")
    write("extends: root.yml\n", "right.yml")
    assert read(write("extends: [left.yml, right.yml]\n")).values == {"a": 1}


def test_missing_base_names_the_nearest(write):
    write("a: 1\n", "swinir_x4.yml")
    message = error(write("a: 1\nextends: swinr_x4.yml\n"))
    assert "options.yml:2: extends: no such file: " in message
    assert "Did you mean 'swinir_x4.yml'?" in message


@pytest.mark.parametrize("value", ["5", "{a: 1}", "[[a]]"])
def test_extends_wants_names(write, value):
    assert "expected the name of an option file" in error(write(f"extends: {value}\n"))


def test_missing_file_and_folder(write, tmp_path):
    write("a: 1\n", "swinir_x4.yml")
    (tmp_path / "folder").mkdir()
    message = error(tmp_path / "swinr_x4.yml")
    assert message.startswith(f"no such file: {tmp_path}/swinr_x4.yml. Did you mean 'swinir_x4.yml'?")
    assert "Did you mean 'swinir_x4.yml'?" in error(tmp_path / "swinir_x4.json.bak")
    (tmp_path / "photo.png").touch()
    assert "Did you mean" not in error(tmp_path / "photos.yml")
    assert "There is no folder 'foldr'" in error(tmp_path / "foldr" / "a.yml")
    assert "Did you mean 'folder'?" in error(tmp_path / "foldr" / "a.yml")
    assert "is a folder, not an option file. It holds swinir_x4.yml." in error(tmp_path)


def test_not_text(tmp_path):
    path = tmp_path / "image.yml"
    path.write_bytes(b"\x89PNG\r\n")
    assert "not a text file in UTF-8: byte 0 is 0x89" in error(path)


def test_byte_order_mark_is_ignored(tmp_path):
    path = tmp_path / "a.yml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read(path).values == {"a": 1}


@pytest.mark.parametrize(
    ("text", "flag", "value"),
    [
        ("a.b=1e-4", "--set", 1e-4),
        ("a.b=-1", "--set", -1),
        ("a.b=-0.5", "--set", -0.5),
        ("a:b=!!float 2e-4", "--force_yml", 2e-4),
        ("a:b=1e-4", "--force_yml", 1e-4),
        ("a:b=None", "--force_yml", None),
        ("a:b=~", "--force_yml", None),
        ("a:b=True", "--force_yml", True),
        ("a:b=[1, 2]", "--force_yml", [1, 2]),
        ("a:b=['x', 'y']", "--force_yml", ["x", "y"]),
        ("a.b=none", "--set", "none"),
        ("a.b=", "--set", None),
        ("a.b={type: X, n: 1}", "--set", {"type": "X", "n": 1}),
        ("a.b=x=y", "--set", "x=y"),
        ("a.b = 5 ", "--set", 5),
        ("a.b='5'", "--set", "5"),
    ],
)
def test_overrides_are_typed(write, text, flag, value):
    found = read(write("a: {b: old, c: 1}\n"), [Override(text, flag)]).values["a"]
    assert found == {"b": value, "c": 1}
    assert type(found["b"]) is type(value)


def test_overrides_apply_in_order_and_make_blocks(write):
    path = write("a: {type: A, n: 1}\nempty: ~\n")
    tree = read(path, ["a.n=2", "a.n=3", "x.y.z=1", "empty.k=1", "a.type=B"])
    assert tree.values == {"a": {"type": "B", "n": 3}, "x": {"y": {"z": 1}}, "empty": {"k": 1}}
    assert str(tree.origin(("x", "y"))) == "--set x.y.z=1"


def test_an_override_replaces_a_whole_block(write):
    tree = read(write("a: {type: A, n: 1}\n"), ["a={type: B}"])
    assert tree.values == {"a": {"type": "B"}}
    assert str(tree.origin(("a", "type"))) == "--set a={type: B}"


def test_every_bad_override_is_reported(write):
    message = error(write("a: 1\nb: [1]\n"), ["a", "=1", "a..b=1", "a.b=1", "b.1=2", "a=[1", "b.x=1"])
    lines = message.splitlines()
    assert lines[0] == "--set a: write it as key=value or block.key=value."
    assert lines[1].startswith("--set =1: ")
    assert lines[2].startswith("--set a..b=1: ")
    assert lines[3] == "--set a.b=1: a.b: 'a' is not a block: set the whole of it."
    assert lines[4] == "--set b.1=2: b.1: 'b' is a list of 1: name an item by its number, counted from 0."
    assert lines[5].startswith("--set a=[1: not a value in YAML: ")
    assert lines[6].startswith("--set b.x=1: b.x: 'b' is a list of 1: name an item by its number")
    assert len(lines) == 7


def test_an_override_reaches_the_items_of_a_list(write):
    path = write("mixers:\n  - window\n  - {type: stripe,\n     num_heads: 2}\nsizes: [1, 2]\n")
    tree = read(path, ["mixers.1.num_heads=4", "mixers.1.window_size=[2, 4]", "sizes.0=5", "mixers.0={type: window}"])
    stripe = {"type": "stripe", "num_heads": 4, "window_size": [2, 4]}
    assert tree.values == {"mixers": [{"type": "window"}, stripe], "sizes": [5, 2]}
    assert str(tree.origin(tree.place("mixers.1.num_heads"))) == "--set mixers.1.num_heads=4"
    assert str(tree.origin(tree.place("mixers.1.type"))) == f"{path}:3"
    assert str(tree.origin(tree.place("sizes.0"))) == "--set sizes.0=5"
    assert str(tree.origin(tree.place("sizes.1"))) == f"{path}:5"

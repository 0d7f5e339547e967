"""Option files from anywhere: refused at once, in few words, and nothing in them leads out of the run's folder."""

from __future__ import annotations

import random

import numpy as np
import pytest

from restore.bounded_yaml import TooMuchError, load_bounded
from restore.cli import main
from restore.errors import OptionsError, OutputError
from restore.evaluation.models.folder import ResultsFolder
from restore.files import inside, name_problem, path_problem
from restore.images import write_image
from restore.options import load
from restore.options.source import files_of, read

GOOD = """\
name: tiny
scale: 2
network_g: {type: SwinIR, upscale: 2, upsampler: pixelshuffledirect}
datasets:
  test: {name: x, type: PairedImageDataset, dataroot_lq: a, dataroot_gt: b}
"""


def refusal(tmp_path, text, overrides=()) -> str:
    """What is said of an option file; with one line for each mistake and no more than a page."""
    path = tmp_path / "x.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    with pytest.raises(OptionsError) as caught:
        load(path, overrides, check_components=False)
    message = str(caught.value)
    assert len(message) < 40_000
    message.encode()  # it can be printed
    return message


ONE_LINE = {
    "aliases": ("a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)), "far too"),
    "ten thousand keys": (GOOD + "".join(f"k{i}: {i}\n" for i in range(10_000)), "far too many"),
    "a long list": (GOOD + f"x: [{'1,' * 10_000}]\n", "far too many"),
    "deep lists": (GOOD + f"x: {'[' * 1000}{']' * 1000}\n", "levels deep"),
    "deeper lists": (GOOD + f"x: {'[' * 100_000}\n", "levels deep"),
    "deep blocks": ("".join(" " * i + "a:\n" for i in range(400)), "levels deep"),
    "deep dashes": ("- " * 5000, "levels deep"),
    "large": ("#" * 300_000, "bytes"),
    "a number of 5,000 digits": (GOOD + f"manual_seed: {'9' * 5000}\n", "a number of 5,000 digits"),
    "a number of 30 digits": (GOOD + f"manual_seed: {'9' * 30}\n", "a number of 30 digits"),
    "a long text": (GOOD + f"x: {'y' * 100_000}\n", "a text of 100,000 characters"),
    "a long key": (GOOD + f"? {'y' * 100_000}\n: 1\n", "a text of 100,000 characters"),
    "NUL": (GOOD + 'x: "a\\0b"\n', "a character that no text has"),
    "NUL in a key": (GOOD + '"a\\0b": 1\n', "a character that no text has"),
    "half a pair": (GOOD + 'x: "\\ud800"\n', "a character that no text has"),
    "raw surrogate": (b"a: \xed\xa0\x80", "not a text file"),
    "an alias to itself": ("a: &a\n  b: *a\n", "never ends"),
}


@pytest.mark.parametrize("name", ONE_LINE)
def test_what_no_option_file_has_is_one_line(tmp_path, name):
    text, words = ONE_LINE[name]
    message = refusal(tmp_path, text)
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "value", ["[" * 5000, "'" + "9" * 5000, "9" * 5000, "a" * 5000, "{a: " * 50, '"\\ud800"', '"\\0"']
)
def test_overrides_are_held_to_the_same(tmp_path, value):
    assert "--set" in refusal(tmp_path, GOOD, [f"manual_seed={value}"])


def test_many_mistakes_are_not_all_told(tmp_path):
    message = refusal(tmp_path, GOOD + "".join(f"k{i}: {i}\n" for i in range(2000)))
    assert message.count("\n") == 50
    assert "and 1,950 more mistakes" in message


def test_files_that_fan_out_end(tmp_path):
    for i in range(12):
        (tmp_path / f"{i}.yml").write_text(f"extends: [{', '.join([f'{i + 1}.yml'] * 10)}]\n")
    (tmp_path / "12.yml").write_text(GOOD)
    with pytest.raises(OptionsError, match="more than 100 files"):
        read(tmp_path / "0.yml")
    assert len(files_of(tmp_path / "0.yml")) == 13


def test_a_long_chain_of_files_ends(tmp_path):
    for i in range(1500):
        (tmp_path / f"{i}.yml").write_text(f"extends: {i + 1}.yml\n")
    with pytest.raises(OptionsError, match="more than 100 files"):
        read(tmp_path / "0.yml")


def test_many_keys_are_merged_key_by_key(tmp_path):
    keys = [f"k{i}" for i in range(2000)]
    (tmp_path / "base.yml").write_text("".join(f"{key}: 1\n" for key in keys))
    (tmp_path / "x.yml").write_text("extends: base.yml\n" + "".join(f"{key}: 2\n" for key in keys[1:]))
    tree = read(tmp_path / "x.yml")
    assert tree.values == {key: 1 if key == "k0" else 2 for key in keys}
    assert tree.origins[("k0",)].file.endswith("base.yml")
    assert tree.origins[("k9",)].file.endswith("x.yml")


# --- names and paths

NAMES = ("name", "datasets.test.name", "val.suffix")
PATHS = (
    "datasets.test.dataroot_lq",
    "datasets.test.meta_info_file",
    "datasets.test.filename_tmpl",
    "path.pretrain_network_g",
    "path.resume_state",
    "path.results_root",
    "path.experiments_root",
    "plugins",
)
LEADS_OUT = ("../../x", "/../../x", "a/b", "..", ".", "/x", "a\\..\\b", "''")
IMPOSSIBLE = ("a" * 256, "ü" * 130, "ü/" * 1500, "x/" + "y" * 300 + ".png")


@pytest.mark.parametrize("field", NAMES)
@pytest.mark.parametrize("value", [*LEADS_OUT, *IMPOSSIBLE, '"a\\nb"', '"\\e[31m"', "a" * 200])
def test_names_lead_nowhere(tmp_path, field, value):
    if (field, value) == ("val.suffix", "''"):
        return  # none, as in BasicSR
    assert "cannot name files" in refusal(tmp_path, GOOD, [f"{field}={value}"])


@pytest.mark.parametrize("field", PATHS)
@pytest.mark.parametrize("value", IMPOSSIBLE)
def test_paths_that_no_file_system_takes_are_refused(tmp_path, field, value):
    assert field in refusal(tmp_path, GOOD, [f"{field}={value}"])


@pytest.mark.parametrize("value", IMPOSSIBLE)
def test_so_are_names_of_files_to_extend(tmp_path, value):
    assert "is not the name of a file" in refusal(tmp_path, GOOD + f"extends: {value}\n")


@pytest.mark.parametrize("key", ["test_/../../x", "test_..", "val/x", "test\\x"])
def test_keys_of_datasets_are_names(tmp_path, key):
    text = GOOD + f"  '{key}': {{name: y, type: PairedImageDataset}}\n"
    if key != "test_..":
        assert "cannot name files" in refusal(tmp_path, text)


@pytest.mark.parametrize("key", ["../psnr", "a/b", "..", "x" * 300])
def test_keys_of_metrics_are_names(tmp_path, key):
    assert "cannot name files" in refusal(tmp_path, GOOD + f"val:\n  metrics:\n    ? {key}\n    : {{type: psnr}}\n")


def test_names_drawn_at_random_stay_in_the_folder(tmp_path):
    """Whatever passes as a name makes a file right below the folder; whatever passes as parts, below it."""
    draw = random.Random(0)
    pieces = ["..", ".", "/", "\\", "a", "ü", " ", "~", "...", "x" * 50, "\n", "\0", "C:", "-"]
    for _ in range(5000):
        text = "".join(draw.choices(pieces, k=draw.randrange(1, 8)))
        if not name_problem(text):
            assert (tmp_path / f"{text}_1.png").resolve().parent == tmp_path.resolve()
            assert (tmp_path / text / "x").resolve().parent.parent == tmp_path.resolve()
        if not path_problem(text):
            try:
                path = inside(tmp_path, *text.split("\\"))
            except OutputError:
                continue
            assert path.resolve().is_relative_to(tmp_path.resolve())


def test_images_of_a_dataset_stay_in_the_folder_of_results(tmp_path):
    folder = ResultsFolder(tmp_path, "run")
    assert folder.image("set", "a/b", "x").is_relative_to(folder.path / "visualization/set")
    for dataset, name in (("set", "../../../b"), ("..", "b"), ("../..", "b"), ("set", "/etc/b")):
        with pytest.raises(OutputError, match="leads out of"):
            folder.image(dataset, name, "x")


def test_a_name_that_is_too_long_is_one_line(tmp_path, capsys):
    write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    assert main(["run", "-m", str(tmp_path / ("x" * 300 + ".pth")), "-i", str(tmp_path / "a.png"), "-o", "o"]) == 2
    assert main(["options", "check", str(tmp_path / ("x" * 300 + ".yml"))]) == 2
    said = capsys.readouterr().err
    assert said.count("too long") == 2
    assert "Traceback" not in said


YAMLS = {
    "aliases": "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)),
    "an alias to itself": "a: &a [*a]\n",
    "an alias to itself, deeper": "a: &a {b: {c: *a}}\n",
    "deep": f"x: {'[' * 1000}{']' * 1000}\n",
    "many": "".join(f"k{i}: {i}\n" for i in range(6000)),
    "digits": f"x: {'9' * 5000}\n",
    "no day": "x: 2024-99-99\n",
    "a list as a key": "? [a]\n: 1\n",
    "a tag": "x: !!python/name:os.system\n",
}


@pytest.mark.parametrize("name", YAMLS)
def test_other_files_in_yaml_are_held_to_the_same(tmp_path, name):
    """Recipes of degradations, cards of datasets, and values of `degrade --set`."""
    from restore.data.preparation import cards
    from restore.degradations.recipe.pipeline import load_pipeline

    path = tmp_path / "x.yml"
    path.write_text(YAMLS[name])
    with pytest.raises(OptionsError) as caught:
        load_pipeline(path)
    assert "\n" not in str(caught.value).replace("\n  in ", " ")
    with pytest.raises(OptionsError):
        cards._read(path)


def test_aliases_are_counted_as_often_as_they_stand():
    assert load_bounded("a: &a [1, 2]\nb: [*a, *a]\n") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}
    load_bounded("a: &a [1]\n" + "".join(f"b{i}: *a\n" for i in range(1000)))
    with pytest.raises(TooMuchError):
        load_bounded(f"a: &a [{'1, ' * 100}]\n" + "".join(f"b{i}: *a\n" for i in range(100)))

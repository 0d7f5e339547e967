"""`restore degrade` from end to end."""

import json

import numpy as np
import pytest

from restore.cli import main
from restore.images import read_image, write_image


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for name, size in (("a.png", (64, 80)), ("sub/b.png", (70, 66))):
        write_image(folder / name, rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    return folder


def degrade(*arguments):
    return main(["degrade", *map(str, arguments)])


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_pairs_resumed_replayed_and_by_several_processes(photos, tmp_path):
    settings = ("-i", photos, "--recipe", "realesrgan", "--seed", 3, "--copies", 2, "--recursive", "--save-parameters")
    assert degrade(*settings, "-o", tmp_path / "one", "--workers", 1) == 0
    made = files(tmp_path / "one")
    names = [
        f"{kind}/{name}_c{copy}" for kind in ("gt", "lq", "parameters") for name in ("a", "sub/b") for copy in (0, 1)
    ]
    assert {name.rpartition(".")[0] for name in made} == {*names, "degrade"}
    assert read_image(tmp_path / "one/lq/sub/b_c1.png").pixels.shape == (17, 16, 3)
    assert read_image(tmp_path / "one/gt/sub/b_c1.png").pixels.shape == (68, 64, 3)
    assert made["lq/a_c0.png"] != made["lq/a_c1.png"]

    (tmp_path / "one/lq/a_c1.png").unlink()
    (tmp_path / "one/lq/sub/b_c0.png").write_bytes(b"kept")
    assert degrade(*settings, "-o", tmp_path / "one", "--workers", 1) == 0
    resumed = files(tmp_path / "one")
    assert resumed["lq/a_c1.png"] == made["lq/a_c1.png"]
    assert resumed["lq/sub/b_c0.png"] == b"kept"

    assert degrade(*settings, "-o", tmp_path / "two", "--workers", 2) == 0
    assert files(tmp_path / "two") == made

    assert degrade("-i", photos, "-o", tmp_path / "again", "--replay", tmp_path / "two/parameters", "--workers", 1) == 0
    again = files(tmp_path / "again")
    assert {name: made[name] for name in again} == again
    assert len(again) == 8


def test_a_folder_belongs_to_one_recipe(photos, tmp_path, capsys):
    assert degrade("-i", photos, "-o", tmp_path / "out", "--recipe", "jpeg", "--workers", 1) == 0
    assert degrade("-i", photos, "-o", tmp_path / "out", "--recipe", "jpeg", "--set", "quality=10", "--workers", 1) == 2
    assert "quality" in capsys.readouterr().err
    assert json.loads((tmp_path / "out/degrade.json").read_text())["pipeline"] == "jpeg"


def test_what_fails_is_named_and_the_rest_is_done(photos, tmp_path, capsys):
    (photos / "broken.png").write_bytes(b"not an image")
    write_image(photos / "tiny.png", np.zeros((8, 8, 3), np.uint8))
    assert degrade("-i", photos, "-o", tmp_path / "out", "--recipe", "realesrgan", "--workers", 1) == 1
    report = capsys.readouterr().err
    assert "broken.png" in report
    assert "tiny.png" in report
    assert (tmp_path / "out/lq/a.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--recipe", "realesrgn"), "Did you mean 'realesrgan'"),
        ((), "--recipe is missing"),
        (("--recipe", "jpeg", "--set", "quality"), "NAME=VALUE"),
        (("--recipe", "jpeg", "--copies", "0"), "--copies is 0"),
        (("--recipe", "jpeg", "--replay", "x"), "--replay"),
        (("--preview",), "must end in .png"),
        (("--preview", "--set", "scale=2"), "name one with --recipe"),
    ],
)
def test_wrong_arguments(photos, tmp_path, capsys, arguments, message):
    assert degrade("-i", photos, "-o", tmp_path / "out", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_inputs_that_are_not_there(tmp_path, capsys):
    assert degrade("-i", tmp_path / "none", "-o", tmp_path / "out", "--recipe", "jpeg") == 2
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_pairs_never_fall_among_the_photographs(photos, capsys):
    assert degrade("-i", photos, "-o", photos, "--recipe", "jpeg") == 2
    assert "another folder" in capsys.readouterr().err


def test_the_same_command_again_makes_nothing_new(photos):
    settings = ("-i", photos, "-o", photos / "pairs", "--recipe", "jpeg", "--recursive", "--save-parameters")
    assert degrade(*settings, "--workers", 1) == 0
    made = files(photos)
    assert degrade(*settings, "--workers", 1) == 0
    assert files(photos) == made
    replay = ("-i", photos, "-o", photos / "pairs/again", "--replay", photos / "pairs/parameters", "--workers", 1)
    assert degrade(*replay) == 0
    assert degrade(*replay) == 0
    assert {name for name in files(photos) if "again" in name} == {
        f"pairs/again/{kind}/{name}.png" for kind in ("gt", "lq") for name in ("a", "sub/b")
    }


def test_photographs_are_never_overwritten(photos, tmp_path, capsys):
    before = files(photos)
    gt = tmp_path / "gt"
    photos.rename(gt)
    assert degrade("-i", gt, "-o", tmp_path, "--recipe", "jpeg", "--workers", 1) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert degrade("-i", gt / "a.png", "-o", gt / "a.png", "--preview") == 2
    assert "never overwritten" in capsys.readouterr().err
    assert files(gt) == before


def test_photographs_of_one_name_are_refused(photos, tmp_path, capsys):
    settings = ("--recipe", "jpeg", "--workers", 1, "--save-parameters")
    assert degrade("-i", photos, "-o", tmp_path / "out", *settings) == 0
    write_image(photos / "a.bmp", np.zeros((8, 8, 3), np.uint8))
    assert degrade("-i", photos, "-o", tmp_path / "new", *settings) == 2
    assert "several inputs would become one output" in capsys.readouterr().err
    assert degrade("-i", photos, "-o", tmp_path / "again", "--replay", tmp_path / "out/parameters") == 2
    assert "could be" in capsys.readouterr().err


def test_a_sheet_is_not_the_photograph_of_the_next(photos):
    settings = ("-i", photos, "-o", photos / "Sheet.png", "--preview", "--recipe", "jpeg")  # sorts before a.png
    assert degrade(*settings) == 0
    sheet = read_image(photos / "Sheet.png").pixels
    assert degrade(*settings) == 0
    assert np.array_equal(read_image(photos / "Sheet.png").pixels, sheet)


def test_pixels_that_are_not_finite_are_named(photos, tmp_path, capsys):
    pixels = np.zeros((32, 32, 3), np.float32)
    pixels[3, 4] = np.nan
    write_image(photos / "nan.tiff", pixels)
    assert degrade("-i", photos, "-o", tmp_path / "out", "--recipe", "jpeg", "--workers", 1) == 1
    report = " ".join(capsys.readouterr().err.split())
    assert "nan.tiff" in report
    assert "not finite" in report


def test_leftovers_of_a_killed_run_are_removed(photos, tmp_path):
    leftover = tmp_path / "out/lq/.0123456789abcdef0123456789abcdef.tmp"
    leftover.parent.mkdir(parents=True)
    leftover.touch()
    assert degrade("-i", photos, "-o", tmp_path / "out", "--recipe", "jpeg", "--workers", 1) == 0
    assert [path.name for path in leftover.parent.iterdir()] == ["a.png"]


def test_copies_share_one_target(photos, tmp_path):
    settings = ("-i", photos, "-o", tmp_path / "out", "--recipe", "jpeg", "--copies", 3, "--workers", 1)
    assert degrade(*settings) == 0
    targets = sorted((tmp_path / "out/gt").iterdir())
    assert [path.name for path in targets] == ["a_c0.png", "a_c1.png", "a_c2.png"]
    assert len({path.read_bytes() for path in targets}) == 1


def test_contact_sheet_of_one_recipe(photos, tmp_path):
    for quality in (1, 90):
        settings = ("--preview", "--recipe", "jpeg", "--set", f"quality={quality}")
        assert degrade("-i", photos / "a.png", "-o", tmp_path / f"{quality}.png", *settings) == 0
    assert (tmp_path / "1.png").read_bytes() != (tmp_path / "90.png").read_bytes()


def test_contact_sheet(photos, tmp_path):
    assert degrade("-i", photos / "a.png", "-o", tmp_path / "sheet.png", "--preview") == 0
    sheet = read_image(tmp_path / "sheet.png").pixels
    assert sheet.shape[2] == 3
    assert sheet.shape[1] > 1000
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 1000

"""The two commands from the outside: a model file and a folder become a checked zip, a score and a page."""

from __future__ import annotations

import functools
import json
import shutil
import zipfile

import numpy as np
import pytest
import torch

import restore
from restore.analysis.cost import image_cost
from restore.cli import main
from restore.commands import leaderboard as leaderboard_command
from restore.commands import submit as submit_command
from restore.images import write_image
from restore.leaderboard.tracks import TRACKS

BLOCK = {
    "type": "SwinIR",
    "upscale": 4,
    "embed_dim": 8,
    "depths": [1],
    "num_heads": [1],
    "window_size": 4,
    "mlp_ratio": 1.0,
    "upsampler": "pixelshuffledirect",
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, one_thread):
    """A folder with three pairs and a tiny trained model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("restore.leaderboard.organisers.image_cost", functools.partial(image_cost, height=32))
    random = np.random.default_rng(0)
    for number in (901, 902, 903):
        write_image(f"hr/{number:04}.png", random.integers(0, 256, (48, 64, 3)).astype(np.uint8))
        write_image(f"lr/{number:04}x4.png", random.integers(0, 256, (12, 16, 3)).astype(np.uint8))
    torch.save({"params": restore.build_model(BLOCK).state_dict()}, "tiny.pth")
    return tmp_path


def _submit(*arguments):
    return main(["submit", *arguments, "--device", "cpu", "--precision", "fp32"])


def test_track_names_of_the_command_line():
    assert tuple(TRACKS) == submit_command.TRACK_NAMES == leaderboard_command.TRACK_NAMES


def test_from_a_model_to_a_place_on_the_board(here):
    entry = [
        "-m",
        "tiny.pth",
        "-i",
        "lr",
        "--reference",
        "hr",
        "--team",
        "7",
        "--name",
        "Tiny",
        "--board",
        "board.jsonl",
    ]
    assert _submit("esr", "-o", "out", *entry, "--template", "esr", "--self-ensemble") == 0
    with zipfile.ZipFile("out/submission.zip") as made:
        assert len(made.namelist()) == 4
        assert "Self-ensemble over 8 flips" in made.read("readme.txt").decode()
    results = json.loads((here / "out/results.json").read_text())
    assert list(results) == ["07_Tiny"]
    assert len(results["07_Tiny"]["valid_psnr"]) == 3
    assert (here / "out/team/models/team07_Tiny.py").is_file()
    (here / "server/res").mkdir(parents=True)
    shutil.copy("out/submission.zip", "server/res")
    shutil.copytree("hr", "server/ref")
    scoring = ["leaderboard", "score", "esr", "server", "scores", "--year", "2026", "--cost", "out/results.json"]
    assert main([*scoring, "--board", "board.jsonl", "--name", "scored"]) == 0
    scores = json.loads((here / "scores/scores.json").read_text())
    assert scores["psnr"] == pytest.approx(results["07_Tiny"]["valid_ave_psnr"], abs=1e-9)
    assert scores["score"] > 0
    assert main(["leaderboard", "table", "board.jsonl", "out/results.json", "--year", "2026", "-o", "page.html"]) == 0
    assert (here / "page.md").read_text().count("\n| – | ") == 3  # noise reaches no 26.90 dB
    assert "07_Tiny" in (here / "page.html").read_text()


def test_from_an_option_file(here):
    (here / "sr.yml").write_text(
        "name: mine\nscale: 4\nnum_gpu: 0\nnetwork_g: " + json.dumps(BLOCK) + "\n"
        "datasets:\n  test:\n    name: lr\n    type: SingleImageDataset\n    dataroot_lq: lr\n"
        "path: {pretrain_network_g: tiny.pth}\nruntime: {precision: fp32}\n"
    )
    assert main(["submit", "sr_x4", "-opt", "sr.yml", "-o", "one"]) == 0
    assert _submit("sr_x4", "-m", "tiny.pth", "-i", "lr", "-o", "two") == 0
    for name in ("0901x4.png", "0903x4.png"):
        with zipfile.ZipFile("one/submission.zip") as one, zipfile.ZipFile("two/submission.zip") as two:
            assert one.read(name) == two.read(name)


def test_what_is_submitted_is_folded(here):
    network = restore.build_model({"type": "RepConvSR", "num_feat": 4, "num_block": 1})
    torch.save(network.state_dict(), "fast.pth")
    command = ["-m", "fast.pth", "-i", "lr", "-o", "out", "--team", "7", "--name", "Fast", "--template", "esr"]
    assert _submit("esr", *command) == 0
    counted = json.loads((here / "out/submission.json").read_text())["complexity"]
    weights = torch.load(here / "out/team/model_zoo/team07_fast.pth")
    plain = restore.build_model({"type": "RepConvSR", "num_feat": 4, "num_block": 1, "expansion": 0})
    assert weights.keys() == plain.state_dict().keys()
    assert counted["params_m"] == sum(parameter.numel() for parameter in plain.parameters()) / 1e6


def test_the_same_command_again_does_nothing_anew(here, capsys):
    command = ["sr_x4", "-m", "tiny.pth", "-i", "lr", "-o", "out"]
    assert _submit(*command) == 0
    stamp = (here / "out/images/0901x4.png").stat().st_mtime_ns
    assert _submit(*command) == 0
    assert (here / "out/images/0901x4.png").stat().st_mtime_ns == stamp
    assert _submit(*command, "--self-ensemble") == 2
    assert "settings differ" in capsys.readouterr().err


def test_results_inside_the_inputs_do_not_change_them(here):
    command = ["sr_x4", "-m", "tiny.pth", "-i", "lr", "-o", "lr/out"]
    assert _submit(*command) == 0
    stamp = (here / "lr/out/images/0901x4.png").stat().st_mtime_ns
    assert _submit(*command) == 0
    assert (here / "lr/out/images/0901x4.png").stat().st_mtime_ns == stamp


def test_opinions(here):
    random = np.random.default_rng(0)
    for name in ("A0001_00_00", "A0001_00_01", "A0001_01_00"):
        write_image(f"dis/{name}.bmp", random.integers(0, 256, (8, 8, 3)).astype(np.uint8))
    write_image("ref/A0001.bmp", random.integers(0, 256, (8, 8, 3)).astype(np.uint8))
    assert main(["submit", "perceptual_iqa", "-m", "psnr", "-i", "dis", "--reference", "ref", "-o", "out"]) == 0
    (here / "server/ref").mkdir(parents=True)
    (here / "server/ref/A0001.txt").write_text("A0001_00_00.bmp,1400\nA0001_00_01.bmp,1500\nA0001_01_00.bmp,1650\n")
    (here / "server/res").mkdir()
    shutil.copy("out/submission.zip", "server/res")
    assert main(["leaderboard", "score", "perceptual_iqa", "server", "scores", "--board", "b.jsonl"]) == 0
    assert (here / "scores/scores.txt").read_text().startswith("main: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sr_x4", "-i", "lr", "-o", "out"], "give a model with -m, or an option file"),
        (["sr_x4", "-m", "tiny.pth", "-o", "out"], "give the folder of the inputs with -i"),
        (["sr_x4", "-m", "tiny.pth", "-i", "none", "-o", "out"], "'none' does not exist"),
        (["denoise50", "-m", "tiny.pth", "-i", "lr", "-o", "out"], "enlarges 1 times, the model 4 times"),
        (["sr_x4", "-m", "tiny.pth", "-i", "lr", "-o", "out", "--split", "valid"], "are not the set 'valid'"),
        (["sr_x4", "-m", "tiny.pth", "-i", "lr", "-o", "out", "--reference", "none"], "no folder of references 'none'"),
        (["sr_x4", "-m", "tiny.pth", "-i", "lr", "-o", "out", "--board", "b.jsonl"], "--board has no effect here"),
        (["sr_x4", "-m", "tiny.pth", "-i", "lr", "-o", "out", "--weights-url", "x"], "--weights-url has no effect"),
        (["sr_x4", "-m", "tiny.pth", "-i", "lr", "-o", "out", "--template", "denoise"], "allowed: sr_func, esr"),
        (
            ["esr", "-m", "tiny.pth", "-i", "lr", "-o", "out", "-g", "hr", "--name", "My Net"],
            "cannot name a Python module",
        ),
        (["sidd", "-m", "tiny.pth", "-i", "lr", "-o", "out", "--split", "test"], "--split has no effect here"),
        (["perceptual_iqa", "-m", "psnrr", "-i", "lr", "-o", "out"], "Did you mean 'psnr'"),
        (["perceptual_iqa", "-m", "niqe", "-i", "lr", "-o", "out", "--template", "esr"], "leave --template out"),
        (["perceptual_iqa", "-m", "niqe", "-i", "lr", "-o", "out", "--board", "b.jsonl"], "leaderboard score` adds"),
        (["perceptual_iqa", "-m", "niqe", "-i", "lr", "-o", "out", "--self-ensemble"], "--self-ensemble has no effect"),
    ],
)
def test_one_clear_message_and_nothing_written(here, capsys, arguments, message):
    assert main(["submit", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (here / "out").exists()


def test_figures_without_use_are_refused(capsys):
    assert main(["leaderboard", "score", "esr", "server", "scores", "--runtime-ms", "3"]) == 2
    assert "--runtime-ms has no effect without --year" in capsys.readouterr().err


@pytest.mark.parametrize("track", ["sr_x4", "esr"])
def test_the_scorer_and_restore_score_agree(here, track):
    assert _submit(track, "-m", "tiny.pth", "-i", "lr", "-o", "out") == 0
    (here / "server/res").mkdir(parents=True)
    shutil.copy("out/submission.zip", "server/res")
    shutil.copytree("hr", "server/ref")
    assert main(["leaderboard", "score", track, "server", "scores"]) == 0
    by_track = json.loads((here / "scores/details.json").read_text())["images"]
    protocol = TRACKS[track].protocol
    measuring = ["score", "-r", "out/images", "-g", "hr", "--metrics", "psnr,ssim", "--protocol", protocol]
    assert main([*measuring, "--scale", "4", "--workers", "1", "-o", "measured"]) == 0
    measured = json.loads((here / "measured/scores.json").read_text())
    by_name = {image["name"]: image["values"] for image in measured["images"]}
    assert len(by_name) == len(by_track) == 3
    for (_, ours), (_, theirs) in zip(sorted(by_track.items()), sorted(by_name.items()), strict=True):
        for metric in ("psnr", "ssim"):
            assert ours[metric] == pytest.approx(theirs[metric], abs=1e-9)


def test_a_hostile_submission_is_refused(here, capsys):
    (here / "server/res").mkdir(parents=True)
    shutil.copytree("hr", "server/ref")
    with zipfile.ZipFile("server/res/mine.zip", "w") as archive:
        archive.writestr("../../evil.png", b"")
    assert main(["leaderboard", "score", "sr_x4", "server", "scores"]) == 2
    assert "leads outside" in capsys.readouterr().err
    assert not (here / "scores").exists()
    assert not (here.parent / "evil.png").exists()

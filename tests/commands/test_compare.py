"""`restore compare`: several models on the same images, and the page about them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from restore.cli import main
from restore.images import resize_pixels, write_image
from restore.zoo import build_model


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_block):
    """Weights of tiny SwinIRs that enlarge 2 and 4 times and not at all."""
    folder = tmp_path_factory.mktemp("models")
    for scale in (1, 2, 4):
        torch.manual_seed(scale)
        upsampler = {"upscale": scale, "upsampler": "pixelshuffledirect" if scale > 1 else ""}
        torch.save({"params": build_model({**tiny_block, **upsampler}).state_dict()}, folder / f"x{scale}.pth")
    return [str(folder / f"x{scale}.pth") for scale in (2, 4, 1)]


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    write_image(path, np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8))
    return path


def named(models):
    return [word for model in models for word in ("-m", model)]


def test_results_of_all_scales_are_of_one_size(tmp_path, photo, models, capsys):
    page = tmp_path / "page.html"
    assert main(["compare", str(photo), *named(models), "-o", str(page), "--json", "--device", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scale"] == 4
    assert [found["models"][model]["scale"] for model in models] == [2, 4, 1]
    assert [each["model"] for each in found["images"]] == models
    assert found["page"] == str(page)
    text = page.read_text()
    sizes = re.findall(r'<img [^>]*width="(\d+)" height="(\d+)"', text)
    assert sizes == [("40", "48")] * 4  # the input, and each model
    for side in ("left", "right"):
        options = re.search(rf'<select data-side="{side}">(.*?)</select>', text, re.DOTALL)[1]
        assert len(re.findall("<option", options)) == 4
    assert "http" not in re.sub(r"data:[^\"]*", "", text).replace("http://www.w3.org", "")


def test_references_give_figures(tmp_path, photo, models, capsys):
    from restore.images import read_image

    reference = tmp_path / "good.png"
    write_image(reference, resize_pixels(read_image(photo).pixels, scale=2))
    command = ["compare", str(photo), *named(models[:1]), "-o", str(tmp_path / "p.html"), "-g", str(reference)]
    assert main(command) == 0
    assert "PSNR" in capsys.readouterr().out
    assert "Reference" in (tmp_path / "p.html").read_text()
    assert main([*command[:-1], str(photo)]) == 2
    assert "is 10x12, and the results are 20x24" in capsys.readouterr().err
    assert main([*command, "-g", str(reference)]) == 2
    assert "1 images and 2 references" in capsys.readouterr().err


def test_a_model_that_fails_is_named_and_the_others_are_shown(tmp_path, photo, models, capsys, monkeypatch):
    from restore.errors import DeviceError
    from restore.inference import Restorer

    restore = Restorer.__call__

    def failing(self, image, **options):
        if self.scale == 4:
            raise DeviceError("too little memory")
        return restore(self, image, **options)

    monkeypatch.setattr(Restorer, "__call__", failing)
    assert main(["compare", str(photo), *named(models), "-o", str(tmp_path / "p.html")]) == 1
    out, err = capsys.readouterr()
    assert "too little memory" in err
    assert "failed" in out
    assert (tmp_path / "p.html").read_text().count("<img ") == 3


def test_folders_and_names(tmp_path, photo, models, monkeypatch, capsys):
    for name in ("one", "two"):
        write_image(tmp_path / name / "a.png", np.full((9, 9, 3), 90, np.uint8))
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "one/a.png", "two/a.png", *named(models[:2])]) == 0
    text = (tmp_path / "compare_a.html").read_text()
    assert "one/a.png" in text
    assert "two/a.png" in text


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "no model is given"),
        (["-m", "swinir_ligth_x4"], "Did you mean"),
        (["-m", "fast_x4", "--task", "sr"], "add --all"),
        (["-m", "fast_x4", "-o", "page.png"], "which ends in .html"),
        (["--all", "--task", "sr", "--scale", "7"], "no model on this machine"),
    ],
)
def test_mistakes(photo, more, words, capsys):
    assert main(["compare", str(photo), *more]) == 2
    assert words in capsys.readouterr().err


def test_all_takes_what_is_here(tmp_path, photo, capsys):
    page = str(tmp_path / "p.html")
    assert main(["compare", str(photo), "--all", "--task", "sr", "--scale", "4", "-o", page, "--json"]) == 0
    assert {"fast_x4", "photo_x4", "swinir_light_x4"} <= set(json.loads(capsys.readouterr().out)["models"])

"""A folder as people have them: fifty photographs of every kind, two of which are none."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageCms

from restore.cli import main
from restore.images import Image, read_image, write_image
from restore.networks import ImageSpec, Network

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(height, width, channels=3, dtype=np.uint8, seed=0):
    """Smooth shapes with some grain, as photographs are."""
    y, x = np.mgrid[:height, :width]
    planes = [(np.sin(x / (9 + c) + seed) + np.cos(y / (7 + c))) / 4 + 0.5 for c in range(channels)]
    pixels = np.stack(planes, -1) + np.random.default_rng(seed).normal(0, 0.01, (height, width, channels))
    return (pixels.clip(0, 1) * np.iinfo(dtype).max).astype(dtype).squeeze()


def turned_jpeg(path, pixels, orientation):
    exif = PillowImage.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    PillowImage.fromarray(pixels).save(path, quality=95, exif=exif, icc_profile=PROFILE)


@pytest.fixture
def photographs(tmp_path):
    """The folder, and for each file that is an image what its result should be: shape and dtype."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    kinds = {
        "grey.png": ((40, 30), np.uint8),
        "grey_deep.png": ((31, 45), np.uint16),
        "grey_alpha.png": ((30, 34, 2), np.uint8),
        "rgba.png": ((37, 29, 4), np.uint8),
        "rgba_deep.png": ((20, 23, 4), np.uint16),
        "deep.png": ((33, 21, 3), np.uint16),
        "print.tif": ((28, 40, 3), np.uint16),
        "seven_wide.png": ((50, 7, 3), np.uint8),
        "one_pixel.png": ((1, 1, 3), np.uint8),
        "colour.bmp": ((17, 19, 3), np.uint8),
    }
    for seed, (name, (shape, dtype)) in enumerate(kinds.items()):
        pixels = picture(*shape[:2], shape[2] if len(shape) > 2 else 1, dtype, seed)
        grey = len(shape) == 2 or shape[2] == 2
        write_image(folder / name, Image(pixels.reshape(shape), icc=None if grey else PROFILE))
    for orientation in range(2, 9):
        turned_jpeg(folder / f"turned_{orientation}.jpg", picture(24, 36, seed=orientation), orientation)
        kinds[f"turned_{orientation}.jpg"] = ((36, 24, 3) if orientation > 4 else (24, 36, 3)), np.uint8
    write_image(folder / "twelve_megapixels.jpg", np.tile(picture(300, 400), (10, 10, 1)), quality=80)
    kinds["twelve_megapixels.jpg"] = (3000, 4000, 3), np.uint8
    for number in range(48 - len(kinds)):
        write_image(folder / f"plain_{number:02}.jpg", picture(30 + number, 40, seed=number))
        kinds[f"plain_{number:02}.jpg"] = (30 + number, 40, 3), np.uint8
    (folder / "text.jpg").write_text("I have the wrong name.")
    data = io.BytesIO()
    PillowImage.fromarray(picture(200, 200)).save(data, "JPEG")
    (folder / "cut_off.jpg").write_bytes(data.getvalue()[: len(data.getvalue()) // 2])
    (folder / "notes.txt").write_text("no image, and not meant as one")
    assert len(kinds) == 48
    return folder, kinds


def test_fifty_mixed_photographs(tmp_path, photographs, monkeypatch, capsys, caplog, sharpen):
    folder, kinds = photographs
    monkeypatch.setattr("restore.zoo.load.load_network", lambda name, **which: sharpen)
    with caplog.at_level("INFO"):
        code = main(["run", "-m", "any", "-i", str(folder), "-o", str(tmp_path / "out"), "--device", "cpu"])
    assert code == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "48 restored" in said
    assert "2 failed" in said
    for name in ("text.jpg", "cut_off.jpg"):
        assert name in said
    assert "notes.txt" in caplog.text
    results = {path.stem: path for path in (tmp_path / "out").iterdir()}
    assert len(results) == 48
    for name, (shape, dtype) in kinds.items():
        source, result = read_image(folder / name), read_image(results[name.rpartition(".")[0]])
        assert (result.pixels.shape, result.pixels.dtype) == (shape, dtype), name
        if not name.endswith(".bmp"):
            assert result.icc == source.icc, name
        assert result.exif == source.exif, name
        if result.has_alpha:
            assert (result.pixels[..., -1] == source.pixels[..., -1]).all(), name
        difference = np.abs(result.pixels / np.iinfo(dtype).max - source.pixels / np.iinfo(dtype).max)
        assert difference.mean() < 0.05, name
    turned = read_image(folder / "turned_6.jpg")
    assert turned.exif
    assert (turned.pixels.shape, turned.icc) == ((36, 24, 3), PROFILE)


@pytest.fixture
def sharpen():
    """A network of scale 1 that is light enough for 12 megapixels."""
    import torch
    from torch import nn

    class Sharpen(Network):
        spec = ImageSpec(scale=1)

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False)
            kernel = torch.tensor([[0, -0.25, 0], [-0.25, 2, -0.25], [0, -0.25, 0]])
            self.conv.weight.data[:] = kernel

        def forward(self, x):
            return self.conv(x)

    return Sharpen()

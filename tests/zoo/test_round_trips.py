"""Files that we write, read by spandrel as chaiNNer and ComfyUI read them: the same pixels."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from restore.images import write_image
from restore.networks.checkpoint import NETWORK_BLOCK
from restore.zoo import build_model, find_card, load_model
from restore.zoo.portable import write_portable

spandrel = pytest.importorskip("spandrel")
_path = Path(__file__).parents[2] / "scripts/spandrel_table.py"
_spec = importlib.util.spec_from_file_location("_spandrel_table", _path)
_table = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_table)
KNOWN = {
    name: block for name, block in _table.BLOCKS.items() if block["type"] in ("SwinIR", "RRDBNet", "SRVGGNetCompact")
}
pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")


def read(path):
    return spandrel.ModelLoader(device="cpu").load_from_file(path).eval()


@pytest.mark.parametrize("kind", ["checkpoint", "safetensors", "half"])
@pytest.mark.parametrize("name", KNOWN)
def test_what_is_trained_gives_the_same_pixels(name, kind, tmp_path):
    torch.manual_seed(1)
    path = tmp_path / "net_g_latest.pth"
    state = build_model(KNOWN[name]).state_dict()
    torch.save({"params": state, "params_ema": state, NETWORK_BLOCK: KNOWN[name]}, path)
    if kind != "checkpoint":
        dtype = torch.float16 if kind == "half" else torch.float32
        write_portable(path, tmp_path / "net.safetensors", dtype=dtype)
        path = tmp_path / "net.safetensors"
    descriptor, ours = read(path), load_model(path, precision="fp32", device="cpu", tile=None)
    assert descriptor.scale == ours.scale
    for height, width in ((24, 40), (32, 16)):
        x_BCHW = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height))
        with torch.no_grad():
            theirs = descriptor(x_BCHW)
        torch.testing.assert_close(theirs, ours(x_BCHW).clamp(0, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["swinir_light_x2", "swinir_light_color_dn"])
def test_a_loop_as_chainner_has_it(name, tmp_path):
    """Read by OpenCV, tiles that overlap by 16 px, written in 8 bits: the pixels of `restore run` but for the seams."""
    rng = np.random.default_rng(0)
    photo = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)
    write_image(tmp_path / "photo.png", photo)
    descriptor = read(find_card(name).path)
    image = cv2.cvtColor(cv2.imread(str(tmp_path / "photo.png")), cv2.COLOR_BGR2RGB).astype(np.float32) / 255

    def upscaled(tile, overlap=16):
        scale, (height, width) = descriptor.scale, image.shape[:2]
        result = np.zeros((height * scale, width * scale, 3), np.float32)
        for top in range(0, height, tile):
            for left in range(0, width, tile):
                y0, x0 = max(top - overlap, 0), max(left - overlap, 0)
                part = image[y0 : top + tile + overlap, x0 : left + tile + overlap]
                x_BCHW = torch.from_numpy(np.ascontiguousarray(part)).permute(2, 0, 1)[None]
                with torch.no_grad():
                    made = descriptor(x_BCHW)[0].permute(1, 2, 0).numpy()
                made = made[(top - y0) * scale :, (left - x0) * scale :][: tile * scale, : tile * scale]
                result[top * scale : top * scale + len(made), left * scale : left * scale + made.shape[1]] = made
        return np.clip(result * 255, 0, 255).round().astype(np.uint8)

    ours = load_model(name, device="cpu", precision="fp32", tile=None)(str(tmp_path / "photo.png")).pixels
    whole, tiled = upscaled(64), upscaled(32)
    assert np.abs(whole.astype(int) - ours).max() <= 1
    assert np.abs(tiled.astype(int) - ours).mean() < 0.5

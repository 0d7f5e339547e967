from __future__ import annotations

import subprocess
import sys
import types

import numpy as np
import pytest
import torch

import restore
from restore.errors import OptionsError
from restore.images import read_image, write_image
from restore.inference import Restorer
from restore.layers.folding import fold
from restore.leaderboard import template
from restore.leaderboard.single_file import inline
from restore.leaderboard.template import Team, write_template
from restore.registry import NETWORKS

SWINIR = {
    "type": "SwinIR",
    "upscale": 4,
    "embed_dim": 12,
    "depths": [2],
    "num_heads": [2],
    "window_size": 4,
    "mlp_ratio": 2.0,
    "upsampler": "pixelshuffledirect",
}
ALONE = """
import sys
sys.modules["restore"] = None  # installed or not: importing it fails
try:
    import restore.networks
except ImportError:
    pass
else:
    raise SystemExit("the package can be seen")
import torch
torch.set_num_threads(1)
"""


def _alone(code, folder):
    """Run code in a new interpreter that cannot see this package."""
    command = [sys.executable, "-I", "-c", ALONE + code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = restore.build_model(SWINIR).eval()
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.05)
    return network


DENOISER = {**SWINIR, "upscale": 1, "upsampler": ""}
DEMO = """
import os
os.chdir({folder!r})
if True:
    model_id = 7
    if False:
        pass
{snippet}
with torch.no_grad():
    torch.save(model.eval()(torch.load("x.pt")), "y.pt")
assert (name, data_range) == ("07_Tiny", 1.0)
del sys.modules["models"]
sys.path.remove(sys.path[0])
"""
FUNCTION = """
os.chdir({folder!r})
sys.path.insert(0, {folder!r})
from models.team12_Tiny import main
main("model_zoo/team12_tiny.pth", input_path="lr", output_path="sr", device=torch.device("cpu"))
assert [name for name in sys.modules if name.split(".")[0] == "restore"] == ["restore"]
"""


REPCONV = {"type": "RepConvSR", "num_feat": 4, "num_block": 1, "upscale": 4}


def test_the_written_model_files_alone_give_the_same_pixels(tmp_path, network, noise):
    """All three templates in one interpreter that cannot import this package, through the lines for select_model."""
    networks = {
        "esr": (network, SWINIR),
        "esr_folded": (fold(restore.build_model(REPCONV)), REPCONV),
        "denoise": (fold(restore.build_model(DENOISER)), DENOISER),
    }
    pixels, code = noise(13, 18, 3), ""
    for kind, (model, block) in networks.items():
        folder = tmp_path / kind
        write_template(kind.removesuffix("_folded"), folder, Team(7, "Tiny"), model, block)
        assert ("fold(" in (folder / "models/team07_Tiny.py").read_text()) == (kind == "esr_folded")
        torch.save(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255, folder / "x.pt")
        snippet = (folder / "select_model.txt").read_text()
        assert snippet.startswith("    elif model_id == 7:\n")
        code += f"sys.path.insert(0, {str(folder)!r})\nsys.modules.pop('models.team07_Tiny', None)\n"
        code += DEMO.format(folder=str(folder), snippet=snippet)
    write_template("sr_func", tmp_path / "sr_func", Team(12, "Tiny"), network, SWINIR)
    for name in ("0901x4", "0902x4"):
        write_image(tmp_path / "sr_func/lr" / f"{name}.png", noise(9, 14, 3))
    _alone(code + FUNCTION.format(folder=str(tmp_path / "sr_func")), tmp_path)

    for kind, (model, _) in networks.items():
        y_BCHW = torch.load(tmp_path / kind / "y.pt")
        alone = (y_BCHW.clamp(0, 1) * 255).round()[0].permute(1, 2, 0).numpy().astype(np.uint8)
        assert np.array_equal(alone, Restorer(model, device="cpu", precision="fp32", tile=None)(pixels))
    restorer = Restorer(network, device="cpu", precision="fp32", tile=None)
    for name in ("0901x4.png", "0902x4.png"):
        expected = restorer(read_image(tmp_path / "sr_func/lr" / name).pixels)
        assert np.array_equal(read_image(tmp_path / "sr_func/sr" / name).pixels, expected)


@pytest.mark.parametrize("name", ["SwinIR", "Uformer", "EDT", "IPT"])
def test_every_published_network_can_be_written_as_one_file(name, monkeypatch):
    source = inline(NETWORKS.get(name))
    assert "restore" not in {line.split()[1].split(".")[0] for line in source.splitlines() if _is_import(line)}
    module = types.ModuleType("single_file")
    monkeypatch.setitem(sys.modules, "single_file", module)  # where dataclasses look their annotations up
    exec(compile("from __future__ import annotations\n" + source, name, "exec"), module.__dict__)
    assert issubclass(getattr(module, name), torch.nn.Module)
    assert "NETWORKS" not in source
    assert "def recognise" not in source


def _is_import(line):
    return line.startswith(("import ", "from "))


def test_networks_that_pick_their_parts_by_name_are_refused():
    with pytest.raises(OptionsError, match=r"MetaFormerRestorer picks its parts by name"):
        inline(NETWORKS.get("MetaFormerRestorer"))


def test_large_weights_need_a_link(tmp_path, network, monkeypatch):
    monkeypatch.setattr(template, "LARGEST_WEIGHTS", 1000)
    with pytest.raises(OptionsError, match="give the link with --weights-url"):
        write_template("esr", tmp_path, Team(7, "Tiny"), network, SWINIR)
    write_template("esr", tmp_path, Team(7, "Tiny", "https://example.org/w"), network, SWINIR)
    assert "https://example.org/w" in (tmp_path / "model_zoo/team07_tiny.txt").read_text()
    assert not (tmp_path / "model_zoo/team07_tiny.pth").exists()
    assert (tmp_path / "weights/team07_tiny.pth").is_file()


@pytest.mark.parametrize(("number", "name"), [(-1, "Tiny"), (7, "my-net"), (7, "7net"), (7, "")])
def test_teams(number, name):
    with pytest.raises(OptionsError):
        Team(number, name)

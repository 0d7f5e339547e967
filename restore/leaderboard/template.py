"""The files with which a team enters the organisers' repositories.

`esr` and `denoise`: models/team07_Name.py, model_zoo/team07_name.pth, and the lines for `select_model` in test_demo.py.
`sr_func` (image SR x4 of 2025 and 2026): models/team07_Name/ with a function that restores a folder.
Weights of more than 100 MB do not go into the repository: a text file with a link takes their place.
"""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from restore import __version__
from restore.errors import OptionsError
from restore.files import atomic_write
from restore.layers.folding import fold
from restore.leaderboard.single_file import inline
from restore.registry import NETWORKS

__all__ = ["TEMPLATES", "Team", "model_source", "write_template"]

Template = Literal["esr", "sr_func", "denoise"]
TEMPLATES = ("esr", "sr_func", "denoise")
LARGEST_WEIGHTS = 100 * 10**6
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Team:
    """A team: the number that the organisers gave it, the name of its method, and the address of large weights."""

    number: int
    name: str
    weights_url: str = ""

    def __post_init__(self):
        if not 0 <= self.number <= 999:
            raise OptionsError(f"the team number is {self.number}; must be 0 to 999.")
        if not _NAME.fullmatch(self.name):
            raise OptionsError(f"the method is called '{self.name}', which cannot name a Python module: use letters.")

    @property
    def key(self) -> str:
        """team07_Name."""
        return f"team{self.number:02}_{self.name}"

    @property
    def weights(self) -> str:
        """team07_name.pth."""
        return f"team{self.number:02}_{self.name.lower()}.pth"

    @property
    def label(self) -> str:
        """07_Name, as in results.json."""
        return f"{self.number:02}_{self.name}"


def write_template(
    template: Template, folder: str | Path, team: Team, network: nn.Module, block: Mapping[str, Any]
) -> list[Path]:
    """Write the team's files; returns their paths.

    Args:
        template: which repository they are for.
        folder: where to; it has the layout of the repository.
        team: number and name.
        network: the network with its weights, folded or not.
        block: the option block that builds it.

    Raises:
        OptionsError: the network cannot be written as one file; or its weights are too large and there is no link.
    """
    folder = Path(folder)
    source = model_source(network, block, team)
    files: dict[str, bytes] = {}
    if template == "sr_func":
        files[f"models/{team.key}/model.py"] = (source + _SR_MAIN).encode()
        files[f"models/{team.key}/__init__.py"] = b"from .model import main\n"
    else:
        files[f"models/{team.key}.py"] = source.encode()
    snippet = _SR_SNIPPET if template == "sr_func" else _DEMO_SNIPPET
    files["select_model.txt"] = snippet.format(team=team, white=_white(network)).encode()
    files |= _weights(network, team)
    files["run.sh"] = _RUN[template].format(team=team).encode()
    for name, content in files.items():
        with atomic_write(folder / name) as file:
            file.write(content)
    return [folder / name for name in files]


def model_source(network: nn.Module, block: Mapping[str, Any], team: Team) -> str:
    """A Python file that builds `network` (without weights) through `create_model()` and needs PyTorch alone.

    A network whose state dict folding has changed is built as it was trained, and folded, in the file as well.
    """
    component = NETWORKS.get(block["type"])
    built = NETWORKS.build(block)
    is_folded = _shapes(built) != _shapes(network)
    arguments = {key: value for key, value in block.items() if key != "type"}
    listed = "".join(f"    {key!r}: {value!r},\n" for key, value in arguments.items())
    about = (inspect.getmodule(component).__doc__ or component.__name__).strip()
    header = _HEADER.format(team=team, about=about.replace('"""', "'''"), version=__version__)
    made = f"fold({component.__name__}(**ARGUMENTS))" if is_folded else f"{component.__name__}(**ARGUMENTS)"
    footer = _FOOTER.format(made=made, arguments=listed, white=_white(network))
    return f"{header}\n{inline(component, *[fold] * is_folded)}{footer}"


def _shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in network.state_dict().items()}


def _white(network: nn.Module) -> float:
    return float(network.spec.value_range)


def _weights(network: nn.Module, team: Team) -> dict[str, bytes]:
    file = io.BytesIO()
    torch.save({name: value.detach().cpu() for name, value in network.state_dict().items()}, file)
    content = file.getvalue()
    if len(content) <= LARGEST_WEIGHTS:
        return {f"model_zoo/{team.weights}": content}
    if not team.weights_url:
        raise OptionsError(
            f"the weights have {len(content) / 1e6:.0f} MB, and the organisers take {LARGEST_WEIGHTS / 1e6:.0f} MB at "
            "most in their repository. Put them somewhere and give the link with --weights-url."
        )
    text = f"{team.weights} ({len(content) / 1e6:.0f} MB): {team.weights_url}\n"
    return {f"model_zoo/{Path(team.weights).stem}.txt": text.encode(), f"weights/{team.weights}": content}


_HEADER = '''"""Team {team.number:02}, {team.name}: the model in one file, which needs PyTorch and nothing else.

It takes and returns RGB (B, 3, H, W) in [0, DATA_RANGE], of any size. Written by restore {version} (Apache-2.0)
from its own source. About the network:

{about}
"""

from __future__ import annotations
'''

_FOOTER = '''DATA_RANGE = {white}
ARGUMENTS = {{
{arguments}}}


def create_model():
    """The network without its weights."""
    return {made}
'''

_DEMO_SNIPPET = """    elif model_id == {team.number}:
        from models.{team.key} import create_model
        name, data_range = f"{{model_id:02}}_{team.name}", {white}
        model_path = os.path.join('model_zoo', '{team.weights}')
        model = create_model()
        model.load_state_dict(torch.load(model_path), strict=True)
"""

_SR_SNIPPET = """    elif model_id == {team.number}:
        from models.{team.key} import main as {team.name}
        name = f"{{model_id:02}}_{team.name}"
        model_path = os.path.join('model_zoo', '{team.weights}')
        model_func = {team.name}
"""

_SR_MAIN = '''

def main(model_dir, input_path, output_path, device=None):
    """Restore every PNG of a folder under the same name."""
    import glob
    import os

    import cv2
    import numpy as np

    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = create_model()
    model.load_state_dict(torch.load(model_dir, map_location="cpu"), strict=True)
    model = model.eval().to(device)
    os.makedirs(output_path, exist_ok=True)
    for path in sorted(glob.glob(os.path.join(input_path, "*.png"))):
        pixels = cv2.cvtColor(cv2.imread(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().mul(DATA_RANGE / 255).to(device)
        with torch.no_grad():
            y = model(x).float().div(DATA_RANGE).clamp(0, 1).mul(255).round()
        restored = y[0].permute(1, 2, 0).cpu().numpy().astype(np.uint8)
        cv2.imwrite(os.path.join(output_path, os.path.basename(path)), cv2.cvtColor(restored, cv2.COLOR_RGB2BGR))
'''

_DEMO = "CUDA_VISIBLE_DEVICES=0 python test_demo.py --data_dir ../data --save_dir ../results --model_id {team.number}\n"
_RUN = {
    "esr": _DEMO,
    "denoise": _DEMO,
    "sr_func": "CUDA_VISIBLE_DEVICES=0 python test.py --test_dir ../data/test --save_dir ../results "
    "--model_id {team.number}\n",
}

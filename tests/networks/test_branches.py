"""One task of a network of several: as a view, out of a weights file, and for a network that knows only one."""

from __future__ import annotations

import pytest
import torch

from restore import load_model
from restore.cli import main
from restore.errors import CheckpointError, OptionsError
from restore.images import read_image, write_image
from restore.networks.branches import Branch, branch_weights, task_number
from restore.networks.checkpoint import load_weights
from restore.networks.edt import EDT
from restore.networks.ipt import IPT
from restore.networks.swinir import SwinIR


def edt(**tasks) -> EDT:
    torch.manual_seed(0)
    return EDT(num_feat=4, embed_dim=12, depths=[1], num_heads=[6], img_size=24, **tasks).eval()


def ipt(scale, num_queries) -> IPT:
    torch.manual_seed(0)
    sizes = {"patch_size": 12, "n_feats": 4, "num_heads": 12, "num_layers": 1}
    return IPT(scale=scale, num_queries=num_queries, **sizes).eval()


MANY = {
    "edt": (lambda: edt(scales=[2, 3], noise_levels=[25]), {"sr_x2": 2, "sr_x3": 3, "dn_g25": 1}),
    "ipt": (lambda: ipt("3+2+1", 3), {"sr_x3": 3, "sr_x2": 2, "task_2": 1}),
    "ipt, one query": (lambda: ipt("3+2+1", 1), {"sr_x3": 3, "sr_x2": 2, "task_2": 1}),
}


@pytest.fixture(params=MANY)
def many(request):
    build, scales = MANY[request.param]
    return build(), scales


def test_every_task_as_a_network_of_its_own(many, tmp_path):
    network, scales = many
    assert list(network.tasks) == list(scales)
    torch.save({"params": network.state_dict()}, tmp_path / "many.pth")
    for number, (task, scale) in enumerate(scales.items()):
        view = Branch(network, number)
        assert view.spec.scale == scale
        x = torch.rand(1, 3, 7, 10) * view.spec.value_range
        for name in (task, number):
            alone = load_model(tmp_path / "many.pth", task=name, device="cpu", channels_last=False)
            with torch.no_grad():
                assert torch.equal(alone.network(x), view(x))
        assert alone.scale == scale
        assert len(alone.network.tasks) == 1
        assert sum(p.numel() for p in alone.network.parameters()) < sum(p.numel() for p in network.parameters())


def test_the_task_must_be_named(many, tmp_path):
    network, scales = many
    torch.save(network.state_dict(), tmp_path / "many.pth")
    with pytest.raises(OptionsError, match=rf"3 tasks: {', '.join(scales)}.*--model-task"):
        load_model(tmp_path / "many.pth")
    with pytest.raises(OptionsError, match=r"no task 'sr_x5'.*sr_x2 \("):
        load_model(tmp_path / "many.pth", task="sr_x5")
    with pytest.raises(OptionsError, match="no task '3'"):
        load_model(tmp_path / "many.pth", task=3)


def test_networks_of_one_task_take_what_fits_them():
    several, one = ipt("2+3+1+1", 4), ipt(3, 1)
    assert load_weights(one, several.state_dict()) == []
    assert torch.equal(one.tail[0][1].weight, several.tail[1][1].weight)
    assert torch.equal(one.body.query_embed.weight, several.body.query_embed.weight[1:2])
    with pytest.raises(CheckpointError, match=r"2 tasks of scale 1, the numbers 2, 3.*pretrain_task_g"):
        load_weights(ipt(1, 1), several.state_dict())
    with pytest.raises(CheckpointError, match="another network"):
        load_weights(ipt(4, 1), several.state_dict())


def test_networks_without_tasks():
    network = SwinIR(embed_dim=12, depths=[1], num_heads=[2], upscale=2, upsampler="pixelshuffledirect")
    assert not network.tasks
    with pytest.raises(CheckpointError, match="SwinIR have no tasks"):
        branch_weights(network.state_dict(), "sr_x2", source="x.pth")
    with pytest.raises(OptionsError, match="none, for it knows only one thing"):
        task_number([], "sr_x2")


def test_command_line(tmp_path, capsys):
    torch.save({"params_ema": edt(scales=[2, 3]).state_dict()}, tmp_path / "many.pth")
    write_image(tmp_path / "small.png", (torch.rand(9, 8, 3) * 255).byte().numpy())
    command = ["run", "-m", str(tmp_path / "many.pth"), "-i", str(tmp_path / "small.png"), "--device", "cpu"]
    assert main([*command, "-o", str(tmp_path / "x3.png"), "--model-task", "sr_x3"]) == 0
    assert read_image(tmp_path / "x3.png").pixels.shape == (27, 24, 3)
    assert main([*command, "-o", str(tmp_path / "none.png")]) == 2
    assert "Name the one to restore with" in capsys.readouterr().err

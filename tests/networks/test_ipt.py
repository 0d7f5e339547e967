from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from network_tester import NetworkTester, counts, fixture_error

from restore.networks.ipt import CHOP_KEEP_PX, CHOP_STEP_PX, CHOP_TILE_PX, IPT

TINY = {"type": "IPT", "patch_size": 12, "n_feats": 4, "num_heads": 12, "num_layers": 1}


def tiny(**changes) -> IPT:
    torch.manual_seed(0)
    options = {key: value for key, value in TINY.items() if key != "type"} | changes
    return IPT(**options).eval()


class TestIPT(NetworkTester):
    variants: ClassVar = {
        "sr": TINY | {"scale": 3},
        "denoise": TINY | {"scale": 1, "n_colors": 1},
        "many": TINY | {"scale": [2, 1], "num_queries": 2},
        "bare": TINY | {"scale": 1, "no_norm": True, "no_mlp": True, "no_pos": True},
    }
    without_gradient = ("head.1", "tail.1")

    def test_gradients_reach_every_parameter(self, variant):
        if variant == "many":
            pytest.skip("a batch of one task trains one head; see test_a_batch_of_several_tasks_trains_all_heads")
        super().test_gradients_reach_every_parameter(variant)

    def test_weights_come_back_and_are_recognised(self, variant):
        if variant == "bare":
            pytest.skip("without positions and queries nothing tells the size of the windows")
        super().test_weights_come_back_and_are_recognised(variant)


@pytest.mark.parametrize(
    ("options", "parameters", "keys"),
    [
        ({"scale": 2}, 115_460_443, 315),
        ({"scale": 3}, 115_645_083, 315),
        ({"scale": 4}, 115_608_155, 317),
        ({"scale": 1}, 115_312_731, 313),
        ({"scale": "2+3+4+1+1+1", "num_queries": 6}, 118_892_394, 381),
    ],
)
def test_published_counts(options, parameters, keys):
    assert counts(IPT, **options) == (parameters, keys)


def test_published_keys_of_a_layer():
    with torch.device("meta"):
        keys = set(IPT(scale=2).state_dict())
    expected = {
        "sub_mean.weight",
        "add_mean.bias",
        "head.0.0.weight",
        "head.0.2.body.2.bias",
        "body.linear_encoding.weight",
        "body.mlp_head.3.bias",
        "body.query_embed.weight",
        "body.encoder.layers.11.self_attn.in_proj_weight",
        "body.decoder.layers.0.multihead_attn.out_proj.weight",
        "body.decoder.layers.11.norm3.bias",
        "body.position_encoding.position_ids",
        "body.position_encoding.pe.weight",
        "tail.0.0.0.weight",
        "tail.0.1.bias",
    }
    assert expected <= keys


@pytest.mark.parametrize("name", ["ipt_x2", "ipt_denoise"])
def test_agrees_with_published_network(name, shared, fill):
    """The stored outputs are float32 themselves and up to 9e-6 (root mean square) off those of float64."""
    typical, largest = fixture_error(shared, fill, name)
    assert typical <= 1e-5
    assert largest <= 3e-5


def test_chop_figures():
    assert (CHOP_TILE_PX, CHOP_STEP_PX, CHOP_KEEP_PX) == (48, 12, 24)
    with torch.device("meta"):
        assert IPT().spec.tiling == "ipt_chop"


def test_body_sees_each_window_by_itself():
    network = tiny(scale=1)
    x = torch.rand(1, 3, 12, 36) * 255
    with torch.no_grad():
        head = network._head(x, 0)
        whole, _ = network.body(torch.cat(head.split(12, dim=3)), [(0, 3)])
        alone, _ = network.body(head[..., 12:24], [(0, 1)])
    assert torch.allclose(whole[1], alone[0], atol=1e-4)


def test_silent_body_leaves_tail_of_head():
    network = tiny(scale=2)
    network.body.forward = lambda windows, tasks: (torch.zeros_like(windows), None)
    x = torch.rand(1, 3, 30, 17) * 255
    with torch.no_grad():
        expected = network.add_mean(network.tail[0](network.head[0](network.sub_mean(x))))
        inside = (..., slice(0, 36), slice(0, 10))  # the border sees what was padded
        assert torch.allclose(network(x)[inside], expected[inside], atol=1e-3)


def test_query_belongs_to_its_task():
    network = tiny(scale=[1, 1], num_queries=2)
    x = torch.rand(1, 3, 12, 12) * 255
    with torch.no_grad():
        before = [network(x, task) for task in (0, 1)]
        network.body.query_embed.weight[1] += 1
        after = [network(x, task) for task in (0, 1)]
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1], atol=1e-3)


def test_a_batch_of_several_tasks_gives_what_each_gives_alone():
    network = tiny(scale=[2, 1, 1], num_queries=3)
    images = [torch.rand(2, 3, 12, 20) * 255, torch.rand(1, 3, 9, 9) * 255]
    with torch.no_grad():
        together = network(images, task=[0, 2])
        alone = [network(image, task) for image, task in zip(images, (0, 2), strict=True)]
    assert all(torch.allclose(a, b, atol=1e-2) for a, b in zip(together, alone, strict=True))


def test_a_batch_of_several_tasks_trains_all_heads():
    network = tiny(scale=[2, 1], num_queries=2).train()
    outputs, features = network([torch.rand(1, 3, 12, 12)] * 2, task=[0, 1], return_features=True)
    assert features.shape == (2, 16, 36)
    sum(output.mean() for output in outputs).backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


def test_positions_at_every_layer_are_another_network():
    once, every = tiny(), tiny(pos_every=True)
    every.load_state_dict(once.state_dict())
    x = torch.rand(1, 3, 12, 12) * 255
    with torch.no_grad():
        assert not torch.allclose(once(x), every(x), atol=1e-3)


def test_means_are_not_trained():
    assert sum(p.numel() for p in tiny().parameters() if not p.requires_grad) == 24


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": "2+x"}, "list of numbers"),
        ({"scale": 5}, "power of two"),
        ({"scale": [2, 1], "num_queries": 3}, "one for each of 2 tasks"),
        ({"num_heads": 7}, "multiple of num_heads"),
        ({"patch_size": 13}, "multiple of patch_dim"),
        ({"scale": []}, "scale is empty"),
        ({"num_heads": 0, "patch_dim": 0}, "patch_dim is 0, num_heads is 0: must be greater than 0"),
    ],
)
def test_impossible_configurations_say_why(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)


def test_unknown_task_is_named():
    with pytest.raises(ValueError, match="task 1 does not exist"):
        tiny()(torch.rand(1, 3, 12, 12), task=1)

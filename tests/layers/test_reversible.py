"""Reversible blocks: their inverse, their gradients, and what they keep."""

from __future__ import annotations

import copy

import pytest
import torch

from restore.layers.block import MetaFormerBlock
from restore.layers.mixers.graph.neighbours import NeighbourGraph
from restore.layers.reversible import ReversibleBlocks
from restore.networks.metaformer import MetaFormerRestorer

DIM = 12


def blocks(number=3, mixer="lsh", placement="pre", drop_path=0.0, **options):
    torch.manual_seed(0)
    mixer = {"type": mixer, **({"num_heads": 2, "chunk_size": 5} if mixer == "lsh" else {}), **options}
    return ReversibleBlocks(
        *(
            MetaFormerBlock(DIM, mixer, "mlp", placement=placement, drop_path=drop_path, layer_scale=0.5)
            for _ in range(number)
        )
    ).double()


@pytest.mark.parametrize("placement", ["pre", "res-post", "sub-ln"])
@pytest.mark.parametrize("mixer", ["lsh", "pooling", "gated_conv"])
def test_the_inverse_is_exact(mixer, placement):
    body = blocks(mixer=mixer, placement=placement)
    first, second = torch.randn(2, 2, 4, 5, DIM, dtype=torch.double)
    with torch.no_grad():
        back = body.inverse(*body.streams(first, second))
    assert torch.allclose(back[0], first, atol=1e-12)
    assert torch.allclose(back[1], second, atol=1e-12)


def kept_and_plain(body, x):
    """Outputs and gradients by the function of ours, and by torch's own."""
    found = []
    for plain in (False, True):
        again = copy.deepcopy(body)
        given = x.clone().requires_grad_()
        torch.manual_seed(1)
        output = sum(again.streams(given, given)) / 2 if plain else again(given)
        (output * torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)).sum().backward()
        found.append((output, given.grad, [each.grad for each in again.parameters()], again, torch.rand(1)))
    return found


@pytest.mark.parametrize("drop_path", [0.0, 0.5])
@pytest.mark.parametrize("mixer", ["lsh", "pooling", "knn_graph"])
def test_gradients_are_those_of_torch(mixer, drop_path):
    body = blocks(mixer=mixer, drop_path=drop_path).train()
    ours, theirs = kept_and_plain(body, torch.randn(3, 4, 5, DIM, dtype=torch.double))
    assert torch.allclose(ours[0], theirs[0], atol=1e-12)
    assert torch.allclose(ours[1], theirs[1], atol=1e-10)
    assert len(ours[2]) == len([*body.parameters()])
    assert all(torch.allclose(one, other, atol=1e-9) for one, other in zip(ours[2], theirs[2], strict=True))
    assert torch.equal(ours[4], theirs[4])  # and random numbers go on as they would
    for one, other in zip(ours[3].buffers(), theirs[3].buffers(), strict=True):
        assert torch.allclose(one, other)
    if mixer == "knn_graph":
        assert any(isinstance(each, NeighbourGraph) for each in body.modules())


def test_what_does_not_learn_gets_no_gradient():
    body = blocks()
    body[1].mixer.requires_grad_(False)
    body(torch.randn(1, 4, 5, DIM, dtype=torch.double)).sum().backward()
    assert all((each.grad is None) == (not each.requires_grad) for each in body.parameters())


def test_memory_does_not_grow_with_depth():
    x = torch.randn(1, 8, 8, DIM, dtype=torch.double, requires_grad=True)

    def kept(body, plain):
        tensors = {}

        def pack(each):
            tensors[each.data_ptr()] = each.numel()
            return each

        own = {each.data_ptr() for each in body.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda each: each):
            (sum(body.streams(x, x)) if plain else body(x)).sum()
        return sum(number for place, number in tensors.items() if place not in own)

    shallow, deep = blocks(2, "gated_conv"), blocks(8, "gated_conv")
    assert kept(deep, plain=True) > 3 * kept(shallow, plain=True)
    assert kept(deep, plain=False) == kept(shallow, plain=False)


def test_bfloat16_is_close():
    body = blocks(mixer="gated_conv").float()
    x = torch.randn(1, 6, 6, DIM)
    grads = []
    for half in (False, True):
        body.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            output = body(x)
        output.square().mean().backward()
        grads.append(torch.cat([each.grad.flatten() for each in body.parameters()]))
    assert torch.nn.functional.cosine_similarity(*grads, dim=0) > 0.98


@pytest.mark.parametrize(
    "block",
    [
        MetaFormerBlock(DIM, "pooling", "mlp", placement="post"),
        MetaFormerBlock(DIM, "pooling", "mlp", placement="deepnorm"),
        MetaFormerBlock(DIM, "pooling", "mlp", placement="parallel"),
        MetaFormerBlock(DIM, "pooling", "none"),
    ],
)
def test_blocks_that_do_more_than_add_are_refused(block):
    with pytest.raises(ValueError, match="pre, res-post or sub-ln"):
        ReversibleBlocks(block)


def test_a_network_of_them_learns_and_has_the_same_keys():
    options = {"mixers": ["window", "shifted_window"], "embed_dim": 12, "depths": [2], "drop_path_rate": 0.2}
    network, plain = MetaFormerRestorer(**options, reversible=True), MetaFormerRestorer(**options)
    assert network.state_dict().keys() == plain.state_dict().keys()
    network.train()(torch.rand(2, 3, 9, 13)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert len(network.mixers()) == 2

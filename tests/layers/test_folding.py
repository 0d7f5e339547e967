"""Folding: what is replaced, what stays, and that the results are the same."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from restore.layers.folding import fold, fold_norm


def randomised(module: nn.Module) -> nn.Module:
    """With random weights and statistics."""
    generator = torch.Generator().manual_seed(0)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    return module.eval()


def batch_norms(module: nn.Module) -> int:
    return sum(isinstance(each, nn.BatchNorm2d) for each in module.modules())


CONVOLUTIONS = {
    "plain": nn.Conv2d(4, 6, 3, padding=1),
    "without bias": nn.Conv2d(4, 6, 3, bias=False),
    "grouped": nn.Conv2d(4, 6, 3, groups=2, padding=1, padding_mode="reflect"),
    "depthwise": nn.Conv2d(6, 6, 5, groups=6, stride=2),
    "transposed": nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1),
    "transposed, grouped": nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False),
}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_batch_norm_goes_into_the_convolution_before_it(name, affine):
    pair = randomised(nn.Sequential(CONVOLUTIONS[name], nn.BatchNorm2d(6, eps=1e-3, affine=affine)).double())
    x = torch.randn(2, CONVOLUTIONS[name].in_channels, 9, 11, dtype=torch.float64)
    torch.testing.assert_close(fold_norm(*pair)(x), pair(x), rtol=0, atol=1e-12)


class Branched(nn.Module):
    """Twice a linear map: two branches in training, one afterwards."""

    def __init__(self, dim: int):
        super().__init__()
        self.first, self.second = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False)

    def forward(self, x):
        return self.first(x) + self.second(x)

    def folded(self) -> nn.Module:
        assert self.first.weight.dtype == torch.float64
        self.first.weight += self.second.weight
        return self.first


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
        )
        self.body = nn.ModuleList([Branched(4), Branched(4)])
        self.body.append(self.body[0])  # the same weights again
        self.free = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
        self.nothing = None

    def forward(self, x):
        x = self.free(self.stem(x)).permute(0, 2, 3, 1)
        for layer in self.body:
            x = layer(x)
        return x


def test_whatever_offers_it_is_folded_and_the_network_itself_stays():
    network = randomised(Network()).train()
    before, x = copy.deepcopy(network), torch.rand(1, 3, 8, 8)
    folded = fold(network)
    assert network.training
    assert not folded.training
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.state_dict().items())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert {parameter.dtype for parameter in folded.parameters()} == {torch.float32}
    assert [type(layer) for layer in folded.body] == [nn.Linear] * 3
    assert folded.body[0] is folded.body[2]
    assert batch_norms(folded) == 2  # one does not stand behind a convolution, one has no statistics
    exact, x = network.double().eval(), x.double()
    torch.testing.assert_close(fold(exact)(x), exact(x), rtol=0, atol=1e-10)


class Swapped(nn.Sequential):
    """Looks like a sequence and is none."""

    def forward(self, x):
        return self[0](self[1](x))


def test_sequences_that_compute_something_else_stay():
    module = randomised(Swapped(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
    x = torch.rand(1, 3, 5, 5)
    assert batch_norms(fold(module)) == 1
    assert torch.equal(fold(module)(x), module(x))

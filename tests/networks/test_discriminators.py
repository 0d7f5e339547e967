from __future__ import annotations

import pytest
import torch
from network_tester import counts

from restore.networks.discriminators import DUnet, UNetDiscriminatorSN, VGGStyleDiscriminator
from restore.registry import DISCRIMINATORS, NETWORKS


@pytest.mark.parametrize(
    ("network", "options", "parameters", "keys"),
    [
        (VGGStyleDiscriminator, {}, 14_499_401, 60),
        (VGGStyleDiscriminator, {"input_size": 256}, 21_055_049, 72),
        (UNetDiscriminatorSN, {}, 4_376_897, 28),
    ],
)
def test_published_sizes(network, options, parameters, keys):
    assert counts(network, **options) == (parameters, keys)


@pytest.mark.parametrize("side", [128, 256])
def test_one_score_for_each_image(side):
    network = DISCRIMINATORS.build({"type": "VGGStyleDiscriminator", "num_feat": 2, "input_size": side})
    scores = network(torch.rand(2, 3, side, side))
    assert scores.shape == (2, 1)
    scores.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_they_are_no_networks_that_restore():
    assert {"VGGStyleDiscriminator", "UNetDiscriminatorSN"} <= {*DISCRIMINATORS}
    assert not {*DISCRIMINATORS} & {*NETWORKS}


def test_another_size_is_refused_with_advice():
    with pytest.raises(ValueError, match=r"made for images of 128x128 px, given 96x128: set gt_size to 128"):
        VGGStyleDiscriminator(num_feat=2)(torch.rand(1, 3, 96, 128))


@pytest.mark.parametrize("size", [(8, 8), (9, 31), (64, 40)])
@pytest.mark.parametrize("skip", [True, False])
def test_one_score_for_each_pixel(size, skip):
    network = UNetDiscriminatorSN(num_feat=4, skip_connection=skip)
    scores = network(torch.rand(2, 3, *size))
    assert scores.shape == (2, 1, *size)
    scores.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_weights_are_spectrally_normalised():
    torch.manual_seed(0)
    network = UNetDiscriminatorSN(num_feat=4).train()
    for _ in range(50):  # power iterations
        network(torch.rand(1, 3, 8, 8))
    network.eval()(torch.rand(1, 3, 8, 8))
    for index in range(1, 9):
        weight = getattr(network, f"conv{index}").weight
        assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)


def test_too_small_images_are_refused():
    with pytest.raises(ValueError, match="needs at least 8x8 px"):
        UNetDiscriminatorSN(num_feat=2)(torch.rand(1, 3, 7, 9))


def test_a_discriminator_that_samples_at_learned_places():
    pytest.importorskip("spandrel")
    assert counts(DUnet) == (3_231_457, 46)
    network = DUnet(num_feat=4)
    scores = network(torch.rand(2, 3, 16, 24))
    assert scores.shape == (2, 1, 16, 24)
    scores.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    with pytest.raises(ValueError, match="multiples of 8 px, given 16x20"):
        network(torch.rand(1, 3, 16, 20))

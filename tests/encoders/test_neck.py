from __future__ import annotations

import pytest
import torch

from restore.encoders import build_encoder
from restore.encoders.neck import usual_strides
from restore.networks.unet import UNetRestorer

VIT = "test_vit"  # stride 16, 64 channels


def test_levels_of_a_vit_have_the_strides_of_a_pyramid():
    pyramid = build_encoder({"type": "pyramid", "encoder": VIT, "width": 8}).eval()
    assert (pyramid.strides, pyramid.channels) == ((4, 8, 16, 32), (8,) * 4)
    assert [tuple(each.shape[2:]) for each in pyramid(torch.rand(1, 3, 37, 51))] == [(10, 13), (5, 7), (3, 4), (2, 2)]
    assert [tuple(each.shape[2:]) for each in pyramid(torch.rand(1, 3, 64, 96))] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_every_level_comes_from_the_last_map():
    pyramid = build_encoder({"type": "pyramid", "encoder": VIT, "width": 8}).eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        (last,) = pyramid.encoder(x)
        assert torch.equal(pyramid(x)[2], pyramid.levels[2](last))
        assert torch.equal(last, build_with(pyramid.encoder)(x)[-1])


def build_with(encoder):
    other = build_encoder(VIT).eval()
    other.load_state_dict(encoder.state_dict())
    return other


def test_several_maps_are_joined():
    pyramid = build_encoder({"type": "pyramid", "encoder": {"type": VIT, "out_indices": [0, 1]}, "strides": [8, 16]})
    assert pyramid.encoder.channels == (64, 64)
    assert [level.steps[0].in_channels for level in pyramid.levels] == [128, 128]
    assert pyramid.strides == (8, 16)


def test_a_constant_map_stays_constant_inside():
    """Transposed convolutions of kernel and stride 2 do not overlap, so there are no chequers between cells."""
    pyramid = build_encoder({"type": "pyramid", "encoder": VIT, "width": 8}).eval()
    with torch.no_grad():
        finest = pyramid.levels[0].steps[:4](torch.full((1, 64, 3, 3), 0.3))
    cells = finest.unflatten(3, (3, 4)).unflatten(2, (3, 4))
    assert torch.allclose(cells, cells[:, :, :1, :, :1], atol=1e-6)


def test_other_strides_give_other_pyramids():
    assert build_encoder({"type": "pyramid", "encoder": VIT, "strides": [64, 8]}).strides == (8, 64)
    assert [*map(usual_strides, (14, 7, 8))] == [[7, 14, 28], [7, 14], [4, 8, 16, 32]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "test_convnext"}, r"maps of one stride; those of this encoder are"),
        ({"encoder": VIT, "strides": [6]}, "a level of stride 6 cannot be made of maps of stride 16"),
    ],
)
def test_pyramids_that_cannot_be(options, message):
    if options["encoder"] == "test_convnext":
        options = {"encoder": {"type": "test_convnext", "out_indices": [0, 1]}}
    with pytest.raises(ValueError, match=message):
        build_encoder({"type": "pyramid", **options})


def test_a_unet_on_a_vit_comes_up_in_steps_of_two():
    network = UNetRestorer({"type": "pyramid", "encoder": VIT, "width": 8}, width=8, max_width=16, depth=1).train()
    assert network.encoder.strides == (4, 8, 16, 32)
    restored = network(torch.rand(1, 3, 37, 51))
    assert restored.shape == (1, 3, 37, 51)
    restored.square().mean().backward()
    assert all(p.grad is not None for name, p in network.named_parameters() if "norm" not in name)

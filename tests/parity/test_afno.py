"""AFNO in closed form."""

from __future__ import annotations

import pytest
import torch

from restore.encoders import build_encoder, published_state
from restore.layers.mixers import build_mixer
from restore.layers.mixers.spectral import afno


def drawn(dim: int = 6, **options) -> torch.nn.Module:
    torch.manual_seed(0)
    mixer = build_mixer({"type": "afno", "num_blocks": 2, **options}, dim).double()
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter)
    return mixer


@pytest.mark.parametrize(("dim", "blocks", "count"), [(768, 8, 297_984), (384, 4, 148_992), (256, 8, 33_792)])
def test_parameters_do_not_depend_on_the_size_of_the_map(dim, blocks, count):
    mixer = build_mixer({"type": "afno", "num_blocks": blocks}, dim)
    assert sum(parameter.numel() for parameter in mixer.parameters()) == count
    assert mixer(torch.randn(1, 5, 4, dim)).shape == (1, 5, 4, dim)


def test_where_everything_is_shrunk_the_map_stays():
    x_BHWC = torch.randn(2, 6, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(drawn(sparsity=1e9)(x_BHWC), x_BHWC)


def test_a_map_of_one_position_is_a_perceptron_of_two_layers():
    mixer = drawn(sparsity=0.3)
    x = torch.randn(1, 1, 1, 6, dtype=torch.float64)
    blocks = x.view(2, 3)
    expected = []
    for block, (w1, b1, w2, b2) in enumerate(
        zip(mixer.w1.unbind(1), mixer.b1.unbind(1), mixer.w2.unbind(1), mixer.b2.unbind(1), strict=True)
    ):
        real, imaginary = ((blocks[block] @ w1[part] + b1[part]).relu() for part in (0, 1))
        found = real @ w2[0] - imaginary @ w2[1] + b2[0]
        expected.append(found.sign() * (found.abs() - 0.3).clamp(min=0))
    torch.testing.assert_close(mixer(x), x + torch.cat(expected).view(1, 1, 1, 6))


def test_without_relu_and_shrinkage_it_is_a_circular_convolution(monkeypatch):
    mixer = drawn()
    for bias in (mixer.b1, mixer.b2):
        bias.data.zero_()
    x_BHWC = torch.randn(1, 6, 8, 6, dtype=torch.float64)
    rolled = x_BHWC.roll((2, 3), (1, 2))
    assert not torch.allclose(mixer(rolled), mixer(x_BHWC).roll((2, 3), (1, 2)))
    monkeypatch.setattr(afno.F, "relu", lambda x: x)
    monkeypatch.setattr(afno.F, "softshrink", lambda x, size: x)
    torch.testing.assert_close(mixer(rolled), mixer(x_BHWC).roll((2, 3), (1, 2)))
    torch.testing.assert_close(mixer(3 * x_BHWC), 3 * mixer(x_BHWC))
    changed = x_BHWC.clone()
    changed[..., :3] += 1
    assert (mixer(changed) - mixer(x_BHWC))[..., 3:].abs().max() <= 1e-12  # blocks of channels are apart


def test_names_are_the_published_ones():
    keys = {*published_state(build_encoder({"type": "afno", "img_size": 16, "embed_dim": 8, "depth": 1}))}
    mixer = {f"blocks.0.filter.{name}" for name in ("w1", "b1", "w2", "b2")}
    assert mixer | {"pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc2.bias", "norm.weight"} <= keys


@pytest.mark.parametrize("double_skip", [False, True])
def test_residual_sums_of_a_block(double_skip):
    encoder = build_encoder(
        {"type": "afno", "img_size": 16, "embed_dim": 8, "depth": 1, "double_skip": double_skip, "sparsity": 1e9}
    ).double()
    (block,) = encoder.blocks()
    for parameter in block.ffn.parameters():
        parameter.data.zero_()
    x_BHWC = torch.randn(1, 4, 4, 8, dtype=torch.float64)
    expected = x_BHWC + block.norm1(x_BHWC) if double_skip else x_BHWC
    torch.testing.assert_close(block(x_BHWC), expected)

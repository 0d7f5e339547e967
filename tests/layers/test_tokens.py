"""Sets of tokens, mixers that work on them, and mixers whose parameters have a fixed size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from restore.layers.block import MetaFormerBlock
from restore.layers.mixers import Mixer, TokenMixer
from restore.layers.mixers.attention.full import SelfAttention
from restore.layers.mixers.convolution.local import Pooling
from restore.layers.padding import cut_squares, cut_tiles, pad_to_multiple, paste_squares
from restore.layers.tokens import Tokens
from restore.registry import PLACEMENTS

DIM = 12


class Table(TokenMixer):
    """A learned matrix over the places of a grid: parameters of a fixed size."""

    def __init__(self, dim: int = DIM, grid_px: int = 4):
        super().__init__(dim, inner_dim=2 * dim, grid_px=grid_px)
        self.expand = nn.Linear(dim, 2 * dim)
        self.places = nn.Parameter(torch.randn(grid_px**2, grid_px**2))
        self.proj = nn.Linear(2 * dim, dim)

    def mix_tokens(self, tokens):
        return self.places @ self.expand(tokens.x_BNC)


def by_hand(mixer: Table, x_BHWC: torch.Tensor) -> torch.Tensor:
    """Pad, then square after square."""
    B, H, W, C = x_BHWC.shape
    side = mixer.grid_px
    padded = pad_to_multiple(x_BHWC.permute(0, 3, 1, 2), side).permute(0, 2, 3, 1)
    output = torch.empty_like(padded)
    for top in range(0, padded.shape[1], side):
        for left in range(0, padded.shape[2], side):
            square = padded[:, top : top + side, left : left + side].reshape(B, side**2, C)
            mixed = mixer.proj(mixer.places @ mixer.expand(square))
            output[:, top : top + side, left : left + side] = mixed.view(B, side, side, C)
    return output[:, :H, :W]


@pytest.mark.parametrize("size", [(4, 4), (8, 12), (5, 9), (3, 2), (1, 1)])
def test_a_grid_of_fixed_size_is_cutting_by_hand(size):
    torch.manual_seed(0)
    mixer = Table()
    x = torch.randn(2, *size, DIM, requires_grad=True)
    output, expected = mixer(x), by_hand(mixer, x)
    assert torch.allclose(output, expected, atol=1e-5)
    gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in (output, expected)]
    assert torch.allclose(*gradients, atol=1e-3)


def test_what_a_fixed_grid_reaches():
    assert (Table().halo_px, Table().size_multiple) == (3, (1, 1))
    mixer = Table()
    x = torch.randn(1, 9, 10, DIM)
    for row, column in ((8, 9), (4, 4), (6, 2)):
        changed = x.clone()
        changed[0, row, column] += 1
        with torch.no_grad():
            rows, columns = ((mixer(changed) - mixer(x)).abs().amax(-1)[0] > 1e-6).nonzero().unbind(1)
        assert torch.maximum((rows - row).abs(), (columns - column).abs()).max() <= mixer.halo_px


def test_squares_are_tiles_channels_last():
    x = torch.randn(2, 6, 9, DIM)
    squares = cut_squares(x, 3)
    assert torch.equal(squares.permute(0, 3, 1, 2), cut_tiles(x.permute(0, 3, 1, 2).contiguous(), 3))
    assert torch.equal(paste_squares(squares, 6, 9), x)


def test_two_multiples():
    class Rows(Mixer):
        def __init__(self, dim: int):
            super().__init__(dim, size_multiple=(2, 3))

        def mix(self, x_BHWC):
            return x_BHWC

    assert Rows(DIM)(torch.zeros(1, 4, 9, DIM)).shape == (1, 4, 9, DIM)
    with pytest.raises(ValueError, match="multiples of 2 and 3, given 3 x 3"):
        Rows(DIM)(torch.zeros(1, 3, 3, DIM))


def test_a_map_is_a_set_of_tokens():
    torch.manual_seed(0)
    mixer = SelfAttention(DIM, 2)
    x = torch.randn(2, 3, 5, DIM)
    assert torch.allclose(mixer(x), mixer(Tokens.of_map(x)).unflatten(1, (3, 5)), atol=1e-6)
    assert torch.equal(Tokens.of_map(x).map_BHWC(), x)
    assert torch.equal(Tokens.of_map(x).map_BCHW(), x.permute(0, 3, 1, 2))


def test_full_attention_is_that_of_torch():
    torch.manual_seed(0)
    mixer, reference = SelfAttention(DIM, 2), nn.MultiheadAttention(DIM, 2, batch_first=True)
    reference.load_state_dict(
        {
            "in_proj_weight": mixer.qkv.weight,
            "in_proj_bias": mixer.qkv.bias,
            "out_proj.weight": mixer.proj.weight,
            "out_proj.bias": mixer.proj.bias,
        }
    )
    tokens = torch.randn(2, 7, DIM)
    assert torch.allclose(mixer(Tokens(tokens)), reference(tokens, tokens, tokens)[0], atol=1e-6)


def test_merging_equal_tokens_changes_nothing_where_they_count_for_both():
    mixer = SelfAttention(DIM, 2).double()
    x = torch.randn(1, 6, DIM, dtype=torch.double)
    twice = torch.cat([x, x[:, -1:]], dim=1)
    weight = torch.tensor([[1.0, 1, 1, 1, 1, 2]])
    with torch.no_grad():
        merged = mixer(Tokens(x, weight_BN=weight.double()))
        assert torch.allclose(merged, mixer(Tokens(twice))[:, :-1], atol=1e-12)
        assert not torch.allclose(merged, mixer(Tokens(x)), atol=1e-3)


@pytest.mark.parametrize("placement", PLACEMENTS.names())
def test_a_block_takes_tokens_as_it_takes_maps(placement):
    torch.manual_seed(0)
    block = MetaFormerBlock(DIM, {"type": "attention", "num_heads": 2}, "leff", placement=placement, norm="rms")
    x = torch.randn(2, 3, 5, DIM)
    output = block(Tokens.of_map(x))
    assert (output.grid, output.num_prefix, output.weight_BN) == ((3, 5), 0, None)
    assert torch.allclose(output.map_BHWC(), block(x), atol=1e-5)
    prefixed = Tokens(torch.randn(2, 17, DIM), (3, 5), num_prefix=2)
    assert block(prefixed).x_BNC.shape == (2, 17, DIM)
    block(prefixed).prefix_BNC.sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())


def test_mixers_of_maps_take_tokens_that_are_a_map_and_no_others():
    pooling = Pooling(DIM)
    x = torch.randn(2, 3, 5, DIM)
    assert torch.equal(pooling(Tokens.of_map(x)), pooling(x).flatten(1, 2))
    with pytest.raises(ValueError, match=r"Pooling mixes maps: .* \(1 given\).* derived from TokenMixer"):
        pooling(Tokens(torch.randn(2, 16, DIM), (3, 5), num_prefix=1))
    with pytest.raises(ValueError, match="Pooling mixes maps"):
        pooling(Tokens(torch.randn(2, 15, DIM), (3, 5), weight_BN=torch.ones(2, 15)))
    with pytest.raises(ValueError, match="these 9 tokens do not lie on a grid"):
        pooling(Tokens(torch.randn(2, 9, DIM)))


@pytest.mark.parametrize("grid", [None, (3, 4)])
def test_a_fixed_grid_takes_tokens_of_that_grid(grid):
    mixer = Table()
    assert mixer(Tokens(torch.randn(2, 16, DIM), (4, 4))).shape == (2, 16, DIM)
    with pytest.raises(ValueError, match="parameters for a grid of 4 x 4, given tokens of"):
        mixer(Tokens(torch.randn(2, 12, DIM), grid))


def test_tokens_cross_what_wraps_modules():
    block = MetaFormerBlock(DIM, {"type": "attention", "num_heads": 2}, "mlp")
    tokens = Tokens(torch.randn(2, 7, DIM, requires_grad=True), num_prefix=1)
    from torch.utils import _pytree
    from torch.utils.checkpoint import checkpoint

    assert tokens.x_BNC in [each for each in _pytree.tree_leaves(tokens) if isinstance(each, torch.Tensor)]
    again = checkpoint(block, tokens, use_reentrant=False)
    assert again.num_prefix == 1
    assert torch.equal(again.x_BNC, block(tokens).x_BNC)

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from restore.layers.folding import fold
from restore.layers.position_bias import (
    RelativePositionBias,
    gather_bias,
    relative_position_index,
    resized_bias_table,
)


class Attention(RelativePositionBias):
    def __init__(self, window=(3, 2), num_heads=4):
        super().__init__()
        self.proj = nn.Linear(2, 2)
        self.add_bias_table(window, num_heads)


class Private(Attention):
    table_name = "table"
    derived_keys = ()
    resizes_table = True


def test_relative_positions():
    index = relative_position_index((3, 2))
    assert index.shape == (6, 6)
    assert index.unique().numel() == 5 * 3
    assert (index.diagonal() == index[0, 0]).all()
    assert (index + index.T == 2 * index[0, 0]).all()  # opposite displacements lie opposite the centre of the table
    table = torch.arange(15.0)[:, None].repeat(1, 4)
    assert torch.equal(gather_bias(table, index)[2], index.float())


def test_the_bias_of_a_pair_depends_on_its_displacement_alone():
    bias = Attention((3, 4)).position_bias()[1].view(3, 4, 3, 4)
    assert torch.equal(bias[:-1, :-1, :-1, :-1], bias[1:, 1:, 1:, 1:])
    assert not torch.equal(bias[:-1, :, :-1], bias[1:, :, :-1])


@pytest.mark.parametrize("kind", [Attention, Private])
def test_keys_are_those_of_published_weights(kind):
    keys = list(kind().state_dict())
    published = ["relative_position_bias_table", "relative_position_index"]
    assert keys == [*(published if kind is Attention else ["table"]), "proj.weight", "proj.bias"]
    assert [name for name, _ in kind().named_parameters()] == [key for key in keys if key != published[1]]


def test_an_index_is_ignored_when_it_is_read():
    first, second = Attention(), Attention()
    state = first.state_dict()
    second.load_state_dict({**state, "relative_position_index": torch.zeros(9, 9)})
    second.load_state_dict({key: value for key, value in state.items() if "index" not in key})
    assert torch.equal(first.position_bias(), second.position_bias())


@pytest.mark.parametrize("write", ["in place", "through data", "load", "fewer digits"])
def test_the_cache_follows_the_table(write):
    module = Attention()
    table = module.relative_position_bias_table
    with torch.no_grad():
        before = module.position_bias()
        assert module.position_bias() is before
        if write == "in place":
            table.add_(1)
        elif write == "through data":
            table.data += 1
        elif write == "fewer digits":
            module.to(torch.bfloat16)
        else:
            module.load_state_dict(Attention().state_dict())
        after = module.position_bias()
        assert after is not before
        assert torch.equal(after, gather_bias(module.relative_position_bias_table, module.relative_position_index))


def test_a_folded_bias_follows_a_table_that_is_loaded(monkeypatch):
    attention, other = fold(Attention()), Attention()
    with monkeypatch.context() as patch:
        patch.setattr("restore.layers.position_bias.gather_bias", None)  # not called any more
        gathered = attention.position_bias()
    assert torch.equal(gathered, gather_bias(attention.relative_position_bias_table, attention.relative_position_index))
    assert attention.state_dict().keys() == other.state_dict().keys()
    attention.load_state_dict(other.state_dict())
    assert torch.equal(attention.position_bias(), other.position_bias())


def test_gradients_pass_and_copies_have_a_cache_of_their_own():
    module = Attention()
    with torch.no_grad():
        kept = module.position_bias()
    copied = copy.deepcopy(module)
    with torch.no_grad():
        assert copied.position_bias() is not kept
    module.position_bias().sum().backward()
    times = torch.bincount(module.relative_position_index.flatten(), minlength=15)
    assert torch.equal(module.relative_position_bias_table.grad, times[:, None].expand(15, 4).float())


def test_tables_of_other_windows_are_resized_where_the_class_says_so():
    large = Private((5, 5)).state_dict()
    small = Private((5, 3))
    small.load_state_dict(large)
    assert torch.equal(small.table, resized_bias_table(large["table"], (5, 3)))
    with pytest.raises(RuntimeError, match="size mismatch"):
        Attention((5, 3)).load_state_dict(Attention((5, 5)).state_dict())


def test_resizing_keeps_constants_symmetry_and_its_own_size():
    table = torch.randn(25, 3)
    assert resized_bias_table(table, (3, 3)) is table
    constant = resized_bias_table(torch.ones(25, 3), (5, 4))
    assert constant.shape == (63, 3)
    assert torch.allclose(constant, torch.ones(63, 3), atol=1e-6)
    flipped = resized_bias_table(table.flip(0), (4, 4))
    assert torch.allclose(flipped, resized_bias_table(table, (4, 4)).flip(0), atol=1e-6)
    with pytest.raises(ValueError, match="a table of 15 relative positions is not one of square windows"):
        resized_bias_table(torch.randn(15, 3), (4, 4))

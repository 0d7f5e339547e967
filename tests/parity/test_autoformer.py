"""AutoFormer: networks that are cut out of a search space, and what their attention knows of distances."""

from __future__ import annotations

import pytest
import torch

from restore.encoders import Classifier, build_encoder, load_published, published_state
from restore.encoders.token.autoformer import _Distances
from restore.errors import CheckpointError

FOUND = {"type": "autoformer", "img_size": 64, "embed_dim": 24, "num_heads": [2, 1], "mlp_ratios": [2.5, 2.0],
         "head_dim": 8, "max_distance": 2}  # fmt: skip
SPACE = {**FOUND, "embed_dim": 32, "num_heads": [3, 3, 3], "mlp_ratios": [3.0, 3.0, 3.0]}


def test_the_network_found_is_a_part_of_the_search_space():
    torch.manual_seed(0)
    space, found = Classifier(build_encoder(SPACE), 10), Classifier(build_encoder(FOUND), 10)
    state = published_state(space)
    for key in state:  # as the official code has them: rows of queries, keys and values in turns
        if key.endswith("qkv.weight"):
            state[key] = state[key].unflatten(0, (3, -1)).transpose(0, 1).flatten(0, 1)
    load_published(found, state)
    load_published(found.encoder, state)
    whole, part = published_state(space), published_state(found)
    assert torch.equal(part["pos_embed"], whole["pos_embed"][..., :24])
    assert torch.equal(part["head.weight"], whole["head.weight"][:, :24])
    assert torch.equal(part["blocks.1.fc1.weight"], whole["blocks.1.fc1.weight"][:48, :24])
    assert torch.equal(part["blocks.0.attn.proj.weight"], whole["blocks.0.attn.proj.weight"][:24, :16])
    for number in range(3):  # the first rows of each of the three; of the biases, the first of all
        rows = whole["blocks.0.attn.qkv.weight"][24 * number : 24 * number + 16, :24]
        assert torch.equal(part["blocks.0.attn.qkv.weight"][16 * number : 16 * number + 16], rows)
    assert torch.equal(part["blocks.0.attn.qkv.bias"], whole["blocks.0.attn.qkv.bias"][:48])
    again = Classifier(build_encoder(FOUND), 10)
    load_published(again, part)  # what was cut out is not cut again
    assert torch.equal(again.encoder.stack[0].mixer.qkv.weight, found.encoder.stack[0].mixer.qkv.weight)


@pytest.mark.parametrize(("R", "S", "num_prefix"), [(3, 5, 1), (6, 2, 0), (1, 1, 2)])
def test_distances_are_those_of_all_pairs(R, S, num_prefix):
    torch.manual_seed(0)
    distances, N = _Distances(4, max_distance=2).double(), num_prefix + R * S
    rows, columns = torch.arange(R).repeat_interleave(S), torch.arange(S).repeat(R)
    vectors_NNd = (distances.embeddings_table_v[0] + distances.embeddings_table_h[0]).repeat(N, N, 1)
    for axis, places in (("v", rows), ("h", columns)):
        steps = (places[None] - places[:, None]).clamp(-2, 2) + 3
        table = distances.get_parameter(f"embeddings_table_{axis}")
        vectors_NNd[num_prefix:, num_prefix:] += table[steps] - table[0]
    query, map_BhNN = torch.randn(2, 3, N, 4, dtype=torch.float64), torch.rand(2, 3, N, N, dtype=torch.float64)
    scores = torch.einsum("bhnd,nmd->bhnm", query, vectors_NNd)
    torch.testing.assert_close(distances.scores(query, R, S), scores, rtol=0, atol=1e-12)
    means = torch.einsum("bhnm,nmd->bhnd", map_BhNN, vectors_NNd)
    torch.testing.assert_close(distances.means(map_BhNN, R, S), means, rtol=0, atol=1e-12)


def test_rows_of_a_whole_space_take_turns_where_it_is_said():
    torch.manual_seed(0)
    sorted_rows, in_turns = (
        Classifier(build_encoder({**SPACE, "qkv_in_turns": on}), 10).eval() for on in (False, True)
    )
    state = published_state(sorted_rows)
    for key in state:
        if key.endswith("qkv.weight"):
            state[key] = state[key].unflatten(0, (3, -1)).transpose(0, 1).flatten(0, 1)
    load_published(in_turns, state)
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(in_turns(x), sorted_rows(x))
    part, whole = (Classifier(build_encoder({**FOUND, "qkv_in_turns": on}), 10).eval() for on in (False, True))
    for network in (part, whole):
        load_published(network, state)
    torch.testing.assert_close(part(x), whole(x))


def test_places_that_do_not_fit_are_not_cut():
    space = Classifier(build_encoder({**SPACE, "img_size": 96, "max_distance": 3}), 10)
    with pytest.raises(CheckpointError, match="of another size"):
        load_published(Classifier(build_encoder(FOUND), 10), published_state(space))


def test_attention_without_distances_is_that_with_none_to_tell():
    torch.manual_seed(0)
    plain, other = (build_encoder({**FOUND, "max_distance": distance}).eval() for distance in (None, 2))
    missing, unexpected = other.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all("embeddings_table" in key for key in missing)
    with torch.no_grad():
        for key in missing:
            other.get_parameter(key).zero_()
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(plain(x), other(x))


def test_one_width_for_each_block():
    with pytest.raises(ValueError, match="2 num_heads and 3 mlp_ratios"):
        build_encoder({"type": "autoformer", "num_heads": [1, 2], "mlp_ratios": [2.0, 2.0, 2.0]})

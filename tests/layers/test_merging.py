"""Merging of tokens: what is exact about it, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from restore import build_model
from restore.encoders import build_encoder
from restore.errors import OptionsError
from restore.layers.block import MetaFormerBlock
from restore.layers.merging import ClusterMerging, MergedBlock, MergedMixer, PairMerging, merge, merging_of
from restore.layers.mixers.attention.full import SelfAttention
from restore.layers.tokens import Tokens

DIM = 12


def pairs(num_pairs=8, prefix=0, batch=2, spread=0.0):
    """Tokens that are equal two by two, a prefix before them."""
    torch.manual_seed(0)
    each = torch.randn(batch, num_pairs, DIM, dtype=torch.float64)
    patches = each.repeat_interleave(2, dim=1)
    patches = patches + spread * torch.randn_like(patches)
    return torch.cat([torch.randn(batch, prefix, DIM, dtype=torch.float64), patches], dim=1)


def drawn(module):
    torch.manual_seed(1)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module.double().eval()


@pytest.mark.parametrize("prefix", [0, 2])
@pytest.mark.parametrize("cosine", [False, True])
def test_attention_of_merged_equal_tokens_is_attention_of_all(prefix, cosine):
    mixer = drawn(SelfAttention(DIM, num_heads=3, cosine=cosine))
    tokens = Tokens(pairs(prefix=prefix), num_prefix=prefix)
    merged = MergedMixer(mixer, PairMerging(0.5))(tokens)
    assert torch.allclose(merged, mixer(tokens), atol=1e-6 if cosine else 1e-12)


@pytest.mark.parametrize("placement", ["pre", "post", "res-post", "parallel"])
def test_blocks_of_merged_equal_tokens_are_blocks_of_all(placement):
    block = drawn(MetaFormerBlock(DIM, SelfAttention(DIM, num_heads=3), "mlp", placement=placement))
    tokens = Tokens(pairs(prefix=1), (2, 8), 1)
    found = MergedBlock(block, PairMerging(0.5))(tokens)
    assert found.grid == (2, 8)
    assert torch.allclose(found.x_BNC, block(tokens).x_BNC, atol=1e-12)


def test_without_their_number_merged_tokens_count_for_too_little():
    mixer = drawn(SelfAttention(DIM, num_heads=3))
    x = pairs()
    x[:, 2:] = x[:, 2:3]  # one token stands for fourteen others
    tokens = Tokens(x)
    plan = PairMerging(0.4).plan(tokens)
    full = mixer(tokens)
    with_number = plan.spread(mixer(Tokens(plan.merge(x), weight_BN=plan.weight_BM)))
    without = plan.spread(mixer(Tokens(plan.merge(x))))
    assert torch.allclose(with_number, full, atol=1e-12)
    assert (without - full).abs().max() > 0.01


@pytest.mark.parametrize("share", [0.15, 0.25, 0.5])
@pytest.mark.parametrize(("count", "prefix"), [(16, 0), (17, 1), (9, 2)])
def test_numbers_of_tokens_add_up_and_merging_again_changes_nothing(share, count, prefix):
    torch.manual_seed(2)
    x = torch.randn(3, prefix + count, DIM, dtype=torch.float64)
    plan = PairMerging(share).plan(Tokens(x, num_prefix=prefix))
    merged = plan.merge(x)
    assert merged.shape[1] == prefix + count - int(share * count)
    assert torch.equal(plan.weight_BM.sum(dim=1), torch.full((3,), float(prefix + count)))
    assert torch.equal(merged[:, :prefix], x[:, :prefix])
    assert torch.equal(plan.weight_BM[:, :prefix], torch.ones(3, prefix))
    again = plan.merge(plan.spread(merged))
    assert torch.allclose(again, merged, atol=1e-12)


def test_the_likest_pairs_are_merged():
    torch.manual_seed(3)
    x = torch.randn(1, 20, DIM)
    plan = PairMerging(0.2).plan(Tokens(x))
    unit = F.normalize(x[0], dim=-1)
    best = []
    for source in range(0, 20, 2):
        likeness, target = max((float(unit[source] @ unit[target]), target) for target in range(1, 20, 2))
        best.append((likeness, source, target))
    merged = {(source, target) for _, source, target in sorted(best)[-4:]}
    places = plan._place_BN[0]
    found = {
        (source, target) for source in range(0, 20, 2) for target in range(1, 20, 2) if places[source] == places[target]
    }
    assert found == merged


def test_tokens_that_stand_for_several_pull_their_mean():
    x = torch.tensor([[[1.0, 0.0], [3.0, 0.1]]])
    plan = PairMerging(0.5).plan(Tokens(x, weight_BN=torch.tensor([[3.0, 1.0]])))
    assert torch.allclose(plan.merge(x), torch.tensor([[[1.5, 0.025]]]))
    assert plan.weight_BM.tolist() == [[4.0]]


def test_similarities_in_parts_are_those_at_once(monkeypatch):
    torch.manual_seed(4)
    tokens = Tokens(torch.randn(2, 50, DIM))
    whole = PairMerging(0.3).plan(tokens)
    monkeypatch.setattr("restore.layers.merging._SIMILARITIES", 60)
    assert torch.equal(PairMerging(0.3).plan(tokens)._place_BN, whole._place_BN)


def grid(height, width, batch=2, channels=DIM):
    torch.manual_seed(5)
    return torch.randn(batch, height, width, channels, dtype=torch.float64)


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (7, 2)])
def test_clusters_of_equal_cells_are_exact(size):
    mixer = drawn(SelfAttention(DIM, num_heads=3))
    x = grid(*size).repeat_interleave(2, 1).repeat_interleave(3, 2)
    merged = MergedMixer(mixer, ClusterMerging(*size, sharpness=float("inf")))(x)
    assert torch.allclose(merged, mixer(x), atol=1e-12)


def test_clusters_keep_constants_and_numbers():
    x = torch.ones(2, 9, 10, DIM, dtype=torch.float64) * 3
    plan = ClusterMerging(3, 4, num_rounds=3).plan(Tokens.of_map(x))
    merged = plan.merge(x.flatten(1, 2))
    assert merged.shape == (2, 12, DIM)
    assert torch.allclose(merged, torch.full_like(merged, 3))
    assert torch.allclose(plan.spread(merged), x.flatten(1, 2))
    assert torch.allclose(plan.weight_BM.sum(dim=1), torch.full((2,), 90.0, dtype=torch.float64))


def test_clusters_leave_the_prefix_alone():
    x = torch.cat([torch.randn(2, 1, DIM), torch.randn(2, 30, DIM)], dim=1)
    plan = ClusterMerging(2, 2).plan(Tokens(x, (5, 6), 1))
    assert torch.equal(plan.merge(x)[:, 0], x[:, 0])
    assert torch.equal(plan.spread(plan.merge(x))[:, 0], x[:, 0])


def test_a_centre_looks_at_its_neighbourhood_only():
    x = torch.zeros(1, 12, 12, DIM)
    x[0, :, :6] = 1
    plan = ClusterMerging(6, 6).plan(Tokens.of_map(x))
    spread = plan.spread(plan.merge(x.flatten(1, 2))).view(1, 12, 12, DIM)
    assert torch.equal(spread[0, :, :2], x[0, :, :2])
    assert torch.equal(spread[0, :, 10:], x[0, :, 10:])


NETWORKS = {
    "metaformer": {"type": "MetaFormerRestorer", "mixers": ["attention", "window"], "depths": [2], "embed_dim": 12},
    "ipt": {"type": "IPT", "scale": 1, "patch_size": 12, "n_feats": 4, "num_heads": 2, "num_layers": 2},
    "ipt_every": {
        "type": "IPT", "scale": 1, "patch_size": 12, "n_feats": 4, "num_heads": 2, "num_layers": 1, "pos_every": True
    },
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("how", ["tome:0", "cluster:99x99", "tome:0:blocks"])
def test_nothing_merged_is_the_network_itself(name, how):
    torch.manual_seed(6)
    network = build_model(NETWORKS[name]).eval()
    x = torch.rand(2, 3, 24, 30)
    with torch.no_grad():
        assert torch.equal(merge(network, how)(x), network(x))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("how", ["tome:0.4", "cluster:3x3", "tome:0.4:blocks", "cluster:3x3:blocks"])
def test_merged_networks_keep_size_and_leave_the_original(name, how):
    torch.manual_seed(6)
    network = build_model(NETWORKS[name]).eval()
    x = torch.rand(2, 3, 24, 30)
    with torch.no_grad():
        before = network(x)
        found = merge(network, how)(x)
        assert found.shape == before.shape
        assert not torch.equal(found, before)
        assert torch.equal(network(x), before)


@pytest.mark.parametrize("name", ["cpvt_tiny", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_encoders_of_tokens_are_merged(name):
    torch.manual_seed(7)
    encoder = build_encoder(name).eval()
    x = torch.rand(1, 3, 64, 80)
    with torch.no_grad():
        maps = encoder(x)
        for how in ("tome:0", "cluster:9x9"):
            assert all(map(torch.equal, merge_in(encoder, how)(x), maps))
        for how in ("tome:0.5", "tome:0.5:blocks", "cluster:2x2:blocks"):
            found = merge_in(encoder, how)(x)
            assert [each.shape for each in found] == [each.shape for each in maps]
            assert not torch.equal(found[-1], maps[-1])


def merge_in(encoder, how):
    return merge(torch.nn.Sequential(encoder), how)[0]


def test_networks_without_such_attention_say_so():
    for block in (
        {"type": "SwinIR", "upscale": 1, "depths": [2], "num_heads": [2], "embed_dim": 12},
        {"type": "MetaFormerRestorer", "mixers": [{"type": "attention", "position": "table"}], "depths": [1]},
    ):
        with pytest.raises(OptionsError, match=r"has no attention of all tokens"):
            merge(build_model(block), "tome:0.3")


@pytest.mark.parametrize(
    "how", ["tome", "tome:0.6", "tome:-1", "tome:nan", "tome:0.3:all", "cluster:3", "cluster:0x2", ""]
)
def test_what_cannot_be_read_says_what_can(how):
    with pytest.raises(OptionsError, match="merge is"):
        merging_of(how)

"""Sequence models: who sees whom, padding, decoding token by token, positions, parameters; and that they learn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from restore.layers.cross_attention import CrossAttention
from restore.layers.sequence import KINDS, EncoderDecoder
from restore.layers.sequence.encoder_decoder import sinusoids
from restore.layers.sequence.mixing import FullMixing, HashMixing, LongShortMixing, SummaryMixing

V, DIM, HEADS = 11, 16, 2


@pytest.fixture(autouse=True)
def _seed(one_thread):
    torch.manual_seed(0)


def model(kind, **options):
    heads = {} if kind == "delight" else {"num_heads": HEADS}
    network = EncoderDecoder.of_kind(kind, V, dim=DIM, **{**heads, "max_length": 32, "chunk_size": 4, **options})
    return network.double().eval()


@pytest.fixture(params=KINDS)
def network(request):
    return model(request.param)


def tokens(*shape):
    return torch.randint(V, shape)


def test_a_later_token_never_changes_earlier_outputs(network):
    source, target = tokens(2, 7), tokens(2, 9)
    before = network(source, target)
    for place in range(1, 9):
        changed = target.clone()
        changed[:, place] = (changed[:, place] + 1) % V
        after = network(source, changed)
        torch.testing.assert_close(after[:, :place], before[:, :place], atol=1e-12, rtol=0)
        assert (after[:, place] - before[:, place]).abs().max() > 1e-6


def test_what_stands_in_the_padding_changes_nothing(network):
    source, target, there = tokens(2, 8), tokens(2, 5), torch.ones(2, 8, dtype=torch.bool)
    there[0, 5:] = False
    before = network(source, target, there)
    changed = source.clone()
    changed[0, 5:] = (changed[0, 5:] + 3) % V
    if isinstance(network.encoder[0].mixing, HashMixing):  # padding takes places of chunks: one for all
        network.encoder[0].mixing.attention.chunk_size = network.encoder[1].mixing.attention.chunk_size = 16
        before = network(source, target, there)
    torch.testing.assert_close(network(changed, target, there), before, atol=1e-10, rtol=0)
    assert (network(changed, target) - network(source, target)).abs().max() > 1e-6


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"reformer"}))
def test_padding_is_as_good_as_none(kind):
    network, source, target = model(kind), tokens(1, 5), tokens(1, 4)
    padded = torch.cat([source, tokens(1, 3)], dim=1)
    there = torch.tensor([[True] * 5 + [False] * 3])
    torch.testing.assert_close(network(padded, target, there), network(source, target), atol=1e-10, rtol=0)


@pytest.mark.parametrize("steps", [(1,) * 9, (4, 5), (2, 1, 6)])
def test_token_by_token_is_all_at_once(network, steps):
    source, target = tokens(2, 7), tokens(2, 9)
    there = torch.ones(2, 7, dtype=torch.bool)
    there[1, 4:] = False
    memory = network.encode(source, there)
    caches = [{} for _ in network.decoder]
    parts = [network.decode(part, memory, there, caches) for part in target.split(steps, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), network(source, target, there), atol=1e-10, rtol=0)


def test_what_is_generated_is_the_likeliest(network):
    source = tokens(3, 6)
    found = network.generate(source, start=0, length=5)
    target = torch.cat([torch.zeros(3, 1, dtype=torch.long), found[:, :-1]], dim=1)
    assert torch.equal(network(source, target).argmax(dim=-1), found)


def test_every_parameter_learns(network):
    network.train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    network(tokens(2, 32), tokens(2, 6)).square().sum().backward()
    assert [name for name, each in network.named_parameters() if each.grad is None or not each.grad.any()] == []


class TestPositions:
    def test_the_formula(self):
        found = sinusoids(5, 8, first=3)
        for place in range(5):
            for pair in range(4):
                angle = torch.tensor((place + 3) / 10_000 ** (2 * pair / 8))
                assert found[place, 2 * pair].item() == pytest.approx(angle.sin().item(), abs=1e-6)
                assert found[place, 2 * pair + 1].item() == pytest.approx(angle.cos().item(), abs=1e-6)

    @pytest.mark.parametrize("step", [1, 5, 40])
    def test_a_step_turns_each_pair_by_one_angle(self, step):
        pairs = torch.view_as_complex(sinusoids(100, 12).view(100, 6, 2))
        turned = pairs[step:] / pairs[:-step]
        torch.testing.assert_close(turned, turned[:1].expand_as(turned), atol=2e-5, rtol=0)
        torch.testing.assert_close(turned.abs(), torch.ones(100 - step, 6), atol=1e-5, rtol=0)

    def test_nearness(self):
        products = sinusoids(64, 32) @ sinusoids(64, 32).T
        torch.testing.assert_close(products.diagonal(), torch.full((64,), 16.0))
        torch.testing.assert_close(products[10, 13], products[40, 43])

    def test_without_them_the_order_of_a_source_does_not_count(self, monkeypatch):
        monkeypatch.setattr(
            "restore.layers.sequence.encoder_decoder.sinusoids", lambda n, c, first=0, device=None: torch.zeros(n, c)
        )
        network, source, target, order = model("transformer"), tokens(1, 6), tokens(1, 4), torch.randperm(6)
        torch.testing.assert_close(network(source[:, order], target), network(source, target), atol=1e-10, rtol=0)


class TestMixing:
    def test_attention_is_torchs(self):
        ours, theirs = (
            CrossAttention(DIM, HEADS).double(),
            torch.nn.MultiheadAttention(DIM, HEADS, batch_first=True).double(),
        )
        with torch.no_grad():
            theirs.in_proj_weight.copy_(torch.cat([ours.q.weight, ours.k.weight, ours.v.weight]))
            theirs.in_proj_bias.copy_(torch.cat([ours.q.bias, ours.k.bias, ours.v.bias]))
            theirs.out_proj.load_state_dict(ours.proj.state_dict())
        query, memory = torch.randn(2, 5, DIM).double(), torch.randn(2, 7, DIM).double()
        there = torch.rand(2, 7) < 0.6
        there[:, 0] = True
        wanted, _ = theirs(query, memory, memory, key_padding_mask=~there)
        torch.testing.assert_close(ours(query, memory, mask=there[:, None, None]), wanted, atol=1e-10, rtol=0)

    @pytest.mark.parametrize("dynamic", [False, True])
    @pytest.mark.parametrize("causal", [False, True])
    def test_halves_do_not_meet(self, dynamic, causal):
        mixing = LongShortMixing(DIM, HEADS, 5, dynamic).double()
        x, half = torch.randn(1, 9, DIM).double(), DIM // 2
        whole = mixing(x, causal=causal)
        for zeroed, kept in ((slice(0, half), slice(half, DIM)), (slice(half, DIM), slice(0, half))):
            changed = x.clone()
            changed[..., zeroed] = 0
            assert torch.equal(mixing(changed, causal=causal)[..., kept], whole[..., kept])
            assert not torch.allclose(mixing(changed, causal=causal)[..., zeroed], whole[..., zeroed])

    def test_halves_have_the_parameters_of_halves(self):
        def count(module):
            return sum(each.numel() for each in module.parameters())

        half, size = DIM // 2, 5
        light, dynamic = (LongShortMixing(DIM, HEADS, size, kind) for kind in (False, True))
        assert count(light.far) == count(FullMixing(half, HEADS)) == 4 * (half**2 + half)
        gated = 2 * half**2 + 2 * half + half**2 + half
        assert count(light) == count(light.far) + gated + HEADS * size
        assert count(dynamic) == count(light.far) + gated + HEADS * size * (half + 1)

    @pytest.mark.parametrize("causal", [False, True])
    def test_the_convolution_is_torchs(self, causal):
        mixing = LongShortMixing(DIM, HEADS, 5, dynamic=False).double()
        x, half = torch.randn(2, 9, DIM).double(), DIM // 2
        gated = F.glu(mixing.gated(x[..., half:]), dim=-1).transpose(1, 2)
        weight = mixing.kernel.softmax(-1).repeat_interleave(half // HEADS, 0)[:, None]
        convolved = F.conv1d(F.pad(gated, (4, 0) if causal else (2, 2)), weight, groups=half).transpose(1, 2)
        torch.testing.assert_close(mixing(x, causal=causal)[..., half:], mixing.proj(convolved))

    def test_dynamic_weights_that_are_the_same_are_a_learned_kernel(self):
        light, dynamic = (LongShortMixing(DIM, HEADS, 5, kind).double() for kind in (False, True))
        dynamic.load_state_dict(light.state_dict(), strict=False)
        with torch.no_grad():
            dynamic.weigh.weight.zero_()
            dynamic.weigh.bias.copy_(light.kernel.flatten())
        x = torch.randn(2, 9, DIM).double()
        torch.testing.assert_close(dynamic(x), light(x))

    def test_sums_that_are_tokens_are_full_attention(self):
        full, sums = FullMixing(DIM, HEADS).double(), SummaryMixing(DIM, HEADS, 8, 8).double()
        sums.attention.load_state_dict(full.attention.state_dict())
        with torch.no_grad():
            sums.for_keys.copy_(torch.eye(8))
            sums.for_values.copy_(torch.eye(8))
        x = torch.randn(2, 8, DIM).double()
        torch.testing.assert_close(sums(x), full(x))
        with pytest.raises(ValueError, match="max_length is 8"):
            sums(torch.randn(1, 9, DIM).double())

    @pytest.mark.parametrize("mixing", [SummaryMixing(DIM, HEADS, 8), HashMixing(DIM, HEADS)], ids=["sums", "buckets"])
    def test_what_holds_later_tokens_is_not_causal(self, mixing):
        assert not mixing.can_be_causal
        with pytest.raises(ValueError, match="for encoders"):
            mixing(torch.randn(1, 4, DIM), causal=True)
        with pytest.raises(ValueError, match="cannot go on token by token"):
            mixing.go_on(torch.randn(1, 1, DIM), {})


class TestParameters:
    def test_of_the_base_transformer(self):
        """4 d^2 + 4 d of attention, 2 d f + f + d of the feed-forward network, 2 d of a norm."""
        with torch.device("meta"):
            network = EncoderDecoder.of_kind("transformer", 100, dim=512, num_heads=8, num_layers=1)
        counts = [sum(each.numel() for each in part.parameters()) for part in (network.encoder, network.decoder)]
        assert counts[0] == 3_152_384
        assert counts[1] == 3_152_384 + 4 * 512**2 + 4 * 512 + 2 * 512

    def test_variants_are_lighter(self):
        def count(kind):
            with torch.device("meta"):
                network = EncoderDecoder.of_kind(kind, 100, dim=256, num_layers=6)
            return sum(each.numel() for each in network.parameters())

        assert count("lite") < 0.6 * count("transformer")
        assert count("delight") < count("transformer")

    def test_unknown_variants(self):
        with pytest.raises(ValueError, match="transformer, lite"):
            EncoderDecoder.of_kind("perceiver", 5)


def learnt(kind, reverse, steps=500):
    """The share of sequences of six that a small model copies, or reverses, without a mistake after some steps."""
    torch.manual_seed(1)
    network = EncoderDecoder.of_kind(
        kind, 10, dim=32, num_layers=1, max_length=6, num_kept=6, chunk_size=6, placement="pre"
    )
    optimizer = torch.optim.Adam(network.parameters(), 4e-3)

    def drawn(number):
        source = torch.randint(1, 10, (number, 6))
        return source, source.flip(1) if reverse else source

    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1, (step + 1) / 50) * min(1, 3 * (steps - step) / steps)
        source, wanted = drawn(64)
        begun = torch.cat([torch.zeros(64, 1, dtype=torch.long), wanted[:, :-1]], dim=1)
        optimizer.zero_grad()
        F.cross_entropy(network(source, begun).flatten(0, 1), wanted.flatten()).backward()
        optimizer.step()
    source, wanted = drawn(200)
    return (network.eval().generate(source, 0, 6) == wanted).all(dim=1).float().mean().item()


@pytest.mark.slow
def test_reversing_is_learnt():
    assert learnt("transformer", reverse=True) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_variant_learns_to_copy_and_to_reverse(kind, reverse):
    assert learnt(kind, reverse) > 0.9

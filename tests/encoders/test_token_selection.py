"""Tokens that are left out: DynamicViT's statements, with what is different here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from restore.analysis.findings import analyse
from restore.cli import main
from restore.encoders import build_encoder
from restore.errors import OptionsError
from restore.images import write_image
from restore.layers.mixers.attention.full import SelfAttention
from restore.layers.token_selection import TokenSelector, kept_count, run_with_selection, selection_places
from restore.layers.tokens import Tokens
from restore.quality import build_quality
from restore.quality.loading import save_quality

VIT = {"type": "cpvt", "embed_dim": 16, "depth": 4, "num_heads": 2, "patch_size": 8}


def drawn(block, seed=0):
    torch.manual_seed(seed)
    encoder = build_encoder(block)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return encoder.double().eval()


def test_places_and_counts():
    assert selection_places(12) == (3, 6, 9)
    assert selection_places(4) == (1, 2, 3)
    assert selection_places(2) == (1,)
    assert selection_places(1) == ()
    assert [kept_count(196, 0.7, times) for times in (1, 2, 3)] == [137, 96, 67]
    assert kept_count(4, 0.1, 3) == 1


def test_kept_rows_of_masked_attention_are_attention_on_the_kept():
    torch.manual_seed(1)
    mixer = SelfAttention(16, num_heads=2).double()
    x = torch.randn(2, 20, 16, dtype=torch.float64)
    kept = torch.tensor([0, 3, 4, 9, 15])
    weight = torch.zeros(2, 20, dtype=torch.float64)
    weight[:, kept] = 1
    masked = mixer(Tokens(x, weight_BN=weight))[:, kept]
    assert torch.allclose(masked, mixer(Tokens(x[:, kept])), atol=1e-14)


@pytest.mark.parametrize("kind", ["cpvt", "subln_vit", "deepnorm_vit", "parallel_vit"])
@pytest.mark.parametrize("keep", [0.7, 0.3])
def test_training_and_evaluation_are_alike(kind, keep):
    extra = {"num_parallel": 2} if kind == "parallel_vit" else {}
    encoder = drawn({**VIT, "type": kind, "keep": keep, **extra})
    x = torch.rand(2, 3, 40, 56, dtype=torch.float64)
    with torch.no_grad():
        fast = encoder(x)
    slow = encoder(x)
    assert slow[-1].requires_grad
    for one, other in zip(fast, slow, strict=True):
        assert torch.allclose(one, other, atol=1e-3 * float(one.abs().max()))


def test_gradients_reach_the_selectors():
    encoder = drawn({**VIT, "keep": 0.5})
    encoder(torch.rand(2, 3, 40, 56, dtype=torch.float64))[-1].square().mean().backward()
    for selector in encoder.selectors:
        assert all(each.grad is not None and each.grad.abs().max() > 0 for each in selector.parameters())


def test_all_kept_is_the_encoder_itself():
    plain = drawn(VIT)
    torch.manual_seed(0)
    same = build_encoder({**VIT, "keep": 1.0})
    assert list(same.state_dict()) == list(plain.state_dict())
    tokens = Tokens(torch.randn(2, 1 + 12, 16, dtype=torch.float64), (3, 4), 1)
    selectors = [TokenSelector(16).double() for _ in range(3)]
    with torch.no_grad():
        maps, last, kept = run_with_selection(tokens, list(plain.stack), plain.block, selectors, 1.0)
        expected, tokens = plain.run_blocks(tokens)
    assert all(torch.allclose(one, two, atol=1e-12) for one, two in zip(maps, expected, strict=True))
    assert torch.allclose(last.x_BNC, tokens.x_BNC, atol=1e-12)
    assert all(bool(each.all()) for each in kept)


def test_what_is_left_out_stays_as_it_was():
    encoder = drawn({**VIT, "keep": 0.5, "out_indices": [0, 1, 2, 3]})
    x = torch.rand(2, 3, 40, 56, dtype=torch.float64)
    with torch.no_grad():
        maps, kept = encoder(x), encoder.kept_tokens(x)
    assert [each[0].sum() for each in kept] == [kept_count(35, 0.5, times) for times in (1, 2, 3)]
    for number, mask_BHW in enumerate(kept):
        same = (maps[number + 1] == maps[number]).all(dim=1)
        assert torch.equal(same, mask_BHW == 0)
        if number:
            assert bool((kept[number - 1] >= mask_BHW).all())


def test_scores_decide(monkeypatch):
    encoder = drawn({**VIT, "keep": 0.5})
    monkeypatch.setattr(
        TokenSelector, "forward", lambda self, x, there=None: F.logsigmoid(x[..., 0] * 0 + torch.arange(x.shape[1]))
    )
    with torch.no_grad():
        (first, *_) = encoder.kept_tokens(torch.rand(1, 3, 32, 32, dtype=torch.float64))
    assert first.flatten().tolist() == [0] * 8 + [1] * 8


def test_judges_need_no_more_of_it():
    judge = build_quality({"type": "TRIQ", "encoder": {**VIT, "keep": 0.7, "out_indices": [1]}, "num_layers": 1})
    assert len(judge.encoder.stack) == 2
    assert len(judge.encoder.selectors) == 1
    judge(torch.rand(2, 3, 40, 56)).sum().backward()
    assert all(each.grad is not None for each in judge.encoder.selectors.parameters())


@pytest.mark.parametrize("keep", [0, -0.5, 1.5])
def test_shares_are_checked(keep):
    with pytest.raises(OptionsError, match="share of the patches"):
        build_encoder({**VIT, "keep": keep})


def test_kept_tokens_are_pictured(tmp_path):
    block = {"type": "TRIQ", "encoder": {**VIT, "keep": 0.5}, "num_layers": 1}
    torch.manual_seed(2)
    judge = build_quality(block).eval()
    found = analyse(judge, torch.rand(1, 3, 32, 40), num_steps=1)
    assert list(found.kept) == [f"selection {n}: {k} of 20 tokens" for n, k in ((1, 10), (2, 5), (3, 2))]
    save_quality(judge, block, tmp_path / "judge.safetensors", dtype=torch.float32)
    write_image(tmp_path / "in.png", np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    words = [
        "analyse",
        tmp_path / "judge.safetensors",
        tmp_path / "in.png",
        "--side",
        "32",
        "--steps",
        "1",
        "-o",
        tmp_path,
    ]
    assert main([str(word) for word in words]) == 0
    assert "Kept tokens" in (tmp_path / "report.html").read_text(encoding="utf-8")

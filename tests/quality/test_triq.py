from __future__ import annotations

import pytest
import torch

from restore.errors import ImageError, OptionsError
from restore.quality import build_quality
from restore.quality.triq import TRIQHead

TINY = {
    "type": "TRIQ",
    "encoder": {"type": "conv_pyramid", "widths": [4, 8]},
    "width": 8,
    "num_heads": 2,
    "grid": [3, 4],
}


def images(*size, seed=0):
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return build_quality(TINY).eval()


def test_published_number_of_parameters():
    assert sum(parameter.numel() for parameter in TRIQHead().parameters()) == 91_301


@pytest.mark.parametrize("positions", ["interpolate", "truncate"])
def test_token_counts_of_the_published_sizes(positions):
    model = build_quality({"type": "TRIQ", "positions": positions})
    assert sum(parameter.numel() for parameter in model.encoder.parameters()) == 23_508_032
    assert [model.tokens(*size) for size in ((768, 1024), (384, 512), (500, 500))] == [192, 192, 64]
    turned = {"interpolate": [192, 192], "truncate": [192, 48]}[positions]
    assert [model.tokens(*size) for size in ((1024, 768), (512, 384))] == turned


@pytest.mark.parametrize("size", [(1, 1), (7, 90), (90, 7), (40, 40), (12, 16)])
def test_any_size_and_orientation(tiny, size):
    logits = tiny(images(2, 3, *size))
    score, spread = tiny.score(logits), tiny.spread(logits)
    torch.testing.assert_close(logits.softmax(dim=1).sum(dim=1), torch.ones(2))
    assert ((score >= 1) & (score <= 5)).all()
    assert ((spread >= 0) & (spread <= 2)).all()
    assert tiny.tokens(*size) <= 12
    torch.testing.assert_close(tiny.judge(images(2, 3, *size)), score.detach())


def test_score_and_spread_are_those_of_the_distribution(tiny):
    logits = torch.tensor([[0.2, 0.1, 0.4, 0.1, 0.2], [1e-9, 1e-9, 1e-9, 1e-9, 1.0]]).log()
    torch.testing.assert_close(tiny.score(logits), torch.tensor([3.0, 5.0]))
    torch.testing.assert_close(tiny.spread(logits), torch.tensor([1.8**0.5, 0.0]), atol=1e-3, rtol=0)


def test_truncated_positions_have_an_end():
    torch.manual_seed(0)
    model = build_quality({**TINY, "positions": "truncate"}).eval()
    table = model.transformer.position_table
    assert torch.equal(model.transformer._positions_of(2, 5), table[:, :11])
    with pytest.raises(ImageError, match=r"has 12 of them; this image needs 4 x 4.*interpolate"):
        model.judge(images(1, 3, 16, 16))


def test_bad_input(tiny):
    with pytest.raises(ImageError, match="takes RGB"):
        tiny.judge(images(1, 1, 9, 9))
    with pytest.raises(ImageError, match="NaN or infinity"):
        tiny.judge(images(1, 3, 9, 9) / 0)
    with pytest.raises(OptionsError, match="'interpolate' or 'truncate'"):
        build_quality({**TINY, "positions": "truncated"})
    with pytest.raises(ValueError, match="cannot be divided among"):
        build_quality({**TINY, "width": 9})

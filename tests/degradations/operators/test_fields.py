"""Fields of random numbers: their distribution, and what they depend on."""

import math

import pytest
import torch

from restore.degradations.operators.fields import field, random_words


@pytest.fixture
def like() -> torch.Tensor:
    """(2, 3, 255, 257): an odd number of values in each sample."""
    return torch.empty(2, 3, 255, 257)


def test_normal_numbers(like):
    values = field(like, [1, 2])
    assert values.shape == like.shape
    for sample in values.double():
        error = 5 / math.sqrt(sample.numel())
        assert abs(sample.mean()) < error
        assert sample.square().mean().item() == pytest.approx(1, abs=math.sqrt(2) * error)
        assert sample.pow(4).mean().item() == pytest.approx(3, abs=math.sqrt(96) * error)
        assert (sample.abs() > 3).double().mean().item() == pytest.approx(0.0027, abs=error / 10)
    neighbours = torch.corrcoef(torch.stack([values[0, :, :, :-1].flatten(), values[0, :, :, 1:].flatten()]))
    assert abs(neighbours[0, 1]) < 0.012
    halves = values[0].flatten()[:-1].view(2, -1)  # the two numbers that come of one pair
    assert abs(torch.corrcoef(halves)[0, 1]) < 0.017
    assert abs(torch.corrcoef(halves.square())[0, 1]) < 0.017


def test_uniform_numbers(like):
    values = field(like, [1, 2], kind="uniform", channels=1)
    assert values.shape == (2, 1, 255, 257)
    assert values.min() >= 0
    assert values.max() < 1
    counts = torch.histc(values, bins=16, min=0, max=1)
    expected = values.numel() / 16
    assert ((counts - expected).square() / expected).sum() < 37.7  # chi-squared, 15 degrees of freedom, 0.1%


def test_a_sample_depends_on_its_seed_alone(like):
    together = field(like, [5, 6])
    assert torch.equal(field(like[:1], [6])[0], together[1])
    assert not torch.equal(together[0], together[1])
    assert field(like[:1].double(), [6]).dtype == torch.float64


def test_every_bit_of_a_word_is_random():
    words = random_words((3, 4001), torch.Generator().manual_seed(0)).flatten()
    for bit in range(32):
        share = ((words >> bit) & 1).double().mean().item()
        assert share == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(words.numel()))


def test_words_of_neighbours_and_of_other_seeds_are_independent():
    first, other = (random_words((2**17,), torch.Generator().manual_seed(seed)) for seed in (0, 1))
    for a, b in ((first[:-1], first[1:]), (first[: 2**16], first[2**16 :]), (first, other)):
        cells = ((a >> 28) & 15) * 16 + ((b >> 28) & 15)
        counts = torch.bincount(cells, minlength=256).double()
        assert ((counts - counts.mean()).square() / counts.mean()).sum() < 330  # chi-squared, 255 degrees, 0.1%
        flipped = sum(((a ^ b) >> bit) & 1 for bit in range(32)).double()
        assert flipped.mean().item() == pytest.approx(16, abs=5 * math.sqrt(8 / len(a)))
        assert flipped.var().item() == pytest.approx(8, rel=0.05)

"""Some photographs of a quality ladder are turned grey, in training, and never where lost colour is the point."""

from __future__ import annotations

import numpy as np
import pytest

from restore.data.ratings.synthetic import SyntheticQualityDataset
from restore.data.sampling import Draw
from restore.errors import OptionsError
from restore.images import Image, write_image


@pytest.fixture
def folder(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    write_image(tmp_path / "a.png", Image(pixels))
    return tmp_path


def ladder(folder, **options) -> SyntheticQualityDataset:
    kinds = ["noise", "saturation_loss"]
    return SyntheticQualityDataset(name="ladder", dataroot_gt=str(folder), kinds=kinds, num_levels=2, **options)


def is_grey(sample) -> bool:
    return bool((np.ptp(sample["reference"].astype(int), axis=-1) == 0).all())


def test_the_share_is_drawn_anew_and_again_the_same(folder):
    dataset = ladder(folder, grey=0.5)
    rung = next(number for number, (kind, _) in enumerate(dataset.rungs) if kind == "noise")
    draws = [Draw(rung, 0, position, None, 0) for position in range(60)]
    grey = [is_grey(dataset[draw]) for draw in draws]
    assert 15 < sum(grey) < 45
    assert grey == [is_grey(dataset[draw]) for draw in draws]
    other_seed = [is_grey(dataset[draw._replace(seed=1)]) for draw in draws]
    assert grey != other_seed


def test_lost_colour_starts_from_colour_and_validation_is_as_it_is(folder):
    dataset = ladder(folder, grey=1.0)
    for number, (kind, _) in enumerate(dataset.rungs):
        assert not is_grey(dataset[number])
        assert is_grey(dataset[Draw(number, 0, 5, None, 0)]) == (kind == "noise")
    assert not is_grey(ladder(folder)[Draw(0, 0, 5, None, 0)])


def test_what_is_no_share_is_refused(folder):
    with pytest.raises(OptionsError, match=r"grey is 1.5: it is a share"):
        ladder(folder, grey=1.5)

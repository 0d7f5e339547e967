"""Blur kernels against published values and closed forms."""

import numpy as np
import pytest

from restore.degradations.operators import kernels


@pytest.fixture(scope="module")
def published(shared):
    return np.load(shared("fixtures/blur_kernels.npz"))


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("iso_gauss_21_s2", lambda: kernels.gaussian(21, 2, 2)),
        ("aniso_gauss_21_3_1_pi5", lambda: kernels.gaussian(21, 3, 1, np.pi / 5)),
        ("gen_gauss_21_3_1_pi5_b1.7", lambda: kernels.generalized_gaussian(21, 3, 1, np.pi / 5, 1.7)),
        ("plateau_21_3_1_pi5_b1.3", lambda: kernels.plateau(21, 3, 1, np.pi / 5, 1.3)),
        ("sinc_w2.0_21", lambda: kernels.sinc(21, 2.0)),
        ("sinc_w1.2_13_pad21", lambda: np.pad(kernels.sinc(13, 1.2), 4)),
    ],
)
def test_published_values(published, name, kernel):
    np.testing.assert_allclose(kernel(), published[name], atol=1e-8)


def test_a_gaussian_has_the_covariance_that_was_asked_for():
    kernel = kernels.gaussian(41, 3, 1.5, 0.4, shift_px=0.5)
    y, x = np.mgrid[-20:21, -20:21]
    mean = (kernel * x).sum(), (kernel * y).sum()
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    expected = turn @ np.diag([9, 2.25]) @ turn.T
    assert mean == pytest.approx((0.5, 0.5), abs=1e-6)
    assert (kernel * (x - 0.5) * (y - 0.5)).sum() == pytest.approx(expected[0, 1], abs=1e-4)
    assert (kernel * (x - 0.5) ** 2).sum() == pytest.approx(expected[0, 0], abs=1e-4)


@pytest.mark.parametrize("radius_px", [0.4, 1.5, 3.0, 6.7])
def test_a_disk_is_flat_inside_and_has_its_area(radius_px):
    kernel = kernels.disk(radius_px, oversampling=32)
    middle = len(kernel) // 2
    assert kernel.sum() == pytest.approx(1)
    if radius_px > 1:
        assert 1 / kernel[middle, middle] == pytest.approx(np.pi * radius_px**2, rel=0.02)
    np.testing.assert_allclose(kernel, kernel.T, atol=1e-12)


@pytest.mark.parametrize("anxiety", [0.0, 0.3, 1.0])
def test_a_motion_kernel_is_a_thin_path_that_fills_its_size(anxiety):
    rng = np.random.default_rng(1)
    kernel = kernels.motion(21, rng.random(256), rng.standard_normal((257, 2)), anxiety=anxiety)
    used = kernel > 0
    assert kernel.sum() == pytest.approx(1)
    assert used.sum() < 150
    assert max(used.any(axis=0).sum(), used.any(axis=1).sum()) >= 20


def test_even_sizes_are_refused():
    with pytest.raises(ValueError, match="odd"):
        kernels.gaussian(20, 2, 2)

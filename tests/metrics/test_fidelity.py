"""PSNR, SSIM, MS-SSIM and PSNR-B: golden values, closed forms, every accepted input, every refusal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from restore.errors import ImageError
from restore.metrics import ms_ssim, psnr, psnr_b, ssim


@pytest.mark.parametrize("luma", [False, True], ids=["rgb", "y"])
@pytest.mark.parametrize("border_px", [0, 4])
def test_golden_values(golden, golden_pairs, border_px, luma):
    for name, pair in golden_pairs.items():
        for function in (psnr, ssim):
            key = f"{function.__name__}_b{border_px}_{'y' if luma else 'rgb'}"
            assert function(*pair, border_px=border_px, luma=luma) == pytest.approx(golden[name][key], abs=1e-6)


def test_psnr_closed_form():
    reference = np.full((8, 9, 3), 100, np.uint8)
    assert psnr(reference + np.uint8(5), reference) == pytest.approx(20 * np.log10(255 / 5), abs=1e-12)


@pytest.mark.parametrize("function", [psnr, psnr_b])
def test_identical_images_are_infinitely_good(photo, function):
    flat = np.full_like(photo, 7) if function is psnr_b else photo
    assert function(flat, flat) == float("inf")


def test_identical_images_have_structure_one(photo):
    assert ssim(photo, photo) == pytest.approx(1, abs=1e-12)
    assert ms_ssim(photo, photo) == pytest.approx(1, abs=1e-12)


def test_ssim_agrees_with_scikit_image(photo, noisy):
    full = structural_similarity(
        noisy, photo, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )[1]
    assert ssim(noisy, photo) == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-9)


@pytest.mark.parametrize("function", [psnr, ssim, ms_ssim, psnr_b])
def test_every_kind_of_input_gives_one_score(photo, noisy, function):
    expected = function(noisy, photo)
    sixteen = [image.astype(np.uint16) * 257 for image in (noisy, photo)]
    floats = [image.astype(np.float32) / 255 for image in (noisy, photo)]
    tensors = [torch.from_numpy(image).permute(2, 0, 1)[None] for image in (noisy, photo)]
    assert isinstance(expected, float)
    assert function(*sixteen) == pytest.approx(expected, abs=1e-9)
    assert function(*floats) == pytest.approx(expected, abs=1e-5)
    assert function(*[image * 255 for image in floats], data_range=255) == pytest.approx(expected, abs=1e-5)
    assert function(*tensors).tolist() == pytest.approx([expected], abs=1e-9)
    assert function(*[tensor / 255 for tensor in tensors]).tolist() == pytest.approx([expected], abs=1e-5)


@pytest.mark.parametrize("function", [psnr, ssim, ms_ssim, psnr_b])
def test_a_batch_is_scored_image_by_image(photo, noisy, function):
    flipped = noisy[::-1].copy()
    batch = torch.from_numpy(np.stack([noisy, flipped])).permute(0, 3, 1, 2)
    reference = torch.from_numpy(np.stack([photo, photo])).permute(0, 3, 1, 2)
    expected = [function(noisy, photo), function(flipped, photo)]
    assert function(batch, reference).tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("shape", [(64, 70), (64, 70, 1)])
def test_grey_images(photo, noisy, shape):
    restored, reference = (image[:64, :70, 0].reshape(shape) for image in (noisy, photo))
    error = (restored.astype(float) - reference) ** 2
    assert psnr(restored, reference) == pytest.approx(10 * np.log10(255**2 / error.mean()), abs=1e-9)


def test_luma_of_grey_is_that_of_equal_channels(photo, noisy):
    grey = [image[..., 0] for image in (noisy, photo)]
    colour = [np.repeat(image[..., None], 3, axis=2) for image in grey]
    assert psnr(*grey, luma=True) == pytest.approx(psnr(*colour, luma=True), abs=1e-9)


def test_bits_round_float_images(photo, noisy):
    restored, reference = noisy / 255 + 0.001, photo / 255
    assert psnr(restored, reference, bits=8) == pytest.approx(psnr(noisy, photo), abs=1e-9)
    assert psnr(restored, reference) != pytest.approx(psnr(noisy, photo), abs=1e-6)


def test_rounded_luma_is_that_of_eight_bits(photo, noisy):
    weights = np.array([65.481, 128.553, 24.966]) / 255
    y = [np.round(image @ weights + 16) for image in (noisy, photo)]
    expected = 10 * np.log10(255**2 / ((y[0] - y[1]) ** 2).mean())
    assert psnr(noisy, photo, luma=True, y_rounding="matlab") == pytest.approx(expected, abs=1e-9)


def test_block_borders_lower_psnr_b_only_where_the_blocks_are():
    reference = np.full((64, 64), 128, np.uint8)
    blocks = reference + (np.indices((64, 64)) // 8).sum(0).astype(np.uint8) % 2 * 8
    assert psnr_b(blocks, reference) < psnr(blocks, reference) - 1
    shifted = np.roll(blocks, 4, axis=(0, 1))
    assert psnr_b(shifted, reference) == pytest.approx(psnr(shifted, reference), abs=1e-9)


def test_ssim_has_a_gradient(photo, noisy):
    restored, reference = (torch.from_numpy(i).permute(2, 0, 1)[None].double() / 255 for i in (noisy, photo))
    restored = restored[..., :24, :24].clone().requires_grad_()
    ssim(restored, reference[..., :24, :24]).sum().backward()
    assert restored.grad.abs().max() > 0
    small = torch.rand(1, 1, 12, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ssim(x, reference[:, :1, :12, :12]), [small])


@pytest.mark.parametrize(
    ("restored", "reference", "message"),
    [
        (np.zeros((9, 8, 3)), np.zeros((9, 7, 3)), "restored 9x8, reference 9x7"),
        (np.zeros((9, 8)), np.zeros((9, 8, 3)), "grey against RGB.*Both must be grey or both RGB"),
        (np.zeros((9, 8, 4)), np.zeros((9, 8, 4)), "alpha"),
        (np.zeros((9, 8), np.int64), np.zeros((9, 8), np.int64), "int64"),
        (np.zeros((0, 8)), np.zeros((0, 8)), "the image is empty"),
        (torch.zeros(3, 8, 8), torch.zeros(3, 8, 8), r"\(B, C, H, W\)"),
        (torch.zeros(2, 3, 8, 8), torch.zeros(1, 3, 8, 8), "differ in length"),
    ],
)
def test_what_cannot_be_compared_is_refused(restored, reference, message):
    with pytest.raises(ImageError, match=message):
        psnr(restored, reference)


@pytest.mark.parametrize(
    ("function", "size", "message"),
    [(ssim, 10, "11x11"), (ms_ssim, 175, "176x176"), (psnr_b, 8, "9x9")],
)
def test_images_smaller_than_the_window_are_refused(function, size, message):
    image = np.zeros((size, 200), np.uint8)
    with pytest.raises(ImageError, match=f"{message}.*given: {size}x200"):
        function(image, image)


def test_a_border_that_leaves_nothing_is_refused():
    image = np.zeros((8, 20), np.uint8)
    with pytest.raises(ImageError, match="nothing is left of 8x20"):
        psnr(image, image, border_px=4)

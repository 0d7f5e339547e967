"""Every operator: sizes, channels, batches, both engines; and what each is to do to pixels."""

import importlib.util
import io
import math

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from restore.degradations.operators.base import tensor_code
from restore.degradations.operators.blur import (
    DefocusBlur,
    GaussianBlur,
    Ringing,
    SincBlur,
    Usm,
    filter_2d,
    reflect_pad,
)
from restore.degradations.operators.camera import BayerMosaic, CameraNoise
from restore.degradations.operators.compression import ChromaSubsampling, Jpeg, Jpeg2000, Quantise, VideoFrame, WebP
from restore.degradations.operators.noise import (
    CorrelatedNoise,
    EvaluationNoise,
    GaussianNoise,
    PoissonNoise,
    SaltPepperNoise,
    SpeckleNoise,
)
from restore.degradations.operators.resize import Resize
from restore.degradations.operators.tone import Contrast, Exposure, Saturation
from restore.degradations.operators.weather import Haze, InpaintingMask, LowLight, RainStreaks
from restore.errors import ImageError
from restore.registry import DEGRADATIONS

EXAMPLES = {
    "bayer_mosaic": {},
    "camera_noise": {"shot": 0.01, "seed": 3},
    "chroma_subsampling": {},
    "contrast": {"factor": 0.4},
    "correlated_noise": {"sigma": 20, "seed": 3},
    "decimate": {"factor": 2, "offset_px": 1},
    "defocus_blur": {"radius_px": 2.5},
    "evaluation_noise": {"sigma": 25},
    "dust": {"seed": 3},
    "exposure": {"stops": 1.5},
    "gaussian_blur": {"size": 13, "sigma": 2.0, "sigma_y": 1.0, "angle": 0.5},
    "gaussian_noise": {"sigma": 25, "seed": 3},
    "generalized_gaussian_blur": {"size": 9, "sigma": 2.0, "beta": 0.7},
    "haze": {"seed": 3},
    "hot_pixels": {"seed": 3},
    "inpainting_mask": {"seed": 3},
    "jpeg": {"quality": 50},
    "jpeg2000": {"ratio": 30},
    "jpeg_blocks": {"seed": 3, "size_px": 20},
    "low_light": {},
    "motion_blur": {"size": 15, "seed": 3},
    "plateau_blur": {"size": 21, "sigma": 2.0, "beta": 1.3},
    "poisson_noise": {"seed": 3},
    "quantise": {},
    "rain_streaks": {"seed": 3, "density": 0.01},
    "resize": {"factor": 0.7, "interpolation": "area"},
    "ringing": {"cutoff": 0.5},
    "salt_pepper_noise": {"amount": 0.1, "seed": 3},
    "saturation": {"factor": 0.3},
    "scratches": {"seed": 3},
    "sinc_blur": {"size": 15, "cutoff": 1.5},
    "speckle_noise": {"sigma": 25, "seed": 3},
    "stamped_text": {"seed": 3},
    "usm": {},
    "video_frame": {"codec": "mpeg4"},
    "webp": {"quality": 40},
}
COLOUR_ONLY = ("bayer_mosaic", "camera_noise")
LIBJPEG = ("jpeg", "jpeg_blocks", "jpeg2000", "webp", "video_frame")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def photo() -> torch.Tensor:
    """(1, 3, 96, 112): smooth colours and sharp edges."""
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.random((6, 7, 3), np.float32), (112, 96), interpolation=cv2.INTER_CUBIC)
    cv2.circle(image, (50, 40), 25, (0.9, 0.2, 0.1), 2, cv2.LINE_AA)
    return torch.from_numpy(image.clip(0, 1)).permute(2, 0, 1)[None].contiguous()


def build(name):
    if name == "video_frame" and importlib.util.find_spec("av") is None:
        pytest.skip("PyAV is not installed")
    return DEGRADATIONS.build({"type": name, **EXAMPLES[name]})


def test_there_is_an_example_for_every_operator():
    assert sorted(EXAMPLES) == sorted(DEGRADATIONS.names())


@pytest.mark.parametrize("name", EXAMPLES)
def test_sizes_channels_and_batches(name):
    operator = build(name)
    for height, width, channels in ((24, 33, 3), (17, 16, 1), (40, 5, 3)):
        if channels == 1 and name in COLOUR_ONLY:
            continue
        x_BCHW = torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(height))
        before = x_BCHW.clone()
        together = operator(x_BCHW)
        single = operator(x_BCHW[1:])
        assert together.shape[:2] == (2, channels)
        assert together.isfinite().all()
        assert torch.equal(x_BCHW, before), "the input was changed"
        torch.testing.assert_close(together[1:], single, atol=1e-6, rtol=0)
        assert torch.equal(operator(x_BCHW), together), "a second run gave other pixels"


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - set(LIBJPEG)))
def test_both_engines_agree(name, photo):
    operator = build(name)
    on_cpu = operator(photo)
    with tensor_code():
        as_tensors = operator(photo)
    torch.testing.assert_close(on_cpu, as_tensors, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"video_frame"}))
def test_any_memory_layout(name, photo):
    operator = build(name)
    expected = operator(photo[..., 8:80, 16:96].contiguous())
    for layout in (photo, photo.contiguous(memory_format=torch.channels_last)):
        assert torch.equal(operator(layout[..., 8:80, 16:96]), expected)


def test_an_operator_that_only_has_tensor_code_is_that_on_the_cpu_too(photo):
    class Inverted(GaussianNoise):
        @classmethod
        def apply(cls, x_BCHW, samples):
            return 1 - x_BCHW

    image = photo[0].permute(1, 2, 0).contiguous().numpy()
    np.testing.assert_array_equal(Inverted(sigma=25).on_pixels(image), 1 - image)


@pytest.mark.parametrize("name", EXAMPLES)
def test_parameters_survive_being_written_down(name):
    operator = build(name)
    assert DEGRADATIONS.build(operator.to_dict()) == operator


def test_samples_of_a_batch_have_their_own_parameters(photo):
    samples = [GaussianBlur(size=21, sigma=1.0), GaussianBlur(size=7, sigma=3.0), SincBlur(size=9, cutoff=1.0)]
    with tensor_code():
        together = GaussianBlur.apply(photo.expand(3, -1, -1, -1), samples)
    for image, sample in zip(together, samples, strict=True):
        torch.testing.assert_close(image, sample(photo)[0], atol=1e-5, rtol=0)


def test_a_blur_is_a_mirrored_correlation(photo):
    kernel = GaussianBlur(size=5, sigma=1.0, sigma_y=2.0, angle=0.3, shift_px=0.4).kernel()
    expected = cv2.filter2D(photo[0, 0].double().numpy(), cv2.CV_64F, kernel, borderType=cv2.BORDER_REFLECT_101)
    operator = GaussianBlur(size=5, sigma=1.0, sigma_y=2.0, angle=0.3, shift_px=0.4)
    np.testing.assert_allclose(operator(photo)[0, 0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("sigma_y", [None, 0.7])
def test_cutting_a_kernel_down_changes_nothing(photo, sigma, sigma_y):
    operator = GaussianBlur(size=21, sigma=sigma, sigma_y=sigma_y, angle=0.4)
    expected = cv2.filter2D(photo[0, 0].double().numpy(), -1, operator.kernel(), borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(operator(photo)[0, 0].numpy(), expected, atol=3e-6)


@pytest.mark.parametrize("size", [(270, 301), (16, 530), (7, 9)])
def test_usm_of_any_size(size):
    x_BCHW = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with tensor_code():
        expected = Usm()(x_BCHW)
    torch.testing.assert_close(Usm()(x_BCHW), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("size_px", [5, 21])
def test_kernels_in_single_precision(photo, size_px):
    kernel = GaussianBlur(size=size_px, sigma=3.0, sigma_y=1.0, angle=0.3).kernel()
    large = photo.repeat(1, 1, 2, 2)
    torch.testing.assert_close(filter_2d(large, [np.float32(kernel)]), filter_2d(large, [kernel]), atol=1e-5, rtol=0)


def test_usm_is_opencvs(photo):
    image = photo[0].permute(1, 2, 0).numpy()
    residual = image - cv2.GaussianBlur(image, (51, 51), 0)
    soft_mask = cv2.GaussianBlur(np.float32(np.abs(residual) * 255 > 10), (51, 51), 0)
    expected = soft_mask * np.clip(image + 0.5 * residual, 0, 1) + (1 - soft_mask) * image
    np.testing.assert_allclose(Usm()(photo)[0].permute(1, 2, 0).numpy(), expected, atol=2e-4)
    x_BCHW = photo.clone().requires_grad_()
    Usm()(x_BCHW).sum().backward()
    assert x_BCHW.grad.isfinite().all()


def test_mirroring_goes_on_where_the_kernel_is_wider_than_the_image():
    row = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 3).expand(1, 1, 3, 3)
    assert reflect_pad(row, 5)[0, 0, 0].tolist() == [2, 1, 2, 3, 2, 1, 2, 3, 2, 1, 2, 3, 2]
    tiny = torch.rand(1, 3, 4, 5)
    with tensor_code():
        expected = DefocusBlur(radius_px=6)(tiny)
    torch.testing.assert_close(DefocusBlur(radius_px=6)(tiny), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("interpolation", ["area", "bilinear", "bicubic"])
@pytest.mark.parametrize("factor", [0.15, 0.5, 0.83, 1.3])
def test_resizing_is_torchs(photo, interpolation, factor):
    operator = Resize(factor=factor, interpolation=interpolation)
    size = (int(96 * factor + 1e-6), int(112 * factor + 1e-6))
    expected = torch.nn.functional.interpolate(photo, size=size, mode=interpolation)
    torch.testing.assert_close(operator(photo), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("factor", [0.4, 1.3])
def test_other_resizing_keeps_to_the_range(photo, factor):
    size = (int(96 * factor + 1e-6), int(112 * factor + 1e-6))
    plain = torch.nn.functional.interpolate
    for mode in ("bilinear", "bicubic"):
        expected = plain(photo, size=size, mode=mode, antialias=True).clamp(0, 1)
        torch.testing.assert_close(Resize(factor=factor, interpolation=f"antialiased_{mode}")(photo), expected)
    exact = Resize(factor=factor, interpolation="nearest_exact")(photo)
    torch.testing.assert_close(exact, plain(photo, size=size, mode="nearest-exact"))
    sinc = Resize(factor=factor, interpolation="lanczos")
    flat = torch.full((1, 3, 64, 64), 0.25)
    torch.testing.assert_close(sinc(flat), torch.full_like(sinc(flat), 0.25))
    checks = (torch.arange(64) % 2).float().expand(1, 1, 64, 64)  # of half the rate of pixels: gone when shrunk
    inside = sinc(checks)[..., 8:-8, 8:-8]
    assert (inside - 0.5).abs().max() < (0.02 if factor < 1 else 1)
    assert (inside - 0.5).abs().max() > (0 if factor < 1 else 0.3)


def test_resizing_to_a_part_of_the_original():
    operator = Resize(of_gt=1 / 3, gt_px=(255, 99))
    assert operator(torch.rand(1, 3, 40, 41)).shape[-2:] == (85, 33)
    with pytest.raises(ValueError, match="one of"):
        Resize()
    with pytest.raises(ValueError, match="one of"):
        Resize(factor=0.5, of_gt=0.5)


class TestNoise:
    grey = torch.full((1, 3, 128, 128), 0.5)

    @pytest.mark.parametrize("sigma", [2.0, 25.0])
    def test_gaussian_power(self, sigma):
        noise = (GaussianNoise(sigma=sigma, clip=False, seed=5)(self.grey) - self.grey) * 255
        assert noise.std().item() == pytest.approx(sigma, rel=0.02)
        assert abs(noise.mean().item()) < 4 * sigma / math.sqrt(noise.numel())
        channels = torch.corrcoef(noise[0].flatten(1))
        assert channels[0, 1].abs() < 0.05

    @pytest.mark.parametrize("operator", [GaussianNoise(sigma=20, grey=True), SpeckleNoise(sigma=20, grey=True)])
    def test_grey_noise_is_the_same_in_all_channels(self, operator):
        noise = operator(self.grey) - self.grey
        assert torch.equal(noise[:, 0], noise[:, 1])
        assert noise.std() > 0

    def test_speckle_grows_with_the_light(self):
        dark, bright = (SpeckleNoise(sigma=20)(self.grey * k) - self.grey * k for k in (0.4, 1.2))
        assert (bright.std() / dark.std()).item() == pytest.approx(3, rel=0.03)

    @pytest.mark.parametrize("level", [0, 1, 30, 128, 255])
    def test_poisson_counts(self, level):
        ramp = torch.arange(256).repeat(4).view(1, 1, 32, 32) / 255  # all 256 levels: peak 256
        flat = torch.full((1, 1, 512, 512), level / 255)
        x_BCHW = torch.cat([flat, torch.nn.functional.pad(ramp, [0, 480], value=level / 255)], dim=2)
        counts = PoissonNoise(clip=False, seed=7)(x_BCHW)[:, :, :512] * 256
        rate = 256 * level / 255
        assert torch.allclose(counts, counts.round(), atol=1e-3)
        assert counts.mean().item() == pytest.approx(rate, abs=5 * math.sqrt(max(rate, 1e-9) / 2**18))
        assert counts.var().item() == pytest.approx(rate, rel=0.02, abs=1e-6)
        if level in (1, 30):
            share = (counts.round() == round(rate)).float().mean().item()
            expected = math.exp(-rate + round(rate) * math.log(rate) - math.lgamma(round(rate) + 1))
            assert share == pytest.approx(expected, abs=5 * math.sqrt(expected / 2**18))

    def test_poisson_with_a_peak(self):
        x_BCHW = torch.full((1, 1, 256, 256), 0.4)
        noisy = PoissonNoise(peak=1000.0, clip=False, seed=7)(x_BCHW)
        assert noisy.var().item() == pytest.approx(0.4 / 1000, rel=0.03)
        half = PoissonNoise(peak=1000.0, scale=0.5, clip=False, seed=7)(x_BCHW)
        torch.testing.assert_close(half - x_BCHW, (noisy - x_BCHW) / 2)

    def test_salt_and_pepper(self):
        noisy = SaltPepperNoise(amount=0.2, salt=0.25, seed=1)(self.grey)
        assert (noisy == 1).float().mean().item() == pytest.approx(0.05, abs=0.01)
        assert (noisy == 0).float().mean().item() == pytest.approx(0.15, abs=0.015)

    def test_correlated_noise_has_its_covariance(self):
        for seed in range(4):
            noise = (CorrelatedNoise(sigma=25, clip=False, seed=seed)(self.grey) - self.grey)[0] * 255 / 25
            covariance = torch.cov(noise.flatten(1))
            assert covariance.diagonal().max() < 1.05
            if seed == 0:
                assert (torch.corrcoef(noise.flatten(1)) - torch.eye(3)).abs().max() > 0.05

    @pytest.mark.parametrize("order", ["rgb", "bgr"])
    def test_evaluation_noise_is_numpys(self, order, photo):
        np.random.seed(0)
        noise = np.random.normal(0, 25 / 255, (96, 112, 3))
        image = photo[0].permute(1, 2, 0).numpy()
        expected = (image[..., ::-1] + noise)[..., ::-1] if order == "bgr" else image + noise
        for batch in (photo, photo.expand(2, -1, -1, -1)):
            noisy = EvaluationNoise(sigma=25, order=order)(batch)
            assert np.array_equal(noisy[-1].permute(1, 2, 0).numpy(), expected.astype(np.float32))


class TestCompression:
    @pytest.mark.parametrize("quality", [10, 50, 90])
    def test_jpeg_is_pillows(self, photo, quality):
        pixels = (photo[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=2)
        expected = np.asarray(Image.open(file))
        given = (Jpeg(quality=quality)(photo)[0].permute(1, 2, 0).numpy() * 255).round()
        assert np.abs(given - expected).max() <= 1

    @pytest.mark.parametrize("subsampling", ["444", "422", "420"])
    @pytest.mark.parametrize("quality", [10, 50, 95])
    @pytest.mark.parametrize("size", [(96, 112), (83, 61)])
    def test_tensor_jpeg_agrees_with_libjpeg(self, photo, subsampling, quality, size):
        x_BCHW = photo[..., : size[0], : size[1]]
        real, ours = (
            Jpeg(quality=quality, subsampling=subsampling, codec=codec)(x_BCHW) * 255 for codec in ("libjpeg", "tensor")
        )
        difference = (real - ours).abs()
        assert difference.mean() < 0.2  # of 255; one coefficient on the edge of a step counts much in a small image
        assert (difference > 1.5).float().mean() < 0.06

    def test_tensor_jpeg_of_grey(self, photo):
        real, ours = (Jpeg(quality=40, codec=codec)(photo[:, :1]) * 255 for codec in ("libjpeg", "tensor"))
        assert (real - ours).abs().mean() < 0.02

    def test_each_sample_has_its_quality(self, photo):
        samples = [Jpeg(quality=q, codec="tensor") for q in (10, 90)]
        errors = (Jpeg.apply(photo.expand(2, -1, -1, -1), samples) - photo).square().mean(dim=(1, 2, 3))
        assert errors[0] > 3 * errors[1]

    def test_jpeg_has_a_gradient_that_leads_to_the_target(self, photo):
        x_BCHW = photo.clone().requires_grad_()
        target = photo.roll(3, dims=-1)
        loss = (Jpeg(quality=60)(x_BCHW) - target).square().mean()
        loss.backward()
        with torch.no_grad():
            stepped = x_BCHW - 2 * x_BCHW.grad * x_BCHW.numel() * 0.05
            assert (Jpeg(quality=60)(stepped) - target).square().mean() < loss

    def test_lower_quality_is_worse(self, photo):
        for operator in (Jpeg, WebP):
            errors = [(operator(quality=quality)(photo) - photo).square().mean() for quality in (10, 50, 95)]
            assert errors == sorted(errors, reverse=True)

    def test_jpeg_2000_keeps_its_ratio_and_gets_worse_with_it(self, photo, monkeypatch):
        sizes, save = [], Image.Image.save

        def measured(image, file, *arguments, **settings):
            save(image, file, *arguments, **settings)
            sizes.append(file.tell())

        monkeypatch.setattr(Image.Image, "save", measured)
        errors = [(Jpeg2000(ratio=ratio)(photo) - photo).square().mean() for ratio in (5, 20, 80)]
        assert errors == sorted(errors)
        headers = 200  # bytes at most, which the ratio does not count
        for size, ratio in zip(sizes, (5, 20, 80), strict=True):
            assert 0.8 * photo.numel() / ratio < size <= photo.numel() / ratio + headers
        one_pixel = torch.full((1, 3, 1, 1), 0.5)
        assert (Jpeg2000(ratio=1)(one_pixel) - one_pixel).abs().max() < 0.02

    def test_chroma_subsampling_leaves_grey_alone(self, photo):
        grey = photo[:, :1].expand(-1, 3, -1, -1)
        torch.testing.assert_close(ChromaSubsampling()(grey), grey, atol=1e-5, rtol=0)
        assert (ChromaSubsampling()(photo) - photo).abs().max() > 0.02

    def test_quantise(self):
        values = Quantise(levels=3)(torch.tensor([-1.0, 0.2, 0.3, 0.8, 2.0]).view(1, 1, 1, 5))
        assert values.flatten().tolist() == [0, 0, 0.5, 1, 1]

    @pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9"])
    def test_video_frames(self, photo, codec):
        pytest.importorskip("av")
        fine, coarse = (VideoFrame(codec=codec, crf=crf, num_frames=2)(photo[..., :63, :65]) for crf in (5, 45))
        errors = [(frame - photo[..., :63, :65]).square().mean() for frame in (fine, coarse)]
        assert errors[0] < errors[1]


class TestTone:
    def test_contrast_keeps_the_mean_and_scales_the_rest(self, photo):
        inside = 0.3 + 0.4 * photo
        less = Contrast(factor=0.25)(inside)
        weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        means = [(image * weights).sum(1).mean() for image in (inside, less)]
        torch.testing.assert_close(means[1], means[0])
        torch.testing.assert_close(less - means[0], 0.25 * (inside - means[0]), atol=1e-6, rtol=0)
        assert Contrast(factor=0)(photo).std() < 1e-6

    def test_a_stop_doubles_the_light_and_white_stays_white(self, photo):
        dark = photo * 0.3
        torch.testing.assert_close(Exposure(stops=1)(dark) ** 2.2, 2 * dark**2.2, atol=1e-6, rtol=1e-4)
        assert Exposure(stops=3)(photo).max() == 1

    def test_saturation_of_nothing_is_grey_of_the_same_brightness(self, photo):
        grey = Saturation(factor=0)(photo)
        assert torch.equal(grey[:, 0], grey[:, 2])
        torch.testing.assert_close(grey[:, 0], 0.299 * photo[:, 0] + 0.587 * photo[:, 1] + 0.114 * photo[:, 2])
        half = Saturation(factor=0.5)(photo)
        torch.testing.assert_close(half, (photo + grey) / 2)

    @pytest.mark.parametrize("operator", [Contrast(factor=1), Exposure(stops=0), Saturation(factor=1)])
    def test_neutral_settings_change_nothing(self, photo, operator):
        torch.testing.assert_close(operator(photo), photo, atol=1e-6, rtol=0)


class TestCameraAndLight:
    def test_without_noise_the_camera_gives_the_image_back(self, photo):
        x_BCHW = photo * 0.85  # highlights are clipped
        same = CameraNoise(shot=1e-12, bayer=False, seed=2)(x_BCHW)
        torch.testing.assert_close(same, x_BCHW, atol=2e-3, rtol=0)

    def test_shot_noise_sets_the_power(self):
        x_BCHW = torch.full((1, 3, 64, 64), 0.4)
        weak, strong = ((CameraNoise(shot=shot, bayer=False)(x_BCHW) - x_BCHW).std() for shot in (1e-4, 1e-2))
        assert 7 < strong / weak < 20

    def test_read_noise_follows_the_published_line(self):
        assert CameraNoise(shot=0.01, read_offset=0.1).read == pytest.approx(math.exp(2.18 * math.log(0.01) + 1.3))

    @pytest.mark.parametrize("pattern", ["rggb", "bggr", "grbg", "gbrg"])
    def test_mosaic(self, photo, pattern):
        sparse = BayerMosaic(pattern=pattern, interpolate=False)(photo)
        full = BayerMosaic(pattern=pattern)(photo)
        assert ((sparse > 0).sum(dim=1) <= 1).all()
        assert torch.equal(sparse[0, "rgb".index(pattern[1]), 0, 1], photo[0, "rgb".index(pattern[1]), 0, 1])
        assert torch.equal(full[sparse > 0], photo[sparse > 0])
        flat = torch.tensor([0.2, 0.5, 0.8]).view(1, 3, 1, 1).expand(1, 3, 10, 12)
        torch.testing.assert_close(BayerMosaic(pattern=pattern)(flat), flat)

    def test_colour_operators_refuse_grey(self):
        with pytest.raises(ImageError, match="RGB"):
            BayerMosaic()(torch.rand(1, 1, 8, 8))

    def test_rain_only_adds_light(self, photo):
        rainy = RainStreaks(density=0.01, seed=1)(photo)
        assert (rainy >= photo - 1e-6).all()
        assert (rainy > photo + 0.1).float().mean() > 0.02

    def test_haze_pulls_towards_the_airlight(self, photo):
        assert torch.equal(Haze(thickness=0.0)(photo), photo)
        hazy = Haze(thickness=5.0, airlight=0.9, slope=1.0)(photo)
        assert (hazy[..., 0, :] - 0.9).abs().max() < 0.02

    def test_low_light(self, photo):
        dark = LowLight(exposure=0.1)(photo)
        torch.testing.assert_close(dark**2.2, photo**2.2 * 0.1, atol=1e-6, rtol=1e-4)

    @pytest.mark.parametrize("shape", ["pixels", "box", "strokes"])
    def test_masks_cover_their_amount(self, shape):
        mask = InpaintingMask(shape=shape, amount=0.3, seed=4).mask(120, 100)
        assert 0.27 < mask.float().mean() < 0.45

    def test_usm_leaves_flat_areas_and_lifts_edges(self):
        step = torch.zeros(1, 1, 64, 128)
        step[..., 64:] = 0.5
        sharp = Usm()(0.25 + step)
        assert sharp.max() > 0.76
        assert sharp.min() < 0.24
        assert torch.equal(Usm()(torch.full((1, 1, 64, 64), 0.3)), torch.full((1, 1, 64, 64), 0.3))

    def test_ringing_overshoots(self):
        step = torch.zeros(1, 1, 64, 64)
        step[..., 32:] = 0.5
        ringed = Ringing(cutoff=0.3)(0.25 + step)
        assert ringed.max() > 0.77
        assert Ringing(cutoff=math.sqrt(2))(0.25 + step).sub(0.25 + step).abs().max() < 1e-5

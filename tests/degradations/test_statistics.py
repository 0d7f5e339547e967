"""What every pipeline draws, held against the distributions that it states.

Seeds are fixed. A sample is refused where the stated distribution would give one like it less than once in ten thousand
times: Kolmogorov and Smirnov's test for numbers, chi-squared for frequencies.
"""

from __future__ import annotations

import collections
import functools
import math

import pytest
import torch
from scipy import stats

from restore.degradations import load_pipeline, sample_seed
from restore.degradations.recipe.draw import Draw, parse_distribution

COUNT = 3000
UNLIKELY = 1e-4
BLURS = ("gaussian_blur", "generalized_gaussian_blur", "plateau_blur", "sinc_blur")
INTERPOLATIONS = {"area": 1 / 3, "bilinear": 1 / 3, "bicubic": 1 / 3}
ODD_SIZES = dict.fromkeys(range(7, 22, 2), 1 / 8)
QUALITIES = dict.fromkeys(range(30, 96), 1 / 66)


@functools.cache
def drawn(name, count=COUNT, **variables):
    """The steps of many samples."""
    pipeline = load_pipeline(name, **variables)
    return [pipeline.draw(sample_seed(1, index), (256, 256))["steps"] for index in range(count)]


def of_type(samples, *types):
    return [step for steps in samples for step in steps if step["type"] in types]


def values(steps, key):
    return [step[key] for step in steps]


def likely_numbers(numbers, distribution):
    low, high = distribution.support()
    inside = low - 1e-9 <= min(numbers) and max(numbers) <= high + 1e-9
    return inside and stats.kstest(numbers, distribution.cdf).pvalue > UNLIKELY


def assert_uniform(numbers, low, high):
    assert len(numbers) > 50
    assert likely_numbers(numbers, stats.uniform(low, high - low))


def assert_log_uniform(numbers, low, high):
    assert_uniform([math.log(number) for number in numbers], math.log(low), math.log(high))


def likely_frequencies(found, expected):
    counts = collections.Counter(found)
    if set(counts) - set(expected):
        return False
    total = len(found) / sum(expected.values())
    return stats.chisquare([counts[k] for k in expected], [p * total for p in expected.values()]).pvalue > UNLIKELY


def assert_frequencies(found, expected):
    assert sum(expected.values()) == pytest.approx(1)
    assert likely_frequencies(found, expected), collections.Counter(found)


def assert_chance(found, probability):
    assert_frequencies(list(map(bool, found)), {True: probability, False: 1 - probability})


def test_the_checks_refuse_what_is_a_little_wrong():
    sigmas = [step["sigma"] for step in of_type(drawn("realesrgan"), "gaussian_blur")]
    first = [steps[1]["sigma"] for steps in drawn("realesrgan") if "sigma" in steps[1]]
    assert likely_numbers(first, stats.uniform(0.2, 2.8))
    assert not likely_numbers(first, stats.uniform(0.2, 2.7))  # a value lies outside
    assert not likely_numbers(first, stats.uniform(0.2, 3.1))
    assert not likely_numbers(sigmas, stats.uniform(0.2, 2.8))  # of both rounds
    kinds = [steps[3]["type"] for steps in drawn("realesrgan")]
    assert likely_frequencies(kinds, {"gaussian_noise": 0.5, "poisson_noise": 0.5})
    assert not likely_frequencies(kinds, {"gaussian_noise": 0.55, "poisson_noise": 0.45})
    assert not likely_frequencies(kinds, {"gaussian_noise": 1.0})


class TestRealESRGAN:
    """The order is sharpening, blur, resizing, noise, JPEG; blur or not, resizing, noise; and the ending."""

    samples = property(lambda self: drawn("realesrgan"))
    second_round = property(lambda self: [steps[5:] for steps in self.samples])

    def after_the_second_blur(self):
        return [steps[1:] if steps[0]["type"] in BLURS else steps for steps in self.second_round]

    @staticmethod
    def check_blurs(blurs, high):
        assert_frequencies(
            [(step["type"], step.get("sigma_y") is not None) for step in blurs],
            {
                ("sinc_blur", False): 0.1,
                ("gaussian_blur", False): 0.9 * 0.45,
                ("gaussian_blur", True): 0.9 * 0.25,
                ("generalized_gaussian_blur", False): 0.9 * 0.12,
                ("generalized_gaussian_blur", True): 0.9 * 0.03,
                ("plateau_blur", False): 0.9 * 0.12,
                ("plateau_blur", True): 0.9 * 0.03,
            },
        )
        assert_frequencies(values(blurs, "size"), ODD_SIZES)
        bells = [step for step in blurs if "sigma" in step]
        elliptic = [step for step in bells if step["sigma_y"]]
        assert_uniform(values(bells, "sigma"), 0.2, high)
        assert_uniform(values(elliptic, "sigma_y"), 0.2, high)
        assert_uniform(values(elliptic, "angle"), -math.pi, math.pi)
        for kind, low, end in (("generalized_gaussian_blur", 0.5, 4), ("plateau_blur", 1, 2)):
            betas = [step["beta"] for step in bells if step["type"] == kind]
            assert_chance([beta > 1 for beta in betas], 0.5)
            assert_uniform([beta for beta in betas if beta > 1], 1, end)
            if low < 1:
                assert_uniform([beta for beta in betas if beta <= 1], low, 1)
        sincs = [step for step in blurs if step["type"] == "sinc_blur"]
        assert_uniform([step["cutoff"] for step in sincs if step["size"] < 13], math.pi / 3, math.pi)
        assert_uniform([step["cutoff"] for step in sincs if step["size"] >= 13], math.pi / 5, math.pi)

    def test_blurs_of_both_rounds(self):
        assert all(steps[0]["type"] == "usm" for steps in self.samples)
        self.check_blurs([steps[1] for steps in self.samples], 3)
        second = [steps[0] for steps in self.second_round]
        assert_chance([step["type"] in BLURS for step in second], 0.8)
        self.check_blurs([step for step in second if step["type"] in BLURS], 1.5)

    def test_resizing(self):
        factors = [steps[2]["factor"] for steps in self.samples]
        assert_frequencies([(f > 1) - (f < 1) for f in factors], {1: 0.2, -1: 0.7, 0: 0.1})
        assert_uniform([factor for factor in factors if factor > 1], 1, 1.5)
        assert_uniform([factor for factor in factors if factor < 1], 0.15, 1)
        parts = [4 * steps[0]["of_gt"] for steps in self.after_the_second_blur()]
        assert_frequencies([(p > 1) - (p < 1) for p in parts], {1: 0.3, -1: 0.4, 0: 0.3})
        assert_uniform([part for part in parts if part > 1], 1, 1.2)
        assert_uniform([part for part in parts if part < 1], 0.3, 1)
        assert_frequencies(values(of_type(self.samples, "resize"), "interpolation"), INTERPOLATIONS)

    def test_noise(self):
        first, second = [steps[3] for steps in self.samples], [steps[1] for steps in self.after_the_second_blur()]
        for noises, sigma, scale in ((first, 30, 3), (second, 25, 2.5)):
            assert_chance([step["type"] == "gaussian_noise" for step in noises], 0.5)
            assert_chance(values(noises, "grey"), 0.4)
            assert_uniform([step["sigma"] for step in noises if step["type"] == "gaussian_noise"], 1, sigma)
            assert_uniform([step["scale"] for step in noises if step["type"] == "poisson_noise"], 0.05, scale)
            assert len(set(values(noises, "seed"))) == COUNT

    def test_compression_and_the_ending(self):
        jpegs = of_type(self.samples, "jpeg")
        assert len(jpegs) == 2 * COUNT
        assert_frequencies(values(jpegs, "quality"), QUALITIES)
        endings = [[step["type"] for step in steps[2:]] for steps in self.after_the_second_blur()]
        with_sinc = [ending for ending in endings if len(ending) == 3]
        assert_chance([len(ending) == 3 for ending in endings], 0.8)
        assert_frequencies(
            list(map(tuple, with_sinc)), {("resize", "sinc_blur", "jpeg"): 0.5, ("jpeg", "resize", "sinc_blur"): 0.5}
        )
        assert_chance([ending == ["jpeg", "resize"] for ending in endings if len(ending) == 2], 0.5)
        sincs = [step for steps in self.after_the_second_blur() for step in steps[2:] if step["type"] == "sinc_blur"]
        assert_uniform(values(sincs, "cutoff"), math.pi / 3, math.pi)
        assert_frequencies(values(sincs, "size"), ODD_SIZES)


def check_bsrgan_blurs(blurs, stage):
    """Of the shuffled steps, without the one before decimation."""
    assert_chance([step["sigma_y"] for step in blurs], 0.5)
    assert_frequencies(values(blurs, "size"), dict.fromkeys(range(7, 26, 2), 1 / 10))
    elliptic = [step for step in blurs if step["sigma_y"]]
    for key in ("sigma", "sigma_y"):
        assert_uniform([step[key] ** 2 for step in elliptic], 0.01**2, 4 + stage)
    assert_uniform(values(elliptic, "angle"), 0, math.pi)
    assert_uniform([step["sigma"] for step in blurs if not step["sigma_y"]], 0.01, 2 + 0.2 * stage)


def check_bsrgan_noise(noises):
    kinds = [(step["type"], step.get("grey")) for step in noises]
    kind = "speckle_noise" if ("speckle_noise", True) in kinds else "gaussian_noise"
    assert_frequencies(kinds, {(kind, False): 0.4, (kind, True): 0.4, ("correlated_noise", None): 0.2})
    sigmas = [step["sigma"] for step in noises if step["type"] == kind]
    assert_frequencies(sigmas, dict.fromkeys(range(2, 26), 1 / 24))


def check_camera(steps):
    assert_log_uniform(values(steps, "shot"), 1e-4, 0.012)
    assert likely_numbers(values(steps, "read_offset"), stats.truncnorm(-4, 4, 0, 0.26))
    assert likely_numbers(values(steps, "gain"), stats.truncnorm(-3, 3, 0.8, 0.1))
    assert_uniform(values(steps, "red_gain"), 1.9, 2.4)
    assert_uniform(values(steps, "blue_gain"), 1.5, 1.9)


class TestBSRGAN:
    @staticmethod
    def place(steps, wanted):
        return next((index for index, step in enumerate(steps) if wanted(step)), None)

    @pytest.mark.parametrize(("name", "camera"), [("bsrgan", 0.25), ("swinir_real", 0.0)])
    def test_operators(self, name, camera):
        samples = drawn(name)
        halved = [steps for steps in samples if steps[0].get("factor") == 0.5]
        whole = [steps for steps in samples if steps[0].get("factor") != 0.5]
        assert_chance([steps in halved for steps in samples], 0.25)
        assert_frequencies(
            [steps[0]["interpolation"] for steps in halved],
            {"bilinear": 1 / 6, "bicubic": 1 / 6, "area": 1 / 6, "matlab_bicubic": 1 / 2},
        )
        for stage, part in ((2, [steps[1:] for steps in halved]), (4, whole)):
            blurs = of_type(part, "gaussian_blur")
            before_decimation = [step for step in blurs if step["shift_px"]]
            check_bsrgan_blurs([step for step in blurs if not step["shift_px"]], stage)
            assert_chance([bool(of_type([steps], "decimate")) for steps in part], 0.25)
            assert_uniform(values(before_decimation, "sigma"), 0.1, 0.6 * stage)
            factors = [step["factor"] for step in of_type(part, "resize") if step["factor"]]
            assert_uniform([1 / factor for factor in factors], 1, 2 * stage)
        check_bsrgan_noise(of_type(samples, "gaussian_noise", "correlated_noise"))
        assert all(steps[-1]["type"] == "jpeg" for steps in samples)
        assert_chance([len(of_type([steps], "jpeg")) == 2 for steps in samples], 0.9)
        assert_frequencies(values(of_type(samples, "jpeg"), "quality"), QUALITIES)
        with_camera = of_type(samples, "camera_noise")
        if camera:
            assert_chance([bool(of_type([steps], "camera_noise")) for steps in samples], camera)
            check_camera(with_camera)
        else:
            assert not with_camera

    def test_the_order_is_random_but_for_the_two_resizings(self):
        noise_first = []
        for steps in drawn("bsrgan"):
            noise = self.place(steps, lambda step: step["type"] in ("gaussian_noise", "correlated_noise"))
            to_size = self.place(steps, lambda step: step.get("of_gt"))
            noise_first.append(noise < to_size)
            down = self.place(steps[1:], lambda s: s["type"] == "decimate" or s.get("factor"))
            assert down is None or down + 1 < to_size
        assert_chance(noise_first, 2 / 3)  # the second resizing is the later of two

    def test_bsrgan_plus(self):
        samples = drawn("bsrgan_plus")
        jpeg_between = []
        for steps in samples:
            first, second = (i for i, step in enumerate(steps) if step["type"] == "resize" and step["factor"])
            jpeg_between.append(first < self.place(steps, lambda step: step["type"] == "jpeg") < second)
        assert_chance(jpeg_between, 0.5 + 0.5 / 3)  # always where nothing is shuffled
        check_bsrgan_blurs(of_type(samples, "gaussian_blur"), 4)
        factors = [step["factor"] for step in of_type(samples, "resize") if step["factor"]]
        assert_frequencies([(f > 1) - (f < 1) for f in factors], {1: 0.2, -1: 0.7, 0: 0.1})
        assert_uniform([factor for factor in factors if factor > 1], 1, 2)
        assert_uniform([factor for factor in factors if factor < 1], 0.125, 1)
        changing = [step for step in of_type(samples, "resize") if step["factor"] != 1]
        assert_frequencies(values(changing, "interpolation"), INTERPOLATIONS)
        multiplied = [step for step in of_type(samples, "correlated_noise") if step["multiplicative"]]
        added = [step for step in of_type(samples, "correlated_noise") if not step["multiplicative"]]
        check_bsrgan_noise(of_type(samples, "gaussian_noise") + added)
        speckles = of_type(samples, "speckle_noise") + multiplied
        check_bsrgan_noise(speckles)
        photons, cameras = of_type(samples, "poisson_noise"), of_type(samples, "camera_noise")
        assert_log_uniform(values(photons, "peak"), 100, 10000)
        assert_chance(values(photons, "grey"), 0.5)
        check_camera(cameras)
        for steps in (photons, speckles, cameras):  # two chances in each sample
            assert stats.binomtest(len(steps), 2 * COUNT, 0.1).pvalue > UNLIKELY
        assert_frequencies(values(of_type(samples, "jpeg"), "quality"), QUALITIES)
        assert all([step["type"] for step in steps[-2:]] == ["resize", "jpeg"] for steps in samples)


class TestSmallPipelines:
    def test_those_without_chance(self):
        (bicubic,) = drawn("bicubic", 1)[0]
        assert (bicubic["of_gt"], bicubic["interpolation"]) == (0.25, "matlab_bicubic")
        blur, down = drawn("blur_down", 1)[0]
        assert (blur["size"], blur["sigma"], blur["shift_px"]) == (7, 1.6, 0)
        assert (down["factor"], down["offset_px"]) == (3, 1)
        reduce, _, noise = drawn("down_noise", 1)[0]
        assert (reduce["of_gt"], reduce["interpolation"], noise["sigma"]) == (1 / 3, "matlab_bicubic", 30)
        assert {step["sigma"] for step in of_type(drawn("gaussian_noise", 20), "gaussian_noise")} == {25}
        assert {step["quality"] for step in of_type(drawn("jpeg", 20), "jpeg")} == {40}

    def test_ranges_for_variables(self):
        sigmas = [step["sigma"] for step in of_type(range_of("gaussian_noise", sigma=[0, 55]), "gaussian_noise")]
        assert_uniform(sigmas, 0, 55)
        qualities = [step["quality"] for step in of_type(range_of("jpeg", quality=[10, 40]), "jpeg")]
        assert_frequencies(qualities, dict.fromkeys(range(10, 41), 1 / 31))

    def test_noise_power_of_the_blind_pipeline(self):
        pipeline = load_pipeline("gaussian_noise", sigma=[0, 55])
        grey = torch.full((24, 1, 64, 64), 0.5)
        pairs = pipeline(grey, [sample_seed(2, index) for index in range(24)])
        sigmas = torch.tensor([steps["steps"][0]["sigma"] for steps in pairs["parameters"]])
        measured = (pairs["lq"] - grey).flatten(1).std(dim=1) * 255
        torch.testing.assert_close(measured, sigmas, rtol=0.06, atol=0.05)
        assert sigmas.min() < 8
        assert sigmas.max() > 44

    def test_real_noise(self):
        check_camera(of_type(drawn("real_noise"), "camera_noise"))

    def test_defocus_and_motion(self):
        assert_uniform(values(of_type(drawn("defocus"), "defocus_blur"), "radius_px"), 0.7, 8)
        shakes = of_type(drawn("motion"), "motion_blur")
        assert_frequencies(values(shakes, "size"), dict.fromkeys(range(7, 32, 2), 1 / 13))
        assert_log_uniform(values(shakes, "anxiety"), 0.03, 1)
        assert len(set(values(shakes, "seed"))) == COUNT
        for name in ("defocus", "motion"):
            assert_uniform(values(of_type(drawn(name), "gaussian_noise"), "sigma"), 0, 4)

    def test_rain(self):
        samples = drawn("rain")
        streaks, hazes = of_type(samples, "rain_streaks"), of_type(samples, "haze")
        assert_frequencies([len(of_type([s], "rain_streaks")) for s in samples], {1: 1 / 3, 2: 1 / 3, 3: 1 / 3})
        assert_chance([bool(of_type([steps], "haze")) for steps in samples], 0.3)
        assert_uniform(values(hazes, "thickness"), 0.1, 0.8)
        assert_uniform(values(hazes, "airlight"), 0.7, 0.95)
        ranges = {
            "density": (0.0003, 0.003),
            "length_px": (11, 61),
            "angle": (-0.5, 0.5),
            "width_px": (0.5, 1.2),
            "strength": (0.3, 0.9),
        }
        for key, (low, high) in ranges.items():
            assert_uniform(values(streaks, key), low, high)


def range_of(name, **variables):
    pipeline = load_pipeline(name, **variables)
    return [pipeline.draw(sample_seed(1, index), (64, 64))["steps"] for index in range(COUNT)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([2, 4], stats.uniform(2, 2)),
        ({"log_uniform": [1, math.e**2]}, stats.loguniform(1, math.e**2)),
        ({"normal": [1, 0.5]}, stats.truncnorm(-4, 4, 1, 0.5)),
        ({"normal": [1, 0.5], "within": [1, 1.5]}, stats.truncnorm(0, 1, 1, 0.5)),
    ],
)
def test_distributions_of_numbers(value, expected):
    assert likely_numbers(numbers_of(value), expected)


def test_distributions_of_squares_and_reciprocals():
    assert_uniform([number**2 for number in numbers_of({"square_uniform": [1, 3]})], 1, 9)
    assert_uniform([1 / number for number in numbers_of({"inverse_uniform": [0.25, 1]})], 1, 4)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"integer": [7, 21], "step": 2}, ODD_SIZES),
        ({"choice": [1, 5], "probabilities": [0.25, 0.75]}, {1: 0.25, 5: 0.75}),
        ({"choice": [1, {"choice": [2, 3]}]}, {1: 0.5, 2: 0.25, 3: 0.25}),
        ({"chance": 0.3}, {True: 0.3, False: 0.7}),
    ],
)
def test_distributions_of_values(value, expected):
    assert_frequencies(numbers_of(value), expected)


def numbers_of(value):
    problems = []
    distribution, draw = parse_distribution(value, "x", problems), Draw.from_seed(3)
    assert not problems
    return [distribution.draw(draw) for _ in range(4000)]

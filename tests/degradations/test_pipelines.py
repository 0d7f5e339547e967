"""Pipelines: determinism, the distributions that they state, their grammar, and what wrong ones are told."""

import collections
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from restore.degradations import list_pipelines, load_pipeline, parse_pipeline, pipeline_from_options, sample_seed
from restore.degradations.draw import Draw, parse_distribution
from restore.degradations.operator import tensor_code
from restore.errors import ImageError, OptionsError

ROOT = Path(__file__).parents[2]
NAMES = [
    "bicubic",
    "blur_down",
    "bsrgan",
    "bsrgan_plus",
    "defocus",
    "down_noise",
    "evaluation_noise",
    "gaussian_noise",
    "jpeg",
    "motion",
    "rain",
    "real_noise",
    "realesrgan",
    "realesrnet",
    "swinir_real",
]


@pytest.fixture(scope="module", name="gt_BCHW")
def _originals() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(3, 3, 9, 9, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(72, 96), mode="bicubic").clamp(0, 1)


def draws(name, count, **variables):
    """The drawn steps of many samples, as {type: [parameters]}."""
    pipeline = load_pipeline(name, **variables)
    samples = [pipeline.draw(sample_seed(1, index), (256, 256))["steps"] for index in range(count)]
    by_type = collections.defaultdict(list)
    for steps in samples:
        for step in steps:
            by_type[step["type"]].append(step)
    return samples, by_type


def close(count, total, probability):
    """Within four standard errors of a binomial."""
    return abs(count / total - probability) < 4 * math.sqrt(probability * (1 - probability) / total) + 1e-9


def test_names():
    assert list_pipelines() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_the_same_in_any_batch_and_from_its_parameters(name, gt_BCHW):
    torch.set_num_threads(2)
    pipeline = load_pipeline(name)
    seeds = [sample_seed(7, index) for index in range(3)]
    pairs = pipeline(gt_BCHW, seeds)
    again = pipeline(gt_BCHW, seeds)
    torch.set_num_threads(1)
    height, width = (side // pipeline.scale for side in gt_BCHW.shape[-2:])
    assert pairs["lq"].shape == (3, 3, height, width)
    assert pairs["gt"].shape == gt_BCHW.shape
    assert pairs["lq"].isfinite().all()
    assert torch.equal(pairs["lq"], again["lq"])
    for index in range(3):
        single = pipeline(gt_BCHW[index : index + 1], seeds[index : index + 1])
        assert torch.equal(single["lq"][0], pairs["lq"][index])
    parameters = json.loads(json.dumps(pairs["parameters"]))
    replayed = pipeline.replay(gt_BCHW, parameters)
    assert torch.equal(replayed["lq"], pairs["lq"])
    assert torch.equal(replayed["gt"], pairs["gt"])
    assert replayed["parameters"] == parameters


@pytest.mark.parametrize("name", ["realesrgan", "bsrgan", "rain"])
def test_grouping_samples_gives_what_single_ones_give(name, gt_BCHW):
    """The way of accelerators; different seeds lead the samples through different operators."""
    pipeline = load_pipeline(name)
    seeds = [sample_seed(3, index) for index in range(6)]
    batch = gt_BCHW.repeat(2, 1, 1, 1)
    with tensor_code():
        together = pipeline(batch, seeds)["lq"]
        singles = torch.cat([pipeline(batch[i : i + 1], seeds[i : i + 1])["lq"] for i in range(6)])
    assert (together - singles).abs().mean() * 255 < 0.02
    assert (together - pipeline(batch, seeds)["lq"]).abs().mean() * 255 < 1.0


def test_the_number_of_threads_does_not_matter(gt_BCHW):
    pipeline, seeds = load_pipeline("realesrgan"), [sample_seed(4, index) for index in range(3)]
    before, results = torch.get_num_threads(), []
    for count in (1, 2):
        torch.set_num_threads(count)
        results.append(pipeline(gt_BCHW, seeds)["lq"])
    torch.set_num_threads(before)
    assert torch.equal(*results)


def test_other_processes_draw_the_same(gt_BCHW):
    code = (
        "import torch; from restore.degradations import load_pipeline, sample_seed;"
        "gt = torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64);"
        "lq = load_pipeline('realesrgan')(gt, [sample_seed(5, 'photo', 2)])['lq'];"
        "print(lq.numpy().tobytes().hex())"
    )
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    gt = torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64)
    lq = load_pipeline("realesrgan")(gt, [sample_seed(5, "photo", 2)])["lq"]
    assert other.strip() == lq.numpy().tobytes().hex()


def test_seeds_depend_on_everything_that_names_a_sample():
    seeds = {sample_seed(run, *keys) for run in range(3) for keys in ((0,), (1,), ("0",), (0, 1), (1, 0), ("a", 0))}
    assert len(seeds) == 18
    assert all(0 <= seed < 2**63 for seed in seeds)


class TestStatistics:
    count = 3000

    def test_realesrgan(self):
        samples, _ = draws("realesrgan", self.count)
        first = [steps[1] for steps in samples]
        kinds = collections.Counter((step["type"], step.get("sigma_y") is not None) for step in first)
        expected = {
            ("sinc_blur", False): 0.1,
            ("gaussian_blur", False): 0.9 * 0.45,
            ("gaussian_blur", True): 0.9 * 0.25,
            ("generalized_gaussian_blur", False): 0.9 * 0.12,
            ("generalized_gaussian_blur", True): 0.9 * 0.03,
            ("plateau_blur", False): 0.9 * 0.12,
            ("plateau_blur", True): 0.9 * 0.03,
        }
        assert set(kinds) == set(expected)
        assert all(close(kinds[kind], self.count, expected[kind]) for kind in expected)
        sigmas = torch.tensor([step["sigma"] for step in first if "sigma" in step])
        assert 0.2 <= sigmas.min() < 0.22 < 2.98 < sigmas.max() <= 3
        assert sigmas.mean().item() == pytest.approx(1.6, abs=0.06)
        sizes = collections.Counter(step["size"] for step in first)
        assert set(sizes) == set(range(7, 22, 2))
        assert all(close(number, self.count, 1 / 8) for number in sizes.values())
        for step in first:
            if step["type"] == "sinc_blur":
                assert math.pi / (3 if step["size"] < 13 else 5) <= step["cutoff"] <= math.pi

    def test_realesrgan_beyond_the_first_blur(self):
        samples, by_type = draws("realesrgan", self.count)
        factors = [steps[2]["factor"] for steps in samples]
        assert close(sum(factor > 1 for factor in factors), self.count, 0.2)
        assert close(sum(factor < 1 for factor in factors), self.count, 0.7)
        assert min(factors) >= 0.15
        assert max(factors) <= 1.5
        noises = [steps[3] for steps in samples]
        assert close(sum(step["type"] == "gaussian_noise" for step in noises), self.count, 0.5)
        assert close(sum(step["grey"] for step in noises), self.count, 0.4)
        qualities = torch.tensor([step["quality"] for step in by_type["jpeg"]], dtype=torch.float64)
        assert (qualities.min(), qualities.max()) == (30, 95)
        assert qualities.mean().item() == pytest.approx(62.5, abs=1)
        modes = collections.Counter(step["interpolation"] for step in by_type["resize"])
        assert all(close(modes[mode], 3 * self.count, 1 / 3) for mode in ("area", "bilinear", "bicubic"))
        second_blur = sum("blur" in steps[5]["type"] for steps in samples)
        assert close(second_blur, self.count, 0.8)
        assert close(sum(steps[-1]["type"] == "jpeg" for steps in samples), self.count, 0.5)
        assert len({step["seed"] for step in noises}) == self.count

    def test_bsrgan(self):
        samples, by_type = draws("bsrgan", 2000)
        halved = [steps for steps in samples if steps[0].get("factor") == 0.5]
        assert close(len(halved), 2000, 0.25)
        blurs = [step for step in by_type["gaussian_blur"] if not step["shift_px"] and step["size"] <= 25]
        assert close(sum(step["sigma_y"] is not None for step in blurs), len(blurs), 0.5) or len(blurs) > 4000
        variances = torch.tensor(
            [s["sigma"] ** 2 for steps in samples[:] if steps not in halved for s in steps if s.get("sigma_y")]
        )
        assert variances.mean().item() == pytest.approx(4, abs=0.15)  # uniform on [0, 8]
        final = collections.Counter(steps[-1]["type"] for steps in samples)
        assert final == {"jpeg": 2000}
        for steps in samples[:200]:
            to_size = [i for i, step in enumerate(steps) if step.get("of_gt")]
            before = [i for i, s in enumerate(steps) if s["type"] == "decimate" or (s.get("factor") or 0.5) != 0.5]
            assert all(i < to_size[0] for i in before)

    def test_only_the_papers_recipe_has_camera_noise(self):
        samples, _ = draws("bsrgan", 2000)
        assert close(sum(any(step["type"] == "camera_noise" for step in steps) for steps in samples), 2000, 0.25)
        _, by_type = draws("swinir_real", 300)
        assert "camera_noise" not in by_type
        assert set(by_type) == set(draws("bsrgan", 300)[1]) - {"camera_noise"}

    def test_noise_power_of_the_blind_pipeline(self):
        pipeline = load_pipeline("gaussian_noise", sigma=[0, 55])
        grey = torch.full((24, 1, 64, 64), 0.5)
        pairs = pipeline(grey, [sample_seed(2, index) for index in range(24)])
        sigmas = torch.tensor([drawn["steps"][0]["sigma"] for drawn in pairs["parameters"]])
        measured = (pairs["lq"] - grey).flatten(1).std(dim=1) * 255
        torch.testing.assert_close(measured, sigmas, rtol=0.06, atol=0.05)
        assert sigmas.min() < 8
        assert sigmas.max() > 44

    def test_camera_noise(self):
        _, by_type = draws("real_noise", 2000)
        logs = torch.tensor([math.log(step["shot"]) for step in by_type["camera_noise"]])
        assert logs.mean().item() == pytest.approx((math.log(1e-4) + math.log(0.012)) / 2, abs=0.13)
        offsets = torch.tensor([step["read_offset"] for step in by_type["camera_noise"]])
        assert offsets.std().item() == pytest.approx(0.26, rel=0.08)

    @pytest.mark.parametrize(
        ("value", "mean", "low", "high"),
        [
            ([2, 4], 3, 2, 4),
            ({"log_uniform": [1, math.e**2]}, (math.e**2 - 1) / 2, 1, math.e**2),
            ({"square_uniform": [1, 3]}, 26 / 12, 1, 3),
            ({"inverse_uniform": [0.25, 1]}, math.log(4) / 3, 0.25, 1),
            ({"integer": [7, 21], "step": 2}, 14, 7, 21),
            ({"normal": [1, 0.5]}, 1, -1, 3),
            ({"choice": [1, [5, 7]], "probabilities": [0.25, 0.75]}, 4.75, 1, 7),
            ({"chance": 0.3}, 0.3, 0, 1),
            (5, 5, 5, 5),
        ],
    )
    def test_distributions(self, value, mean, low, high):
        problems = []
        distribution, draw = parse_distribution(value, "x", problems), Draw.from_seed(3)
        values = torch.tensor([float(distribution.draw(draw)) for _ in range(4000)])
        assert not problems
        assert values.min() >= low - 1e-6
        assert values.max() <= high + 1e-6
        assert values.mean().item() == pytest.approx(mean, abs=4.5 * values.std().item() / math.sqrt(4000) + 1e-6)


class TestGrammar:
    def test_shuffle_keeps_what_it_must(self):
        steps = [{"type": "jpeg", "quality": quality} for quality in (1, 2, 3, 4)]
        pipeline = parse_pipeline({"steps": [{"type": "shuffle", "keep_order": [1, 3], "steps": steps}]})
        orders = collections.Counter(
            tuple(step["quality"] for step in pipeline.draw(seed, (8, 8))["steps"]) for seed in range(600)
        )
        assert len(orders) == 12
        assert all(order.index(2) < order.index(4) for order in orders)

    def test_repeat_draws_anew(self):
        block = {"type": "repeat", "times": [2, 3], "steps": [{"type": "jpeg", "quality": [1, 100]}]}
        drawn = [parse_pipeline({"steps": [block]}).draw(seed, (8, 8))["steps"] for seed in range(50)]
        assert {len(steps) for steps in drawn} == {2, 3}
        assert sum(steps[0] != steps[1] for steps in drawn) > 45

    def test_variables_and_expressions(self):
        inner = {"type": "jpeg", "quality": "=max(q, 10) if q < 50 else 50"}
        scoped = {"type": "sequence", "variables": {"q": 80}, "steps": [inner]}
        pipeline = parse_pipeline({"variables": {"q": 5}, "steps": [inner, scoped]})
        assert [step["quality"] for step in pipeline.draw(0, (8, 8))["steps"]] == [10, 50]

    def test_a_user_file(self, tmp_path, gt_BCHW):
        path = tmp_path / "mine.yml"
        path.write_text("extends: bicubic\nvariables: {scale: 2}\n")
        assert load_pipeline(path)(gt_BCHW, [1, 2, 3])["lq"].shape[-1] == 48
        assert load_pipeline(path, scale=3).scale == 3

    def test_all_mistakes_at_once(self):
        spec = {
            "stepps": [],
            "steps": [
                {"type": "jpg", "quality": 40},
                {"type": "jpeg", "qualty": 40},
                {"type": "jpeg", "quality": [30, 400]},
                {"type": "jpeg", "quality": [95, 30]},
                {"type": "gaussian_blur", "size": 8, "sigma": 1},
                {"type": "gaussian_blur", "sigma": {"unifrom": [1, 2]}},
                {"type": "one_of", "probabilities": [0.5, 0.4], "steps": [{"type": "usm"}, {"type": "usm"}]},
                {"type": "gaussian_noise", "sigma": "=sigmma"},
                {"type": "resize"},
                {"type": "usm", "probability": 1.5},
                "usm",
            ],
        }
        with pytest.raises(OptionsError) as caught:
            parse_pipeline(spec, "mine.yml")
        found = {problem.path: problem.message for problem in caught.value.problems}
        assert "'steps'" in found["stepps"]
        assert "'jpeg'" in found["steps.0.type"]
        assert "'quality'" in found["steps.1.qualty"]
        assert "100" in found["steps.2.quality"]
        assert "empty range" in found["steps.3.quality"]
        assert "odd" in found["steps.4.size"]
        assert "'uniform'" in found["steps.5.sigma"]
        assert "sum to 0.9" in found["steps.6.probabilities"]
        assert "unknown variable" in found["steps.7.sigma"]
        assert "of_gt" in found["steps.8"]
        assert "[0, 1]" in found["steps.9.probability"]
        assert "steps.10" in found
        assert all(problem.file == "mine.yml" for problem in caught.value.problems)

    def test_unknown_pipelines_and_variables(self, tmp_path):
        with pytest.raises(OptionsError, match="realesrgan"):
            load_pipeline("realesrgn")
        with pytest.raises(OptionsError, match="no such variable"):
            load_pipeline("bicubic", scael=2)
        with pytest.raises(OptionsError, match="whole number"):
            load_pipeline("bicubic", scale=1.5)
        broken = tmp_path / "broken.yml"
        broken.write_text("steps: [\n")
        with pytest.raises(OptionsError, match=r"broken.yml:\d"):
            load_pipeline(broken)


class TestWrongImages:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda x: x[..., :20, :20], "21 px"),
            (lambda x: x[..., :70, :], "divisible"),
            (lambda x: x * float("nan"), "not finite"),
            (lambda x: x * 255, r"\[0, 1\]"),
            (lambda x: (x * 255).byte(), "float"),
            (lambda x: x[0], "float images"),
        ],
    )
    def test_messages(self, gt_BCHW, change, message):
        with pytest.raises(ImageError, match=message):
            load_pipeline("realesrgan")(change(gt_BCHW), [1, 2, 3])

    def test_the_bad_image_is_named(self, gt_BCHW):
        bad = gt_BCHW.clone()
        bad[1, 0, 3, 3] = float("inf")
        with pytest.raises(ImageError, match=r"\[1\]"):
            load_pipeline("jpeg")(bad, [1, 2, 3])

    def test_seeds_and_sizes_must_fit(self, gt_BCHW):
        with pytest.raises(ImageError, match="seeds"):
            load_pipeline("jpeg")(gt_BCHW, [1])
        with pytest.raises(OptionsError, match="asks for 18 x 24"):
            parse_pipeline({"variables": {"scale": 4}, "steps": [{"type": "usm"}]})(gt_BCHW, [1, 2, 3])
        parameters = load_pipeline("jpeg")(gt_BCHW, [1, 2, 3])["parameters"]
        with pytest.raises(OptionsError, match=r"parameters\.0\.gt_px"):
            load_pipeline("jpeg").replay(gt_BCHW[..., :48], parameters)


class TestOptions:
    def test_the_shipped_values_are_the_recipe(self, gt_BCHW):
        from_options = pipeline_from_options({}, {}, scale=4)
        recipe = load_pipeline("realesrgan")
        for seed in range(60):
            ours, theirs = (p.draw(seed, (256, 256))["steps"] for p in (recipe, from_options))
            assert [step["type"] for step in ours] == [step["type"] for step in theirs]
            for a, b in zip(ours, theirs, strict=True):
                assert a.pop("gt_px", None) == b.pop("gt_px", None)
                assert a == pytest.approx(b)

    def test_realesrnet_is_the_recipe_with_both_images_sharpened(self):
        from_options, recipe = pipeline_from_options({}, {}, scale=4, sharpen="both"), load_pipeline("realesrnet")
        for seed in range(20):
            ours, theirs = (p.draw(seed, (256, 256)) for p in (recipe, from_options))
            assert ours["target"] == theirs["target"]
            for a, b in zip(ours["steps"], theirs["steps"], strict=True):
                assert a.pop("gt_px", None) == b.pop("gt_px", None)
                assert a == pytest.approx(b)
            assert not any(step["type"] == "usm" for step in ours["steps"])

    def test_keys_reach_the_operators(self):
        top = {"resize_prob": [0, 1, 0], "jpeg_range": [40.0, 41.0], "gaussian_noise_prob": 1, "second_blur_prob": 0}
        dataset = {"kernel_list": ["plateau_aniso"], "kernel_prob": [1.0], "sinc_prob": 0, "betap_range": [1, 1]}
        pipeline = pipeline_from_options(top, dataset, scale=2, sharpen="both")
        for seed in range(20):
            drawn = pipeline.draw(seed, (256, 256))
            steps = drawn["steps"]
            assert drawn["target"][0]["type"] == "usm"
            assert steps[0]["type"] == "plateau_blur"
            assert steps[0]["beta"] == 1
            assert steps[1]["factor"] <= 1
            assert steps[2]["type"] == "gaussian_noise"
            assert steps[3]["quality"] in (40, 41)
            assert steps[4]["type"] == "resize"

    def test_mistakes_have_the_option_files_paths(self):
        top = {"resize_prob": [0.5, 0.4, 0.2], "resize_rnage": [0.1, 1.5]}
        with pytest.raises(OptionsError, match="'resize_range'"):
            pipeline_from_options(top, {}, scale=4)
        dataset = {"kernel_list": ["iso", "anisso"], "kernel_prob": [0.5, 0.4], "blur_kernel_size2": 20}
        top = {"resize_prob": [0.5, 0.4, 0.2], "jpeg_range2": [95, 30]}
        with pytest.raises(OptionsError) as caught:
            pipeline_from_options(top, dataset, scale=4)
        assert {problem.path for problem in caught.value.problems} == {
            "resize_prob",
            "jpeg_range2",
            "datasets.train.kernel_list.1",
            "datasets.train.kernel_prob",
            "datasets.train.blur_kernel_size2",
        }

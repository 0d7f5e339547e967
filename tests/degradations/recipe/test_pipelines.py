"""Pipelines: determinism, the distributions that they state, their grammar, and what wrong ones are told."""

import collections
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from restore.degradations import (
    list_pipelines,
    load_pipeline,
    parse_pipeline,
    pipeline_from_options,
    sample_seed,
)
from restore.degradations.operators.base import tensor_code
from restore.degradations.recipe import execution
from restore.errors import ImageError, OptionsError

ROOT = Path(__file__).parents[3]
NAMES = [
    "bicubic",
    "blur_down",
    "bsrgan",
    "bsrgan_plus",
    "defects",
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


def test_each_thread_computes_alone():
    """A thread takes over the process's number of threads at its first look, and must not do so after it was told 1."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    threads = execution._threads(os.getpid(), 2)

    def compute(_: int) -> int:
        torch.rand(300, 300).matmul(torch.rand(300, 300)).sum()
        return torch.get_num_threads()

    assert list(threads.map(compute, range(8))) == [1] * 8
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


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

    def test_a_file_extends_its_neighbour(self, tmp_path):
        (tmp_path / "base.yml").write_text("variables: {quality: 5}\nsteps: [{type: jpeg, quality: '=quality'}]\n")
        (tmp_path / "mine.yml").write_text("extends: base.yml\nvariables: {quality: 7}\n")
        assert load_pipeline(tmp_path / "mine.yml").draw(0, (8, 8))["steps"][0]["quality"] == 7
        (tmp_path / "base.yml").write_text("extends: mine.yml\n")
        with pytest.raises(OptionsError, match=r"extends: goes in a circle: .*mine.yml -> .*base.yml -> .*mine.yml"):
            load_pipeline(tmp_path / "mine.yml")
        (tmp_path / "base.yml").write_text("stepps: []\nsteps: []\n")
        with pytest.raises(OptionsError, match=r"mine.yml: stepps: unknown key. Did you mean 'steps'"):
            load_pipeline(tmp_path / "mine.yml")

    def test_the_largest_kernel_of_nested_choices(self):
        block = {"type": "gaussian_blur", "size": {"choice": [7, {"integer": [9, 15], "step": 2}]}, "sigma": 1}
        pipeline = parse_pipeline({"steps": [{**block, "sigma_y": {"choice": [None, [0.3, 2]]}}]})
        assert pipeline.min_px == 15
        assert parse_pipeline({"steps": [{"type": "defocus_blur", "radius_px": [1, 4.5]}]}).min_px == 11

    @pytest.mark.parametrize(
        ("change", "path", "message"),
        [
            ({"variables": [1]}, "variables", "mapping"),
            ({"variables": {"scale": True}}, "variables.scale", "whole number"),
            ({"extends": 3}, "extends", "name or a .yml"),
            ({"steps": None}, "steps", "list of steps"),
            ({"steps": [{"type": "low_light", "exposure": float("inf")}]}, "steps.0.exposure", "finite"),
            ({"steps": [{"type": "gaussian_noise", "sigma": []}]}, "steps.0.sigma", "two numbers"),
            ({"steps": [{"type": "usm", "weight": {"normal": [1, 0.1], "within": [5, 6]}}]}, "normal", "empty"),
            ({"steps": [{"type": "usm", "weight": {"log_uniform": [0, 1]}}]}, "log_uniform", "positive"),
            ({"steps": [{"type": "repeat", "times": [3, 1], "steps": []}]}, "steps.0.times", "empty range"),
            ({"steps": [{"type": "repeat", "times": 1000, "steps": []}]}, "steps.0.times", "0 to 100"),
            ({"steps": [{"type": "shuffle", "keep_order": [[1]], "steps": []}]}, "keep_order", "indices"),
            ({"steps": [{"type": "one_of", "steps": []}]}, "steps.0", "nothing to choose"),
            ({"steps": [{"type": "usm", "weight": "=1 / 0"}]}, "steps.0.weight", "division by zero"),
            ({"round": "no"}, "round", "true or false"),
        ],
    )
    def test_one_mistake_is_one_message(self, change, path, message):
        with pytest.raises(OptionsError, match=message) as caught:
            parse_pipeline({"steps": [{"type": "usm"}], **change}, "mine.yml")
        (problem,) = caught.value.problems
        assert problem.path.endswith(path)
        assert problem.file == "mine.yml"

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
            (lambda x: x[:0], "float images"),
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

    def test_constants_of_basicsr_that_a_file_may_set(self):
        top = {"blur_prob": 0, "jpeg_prob": 0, "jpeg_prob2": 0, "second_blur_prob": 1, "resize_prob": [0, 1, 0]}
        top |= {"resize_mode_list": ["lanczos", "nearest_exact"], "resize_mode_prob": [3, 0]}
        top |= {"resize_mode_list3": ["antialiased_bicubic"]}
        dataset = {"kernel_range2": [3, 5], "sinc_prob2": 0.5, "final_sinc_prob": 1, "final_kernel_range": [9, 9]}
        pipeline = pipeline_from_options(top, dataset, scale=2, sharpen="neither")
        for seed in range(20):
            steps = pipeline.draw(seed, (256, 256))["steps"]
            assert (steps[0]["type"], steps[0]["interpolation"]) == ("resize", "lanczos")
            assert steps[2]["size"] in (3, 5)
            assert steps[3]["interpolation"] in ("area", "bilinear", "bicubic")
            assert [steps[-2]["interpolation"], steps[-1]["size"]] == ["antialiased_bicubic", 9]
            assert not any(step["type"] == "jpeg" for step in steps)
        top = {"resize_mode_list": ["lanczoss"], "resize_mode_prob2": [1, 1], "resize_mode_list3": []}
        with pytest.raises(OptionsError) as caught:
            pipeline_from_options(top, {"kernel_range": [6, 9], "final_kernel_range": [9, 5]}, scale=4)
        assert {problem.path for problem in caught.value.problems} == {
            "resize_mode_list.0",
            "resize_mode_prob2",
            "resize_mode_prob3",
            "datasets.train.kernel_range",
            "datasets.train.final_kernel_range",
        }

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

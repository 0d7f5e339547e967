"""Training on images degraded on the device: the models, datasets and keys of Real-ESRGAN's option files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import run, same

from restore.data.sampling import Draw
from restore.degradations import PairPool, load_pipeline, pipeline_from_options
from restore.degradations.operators.blur import Usm
from restore.errors import DataError, OptionsError
from restore.images import read_image, write_image
from restore.options import load
from restore.registry import DATASETS, OBJECTIVES
from restore.training.degrading import Degrading, Sharpening
from restore.training.mixing import Mixing
from restore.training.objectives import Adversarial, BlindAdversarial, BlindRestoration

ROOT = Path(__file__).parents[2]
FOLDER = os.environ.get("RESTORE_BASICSR_OPTIONS")

OPTIONS = """
name: blind
model_type: RealESRNetModel
scale: 2
num_gpu: 0
manual_seed: 3
gt_size: 16
queue_size: 4
resize_prob: [0.2, 0.7, 0.1]
jpeg_range: [30, 95]
datasets:
  train:
    name: photos
    type: RealESRGANDataset
    dataroot_gt: {root}/gt
    crop_pad_size: 24
    use_hflip: true
    batch_size_per_gpu: 2
    num_worker_per_gpu: 0
  val: {{name: photos, type: DegradedImageDataset, recipe: realesrgan, dataroot_gt: {root}/gt}}
network_g: {{type: SwinIR, upscale: 2, img_size: 8, window_size: 4, embed_dim: 8, depths: [1], num_heads: [2],
             mlp_ratio: 1, upsampler: pixelshuffledirect}}
path: {{experiments_root: {root}/experiments}}
train:
  total_iter: 6
  ema_decay: 0.9
  optim_g: {{type: Adam, lr: 2e-3}}
  pixel_opt: {{type: L1Loss}}
val: {{val_freq: 6, metrics: {{psnr: {{type: calculate_psnr, crop_border: 2}}}}}}
logger: {{print_freq: 2, save_checkpoint_freq: 2}}
"""
ADVERSARIAL = [
    "model_type=RealESRGANModel",
    "network_d={type: UNetDiscriminatorSN, num_in_ch: 3, num_feat: 2}",
    "train.optim_d={type: Adam, lr: 1e-3}",
    "train.gan_opt={type: GANLoss, gan_type: vanilla, loss_weight: 0.1}",
]


@pytest.fixture
def option_file(tmp_path):
    noise = np.random.default_rng(0)
    for number in range(4):
        coarse = noise.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        write_image(tmp_path / "gt" / f"{number}.png", coarse.repeat(8, 0).repeat(8, 1))
    path = tmp_path / "train.yml"
    path.write_text(OPTIONS.format(root=tmp_path))
    return path


def saved(tmp_path, name="blind", iteration=6, network="g"):
    folder = tmp_path / "experiments" / name
    files = folder / f"training_states/{iteration}.state", folder / f"models/net_{network}_{iteration}.pth"
    return [torch.load(file, weights_only=True) for file in files]


def preparations(option_file, *overrides):
    options = load(option_file, list(overrides), is_train=True)
    return OBJECTIVES.get(options.model_type).preparations_of(options)


def test_names_of_basicsr():
    assert OBJECTIVES.get("RealESRNetModel") is BlindRestoration
    assert OBJECTIVES.get("RealESRGANModel") is BlindAdversarial


@pytest.mark.parametrize("overrides", [[], ADVERSARIAL], ids=["RealESRNet", "RealESRGAN"])
def test_stopped_and_resumed_is_bit_identical_with_its_pool(option_file, tmp_path, overrides):
    run(option_file, *overrides)
    whole = saved(tmp_path)
    pool = whole[0]["restore"]["objective"][0]["Degrading"]
    assert pool["num"] == 4
    assert pool["stored"]["gt"].shape == (4, 3, 16, 16)
    run(option_file, *overrides, "name=parts", "train.total_iter=4")
    run(option_file, *overrides, "name=parts", auto_resume=True)
    assert same(whole, saved(tmp_path, "parts"))


def test_without_its_pool_a_resumed_run_would_differ(option_file, tmp_path):
    run(option_file)
    run(option_file, "name=parts", "train.total_iter=4")
    path = tmp_path / "experiments/parts/training_states/4.state"
    content = torch.load(path, weights_only=True)
    content["restore"]["objective"] = [{}]
    torch.save(content, path)
    run(option_file, "name=parts", auto_resume=True)
    assert not same(saved(tmp_path)[1], saved(tmp_path, "parts")[1])


def test_the_state_is_one_of_basicsr(option_file, tmp_path):
    """BasicSR reads these four keys and passes over others."""
    run(option_file, *ADVERSARIAL, "train.total_iter=2")
    state, _ = saved(tmp_path, iteration=2)
    assert set(state) == {"epoch", "iter", "optimizers", "schedulers", "restore"}
    assert len(state["optimizers"]) == len(state["schedulers"]) == 2
    assert set(saved(tmp_path, iteration=2, network="d")[1]) == {"params", "network"}


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_resumed_is_bit_identical(processes):
    command = [sys.executable, str(ROOT / "scripts/stress_resume.py"), "--blind", "--kills", "2"]
    command += ["--iterations", "10", "--processes", str(processes)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"2 kills, {processes} processes: identical" in done.stdout


def test_the_keys_at_the_top_and_of_the_dataset_drive_the_operators(option_file):
    blur = ["datasets.train.sinc_prob=0.5", "datasets.train.blur_kernel_size=9"]
    (degrading,) = preparations(option_file, "resize_prob=[0, 1, 0]", *blur, "gt_usm=false")
    expected = pipeline_from_options(
        {"resize_prob": [0, 1, 0], "jpeg_range": [30, 95]},
        {"blur_kernel_size": 9, "sinc_prob": 0.5},
        scale=2,
        sharpen="neither",
    )
    for seed in range(5):
        assert degrading.pipeline.draw(seed, (24, 24)) == expected.draw(seed, (24, 24))
    assert degrading.gt_px == 16
    assert degrading.pool.capacity == 4


@pytest.mark.parametrize(
    ("overrides", "target", "first"),
    [
        (["gt_usm=true"], ["usm"], "blur"),
        (["gt_usm=false"], [], "blur"),
        (ADVERSARIAL, [], "usm"),
        (["datasets.train.recipe=realesrnet"], ["usm"], "blur"),
        (["datasets.train.recipe=realesrgan"], [], "usm"),
    ],
)
def test_images_are_sharpened_once(option_file, overrides, target, first):
    if "recipe" in overrides[0]:
        overrides = [*overrides, "resize_prob=null", "jpeg_range=null"]
    drawn = preparations(option_file, *overrides)[0].pipeline.draw(0, (24, 24))
    assert [step["type"] for step in drawn["target"]] == target
    assert [step["type"] for step in drawn["steps"]].count("usm") == (first == "usm")
    assert drawn["steps"][0]["type"].endswith(first)


def test_only_those_targets_are_sharpened_that_want_it(option_file):
    degrading, sharpening = preparations(option_file, *ADVERSARIAL)
    assert isinstance(degrading, Degrading)
    gt = torch.rand(2, 3, 16, 16)
    batch = sharpening({"lq": gt[..., ::2], "gt": gt})
    targets = Adversarial.targets(None, batch)
    assert torch.equal(targets["pixel"], Usm()(gt))
    assert torch.equal(targets["perceptual"], targets["pixel"])
    assert torch.equal(targets["gan"], gt)
    assert torch.equal(targets["ldl"], gt)
    assert not torch.equal(targets["pixel"], gt)
    flags = ["l1_gt_usm=false", "percep_gt_usm=false", "gan_gt_usm=true"]
    assert preparations(option_file, *ADVERSARIAL, *flags)[-1].kinds == ("gan",)
    assert len(preparations(option_file, *ADVERSARIAL, *flags[:2])) == 1


def test_workers_and_objective_make_the_same_pairs(option_file, tmp_path):
    arguments = {"dataroot_gt": str(tmp_path / "gt"), "crop_pad_size": 24, "gt_size": 16}
    sharp = DATASETS.build({"type": "RealESRGANDataset", **arguments}, scale=2)
    pairs = DATASETS.build({"type": "DegradedImageDataset", "recipe": "realesrgan", **arguments}, scale=2)
    draws = [Draw(index, 5, index) for index in range(3)]
    patches = [sharp[draw] for draw in draws]
    gt = torch.stack([torch.from_numpy(patch["gt"]) for patch in patches]).permute(0, 3, 1, 2) / 255
    degrading = Degrading(load_pipeline("realesrgan", scale=2), 16, PairPool(6))
    batch = degrading({"gt": gt, "seed": [patch["seed"] for patch in patches]})
    for number, draw in enumerate(draws):
        expected = pairs[draw]
        for key in ("lq", "gt"):
            ours = batch[key][number].permute(1, 2, 0).mul(255).round().byte().numpy()
            assert np.array_equal(ours, expected[key])


@pytest.mark.parametrize("recipe", ["realesrgan", "bsrgan", "swinir_real"])
@pytest.mark.parametrize("where", ["workers", "device"])
def test_recipes_train_from_an_option_file(option_file, tmp_path, recipe, where):
    overrides = {
        "workers": ["model_type=SRModel", "datasets.train.type=DegradedImageDataset", "datasets.train.gt_size=16"],
        "device": [],
    }[where]
    clean = ["resize_prob=null", "jpeg_range=null"]
    sizes = ["datasets.train.crop_pad_size=32", f"datasets.train.recipe={recipe}", f"datasets.val.recipe={recipe}"]
    assert run(option_file, *overrides, *clean, *sizes, "train.total_iter=3", "val.val_freq=3") == 0
    weights = saved(tmp_path, iteration=3)[1]["params"]
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_pairs_train_without_degrading(option_file, tmp_path):
    for path in (tmp_path / "gt").iterdir():
        write_image(tmp_path / "lq" / path.name, read_image(path).pixels[::2, ::2])
    pairs = f"name: pairs, type: RealESRGANPairedDataset, dataroot_gt: {tmp_path}/gt, dataroot_lq: {tmp_path}/lq"
    block = f"{{{pairs}, gt_size: 16, batch_size_per_gpu: 2, num_worker_per_gpu: 0}}"
    overrides = [f"datasets={{train: {block}, val: {{{pairs}}}}}", "high_order_degradation=false"]
    assert run(option_file, *ADVERSARIAL, *overrides, "train.total_iter=2") == 0
    (sharpening,) = preparations(option_file, *ADVERSARIAL, *overrides)
    assert isinstance(sharpening, Sharpening)


@pytest.mark.parametrize(
    ("overrides", "path", "message"),
    [
        (["queue_size=5"], "queue_size", "multiple of the batch size 2: take 4 or 6"),
        (["gt_size=15"], "gt_size", "multiple of the scale 2"),
        (["gt_size=null"], "gt_size", "missing"),
        (["datasets.train.type=DegradedImageDataset"], "datasets.train.type", "RealESRGANDataset"),
        (["datasets.train.recipe=bsrgan", "datasets.train.sinc_prob=0"], "datasets.train.recipe",
         "in place of resize_prob, jpeg_range, datasets.train.sinc_prob"),
        (["datasets.train.gt_sizes=[16]", "datasets.train.mini_batch_sizes=[2]", "datasets.train.iters=[6]"],
         "datasets.train.gt_sizes", "keep one size"),
        (["resize_prob=[0.5, 0.5, 0.5]"], "resize_prob", "sum to 1"),
        (["resize_prob2=[0.5, 0.5]"], "resize_prob2", "three probabilities"),
        (["resize_range=[1.1, 1.5]"], "resize_range", "below 1"),
        (["gaussian_noise_prob=1.5"], "gaussian_noise_prob", "less than or equal to 1|at most 1"),
        (["noise_range=[30, 1]"], "noise_range", "lower limit comes first"),
        (["datasets.train.sinc_prob2=2"], "datasets.train.sinc_prob2", "probability"),
        (["datasets.train.kernel_prob=[0.5, 0.4]"], "datasets.train.kernel_prob", "6 probabilities that sum to 1"),
        (["datasets.train.blur_kernel_size2=8"], "datasets.train.blur_kernel_size2", "odd"),
        (["datasets.train.kernel_list=[isoo]", "datasets.train.kernel_prob=[1]"], "datasets.train.kernel_list.0",
         "Did you mean 'iso'"),
    ],
)  # fmt: skip
def test_mistakes_in_the_keys(option_file, overrides, path, message):
    with pytest.raises(OptionsError, match=message) as raised:
        load(option_file, overrides)
    assert [problem.path for problem in raised.value.problems] == [path]


def test_mistakes_in_the_keys_are_found_when_the_file_is_read(option_file):
    option_file.write_text(option_file.read_text().replace("[0.2, 0.7, 0.1]", "[0.2, 0.7, 0.2]"))
    line = 1 + option_file.read_text().splitlines().index("resize_prob: [0.2, 0.7, 0.2]")
    with pytest.raises(OptionsError, match=rf"train\.yml:{line}: resize_prob: must be three probabilities"):
        load(option_file)


def test_a_pool_of_its_own_size_fits_the_batch(option_file):
    (degrading,) = preparations(option_file, "queue_size=null", "datasets.train.batch_size_per_gpu=7")
    assert degrading.pool.capacity == 175


def test_what_a_validation_lacks_is_said_before_the_training(option_file, tmp_path):
    sharp = f"datasets.val={{name: val, type: RealESRGANDataset, dataroot_gt: {tmp_path}/gt}}"
    with pytest.raises(DataError, match="no degraded images to validate on"):
        run(option_file, sharp)
    alone = f"datasets.val={{name: val, type: SingleImageDataset, dataroot_lq: {tmp_path}/gt}}"
    with pytest.raises(DataError, match="no references to compare with for psnr"):
        run(option_file, alone)
    assert run(option_file, alone, "val={val_freq: 6, save_img: true}", "train.total_iter=1") == 0
    assert (tmp_path / "experiments/blind/visualization/0/0_1.png").is_file()


@pytest.mark.parametrize("model_type", ["ESRGANModel", "SRGANModel", "RealESRGANModel"])
def test_adversarial_objectives_blend_images(option_file, tmp_path, model_type):
    overrides = [*ADVERSARIAL, f"model_type={model_type}", "train.mixing_augs={mixup: true, cutmix: 0.5}"]
    kinds = [type(preparation) for preparation in preparations(option_file, *overrides)]
    assert kinds == ([Degrading, Mixing, Sharpening] if model_type == "RealESRGANModel" else [Mixing])
    if model_type != "RealESRGANModel":
        overrides += ["datasets.train.type=DegradedImageDataset", "datasets.train.gt_size=16"]
    assert run(option_file, *overrides, "train.total_iter=2") == 0


@pytest.mark.parametrize("overrides", [["model_type=SRModel"], [*ADVERSARIAL, "model_type=ESRGANModel"]])
def test_rectangles_are_exchanged_with_the_reference_where_sizes_agree(option_file, tmp_path, overrides):
    noise = f"name: noise, type: DegradedImageDataset, recipe: gaussian_noise, dataroot_gt: {tmp_path}/gt, gt_size: 16"
    train_block = f"{{{noise}, variables: {{sigma: 30}}, batch_size_per_gpu: 2, num_worker_per_gpu: 0}}"
    denoising = [f"datasets={{train: {train_block}}}", "scale=1", "network_g.upscale=1", "network_g.upsampler=''"]
    cutblur = ["train.mixing_augs={cutblur: 1}", "train.total_iter=2"]
    assert run(option_file, *overrides, *denoising, *cutblur) == 0
    run(option_file, *overrides, *denoising, "train.total_iter=2", "name=plain")
    assert not same(saved(tmp_path, iteration=2)[1], saved(tmp_path, "plain", 2)[1])


@pytest.mark.skipif(not FOLDER, reason="needs BasicSR's option files in RESTORE_BASICSR_OPTIONS")
@pytest.mark.parametrize("path", sorted(Path(FOLDER or ".").rglob("train_*Real*x*.yml")), ids=lambda path: path.stem)
def test_files_of_basicsr_train_with_tiny_networks(path, option_file, tmp_path):
    listing = tmp_path / "meta.txt"
    listing.write_text("0.png\n1.png\n2.png\n3.png\n")
    options = [
        *("num_gpu=0", "gt_size=32", "queue_size=4", "name=theirs", "train.total_iter=3", "logger.use_tb_logger=false"),
        *(f"datasets.train.dataroot_gt={tmp_path}/gt", f"datasets.train.meta_info={listing}"),
        *("datasets.train.gt_size=32", "datasets.train.crop_pad_size=40", "datasets.train.batch_size_per_gpu=2"),
        *("network_g.num_feat=4", "network_g.num_block=1", "network_g.num_grow_ch=2", "logger.print_freq=1"),
        *("path.pretrain_network_g=null", f"path.experiments_root={tmp_path}/experiments"),
    ]
    text = path.read_text()
    if "network_d:" in text:
        options += ["network_d.num_feat=2", "train.perceptual_opt=null"]
    if "RealWorld38" in text:
        options += [f"datasets.val.dataroot_lq={tmp_path}/gt", "val.val_freq=3"]
    assert run(path, *options) == 0
    assert saved(tmp_path, "theirs", 3)[0]["restore"]["objective"][0]["Degrading"]["num"] == 4

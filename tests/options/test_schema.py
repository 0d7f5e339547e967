"""The typed options: what BasicSR and its forks write, and what comes out."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import pytest

from restore.errors import OptionsError
from restore.options import Options, load
from restore.options.schema.section import Section
from restore.signature import model_in


def loaded(path, *overrides, **arguments) -> Options:
    return load(path, overrides, check_components=False, **arguments)


def assert_survives_a_dump(options: Options, write) -> None:
    again = loaded(write(options.dump(), "dumped.yml"), is_train=options.is_train)
    assert again == options
    assert again.dump().partition("\nname:")[2] == options.dump().partition("\nname:")[2]


def test_training_file(training, write):
    options = loaded(training)
    assert options.is_train
    assert (options.name, options.model_type, options.scale, options.num_gpu) == ("small", "SRModel", 4, 0)
    assert options.network_g == {"type": "Net", "width": 32, "depths": [2, 2]}
    assert options.train.optim_g["lr"] == 2e-4
    assert isinstance(options.val.val_freq, int)
    assert options.val.val_freq == options.logger.save_checkpoint_freq == 5000
    assert options.train.losses() == {"pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"}}
    assert list(options.train.optimizers()) == ["optim_g"]
    (train,) = options.phases("train")
    assert (train.key, train.phase, train.scale, train.batch_size_per_gpu) == ("train", "train", 4, 8)
    assert train.block == {
        "type": "PairedImageDataset",
        "dataroot_gt": "data/gt",
        "dataroot_lq": "data/lq",
        "filename_tmpl": "{}x4",
        "gt_size": 64,
        "use_hflip": True,
        "use_rot": True,
    }
    assert_survives_a_dump(options, write)


def test_smallest_test_file(write):
    path = write("name: a\nnetwork_g: {type: Net}\n")
    options = loaded(path)
    assert not options.is_train
    assert (options.scale, options.num_gpu, options.train) == (1, "auto", None)
    assert (options.runtime.arguments()["tile"], options.runtime.precision) == ("auto", "fp32")
    assert_survives_a_dump(options, write)


def test_null_sections_and_blocks_are_absent(training):
    options = loaded(training, "val=~", "logger=~", "datasets.val=~", "train.perceptual_opt=~", "path=~")
    assert options.val.metrics == {}
    assert options.logger.print_freq == 100
    assert list(options.datasets) == ["train"]
    assert "perceptual_opt" not in options.train.losses()


def test_null_is_kept_where_it_says_something(write):
    options = loaded(write("name: a\nnetwork_g: {type: Net}\npath: {param_key_g: ~}\n"))
    assert options.path.param_key_g is None
    assert_survives_a_dump(options, write)


def test_phases(write):
    path = write(
        """
        name: a
        scale: 2
        network_g: {type: Net}
        datasets:
          test_2: {name: B, type: D}
          val: {name: C, type: D}
          test: {name: A, type: D}
          test10: {name: E, type: D}
          val_extra_large: {name: F, type: D}
        """
    )
    options = loaded(path)
    assert [dataset.name for dataset in options.phases("test")] == ["B", "A", "E"]
    assert [dataset.key for dataset in options.phases("val")] == ["val", "val_extra_large"]
    assert len(list(options.phases("val", "test"))) == 5
    assert {dataset.scale for dataset in options.datasets.values()} == {2}


def test_further_networks_losses_and_optimizers(training, write):
    options = loaded(
        training,
        "network_teacher={type: Net}",
        "path.pretrain_network_teacher=teacher.pth",
        "path.param_key_teacher=~",
        "path.strict_load_teacher=false",
        "train.fft_opt={type: FFTLoss, loss_weight: 0.1}",
        "train.optim_teacher={type: Adam, lr: 1e-4}",
    )
    assert list(options.networks) == ["network_g", "network_teacher"]
    assert options.path.pretrained("network_teacher") == ("teacher.pth", None, False)
    assert options.path.pretrained() == (None, "params", True)
    assert options.path.pretrained("network_other") == (None, "params", True)
    assert list(options.train.losses()) == ["pixel_opt", "fft_opt"]
    assert options.train.optimizers()["optim_teacher"]["lr"] == 1e-4
    assert_survives_a_dump(options, write)


def test_real_esrgan_keys(training, write):
    degradation = {
        "l1_gt_usm": True,
        "percep_gt_usm": True,
        "gan_gt_usm": False,
        "gt_usm": True,
        "high_order_degradation": False,
        "gt_size": 256,
        "queue_size": 180,
        "second_blur_prob": 0.8,
    }
    for end, resize in (("", [0.2, 0.7, 0.1]), ("2", [0.3, 0.4, 0.3])):
        degradation |= {
            f"resize_prob{end}": resize,
            f"resize_range{end}": (0.15, 1.5),
            f"gaussian_noise_prob{end}": 0.5,
            f"noise_range{end}": (1, 30),
            f"poisson_scale_range{end}": (0.05, 3),
            f"gray_noise_prob{end}": 0.4,
            f"jpeg_range{end}": (30, 95),
        }
    given = [f"{key}={list(value) if isinstance(value, tuple) else value}" for key, value in degradation.items()]
    options = loaded(training, *given, "model_type=RealESRGANModel")
    assert options.degradation == degradation
    assert options.resize_range2 == (0.15, 1.5)
    assert loaded(training).degradation == {}
    assert_survives_a_dump(options, write)


def test_real_esrgan_dataset_keys_belong_to_the_dataset(training):
    options = loaded(training, "datasets.train.blur_sigma2=[0.2, 1.5]", "datasets.train.final_sinc_prob=0.8")
    block = options.datasets["train"].block
    assert block["blur_sigma2"] == [0.2, 1.5]
    assert block["final_sinc_prob"] == 0.8


def test_restormer_keys(training, write, caplog):
    caplog.set_level(logging.INFO, "restore")
    options = loaded(
        training,
        "model_type=ImageCleanModel",
        "datasets.train.mini_batch_sizes=[8, 5]",
        "datasets.train.iters=[92000, 64000]",
        "datasets.train.gt_sizes=[64, 96]",
        "datasets.train.geometric_augs=true",
        "datasets.train.sigma_type=random",
        "datasets.train.sigma_range=[0, 50]",
        "datasets.train.in_ch=3",
        "datasets.train.dataroot_lq=none",
        "train.use_grad_clip=true",
        "train.mixing_augs={mixup: true, mixup_beta: 1.2, use_identity: true}",
        "train.scheduler={type: CosineAnnealingRestartCyclicLR, periods: [92000, 208000], eta_mins: [3e-4, 1e-6]}",
        "val.window_size=8",
        "val.rgb2bgr=true",
        "val.use_image=false",
        "val.max_minibatch=8",
    )
    train = options.datasets["train"]
    assert (train.mini_batch_sizes, train.iters, train.gt_sizes) == ([8, 5], [92000, 64000], [64, 96])
    assert train.dataroot_lq is None
    assert "dataroot_lq" not in train.block
    assert train.block["sigma_range"] == [0, 50]
    assert "iters" not in train.block
    assert options.train.gradient_limit == 0.01
    assert options.train.mixing.use_identity
    assert options.runtime.tile_batch == 8
    assert "--set val.rgb2bgr=true: val.rgb2bgr has no effect here: images are RGB everywhere." in caplog.text
    assert_survives_a_dump(options, write)


def test_nafnet_keys(training, write):
    options = loaded(
        training,
        "model_type=ImageRestorationModel",
        "datasets.train.use_flip=true",
        "datasets.train.use_shuffle=true",
        "train.mixup=false",
        "val.grids=true",
        "val.crop_size_h=256",
        "val.crop_size_w=320",
        "val.max_minibatch=4",
        "val.trans_num=1",
    )
    assert options.datasets["train"].block["use_flip"] is True
    assert "use_shuffle" not in options.datasets["train"].block
    assert (options.runtime.tile, options.runtime.tile_batch, options.runtime.self_ensemble) == (320, 4, False)
    assert options.train.gradient_limit == 0.01  # which NAFNet's files do not say
    assert not options.train.mixing.mixup
    assert_survives_a_dump(options, write)


@pytest.mark.parametrize(
    ("change", "limit"),
    [("train.use_grad_clip=false", None), ("train.clip_norm=1.0", 1.0), ("model_type=SRModel", None)],
)
def test_clipping_of_nafnet_is_a_default(training, change, limit):
    assert loaded(training, "model_type=ImageRestorationModel", change).train.gradient_limit == limit


def test_hat_tile(training, write):
    options = loaded(training, "tile={tile_size: 256, tile_pad: 32}")
    assert (options.runtime.tile, options.runtime.tile_overlap) == (320, 64)
    assert_survives_a_dump(options, write)
    chosen = loaded(training, "tile={tile_size: 256, tile_pad: 32}", "runtime.tile=128")
    assert (chosen.runtime.tile, chosen.runtime.tile_overlap) == (128, 64)


def test_keys_that_old_files_have_at_the_top(write):
    empty = write("name: a\nnetwork_g: {type: Net}\nval: {suffix: ''}\n")
    assert loaded(empty).val.suffix is None  # as in BasicSR
    path = write("name: a\nnetwork_g: {type: Net}\nsave_img: true\nsuffix: x2\ncrop_border: ~\n")
    assert (loaded(path).val.save_img, loaded(path).val.suffix) == (True, "x2")
    assert loaded(path, "val.save_img=false").val.save_img is False


def test_paths(training, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    paths = loaded(training).paths
    assert paths.experiments_root == tmp_path / "experiments" / "small"
    assert paths.visualization == tmp_path / "experiments" / "small" / "visualization"
    assert paths.tb_logger == tmp_path / "tb_logger" / "small"
    tested = loaded(training, "path.results_root=~/out", is_train=False).paths
    assert tested.results_root == tested.log == Path.home() / "out" / "small"
    assert tested.visualization == Path.home() / "out" / "small" / "visualization"


def test_home_is_expanded_and_the_environment_is_not(training, monkeypatch):
    monkeypatch.setenv("DATA", "/data")
    options = loaded(training, "datasets.train.dataroot_gt=~/gt", "datasets.train.dataroot_lq=[~/lq, $DATA/lq]")
    assert options.datasets["train"].dataroot_gt == str(Path.home() / "gt")
    assert options.datasets["train"].dataroot_lq == [str(Path.home() / "lq"), "$DATA/lq"]


def test_debug_shortens_a_training(training):
    options = loaded(training, debug=True)
    assert options.name == "debug_small"
    assert (options.val.val_freq, options.logger.print_freq, options.logger.save_checkpoint_freq) == (8, 1, 8)
    assert not options.logger.use_tb_logger
    tested = loaded(training, debug=True, is_train=False)
    assert (tested.name, tested.val.val_freq) == ("debug_small", 5000)
    assert loaded(training, "name=debug_it", debug=True).name == "debug_it"
    assert loaded(training, "name=debug_it").logger.print_freq == 1


def test_options_share_nothing(write):
    path = write("name: a\nnetwork_g: {type: Net}\n")
    one, other = loaded(path), loaded(path)
    one.logger.wandb.project = "mine"
    one.val.metrics["x"] = {"type": "y"}
    assert other.logger.wandb.project is None
    assert other.val.metrics == {}
    assert loaded(path) == other != one


def test_the_dump_says_where_it_comes_from(training):
    header = loaded(training, "train.ema_decay=0.99").dump().splitlines()[:2]
    assert header == [f"# resolved from {training}", "# --set train.ema_decay=0.99"]


def sections() -> dict[str, type[Section]]:
    found, waiting = {}, [Options]
    while waiting:
        section = waiting.pop()
        found[section.__name__] = section
        for annotation in (field.annotation for field in section.model_fields.values()):
            inner = model_in(annotation) or next(filter(None, map(model_in, getattr(annotation, "__args__", ()))), None)
            if inner is not None and inner.__name__ not in found:
                waiting.append(inner)
    return found


def test_every_option_is_described():
    found = sections()
    assert {"Options", "DatasetOptions", "TrainOptions", "ValOptions", "StorageOptions", "WandbOptions"} <= set(found)
    fields = itertools.chain(*(section.model_fields.items() for section in found.values()))
    assert [name for name, field in fields if not (field.description or "").endswith((".", "..."))] == []


def test_runtime_is_what_the_restorer_takes():
    import inspect

    inference = pytest.importorskip("restore.inference")
    own = {"network", "spec", "outscale", "size"}  # results of other sizes cannot be compared with references
    arguments = set(inspect.signature(inference.Restorer).parameters) - own
    from restore.options.schema.runtime import RuntimeOptions

    assert set(RuntimeOptions.model_fields) == arguments


def test_unknown_section_argument_is_an_error(training):
    with pytest.raises(
        OptionsError, match=r"--set runtime\.tiles=5: runtime\.tiles: unknown option\. Did you mean 'tile'"
    ):
        loaded(training, "runtime.tiles=5")

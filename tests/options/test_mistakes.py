"""Every mistake is reported at once, where it stands, and with what to do."""

from __future__ import annotations

import pytest

from restore.errors import OptionsError
from restore.options import load


def mistakes(path, *overrides, **arguments) -> list[str]:
    with pytest.raises(OptionsError) as caught:
        load(path, overrides, **arguments)
    return [str(problem).replace(f"{path}:", "") for problem in caught.value.problems]


def test_all_at_once_in_the_order_of_the_file(write, fakes):
    path = write(
        """
        nmae: demo
        model_type: SRModle
        scale: four
        num_gpu: [1]
        save_imgs: true
        val_freq: 500
        datasets:
          test_1:
            name: 2024
            type: PairedImageDataset
            dataroot_lq: lq
            io_backend: {type: memcached}
            num_workers_per_gpu: 5
          foo: {name: foo, type: PairedImageDatset}
        network_g:
          type: Net
          widht: 8
          depths: 6
        network_d: {type: Jugde}
        path: {strict_load_g: maybe}
        train:
          total_iter: 0
          optim_g: {type: Adam}
          pixel_opt: {loss_weight: 1}
          ema_decay: 1.5
        val: {metrics: {psnr: {type: calculate_psnr}}}
        logger: 5
        runtime: {precision: fp8, tile: big}
        """
    )
    found = mistakes(path, "network_g.width=abc")
    starts = [
        "1: nmae: unknown option. Did you mean 'name'? Allowed: name, model_type,",
        "2: model_type: unknown model_type 'SRModle'. Did you mean 'SRModel'?",
        "3: scale: expected a whole number; given: 'four'.",
        "4: num_gpu: expected 'auto' or a whole number; given: [1].",
        "5: save_imgs: unknown option. Did you mean 'val.save_img'? Allowed: ",
        "6: val_freq: unknown option. It belongs elsewhere: val.val_freq. Allowed: ",
        "8: datasets.test_1.dataroot_gt: missing: this option of PairedImageDataset has no default.",
        "9: datasets.test_1.name: expected text; given: 2024. Put it in quotes to make it text: '2024'.",
        "12: datasets.test_1.io_backend.type: expected 'disk' or 'lmdb'; given: 'memcached'.",
        (
            "13: datasets.test_1.num_workers_per_gpu: unknown option of PairedImageDataset."
            " Did you mean 'num_worker_per_gpu'? Allowed: dataroot_gt,",
        ),
        "14: datasets.foo: the key of a dataset begins with its phase: train, val or test (val_2); given: 'foo'.",
        "14: datasets.foo.type: unknown dataset 'PairedImageDatset'. Did you mean 'PairedImageDataset'?",
        "17: network_g.widht: unknown option of Net. Did you mean 'width'? Allowed: width, depths, kind.",
        "18: network_g.depths: expected a list such as [1, 2]; given: 6.",
        "19: network_d.type: unknown discriminator 'Jugde'. Did you mean 'Judge'? Known: Judge.",
        "20: path.strict_load_g: expected true or false; given: 'maybe'.",
        "22: train.total_iter: expected a number above 0; given: 0.",
        "23: train.optim_g: this block needs `lr:`, the learning rate (2e-4 is usual); given: {'type': 'Adam'}.",
        "24: train.pixel_opt: this block needs `type:`, the name of a component; given: {'loss_weight': 1}.",
        "25: train.ema_decay: expected a number below 1; given: 1.5.",
        "26: val.metrics.psnr.crop_border: missing: this option of calculate_psnr has no default.",
        "27: logger: expected a block of `key: value` lines; given: 5.",
        "28: runtime.precision: expected 'auto', 'fp32', 'bf16' or 'fp16'; given: 'fp8'.",
        "28: runtime.tile: expected 'auto' or a whole number; given: 'big'.",
        " name: missing. Name of the run: its folder under experiments/ and results/.",
        "--set network_g.width=abc: network_g.width: expected a whole number; given: 'abc'.",
    ]
    assert len(found) == len(starts), "\n".join(found)
    for message, start in zip(found, starts, strict=True):
        assert message.startswith(start)


def test_components_inside_components_are_checked_where_they_are_written(write):
    base = write(
        "network_t: {type: UNetRestorer, encoder: {type: conv_pyramid,\n  widht: 8}, mixer: windo}\n", "base.yml"
    )
    path = write(
        """
        extends: base.yml
        name: demo
        network_g:
          type: MetaFormerRestorer
          mixers:
            - type: window
              windw_size: 8
              dim: 60
            - {type: windo}
            - shiftd_window
            - [window]
            - {window_size: 8}
          depths: [6, six]
        datasets:
          train:
            name: two
            type: MultiTaskDataset
            batch_size_per_gpu: 2
            tasks:
              sr: {type: DownsampledImageDataset, dataroot_gt: gt, gtsize: 3}
              dn: {type: DownsampledDataset}
        """
    )
    starts = [
        "7: network_g.mixers.0.windw_size: unknown option of window. Did you mean 'window_size'? Allowed: num_heads,",
        "8: network_g.mixers.0.dim: not an option of window here: it is set by what uses it. Remove it.",
        "9: network_g.mixers.1.type: unknown mixer 'windo'. Did you mean 'window'? Known: ",
        "10: network_g.mixers.2: unknown mixer 'shiftd_window'. Did you mean 'shifted_window'? Known: ",
        "11: network_g.mixers.3: expected the name of a mixer or a block {type: NAME, argument: value}; given: ",
        "12: network_g.mixers.4.type: missing: the name of the mixer. Known: ",
        "13: network_g.depths.1: expected a whole number; given: 'six'.",
        "20: datasets.train.tasks.sr.gtsize: unknown option of DownsampledImageDataset. Did you mean 'gt_size'?",
        "21: datasets.train.tasks.dn.type: unknown dataset 'DownsampledDataset'. Did you mean",
        f"{base}:2: network_t.encoder.widht: unknown option of conv_pyramid. Did you mean 'widths'?",
        f"{base}:2: network_t.mixer: unknown mixer 'windo'. Did you mean 'window'?",
    ]
    found = mistakes(path, is_train=False)
    assert len(found) == len(starts), "\n".join(found)
    for message, start in zip(found, starts, strict=True):
        assert message.startswith(start)


def test_a_right_file_has_none(training, fakes):
    assert load(training).train.total_iter == 5000


def test_mistakes_in_an_extended_file_name_that_file(write, fakes):
    base = write("network_g:\n  type: Net\n  widht: 5\n", "base.yml")
    path = write("extends: base.yml\nname: a\nscale: x\n")
    assert mistakes(path) == [
        "3: scale: expected a whole number; given: 'x'.",
        f"{base}:3: network_g.widht: unknown option of Net. Did you mean 'width'? Allowed: width, depths, kind.",
    ]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["datasets.train=~"], "datasets.train: missing: training needs a dataset called train."),
        (["train=~"], "train: missing: training needs at least"),
        (["train.optim_g=~"], "train.optim_g: missing: network_g needs an optimizer such as"),
        (["network_g=~"], "network_g: missing: give a block such as {type: SwinIR, upscale: 4}."),
        (["network_d={type: Judge}"], "train.optim_d: missing: network_d needs an optimizer"),
        (["datasets.train.gt_size=66"], "datasets.train.gt_size: 66 is not a multiple of the scale 4: take 64 or 68."),
        (["datasets.train.gt_size=3"], "datasets.train.gt_size: 3 is not a multiple of the scale 4: take 4."),
        (["datasets.train.gt_sizes=[64, 66]"], "datasets.train.gt_sizes: 66 is not a multiple"),
        (["datasets.train.iters=[5, 6]"], "entries: mini_batch_sizes not given, iters 2, gt_sizes not given."),
        (["datasets.val_2={name: Set5, type: PairedImageDataset}"], "'Set5' is the name of datasets.val too"),
        (["resize_range=[2, 1]"], "resize_range: the lower limit comes first; given: [2, 1]."),
        (["resize_range=[1]"], "resize_range.1: missing: this list needs at least 2 values."),
        (["second_blur_prob=1.5"], "second_blur_prob: expected a number of at most 1; given: 1.5."),
        (
            ["train.tsa_iter=5"],
            "train.tsa_iter: only components that are not part of this package read it: none of its",
        ),
        (["val.metrics.psnr=5"], "val.metrics.psnr: expected a block of `key: value` lines; given: 5."),
        (["val.metrics=psnr"], "val.metrics: expected a block of `key: value` lines; given: 'psnr'."),
        (["datasets=5"], "datasets: expected a block of `key: value` lines; given: 5."),
        (["datasets.train.color=cmyk"], "datasets.train.color: expected 'rgb', 'y', 'grey' or 'gray'; given: 'cmyk'."),
        (
            ["name=../else"],
            "name: '../else' cannot name files: it is not a name: not empty, no '..', no '/'.",
        ),
        (["name=a/b"], "name: 'a/b' cannot name files"),
        (["name=''"], "name: '' cannot name files"),
        (["name=~"], "name: expected text; given: None."),
        (["path.ignore_resume_networks=a"], "path.ignore_resume_networks: expected a list such as [1, 2]; given: 'a'."),
    ],
)
def test_what_must_hold_for_training(training, overrides, message):
    found = mistakes(training, *overrides, is_train=True, check_components=False)
    assert any(message in problem for problem in found), found


def test_batch_size_must_be_given_for_training(write):
    path = write("name: a\nnetwork_g: {type: Net}\ndatasets:\n  train: {name: a, type: A}\n")
    found = mistakes(path, is_train=False, check_components=False)
    assert found == ["4: datasets.train.batch_size_per_gpu: missing: the number of samples in a batch on each device."]


def test_a_test_needs_a_network_or_weights(write):
    assert mistakes(write("name: a\n"), check_components=False) == [
        " network_g: missing: give a block such as {type: SwinIR, upscale: 4}, or name weights in"
        " path.pretrain_network_g to find it from them."
    ]
    assert load(write("name: a\npath: {pretrain_network_g: swinir.pth}\n")).network_g is None


VIDEO = """
    name: video
    model_type: EDVRModel
    scale: 4
    datasets:
      train:
        name: REDS
        type: REDSDataset
        dataroot_gt: gt
        dataroot_flow: ~
        val_partition: REDS4
        num_frame: 5
        gt_size: 256
        batch_size_per_gpu: 4
      val: {name: REDS4, type: VideoTestDataset, num_frame: 5, cache_data: false, padding: replicate}
    network_g: {type: EDVR, num_frame: 5}
    train:
      total_iter: 600
      optim_g: {type: Adam, lr: 4e-4}
      pixel_opt: {type: L1Loss}
      tsa_iter: 50
      dcn_lr_mul: 1
    val: {flip_seq: true, center_frame_only: true}
"""

STYLEGAN = """
    name: faces
    model_type: StyleGAN2Model
    datasets: {train: {name: FFHQ, type: FFHQDataset, batch_size_per_gpu: 3, mean: [0.5, 0.5, 0.5]}}
    network_g: {type: StyleGAN2Generator, out_size: 256}
    network_d: {type: StyleGAN2Discriminator, out_size: 256}
    train:
      total_iter: 800
      optim_g: {type: Adam, lr: 2e-3}
      optim_d: {type: Adam, lr: 2e-3}
      r1_reg_weight: 10
      path_reg_weight: 2
      path_batch_shrink: 2
      mixing_prob: 0.9
      net_g_reg_every: 4
      net_d_reg_every: 16
"""


RESTORMER = """
    name: motion
    model_type: SRModel
    scale: 1
    datasets:
      train: {name: GoPro, type: PairedImageDataset, dataroot_gt: gt, dataroot_lq: lq, gt_size: 256,
              batch_size_per_gpu: 4}
    network_g: {type: Restormer, inp_channels: 3}
    train:
      total_iter: 800
      optim_g: {type: Adam, lr: 2e-4}
      pixel_opt: {type: L1Loss}
"""

STEREO = """
    name: stereo
    model_type: SRModel
    scale: 2
    datasets: {test: {name: KITTI, type: PairedStereoImageDataset, dataroot_gt: hr, dataroot_lq: lr}}
    network_g: {type: NAFSSR, up_scale: 2}
    path: {pretrain_network_g: a.pth}
    val:
      metrics:
        ssim: {type: calculate_skimage_ssim, crop_border: 0}
"""


@pytest.mark.parametrize(
    ("snippet", "start", "parts"),
    [
        (
            VIDEO,
            "15: network_g.type: EDVR is not part of this package: ",
            [
                "SwinIR",
                "model_type: EDVRModel",
                "datasets.train.type: REDSDataset",
                "datasets.val.type: VideoTestDataset",
            ],
        ),
        (
            STYLEGAN,
            "4: network_g.type: StyleGAN2Generator is not part of this package: ",
            ["ESRGANModel", "FFHQDataset"],
        ),
        (RESTORMER, "7: network_g.type: Restormer is not part of this package: ", ["spandrel_extra_arches"]),
        (STEREO, "5: network_g.type: NAFSSR is not part of this package: ", ["SwinIR", "calculate_skimage_ssim"]),
    ],
    ids=["video", "stylegan", "restormer", "stereo"],
)
@pytest.mark.parametrize("check_components", [False, True])
def test_components_that_are_known_but_not_here_are_one_mistake(write, fakes, snippet, start, parts, check_components):
    (message,) = mistakes(write(snippet), check_components=check_components)
    assert message.startswith(start)
    for part in parts:
        assert part in message


def test_a_known_name_that_gets_registered_is_simply_there(training, fakes):
    fakes["network"].add("Restormer")(object)
    assert load(training, ["network_g={type: Restormer}"]).network_g == {"type": "Restormer"}


def test_a_registry_without_its_package_checks_nothing(training, monkeypatch):
    from restore.options import components
    from restore.registry import Registry

    nowhere = Registry("network", "restore.not_installed")
    monkeypatch.setattr(components, "SLOTS", (components.Slot("network_*", nowhere),))
    monkeypatch.setattr(components, "OBJECTIVES", Registry("model_type", "restore.not_installed"))
    assert load(training).network_g["type"] == "Net"


def test_a_dependency_that_is_missing_is_not_hidden(training, monkeypatch, tmp_path):
    from restore.options import components
    from restore.registry import Registry

    (tmp_path / "needs_more.py").write_text("import a_library_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(components, "SLOTS", (components.Slot("network_*", Registry("network", "needs_more")),))
    with pytest.raises(ModuleNotFoundError, match="a_library_that_nobody_has"):
        load(training)


TRAINING = """
name: demo
scale: 2
model_type: SRModel
datasets:
  train: {name: t, type: PairedImageDataset, dataroot_gt: a, dataroot_lq: b, gt_size: 48, batch_size_per_gpu: 4}
network_g: {type: SwinIR, upscale: 2}
train:
  total_iter: 100
  optim_g: {type: Adam, lr: 1e-3}
  pixel_opt: {type: L1Loss}
"""
REALESRGAN = ["datasets.train.type=RealESRGANDataset", "model_type=RealESRNetModel", "datasets.train.dataroot_lq=~"]

BEFORE_TRAINING = {
    "no patch": (["datasets.train.gt_size=~"], "datasets.train.gt_size: missing: the side of the patches"),
    "stages": (
        [f"datasets.train.{key}" for key in ("mini_batch_sizes=[8, 4]", "iters=[50, 50]", "gt_sizes=[16, 32]")],
        "datasets.train.mini_batch_sizes: a stage takes 8 samples, and batch_size_per_gpu is 4",
    ),
    "periods": (
        ["train.scheduler={type: CosineAnnealingRestartLR, periods: [20, 30], restart_weights: [1, 1]}"],
        "train.scheduler.periods: the schedule ends after 50 iterations, and train.total_iter is 100: the last 50 "
        "would learn next to nothing. Write periods: [20, 80].",
    ),
    "T_max": (["train.scheduler={type: TrueCosineAnnealingLR, T_max: 90}"], "Write T_max: 100."),
    "one cycle": (["train.scheduler={type: OneCycleLR, max_lr: 1e-3, total_steps: 99}"], "Write total_steps: 100."),
    "mirrored": (
        [*REALESRGAN, "datasets.train.gt_size=480"],
        "datasets.train.gt_size: 480 is more than the crop_pad_size of RealESRGANDataset, 400 px",
    ),
    "mirrored, at the top": ([*REALESRGAN, "gt_size=404"], "gt_size: 404 is more than the crop_pad_size"),
    "mirrored less": ([*REALESRGAN, "datasets.train.crop_pad_size=40"], "gt_size: 48 is more than the crop_pad_size"),
}


@pytest.mark.parametrize("case", BEFORE_TRAINING)
def test_what_would_only_be_met_in_training(write, case):
    overrides, message = BEFORE_TRAINING[case]
    found = mistakes(write(TRAINING), *overrides)
    assert len(found) == 1, found
    assert message in found[0]


@pytest.mark.parametrize("case", ["periods", "T_max", "one cycle"])
@pytest.mark.parametrize("resumes", [True, False])
def test_a_run_may_go_on_after_its_schedule(write, case, resumes, caplog):
    overrides, message = BEFORE_TRAINING[case]
    if not resumes:
        overrides = [*overrides, "path.resume_state=a.state"]
    load(write(TRAINING), overrides, resumes=resumes)
    assert message in caplog.text


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["train.scheduler={type: CosineAnnealingRestartLR, periods: [100], restart_weights: [1]}"],
        ["train.scheduler={type: TrueCosineAnnealingLR, T_max: 200}"],
        [*REALESRGAN, "datasets.train.gt_size=400"],
        [*REALESRGAN, "datasets.train.gt_size=480", "datasets.train.crop_pad_size=480"],
    ],
)
def test_what_fits_is_read(write, overrides):
    load(write(TRAINING), overrides)


def test_a_test_does_not_ask_for_patches(write):
    load(write(TRAINING), ["datasets.train.gt_size=~"], is_train=False)

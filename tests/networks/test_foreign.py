"""Networks that spandrel has the code of, by their names: their arguments, outputs, keys and training."""

from __future__ import annotations

import copy
import inspect

import numpy as np
import pytest
import torch

from restore.assembly.networks import shape_of_network
from restore.errors import OptionsError
from restore.images import write_image
from restore.networks import Network
from restore.networks.foreign import PADS_AGAIN, SpandrelNames, load_foreign
from restore.options import load
from restore.registry import NETWORKS
from restore.zoo import load_network

spandrel = pytest.importorskip("spandrel")
pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")

SMALL = {
    "ATD": {"upscale": 2, "embed_dim": 12, "depths": [1], "num_heads": [2], "window_size": 8, "num_tokens": 8,
            "upsampler": "pixelshuffledirect"},
    "CRAFT": {"upscale": 2, "depths": [1], "num_heads": [6]},
    "DAT": {"upscale": 2, "embed_dim": 32, "depth": [2], "num_heads": [2], "split_size": [2, 4]},
    "DRCT": {"upscale": 2, "embed_dim": 12, "depths": [1], "num_heads": [2], "window_size": 8, "gc": 4,
             "upsampler": "pixelshuffle"},
    "GRL": {"upscale": 2, "embed_dim": 12, "depths": [1], "num_heads_window": [1], "num_heads_stripe": [1],
            "window_size": 8, "stripe_size": [8, None], "stripe_groups": [None, 4], "upsampler": "pixelshuffledirect"},
    "HAT": {"upscale": 2, "embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 8, "compress_ratio": 3,
            "squeeze_factor": 4, "upsampler": "pixelshuffle"},
    "NAFNet": {"width": 8, "enc_blk_nums": [1, 1], "middle_blk_num": 1, "dec_blk_nums": [1, 1]},
    "OmniSR": {"up_scale": 2, "num_feat": 16, "res_num": 1},
    "PLKSR": {"dim": 16, "n_blocks": 2, "upscaling_factor": 2},
    "RealPLKSR": {"dim": 16, "n_blocks": 2, "upscaling_factor": 2},
    "RGT": {"upscale": 2, "embed_dim": 32, "depth": [2], "num_heads": [2], "split_size": [8, 8]},
    "SAFMN": {"dim": 12, "n_blocks": 1, "upscaling_factor": 2},
    "SCUNet": {"config": [1, 1, 1, 1, 1, 1, 1], "dim": 64},
    "SPAN": {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8, "upscale": 2},
    "Swin2SR": {"upscale": 2, "embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 8,
                "upsampler": "pixelshuffledirect"},
}  # fmt: skip
"""Small forms; what is compared is computed by spandrel itself."""


def build(name):
    torch.manual_seed(0)
    return NETWORKS.build({"type": name, **SMALL[name]}).eval()


@pytest.mark.parametrize("name", SMALL)
def test_outputs_and_keys_are_those_of_spandrel(name):
    network = build(name)
    state = network.state_dict()
    theirs = type(network).original(**SMALL[name]).eval()
    assert theirs.state_dict().keys() == state.keys()
    theirs.load_state_dict(state)
    image = torch.rand(1, network.spec.in_channels, 64, 64)
    with torch.no_grad():
        if name not in PADS_AGAIN:
            assert (network(image) - theirs(image)).abs().max() <= 1e-5
        assert network(image[..., :19, :5]).shape[-2:] == (19 * network.spec.scale, 5 * network.spec.scale)
        assert network(image[..., :1, :1]).isfinite().all()


@pytest.mark.parametrize("name", SMALL)
def test_gradients_reach_the_image(name):
    network = build(name).train()
    image = torch.rand(2, network.spec.in_channels, 17, 21, requires_grad=True)
    network(image).square().mean().backward()
    assert image.grad.isfinite().all()
    assert image.grad.abs().max() > 0


@pytest.mark.parametrize("name", ["HAT", "NAFNet", "CRAFT"])
def test_copies_and_loaded_files_are_networks_of_the_same_kind(name, tmp_path):
    network = build(name)
    image = torch.rand(1, 3, 21, 17)
    torch.save({"params": network.state_dict()}, tmp_path / "x.pth")
    loaded = load_network(tmp_path / "x.pth")
    assert type(loaded).__mro__[1] is type(network).__mro__[1]
    with torch.no_grad():
        wanted = network(image)
        torch.testing.assert_close(copy.deepcopy(network)(image), wanted, rtol=0, atol=0)
        torch.testing.assert_close(loaded(image), wanted, rtol=0, atol=1e-6)
    told = load_foreign(network.state_dict())
    assert type(told) is type(network)


def test_the_published_argument_recomputes_activations():
    """`use_checkpoint`, which spandrel leaves out; where it has an argument of the name, that one stands."""
    network = NETWORKS.build({"type": "ATD", **SMALL["ATD"], "use_checkpoint": True})
    assert network.use_checkpoint is True
    assert build("ATD").use_checkpoint is False
    assert network.state_dict().keys() == build("ATD").state_dict().keys()
    with pytest.raises(OptionsError, match="use_checkpoint"):
        NETWORKS.build({"type": "ATD", **SMALL["ATD"], "use_checkpoint": "sometimes"})


def test_nafnet_local_is_nafnet_up_to_the_size_of_its_windows():
    block = {**SMALL["NAFNet"], "train_size": [1, 3, 32, 48]}
    torch.manual_seed(0)
    local, plain = NETWORKS.build({"type": "NAFNetLocal", **block}).eval(), build("NAFNet")
    local.load_state_dict(plain.state_dict())
    for module in (*local.modules(), *plain.modules()):
        for name in ("beta", "gamma"):
            if isinstance(getattr(module, name, None), torch.nn.Parameter):
                torch.nn.init.normal_(getattr(module, name), generator=torch.Generator().manual_seed(1))
    small, large = torch.rand(1, 3, 48, 72), torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(local(small), plain(small), rtol=0, atol=1e-5)
        assert (local(large) - plain(large)).abs().max() > 1e-4
    with pytest.raises(OptionsError, match="a training patch"):
        NETWORKS.build({"type": "NAFNetLocal", "train_size": [256, 256]})


EXTRA = {
    "Restormer": {"dim": 16, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1, "heads": [1, 1, 2, 2]},
    "SRFormer": {"upscale": 2, "img_size": 16, "embed_dim": 16, "depths": [2], "num_heads": [2], "window_size": 8,
                 "mlp_ratio": 2, "upsampler": "pixelshuffledirect"},
    "MPRNet": {"n_feat": 8, "scale_unetfeats": 4, "scale_orsnetfeats": 4, "num_cab": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", EXTRA)
def test_networks_of_restrictive_licences_where_they_are_installed(name):
    pytest.importorskip("spandrel_extra_arches")
    torch.manual_seed(0)
    network = NETWORKS.build({"type": name, **EXTRA[name]})
    image = torch.rand(1, 3, 19, 21, requires_grad=True)
    restored = network.train()(image)
    assert restored.shape[2:] == (19 * network.spec.scale, 21 * network.spec.scale)
    restored.square().mean().backward()
    assert image.grad.abs().max() > 0
    assert type(load_foreign(network.state_dict())) is type(network)


@pytest.mark.parametrize("name", ["DAT", "HAT"])
def test_networks_that_look_at_values_are_made_with_some(name, tmp_path):
    """Datasets ask for the shape of a network; where it cannot be made without values, it is made with them."""
    text = (
        f"name: a\nscale: 2\nnetwork_g: {{type: {name}, {str(SMALL[name])[1:-1]}}}\npath: {{pretrain_network_g: x}}\n"
    )
    (tmp_path / "file.yml").write_text(text.replace("'", '"'))
    network = shape_of_network(load(tmp_path / "file.yml"))
    assert network.spec.scale == 2


def test_mistakes_are_named_like_those_of_ours():
    with pytest.raises(OptionsError) as caught:
        NETWORKS.build({"type": "HAT", "embed_dmi": 12, "depths": 6, "upscale": "four"}, path="network_g")
    problems = {problem.path: problem.message for problem in caught.value.problems}
    assert problems.keys() == {"network_g.embed_dmi", "network_g.depths", "network_g.upscale"}
    assert "Did you mean 'embed_dim'?" in problems["network_g.embed_dmi"]
    with pytest.raises(OptionsError, match="Did you mean 'NAFNet'"):
        NETWORKS.build({"type": "NAFNett"})
    with pytest.raises(OptionsError, match="do not fit together"):
        NETWORKS.build({"type": "Swin2SR", "img_size": 64, "window_size": 7})
    with pytest.raises(OptionsError, match="norm_layer: unknown option of HAT"):
        NETWORKS.build({"type": "HAT", "norm_layer": "layer"})


def test_every_name_can_be_asked_for():
    names = [name for names, _ in SpandrelNames().groups() for name in names]
    assert len(names) == len(set(names)) >= 35
    for name in names:
        kind = NETWORKS.get(name)
        assert issubclass(kind, Network)
        assert all(not callable(each.default) or each.default is each.empty for each in
                   inspect.signature(kind).parameters.values())  # fmt: skip
    assert NETWORKS.get("SwinIR").__module__ == "restore.networks.swinir"  # ours goes first
    assert "HAT" in NETWORKS.listing()


def test_a_training_by_the_file_of_another_repository(tmp_path, one_thread):
    """Three iterations, a validation, and a file that spandrel reads."""
    random = np.random.default_rng(0)
    for number in range(3):
        write_image(tmp_path / "gt" / f"{number}.png", random.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    (tmp_path / "train.yml").write_text(
        f"""
        name: hat
        model_type: HATModel
        scale: 2
        num_gpu: 0
        manual_seed: 0
        datasets:
          train: {{name: a, type: ImageNetPairedDataset, dataroot_gt: {tmp_path / "gt"}, gt_size: 16,
                  batch_size_per_gpu: 2, num_worker_per_gpu: 0}}
          val: {{name: a, type: DownsampledImageDataset, dataroot_gt: {tmp_path / "gt"}}}
        network_g: {{type: HAT, upscale: 2, in_chans: 3, img_size: 64, window_size: 8, compress_ratio: 3,
                    squeeze_factor: 4, conv_scale: 0.01, overlap_ratio: 0.5, img_range: 1., depths: [1],
                    embed_dim: 12, num_heads: [2], mlp_ratio: 2, upsampler: pixelshuffle, resi_connection: 1conv}}
        path: {{experiments_root: {tmp_path / "run"}}}
        train:
          total_iter: 3
          ema_decay: 0.9
          optim_g: {{type: Adam, lr: 1e-3}}
          scheduler: {{type: MultiStepLR, milestones: [2]}}
          pixel_opt: {{type: L1Loss}}
        val: {{val_freq: 3, metrics: {{psnr: {{type: calculate_psnr, crop_border: 2}}}}}}
        logger: {{print_freq: 1, save_checkpoint_freq: 3, use_tb_logger: false}}
        """
    )
    from restore.assembly.trainings import train

    assert train(load(tmp_path / "train.yml", is_train=True)) == 0
    (file,) = (tmp_path / "run").rglob("net_g_3.pth")
    found = load_network(file)
    weights = torch.load(file, weights_only=True)["params_ema"]
    theirs = spandrel.ModelLoader("cpu").load_from_state_dict(dict(weights))
    image = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        assert (found(image).clamp(0, 1) - theirs(image)).abs().max() <= 1e-5

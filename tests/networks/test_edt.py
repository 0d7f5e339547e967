from __future__ import annotations

from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from network_tester import NetworkTester, counts, fixture_error

from restore.networks.edt import EDT, Block

TINY = {
    "type": "EDT",
    "window_size": [2, 4],
    "img_size": 8,
    "num_feat": 4,
    "embed_dim": 8,
    "depths": [2],
    "num_heads": [2],
}
T = {"num_feat": 8, "embed_dim": 60, "depths": [6] * 4, "num_heads": [6] * 4, "upsampler": "pixelshuffledirect"}
S = {"num_feat": 16, "embed_dim": 120, "depths": [6] * 5, "num_heads": [6] * 5}
B = {"num_feat": 32, "embed_dim": 180, "depths": [6] * 6, "num_heads": [6] * 6}
L = {"num_feat": 64, "embed_dim": 240, "depths": [6] * 12, "num_heads": [8] * 12}
PUBLISHED = {
    "T x2": (T | {"scales": [2]}, 916_924),
    "T x3": (T | {"scales": [3]}, 919_099),
    "T x4": (T | {"scales": [4]}, 922_144),
    "S x2": (S | {"scales": [2]}, 4_230_323),
    "B x2": (B | {"scales": [2]}, 11_479_355),
    "B x3": (B | {"scales": [3]}, 11_663_995),
    "B x4": (B | {"scales": [4]}, 11_627_067),
    "L x2": (L | {"scales": [2]}, 39_927_395),
    "B denoise": (B | {"noise_levels": [25]}, 11_503_163),
    "B derain": (B | {"rain_levels": ["L"]}, 11_503_163),
    "B denoise, no down-sampling": (B | {"noise_levels": [25], "downsample": False}, 11_331_643),
    "B x2x3x4": (B | {"scales": [2, 3, 4]}, 14_576_937),
    "B g15g25g50": (B | {"noise_levels": [15, 25, 50]}, 14_316_009),
    "B x2x3 g15": (B | {"scales": [2, 3], "noise_levels": [15]}, 14_453_033),
    "B rain L, H": (B | {"rain_levels": ["L", "H"]}, 12_909_586),
}
SPELLING = {"IN_CHANNEL": "in_chans", "IMAGE_SIZE": "img_size", "IMAGE_RANGE": "img_range"}


def tiny(**changes) -> EDT:
    torch.manual_seed(0)
    return EDT(**{key: value for key, value in TINY.items() if key != "type"} | changes).eval()


class TestEDT(NetworkTester):
    variants: ClassVar = {
        "sr": TINY | {"scales": [3]},
        "direct": TINY | {"scales": [2], "upsampler": "pixelshuffledirect", "in_chans": 1},
        "denoise": TINY | {"noise_levels": [25], "img_range": 1.0},
        "derain_full_size": TINY | {"rain_levels": ["H"], "downsample": False, "resi_connection": "3conv"},
    }

    def test_weights_come_back_and_are_recognised(self, variant):
        # windows are not in the weights unless masks are, and these tell their area only
        self.variants = {
            name: block | {"window_size": [6, 24], "img_size": 48} for name, block in self.variants.items()
        }
        super().test_weights_come_back_and_are_recognised(variant)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    options, parameters = PUBLISHED[name]
    assert counts(EDT, **options)[0] == parameters


@pytest.mark.parametrize("name", ["edt_sr_x2_direct", "edt_sr_x4", "edt_dn_g25"])
def test_agrees_with_published_network(name, shared, fill):
    def lower(config):
        return {SPELLING.get(key, key if key == "type" else key.lower()): value for key, value in config.items()}

    typical, largest = fixture_error(shared, fill, name, lower)
    assert typical <= 1e-5
    assert largest <= 1e-5


def transposed(block: Block) -> Block:
    """The block that does to a transposed map what `block` does to a map: halves swapped, kernels transposed."""
    other = Block(block.dim, block.num_heads, block.windows[0], block.shifted, 2.0, 0.0, 8).double().eval()
    state = {key: value.clone() for key, value in block.state_dict().items()}
    half = block.dim // 2
    for name in ("weight", "bias"):
        parts = state[f"qkv.{name}"].unflatten(0, (3, 2, half))
        state[f"qkv.{name}"] = parts.flip(1).flatten(0, 2)
        for source in (0, 1):
            state[f"attns.{1 - source}.lepe.{name}"] = block.state_dict()[f"attns.{source}.lepe.{name}"].clone()
    state["proj.weight"] = state["proj.weight"].roll(half, dims=1)
    for key, value in state.items():
        if value.ndim == 4:
            state[key] = value.transpose(2, 3)
    other.load_state_dict(state)
    return other


@pytest.mark.parametrize("shifted", [False, True])
def test_transposed_block_transposes_its_result(shifted):
    torch.manual_seed(0)
    block = Block(8, 2, (2, 4), shifted, 2.0, 0.0, 8).double().eval()
    x = torch.randn(1, 8, 12, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = block(x).transpose(1, 2)
        assert torch.allclose(transposed(block)(x.transpose(1, 2)), expected, atol=1e-12)


@pytest.mark.parametrize("upsampler", ["pixelshuffle", "pixelshuffledirect"])
def test_zero_last_convolution_is_bilinear_up_sampling(upsampler):
    network = tiny(scales=[2], upsampler=upsampler)
    last = [module for module in network.tail_sr_x2.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    x = torch.rand(1, 3, 7, 10)
    with torch.no_grad():
        expected = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        assert torch.allclose(network(x), expected, atol=1e-6)


def test_zero_last_convolution_is_the_identity():
    network = tiny(noise_levels=[15])
    torch.nn.init.zeros_(network.tail_dn_g15[-1].weight)
    torch.nn.init.zeros_(network.tail_dn_g15[-1].bias)
    x = torch.rand(1, 3, 7, 10)
    with torch.no_grad():
        assert torch.allclose(network(x), x, atol=1e-6)


@pytest.mark.parametrize(("options", "side"), [({"scales": [4]}, 8), ({"noise_levels": [25]}, 2)])
def test_resolution_of_the_body(options, side):
    network = tiny(**options)
    seen = []
    network.body.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[2:]))
    if side == 2:
        side = 4  # 8 / 4 = 2 is less than the window: the image is padded to 16
    with torch.no_grad():
        network(torch.rand(1, 3, 8, 8))
    assert seen == [(side, side)]


def test_list_of_images_gives_what_each_task_gives_alone():
    network = tiny(scales=[2, 3], noise_levels=[15])
    images = [torch.rand(1, 3, 8, 8), torch.rand(2, 3, 8, 8), torch.rand(1, 3, 32, 32)]
    passes = []
    network.body.register_forward_hook(lambda module, inputs, output: passes.append(len(output)))
    with torch.no_grad():
        together = network(images)
        assert passes == [4]
        alone = [network(image, task) for image, task in zip(images, ["sr_x2", "sr_x3", "dn_g15"], strict=True)]
        of_other_sizes = network([images[0], torch.rand(1, 3, 16, 8), images[2]])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(together, alone, strict=True))
    assert torch.allclose(of_other_sizes[0], together[0], atol=1e-5)


def test_losses_are_named_by_task_and_train_every_branch():
    network = tiny(scales=[2], rain_levels=["L"]).train()
    images = [torch.rand(1, 3, 8, 8), torch.rand(1, 3, 32, 32)]
    losses = network.losses(images, [torch.rand(1, 3, 16, 16), images[1]])
    assert list(losses) == ["sr_x2", "dr_L"]
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_one_branch_of_a_multi_task_file():
    many, one = tiny(scales=[2, 3], noise_levels=[15]), tiny(scales=[3])
    one.load_state_dict(one.own_branch(many.state_dict()))
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(one(x), many(x, "sr_x3"))


def test_masks_of_any_training_size_load():
    source, target = tiny(img_size=24), tiny(img_size=8)
    state = source.state_dict()
    assert state["body.layers.0.residual_group.blocks.1.attn_mask_h"].shape == (72, 8, 8)
    assert not any("blocks.0.attn_mask" in key for key in state)
    target.load_state_dict(state)
    target.load_state_dict({key: value for key, value in state.items() if "attn_mask" not in key})
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(source(x), target(x))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tiny(scales=[]), "needs a task"),
        (lambda: tiny(embed_dim=9), "twice num_heads"),
        (lambda: tiny(depths=[2, 2]), "one stage each"),
        (lambda: tiny(depths=[], num_heads=[]), "one stage each"),
        (lambda: tiny(scales=[2, 2]), r"\['sr_x2', 'sr_x2'\]: each is named once"),
        (lambda: tiny(rain_levels=["a.b"]), "without a dot"),
        (lambda: tiny(depth=0), "depth is 0: must be greater than 0"),
        (lambda: tiny(num_heads=[0]), r"num_heads is \[0\]"),
        (lambda: tiny(window_size=(0, 24)), r"window_size is \[0, 24\]"),
        (lambda: tiny(scales=[2, 3])(torch.rand(1, 3, 8, 8)), r"None was given.*sr_x2"),
        (lambda: tiny(scales=[2])(torch.rand(1, 3, 8, 8), "dn_g5"), "dn_g5"),
        (lambda: tiny(scales=[2, 3])([torch.rand(1, 3, 8, 8)]), "1 batches"),
    ],
)
def test_impossible_requests_say_why(call, message):
    with pytest.raises(ValueError, match=message):
        call()
